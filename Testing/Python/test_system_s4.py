"""S4's system: slices whole, the crop around the tumours, and what it falls back on; networks that answer by rule."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import EllipsoidScan
from LiverTumorSegLib.__main__ import main
from LiverTumorSegLib.errors import LiverTumorSegWarning, RecipeError
from LiverTumorSegLib.filters import filtered, raised_contrast
from LiverTumorSegLib.geometry import fit_grid, whole_box
from LiverTumorSegLib.lesions import label_components
from LiverTumorSegLib.recipe import Axis, Grid, Intensity, Recipe, Slices, load_recipe, recipe_to_json
from LiverTumorSegLib.resources import resource_path
from LiverTumorSegLib.segmenter import segment
from LiverTumorSegLib.systems import Outcome
from LiverTumorSegLib.systems.slices import find_crops, run
from LiverTumorSegLib.systems.stages import Networks, Study
from LiverTumorSegLib.training.resampling import resample_labels

Rule = Callable[[np.ndarray], list[np.ndarray]]


class ByRule:
    """A network that is a rule for the grey values, and notes the shapes it was asked about."""

    name, device, precision = "rule", "cpu", "f32"

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.sizes: list[tuple[int, ...]] = []

    def __call__(self, array: np.ndarray) -> np.ndarray:
        self.sizes.append(array.shape[2:])
        logits = [np.where(yes, 8.0, -8.0) for yes in self.rule(array[0, 0])]
        return np.stack(logits)[None].astype(np.float32)

    def move_to_cpu(self) -> None: ...


def between(grey: np.ndarray, low_hu: float, high_hu: float) -> np.ndarray:
    """Where a window from -100 to 250 HU shows something between two values."""
    return (grey > (low_hu + 100) / 350) & (grey < (high_hu + 100) / 350)


def sees_all(grey: np.ndarray) -> list[np.ndarray]:
    return [between(grey, 40, 140), between(grey, 40, 85)]


def sees_liver_only(grey: np.ndarray) -> list[np.ndarray]:
    return [between(grey, 40, 140), np.zeros(grey.shape, bool)]


def sees_nothing(grey: np.ndarray) -> list[np.ndarray]:
    return [np.zeros(grey.shape, bool)] * 2


def sees_tumours(grey: np.ndarray) -> list[np.ndarray]:
    return [between(grey, 40, 85)]


def recipe(variant: str = "repaired", tile: int = 32, spacing_mm: float | None = 3.0) -> Recipe:
    """The shipped recipe with crops of 32 voxels of 3 mm (or the scan's own), without filters."""
    shipped = load_recipe(resource_path("Recipes", f"s4_multiscale_{variant}.json"))
    plane = {"spacing_mm": spacing_mm} if spacing_mm else {"times_own": 1.0}
    stages = []
    for stage, multiple in zip(shipped.stages, (16, 8), strict=True):
        axes = (Axis(multiple_of=multiple, **plane),) * 2 + (Axis(times_own=1.0),)
        grey = dataclasses.replace(stage.intensity, denoise_voxels=0, smooth_voxels=0.0, contrast=0.0)
        window = None if stage.name == "coarse" else (tile, tile, 1)
        stages.append(dataclasses.replace(stage, grid=Grid(axes=axes), intensity=grey, window=window))
    assert shipped.slices is not None
    return dataclasses.replace(shipped, stages=tuple(stages), slices=dataclasses.replace(shipped.slices, tile=tile))


def outcome(
    scan: sitk.Image, coarse: Rule = sees_all, fine: Rule = sees_tumours, used: Recipe | None = None
) -> tuple[Outcome, np.ndarray, ByRule]:
    """What the system says of a CT, its labels on the scan's grid, and the fine network."""
    used = used or recipe()
    engines = {"coarse": ByRule(coarse), "fine": ByRule(fine)}
    found = run(Study(scan, {}, "CT"), Networks(used, engines))
    return found, sitk.GetArrayFromImage(found.evidence.labels_like(scan)), engines["fine"]


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


@pytest.mark.parametrize("variant", ["as_printed", "repaired"])
def test_a_tumour_in_the_liver_is_found_on_the_scans_own_grid(variant: str, ellipsoid_scan: EllipsoidScan) -> None:
    scan, truth = ellipsoid_scan()
    _, labels, fine = outcome(scan, used=recipe(variant, spacing_mm=None))
    wanted = sitk.GetArrayFromImage(truth)
    assert dice(labels > 0, wanted > 0) > 0.98
    assert dice(labels == 2, wanted == 2) > 0.95
    assert set(fine.sizes) == {(1, 32, 32)}


def test_any_orientation_and_spacing_will_do(ellipsoid_scan: EllipsoidScan, oblique: tuple[float, ...]) -> None:
    scan, truth = ellipsoid_scan((60, 52, 40), (2.2, 2.6, 3.1), oblique)
    _, labels, _ = outcome(scan)
    wanted = sitk.GetArrayFromImage(truth)
    assert dice(labels > 0, wanted > 0) > 0.9
    assert dice(labels == 2, wanted == 2) > 0.7


def test_slices_smaller_than_a_crop_stand_in_its_middle(ellipsoid_scan: EllipsoidScan) -> None:
    scan, truth = ellipsoid_scan()  # 48 x 40 voxels of 3 mm
    _, labels, fine = outcome(scan, used=recipe(tile=64))
    assert set(fine.sizes) == {(1, 64, 64)}
    assert dice(labels == 2, sitk.GetArrayFromImage(truth) == 2) > 0.95


def test_what_the_fine_network_calls_tumour_outside_the_crop_is_never_asked(ellipsoid_scan: EllipsoidScan) -> None:
    size, lesions = (96, 80, 12), [((-60.0, 0.0, 0.0), 12.0), ((60.0, 0.0, 0.0), 12.0)]
    scan, truth = ellipsoid_scan(size, lesions=lesions)

    def sees_the_left_one(grey: np.ndarray) -> list[np.ndarray]:
        liver, tumour = sees_all(grey)
        return [liver, tumour & (np.arange(grey.shape[2]) < grey.shape[2] // 2)]

    found, labels, _ = outcome(scan, sees_the_left_one)
    wanted = sitk.GetArrayFromImage(truth) == 2
    half = wanted.shape[2] // 2
    assert found.details == {"crops": 1, "crops_centred_on": "tumour"}
    assert dice((labels == 2)[:, :, :half], wanted[:, :, :half]) > 0.9
    assert not (labels == 2)[:, :, half:].any()


def test_tumours_further_apart_than_a_crop_are_tiled(ellipsoid_scan: EllipsoidScan) -> None:
    scan, truth = ellipsoid_scan((96, 80, 12), lesions=[((-60.0, 0.0, 0.0), 12.0), ((60.0, 0.0, 0.0), 12.0)])
    _, labels, fine = outcome(scan)
    assert dice(labels == 2, sitk.GetArrayFromImage(truth) == 2) > 0.9
    # 144 mm from rim to rim are 48 voxels: two tiles of 32 a slice, none of another size.
    assert set(fine.sizes) == {(1, 32, 32)}
    assert len(fine.sizes) % 2 == 0


def test_the_fine_network_sees_the_slices_of_the_liver_and_no_others(ellipsoid_scan: EllipsoidScan) -> None:
    scan, truth = ellipsoid_scan((48, 40, 40))
    _, labels, fine = outcome(scan)
    wanted = sitk.GetArrayFromImage(truth)
    assert len(fine.sizes) == int((wanted > 0).any(axis=(1, 2)).sum()) == 24
    assert dice(labels > 0, wanted > 0) > 0.98


def test_without_a_coarse_tumour_the_crop_falls_back_on_the_livers_centroid(ellipsoid_scan: EllipsoidScan) -> None:
    scan, truth = ellipsoid_scan()
    found, labels, _ = outcome(scan, sees_liver_only)
    assert found.details == {"crops": 1, "crops_centred_on": "liver"}
    assert dice(labels == 2, sitk.GetArrayFromImage(truth) == 2) > 0.95


def test_the_slices_of_both_parts_of_a_liver_in_two_parts_are_looked_at() -> None:
    volume = np.full((24, 40, 40), -90, np.int16)
    volume[2:12, 4:36, 4:36] = 110
    volume[16:22, 10:26, 10:26] = 110  # a sixth of the other, 12 mm above it
    volume[18:20, 16:20, 16:20] = 60
    scan = sitk.GetImageFromArray(volume)
    scan.SetSpacing((3.0, 3.0, 3.0))
    _, labels, _ = outcome(scan, used=recipe(spacing_mm=None))
    assert dice(labels > 0, volume > 0) > 0.98
    assert dice(labels == 2, volume == 60) > 0.9


def test_as_printed_a_slice_without_a_coarse_tumour_keeps_none(ellipsoid_scan: EllipsoidScan) -> None:
    found, labels, fine = outcome(ellipsoid_scan()[0], sees_liver_only, used=recipe("as_printed", spacing_mm=None))
    assert (found.details, fine.sizes) == ({"crops": 0, "crops_centred_on": "liver"}, [])
    assert set(np.unique(labels)) == {0, 1}


def test_without_a_liver_the_whole_scan_is_searched_with_a_warning(ellipsoid_scan: EllipsoidScan) -> None:
    scan, truth = ellipsoid_scan()
    with pytest.warns(LiverTumorSegWarning, match="no liver; the second one searched the whole scan"):
        found, labels, _ = outcome(scan, sees_nothing)
    assert found.details["crops_centred_on"] == "scan"
    assert dice(labels > 0, sitk.GetArrayFromImage(truth) == 2) > 0.9


def test_a_coarse_tumour_far_from_the_liver_does_not_move_the_crop(ellipsoid_scan: EllipsoidScan) -> None:
    scan, _ = ellipsoid_scan()

    def sees_one_in_the_corner(grey: np.ndarray) -> list[np.ndarray]:
        liver, tumour = sees_all(grey)
        tumour[:2, :2, :2] = True
        return [liver, tumour]

    plain, moved = outcome(scan)[1], outcome(scan, sees_one_in_the_corner)[1]
    np.testing.assert_array_equal(moved == 2, plain == 2)


def test_stages_with_voxels_of_different_size_are_refused(ellipsoid_scan: EllipsoidScan) -> None:
    used = recipe()
    other = dataclasses.replace(used.stages[1], grid=Grid(spacing_mm=2.0, multiple_of=1))
    with pytest.raises(RecipeError, match="wanted two with grids of the same axes"):
        outcome(ellipsoid_scan()[0], used=dataclasses.replace(used, stages=(used.stages[0], other)))


@pytest.mark.parametrize("chosen", [(0,), (1, 0), (0, 0), (0, 1, 1)])
def test_other_stages_than_a_coarse_and_a_fine_one_are_refused(
    chosen: tuple[int, ...], ellipsoid_scan: EllipsoidScan
) -> None:
    used = recipe()
    stages = tuple(
        dataclasses.replace(used.stages[n], name=f"s{place}", region="whole") for place, n in enumerate(chosen)
    )
    other = dataclasses.replace(used, stages=stages, training=used.training[:1] * len(stages))
    with pytest.raises(
        RecipeError, match="wanted sigmoid of liver, tumour; sigmoid of tumour for a system 'slices', got"
    ):
        outcome(ellipsoid_scan()[0], used=other)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(8, 60), st.integers(8, 60)),
    seed=st.integers(0, 10_000),
    tile=st.sampled_from([8, 16, 24]),
    centre=st.sampled_from(["volume", "slice"]),
)
def test_crops_hold_every_tumour_and_are_as_large_as_the_recipe_says(
    shape: tuple[int, int, int], seed: int, tile: int, centre: str
) -> None:
    rng = np.random.default_rng(seed)
    organ = rng.random(shape) < 0.05
    organ[0, 0, 0] = True
    tumour = organ & (rng.random(shape) < rng.random())
    crops = find_crops(organ, tumour, Slices(tile, centre), (8, 8, 1))  # type: ignore[arg-type]
    covered = np.zeros(shape, bool)
    for window in crops:
        covered[window.inside(shape)] = True
        assert min(window.size[1:]) >= tile
        assert all(length == tile or length % 8 == 0 for length in window.size[1:])
    wanted = tumour if centre == "slice" or tumour.any() else organ
    assert covered[wanted].all()


def test_the_crop_of_a_volume_is_centred_on_the_middle_of_the_tumours_extent() -> None:
    organ = np.zeros((6, 64, 64), bool)
    organ[1:5, 10:50, 10:50] = True
    tumour = np.zeros_like(organ)
    tumour[2, 20, 30] = tumour[3, 27, 41] = True  # the middle of 20..27 and of 30..41: 23.5 and 35.5
    (crop,) = find_crops(organ, tumour, Slices(16), (8, 8, 1))
    assert (crop.start, crop.size) == ((1, 16, 28), (4, 16, 16))
    one, other = find_crops(organ, tumour, Slices(16, "slice"), (8, 8, 1))
    assert (one.start[0], other.start[0]) == (2, 3)
    assert all(crop.size == (1, 16, 16) for crop in (one, other))


def test_filters_work_on_each_slice_for_itself() -> None:
    volume = np.zeros((3, 9, 9), np.float32)
    volume[1] = 1.0
    volume[1, 4, 4] = 0.0
    denoised = filtered(volume, Intensity(scale="unit", denoise_voxels=1))
    np.testing.assert_array_equal(denoised, np.broadcast_to([[[0.0]], [[1.0]], [[0.0]]], volume.shape))
    smoothed = filtered(volume, Intensity(scale="unit", smooth_voxels=1.0))
    assert not smoothed[0].any()
    assert 0 < smoothed[1, 4, 4] < smoothed[1, 4, 3] < 1


def test_a_recipe_without_filters_leaves_grey_values_alone() -> None:
    volume = np.random.default_rng(0).random((2, 4, 4)).astype(np.float32)
    assert filtered(volume, Intensity()) is volume


def test_raised_contrast_keeps_the_ends_and_the_middle_and_spreads_what_is_between() -> None:
    grey = np.array([[[0.0, 0.4, 0.5, 0.6, 1.0]]], np.float32)
    got = raised_contrast(grey, 4.0).ravel()
    np.testing.assert_allclose(got[[0, 2, 4]], [0, 0.5, 1], atol=1e-6)
    # 1 / (1 + exp(-0.4)) less 1 / (1 + exp(2)), over what lies between the ends.
    assert got[3] == pytest.approx((0.598688 - 0.119203) / 0.761594, abs=1e-5)
    assert got[3] - got[1] > 0.2


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"denoise_voxels": 9}, "denoise_voxels: wanted 0 up to 5, got 9"),
        ({"smooth_voxels": -1.0}, "smooth_voxels: wanted 0 up to 5.0, got -1.0"),
        ({"contrast": 4.0}, "contrast: wanted 0 unless the scale is 'unit', got 4.0"),
    ],
)
def test_filters_that_make_no_sense_are_refused(given_: dict[str, float], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Intensity(**given_)  # type: ignore[arg-type]


def test_as_printed_and_repaired_differ_exactly_in_the_documented_keys() -> None:
    from test_recipe import differing_keys

    printed, repaired = (load_recipe(resource_path("Recipes", f"s4_multiscale_{v}.json")) for v in VARIANTS)
    axes = {f"stages[{s}].grid.axes[{n}].{key}" for s in (0, 1) for n in (0, 1) for key in ("spacing_mm", "times_own")}
    rules = {f"postprocessing.{name}" for name in ("fill_holes", "min_lesion_ml", "tumour_reach_mm")}
    shares = {"lesion", "liver_without_lesion", "inverse_size"}
    sampling = {f"training[0].sampling.{name}" for name in shares - {"liver_without_lesion"}}
    sampling |= {f"training[1].sampling.{name}" for name in ("inverse_size", "windows_overlap")}
    assert differing_keys(printed, repaired) == {"name", "variant", "slices.centre"} | axes | rules | sampling


VARIANTS = ("as_printed", "repaired")


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_recipes_train_as_the_paper_prints(variant: str) -> None:
    used = load_recipe(Path(resource_path("Recipes", f"s4_multiscale_{variant}.json")))
    coarse, fine = used.training
    assert (coarse.learning_rate, coarse.epochs, fine.learning_rate, fine.epochs) == (1e-4, 60, 1e-5, 150)
    assert (coarse.optimiser, coarse.schedule, coarse.batch_size, fine.batch_size) == ("adam", "constant", 8, 8)
    assert (coarse.augmentation, fine.augmentation, fine.patch) == ("none", "s4", (256, 256, 1))
    assert all(stage.intensity.ct_clip_hu == (-100, 250) for stage in used.stages)
    assert (used.stages[0].classes, used.stages[1].classes) == (("liver", "tumour"), ("tumour",))


def test_a_magnetic_resonance_scan_will_do_too(ellipsoid_scan: EllipsoidScan) -> None:
    scan, truth = ellipsoid_scan()
    # From fat at 900 to liver at 1110, which the percentiles of the body make 0 and 1, a tumour is at 0.76.
    grey = sitk.Cast(scan, sitk.sitkFloat32) + 1000

    def sees_organs(grey: np.ndarray) -> list[np.ndarray]:
        return [grey > 0.5, (grey > 0.5) & (grey < 0.9)]

    engines = {"coarse": ByRule(sees_organs), "fine": ByRule(lambda grey: sees_organs(grey)[1:])}
    found = run(Study(grey, {}, "MR"), Networks(recipe(), engines))
    labels, wanted = sitk.GetArrayFromImage(found.evidence.labels_like(grey)), sitk.GetArrayFromImage(truth)
    assert dice(labels > 0, wanted > 0) > 0.95
    assert dice(labels == 2, wanted == 2) > 0.8


@pytest.fixture
def narrow_bundle(ellipsoid_scan: EllipsoidScan, tmp_path: Path, one_thread: None) -> Path:
    """Return what `livertumorseg train` makes in one step a stage, of the shipped recipe with narrow networks."""
    for number in range(2):
        for image, part in zip(ellipsoid_scan(noise_hu=20.0), ("images", "labels"), strict=True):
            (tmp_path / "cases" / part).mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(image, str(tmp_path / "cases" / part / f"case{number}.nii.gz"))
    used = recipe()
    stages, trainings = [], []
    for stage, training in zip(used.stages, used.training, strict=True):
        thin = {"growth": 1, "layers": 1} if "growth" in stage.arguments else {}
        arguments = {**stage.arguments, **thin, "widths": [2, 3, 4]}
        stages.append(dataclasses.replace(stage, arguments=arguments))
        few = {"epochs": 1, "iterations_per_epoch": 1, "batch_size": 2, "patch": (32, 32, 1)}
        trainings.append(dataclasses.replace(training, **few))  # type: ignore[arg-type]
    narrow = dataclasses.replace(used, stages=tuple(stages), training=tuple(trainings))
    (tmp_path / "recipe.json").write_text(recipe_to_json(narrow), encoding="utf-8")
    where = ["-o", str(tmp_path / "run"), "--data", str(tmp_path / "cases"), "--fold", "0"]
    assert main(["train", str(tmp_path / "recipe.json"), *where, "--workers", "0", "--device", "cpu", "--quiet"]) == 0
    return tmp_path / "run" / "bundle"


def test_every_stage_trains_by_the_command_and_the_bundle_segments_ct_and_mr(
    narrow_bundle: Path, ellipsoid_scan: EllipsoidScan, oblique: tuple[float, ...]
) -> None:
    scan, _ = ellipsoid_scan((33, 21, 9), (5.0, 6.0, 7.0), oblique)
    for modality in ("CT", "MR"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LiverTumorSegWarning)  # after one step they may find no liver
            found = segment(scan, narrow_bundle, modality=modality, device="cpu")
        assert found.labels.GetSize() == scan.GetSize()
        assert found.labels.GetDirection() == scan.GetDirection()
        made = found.provenance
        assert (made.system, list(made.stages)) == ("slices", ["coarse", "fine"])
        assert set(made.details) == {"crops", "crops_centred_on"}


@pytest.mark.parametrize("shift_mm", [0.0, 1.25, 2.5, 3.75])
def test_a_lesion_of_5_mm_in_slices_of_5_mm_is_still_there_on_the_networks_grid(shift_mm: float) -> None:
    # Pitfall 2: 2 to 57 voxels of 0.59 x 0.59 x 5 mm, in one slice or two, on voxels of 3 x 3 x 10 mm. The nearest
    # neighbours of those see 3 voxels of it in the middle of a slice and none at 2.5 and 3.75 mm beside it.
    labels = np.zeros((9, 48, 48), np.uint8)
    labels[1:8, 4:44, 4:44] = 1
    k, j, i = np.ogrid[:9, :48, :48]
    distance = (((k - 4) * 5 - shift_mm) ** 2) + ((j - 24) * 0.59) ** 2 + ((i - 24) * 0.59) ** 2
    labels[distance <= 2.5**2] = 2
    image = sitk.GetImageFromArray(labels)
    image.SetSpacing((0.59, 0.59, 5.0))
    grid = Grid(axes=(Axis(spacing_mm=3.0), Axis(spacing_mm=3.0), Axis(times_own=2.0)))
    box = whole_box(image)
    got = resample_labels(image, box, fit_grid(image, box, grid), (2,))
    assert (got == 2).any()
    assert label_components(got == 2)[1] == label_components(labels == 2)[1]
