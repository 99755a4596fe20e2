"""Matching the lesions of two segmentations of one scan: which of a reference's were found, which predicted are right.

A lesion is what `lesions.find_lesions` calls one. Arrays are (k, j, i).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import SimpleITK as sitk

from .lesions import TUMOUR, bounding_slices, iterate_components

Rule = Literal["overlap", "half", "iou"]
RULES: tuple[Rule, ...] = get_args(Rule)


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
    if rule not in RULES:
        raise ValueError(f"rule: wanted one of {', '.join(RULES)}, got {rule!r}")
    return _matching(rule, *_overlaps(*_same_grid(reference, prediction)))


def match_by_every_rule(
    reference: sitk.Image | np.ndarray, prediction: sitk.Image | np.ndarray
) -> dict[Rule, Matching]:
    """`match_lesions` under each rule, in the time of one.

    Raises:
        ValueError: the two are not on the same grid.
    """
    overlaps = _overlaps(*_same_grid(reference, prediction))
    return {rule: _matching(rule, *overlaps) for rule in RULES}


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


def _matching(rule: Rule, overlap: np.ndarray, sizes: np.ndarray, predicted_sizes: np.ndarray) -> Matching:
    found, right = _decide(rule, overlap, sizes, predicted_sizes)
    return Matching(rule, _ids(found), _ids(~found), _ids(right), _ids(~right))


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
