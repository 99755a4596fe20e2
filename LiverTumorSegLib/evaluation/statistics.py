"""Means, pooled shares and their uncertainty over cases.

Every figure here is a sum over cases divided by a sum over cases: a mean (each case counts one), LiTS' global Dice, a
recall pooled over lesions. Intervals are percentile bootstrap (Efron and Tibshirani, 1993, chapter 13): patients are
drawn with replacement, all cases of one together, since lesions of one patient are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A figure with its uncertainty; NaN where there is nothing to compute it from.

    Attributes:
        value: the figure.
        low: lower end of its 95 % bootstrap interval; NaN where fewer than two patients have something to tell.
        high: upper end.
        count: of what it is the mean or share: cases, lesions.
        sd: sample standard deviation (n - 1) over cases; NaN for shares and with fewer than two cases.
    """

    value: float
    low: float
    high: float
    count: int
    sd: float = math.nan


def mean(values: Sequence[float], patients: Sequence[str], seed: int = 0) -> Estimate:
    """Mean over cases; those with NaN are left out and not counted.

    Args:
        values: one a case.
        patients: whose case each is.
        seed: of the bootstrap.
    """
    array = np.asarray(values, np.float64)
    defined = ~np.isnan(array)
    kept = [patient for patient, keep in zip(patients, defined, strict=True) if keep]
    estimate = share(array[defined], np.ones(len(kept)), kept, seed)
    spread = float(np.std(array[defined], ddof=1)) if len(kept) > 1 else math.nan
    return Estimate(estimate.value, estimate.low, estimate.high, len(kept), spread)


def share(
    parts: Sequence[float] | np.ndarray, wholes: Sequence[float] | np.ndarray, patients: Sequence[str], seed: int = 0
) -> Estimate:
    """The sum of the parts divided by the sum of the wholes.

    Args:
        parts: one a case.
        wholes: one a case; the estimate's count is their sum.
        patients: whose case each is.
        seed: of the bootstrap.
    """
    names = sorted(set(patients))
    index = [names.index(patient) for patient in patients]
    sums = np.stack([np.bincount(index, np.asarray(each, np.float64), len(names)) for each in (parts, wholes)])
    part, whole = sums.sum(axis=1)
    value = float(part / whole) if whole else math.nan
    low, high = _interval(sums, seed)
    return Estimate(value, low, high, round(float(whole)))


def root_mean_square(values: Sequence[float], patients: Sequence[str], seed: int = 0) -> Estimate:
    """Root of the mean square over cases; those with NaN are left out."""
    squares = mean(np.square(values).tolist(), patients, seed)
    return Estimate(math.sqrt(squares.value), math.sqrt(squares.low), math.sqrt(squares.high), squares.count)


def _interval(sums: np.ndarray, seed: int) -> tuple[float, float]:
    """Ends of the interval of the ratio of two rows of sums, one column a patient.

    A draw of patients who have nothing to share (no lesion among them) tells nothing and is left out.
    """
    count = sums.shape[1]
    if np.count_nonzero(sums[1]) < 2:
        return math.nan, math.nan
    drawn = np.random.default_rng(seed).integers(count, size=(RESAMPLES, count))
    parts, wholes = sums[0][drawn].sum(axis=1), sums[1][drawn].sum(axis=1)
    ratios = parts[wholes > 0] / wholes[wholes > 0]
    low, high = np.percentile(ratios, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
    return float(low), float(high)


@dataclass(frozen=True)
class Comparison:
    """Two results of the same cases, paired.

    Attributes:
        first: mean of the first over the cases that both have a value for.
        second: mean of the second.
        difference: second minus first, with its bootstrap interval.
        p: two-sided p-value of Wilcoxon's signed-rank test; 1 where no case differs, NaN without a case.
    """

    first: float
    second: float
    difference: Estimate
    p: float


def compare(first: Sequence[float], second: Sequence[float], patients: Sequence[str], seed: int = 0) -> Comparison:
    """Compare paired values, cases with NaN in either left out (Wilcoxon, 1945; ties and zeros as SciPy treats them).

    Args:
        first: one a case.
        second: the same cases in the same order.
        patients: whose case each is.
        seed: of the bootstrap.

    Raises:
        ImportError: SciPy is not installed.
    """
    from scipy.stats import wilcoxon

    pairs = np.array([first, second], np.float64)
    defined = ~np.isnan(pairs).any(axis=0)
    gains = pairs[1] - pairs[0]
    difference = mean(np.where(defined, gains, np.nan).tolist(), patients, seed)
    if not defined.any():
        return Comparison(math.nan, math.nan, difference, math.nan)
    gains = gains[defined]
    p = float(wilcoxon(gains).pvalue) if np.any(gains) else 1.0
    before, after = pairs[:, defined].mean(axis=1)
    return Comparison(float(before), float(after), difference, p)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for how many there are (Holm, 1979); NaN stays NaN and does not count."""
    order = sorted((n for n, p in enumerate(p_values) if not math.isnan(p)), key=lambda n: p_values[n])
    adjusted, largest = list(p_values), 0.0
    for rank, number in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[number]))
        adjusted[number] = largest
    return adjusted
