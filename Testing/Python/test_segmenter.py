"""The cascade from scan to labels, with networks that vote by brightness, so that the right answer is known."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

import LiverTumorSegLib.segmenter
from LiverTumorSegLib import Segmentation, segment
from LiverTumorSegLib.bundle import Bundle
from LiverTumorSegLib.errors import ImageError, LiverTumorSegWarning
from LiverTumorSegLib.recipe import Crop, Grid, Intensity, Postprocessing, Recipe, Stage

UNIT = Intensity(ct_clip_hu=(-200, 300), mr_clip_percentiles=(0.5, 99.5), scale="unit")
RECIPE = Recipe(
    name="by brightness",
    variant="repaired",
    source="test",
    stages=(
        Stage("whole", "unet", Grid(spacing_mm=6.0, multiple_of=4), intensity=UNIT),
        Stage("crop", "unet", Grid(spacing_mm=2.0, multiple_of=4), intensity=UNIT),
    ),
    crop=Crop(margin_mm=10.0),
    postprocessing=Postprocessing(keep_liver_above=0.1),
)
AXIAL = (1, 0, 0, 0, 1, 0, 0, 0, 1)


class VoteByBrightness:
    """Liver around 110 HU, tumour from about 180 HU up; both fall off steeply."""

    name, device, precision = "brightness", "cpu", "f32"

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def __call__(self, array: np.ndarray) -> np.ndarray:
        self.seen.append(array.shape)
        liver = 10 - 80 * np.abs(array - 0.62)
        tumour = 80 * (array - 0.76)
        return np.concatenate([np.zeros_like(array), liver, tumour], axis=1).astype(np.float32)

    def move_to_cpu(self) -> None:
        """It is there."""


@pytest.fixture
def engines(monkeypatch) -> list[VoteByBrightness]:
    opened: list[VoteByBrightness] = []

    def open_one(*args, **kwargs) -> VoteByBrightness:
        opened.append(VoteByBrightness())
        return opened[-1]

    monkeypatch.setattr(LiverTumorSegLib.segmenter, "open_engine", open_one)
    return opened


def bundle(recipe: Recipe = RECIPE) -> Bundle:
    return Bundle(Path("brightness"), recipe, {"version": "0"}, "0" * 64)


def bright_tumours(scan: sitk.Image, labels: sitk.Image) -> sitk.Image:
    """Tumours brighter than the liver, so that no blurred border looks like one."""
    return scan + sitk.Cast(labels == 2, sitk.sitkInt16) * 190


@pytest.mark.parametrize("wrong", ["ct", "PET", ""])
def test_a_modality_that_is_neither_ct_nor_mr_is_refused(wrong: str, engines, ellipsoid_scan) -> None:
    with pytest.raises(ImageError, match=f"modality: wanted CT, MR or none, got '{wrong}'"):
        segment(ellipsoid_scan()[0], bundle(), modality=wrong)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.mark.parametrize(
    "name", ["axial", "left-handed", "coronal", "sagittal", "oblique", "thick slices", "left-handed oblique"]
)
def test_liver_and_lesions_come_back_on_the_scan_s_own_grid(name, engines, ellipsoid_scan, oblique):
    directions = {
        "left-handed": (1, 0, 0, 0, 1, 0, 0, 0, -1),
        "coronal": (1, 0, 0, 0, 0, 1, 0, -1, 0),
        "sagittal": (0, 0, 1, 1, 0, 0, 0, 1, 0),
        "oblique": oblique,
        "left-handed oblique": [-v if n % 3 == 0 else v for n, v in enumerate(oblique)],
    }
    spacing = (2.0, 2.0, 7.0) if name == "thick slices" else (2.0, 2.0, 3.0)
    scan, truth = ellipsoid_scan(
        (90, 80, 50), spacing, directions.get(name, AXIAL), lesions=[((20, 10, 5), 12.0), ((-30, -15, 0), 9.0)]
    )
    result = segment(bright_tumours(scan, truth), bundle(), modality="CT")
    assert result.labels.GetSize() == scan.GetSize()
    assert result.labels.GetDirection() == scan.GetDirection()
    assert result.labels.GetOrigin() == scan.GetOrigin()
    found, wanted = sitk.GetArrayFromImage(result.labels), sitk.GetArrayFromImage(truth)
    assert dice(found > 0, wanted > 0) > 0.93
    assert dice(found == 2, wanted == 2) > 0.75
    assert len(result.lesions) == 2


def test_the_second_stage_sees_the_liver_s_box_and_not_the_scan(engines, ellipsoid_scan):
    scan, truth = ellipsoid_scan((80, 80, 60), (3, 3, 3))
    segment(bright_tumours(scan, truth), bundle(), modality="CT")
    # 240 mm of scan on 6 mm; the liver's 144 mm and twice 10 mm of margin on 2 mm, up to the 6 mm grid's rounding.
    assert engines[0].seen == [(1, 1, 32, 40, 40)]
    assert len(engines[1].seen) == 1
    assert all(n in range(80, 93) for n in engines[1].seen[0][3:])


def test_a_scan_without_liver_gives_an_empty_result_after_a_search_of_the_whole_field(engines):
    nothing = sitk.GetImageFromArray(np.random.default_rng(0).normal(-900, 20, (20, 40, 40)).astype(np.int16))
    nothing.SetSpacing((4.0, 4.0, 5.0))
    with pytest.warns(LiverTumorSegWarning) as told:
        result = segment(nothing, bundle(), modality="CT")
    assert sitk.GetArrayFromImage(result.labels).sum() == 0
    assert result.liver_ml == 0
    assert result.burden_percent == 0
    assert result.lesions == []
    assert engines[1].seen[0] == (1, 1, 52, 80, 80)  # 100 x 160 x 160 mm on 2 mm: the whole field
    texts = [str(each.message) for each in told]
    assert any("searched the whole scan" in text for text in texts)
    assert any("no liver was found" in text for text in texts)
    assert tuple(texts) == result.provenance.warnings


@pytest.mark.parametrize("level_hu", [40, 110, 160])
def test_the_second_stage_can_see_grey_values_relative_to_the_liver_that_the_first_one_found(
    level_hu, monkeypatch, ellipsoid_scan
):
    class AroundZero(VoteByBrightness):
        def __call__(self, array: np.ndarray) -> np.ndarray:
            self.seen.append(array.shape)
            votes = [np.zeros_like(array), 10 - 30 * np.abs(array), 30 * (array - 1.2)]
            return np.concatenate(votes, axis=1).astype(np.float32)

    class AnythingBright(VoteByBrightness):
        def __call__(self, array: np.ndarray) -> np.ndarray:
            return np.concatenate([0 * array, 80 * (array - 0.35), 0 * array - 9], axis=1).astype(np.float32)

    engines = iter([AnythingBright(), AroundZero()])
    monkeypatch.setattr(LiverTumorSegLib.segmenter, "open_engine", lambda *args, **kwargs: next(engines))
    relative = dataclasses.replace(RECIPE.stages[1], intensity=Intensity(scale="liver"))
    recipe = dataclasses.replace(RECIPE, stages=(RECIPE.stages[0], relative))
    scan, truth = ellipsoid_scan((90, 80, 50), (2, 2, 3))
    shifted = bright_tumours(scan, truth) + sitk.Cast(truth > 0, sitk.sitkInt16) * (level_hu - 110)
    found = sitk.GetArrayFromImage(segment(shifted, bundle(recipe), modality="CT").labels)
    wanted = sitk.GetArrayFromImage(truth)
    assert dice(found > 0, wanted > 0) > 0.93
    assert dice(found == 2, wanted == 2) > 0.75


def test_a_one_stage_recipe_runs_one_network(engines, ellipsoid_scan):
    scan, truth = ellipsoid_scan((60, 60, 40), (3, 3, 3))
    one = dataclasses.replace(RECIPE, stages=RECIPE.stages[1:], training=())
    result = segment(bright_tumours(scan, truth), bundle(one), modality="CT")
    assert len(engines) == 1
    assert dice(sitk.GetArrayFromImage(result.labels) > 0, sitk.GetArrayFromImage(truth) > 0) > 0.93


def test_the_sensitivity_can_be_changed_afterwards_without_a_network(engines, ellipsoid_scan):
    scan, truth = ellipsoid_scan((60, 60, 40), (3, 3, 3), lesions=[((0, 0, 0), 15.0)])
    soft = sitk.SmoothingRecursiveGaussian(bright_tumours(scan, truth), 4.0)
    result = segment(soft, bundle(), modality="CT")
    calls = [len(engine.seen) for engine in engines]
    fewer, same, more = (result.with_sensitivity(f) for f in (1e-6, 1.0, 1e4))
    assert [len(engine.seen) for engine in engines] == calls
    assert np.array_equal(sitk.GetArrayFromImage(same.labels), sitk.GetArrayFromImage(result.labels))
    assert 0 == fewer.tumour_ml < result.tumour_ml < more.tumour_ml
    # What is no longer tumour is liver again, not a hole.
    assert fewer.liver_ml == pytest.approx(result.liver_ml, rel=1e-3)
    assert more.sensitivity == 1e4


def test_a_recipe_s_odds_of_tumour_count_like_a_sensitivity_and_leave_the_probabilities_alone(engines, ellipsoid_scan):
    scan, truth = ellipsoid_scan((60, 60, 40), (3, 3, 3), lesions=[((0, 0, 0), 15.0)])
    soft = sitk.SmoothingRecursiveGaussian(bright_tumours(scan, truth), 4.0)
    rules = dataclasses.replace(RECIPE.postprocessing, tumour_odds=50.0)
    plain, ready = (
        segment(soft, bundle(each), modality="CT")
        for each in (RECIPE, dataclasses.replace(RECIPE, postprocessing=rules))
    )
    assert ready.tumour_ml > plain.tumour_ml
    for factor in (1.0, 0.1):
        wanted, got = plain.with_sensitivity(50 * factor), ready.with_sensitivity(factor)
        assert np.array_equal(sitk.GetArrayFromImage(got.labels), sitk.GetArrayFromImage(wanted.labels))
    said = [sitk.GetArrayFromImage(each.evidence.tumour_probability()) for each in (plain, ready)]
    assert np.array_equal(*said)


@pytest.mark.parametrize("factor", [0.0, -1.0, 9e-7, 1.1e6, float("nan"), float("inf")])
def test_a_sensitivity_that_is_no_factor_is_refused(factor, engines, ellipsoid_scan):
    scan, _ = ellipsoid_scan()
    result = segment(scan, bundle(), modality="CT")
    with pytest.raises(ValueError, match=r"wanted a factor from 0\.000001 to 1000000"):
        result.with_sensitivity(factor)


def test_a_segmentation_from_a_file_cannot_change_its_sensitivity(engines, ellipsoid_scan):
    scan, _ = ellipsoid_scan()
    result = segment(scan, bundle(), modality="CT")
    from_file = Segmentation(result.labels, scan, result.provenance)
    with pytest.raises(ValueError, match="without network output"):
        from_file.with_sensitivity(2.0)


def test_volumes_and_burden_are_in_millilitres_and_percent(engines, ellipsoid_scan):
    scan, _ = ellipsoid_scan(size=(20, 20, 20), spacing_mm=(5, 5, 5))
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[:2, :10, :20] = 1  # 400 voxels of 0.125 ml
    labels[:1, :5, :20] = 2  # 100 of them
    image = sitk.GetImageFromArray(labels)
    image.CopyInformation(scan)
    counted = Segmentation(image, scan, segment(scan, bundle(), modality="CT").provenance)
    assert counted.liver_ml == pytest.approx(50.0)
    assert counted.tumour_ml == pytest.approx(12.5)
    assert counted.burden_percent == pytest.approx(25.0)


def test_the_provenance_says_what_ran(engines, ellipsoid_scan):
    scan, _ = ellipsoid_scan()
    told: list[tuple[str, float]] = []
    result = segment(scan, bundle(), modality="CT", progress=lambda step, share: told.append((step, share)))
    made = result.provenance
    assert (made.recipe, made.variant, made.bundle, made.bundle_sha256) == (
        "by brightness", "repaired", "brightness", "0" * 64
    )  # fmt: skip
    assert (made.engine, made.device, made.precision, made.modality) == ("brightness", "cpu", "f32", "CT")
    assert made.size_voxels == scan.GetSize()
    steps = ["whole: prepare", "whole: network", "crop: prepare", "crop: network", "labels"]
    assert list(made.seconds) == steps
    assert list(dict.fromkeys(step for step, _ in told)) == steps
    assert all(0 <= share <= 1 for _, share in told)
    assert made.stages["crop"]["spacing_mm"] == (2.0, 2.0, 2.0)


def test_the_scan_is_not_changed(engines, ellipsoid_scan):
    scan, _ = ellipsoid_scan()
    before = sitk.GetArrayFromImage(scan)
    segment(scan, bundle(), modality="CT")
    assert np.array_equal(sitk.GetArrayFromImage(scan), before)


def test_the_cpu_path_runs_without_importing_torch_or_monai(tmp_path, repository):
    if not (repository / "Resources" / "Bundles" / "default" / "checksums.json").exists():
        pytest.skip("needs the default bundle")
    script = (
        "import sys, numpy as np, SimpleITK as sitk\n"
        "from LiverTumorSegLib import segment\n"
        "image = sitk.GetImageFromArray(np.random.default_rng(0).normal(0, 50, (24, 48, 48)).astype('int16'))\n"
        "image.SetSpacing((5.0, 5.0, 5.0))\n"
        "segment(image, device='cpu', modality='CT')\n"
        "print(sorted({'torch', 'monai', 'vtk', 'matplotlib'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.strip() == "[]"
