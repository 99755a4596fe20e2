"""What a study found, as numbers: the tables and figures of S1 (section 4.2), and what only a timed study can say.

Every figure is worked out per volume: where several readers corrected a case in an arm, their values are averaged
first, so that a case counts once however many read it. Times are minutes of editing and reviewing; idle and paused
time are not in them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from ..matching import RULES
from .manifest import Manifest
from .paired import association, mean_and_sd, paired_difference, slope
from .study import Read

GROUPS = ("liver", "tumour")
PARTS = ("total", "liver", "tumour", "no_segment")
MEASURES = ("sensitivity", "precision", "dice", "assd_mm", "hd95_mm")
OUTCOMES = ("found", "missed", "false_positive", "split", "merged")


@dataclass(frozen=True)
class Finished:
    """One finished session, as the report looks at it.

    Attributes:
        minutes: of total, liver, tumour and no_segment; editing and reviewing only.
        idle_minutes: not counted.
        comparison: group -> measure -> value, None without meaning.
        lesions: how many the corrected segmentation has.
        largest_mm: the longest axis of the largest of them, 0 without any.
    """

    reader: str
    case: str
    arm: str
    period: int
    position: int
    started_utc: str
    minutes: Mapping[str, float]
    idle_minutes: float
    strokes: int
    comparison: Mapping[str, Mapping[str, float | None]]
    lesions: int
    largest_mm: float
    counts: Mapping[str, Mapping[str, int]]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Finished:
        """The view of a `session.json`."""
        times = document["times"]
        groups = times["active_by_group_ms"]
        parts = {"total": times["active_ms"], **{g: groups[g] for g in GROUPS}, "no_segment": groups["none"]}
        return cls(
            **document["reading"],
            started_utc=document["started_utc"],
            minutes={name: ms / 60_000 for name, ms in parts.items()},
            idle_minutes=times["idle_ms"] / 60_000,
            strokes=sum(effort["strokes"] for effort in document["effort"].values()),
            comparison=document["comparison"],
            lesions=len(document["lesions"]),
            largest_mm=max((lesion["long_axis_mm"] for lesion in document["lesions"]), default=0.0),
            counts=document["lesion_counts"],
        )


def summarise(
    manifest: Manifest, reads: Sequence[Read], agreement: Callable[[str, Sequence[Finished]], list[dict[str, Any]]]
) -> dict[str, Any]:
    """Everything that the report says.

    Args:
        manifest: the study.
        reads: how every planned reading stands.
        agreement: (arm, its sessions) -> a row for each two readers of a case; see `agreement`.
    """
    finished = [Finished.of(read.document) for read in reads if read.document is not None]
    arms = [arm.code for arm in manifest.arms]
    of_arm = {arm: [each for each in finished if each.arm == arm] for arm in arms}
    model_arms = [arm.code for arm in manifest.arms if arm.start != "nothing"]
    return {
        "title": manifest.title,
        "notice": manifest.notice,
        "planned": len(reads),
        "finished": len(finished),
        "readers": list(manifest.readers),
        "cases": [case.code for case in manifest.cases],
        "arms": [asdict(arm) for arm in manifest.arms],
        "idle_after_s": manifest.idle_after_s,
        "washout_days": manifest.washout_days,
        "accuracy": {arm: accuracy(of_arm[arm]) for arm in model_arms},
        "dice_by_case": {arm: dice_by_case(of_arm[arm]) for arm in model_arms},
        "lesions": {arm: lesion_counts(of_arm[arm]) for arm in model_arms},
        "times": {arm: times(of_arm[arm]) for arm in arms},
        "saved": [saved(of_arm, arms[0], arm) for arm in arms[1:]],
        "burden": {arm: burden(of_arm[arm]) for arm in arms},
        "agreement": {arm: agreed(agreement(arm, of_arm[arm])) for arm in arms},
        "learning": learning(finished),
        "sessions": [asdict(each) for each in finished],
        "left_out": [left_out(read) for read in reads if read.document is None],
    }


def accuracy(sessions: Sequence[Finished]) -> dict[str, dict[str, dict[str, float | int | None]]]:
    """S1's table 2: group -> measure -> volumes, mean and SD of the start against the corrected."""
    table: dict[str, dict[str, dict[str, float | int | None]]] = {}
    for group in GROUPS:
        table[group] = {}
        for measure in MEASURES:
            n, mean, sd = mean_and_sd(list(by_case(sessions, _measure_of(group, measure)).values()))
            table[group][measure] = {"volumes": n, "mean": mean, "sd": sd}
    return table


def dice_by_case(sessions: Sequence[Finished]) -> dict[str, dict[str, float | None]]:
    """S1's figure 7: case -> group -> Dice."""
    groups = {group: by_case(sessions, _measure_of(group, "dice")) for group in GROUPS}
    return {case: {group: groups[group][case] for group in GROUPS} for case in groups["liver"]}


def lesion_counts(sessions: Sequence[Finished]) -> dict[str, dict[str, int]]:
    """S1's figure 8 under each rule: found, missed, false positive, split, merged; summed over sessions."""
    return {rule: {o: sum(each.counts[rule][o] for each in sessions) for o in OUTCOMES} for rule in RULES}


def times(sessions: Sequence[Finished]) -> dict[str, dict[str, float | int | None]]:
    """Minutes a session by part: median, range, mean and SD; and idle minutes, which are in none of them."""
    table: dict[str, dict[str, float | int | None]] = {}
    parts: dict[str, list[float]] = {part: [each.minutes[part] for each in sessions] for part in PARTS}
    for part, values in {**parts, "idle": [each.idle_minutes for each in sessions]}.items():
        n, mean, sd = mean_and_sd(values)
        ends = {"median": median(values), "low": min(values), "high": max(values)} if values else {}
        table[part] = {"sessions": n, "median": None, "low": None, "high": None, **ends, "mean": mean, "sd": sd}
    return table


def saved(of_arm: Mapping[str, Sequence[Finished]], baseline: str, arm: str) -> dict[str, Any]:
    """Minutes that an arm saves against the first one, paired by case, readers averaged; positive is saved.

    Only readings of readers who finished the case in both arms take part.
    """
    pairs = [
        (a.case, a.minutes["total"], b.minutes["total"])
        for a in of_arm[baseline]
        for b in of_arm[arm]
        if (a.reader, a.case) == (b.reader, b.case)
    ]
    before, after = (_averaged((case, row[n]) for case, *row in pairs) for n in (0, 1))
    rows = [
        {"case": case, "before": before[case], "after": after[case], "saved": before[case] - after[case]}
        for case in before
    ]
    difference = paired_difference([float(row["saved"]) for row in rows]) if rows else None
    share = [100 * row["saved"] / row["before"] for row in rows if row["before"]]
    return {
        "baseline": baseline,
        "arm": arm,
        "readings": len(pairs),
        "cases": rows,
        "difference": asdict(difference) if difference else None,
        "median_percent": median(share) if share else None,
    }


def burden(sessions: Sequence[Finished]) -> dict[str, Any]:
    """Time against the number and the size of the lesions, one point a case."""
    minutes = by_case(sessions, lambda each: each.minutes["total"])
    found: dict[str, Any] = {}
    against: dict[str, Callable[[Finished], float | None]] = {
        "lesions": lambda each: float(each.lesions),
        "largest_mm": lambda each: each.largest_mm,
    }
    for name, of in against.items():
        values = by_case(sessions, of)
        points = [(case, x, minutes[case]) for case, x in values.items() if x is not None and minutes[case] is not None]
        x, y = [float(p[1]) for p in points], [float(p[2] or 0) for p in points]
        found[name] = {"points": points, **asdict(association(x, y))}
    return found


def agreed(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Inter-reader agreement of an arm: each pair of readers of a case, and mean and SD over cases."""
    summary: dict[str, Any] = {"pairs": rows}
    for name in ("liver_dice", "tumour_dice", "liver_ml_difference_percent", "tumour_ml_difference_percent"):
        n, mean, sd = mean_and_sd(list(_averaged((row["case"], row[name]) for row in rows).values()))
        summary[name] = {"volumes": n, "mean": mean, "sd": sd}
    return summary


def learning(sessions: Sequence[Finished]) -> dict[str, Any]:
    """Each reader's times in the order of reading, as shares of the arm's median, and how they change a session."""
    middle = {
        arm: median(each.minutes["total"] for each in sessions if each.arm == arm) for arm in {s.arm for s in sessions}
    }
    curves: dict[str, Any] = {}
    for reader in sorted({each.reader for each in sessions}):
        own = sorted((each for each in sessions if each.reader == reader), key=lambda each: each.started_utc)
        points = [
            {"order": order, "minutes": each.minutes["total"], "share": each.minutes["total"] / middle[each.arm]}
            for order, each in enumerate(own, 1)
            if middle[each.arm]
        ]
        change = slope([p["order"] for p in points], [p["share"] for p in points])
        curves[reader] = {"points": points, "percent_a_session": None if change is None else 100 * change}
    return curves


def left_out(read: Read) -> dict[str, Any]:
    """A planned reading that is in no figure, and why."""
    return {**asdict(read.reading), "why": read.standing, "detail": read.reason}


def by_case(sessions: Sequence[Finished], value: Callable[[Finished], float | None]) -> dict[str, float | None]:
    """Case -> the mean of its readers' values, None where none has a meaning; cases in their order of name."""
    return _averaged((each.case, value(each)) for each in sessions)


def _measure_of(group: str, measure: str) -> Callable[[Finished], float | None]:
    return lambda session: session.comparison[group][measure]


def _averaged(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, list[float | None]] = defaultdict(list)
    for case, value in pairs:
        values[case].append(value)
    return {case: mean_and_sd(values[case])[1] for case in sorted(values)}
