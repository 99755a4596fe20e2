"""S3 in small: trains its two networks, narrow, on synthetic four-phase studies and compares its variants on others.

    python Testing/Systems/s3.py FOLDER [--without-shuffle]

S3 (table II): reclassification removes false positives and costs a few lesions, more of them where its network was
trained without lesion shuffle; the high sensitivity, f = 4, finds more again. (table IV): the patient's class gains
specificity by the one and sensitivity by the other. Everything is coarser than the paper's: voxels of 4 x 4 x 5 mm for
0.78 x 0.78 x 5 mm, three types of lesions for six, clear ones, no organs but the liver. A folder that has some of it
is gone on with.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from torch.utils.data import Dataset, Subset

from LiverTumorSegLib.bundle import Bundle
from LiverTumorSegLib.evaluation.typed import TypedMatching, TypedSummary, match_typed
from LiverTumorSegLib.inference import open_engine
from LiverTumorSegLib.recipe import Axis, Grid, Recipe, Typing, load_recipe
from LiverTumorSegLib.resources import resource_path
from LiverTumorSegLib.systems.lesion_typing import PATCH, in_reach, reclassify, segment_whole, tissue_of
from LiverTumorSegLib.systems.lesion_typing.patients import agreed
from LiverTumorSegLib.systems.lesion_typing.votes import Proposal, propose
from LiverTumorSegLib.systems.stages import Networks, Study
from LiverTumorSegLib.training.export import export_bundle
from LiverTumorSegLib.training.patches import Patch
from LiverTumorSegLib.training.synthesis.generator import Field
from LiverTumorSegLib.training.synthesis.library import build_library, open_library
from LiverTumorSegLib.training.synthesis.phases import PHASES
from LiverTumorSegLib.training.synthesis.settings import Settings
from LiverTumorSegLib.training.synthesis.typed import TypedStudy, typed_study
from LiverTumorSegLib.training.trainer import Run, train
from LiverTumorSegLib.training.typed import TypedSource

STUDIES = 30
VOXEL_MM = (4.0, 4.0, 5.0)
PATCHES = ((32, 32, 12), (24, 24, 8))
FILTERS = [8, 16, 32]
EPOCHS, STEPS, BATCHES = (26, 8), 45, (2, 4)
LOSS = "dice_focal_rare"
TYPES = ("hcc", "metastasis", "cyst")
CLEAR = Settings(noise=0.5, contrast=1.6)
"""Lesions that networks of a few thousand weights can learn to see in a few hundred steps."""


def small_recipe() -> Recipe:
    """The shipped recipe, narrow, with larger voxels and a rate for fewer steps."""
    shipped = load_recipe(resource_path("Recipes", "s3_multiphase_repaired.json"))
    i, j, k = (Axis(spacing_mm=mm, multiple_of=n) for mm, n in zip(VOXEL_MM, (8, 8, 4), strict=True))
    names = ("background", *TYPES, "liver")
    stages, trainings = [], []
    for number, (stage, training) in enumerate(zip(shipped.stages, shipped.training, strict=True)):
        halvings = [[1, 1, 1], [2, 2, 1], [2, 2, 2]]
        arguments = {
            **stage.arguments,
            "filters": FILTERS,
            "kernels": [3] * len(halvings),
            "strides": halvings,
            "deep_supervision": 0,
            "norm": "batch",
            "out_channels": len(names),
        }
        window = PATCHES[number] if number else None
        grid = Grid(axes=(i, j, k))
        intensity = dataclasses.replace(stage.intensity, ct_clip_hu=(0.0, 200.0))
        stage = dataclasses.replace(stage, grid=grid, arguments=arguments, window=window, classes=names)
        stages.append(dataclasses.replace(stage, intensity=intensity))
        trainings.append(
            dataclasses.replace(
                training,
                patch=PATCHES[number],
                epochs=EPOCHS[number],
                iterations_per_epoch=STEPS,
                batch_size=BATCHES[number],
                loss=LOSS,
                optimiser="adamw",
                learning_rate=(5e-3, 2e-3)[number],
                weight_average=0.95,
                deep_supervision=0.0,
                hand_over=number == PATCH,  # of the same form here, and few steps have to do
                augmentation="none",
                bf16=False,
            )
        )
    malignant = tuple(name for name in TYPES if name in Typing().malignant)
    options = Typing(lesion_types=TYPES, malignant=malignant, in_liver=(), register="none")
    return dataclasses.replace(
        shipped, stages=tuple(stages), training=tuple(trainings), typing=options, label_names=names
    )


def trained(folder: Path) -> Bundle:
    """The bundle; both stages as `livertumorseg train` trains them."""
    recipe = small_recipe()
    library = build_library(folder / "bodies", None, variants=1, held_out=6, procedural=24, seed=3)
    source = TypedSource(library, recipe, 1, folder / f"{recipe.stages[0].name}.best.safetensors")
    source = dataclasses.replace(source, settings=CLEAR, validation_settings=CLEAR)
    told = Run(
        recipe,
        source,
        folder,
        seed=1,
        workers=0,
        validation_patches=12,
        on_epoch=lambda name, line: print(name, line, flush=True),
    )
    return export_bundle(recipe, train(told), folder / "bundle", "synthetic studies of procedural anatomy", "none")


class Unshuffled:
    """Of the second stage's four schemes the two that leave lesions where they are; in training and in validation."""

    def __init__(self, source: TypedSource) -> None:
        self._source = source

    def patches(self, stage: int, start: int, count: int, validation: bool = False) -> Dataset[Patch]:
        """As `TypedSource.patches`; patches 0, 1, 4, 5, 8, 9 and so on of the second stage."""
        if stage != PATCH:
            return self._source.patches(stage, start, count, validation)
        whole = self._source.patches(stage, 0, 2 * (start + count) + 2, validation)
        return Subset(whole, [4 * (n // 2) + n % 2 for n in range(start, start + count)])


def without_shuffle(folder: Path, bundle: Bundle) -> Bundle:
    """The same bundle with another second network, which never saw a lesion moved or healed."""
    recipe, mine = bundle.recipe, folder / "without_shuffle"
    first = folder / f"{recipe.stages[0].name}.best.safetensors"
    mine.mkdir(exist_ok=True)
    shutil.copy(first, mine)  # from whose weights the second one begins
    source = TypedSource(open_library(folder / "bodies"), recipe, 1, first)
    source = dataclasses.replace(source, settings=CLEAR, validation_settings=CLEAR)
    told = Run(recipe, Unshuffled(source), mine, seed=1, workers=0, validation_patches=12)
    weights = [first, *train(told, (PATCH,))]
    return export_bundle(recipe, weights, mine / "bundle", "synthetic studies of procedural anatomy", "none")


def held_out(folder: Path, count: int) -> Iterator[TypedStudy]:
    """Studies of bodies that no network was trained on."""
    library, recipe = open_library(folder / "bodies"), small_recipe()
    field = Field((60, 75, 100), 4.0, "organ", cut=0.0)
    for seed in range(count):
        anatomy = library.load(library.deciding[seed % len(library.deciding)])
        yield typed_study(anatomy, field, [*PHASES], recipe.label_names, np.random.default_rng([77, seed]), CLEAR)


def variants(bundle: Bundle, study: TypedStudy, unshuffled: Bundle | None = None) -> dict[str, TypedMatching]:
    """Each of S3's variants judged on one study; with `unshuffled`, also without lesion shuffle in either place."""
    recipe = bundle.recipe
    options, names = recipe.typing or Typing(), recipe.label_names
    engines = {stage.name: open_engine(bundle, stage, engine="torch") for stage in recipe.stages}
    networks = Networks(recipe, engines)
    scan, *phases = map(image_of, study.volumes)
    shown = Study(scan, dict(zip((phase.name for phase in recipe.phases), phases, strict=True)), "CT")
    region = segment_whole(shown, networks, options)
    tissue = tissue_of(shown, networks, region, options)
    grid = region.geometry.image(np.zeros(region.organ.shape, np.uint8))
    truth = sitk.Resample(image_of(study.labels), grid, sitk.Transform(), sitk.sitkNearestNeighbor)
    reference = sitk.GetArrayFromImage(truth)
    found: dict[str, list[Proposal]] = {}
    for name, factor in (("Base", options.factor_base), ("High", options.factor_high)):
        found[name] = propose(region.votes, factor, in_reach(region, options))
        found[f"{name}+ReCls"] = reclassify(shown, networks, found[name], tissue, options)
    if unshuffled is not None:
        others = {stage.name: open_engine(unshuffled, stage, engine="torch") for stage in recipe.stages}
        unmoved = dataclasses.replace(tissue, healthy=np.zeros_like(tissue.healthy))  # no room to move a lesion to
        found["Base+ReCls, no shuffle"] = reclassify(shown, Networks(recipe, others), found["Base"], unmoved, options)
    kinds = {names.index(name): name for name in options.lesion_types}
    values = {name: value for value, name in kinds.items()}

    def judged(lesions: Sequence[Proposal], patient: str | None = None) -> TypedMatching:
        typed = np.zeros(reference.shape, np.uint8)
        for each in lesions:
            typed[each.found.box][each.mask] = values[options.lesion_types[each.kind]]
        return match_typed(reference, typed, kinds, region.geometry.voxel_ml, patient)

    result = {name: judged(lesions) for name, lesions in found.items()}
    both = agreed(*(result[name].predicted_class for name in ("Base+ReCls", "High+ReCls")))
    return {**result, "Base+ReCls & High+ReCls": judged(found["High+ReCls"], both)}


def image_of(array: np.ndarray) -> sitk.Image:
    """An array on the studies' grid."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((4.0, 4.0, 4.0))
    return image


def report(matchings: dict[str, list[TypedMatching]], options: Typing) -> str:
    """S3's tables II and IV, a line a variant."""
    lines = [
        f"{'':26}{'FN':>4}{'FP':>4}{'FL':>4}{'TP':>4}  precision  recall  rough  sensitivity  specificity  undecided"
    ]
    for name, each in matchings.items():
        summary = TypedSummary(options.lesion_types, options.malignant, tuple(each))
        counts, (sensitivity, specificity, undecided) = summary.all, summary.patients()
        numbers = (counts.missed, counts.false, counts.false_label, counts.true)
        shares = (counts.precision, counts.recall, counts.rough_recall)
        lines.append(
            f"{name:26}"
            + "".join(f"{n:4}" for n in numbers)
            + "  {:9.3f}  {:6.3f}  {:5.3f}".format(*shares)
            + f"  {sensitivity:11.3f}  {specificity:11.3f}  {undecided:9}"
        )
    return "\n".join(lines)


def main() -> None:
    """Train and report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--studies", type=int, default=STUDIES)
    parser.add_argument("--without-shuffle", action="store_true", help="train another second network without it")
    told = parser.parse_args()
    told.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    bundle = trained(told.folder)
    unshuffled = without_shuffle(told.folder, bundle) if told.without_shuffle else None
    matchings: dict[str, list[TypedMatching]] = {}
    for study in held_out(told.folder, told.studies):
        for name, matching in variants(bundle, study, unshuffled).items():
            matchings.setdefault(name, []).append(matching)
    text = report(matchings, bundle.recipe.typing or Typing())
    figures = {name: [dataclasses.asdict(each) for each in found] for name, found in matchings.items()}
    (told.folder / "figures.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    (told.folder / "report.txt").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
