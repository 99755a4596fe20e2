"""A label map -> its lesions: connected components with volume, diameters and place; matching two sets of them.

A lesion is a 6-connected component of label 2 (LiTS; S3's seg2det is the same rule). Arrays are (k, j, i).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import SimpleITK as sitk

from .errors import ImageError
from .geometry import axes_towards_lps

TUMOUR = 2
Slices = tuple[slice, ...]
Rule = Literal["overlap", "iou", "half"]

# 150 directions spread over a half sphere leave none farther than 10.3 degrees (this cosine) from one of them.
_DIRECTIONS, _NEAREST = 150, 0.984


@dataclass(frozen=True)
class Lesion:
    """One lesion, measured.

    Diameters are distances between surface points: the centres of the voxel faces that separate the lesion from
    the rest, which are the vertices of its marching-cubes mesh (IBSI, maximum 3D diameter, L0JK). A single voxel
    thus reads its longest edge, a row of n voxels n edges, and a digital ball its diameter within about one edge.

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
        mean_intensity: mean of the scan over its voxels (HU in CT), or None without a scan.
        mean_probability: mean of the tumour's probability over its voxels, or None where there is none.
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


@dataclass(frozen=True)
class Matching:
    """Which lesions of a reference were found; the ids number lesions as `find_lesions` does.

    Attributes:
        rule: how "found" was decided, see `match_lesions`.
        found: reference lesions that were found.
        missed: reference lesions that were not.
        true_positives: predicted lesions that are right.
        false_positives: predicted lesions that are not.
    """

    rule: Rule
    found: tuple[int, ...]
    missed: tuple[int, ...]
    true_positives: tuple[int, ...]
    false_positives: tuple[int, ...]

    @property
    def recall(self) -> float:
        """Share of reference lesions that were found; NaN where there are none."""
        return _share(len(self.found), len(self.missed))

    @property
    def precision(self) -> float:
        """Share of predicted lesions that are right; NaN where there are none."""
        return _share(len(self.true_positives), len(self.false_positives))


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
    labels: sitk.Image, image: sitk.Image | None = None, probability: sitk.Image | None = None
) -> list[Lesion]:
    """Measure every 6-connected component of label 2.

    Args:
        labels: 0 background, 1 liver, 2 tumour.
        image: the scan, on the same grid.
        probability: of tumour, on any grid in the same space; interpolated linearly. Voxels of a lesion that lie
            outside that grid do not count in its mean.

    Returns:
        The lesions, largest first.

    Raises:
        ImageError: the scan's size is not that of the labels.
    """
    if image is not None and image.GetSize() != labels.GetSize():
        raise ImageError(f"lesions: wanted a scan of {labels.GetSize()} voxels like the labels, got {image.GetSize()}")
    tumour = sitk.GetArrayFromImage(labels) == TUMOUR
    return [
        _measure(number, box, mask, labels, image, probability)
        for number, (box, mask) in enumerate(iterate_components(tumour), 1)
    ]


def match_lesions(
    reference: sitk.Image | np.ndarray, prediction: sitk.Image | np.ndarray, rule: Rule = "half"
) -> Matching:
    """Compare the lesions of two segmentations of one scan.

    Rules ("found" is said of reference lesions):

    - "overlap": found when one of its voxels is predicted; a predicted lesion is false when it touches none
      (LiTS, detection at overlap > 0).
    - "iou": found when one predicted lesion has intersection over union > 0.5 with it; every other predicted lesion
      is false (LiTS, detection at IoU > 0.5). Above 0.5 no lesion can have two partners, so each counts once.
    - "half": found when at least half of its voxels are predicted, by however many predicted lesions together
      (S1, section 3.3.1). S1 does not say what is false: here, as under "overlap", what touches no lesion.

    A lesion predicted in pieces is found once under "overlap" and "half", and no piece is false; under "iou" at
    most one piece is right. One predicted lesion over several reference lesions finds all that it covers under
    "overlap" and "half", at most one under "iou". A predicted lesion that touches only missed lesions is not false
    under "half". LiTS' released scorer differs on splits and merges (it can charge a split's other pieces as false,
    and a merge can lower its count); with one partner each, the results agree.

    Args:
        reference: label image or integer array in which 2 is tumour, or a bool array, (k, j, i).
        prediction: the same for what is judged.
        rule: see above.

    Raises:
        ValueError: the two are not on the same grid, or an unknown rule.
    """
    if rule not in get_args(Rule):
        raise ValueError(f"rule: wanted one of {', '.join(get_args(Rule))}, got {rule!r}")
    found, right = _decide(rule, *_overlaps(*_same_grid(reference, prediction)))
    return Matching(rule, _ids(found), _ids(~found), _ids(right), _ids(~right))


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
    long_axis, perpendicular, level = _axial_diameters(mask, spacing, axial_axis)
    place = [float(np.mean(p)) + s.start for p, s in zip(np.nonzero(mask), box, strict=True)]
    left, back, up = labels.TransformContinuousIndexToPhysicalPoint(place[::-1])
    start, size = [s.start for s in box[::-1]], mask.shape[::-1]
    mean_intensity = mean_probability = None
    if image is not None:
        region = sitk.GetArrayFromImage(sitk.RegionOfInterest(image, size, start))
        mean_intensity = float(region[mask].mean(dtype=np.float64))
    if probability is not None:
        mean_probability = _mean_within(probability, sitk.RegionOfInterest(labels, size, start), mask)
    return Lesion(
        id=number,
        voxels=voxels,
        volume_ml=float(voxels * spacing.prod() / 1000.0),
        long_axis_mm=_farthest_pair(_surface_points(mask) * spacing)[0],
        axial_long_axis_mm=long_axis,
        axial_perpendicular_mm=perpendicular,
        axial_slice=box[axial_axis].start + level,
        centroid_ras_mm=(-left, -back, up),
        mean_intensity=mean_intensity,
        mean_probability=mean_probability,
    )


def _mean_within(probability: sitk.Image, region: sitk.Image, mask: np.ndarray) -> float | None:
    sampled = sitk.Resample(probability, region, sitk.Transform(), sitk.sitkLinear, float("nan"), sitk.sitkFloat32)
    values = sitk.GetArrayFromImage(sampled)[mask]
    values = values[np.isfinite(values)]
    return float(values.mean(dtype=np.float64)) if values.size else None


def _surface_points(mask: np.ndarray) -> np.ndarray:
    """Centres of the first and last face of every row of voxels along every axis, in voxels: (n, axes).

    No other face's centre can be an end of a diameter: it lies between these two.
    """
    points = []
    for axis in range(mask.ndim):
        rows = np.argwhere(mask.any(axis=axis)).astype(np.float64)
        across = np.moveaxis(mask, axis, -1)[mask.any(axis=axis)]
        first = across.argmax(axis=1) - 0.5
        last = across.shape[1] - across[:, ::-1].argmax(axis=1) - 0.5
        points += [np.insert(rows, axis, end, axis=1) for end in (first, last)]
    return np.concatenate(points)


def _farthest_pair(points: np.ndarray) -> tuple[float, np.ndarray]:
    """The largest distance between two of the points (n, axes), and the unit vector along it; exact.

    A point at distance r from the centre is at most r + r_max from any other, so the search goes inwards from the
    outermost point and ends where that sum falls below the best found.
    """
    ends = points[:1]
    for _ in range(4):  # a good first guess: from each point to the farthest one
        ends = np.concatenate([ends[-1:], points[[_squared(points, ends[-1]).argmax()]]])
    best, centre = float(_squared(ends[:1], ends[1]).item()) ** 0.5, ends.mean(axis=0)
    if len(points) > 2000 and points.shape[1] == 3:
        points = _possible_ends(points, best)
    for step in range(2, 30):  # towards the centre of the smallest ball around them (Badoiu and Clarkson, 2003)
        centre = centre + (points[_squared(points, centre).argmax()] - centre) / step
    inwards = -np.sqrt(_squared(points, centre))
    order = np.argsort(inwards)
    points, inwards = points[order], inwards[order]
    for number, point in enumerate(points):
        # Partners further inwards than this cannot beat the best either.
        count = int(np.searchsorted(inwards, -inwards[number] - best))
        if count <= number:
            break
        distances = _squared(points[number:count], point)
        farthest = int(distances.argmax())
        if distances[farthest] > best * best:
            best, ends = float(distances[farthest]) ** 0.5, np.stack([point, points[number + farthest]])
    return best, (ends[1] - ends[0]) / best


def _possible_ends(points: np.ndarray, best: float) -> np.ndarray:
    """The points (n, 3) that can be ends of a diameter longer than `best`, or nearly so; for speed only.

    The set lies in the ball around one end of its diameter that passes through the other end. So in a direction at
    most `_NEAREST` off the diameter's, that end is nearly the set's outermost point, and the set nearly as wide.
    """
    number = np.arange(_DIRECTIONS) + 0.5
    height = 1 - number / _DIRECTIONS
    turn, radius = number * np.pi * (3 - 5**0.5), np.sqrt(1 - height * height)
    directions = np.stack([radius * np.cos(turn), radius * np.sin(turn), height])  # on a half sphere, golden angle
    heights = (points - points[0]).astype(np.float32) @ directions.astype(np.float32)
    low, high = heights.min(axis=0), heights.max(axis=0)
    rounding = 1e-4 * best
    wide = high - low >= _NEAREST * best - rounding
    slack = (high - low).max() / _NEAREST * (1 - _NEAREST) + rounding
    return points[((heights >= high - slack) | (heights <= low + slack))[:, wide].any(axis=1)]


def _squared(points: np.ndarray, point: np.ndarray) -> np.ndarray:
    away = points - point
    return np.asarray(np.einsum("na,na->n", away, away))


def _axial_diameters(mask: np.ndarray, spacing: np.ndarray, axial_axis: int) -> tuple[float, float, int]:
    """The largest diameter over the axial slices, the extent across it, and the slice's index in the mask."""
    slices = np.moveaxis(mask, axial_axis, 0)
    outlines = [_surface_points(each) * np.delete(spacing, axial_axis) if each.any() else None for each in slices]
    spans = [0.0 if each is None else float(np.hypot(*np.ptp(each, axis=0))) for each in outlines]
    best, direction, level = 0.0, np.zeros(2), 0
    for candidate in np.argsort(-np.array(spans), kind="stable"):
        outline = outlines[candidate]
        if outline is None or spans[candidate] <= best:
            break
        # The corners of an outline's box are farther apart than any two of its points; this is a closer bound.
        middle = (outline.min(axis=0) + outline.max(axis=0)) / 2
        if 2 * float(_squared(outline, middle).max()) ** 0.5 <= best:
            continue
        diameter, along = _farthest_pair(outline)
        if diameter > best:
            best, direction, level = diameter, along, int(candidate)
    across = np.array([-direction[1], direction[0]])
    outline = outlines[level]
    return best, 0.0 if outline is None else float(np.ptp(outline @ across)), level


def _same_grid(
    reference: sitk.Image | np.ndarray, prediction: sitk.Image | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Both as bool (k, j, i) masks of tumour."""
    if isinstance(reference, sitk.Image) and isinstance(prediction, sitk.Image):
        for name in ("Origin", "Spacing", "Direction"):
            wanted, got = (getattr(each, f"Get{name}")() for each in (reference, prediction))
            if not np.allclose(wanted, got, atol=1e-3):
                raise ValueError(f"prediction: wanted the reference's {name.lower()} {wanted}, got {got}")
    masks = [_tumour_mask(each) for each in (reference, prediction)]
    if masks[0].shape != masks[1].shape:
        raise ValueError(f"prediction: wanted the reference's shape {masks[0].shape}, got {masks[1].shape}")
    return masks[0], masks[1]


def _tumour_mask(segmentation: sitk.Image | np.ndarray) -> np.ndarray:
    array = sitk.GetArrayFromImage(segmentation) if isinstance(segmentation, sitk.Image) else segmentation
    return array if array.dtype == np.bool_ else np.asarray(array == TUMOUR)


def _overlaps(reference: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Voxels that each reference (row) shares with each predicted lesion (column), and the sizes of both."""
    box = bounding_slices(reference | prediction)
    if box is None:
        return np.zeros((0, 0), np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64)
    (numbered, sizes), (predicted_numbered, predicted_sizes) = (
        _numbered(mask[box]) for mask in (reference, prediction)
    )
    shared = (numbered > 0) & (predicted_numbered > 0)
    columns = len(predicted_sizes)
    pairs = (numbered[shared] - 1) * columns + predicted_numbered[shared] - 1
    overlap = np.bincount(pairs, minlength=len(sizes) * columns).reshape(len(sizes), columns)
    return overlap, sizes, predicted_sizes


def _numbered(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mask's voxels with their lesion's id, and the lesions' sizes."""
    numbers, sizes = np.zeros(mask.shape, np.int64), []
    for number, (box, lesion) in enumerate(iterate_components(mask), 1):
        numbers[box][lesion] = number
        sizes.append(int(np.count_nonzero(lesion)))
    return numbers, np.array(sizes, np.int64)


def _decide(
    rule: Rule, overlap: np.ndarray, sizes: np.ndarray, predicted_sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which reference lesions are found, and which predicted ones are right."""
    partners = np.asarray(overlap > 0)
    if rule == "iou":
        partners = np.asarray(2 * overlap > sizes[:, None] + predicted_sizes[None, :] - overlap)
    found = 2 * overlap.sum(axis=1) >= sizes if rule == "half" else partners.any(axis=1)
    return np.asarray(found), np.asarray(partners.any(axis=0))


def _ids(chosen: np.ndarray) -> tuple[int, ...]:
    return tuple(int(n) + 1 for n in np.flatnonzero(chosen))


def _share(part: int, rest: int) -> float:
    return part / (part + rest) if part + rest else float("nan")
