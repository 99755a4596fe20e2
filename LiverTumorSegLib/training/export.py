"""A training run's best weights -> a sealed bundle."""

from __future__ import annotations

import dataclasses
import json
from importlib import metadata
from pathlib import Path
from typing import Any

from .. import __version__
from ..bundle import Bundle, seal_bundle
from ..errors import warn
from ..networks import build_network
from ..networks.constants import share_constants
from ..networks.export import export_openvino
from ..networks.weights import load_weights, save_weights
from ..recipe import Recipe, recipe_to_json

CARD = """# {name}

Trained with LiverTumorSeg {version} on {source}.

- Intended use: research. **Not a medical device**; never for diagnosis or treatment.
- Input: one CT (HU) or MR scan{phases}; output: {labels}.
- Nothing was measured on cases of another hospital yet. Do that before you trust it.
"""


def export_bundle(
    recipe: Recipe,
    weights: list[Path],
    folder: Path,
    data_source: str,
    data_licences: str,
    version: str = "0.1.0",
    data_type: str = "synthetic",
) -> Bundle:
    """Write a bundle: float16 weights, the same weights for OpenVINO, metadata, a card to be completed, checksums.

    Args:
        recipe: what was trained; a temperature in it was fitted to other weights and is not taken over.
        weights: the best weights' file of each stage.
        folder: the new bundle; an existing model card there is kept.
        data_source, data_licences: what it was trained on and under which terms.
        version: of the bundle.
        data_type: "synthetic" or "measured".
    """
    recipe = _without_temperature(recipe)
    for part in ("weights", "openvino"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for stage, path in zip(recipe.stages, weights, strict=True):
        network = build_network(stage.network, stage.arguments)
        load_weights(network, path)
        stored = folder / "weights" / f"{stage.name}.safetensors"
        save_weights(network, stored)
        # Both engines shall start from the same rounded numbers.
        load_weights(network, stored)
        layers = folder / "openvino" / f"{stage.name}.xml"
        export_openvino(network, layers, stage.arguments.get("in_channels", 1), max(stage.grid.multiples))
        share_constants(layers)
    (folder / "recipe.json").write_text(recipe_to_json(recipe), encoding="utf-8")
    about = json.dumps(bundle_metadata(recipe, data_source, data_licences, version, data_type), indent=2)
    (folder / "metadata.json").write_text(about + "\n", encoding="utf-8")
    card = folder / "model_card.md"
    if not card.exists():
        labels = ", ".join(f"{value} {name}" for value, name in enumerate(recipe.label_names))
        phases = "".join(f", and the {each.name} phase" for each in recipe.phases)
        text = CARD.format(name=folder.name, version=__version__, source=data_source, labels=labels, phases=phases)
        card.write_text(text, encoding="utf-8")
    seal_bundle(folder)
    return Bundle.load(folder)


def _without_temperature(recipe: Recipe) -> Recipe:
    for stage in recipe.stages:
        if stage.temperature != 1:
            old = f"{stage.temperature:g}"
            warn(
                f"stage {stage.name}: temperature {old} was fitted to other weights; `bundle calibrate` fits a new one"
            )
    return dataclasses.replace(
        recipe, stages=tuple(dataclasses.replace(each, temperature=1.0) for each in recipe.stages)
    )


def bundle_metadata(
    recipe: Recipe, data_source: str, data_licences: str, version: str, data_type: str = "synthetic"
) -> dict[str, Any]:
    """The bundle's metadata under MONAI's field names where they exist."""
    channels = {str(value): name for value, name in enumerate(recipe.label_names)}
    channels_in = 1 + len(recipe.phases)
    return {
        "version": version,
        "changelog": {version: "first release"},
        "monai_version": metadata.version("monai"),
        "pytorch_version": metadata.version("torch").split("+")[0],
        "task": "Liver and liver tumour segmentation in CT and MR",
        "description": f"{len(recipe.stages)} networks as a {recipe.system}; recipe {recipe.name} ({recipe.variant}).",
        "authors": "The LiverTumorSeg developers",
        "copyright": "The LiverTumorSeg developers, Apache-2.0",
        "data_source": data_source,
        "data_type": data_type,
        "data_licences": data_licences,
        "intended_use": "Research use only. Not a medical device; not for diagnosis or treatment.",
        "references": [recipe.source],
        "network_data_format": {
            "inputs": {"image": {"type": "image", "format": "hounsfield or magnitude", "num_channels": channels_in}},
            "outputs": {
                "pred": {
                    "type": "image",
                    "format": "segmentation",
                    "num_channels": len(channels),
                    "channel_def": channels,
                }
            },
        },
    }
