"""S2 in small: trains narrow networks on synthetic CT scans, one for each loss and module, and compares them on others.

    python Testing/Systems/s2.py FOLDER [--steps 300] [--only NAME ...]

S2 (tables 2 to 4): Dice + BCE is better than Dice, Tversky, BCE and Tversky + BCE alone, and the network with both
modules is better than a U-Net and than with one of them. All see the same patches in the same order, for as many
steps. Voxels of 10 and 4 mm stand for the paper's 1.5. A folder that has some of it already is gone on with.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from drawn import draw, figures_of

from LiverTumorSegLib.bundle import Bundle
from LiverTumorSegLib.datasets.cases import DatasetCase
from LiverTumorSegLib.datasets.layouts import find_cases
from LiverTumorSegLib.inference import open_engine
from LiverTumorSegLib.recipe import Axis, Grid, Recipe, load_recipe
from LiverTumorSegLib.resources import resource_path
from LiverTumorSegLib.systems.body_cascade import run
from LiverTumorSegLib.systems.stages import Networks, Study
from LiverTumorSegLib.training.caching import Cache
from LiverTumorSegLib.training.export import export_bundle
from LiverTumorSegLib.training.measured import MeasuredSource
from LiverTumorSegLib.training.trainer import Run, train

DRAWN_MM = 3.0
TRAINING, VALIDATION, HELD_OUT = 24, 4, 12
FEATURES = [8, 16, 32]
VOXEL_MM, PATCHES, BATCHES = (10.0, 4.0), ((32, 24, 16), (24, 24, 16)), (2, 2)
STEPS_AN_EPOCH = 30
TUMOUR_STEPS = 3  # for one of the liver network

Figures = Mapping[str, Sequence[Mapping[str, float]]]


@dataclasses.dataclass(frozen=True)
class Choice:
    """One row of the paper's tables.

    Attributes:
        loss: of both stages.
        arguments: of both networks.
    """

    loss: str = "dice_bce"
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)


FULL, UNET = "both modules, Dice + BCE (S2)", "U-Net"
CHOICES = {
    FULL: Choice(),
    UNET: Choice(arguments={"elanres": False, "msca": False}),
    "U-Net + MSCA": Choice(arguments={"elanres": False}),
    "U-Net + ELANRes": Choice(arguments={"msca": False}),
    "loss: BCE": Choice("bce"),
    "loss: Dice": Choice("dice"),
    "loss: Tversky": Choice("tversky"),
    "loss: Tversky + BCE": Choice("tversky_bce"),
    "batch normalisation": Choice(arguments={"norm": "batch"}),
}


def small_recipe(choice: Choice, steps: int) -> Recipe:
    """The shipped recipe, narrow, with larger voxels and a rate for fewer steps."""
    shipped = load_recipe(resource_path("Recipes", "s2_elanres_msca_repaired.json"))
    stages, trainings = [], []
    for number, (stage, training) in enumerate(zip(shipped.stages, shipped.training, strict=True)):
        patch = PATCHES[number]
        axis = Axis(spacing_mm=VOXEL_MM[number], multiple_of=8)
        arguments = {**stage.arguments, "features": FEATURES, **choice.arguments}
        stages.append(dataclasses.replace(stage, grid=Grid(axes=(axis,) * 3), arguments=arguments, window=patch))
        changes: dict[str, Any] = {
            "loss": choice.loss,
            "patch": patch,
            "batch_size": BATCHES[number],
            "epochs": max(1, steps // STEPS_AN_EPOCH) * (TUMOUR_STEPS if number else 1),
            "iterations_per_epoch": min(steps, STEPS_AN_EPOCH),
            "learning_rate": 4e-3,
            "schedule": "poly",
            "schedule_epochs": 2 * (TUMOUR_STEPS if number else 1),  # of the deep supervision's weight
            "weight_average": 0.95,
            "augmentation": "none",
        }
        trainings.append(dataclasses.replace(training, **changes))
    return dataclasses.replace(shipped, stages=tuple(stages), training=tuple(trainings))


def trained(name: str, steps: int, folder: Path, cases: Sequence[DatasetCase], validation: int) -> Bundle:
    """The bundle of one choice."""
    recipe = small_recipe(CHOICES[name], steps)
    source = MeasuredSource(recipe, cases[:-validation], cases[-validation:], Cache(folder / "cache"), seed=1)
    mine = folder / folder_name(name)
    told = Run(recipe, source, mine, seed=1, workers=0, validation_patches=2 * validation)
    return export_bundle(recipe, train(told), mine / "bundle", "synthetic scans drawn from procedural anatomy", "none")


def folder_name(name: str) -> str:
    """Where a choice is kept."""
    return "".join(c if c.isalnum() else "_" for c in name)


def judge(bundle: Bundle, cases: Sequence[DatasetCase]) -> list[dict[str, float]]:
    """A bundle's figures for each scan with a tumour."""
    networks = Networks(bundle.recipe, {stage.name: open_engine(bundle, stage) for stage in bundle.recipe.stages})
    figures = []
    for case in cases:
        scan, truth = case.read_scan(), sitk.GetArrayFromImage(case.read_labels())
        if not (truth == 2).any():
            continue
        labels = sitk.GetArrayFromImage(run(Study(scan, {}, "CT"), networks).evidence.labels_like(scan))
        figures.append(figures_of(truth, labels, "overlap"))
    return figures


def report(figures: Figures) -> str:
    """A Markdown table of means, and of how many scans each choice is worse in than S2's own."""
    lines = [
        "| | liver Dice | tumour Dice | lesions found | false | S2's tumour Dice is better in |",
        "|---" * 6 + "|",
    ]
    for name, rows in figures.items():
        mean = {key: float(np.mean([row[key] for row in rows])) for key in ("liver_dice", "tumour_dice")}
        total = {key: int(sum(row[key] for row in rows)) for key in ("found", "missed", "false")}
        pairs = list(zip(rows, figures.get(FULL, rows), strict=True))
        better = sum(own["tumour_dice"] > row["tumour_dice"] for row, own in pairs)
        lines.append(
            f"| {name} | {mean['liver_dice']:.3f} | {mean['tumour_dice']:.3f} | {total['found']} of "
            f"{total['found'] + total['missed']} | {total['false']} | {better} of {len(rows)} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Draw, train, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=300, help="of the liver network")
    parser.add_argument("--only", nargs="+", choices=CHOICES, default=list(CHOICES))
    parser.add_argument("--cases", type=int, nargs=3, default=(TRAINING, VALIDATION, HELD_OUT))
    options = parser.parse_args()
    training, validation, held_out = options.cases
    torch.set_num_threads(1)
    cases = find_cases(draw(options.folder / "cases", 1000, training + validation, DRAWN_MM), "synthetic")
    others = find_cases(draw(options.folder / "held_out", 2000, held_out, DRAWN_MM), "synthetic")
    for name in options.only:
        bundle = trained(name, options.steps, options.folder, cases, validation)
        figures = json.dumps(judge(bundle, others), indent=2)
        (bundle.path.parent / "figures.json").write_text(figures, encoding="utf-8")
        print(name, "is judged", flush=True)
    files = {name: options.folder / folder_name(name) / "figures.json" for name in CHOICES}
    print(report({name: json.loads(path.read_text(encoding="utf-8")) for name, path in files.items() if path.exists()}))


if __name__ == "__main__":
    main()
