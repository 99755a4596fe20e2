"""A bundle's temperature from synthetic scans that it was not trained on: a new bundle with the same weights."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..bundle import Bundle, write_variant
from ..calibration import (
    Reliability,
    Voxels,
    fit_temperature,
    judged_voxels,
    matched_threshold,
    negative_log_likelihood,
    voted_lesions,
)
from ..errors import BundleError, LiverTumorSegError
from ..postprocessing import scaled_odds
from ..recipe import TEMPERATURES, Recipe
from ..segmentation import TUMOUR
from ..segmenter import Segmenter
from .synthesis.holdout import held_out
from .synthesis.library import INDEX

_EVERY = 4  # voxels: neighbours say nearly the same

CARD = """
## Calibration
The logits of the stage {stage} are divided by {temperature:.3g} (before: {old:.3g}), after Guo et al. (2017). Fitted on
the synthetic scans {first} to {last} of {bodies}: {voxels} of the voxels that were
found as liver or tumour. The negative log likelihood of tumour or not went from {loss_before:.4f} to {loss:.4f}, the
expected error of the tumour's probability (above 0.1) from {error_before:.3f} to {error:.3f}. {rule}
"""


@dataclass(frozen=True)
class Calibration:
    """What a temperature changes on the scans that it was fitted on.

    Attributes:
        stage: whose logits are divided.
        temperature: before and after.
        loss: negative log likelihood a voxel of being tumour or not, before and after.
        expected_error: of the tumour's probability, before and after; see `Reliability.expected_error`.
        min_lesion_probability, tumour_odds: the recipe's rules, before and after.
        scans: which ones.
        voxels: how many of theirs were judged, a quarter of those found.
    """

    stage: str
    temperature: tuple[float, float]
    loss: tuple[float, float]
    expected_error: tuple[float, float]
    min_lesion_probability: tuple[float, float]
    tumour_odds: tuple[float, float]
    scans: range
    voxels: int


def calibrate(
    segmenter: Segmenter,
    scans: range,
    bodies: Path | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> Calibration:
    """Fit the temperature of a bundle's last stage so that the tumour's probability can be believed.

    Args:
        segmenter: the bundle, loaded.
        scans: numbers for `held_out`; others than those on which its figures are reported.
        bodies: of the training run, whose validation side is drawn from; None for bodies from formulas.
        progress: told how far it has come.

    Raises:
        BundleError: the bundle's result is not what its last stage says.
        LiverTumorSegError: no bodies there, or no temperature within the limits is best.
    """
    recipe = segmenter.bundle.recipe
    check_system(recipe)
    if bodies is not None and not (bodies / INDEX).is_file():
        raise LiverTumorSegError(f"bodies: wanted the folder that a training run drew, got {bodies}, without {INDEX}")
    found: list[Voxels] = []
    lesions: list[Voxels] = []
    in_organ = recipe.stages[-1].in_organ
    for number in scans:
        if progress is not None:
            progress("calibrate", len(found) / len(scans))
        case = held_out(number, bodies)
        result = segmenter(case.scan, modality=case.modality)
        found.append(judged_voxels(result, case.truth, in_organ).thinned(_EVERY))
        lesions += voted_lesions(result, in_organ)
    return fitted(recipe, found, scans, lesions)


def check_system(recipe: Recipe) -> None:
    """Refuse systems from whose result the logits of the last stage cannot be told.

    Raises:
        BundleError: it is no cascade.
    """
    if recipe.system != "cascade":
        raise BundleError(f"calibrate: wanted a bundle whose system is a cascade, got {recipe.system}")


def fitted(recipe: Recipe, found: Sequence[Voxels], scans: range, lesions: Sequence[Voxels] = ()) -> Calibration:
    """The temperature for voxels that a recipe's system judged, at the temperature that it had.

    Args:
        recipe: the system's.
        found: voxels, scan by scan.
        scans: which ones, for the card.
        lesions: that were voted for, to set `min_lesion_probability` by.

    Raises:
        LiverTumorSegError: there are no voxels, or no temperature within the limits is best.
    """
    if not found:
        raise LiverTumorSegError("calibrate: wanted at least one scan, got none")
    stage, voxels = recipe.stages[-1], found[0].joined(found[1:])
    ratio = fit_temperature(voxels, TUMOUR)
    temperature = round(stage.temperature * ratio, 4)
    if ratio in TEMPERATURES or not TEMPERATURES[0] <= temperature <= TEMPERATURES[1]:
        low, high = TEMPERATURES
        got = f"{temperature:.3g}: more scans, or a better network"
        raise LiverTumorSegError(f"calibrate: wanted a best temperature between {low:g} and {high:g}, got {got}")
    curves = Reliability(), Reliability()
    for curve, times in zip(curves, (1.0, ratio), strict=True):
        curve.add(voxels, times)
    rule, odds = recipe.postprocessing.min_lesion_probability, recipe.postprocessing.tumour_odds
    new_odds = round(odds ** (1 / ratio), 4)  # the same voxels are tumour
    # The odds count in the rule, too; it is matched without them.
    threshold = scaled_odds(matched_threshold(scaled_odds(rule, 1 / odds), lesions, ratio), new_odds)
    return Calibration(
        stage.name,
        (stage.temperature, temperature),
        (negative_log_likelihood(voxels, 1.0, TUMOUR), negative_log_likelihood(voxels, ratio, TUMOUR)),
        (curves[0].expected_error(), curves[1].expected_error()),
        (rule, round(threshold, 4)),
        (odds, new_odds),
        scans,
        voxels.labels.size,
    )


def write_calibrated(bundle: Bundle, found: Calibration, folder: Path, bodies: Path | None) -> Bundle:
    """Write the bundle with its new temperature, the rule that goes with it, and a paragraph in its card.

    Raises:
        BundleError: the folder is there already, or cannot be written.
    """
    recipe = calibrated_recipe(bundle.recipe, found)
    version = next_version(bundle.version)
    change = f"temperature {found.temperature[1]:.4g} in stage {found.stage}, weights unchanged"
    changes = bundle.metadata.get("changelog")
    metadata: dict[str, Any] = {
        **bundle.metadata,
        "version": version,
        "changelog": {version: change, **(changes if isinstance(changes, dict) else {})},
    }
    before, after = found.min_lesion_probability
    changed = f"The rule min_lesion_probability went with it, from {before:.3g} to {after:.3g}."
    if found.tumour_odds[0] != found.tumour_odds[1]:
        changed += " The rule tumour_odds went from {:.3g} to {:.3g}.".format(*found.tumour_odds)
    paragraph = CARD.format(
        stage=found.stage,
        temperature=found.temperature[1],
        old=found.temperature[0],
        first=found.scans.start,
        last=found.scans.stop - 1,
        bodies="the training run's validation bodies" if bodies is not None else "bodies from formulas",
        voxels=found.voxels,
        loss_before=found.loss[0],
        loss=found.loss[1],
        error_before=found.expected_error[0],
        error=found.expected_error[1],
        rule=changed if before != after else "",
    )
    card = (bundle.path / "model_card.md").read_text(encoding="utf-8")
    card = re.sub(r"\n## Calibration\n.*?(?=\n## |\Z)", "", card, flags=re.DOTALL).rstrip()
    return write_variant(bundle, folder, recipe, metadata, f"{card}\n{paragraph.rstrip()}\n")


def calibrated_recipe(recipe: Recipe, found: Calibration) -> Recipe:
    """The recipe with the new temperature and the rule that goes with it."""
    last = dataclasses.replace(recipe.stages[-1], temperature=found.temperature[1])
    (_, threshold), (_, odds) = found.min_lesion_probability, found.tumour_odds
    rules = dataclasses.replace(recipe.postprocessing, min_lesion_probability=threshold, tumour_odds=odds)
    return dataclasses.replace(recipe, stages=(*recipe.stages[:-1], last), postprocessing=rules)


def next_version(version: str) -> str:
    """The version with its last number one higher, "0.1.1" -> "0.1.2"; one that ends in no number gets ".1"."""
    match = re.fullmatch(r"(.*?)(\d+)", version, re.DOTALL)
    return f"{match[1]}{int(match[2]) + 1}" if match else f"{version}.1"
