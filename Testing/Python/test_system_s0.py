"""S0's system: liver, coarse lesions, small ones found and refined, fused; with networks that answer by rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from conftest import EllipsoidScan
from LiverTumorSegLib.errors import LiverTumorSegWarning, RecipeError
from LiverTumorSegLib.geometry import GridGeometry
from LiverTumorSegLib.matching import match_lesions
from LiverTumorSegLib.recipe import Axis, Grid, Postprocessing, Recipe, load_recipe
from LiverTumorSegLib.resources import resource_path
from LiverTumorSegLib.systems import Outcome
from LiverTumorSegLib.systems.coarse_to_fine import find_roles, fuse, run
from LiverTumorSegLib.systems.maps import NEVER
from LiverTumorSegLib.systems.stages import Networks, Study

Rule = Callable[[np.ndarray], np.ndarray]
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
SMALL = ((-20.0, -15.0, 0.0), 6.0)
LARGE = ((18.0, 8.0, 5.0), 18.0)


class ByRule:
    """A network whose logits (classes, k, j, i) are a rule for what it sees; it notes the shapes that it was asked."""

    name, device, precision = "rule", "cpu", "f32"

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, array: np.ndarray) -> np.ndarray:
        self.shapes.append(array.shape[1:])
        return self.rule(array[0])[None].astype(np.float32)

    def move_to_cpu(self) -> None: ...


def drawn(ellipsoid_scan: EllipsoidScan, *lesions: Any, **how: Any) -> tuple[sitk.Image, np.ndarray]:
    """A scan whose liver lies in something bright, so that no border between them looks like a tumour; its labels."""
    scan, truth = ellipsoid_scan(lesions=lesions, **how)
    labels = sitk.GetArrayFromImage(truth)
    image = sitk.GetImageFromArray(np.where(labels == 0, 220, sitk.GetArrayFromImage(scan)).astype(np.int16))
    image.CopyInformation(scan)
    return image, labels


def hounsfield(channels: np.ndarray) -> np.ndarray:
    """The middle slice's values, from the recipe's -100 to 250 HU on 0 to 1."""
    return channels[len(channels) // 2] * 350 - 100


def yes(where: np.ndarray) -> np.ndarray:
    return np.where(where, 6.0, -6.0)[None]


def sees_liver(channels: np.ndarray) -> np.ndarray:
    grey = hounsfield(channels)
    return yes((grey > 30) & (grey < 165))


def sees_tumours(channels: np.ndarray) -> np.ndarray:
    grey = hounsfield(channels)
    return yes((grey > 40) & (grey < 85))


def sees_nothing(channels: np.ndarray) -> np.ndarray:
    return yes(np.zeros(channels.shape[1:], bool))


def finds_nothing(channels: np.ndarray) -> np.ndarray:
    """As a detector: two classes, and seven numbers for a finding at every voxel that is hardly one."""
    return np.full((9, *channels.shape[1:]), -9.0)


def doubts_tumours(channels: np.ndarray) -> np.ndarray:
    """Tumours with a probability of 0.3, which no vote but a scaled one finds."""
    return np.where(sees_tumours(channels) > 0, np.log(3 / 7), -6.0)


def recipe(variant: str = "repaired", **options: Any) -> Recipe:
    """The shipped recipe on voxels of 3 mm in plane, with boxes of 16 voxels."""
    shipped = load_recipe(resource_path("Recipes", f"s0_csr_unet_{variant}.json"))
    plane = Axis(spacing_mm=3.0, multiple_of=8)
    flat, cubes = Grid(axes=(plane, plane, Axis(times_own=1.0))), Grid(spacing_mm=3.0, multiple_of=8)
    stages = []
    for stage in shipped.stages:
        grid = flat if stage.context_slices == 5 else cubes
        stages.append(dataclasses.replace(stage, grid=grid, window=None))
    assert shipped.coarse_to_fine is not None
    changed = dataclasses.replace(shipped.coarse_to_fine, box=(16, 16, 5), **options)
    return dataclasses.replace(shipped, stages=tuple(stages), coarse_to_fine=changed)


def outcome(
    scan: sitk.Image,
    used: Recipe | None = None,
    liver: Rule = sees_liver,
    coarse: Rule = sees_tumours,
    fine: Rule = sees_tumours,
    detector: Rule | None = None,
    modality: str = "CT",
) -> tuple[Outcome, np.ndarray, ByRule]:
    """What the system says of a scan, its labels on the scan's grid, and the fine network."""
    rules = {"liver": liver, "coarse": coarse, "fine": fine, **({"detector": detector} if detector else {})}
    engines = {name: ByRule(rule) for name, rule in rules.items()}
    found = run(Study(scan, {}, modality), Networks(used or recipe(), engines))
    return found, sitk.GetArrayFromImage(found.evidence.labels_like(scan)), engines["fine"]


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def test_liver_and_tumours_are_found_on_the_scans_own_grid(ellipsoid_scan: EllipsoidScan) -> None:
    scan, wanted = drawn(ellipsoid_scan, SMALL, LARGE)
    found, labels, fine = outcome(scan)
    assert dice(labels > 0, wanted > 0) > 0.95
    assert dice(labels == 2, wanted == 2) > 0.85
    # Only the small one is looked at again: its slices in boxes of 16 x 16 with five slices each.
    assert found.details == {"detections": 2, "refined": 1}
    ((channels, slices, *plane),) = fine.shapes
    assert (channels, plane) == (5, [16, 16])
    assert 3 <= slices <= 6


def test_a_small_lesion_that_the_coarse_network_doubts_is_found_by_detector_and_fine_network(
    ellipsoid_scan: EllipsoidScan,
) -> None:
    scan, wanted = drawn(ellipsoid_scan, SMALL)
    alone = recipe(detector_factor=1.0)
    _, unrefined, _ = outcome(scan, alone, coarse=doubts_tumours)
    _, refined, _ = outcome(scan, coarse=doubts_tumours)
    assert match_lesions(wanted, unrefined).found == ()
    assert match_lesions(wanted, refined).found == (1,)


def test_a_scaled_vote_makes_no_lesion_more_probable_than_it_is(ellipsoid_scan: EllipsoidScan) -> None:
    # Of odds of 3 to 7, four times as many win the detector's vote; the ellipsoid that fills an empty slice is as sure
    # as the plain probability, 0.3, and loses its own.
    scan, _ = drawn(ellipsoid_scan, SMALL)
    found, labels, _ = outcome(scan, coarse=doubts_tumours, fine=sees_nothing)
    assert found.details == {"detections": 1, "refined": 1}
    assert not (labels == 2).any()


def test_a_lesion_of_30_mm_is_not_refined(ellipsoid_scan: EllipsoidScan) -> None:
    scan, _ = drawn(ellipsoid_scan, LARGE)
    found, labels, fine = outcome(scan, fine=sees_nothing)
    assert found.details == {"detections": 1, "refined": 0}
    assert fine.shapes == []
    assert (labels == 2).any()


def test_without_a_detection_the_liver_alone_is_left(ellipsoid_scan: EllipsoidScan) -> None:
    scan, wanted = drawn(ellipsoid_scan)
    found, labels, fine = outcome(scan)
    assert found.details == {"detections": 0, "refined": 0}
    assert fine.shapes == []
    assert dice(labels == 1, wanted == 1) > 0.95


def test_lesions_of_both_parts_of_a_liver_in_two_parts_are_found() -> None:
    volume = np.full((30, 50, 70), 220, np.int16)
    volume[5:25, 10:40, 5:35] = 110
    volume[10:20, 15:30, 50:62] = 110  # a tenth of the other
    volume[13:17, 20:24, 54:58] = 60
    scan = sitk.GetImageFromArray(volume)
    scan.SetSpacing((3.0, 3.0, 3.0))
    _, labels, _ = outcome(scan)
    assert match_lesions(np.where(volume == 60, 2, 0), labels).found == (1,)
    assert (labels[10:20, 15:30, 50:62] > 0).mean() > 0.9


def test_a_scan_without_a_found_liver_is_searched_whole_with_a_warning(ellipsoid_scan: EllipsoidScan) -> None:
    scan, wanted = drawn(ellipsoid_scan, SMALL)
    with pytest.warns(LiverTumorSegWarning, match="found no liver; the others searched the whole scan"):
        _, labels, _ = outcome(scan, liver=sees_nothing)
    assert match_lesions(wanted, labels).found == (1,)


def test_a_scan_in_which_nothing_is_found_gives_an_empty_answer(ellipsoid_scan: EllipsoidScan) -> None:
    scan, _ = drawn(ellipsoid_scan, SMALL)
    with pytest.warns(LiverTumorSegWarning, match="found no liver"):
        _, labels, _ = outcome(scan, liver=sees_nothing, coarse=sees_nothing)
    assert not labels.any()


@pytest.mark.parametrize(
    ("size", "spacing_mm"),
    [((60, 52, 40), (2.2, 2.6, 3.1)), ((150, 130, 12), (0.9, 0.9, 9.0)), ((33, 31, 29), (4, 4, 4))],
)
def test_any_orientation_size_and_spacing_will_do(
    size: tuple[int, ...], spacing_mm: tuple[float, ...], ellipsoid_scan: EllipsoidScan, oblique: tuple[float, ...]
) -> None:
    scan, wanted = drawn(ellipsoid_scan, ((-8.0, -6.0, 0.0), 9.0), size=size, spacing_mm=spacing_mm, direction=oblique)
    _, labels, _ = outcome(scan)
    assert labels.shape == wanted.shape
    assert dice(labels > 0, wanted > 0) > 0.85
    assert match_lesions(wanted, labels).found == (1,)


def test_an_mr_scan_is_scaled_by_its_percentiles_and_segmented_alike(ellipsoid_scan: EllipsoidScan) -> None:
    scan, wanted = drawn(ellipsoid_scan, ((-10.0, -5.0, 0.0), 12.0))
    magnitude = sitk.Cast(scan + 200, sitk.sitkInt16)  # tumour 260, liver 310, the rest 420

    def below(level: float) -> Rule:
        return lambda channels: yes(channels[len(channels) // 2] < level)

    # Of the whole scan the tumour is too small a share to move the lowest percentile, of the liver's box it is not.
    _, labels, _ = outcome(magnitude, liver=below(0.5), coarse=below(0.15), fine=below(0.15), modality="MR")
    assert dice(labels > 0, wanted > 0) > 0.9
    assert match_lesions(wanted, labels).found == (1,)


def test_retina_u_nets_boxes_are_refined_as_well(ellipsoid_scan: EllipsoidScan) -> None:
    scan, wanted = drawn(ellipsoid_scan, SMALL)

    def proposes(channels: np.ndarray) -> np.ndarray:
        """One sure finding of 6 voxels a side around the middle of what is grey as a tumour."""
        where = np.argwhere(sees_tumours(channels)[0] > 0)
        dense = np.full((9, *channels.shape[1:]), -9.0)
        dense[3:] = 3.0
        k, j, i = (np.round(where.mean(0) / 2) * 2).astype(int)  # every second voxel is asked
        dense[2, k, j, i] = 4.0
        return dense

    used = recipe("as_printed", liver_reach_mm=5.0)
    found, labels, fine = outcome(scan, used, coarse=sees_nothing, detector=proposes)
    assert found.details == {"detections": 1, "refined": 1}
    assert len(fine.shapes) == 1
    assert match_lesions(wanted, labels).found == (1,)


def test_a_finding_that_the_fine_network_leaves_empty_becomes_an_ellipsoid_or_as_printed_a_box(
    ellipsoid_scan: EllipsoidScan,
) -> None:
    scan, _ = drawn(ellipsoid_scan, SMALL, spacing_mm=(3.0, 3.0, 3.0), size=(48, 40, 32))
    sizes = {}
    for how in ("ellipsoid", "box"):
        used = recipe(empty_slices=how, slices_beyond=0)
        found, _, _ = outcome(scan, used, coarse=sees_tumours, fine=sees_nothing)
        sizes[how] = int((found.evidence.tumour > found.evidence.liver).sum())
    found, _, _ = outcome(scan, coarse=sees_tumours, fine=sees_tumours)
    plain = int((found.evidence.tumour > found.evidence.liver).sum())
    # A ball fills pi / 6 of its box; drawn with voxels it is the ellipsoid of its box, give or take a voxel's edge.
    assert sizes["ellipsoid"] == pytest.approx(plain, rel=0.3)
    assert sizes["box"] > 1.4 * plain


def test_a_lesion_under_the_capsule_is_kept_whole_within_the_livers_reach_and_cut_without() -> None:
    liver, tumour = np.full((1, 20, 40), -6.0), np.full((1, 20, 40), -6.0)
    liver[:, :, :20] = 6.0
    tumour[:, 8:12, 17:23] = 6.0  # half of it sticks out of what was seen as liver
    grid = GridGeometry((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), IDENTITY, (40, 20, 1))
    never = np.full(liver.shape, NEVER)
    sizes = {}
    for reach in (0.0, 2.0, 5.0):
        evidence = fuse(liver, tumour, never, grid, Postprocessing(), reach)
        sizes[reach] = int((evidence.tumour > np.maximum(evidence.liver, 0)).sum())
    assert sizes == {0.0: 4 * 3, 2.0: 4 * 5, 5.0: 4 * 6}


def test_a_lesion_that_is_a_hole_in_the_liver_is_kept() -> None:
    liver, tumour = np.full((25, 25, 25), 6.0), np.full((25, 25, 25), -6.0)
    liver[5:20, 5:20, 5:20] = -6.0
    tumour[5:20, 5:20, 5:20] = 6.0
    grid = GridGeometry((0.0, 0.0, 0.0), (2.0, 2.0, 2.0), IDENTITY, (25, 25, 25))
    evidence = fuse(liver, tumour, np.full(liver.shape, NEVER), grid, Postprocessing(), 5.0)
    assert int((evidence.tumour > np.maximum(evidence.liver, 0)).sum()) == 15**3


def test_fusion_keeps_what_either_network_saw() -> None:
    liver = np.full((1, 1, 4), 6.0)
    coarse, refined = np.array([[[6.0, 6.0, -6.0, -6.0]]]), np.array([[[-6.0, 6.0, 6.0, NEVER]]])
    grid = GridGeometry((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), IDENTITY, (4, 1, 1))
    evidence = fuse(liver, coarse, refined, grid, Postprocessing(), 5.0)
    assert (evidence.tumour > evidence.liver)[0, 0].tolist() == [True, True, True, False]


@pytest.mark.parametrize("variant", ["as_printed", "repaired"])
def test_the_shipped_recipes_have_the_papers_numbers(variant: str) -> None:
    shipped = load_recipe(resource_path("Recipes", f"s0_csr_unet_{variant}.json"))
    options, training = (
        shipped.coarse_to_fine,
        dict(zip([s.name for s in shipped.stages], shipped.training, strict=True)),
    )
    assert options is not None
    assert (options.box, options.small_lesion_mm) == ((64, 64, 5), 30.0)
    assert {(each.learning_rate, each.schedule, each.epochs, each.augmentation) for each in training.values()} == {
        (0.001, "cosine", 300, "s0")
    }
    assert (training["liver"].patch, training["liver"].batch_size) == ((512, 512, 1), 16)
    assert training["coarse"].patch == (192, 192, 80)
    assert training["fine"].patch == (64, 64, 1)
    assert {training[name].loss for name in ("liver", "coarse", "fine")} == {"focal_tversky"}
    assert find_roles(shipped).detector == ("detector" if variant == "as_printed" else None)


@pytest.mark.parametrize(
    ("stage", "changes", "message"),
    [
        ("fine", {"region": "liver"}, "wanted one with region 'liver' and task 'segment' as S0's coarse, got 2"),
        ("coarse", {"classes": ("liver",)}, "wanted sigmoid of tumour from coarse, got sigmoid of liver"),
        ("fine", {"context_slices": 3, "arguments": {"in_channels": 3, "out_channels": 1}}, "wanted 5 context_slices"),
    ],
)
def test_a_recipe_that_is_no_s0_is_refused(stage: str, changes: dict[str, Any], message: str) -> None:
    shipped = recipe()
    stages = tuple(dataclasses.replace(each, **changes) if each.name == stage else each for each in shipped.stages)
    with pytest.raises(RecipeError, match=message):
        find_roles(dataclasses.replace(shipped, stages=stages))


def test_a_fine_box_that_the_network_cannot_halve_is_refused() -> None:
    shipped = recipe()
    options = dataclasses.replace(shipped.coarse_to_fine, box=(64, 60, 5))
    with pytest.raises(
        RecipeError, match=r"coarse_to_fine.box: wanted multiples of \(8, 8\) as fine does, got 64 × 60"
    ):
        find_roles(dataclasses.replace(shipped, coarse_to_fine=options))


def test_the_faithful_detector_needs_its_stage() -> None:
    with pytest.raises(RecipeError, match="wanted one with region 'liver' and task 'detect' as S0's detector, got 0"):
        find_roles(recipe(detector="retina"))


def test_printed_and_repaired_differ_in_the_detector_the_norm_the_grids_and_the_options_that_say_so() -> None:
    printed, repaired = (
        load_recipe(resource_path("Recipes", f"s0_csr_unet_{variant}.json")) for variant in ("as_printed", "repaired")
    )
    theirs = {stage.name: (stage, training) for stage, training in zip(printed.stages, printed.training, strict=True)}
    ours = {stage.name: (stage, training) for stage, training in zip(repaired.stages, repaired.training, strict=True)}
    assert theirs.keys() - ours.keys() == {"detector"}
    assert ours.keys() <= theirs.keys()
    differing = set()
    for name, (stage, training) in ours.items():
        assert training == theirs[name][1]
        for field in dataclasses.fields(stage):
            if getattr(stage, field.name) != getattr(theirs[name][0], field.name):
                differing.add(f"{name}.{field.name}")
        # Batches of two patches are too small for their own statistics, those of sixteen slices are not.
        assert {**stage.arguments, "norm": "batch"} == theirs[name][0].arguments
    assert differing == {"coarse.arguments", "coarse.grid", "fine.grid"}
    assert (printed.crop, printed.phases) == (repaired.crop, repaired.phases)
    options = [dataclasses.asdict(each.coarse_to_fine) for each in (printed, repaired) if each.coarse_to_fine]
    assert {key for key in options[0] if options[0][key] != options[1][key]} == {
        "detector",
        "empty_slices",
        "slices_beyond",
        "liver_reach_mm",
    }


def test_a_liver_smaller_than_a_training_patch_is_filled_up_to_its_size(ellipsoid_scan: EllipsoidScan) -> None:
    # Channels are weighed by their means over the window, which were learnt on whole patches.
    scan, wanted = drawn(ellipsoid_scan, SMALL)
    plain = recipe("as_printed", liver_reach_mm=5.0)
    rules = {"liver": sees_liver, "coarse": sees_tumours, "detector": finds_nothing, "fine": sees_tumours}
    labels = []
    for window in (None, (56, 48, 40)):
        engines = {name: ByRule(rule) for name, rule in rules.items()}
        stages = tuple(
            dataclasses.replace(stage, window=window if stage.name in ("coarse", "detector") else None)
            for stage in plain.stages
        )
        found = run(Study(scan, {}, "CT"), Networks(dataclasses.replace(plain, stages=stages), engines))
        labels.append(sitk.GetArrayFromImage(found.evidence.labels_like(scan)))
    assert engines["coarse"].shapes == engines["detector"].shapes == [(1, 40, 48, 56)]
    assert match_lesions(wanted, labels[1]).found == (1,)
    np.testing.assert_array_equal(labels[1], labels[0])  # these networks go by single voxels


@pytest.mark.parametrize("variant", ["as_printed", "repaired"])
def test_channels_are_weighed_over_windows_as_large_as_the_training_patches(variant: str) -> None:
    shipped = load_recipe(resource_path("Recipes", f"s0_csr_unet_{variant}.json"))
    for stage, training in zip(shipped.stages, shipped.training, strict=True):
        assert stage.window is not None
        if stage.context_slices == 1:
            assert stage.window == training.patch
        else:  # each slice is weighed for itself
            assert stage.window[:2] == training.patch[:2]
