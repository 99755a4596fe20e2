"""How far what the reader started from was from the corrected segmentation.

The corrected segmentation is the reference, what the reader started from is judged against it (S1, section 4.2, test
set #2). "liver" is everything that is labelled, tumours included (LiTS); "tumour" is label 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..errors import SessionError
from ..evaluation.metrics import dice, precision, sensitivity
from ..evaluation.surfaces import surface_distances
from ..lesions import Lesion, bounding_slices, find_lesions, iterate_components
from ..matching import RULES, Matching, Rule, match_by_every_rule
from ..segmentation import LIVER, TUMOUR
from .events import LIVER as LIVER_CLASS
from .events import TUMOUR as TUMOUR_CLASS
from .reference import check_labels

_CLASSES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    LIVER_CLASS: lambda labels: labels >= LIVER,
    TUMOUR_CLASS: lambda labels: labels == TUMOUR,
}


@dataclass(frozen=True)
class ClassComparison:
    """One segment class before and after; NaN where a measure has no meaning.

    Attributes:
        dice: of the start against the corrected, as sensitivity and precision are.
        assd_mm: average symmetric surface distance.
        hd95_mm: 95 % Hausdorff distance.
        start_ml: volume that the reader started from.
        corrected_ml: volume in the end.
        voxels_added: in the corrected and not in the start; what came and went in between does not count.
        voxels_removed: the other way round.
        added_ml: the same in ml.
        removed_ml: the same in ml.
    """

    dice: float
    sensitivity: float
    precision: float
    assd_mm: float
    hd95_mm: float
    start_ml: float
    corrected_ml: float
    voxels_added: int
    voxels_removed: int
    added_ml: float
    removed_ml: float


@dataclass(frozen=True)
class LesionVerdict:
    """One lesion of the corrected segmentation, or a false one of the start.

    Attributes:
        lesion: measured where it is.
        outcome: rule -> "found", "missed" or "false positive"; rules as in `matching.match_lesions`.
        split: rules under which it is found although it is in two or more pieces in the start.
        merged: rules under which it is found together with another lesion as one piece of the start.
    """

    lesion: Lesion
    outcome: dict[Rule, str]
    split: tuple[Rule, ...] = ()
    merged: tuple[Rule, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """The start against the corrected segmentation.

    Attributes:
        classes: "liver" and "tumour".
        lesions: of the corrected segmentation, largest first.
        false_positives: lesions of the start that are wrong under at least one rule.
        algorithm_types: label -> how its segment came to be, as DICOM calls it: AUTOMATIC where no voxel differs,
            MANUAL where the reader began with none, else SEMIAUTOMATIC.
    """

    classes: dict[str, ClassComparison]
    lesions: tuple[LesionVerdict, ...]
    false_positives: tuple[LesionVerdict, ...]
    algorithm_types: dict[int, str]

    def count(self, rule: Rule, outcome: str) -> int:
        """How many lesions are found, missed, false positive, split or merged under a rule."""
        everything = self.lesions + self.false_positives
        if outcome in ("split", "merged"):
            return sum(rule in getattr(each, outcome) for each in everything)
        return sum(each.outcome[rule] == outcome for each in everything)

    def document(self) -> dict[str, Any]:
        """For JSON; NaN becomes None."""
        outcomes = ("found", "missed", "false positive", "split", "merged")
        return {
            "comparison": {name: _plain(asdict(each)) for name, each in self.classes.items()},
            "lesions": [_verdict_document(each) for each in self.lesions],
            "false_positives": [_verdict_document(each) for each in self.false_positives],
            "lesion_counts": {r: {o.replace(" ", "_"): self.count(r, o) for o in outcomes} for r in RULES},
        }


def compare(corrected: sitk.Image, start: sitk.Image) -> Comparison:
    """Compare two label maps of one scan.

    Args:
        corrected: labels 0, 1 liver, 2 tumour; the reference.
        start: the same on the same grid; what is judged.

    Raises:
        SessionError: the grids differ, or the corrected labels are not 8-bit 0, 1 and 2.
    """
    _check(corrected, start)
    after, before = (sitk.GetArrayViewFromImage(each) for each in (corrected, start))
    spacing = corrected.GetSpacing()[::-1]
    classes = {name: _compare_class(of(after), of(before), spacing) for name, of in _CLASSES.items()}
    lesions, false_positives = _judge_lesions(corrected, start)
    return Comparison(classes, lesions, false_positives, _algorithm_types(after, before))


def dice_by_class(corrected: sitk.Image, start: sitk.Image) -> dict[str, float]:
    """Only the Dice of liver and tumour, for a live display.

    Raises:
        SessionError: as `compare`.
    """
    _check(corrected, start)
    after, before = (sitk.GetArrayViewFromImage(each) for each in (corrected, start))
    return {name: dice(of(after), of(before)) for name, of in _CLASSES.items()}


def _check(corrected: sitk.Image, start: sitk.Image) -> None:
    check_labels(corrected, "corrected labels")
    for name in ("Size", "Spacing", "Origin", "Direction"):
        wanted, got = (getattr(image, f"Get{name}")() for image in (start, corrected))
        if not np.allclose(wanted, got, atol=1e-4):
            raise SessionError(f"corrected labels: wanted the start's {name.lower()} {wanted}, got {got}")


def _compare_class(after: np.ndarray, before: np.ndarray, spacing_mm: tuple[float, ...]) -> ClassComparison:
    box = bounding_slices(after | before) or tuple(slice(0, 0) for _ in after.shape)
    voxel_ml = math.prod(spacing_mm) / 1000.0
    after, before = after[box], before[box]
    surfaces = surface_distances(after, before, spacing_mm)
    added, removed = np.count_nonzero(after & ~before), np.count_nonzero(before & ~after)
    return ClassComparison(
        dice=dice(after, before),
        sensitivity=sensitivity(after, before),
        precision=precision(after, before),
        assd_mm=surfaces.assd,
        hd95_mm=surfaces.hd95,
        start_ml=np.count_nonzero(before) * voxel_ml,
        corrected_ml=np.count_nonzero(after) * voxel_ml,
        voxels_added=int(added),
        voxels_removed=int(removed),
        added_ml=int(added) * voxel_ml,
        removed_ml=int(removed) * voxel_ml,
    )


def _judge_lesions(
    corrected: sitk.Image, start: sitk.Image
) -> tuple[tuple[LesionVerdict, ...], tuple[LesionVerdict, ...]]:
    after, before = (sitk.GetArrayFromImage(each) == TUMOUR for each in (corrected, start))
    matchings = match_by_every_rule(after, before)
    pieces = _pieces(after, before)
    lesions = []
    for lesion in find_lesions(corrected):
        own = pieces[lesion.id]
        together = any(own & others for number, others in pieces.items() if number != lesion.id)
        found = tuple(rule for rule in RULES if lesion.id in matchings[rule].found)
        outcome = {rule: "found" if rule in found else "missed" for rule in RULES}
        lesions.append(LesionVerdict(lesion, outcome, found if len(own) > 1 else (), found if together else ()))
    return tuple(lesions), tuple(_false_positives(find_lesions(start), matchings))


def _false_positives(lesions: list[Lesion], matchings: dict[Rule, Matching]) -> list[LesionVerdict]:
    verdicts = []
    for lesion in lesions:
        wrong = {rule: lesion.id in matchings[rule].false_positives for rule in RULES}
        if any(wrong.values()):
            outcome = {rule: "false positive" if wrong[rule] else "right" for rule in RULES}
            verdicts.append(LesionVerdict(lesion, outcome))
    return verdicts


def _pieces(after: np.ndarray, before: np.ndarray) -> dict[int, set[int]]:
    """For each lesion of `after`, the lesions of `before` that it shares a voxel with; numbers as `find_lesions`."""
    numbers = np.zeros(before.shape, np.uint32)
    for number, (box, mask) in enumerate(iterate_components(before), 1):
        numbers[box][mask] = number
    return {
        number: set(np.unique(numbers[box][mask]).tolist()) - {0}
        for number, (box, mask) in enumerate(iterate_components(after), 1)
    }


def _algorithm_types(after: np.ndarray, before: np.ndarray) -> dict[int, str]:
    kinds = {}
    for label in (LIVER, TUMOUR):
        same = np.array_equal(after == label, before == label)
        drawn = not same and not (before == label).any()
        kinds[label] = "AUTOMATIC" if same else "MANUAL" if drawn else "SEMIAUTOMATIC"
    return kinds


def _verdict_document(verdict: LesionVerdict) -> dict[str, Any]:
    lesion = verdict.lesion
    return {
        "id": lesion.id,
        "voxels": lesion.voxels,
        "volume_ml": lesion.volume_ml,
        "long_axis_mm": lesion.long_axis_mm,
        "outcome": verdict.outcome,
        "split": list(verdict.split),
        "merged": list(verdict.merged),
    }


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in values.items()}
