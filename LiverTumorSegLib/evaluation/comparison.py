"""Two results of the same cases, paired: is one better than the other, and could that be chance."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

from ..matching import RULES, Rule
from .scores import MEASURES, CaseScore
from .statistics import Comparison, compare
from .summary import STRUCTURES, case_values
from .tables import RULE_NAMES


def compare_cases(
    earlier: Sequence[CaseScore], later: Sequence[CaseScore], seed: int = 0
) -> dict[tuple[str, str], Comparison]:
    """Compare every voxel measure, and lesions found and false a case, over the cases that both have.

    Args:
        earlier: what is compared with; first in each `Comparison`.
        later: what is judged.
        seed: of the bootstrap.

    Returns:
        (structure, measure) -> comparison; "lesions" is a structure here: recall (NaN in a case without lesions) and
        false lesions by each rule, and the error of the burden.

    Raises:
        ImportError: SciPy is not installed.
    """
    known = {case.name: case for case in earlier}
    after = [case for case in later if case.name in known]
    before = [known[case.name] for case in after]
    patients = [case.patient for case in after]
    compared: dict[tuple[str, str], Comparison] = {}
    for structure in STRUCTURES:
        for measure in MEASURES:
            first, second = (case_values(cases, structure, measure) for cases in (before, after))
            compared[structure, measure] = compare(first, second, patients, seed)
    for name, figure in _LESIONS.items():
        compared["lesions", name] = compare(
            [figure(case) for case in before], [figure(case) for case in after], patients, seed
        )
    return compared


def _recall(rule: Rule, case: CaseScore) -> float:
    found = [rule in lesion.found for lesion in case.lesions]
    return sum(found) / len(found) if found else math.nan


def _false(rule: Rule, case: CaseScore) -> float:
    return float(case.false_positives(rule))


_LESIONS: dict[str, Callable[[CaseScore], float]] = {
    **{f"recall, {RULE_NAMES[rule]}": partial(_recall, rule) for rule in RULES},
    **{f"false a case, {RULE_NAMES[rule]}": partial(_false, rule) for rule in RULES},
    "error of the tumour burden": lambda case: abs(case.predicted_burden - case.burden),
}
