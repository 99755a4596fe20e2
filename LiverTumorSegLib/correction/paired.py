"""The statistics of a reader study: what pairs differ by, and how two quantities go together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import OutputError

CONFIDENCE = 0.95
_FEWEST_FOR_INTERVAL = 6  # below, no interval of signed ranks reaches 95 %


@dataclass(frozen=True)
class PairedDifference:
    """Paired differences, summed up.

    Attributes:
        pairs: how many.
        median: Hodges and Lehmann's estimate: the median of all averages of two differences.
        low: lower end of its 95 % confidence interval by signed ranks, exact without ties; None below 6 pairs.
        high: upper end.
        p_value: two-sided, of Wilcoxon's signed-rank test; None without a difference that is not 0.
    """

    pairs: int
    median: float
    low: float | None
    high: float | None
    p_value: float | None


@dataclass(frozen=True)
class Association:
    """How two quantities rise together: Spearman's rank correlation; None below 3 points or without variation."""

    count: int
    rho: float | None
    p_value: float | None


def paired_difference(differences: Sequence[float]) -> PairedDifference:
    """Sum up paired differences.

    Raises:
        OutputError: SciPy is not installed.
        ValueError: no differences.
    """
    values = np.asarray(differences, float)
    if values.size == 0:
        raise ValueError("differences: wanted at least one, got none")
    first, second = np.triu_indices(values.size)
    averages = np.sort((values[first] + values[second]) / 2)
    low = high = p_value = None
    if values.size >= _FEWEST_FOR_INTERVAL:
        rank = max(1, _signed_rank_quantile(values.size, (1 - CONFIDENCE) / 2))
        low, high = float(averages[rank - 1]), float(averages[averages.size - rank])
    if np.any(values != 0):
        p_value = float(_scipy_stats().wilcoxon(values).pvalue)
    return PairedDifference(int(values.size), float(np.median(averages)), low, high, p_value)


def association(x: Sequence[float], y: Sequence[float]) -> Association:
    """Spearman's rank correlation of two quantities.

    Raises:
        OutputError: SciPy is not installed.
    """
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Association(len(x), None, None)
    result = _scipy_stats().spearmanr(x, y)
    return Association(len(x), float(result.statistic), float(result.pvalue))


def slope(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Theil and Sen's slope: the median of the slopes of all pairs of points; None where there is none."""
    a, b = np.asarray(x, float), np.asarray(y, float)
    first, second = np.triu_indices(a.size, 1)
    steps = a[second] - a[first]
    return float(np.median(((b[second] - b[first]) / steps)[steps != 0])) if np.any(steps != 0) else None


def mean_and_sd(values: Sequence[float | None]) -> tuple[int, float | None, float | None]:
    """Number, mean and sample standard deviation (n - 1) of what has a value; None where there is none."""
    known = [value for value in values if value is not None and not math.isnan(value)]
    mean = float(np.mean(known)) if known else None
    return len(known), mean, float(np.std(known, ddof=1)) if len(known) > 1 else None


def _signed_rank_quantile(n: int, probability: float) -> int:
    """The smallest w with P(W <= w) >= probability, W the sum of positive ranks of n differences around 0."""
    ways = np.ones(1)
    for rank in range(1, n + 1):
        longer = np.zeros(ways.size + rank)
        longer[: ways.size] += ways / 2
        longer[rank:] += ways / 2
        ways = longer
    return int(np.searchsorted(np.cumsum(ways), probability - 1e-12))


def _scipy_stats() -> Any:
    try:
        from scipy import stats
    except ImportError as error:
        raise OutputError(
            "a study's report needs scipy: install it with: pip install 'LiverTumorSegLib[report]'"
        ) from error
    return stats
