"""S0 in small: trains its networks, narrow, on synthetic scans and says what the detector and the fine network add.

    python Testing/Systems/s0.py FOLDER

S0 (section 3): the fusion finds more small lesions than one network alone (recall .867 against .776 of nnU-Net). Here
the same coarse network is asked alone, and with the other stages after it. Everything is a fraction of its size:
voxels of 3 mm for the coarse network, of 1.5 mm and 5 mm slices, as drawn, for the fine one. A folder that has some
of it already is gone on with.

The bundle in `Testing/Data/s0_small` is what this trained; of 30 held-out scans with 215 lesions, found by half:

                                 0-10 mm      10-30 mm        >30 mm   all < 30 mm    false/scan          Dice
    coarse network alone            0/22        54/146         47/47        54/168          0.13         0.813
    coarse network, odds x 4        1/22        64/146         47/47        65/168          0.17         0.812
    S0                              4/22        83/146         47/47        87/168          0.90         0.832
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import s0_scans
import SimpleITK as sitk
import torch

from LiverTumorSegLib.bundle import Bundle
from LiverTumorSegLib.datasets.layouts import find_cases
from LiverTumorSegLib.evaluation.metrics import dice
from LiverTumorSegLib.inference import open_engine
from LiverTumorSegLib.lesions import find_lesions
from LiverTumorSegLib.matching import match_lesions
from LiverTumorSegLib.recipe import Axis, CoarseToFine, Grid, Recipe, load_recipe
from LiverTumorSegLib.resources import resource_path
from LiverTumorSegLib.systems.coarse_to_fine import run
from LiverTumorSegLib.systems.stages import Networks, Study
from LiverTumorSegLib.training.caching import Cache
from LiverTumorSegLib.training.export import export_bundle
from LiverTumorSegLib.training.measured import MeasuredSource
from LiverTumorSegLib.training.trainer import Run, train

TRAINING, VALIDATION, HELD_OUT = 40, 6, 30
EPOCHS, STEPS = {"liver": 10, "coarse": 16, "detector": 16, "fine": 10}, 25
PATCH = {"liver": (48, 48, 1), "coarse": (32, 32, 16), "detector": (48, 48, 24), "fine": (64, 64, 1)}
BATCH = {"liver": 6, "coarse": 3, "detector": 2, "fine": 8}
GROUPS_MM = ((0.0, 10.0), (10.0, 30.0), (30.0, 1000.0))
SOURCE = "drawn by Testing/Systems/s0_scans.py"
NO_DETECTION = 1e-9  # a factor at which nothing is detected, so that the coarse network is alone

Method = Callable[[sitk.Image], np.ndarray]


def small_recipe(variant: str) -> Recipe:
    """A shipped recipe, narrow, with larger voxels and fewer steps."""
    shipped = load_recipe(resource_path("Recipes", f"s0_csr_unet_{variant}.json"))
    stages, trainings = [], []
    for stage, training in zip(shipped.stages, shipped.training, strict=True):
        patch = PATCH[stage.name]
        widths: dict[str, Any] = {"widths": [8, 8, 8, 16], "channels": 8} if stage.task == "detect" else {
            "widths": [8, 12, 16]
        }  # fmt: skip
        window = (48, 48, 8) if stage.name == "liver" else patch if stage.name != "fine" else (64, 64, 32)
        stages.append(
            dataclasses.replace(
                stage, grid=_grid(stage.name), arguments={**stage.arguments, **widths}, window=window, overlap=0.25
            )
        )
        trainings.append(
            dataclasses.replace(
                training,
                patch=patch,
                batch_size=BATCH[stage.name],
                epochs=EPOCHS[stage.name],
                iterations_per_epoch=STEPS,
                learning_rate=3e-3,
                weight_average=0.98,
                bf16=False,
            )
        )
    return dataclasses.replace(shipped, name=f"s0_small_{variant}", stages=tuple(stages), training=tuple(trainings))


def _grid(stage: str) -> Grid:
    def thick(mm: float, multiple_of: int) -> Grid:
        plane = Axis(spacing_mm=mm, multiple_of=multiple_of)
        return Grid(axes=(plane, plane, Axis(times_own=1.0)))

    grids = {"liver": thick(6.0, 48), "coarse": Grid(spacing_mm=3.0, multiple_of=4), "fine": thick(1.5, 4)}
    return grids.get(stage) or Grid(spacing_mm=2.5, multiple_of=8)


def trained(recipe: Recipe, folder: Path, cases: Path) -> Bundle:
    """A bundle of a recipe."""
    return export_bundle(recipe, _fitted(recipe, folder, cases), folder / "bundle", SOURCE, "none")


def with_retina(recipe: Recipe, folder: Path, cases: Path) -> Bundle:
    """The repaired bundle of a folder with the printed detector in seg2det's place, the only network trained here."""
    printed = small_recipe("as_printed")
    number = next(n for n, stage in enumerate(printed.stages) if stage.task == "detect")
    options = dataclasses.replace(recipe.coarse_to_fine or CoarseToFine(), detector="retina")
    recipe = dataclasses.replace(
        recipe,
        stages=(*recipe.stages, printed.stages[number]),
        training=(*recipe.training, printed.training[number]),
        coarse_to_fine=options,
    )
    weights = [folder / "repaired" / f"{stage.name}.best.safetensors" for stage in recipe.stages[:-1]]
    weights += _fitted(recipe, folder / "retina", cases, (len(weights),))
    return export_bundle(recipe, weights, folder / "retina" / "bundle", SOURCE, "none")


def _fitted(recipe: Recipe, folder: Path, cases: Path, stages: tuple[int, ...] | None = None) -> list[Path]:
    """Weights of a recipe's stages."""
    found = find_cases(cases, "synthetic")
    source = MeasuredSource(recipe, found[:TRAINING], found[TRAINING:], Cache(folder / "cache"), seed=1)
    told = Run(recipe, source, folder, seed=1, workers=0, on_epoch=lambda name, line: print(name, line, flush=True))
    return train(told, stages)


def method(bundle: Bundle, engine: str = "auto", **options: Any) -> Method:
    """What makes labels of a scan, with other options than the bundle's."""
    chosen = dataclasses.replace(bundle.recipe.coarse_to_fine or CoarseToFine(), **options)
    recipe = dataclasses.replace(bundle.recipe, coarse_to_fine=chosen)
    networks = Networks(recipe, {stage.name: open_engine(bundle, stage, engine=engine) for stage in recipe.stages})

    def labels(scan: sitk.Image) -> np.ndarray:
        evidence = run(Study(scan, {}, "CT"), networks).evidence
        return np.asarray(sitk.GetArrayFromImage(evidence.labels_like(scan)))

    return labels


def judge(found: dict[str, Method], cases: Path, predictions: Path | None = None) -> dict[str, dict[str, Any]]:
    """Figures of each method over the held-out scans: lesions found by length, false ones, Dice."""
    figures: dict[str, dict[str, Any]] = {
        name: {"found": [0] * 3, "lesions": [0] * 3, "false": 0, "dice": []} for name in found
    }
    for case in find_cases(cases, "synthetic"):
        scan, truth = case.read_scan(), case.read_labels()
        reference = sitk.GetArrayFromImage(truth)
        for name, labels_of in found.items():
            labels = labels_of(scan)
            _count(figures[name], truth, reference, labels)
            if predictions is not None:
                image = sitk.GetImageFromArray(labels.astype(np.uint8))
                image.CopyInformation(scan)
                (predictions / name.replace(" ", "_")).mkdir(parents=True, exist_ok=True)
                sitk.WriteImage(image, str(predictions / name.replace(" ", "_") / f"{case.name}.nii.gz"))
    return figures


def _count(row: dict[str, Any], truth: sitk.Image, reference: np.ndarray, labels: np.ndarray) -> None:
    matching = match_lesions(reference == 2, labels == 2, "half")
    for lesion in find_lesions(truth):
        group = next(n for n, (low, high) in enumerate(GROUPS_MM) if low <= lesion.long_axis_mm < high)
        row["lesions"][group] += 1
        row["found"][group] += lesion.id in matching.found
    row["false"] += len(matching.false_positives)
    row["dice"].append(dice(reference == 2, labels == 2))


def report(figures: dict[str, dict[str, Any]]) -> str:
    """A table: recall by long axis, false findings a scan, Dice."""
    names: Sequence[str] = [f"{low:g}-{high:g} mm" if high < 1000 else f">{low:g} mm" for low, high in GROUPS_MM]
    lines = [f"{'':26}" + "".join(f"{name:>14}" for name in [*names, "all < 30 mm", "false/scan", "Dice"])]
    for name, row in figures.items():
        pairs = [*zip(row["found"], row["lesions"], strict=True), (sum(row["found"][:2]), sum(row["lesions"][:2]))]
        cells = [f"{found}/{lesions}" for found, lesions in pairs]
        cells += [f"{row['false'] / len(row['dice']):.2f}", f"{np.nanmean(row['dice']):.3f}"]
        lines.append(f"{name:26}" + "".join(f"{cell:>14}" for cell in cells))
    return "\n".join(lines)


def main() -> None:
    """Draw, train, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--variant", choices=("repaired", "as_printed"), default="repaired")
    parser.add_argument("--retina", action="store_true", help="ask the repaired one with the printed detector, too")
    given = parser.parse_args()
    if given.retina and given.variant != "repaired":
        parser.error("--retina is for the repaired variant: the printed one has this detector")
    folder: Path = given.folder
    torch.set_num_threads(1)
    cases = s0_scans.write(folder / "cases", 1000, TRAINING + VALIDATION)
    bundle = trained(small_recipe(given.variant), folder / given.variant, cases)
    methods = {"coarse network alone": method(bundle, detector="seg2det", detector_factor=NO_DETECTION)}
    methods["S0"] = method(bundle)
    if bundle.recipe.coarse_to_fine is not None and bundle.recipe.coarse_to_fine.detector == "retina":
        methods["S0 with seg2det"] = method(bundle, detector="seg2det")
    if given.retina:
        methods["S0 with Retina U-Net"] = method(with_retina(bundle.recipe, folder, cases))
    held_out = s0_scans.write(folder / "held_out", 2000, HELD_OUT)
    figures = judge(methods, held_out, folder / given.variant / "predictions")
    (folder / given.variant / "figures.json").write_text(json.dumps(figures, indent=2), encoding="utf-8")
    print(report(figures))


if __name__ == "__main__":
    main()
