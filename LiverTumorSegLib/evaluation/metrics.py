"""Voxel measures of a predicted mask against a reference: plain definitions (S1, equations 8-10; LiTS).

Each takes two bool arrays of the same shape, any number of axes. TP, FP and FN count voxels. What has no meaning
for an empty mask is NaN, so that a mean over cases must decide what to do with it (`numpy.nanmean`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Metric = Callable[[np.ndarray, np.ndarray], float]


def dice(reference: np.ndarray, prediction: np.ndarray) -> float:
    """2 TP / (2 TP + FP + FN), 0 to 1; both empty: 1 (LiTS' Dice per case); one empty: 0."""
    shared, wanted, got = _counts(reference, prediction)
    return 2 * shared / (wanted + got) if wanted + got else 1.0


def jaccard(reference: np.ndarray, prediction: np.ndarray) -> float:
    """TP / (TP + FP + FN), 0 to 1, also called IoU; both empty: 1; one empty: 0."""
    shared, wanted, got = _counts(reference, prediction)
    return shared / (wanted + got - shared) if wanted + got else 1.0


def volumetric_overlap_error(reference: np.ndarray, prediction: np.ndarray) -> float:
    """1 - Jaccard, 0 to 1; LiTS' VOE, not in percent."""
    return 1.0 - jaccard(reference, prediction)


def sensitivity(reference: np.ndarray, prediction: np.ndarray) -> float:
    """TP / (TP + FN), 0 to 1, also called recall; empty reference: NaN."""
    shared, wanted, _ = _counts(reference, prediction)
    return shared / wanted if wanted else float("nan")


def precision(reference: np.ndarray, prediction: np.ndarray) -> float:
    """TP / (TP + FP), 0 to 1; empty prediction: NaN."""
    shared, _, got = _counts(reference, prediction)
    return shared / got if got else float("nan")


def relative_volume_difference(reference: np.ndarray, prediction: np.ndarray) -> float:
    """(predicted volume - reference volume) / reference volume, -1 and up; LiTS' RVD.

    Positive is too large. Both empty: 0; only the reference empty: NaN.
    """
    _, wanted, got = _counts(reference, prediction)
    if wanted == got == 0:
        return 0.0
    return (got - wanted) / wanted if wanted else float("nan")


def volume_similarity(reference: np.ndarray, prediction: np.ndarray) -> float:
    """1 - |predicted - reference volume| / (sum of both), 0 to 1, of voxels and not of lesions (S0); both empty: 1."""
    _, wanted, got = _counts(reference, prediction)
    return 1 - abs(got - wanted) / (wanted + got) if wanted + got else 1.0


METRICS: dict[str, Metric] = {
    "dice": dice,
    "jaccard": jaccard,
    "volumetric_overlap_error": volumetric_overlap_error,
    "sensitivity": sensitivity,
    "precision": precision,
    "relative_volume_difference": relative_volume_difference,
    "volume_similarity": volume_similarity,
}


def _counts(reference: np.ndarray, prediction: np.ndarray) -> tuple[int, int, int]:
    """Voxels of both, of the reference and of the prediction.

    Raises:
        ValueError: not two bool arrays of one shape.
    """
    for name, mask in (("reference", reference), ("prediction", prediction)):
        if mask.dtype != np.bool_:
            raise ValueError(f"{name}: wanted a bool mask, got {mask.dtype}")
    if reference.shape != prediction.shape:
        raise ValueError(f"prediction: wanted the reference's shape {reference.shape}, got {prediction.shape}")
    return (
        int(np.count_nonzero(reference & prediction)),
        int(np.count_nonzero(reference)),
        int(np.count_nonzero(prediction)),
    )
