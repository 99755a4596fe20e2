"""S2's system: body, liver, tumours confined to the liver; networks that answer by rule, and the shipped recipes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import SimpleITK as sitk

from conftest import OBLIQUE, EllipsoidScan
from LiverTumorSegLib.errors import LiverTumorSegWarning, RecipeError
from LiverTumorSegLib.recipe import Axis, Crop, Grid, Recipe, load_recipe
from LiverTumorSegLib.resources import resource_path
from LiverTumorSegLib.systems import Outcome
from LiverTumorSegLib.systems.body_cascade import run
from LiverTumorSegLib.systems.stages import Networks, Study
from shapes import IDENTITY, LEFT_HANDED, SAGITTAL

Rule = Callable[[np.ndarray], np.ndarray]
LIVER, TUMOUR, FAT = 110, 160, -100  # HU; `ellipsoid_scan` draws tumours of 60 HU


class ByRule:
    """A network that is a rule for the grey values, and notes what it was asked about."""

    name, device, precision = "rule", "cpu", "f32"

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.sizes: list[tuple[int, ...]] = []
        self.range = (np.inf, -np.inf)

    def __call__(self, array: np.ndarray) -> np.ndarray:
        self.sizes.append(array.shape[2:])
        self.range = min(self.range[0], float(array.min())), max(self.range[1], float(array.max()))
        return np.clip(60 * self.rule(array), -8, 8).astype(np.float32)

    def move_to_cpu(self) -> None: ...


def above(hu: float) -> Rule:
    """Say yes where S2's scaling shows more than this: -200 to 200 HU are -1 to 1."""
    return lambda grey: grey - hu / 200


def between(low_hu: float, high_hu: float) -> Rule:
    return lambda grey: np.minimum(grey - low_hu / 200, high_hu / 200 - grey)


def bright(scan: sitk.Image, truth: sitk.Image) -> sitk.Image:
    """Return the scan with lesions brighter than the liver, so that no blurred border looks like one."""
    return scan + sitk.Cast(truth == 2, sitk.sitkInt16) * (TUMOUR - 60)


def never(grey: np.ndarray) -> np.ndarray:
    return np.full_like(grey, -1)


SEES_LIVER, SEES_TUMOUR = above(5), above(135)


def shipped(variant: str = "repaired") -> Recipe:
    return load_recipe(resource_path("Recipes", f"s2_elanres_msca_{variant}.json"))


def recipe(variant: str = "repaired", spacing_mm: float = 3.0) -> Recipe:
    """Return the shipped recipe on a coarser grid, for quickness."""
    own = shipped(variant)
    grid = Grid(axes=(Axis(spacing_mm=spacing_mm, multiple_of=8),) * 3)
    stages = tuple(dataclasses.replace(stage, grid=grid, window=(64, 64, 48)) for stage in own.stages)
    return dataclasses.replace(own, stages=stages)


def outcome(
    scan: sitk.Image, recipe: Recipe, liver: Rule = SEES_LIVER, tumour: Rule = SEES_TUMOUR, modality: str = "CT"
) -> tuple[Outcome, ByRule, ByRule]:
    first, second = ByRule(liver), ByRule(tumour)
    networks = Networks(recipe, {recipe.stages[0].name: first, recipe.stages[1].name: second})
    return run(Study(scan, {}, modality), networks), first, second


def labels_of(outcome: Outcome, scan: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(outcome.evidence.labels_like(scan))


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.mark.parametrize("variant", ["as_printed", "repaired"])
@pytest.mark.parametrize(
    ("direction", "size", "spacing"),
    [
        (IDENTITY, (90, 80, 50), (2.0, 2.0, 3.0)),
        (OBLIQUE, (90, 80, 50), (2.0, 2.0, 3.0)),
        (LEFT_HANDED, (60, 60, 30), (3.0, 3.0, 5.0)),
        (SAGITTAL, (40, 70, 60), (5.0, 2.5, 2.5)),
    ],
)
def test_liver_and_tumour_come_back_on_scans_of_any_direction_and_spacing(
    variant: str,
    direction: Sequence[float],
    size: Sequence[int],
    spacing: Sequence[float],
    ellipsoid_scan: EllipsoidScan,
) -> None:
    scan, truth = ellipsoid_scan(size, spacing, direction, lesions=[((15, 10, 5), 16.0)])
    found, _, _ = outcome(bright(scan, truth), recipe(variant))
    labels, wanted = labels_of(found, scan), sitk.GetArrayFromImage(truth)
    assert dice(labels > 0, wanted > 0) > 0.93
    assert dice(labels == 2, wanted == 2) > 0.75


@pytest.mark.parametrize("unit", [0.02, 7.0])
def test_an_mr_in_any_units_is_segmented_as_a_ct_is(unit: float, ellipsoid_scan: EllipsoidScan) -> None:
    scan, truth = ellipsoid_scan((60, 60, 40), (3, 3, 3), lesions=[((0, 0, 0), 20.0)])
    body = sitk.Cast(bright(scan, truth) > -500, sitk.sitkFloat32)
    # Air 0, fat 100, liver 310, lesions 360; the body's percentiles 100 and 360 become -1 and 1, liver 0.62.
    mr = (sitk.Cast(bright(scan, truth), sitk.sitkFloat32) + 200) * body * unit
    found, first, _ = outcome(mr, recipe(), lambda grey: grey, lambda grey: grey - 0.8, "MR")
    labels, wanted = labels_of(found, scan), sitk.GetArrayFromImage(truth)
    assert first.range == pytest.approx((-1, 1), abs=0.01)
    assert dice(labels > 0, wanted > 0) > 0.93
    assert dice(labels == 2, wanted == 2) > 0.75


def test_the_networks_see_the_body_and_then_the_liver_in_their_windows(ellipsoid_scan: EllipsoidScan) -> None:
    scan, _ = ellipsoid_scan((100, 100, 40), (4, 4, 4))
    found, first, second = outcome(scan, dataclasses.replace(recipe("as_printed"), crop=Crop(margin_mm=0)))
    # A body of 0.9 times 400 x 400 x 160 mm and 10 mm on every side, in at most 400 mm; windows of 64 x 64 x 48.
    assert set(first.sizes) == {(48, 64, 64)}
    assert found.details["body_size_voxels"] == [pytest.approx(95, abs=3), pytest.approx(95, abs=3), 40]
    # The liver's 0.6 times 400 x 400 x 160 mm on 3 mm: 80 x 80 x 32.
    assert found.evidence.geometry.size == (80, 80, 32)
    assert set(second.sizes) == {(32, 64, 64)}
    assert (first.range, second.range) == ((-1.0, pytest.approx(0.55)), (-1.0, pytest.approx(0.55)))


@pytest.mark.parametrize("variant", ["as_printed", "repaired"])
def test_even_a_small_scan_is_seen_in_windows_of_the_size_of_the_training_patches(
    variant: str, ellipsoid_scan: EllipsoidScan
) -> None:
    # Attention and instance normalisation answer otherwise where the window is smaller than what they learnt on.
    scan, _ = ellipsoid_scan((48, 40, 12), (3, 3, 5))
    own = shipped(variant)
    _, first, second = outcome(scan, own)
    assert {stage.window for stage in own.stages} == {training.patch for training in own.training} == {(256, 256, 48)}
    assert set(first.sizes) == set(second.sizes) == {(48, 256, 256)}


@pytest.mark.parametrize("variant", ["as_printed", "repaired"])
def test_what_looks_like_a_tumour_far_from_the_liver_is_none(variant: str, ellipsoid_scan: EllipsoidScan) -> None:
    scan, truth = ellipsoid_scan((60, 60, 30), (3, 3, 4), lesions=[((0, 0, 0), 15.0)])
    mimic = (slice(12, 18), slice(28, 32), slice(50, 54))  # 6 mm beside the liver, in its box with the margin
    scan = painted(bright(scan, truth), mimic, 190)
    found, _, _ = outcome(scan, recipe(variant), between(5, 175))
    labels = labels_of(found, scan)
    assert (labels[mimic] == 0).all()
    assert dice(labels == 2, sitk.GetArrayFromImage(truth) == 2) > 0.75


def test_a_lesion_at_the_capsule_that_the_liver_network_left_out_is_lost_as_printed_and_kept_repaired(
    ellipsoid_scan: EllipsoidScan,
) -> None:
    scan, truth = ellipsoid_scan((60, 60, 40), (3, 3, 3), lesions=[((54, 0, 0), 10.0)])  # the liver ends at 54 mm
    lesion = sitk.GetArrayFromImage(truth) == 2
    recall = {}
    for variant in ("as_printed", "repaired"):
        labels = labels_of(outcome(bright(scan, truth), recipe(variant), between(5, 135))[0], scan)
        recall[variant] = (labels[lesion] == 2).mean()
    assert recall["as_printed"] < 0.2
    assert recall["repaired"] > 0.6


def test_a_liver_in_two_parts_keeps_the_smaller_one_only_in_the_repaired_recipe(ellipsoid_scan: EllipsoidScan) -> None:
    scan, _ = ellipsoid_scan((60, 60, 40), (3, 3, 3), lesions=[])
    scan = painted(scan, (slice(None), slice(None), slice(34, 37)), FAT)  # 9 mm of fat through the liver
    parts = {}
    for variant in ("as_printed", "repaired"):
        labels = labels_of(outcome(scan, recipe(variant), tumour=never)[0], scan)
        parts[variant] = [bool(labels[20, 30, i]) for i in (25, 40)]
    assert parts == {"as_printed": [True, False], "repaired": [True, True]}


def test_without_a_liver_in_the_body_s_box_the_whole_scan_is_searched_and_the_result_is_empty(
    ellipsoid_scan: EllipsoidScan,
) -> None:
    scan, _ = ellipsoid_scan((80, 80, 30), (4, 4, 4))
    with pytest.warns(LiverTumorSegWarning, match="no liver was found in the body's box; the whole scan was searched"):
        found, first, second = outcome(scan, recipe(), liver=never)
    assert labels_of(found, scan).max() == 0
    assert len(first.sizes) > 1
    assert second.sizes == []


def test_a_liver_outside_of_what_was_taken_for_the_body_is_found_in_the_whole_scan() -> None:
    volume = np.full((30, 60, 80), -1000, np.int16)
    volume[3:27, 5:55, 4:44] = FAT  # the largest thing, and no body
    volume[8:22, 15:45, 54:76] = LIVER
    scan = sitk.GetImageFromArray(volume)
    scan.SetSpacing((4.0, 4.0, 5.0))
    with pytest.warns(LiverTumorSegWarning, match="no liver was found in the body's box; the whole scan was searched"):
        found, _, _ = outcome(scan, recipe(), tumour=never)
    assert dice(labels_of(found, scan) == 1, volume == LIVER) > 0.9


def test_without_a_body_the_liver_is_searched_in_all_of_the_scan() -> None:
    air = sitk.GetImageFromArray(np.random.default_rng(0).normal(-950, 20, (12, 40, 40)).astype(np.float32))
    air.SetSpacing((4.0, 4.0, 6.0))
    with pytest.warns(LiverTumorSegWarning, match="no body was found in this scan"):
        found, _, second = outcome(air, recipe())
    assert found.details["body_size_voxels"] == [40, 40, 12]
    assert labels_of(found, air).max() == 0
    assert second.sizes == []


def test_other_stages_than_a_liver_s_and_a_tumour_s_are_refused(ellipsoid_scan: EllipsoidScan) -> None:
    own = recipe()
    single = dataclasses.replace(own, stages=own.stages[:1], training=own.training[:1])
    networks = Networks(single, {"liver": ByRule(never)})
    with pytest.raises(RecipeError, match="wanted sigmoid of liver; sigmoid of tumour for a body cascade, got sigmoid"):
        run(Study(ellipsoid_scan()[0], {}, "CT"), networks)


def painted(scan: sitk.Image, place: tuple[slice, ...], hu: float) -> sitk.Image:
    """Return the scan with a box (k, j, i) of its body in another grey value."""
    volume = sitk.GetArrayFromImage(scan)
    part = volume[place]
    part[part > -500] = hu
    image = sitk.GetImageFromArray(volume)
    image.CopyInformation(scan)
    return image


def test_the_shipped_recipes_say_what_the_paper_says() -> None:
    own = shipped("as_printed")
    for stage, training in zip(own.stages, own.training, strict=True):
        assert stage.grid.axes is not None
        assert [(axis.times_own, axis.spacing_mm) for axis in stage.grid.axes] == [
            (2.0, None),
            (2.0, None),
            (None, 1.0),
        ]
        assert (stage.intensity.ct_clip_hu, stage.intensity.scale) == ((-200.0, 200.0), "symmetric")
        assert stage.arguments["features"] == [16, 32, 64, 128, 256]
        assert stage.window is not None
        assert (stage.window[2], stage.overlap * stage.window[2]) == (48, 24)
        assert (training.loss, training.deep_supervision, training.deep_supervision_decay) == ("dice_bce", 0.4, 0.8)
        rate = (training.optimiser, training.learning_rate, training.schedule, training.schedule_epochs)
        assert (*rate, training.schedule_factor) == ("adam", 1e-4, "step", 30, 0.8)
        assert not training.hand_over
    assert own.postprocessing.keep_liver_above == 1.0


def test_as_printed_and_repaired_differ_in_what_the_paper_leaves_open_or_gets_wrong() -> None:
    printed, repaired = shipped("as_printed"), shipped("repaired")
    same = dataclasses.replace(
        repaired,
        name=printed.name,
        variant="as_printed",
        crop=printed.crop,  # 10 mm around the liver for its capsule
        postprocessing=printed.postprocessing,  # parts of a liver, its holes, its capsule
        training=printed.training,
        stages=tuple(
            dataclasses.replace(stage, arguments={**stage.arguments, "norm": "batch"}) for stage in repaired.stages
        ),
    )
    assert same == printed
    for one, other in zip(printed.training, repaired.training, strict=True):
        left_open = {"patience": one.patience, "augmentation": one.augmentation, "sampling": one.sampling}
        assert dataclasses.replace(other, **left_open) == one
