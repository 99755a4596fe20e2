"""A label map -> its lesions: connected components with volume, diameters and place.

A lesion is a 6-connected component of label 2 (LiTS; S3's seg2det is the same rule). Arrays are (k, j, i).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import SimpleITK as sitk

from .diameters import axial_diameters_mm, longest_diameter_mm
from .errors import ImageError
from .geometry import axes_towards_lps

TUMOUR = 2
Slices = tuple[slice, ...]


@dataclass(frozen=True)
class Lesion:
    """One lesion, measured; its diameters are distances between surface points, see `diameters`.

    Axial slices run across the array's axis that is nearest to the patient's head-foot axis; in a sagittal or
    coronal scan that is not the k axis, and in an oblique scan they are tilted as the scan is.

    Attributes:
        id: 1, 2, ...: the largest lesion first; ties by position in the array.
        voxels: how many voxels it has.
        volume_ml: the same in millilitres.
        long_axis_mm: the largest distance between two of its surface points.
        axial_long_axis_mm: the largest distance between two points of its outline within one axial slice (RECIST 1.1).
        axial_perpendicular_mm: the outline's extent across that line in the same slice (WHO's second diameter).
        axial_slice: index of that slice along the scan's head-foot axis, from 0.
        centroid_ras_mm: mean position of its voxels, RAS millimetres (Slicer's frame).
        mean_intensity: mean of the scan over its voxels (HU in CT), or None without a scan there.
        mean_probability: mean of the tumour's probability over its voxels, or None where there is none.
        type: what sort of lesion it is, or "" where nothing says so.
        type_score: how sure that is, 0 to 1, or None.
    """

    id: int
    voxels: int
    volume_ml: float
    long_axis_mm: float
    axial_long_axis_mm: float
    axial_perpendicular_mm: float
    axial_slice: int
    centroid_ras_mm: tuple[float, float, float]
    mean_intensity: float | None = None
    mean_probability: float | None = None
    type: str = ""
    type_score: float | None = None


@dataclass(frozen=True)
class LesionKind:
    """What sort of lesion a system takes one for.

    Attributes:
        name: of the sort, as the recipe calls it.
        score: how sure the system is, 0 to 1.
        place_ras_mm: a place inside the lesion, RAS millimetres (Slicer's frame), by which it is found again among the
            lesions of a label map.
    """

    name: str
    score: float
    place_ras_mm: tuple[float, float, float]


def label_components(mask: np.ndarray, connectivity: Literal[6, 18, 26] = 6) -> tuple[np.ndarray, int]:
    """Number the connected components of a mask.

    Args:
        mask: (k, j, i), bool.
        connectivity: neighbours of a voxel that belong to it.

    Returns:
        (k, j, i) unsigned integers, 0 outside and 1..n inside in the order of the first voxel, and n.
    """
    components = np.zeros(mask.shape, np.uint32)
    box = bounding_slices(mask)
    if box is None:
        return components, 0
    components[box], count = _label(mask[box], connectivity)
    return components, count


def iterate_components(mask: np.ndarray) -> Iterator[tuple[Slices, np.ndarray]]:
    """The 6-connected components, largest first, ties by position: each one's box and its (k, j, i) mask there."""
    outer = bounding_slices(mask)
    if outer is None:
        return
    import cc3d

    components, count = _label(mask[outer])
    numbers = cc3d.statistics(components)
    # A stable sort keeps the order of position among equals.
    for number in 1 + np.argsort(-numbers["voxel_counts"][1 : count + 1].astype(np.int64), kind="stable"):
        inner = tuple(numbers["bounding_boxes"][number])
        box = tuple(slice(int(o.start + s.start), int(o.start + s.stop)) for o, s in zip(outer, inner, strict=True))
        yield box, components[inner] == number


def find_lesions(
    labels: sitk.Image,
    image: sitk.Image | None = None,
    probability: sitk.Image | None = None,
    kinds: Sequence[LesionKind] = (),
) -> list[Lesion]:
    """Measure every 6-connected component of label 2.

    Args:
        labels: 0 background, 1 liver, 2 tumour.
        image: the scan, on the same grid; voxels where it is NaN do not count in a lesion's mean.
        probability: of tumour, on any grid in the same space; interpolated linearly. Voxels of a lesion that lie
            outside that grid do not count in its mean.

        kinds: of lesions at places in the labels' space; where several lie in one lesion, the first one counts.

    Returns:
        The lesions, largest first.

    Raises:
        ImageError: the scan's size is not that of the labels.
    """
    if image is not None and image.GetSize() != labels.GetSize():
        raise ImageError(f"lesions: wanted a scan of {labels.GetSize()} voxels like the labels, got {image.GetSize()}")
    tumour = sitk.GetArrayViewFromImage(labels) == TUMOUR
    places = [(_voxel(labels, kind.place_ras_mm), kind) for kind in kinds]
    return [
        _typed(_measure(number, box, mask, labels, image, probability), places, box, mask)
        for number, (box, mask) in enumerate(iterate_components(tumour), 1)
    ]


def _voxel(labels: sitk.Image, place_ras_mm: tuple[float, float, float]) -> tuple[int, ...]:
    """The voxel (k, j, i) at a place, which may lie outside."""
    right, anterior, superior = place_ras_mm
    return tuple(labels.TransformPhysicalPointToIndex((-right, -anterior, superior))[::-1])


def _typed(
    lesion: Lesion, places: Sequence[tuple[tuple[int, ...], LesionKind]], box: Slices, mask: np.ndarray
) -> Lesion:
    """The lesion with the first kind whose place lies in it."""
    for voxel, kind in places:
        inner = tuple(n - edge.start for n, edge in zip(voxel, box, strict=True))
        if all(0 <= n < length for n, length in zip(inner, mask.shape, strict=True)) and mask[inner]:
            return replace(lesion, type=kind.name, type_score=kind.score)
    return lesion


def has_types(lesions: Sequence[Lesion]) -> bool:
    """Whether any lesion has a type, so that there is something to show of them."""
    return any(lesion.type for lesion in lesions)


def bounding_slices(mask: np.ndarray) -> Slices | None:
    """The smallest box around a mask's True voxels, or None for an empty mask."""
    box: list[slice] = []
    for axis in range(mask.ndim):
        inside = mask[tuple(box)]
        places = np.flatnonzero(inside.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if places.size == 0:
            return None
        box.append(slice(int(places[0]), int(places[-1]) + 1))
    return tuple(box)


def _label(mask: np.ndarray, connectivity: Literal[6, 18, 26] = 6) -> tuple[np.ndarray, int]:
    import cc3d

    components, count = cc3d.connected_components(np.ascontiguousarray(mask), connectivity=connectivity, return_N=True)
    return np.asarray(components), int(count)


def _measure(
    number: int,
    box: Slices,
    mask: np.ndarray,
    labels: sitk.Image,
    image: sitk.Image | None,
    probability: sitk.Image | None,
) -> Lesion:
    spacing = np.array(labels.GetSpacing()[::-1])
    axial_axis = 2 - axes_towards_lps(labels)[0][2]
    voxels = int(np.count_nonzero(mask))
    long_axis, perpendicular, level = axial_diameters_mm(mask, spacing, axial_axis)
    place = [float(np.mean(p)) + s.start for p, s in zip(np.nonzero(mask), box, strict=True)]
    left, back, up = labels.TransformContinuousIndexToPhysicalPoint(place[::-1])
    start, size = [s.start for s in box[::-1]], mask.shape[::-1]
    mean_intensity = mean_probability = None
    if image is not None:
        region = sitk.GetArrayFromImage(sitk.RegionOfInterest(image, size, start))
        mean_intensity = _mean_of(region[mask])
    if probability is not None:
        mean_probability = _mean_within(probability, sitk.RegionOfInterest(labels, size, start), mask)
    return Lesion(
        id=number,
        voxels=voxels,
        volume_ml=float(voxels * spacing.prod() / 1000.0),
        long_axis_mm=longest_diameter_mm(mask, spacing),
        axial_long_axis_mm=long_axis,
        axial_perpendicular_mm=perpendicular,
        axial_slice=box[axial_axis].start + level,
        centroid_ras_mm=(-left, -back, up),
        mean_intensity=mean_intensity,
        mean_probability=mean_probability,
    )


def _mean_within(probability: sitk.Image, region: sitk.Image, mask: np.ndarray) -> float | None:
    sampled = sitk.Resample(probability, region, sitk.Transform(), sitk.sitkLinear, float("nan"), sitk.sitkFloat32)
    return _mean_of(sitk.GetArrayFromImage(sampled)[mask])


def _mean_of(values: np.ndarray) -> float | None:
    """The mean of the finite ones; None where there is none."""
    values = values[np.isfinite(values)]
    return float(values.mean(dtype=np.float64)) if values.size else None
