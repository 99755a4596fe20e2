"""All cases together: means over cases, global figures, lesions by size, patients."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ..lesions import Lesion
from ..matching import RULES, Rule
from ..recipe import Typing
from .census import LesionCount, count_lesions
from .costs import Costs
from .scores import MEASURES, CaseScore, LesionScore
from .sizes import SIZES, SizeClass
from .statistics import Estimate, mean, root_mean_square, share
from .typed import TypedSummary

Structure = Literal["liver", "tumour"]
STRUCTURES: tuple[Structure, ...] = ("liver", "tumour")

GROUP_DICE = 0.6  # S2, section 3.4


@dataclass(frozen=True)
class MaskSummary:
    """One measure of one structure over all cases."""

    structure: Structure
    measure: str
    estimate: Estimate
    median: float
    least: float
    most: float


@dataclass(frozen=True)
class Detection:
    """Lesions under one rule, pooled over all cases.

    Attributes:
        rule: see `matching.match_lesions`.
        size: name of the size class, "all" for every lesion.
        recall: share of the reference's lesions of this size that were found.
        precision: share of the predicted lesions of this (own) size that are right.
        false_per_case: false predicted lesions of this size a case.
        dice: mean over the reference's lesions of this size, a missed one 0 (`LesionScore.dice`).
        jaccard: likewise.
        found: lesions of the reference.
        missed: likewise.
        right: predicted lesions.
        false: likewise.
    """

    rule: Rule
    size: str
    recall: Estimate
    precision: Estimate
    false_per_case: Estimate
    dice: Estimate
    jaccard: Estimate
    found: int
    missed: int
    right: int
    false: int

    @property
    def f1(self) -> float:
        """Harmonic mean of recall and precision; 0 where both are 0, NaN where either has no meaning."""
        recall, precision = self.recall.value, self.precision.value
        return 2 * recall * precision / (recall + precision) if recall + precision else recall + precision


@dataclass(frozen=True)
class AxisGroups:
    """Mean 3D long axis in mm of the reference's lesions segmented well and badly (S2, section 3.4 and table 6).

    S2 does not say whose Dice makes the groups; here each lesion's own, and lesions that were missed are in the
    lower group.
    """

    high: Estimate
    low: Estimate


@dataclass(frozen=True)
class Summary:
    """All cases together.

    Attributes:
        cases: how many.
        patients: how many.
        masks: every structure and measure.
        case_dice: structure -> mean Dice over all cases, 1 where both masks are empty (LiTS' Dice per case).
        global_dice: structure -> Dice of all cases' voxels together, 2 sum |A and B| / sum (|A| + |B|) (LiTS).
        detections: every rule with every size class.
        partners: measure -> mean over lesions detected at IoU > 0.5 (LiTS).
        burden_rmse: root mean square error of the tumour burden, a share of the liver (LiTS).
        burden_worst: its largest absolute error; NaN without a case.
        patient_sensitivity: share of the patients with a lesion for whom one was predicted (S3, table IV).
        patient_specificity: share of those without for whom none was.
        axis_groups: S2's groups.
        typed: lesions and patients by type (S3), where all cases have types.
        lesion_counts: lesions of the references by type and size; without those of which there are none.
        costs: of the bundle that made the predictions, where one did.
    """

    cases: int
    patients: int
    masks: tuple[MaskSummary, ...]
    case_dice: dict[str, Estimate]
    global_dice: dict[str, Estimate]
    detections: tuple[Detection, ...]
    partners: dict[str, Estimate]
    burden_rmse: Estimate
    burden_worst: float
    patient_sensitivity: Estimate
    patient_specificity: Estimate
    axis_groups: AxisGroups
    typed: TypedSummary | None = None
    lesion_counts: tuple[LesionCount, ...] = ()
    costs: Costs | None = None

    def mask(self, structure: Structure, measure: str) -> Estimate:
        """One measure of one structure."""
        return next(m.estimate for m in self.masks if (m.structure, m.measure) == (structure, measure))

    def detection(self, rule: Rule, size: str = "all") -> Detection:
        """One rule and size class."""
        return next(d for d in self.detections if (d.rule, d.size) == (rule, size))


def summarise(
    cases: Sequence[CaseScore], seed: int = 0, options: Typing | None = None, costs: Costs | None = None
) -> Summary:
    """Put all cases together.

    A tumour's measures are averaged over the cases whose reference or prediction has one: two empty masks agree, but
    a mean with their perfect scores would say little of tumours. `case_dice` is LiTS' figure, which counts them.

    Args:
        cases: at least one.
        seed: of the bootstrap.
        options: which lesion types there are, by default S3's.
        costs: of the bundle that made the predictions, where one did.
    """
    patients = [case.patient for case in cases]
    errors = [case.predicted_burden - case.burden for case in cases]
    known = [abs(error) for error in errors if not math.isnan(error)]
    lesions = [(lesion, case.patient) for case in cases for lesion in case.lesions]
    return Summary(
        len(cases),
        len(set(patients)),
        tuple(_mask_summaries(cases, seed)),
        {s: mean([getattr(case, s).values["dice"] for case in cases], patients, seed) for s in STRUCTURES},
        {structure: _global_dice(cases, structure, patients, seed) for structure in STRUCTURES},
        tuple(_detection(cases, rule, size, seed) for rule in RULES for size in (None, *SIZES)),
        _partners(lesions, seed),
        root_mean_square(errors, patients, seed),
        max(known, default=math.nan),
        *_patient_shares(cases, seed),
        AxisGroups(
            _long_axis([pair for pair in lesions if pair[0].dice >= GROUP_DICE], seed),
            _long_axis([pair for pair in lesions if pair[0].dice < GROUP_DICE], seed),
        ),
        _typed(cases, options or Typing()),
        count_lesions(cases),
        costs,
    )


def _typed(cases: Sequence[CaseScore], options: Typing) -> TypedSummary | None:
    matchings = tuple(case.typed for case in cases if case.typed is not None)
    return TypedSummary(options.lesion_types, options.malignant, matchings) if len(matchings) == len(cases) else None


def case_values(cases: Sequence[CaseScore], structure: Structure, measure: str) -> list[float]:
    """A measure of every case; NaN for the tumour where there is none in reference and prediction."""
    scores = [getattr(case, structure) for case in cases]
    return [
        math.nan if structure == "tumour" and s.reference_voxels == s.predicted_voxels == 0 else s.values[measure]
        for s in scores
    ]


def _mask_summaries(cases: Sequence[CaseScore], seed: int) -> Iterator[MaskSummary]:
    patients = [case.patient for case in cases]
    for structure in STRUCTURES:
        for measure in MEASURES:
            values = case_values(cases, structure, measure)
            known = sorted(value for value in values if not math.isnan(value)) or [math.nan]
            half = len(known) // 2
            median = known[half] if len(known) % 2 else (known[half - 1] + known[half]) / 2
            estimate = mean(values, patients, seed)
            yield MaskSummary(structure, measure, estimate, median, known[0], known[-1])


def _global_dice(cases: Sequence[CaseScore], structure: Structure, patients: Sequence[str], seed: int) -> Estimate:
    scores = [getattr(case, structure) for case in cases]
    shared = [2.0 * s.shared_voxels for s in scores]
    return share(shared, [s.reference_voxels + s.predicted_voxels for s in scores], patients, seed)


def _detection(cases: Sequence[CaseScore], rule: Rule, size: SizeClass | None, seed: int) -> Detection:
    def chosen(lesion: Lesion) -> bool:
        return size is None or size.holds(lesion)

    patients = [case.patient for case in cases]
    wanted = [[each for each in case.lesions if chosen(each.lesion)] for case in cases]
    got = [[each for each in case.predicted if chosen(each.lesion)] for case in cases]
    counts, totals = ([len(each) for each in lesions] for lesions in (wanted, got))
    found = [sum(rule in each.found for each in case) for case in wanted]
    right = [sum(rule in each.right for each in case) for case in got]
    false = [total - part for total, part in zip(totals, right, strict=True)]
    return Detection(
        rule,
        size.name if size else "all",
        share(found, counts, patients, seed),
        share(right, totals, patients, seed),
        mean(false, patients, seed),
        share([sum(each.dice for each in case) for case in wanted], counts, patients, seed),
        share([sum(each.jaccard for each in case) for case in wanted], counts, patients, seed),
        sum(found),
        sum(counts) - sum(found),
        sum(right),
        sum(false),
    )


def _partners(lesions: Sequence[tuple[LesionScore, str]], seed: int) -> dict[str, Estimate]:
    paired = [(lesion.partner, patient) for lesion, patient in lesions if lesion.partner]
    patients = [patient for _, patient in paired]
    return {name: mean([partner.values[name] for partner, _ in paired], patients, seed) for name in MEASURES}


def _patient_shares(cases: Sequence[CaseScore], seed: int) -> tuple[Estimate, Estimate]:
    """Sensitivity and specificity of "has a lesion", over patients."""
    patients = sorted({case.patient for case in cases})
    ill = {case.patient for case in cases if case.lesions}
    called = {case.patient for case in cases if case.predicted}
    with_lesion, without = ([p for p in patients if (p in ill) == wanted] for wanted in (True, False))
    return (
        mean([float(p in called) for p in with_lesion], with_lesion, seed),
        mean([float(p not in called) for p in without], without, seed),
    )


def _long_axis(lesions: Sequence[tuple[LesionScore, str]], seed: int) -> Estimate:
    return mean([score.lesion.long_axis_mm for score, _ in lesions], [patient for _, patient in lesions], seed)
