"""One case judged: its liver, its tumours and each of its lesions against a reference.

Liver is every label above 0, tumours included (LiTS); tumour is label 2; a lesion is a 6-connected component of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ..geometry import axes_towards_lps
from ..lesions import Lesion, Slices, bounding_slices, find_lesions, iterate_components
from ..matching import Rule, match_by_every_rule
from ..segmentation import TUMOUR
from .metrics import METRICS
from .surfaces import SurfaceDistances, surface_distances
from .typed import TypedMatching

"""From the easiest to the hardest to pass."""

# A further surface measure is one line here; one of overlap is one line of METRICS.
SURFACE_METRICS: dict[str, Callable[[SurfaceDistances], float]] = {
    "assd_mm": lambda distances: distances.assd,
    "rmsd_mm": lambda distances: distances.rmsd,
    "hausdorff_mm": lambda distances: distances.hausdorff,
    "hd95_mm": lambda distances: distances.hd95,
    "nsd_1mm": lambda distances: distances.nsd(1.0),
    "nsd_2mm": lambda distances: distances.nsd(2.0),
}
MEASURES = (*METRICS, *SURFACE_METRICS)


@dataclass(frozen=True)
class MaskScore:
    """One mask against its reference.

    Attributes:
        values: measure -> value, the keys of `MEASURES`; NaN where a mask is empty and the measure has no meaning.
        shared_voxels: in both masks.
        reference_voxels: in the reference.
        predicted_voxels: in the prediction.
    """

    values: dict[str, float]
    shared_voxels: int
    reference_voxels: int
    predicted_voxels: int


@dataclass(frozen=True)
class LesionScore:
    """One lesion of the reference.

    Attributes:
        lesion: its measurements in the reference.
        found: the rules by which it was found, see `matching.match_lesions`.
        dice: with all predicted lesions that touch it, taken together; 0 where none does.
        jaccard: likewise.
        partner: against the one predicted lesion with IoU > 0.5 (LiTS' surface measures), None where there is none.
    """

    lesion: Lesion
    found: tuple[Rule, ...]
    dice: float
    jaccard: float
    partner: MaskScore | None


@dataclass(frozen=True)
class PredictedLesion:
    """One lesion of the prediction.

    Attributes:
        lesion: its measurements.
        right: the rules by which it is no false positive.
    """

    lesion: Lesion
    right: tuple[Rule, ...]


@dataclass(frozen=True)
class CaseScore:
    """One case.

    Attributes:
        name: of the case.
        patient: who was scanned; cases of one patient are resampled together.
        spacing_mm: edges of a voxel along (i, j, k).
        size_voxels: (i, j, k).
        liver: labels above 0.
        tumour: label 2.
        lesions: of the reference, largest first.
        predicted: of the prediction, largest first.
        burden: tumour's share of the liver in the reference, 0 to 1; NaN where there is no liver.
        predicted_burden: the same of the prediction.
        typed: the lesions by type, where reference and prediction have types.
        typed_lesions: of the reference, each a component of one type, where it has types.
    """

    name: str
    patient: str
    spacing_mm: tuple[float, ...]
    size_voxels: tuple[int, ...]
    liver: MaskScore
    tumour: MaskScore
    lesions: tuple[LesionScore, ...]
    predicted: tuple[PredictedLesion, ...]
    burden: float
    predicted_burden: float
    typed: TypedMatching | None = None
    typed_lesions: tuple[Lesion, ...] | None = None

    def false_positives(self, rule: Rule) -> int:
        """How many predicted lesions are false."""
        return sum(rule not in each.right for each in self.predicted)


def score_masks(reference: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float]) -> MaskScore:
    """Every measure of one mask, computed within the box around both.

    Args:
        reference: (k, j, i), bool.
        prediction: the same for what is judged.
        spacing_mm: edges of a voxel along (k, j, i).

    Raises:
        ValueError: not two bool arrays of one shape.
    """
    if reference.shape == prediction.shape:
        box = bounding_slices(reference | prediction) or (slice(0, 1),) * reference.ndim
        reference, prediction = reference[box], prediction[box]
    values = {name: measure(reference, prediction) for name, measure in METRICS.items()}
    distances = surface_distances(reference, prediction, spacing_mm)
    values |= {name: measure(distances) for name, measure in SURFACE_METRICS.items()}
    counts = (int(np.count_nonzero(mask)) for mask in (reference & prediction, reference, prediction))
    return MaskScore(values, *counts)


def score_case(reference: sitk.Image, prediction: sitk.Image, name: str = "", patient: str = "") -> CaseScore:
    """Judge one label map by another.

    Args:
        reference: 0 background, 1 liver, 2 tumour.
        prediction: the same for what is judged, on the same grid.
        name: of the case.
        patient: by default the case's name.

    Raises:
        ValueError: the two are not on the same grid.
    """
    cropped, first_slice = _cropped(reference, prediction)
    masks = [sitk.GetArrayFromImage(image) for image in cropped]
    spacing = reference.GetSpacing()[::-1]
    liver = score_masks(masks[0] > 0, masks[1] > 0, spacing)
    tumours = [mask == TUMOUR for mask in masks]
    tumour = score_masks(tumours[0], tumours[1], spacing)
    matchings = match_by_every_rule(tumours[0], tumours[1])
    found = _rules({rule: matching.found for rule, matching in matchings.items()})
    right = _rules({rule: matching.true_positives for rule, matching in matchings.items()})
    overlaps = _overlaps(tumours[0], tumours[1], spacing)
    measured = [[_in_scan(lesion, first_slice) for lesion in find_lesions(image)] for image in cropped]
    return CaseScore(
        name,
        patient or name,
        reference.GetSpacing(),
        reference.GetSize(),
        liver,
        tumour,
        tuple(LesionScore(a, found(a), *b) for a, b in zip(measured[0], overlaps, strict=True)),
        tuple(PredictedLesion(a, right(a)) for a in measured[1]),
        _share(tumour.reference_voxels, liver.reference_voxels),
        _share(tumour.predicted_voxels, liver.predicted_voxels),
    )


def _rules(passed: Mapping[Rule, Sequence[int]]) -> Callable[[Lesion], tuple[Rule, ...]]:
    """Tells of a lesion which rules it passed, from the ids that passed each rule."""
    ids = {rule: frozenset(numbers) for rule, numbers in passed.items()}
    return lambda lesion: tuple(rule for rule in ids if lesion.id in ids[rule])


def _in_scan(lesion: Lesion, first_slice: int) -> Lesion:
    """A lesion measured in a crop, its slice counted in the whole scan; places in mm are the same in both."""
    return dataclasses.replace(lesion, axial_slice=lesion.axial_slice + first_slice)


def _cropped(reference: sitk.Image, prediction: sitk.Image) -> tuple[tuple[sitk.Image, sitk.Image], int]:
    """Both images within the box around all labels, or a corner where there are none, and its first axial slice."""
    if difference := grid_difference(reference, prediction):
        raise ValueError(f"prediction: wanted the reference's grid, got {difference}")
    both = sitk.GetArrayViewFromImage(reference) | sitk.GetArrayViewFromImage(prediction)
    box = bounding_slices(both) or (slice(0, 1),) * 3
    start, size = [edge.start for edge in box[::-1]], [edge.stop - edge.start for edge in box[::-1]]
    crops = [sitk.RegionOfInterest(image, size, start) for image in (reference, prediction)]
    crops[1].CopyInformation(crops[0])
    return (crops[0], crops[1]), start[axes_towards_lps(reference)[0][2]]


def grid_difference(reference: sitk.Image, prediction: sitk.Image) -> str | None:
    """How two images' grids differ beyond rounding (1e-3), both named; None where they do not."""
    for name in ("Size", "Spacing", "Origin", "Direction"):
        wanted, got = (getattr(image, f"Get{name}")() for image in (reference, prediction))
        if len(wanted) != len(got) or not np.allclose(wanted, got, rtol=0, atol=1e-3):
            shown = (", ".join(f"{value:.6g}" for value in values) for values in (wanted, got))
            return "{} ({}) for the reference's ({})".format(name.lower(), *list(shown)[::-1])
    return None


def _overlaps(
    reference: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float]
) -> list[tuple[float, float, MaskScore | None]]:
    """For each lesion of the reference its Dice and Jaccard with all that touches it, and its partner's score."""
    numbers, boxes = np.zeros(prediction.shape, np.int32), [(slice(0),) * prediction.ndim]
    for number, (box, mask) in enumerate(iterate_components(prediction), 1):
        numbers[box][mask] = number
        boxes.append(box)
    sizes = np.bincount(numbers[prediction], minlength=len(boxes))
    overlaps = []
    for box, mask in iterate_components(reference):
        own = int(np.count_nonzero(mask))
        hits = np.bincount(numbers[box][mask], minlength=len(sizes))
        hits[0] = 0
        shared, together = int(hits.sum()), int(sizes[hits > 0].sum())
        best = int(hits.argmax())
        partner = None
        if 3 * hits[best] > own + sizes[best]:  # IoU > 0.5
            partner = _score_pair(box, mask, boxes[best], numbers, best, spacing_mm)
        overlaps.append((2 * shared / (own + together), shared / (own + together - shared), partner))
    return overlaps


def _score_pair(
    box: Slices, mask: np.ndarray, other: Slices, numbers: np.ndarray, number: int, spacing_mm: Sequence[float]
) -> MaskScore:
    """A lesion of the reference against predicted lesion `number`, within the box around both."""
    joint = tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(box, other, strict=True))
    lesion = np.zeros([edge.stop - edge.start for edge in joint], bool)
    lesion[tuple(slice(a.start - j.start, a.stop - j.start) for a, j in zip(box, joint, strict=True))] = mask
    return score_masks(lesion, numbers[joint] == number, spacing_mm)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
