"""The measures against code that nobody here wrote, on random pairs of masks; every known difference is a test.

Where two definitions are the same the numbers agree to 1e-6. SimpleITK and MONAI are always there, MedPy and
surface-distance in the extra `test`. seg-metrics and panoptica are not: they bring some twenty packages that nothing
else here needs, and the second does not go with our pins. Their tests run where they are installed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import SimpleITK as sitk

from LiverTumorSegLib.evaluation import metrics
from LiverTumorSegLib.evaluation.scores import score_masks
from LiverTumorSegLib.evaluation.surfaces import border, hd95, surface_distances
from LiverTumorSegLib.lesions import label_components
from LiverTumorSegLib.matching import match_lesions

Pair = tuple[np.ndarray, np.ndarray, tuple[float, float, float]]
COUNTS = (pytest.param(30, id="30 pairs"), pytest.param(200, id="200 pairs", marks=pytest.mark.slow))
pytestmark = pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")  # what others import of SciPy
many = pytest.mark.parametrize("count", COUNTS)


def random_pairs(count: int) -> Iterator[Pair]:
    """Yield blobs and their disturbed copies on anisotropic grids, (k, j, i) with spacings in mm."""
    for seed in range(count):
        rng = np.random.default_rng([5, seed])
        size = rng.integers(9, 22, 3)
        spacing = tuple(float(s) for s in rng.uniform(0.6, 3.0, 3).round(2))
        field = sitk.GetArrayFromImage(
            sitk.SmoothingRecursiveGaussian(sitk.GetImageFromArray(rng.normal(size=size)), rng.uniform(0.8, 2))
        )
        other = field + rng.uniform(0.1, 0.8) * field.std() * rng.normal(size=size)
        level = np.quantile(field, rng.uniform(0.6, 0.95))
        yield field > level, other > level, (spacing[0], spacing[1], spacing[2])


def close(value: float) -> object:
    return pytest.approx(value, rel=1e-6, abs=1e-6, nan_ok=True)


@many
def test_simpleitk_counts_the_same_overlap(count: int) -> None:
    for reference, prediction, _ in random_pairs(count):
        overlap = sitk.LabelOverlapMeasuresImageFilter()
        # ITK divides by its target's volume, so the reference comes second.
        overlap.Execute(*(sitk.GetImageFromArray(m.astype(np.uint8)) for m in (prediction, reference)))
        assert overlap.GetDiceCoefficient() == close(metrics.dice(reference, prediction))
        assert overlap.GetJaccardCoefficient() == close(metrics.jaccard(reference, prediction))
        assert overlap.GetFalseNegativeError() == close(1 - metrics.sensitivity(reference, prediction))


def test_simpleitk_measures_volume_similarity_with_its_sign_and_twice_as_large() -> None:
    for reference, prediction, _ in random_pairs(10):
        overlap = sitk.LabelOverlapMeasuresImageFilter()
        overlap.Execute(*(sitk.GetImageFromArray(m.astype(np.uint8)) for m in (prediction, reference)))
        ours = metrics.volume_similarity(reference, prediction)
        assert 1 - abs(overlap.GetVolumeSimilarity()) / 2 == close(ours)


def test_simpleitk_takes_the_hausdorff_distance_of_volumes_where_ours_is_of_surfaces() -> None:
    shell = np.ones((9, 9, 9), bool)
    hollow = shell.copy()
    hollow[2:7, 2:7, 2:7] = False
    theirs = sitk.HausdorffDistanceImageFilter()
    theirs.Execute(*(sitk.GetImageFromArray(m.astype(np.uint8)) for m in (shell, hollow)))
    assert theirs.GetHausdorffDistance() == pytest.approx(3)  # the middle voxel to the hollow's wall
    assert surface_distances(shell, hollow, (1, 1, 1)).hausdorff == pytest.approx(1)  # that wall to the outside


@many
def test_monai_agrees_on_every_distance_between_6_neighbour_borders(count: int) -> None:
    torch, monai = pytest.importorskip("torch"), pytest.importorskip("monai.metrics")
    for reference, prediction, spacing in random_pairs(count):
        ours = surface_distances(reference, prediction, spacing, connectivity=6)
        pair = [torch.from_numpy(m[None, None].astype(np.float32)) for m in (prediction, reference)]
        same = {"include_background": True, "spacing": spacing}
        distance = monai.compute_average_surface_distance(*pair, symmetric=True, **same)
        assert float(distance) == close(ours.assd)
        assert float(monai.compute_hausdorff_distance(*pair, **same)) == close(ours.hausdorff)
        # MONAI interpolates between two distances in single precision.
        percentile = float(monai.compute_hausdorff_distance(*pair, percentile=95, **same))
        assert percentile == pytest.approx(ours.hd95, rel=1e-5)
        shares = monai.compute_surface_dice(*pair, [2.0], **same)
        assert float(shares) == close(ours.nsd(2.0))


def test_monai_borders_are_thinner_so_its_distances_are_larger_than_ours_on_balls() -> None:
    k, j, i = np.indices((25, 25, 25)) - 12
    distance = np.sqrt(k * k + j * j + i * i)
    ours, theirs = (surface_distances(distance <= 10, distance <= 7, (1, 1, 1), c).assd for c in (18, 6))
    assert border(distance <= 10, 6).sum() < border(distance <= 10, 18).sum()
    assert ours < theirs


@many
def test_medpy_agrees_on_overlap_and_on_distances_between_18_neighbour_borders(count: int) -> None:
    medpy = pytest.importorskip("medpy.metric.binary", reason="needs medpy, of the extra test")
    for reference, prediction, spacing in random_pairs(count):
        assert medpy.dc(prediction, reference) == close(metrics.dice(reference, prediction))
        assert medpy.jc(prediction, reference) == close(metrics.jaccard(reference, prediction))
        assert medpy.precision(prediction, reference) == close(metrics.precision(reference, prediction))
        assert medpy.recall(prediction, reference) == close(metrics.sensitivity(reference, prediction))
        volumes = metrics.relative_volume_difference(reference, prediction)
        assert medpy.ravd(prediction, reference) == close(volumes)
        ours = surface_distances(reference, prediction, spacing)
        assert medpy.hd(prediction, reference, spacing, connectivity=2) == close(ours.hausdorff)
        assert medpy.assd(prediction, reference, spacing, connectivity=2) == close(ours.assd)


def test_medpy_takes_hd95_of_all_distances_where_ours_is_the_larger_of_the_two_directions() -> None:
    medpy = pytest.importorskip("medpy.metric.binary", reason="needs medpy, of the extra test")
    for reference, prediction, spacing in random_pairs(10):
        ours = surface_distances(reference, prediction, spacing)
        pooled = np.concatenate([ours.from_reference, ours.from_prediction])
        theirs = medpy.hd95(prediction, reference, spacing, connectivity=2)
        assert theirs == close(float(np.percentile(pooled, 95)))
        assert theirs <= hd95(reference, prediction, spacing) + 1e-6


@many
def test_seg_metrics_agrees_on_overlap(count: int) -> None:
    theirs = pytest.importorskip("seg_metrics.seg_metrics", reason="needs seg-metrics, which is installed apart")
    for reference, prediction, spacing in random_pairs(count):
        images = {"gdth_img": reference.astype(np.uint8), "pred_img": prediction.astype(np.uint8)}
        (found,) = theirs.write_metrics(labels=[1], csv_file=None, spacing=spacing, verbose=False, **images)
        assert found["dice"][0] == close(metrics.dice(reference, prediction))
        assert found["jaccard"][0] == close(metrics.jaccard(reference, prediction))
        assert found["precision"][0] == close(metrics.precision(reference, prediction))
        assert found["recall"][0] == close(metrics.sensitivity(reference, prediction))
        # Its volume similarity is the difference itself, signed and by half of the sum.
        volumes = int(prediction.sum()), int(reference.sum())
        assert found["vs"][0] == close(2 * (volumes[0] - volumes[1]) / sum(volumes))


@many
def test_panoptica_agrees_on_dice(count: int) -> None:
    theirs = pytest.importorskip("panoptica.metrics", reason="needs panoptica, which is installed apart")
    for reference, prediction, _ in random_pairs(count):
        found = theirs.Metric.DSC(reference_arr=reference, prediction_arr=prediction)
        assert found == close(metrics.dice(reference, prediction))


@many
def test_surface_distance_agrees_on_dice_and_is_near_on_the_hausdorff_distance(count: int) -> None:
    package = pytest.importorskip("surface_distance", reason="needs surface-distance, of the extra test")
    for reference, prediction, spacing in random_pairs(count):
        assert package.compute_dice_coefficient(reference, prediction) == close(metrics.dice(reference, prediction))
        theirs = package.compute_surface_distances(reference, prediction, spacing)
        farthest = package.compute_robust_hausdorff(theirs, 100)
        # Its surface runs between voxel centres: at most half a voxel's diagonal from ours, at either end.
        reach = float(np.linalg.norm(spacing))
        assert farthest == pytest.approx(surface_distances(reference, prediction, spacing).hausdorff, abs=reach)


def test_surface_distance_weighs_surface_elements_by_area_so_its_nsd_differs_from_ours() -> None:
    package = pytest.importorskip("surface_distance", reason="needs surface-distance, of the extra test")
    slab, higher = np.zeros((8, 12, 12), bool), np.zeros((8, 12, 12), bool)
    slab[2:4, 2:10, 2:10] = True
    higher[2:6, 2:10, 2:10] = True
    theirs = package.compute_surface_dice_at_tolerance(package.compute_surface_distances(slab, higher, (2, 1, 1)), 1.0)
    # Border voxels: the slab's two slices of 64; of the higher one 64, two rims of 28 and 64. Slices are 2 mm apart, so
    # within 1 mm are: the slab's first slice, and of its second the rim and, 1 mm from it, the next 20; of the higher
    # one the first slice and the first rim.
    ours = surface_distances(slab, higher, (2, 1, 1)).nsd(1.0)
    assert ours == pytest.approx((64 + 28 + 20 + 64 + 28) / (128 + 184))
    assert theirs != pytest.approx(ours, abs=1e-2)


@many
def test_itk_agrees_on_distances_between_26_neighbour_borders_away_from_the_edge(count: int) -> None:
    for pair in random_pairs(count):
        reference, prediction = (np.pad(mask, 2) for mask in pair[:2])
        ours = surface_distances(reference, prediction, pair[2], connectivity=26)
        # ITK's distances are of single precision.
        assert itk_distances(reference, prediction, pair[2]) == pytest.approx((ours.hausdorff, ours.assd), abs=1e-5)


def test_itk_has_no_border_at_the_volumes_edge_where_ours_has() -> None:
    half, quarter = np.zeros((8, 8, 8), bool), np.zeros((8, 8, 8), bool)
    half[:4], quarter[:2] = True, True
    assert itk_distances(half, quarter, (1, 1, 1)) == pytest.approx((2, 2))
    assert surface_distances(half, quarter, (1, 1, 1), connectivity=26).assd < 2


def itk_distances(reference: np.ndarray, prediction: np.ndarray, spacing: tuple[float, ...]) -> tuple[float, float]:
    """Return the Hausdorff and the mean distance between ITK's contours by its distance maps."""
    borders, distances = [], []
    for mask in (reference, prediction):
        image = sitk.GetImageFromArray(mask.astype(np.uint8))
        image.SetSpacing([float(step) for step in spacing[::-1]])
        contour = sitk.LabelContour(image, fullyConnected=True)
        borders.append(sitk.GetArrayFromImage(contour) > 0)
        signed = sitk.SignedMaurerDistanceMap(contour, squaredDistance=False, useImageSpacing=True)
        distances.append(abs(sitk.GetArrayFromImage(signed)))
    found = np.concatenate([distances[1][borders[0]], distances[0][borders[1]]])
    return float(found.max()), float(found.mean(dtype=np.float64))


@many
def test_monai_finds_the_same_lesions_at_an_iou_above_a_half(count: int) -> None:
    torch, monai = pytest.importorskip("torch"), pytest.importorskip("monai.metrics")
    for reference, prediction, _ in random_pairs(count):
        instances = [torch.from_numpy(label_components(m)[0].astype(np.int64)) for m in (prediction, reference)]
        found, false, missed, _ = monai.compute_panoptic_quality(*instances, output_confusion_matrix=True).tolist()
        ours = match_lesions(reference, prediction, "iou")
        assert (found, false, missed) == (len(ours.found), len(ours.false_positives), len(ours.missed))


def test_the_box_around_both_masks_changes_no_number() -> None:
    for reference, prediction, spacing in random_pairs(5):
        wide = [np.pad(mask, ((3, 5), (0, 4), (7, 1))) for mask in (reference, prediction)]
        tight, loose = score_masks(reference, prediction, spacing), score_masks(*wide, spacing)
        assert loose.values == pytest.approx(tight.values)
