"""Free-response ROC over the sensitivity factor: more lesions found against more false ones a case (S3, section on f).

The factor multiplies the tumour's probability before the vote, see `Segmentation.with_sensitivity`; the networks run
once a scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..matching import Matching, Rule

FACTORS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
FALSE_PER_CASE = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class FrocPoint:
    """All cases at one sensitivity factor and under one rule.

    Attributes:
        factor: on the tumour's probability.
        rule: how "found" was decided.
        found: lesions of the references that were.
        lesions: of the references.
        false_positives: predicted lesions that are false.
        cases: how many.
        tumour_dice: mean Dice over the cases with a tumour in the reference or the prediction; NaN without one.
    """

    factor: float
    rule: Rule
    found: int
    lesions: int
    false_positives: int
    cases: int
    tumour_dice: float

    @property
    def sensitivity(self) -> float:
        """Share of the lesions that were found; NaN where there are none."""
        return self.found / self.lesions if self.lesions else float("nan")

    @property
    def false_per_case(self) -> float:
        """False lesions a case."""
        return self.false_positives / self.cases


def froc_point(factor: float, rule: Rule, matchings: Sequence[Matching], dices: Sequence[float]) -> FrocPoint:
    """Pool the cases.

    Args:
        factor: on the tumour's probability.
        rule: of all the matchings.
        matchings: one a case.
        dices: the tumour's Dice of every case, NaN where there is no tumour at all.
    """
    known = [dice for dice in dices if not np.isnan(dice)]
    return FrocPoint(
        factor,
        rule,
        sum(len(m.found) for m in matchings),
        sum(len(m.found) + len(m.missed) for m in matchings),
        sum(len(m.false_positives) for m in matchings),
        len(matchings),
        float(np.mean(known)) if known else float("nan"),
    )


def froc_score(points: Sequence[FrocPoint]) -> float:
    """Mean sensitivity at 1/8, 1/4, ... 8 false lesions a case (LUNA16's rule; Setio et al., 2017).

    Between two points the curve is a straight line; before the first it is 0, after the last it stays level.

    Args:
        points: of one rule.
    """
    ordered = sorted(points, key=lambda point: (point.false_per_case, point.sensitivity))
    across, up = ([getattr(p, name) for p in ordered] for name in ("false_per_case", "sensitivity"))
    levels = np.interp(FALSE_PER_CASE, across, up, left=0.0)
    return float(np.mean(levels))
