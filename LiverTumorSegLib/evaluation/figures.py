"""The page's figures, drawn by matplotlib as SVG that takes the page's font and colours.

matplotlib writes plain colours; each of ours stands for one of the page's variables, so that a figure follows the
reader's light or dark setting as the rest of the page does.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..matching import RULES
from .froc import FrocPoint
from .run import Evaluation
from .scores import CaseScore
from .sizes import DIAMETERS
from .summary import Summary
from .tables import RULE_NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, QUIET, LINE, CARD = "#010203", "#010204", "#010205", "#010206"
LIVER, TUMOUR = "#010207", "#010208"
RULE_COLOURS = ("#010209", "#01020a", "#01020b")
VARIABLES = {
    INK: "--ink",
    QUIET: "--quiet",
    LINE: "--line",
    CARD: "--card",
    LIVER: "--liver",
    TUMOUR: "--tumour",
    **dict(zip(RULE_COLOURS, ("--first", "--second", "--third"), strict=True)),
}
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "evaluation",
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": False,  # a case may be called a$b
    "axes.labelcolor": QUIET,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": QUIET,
    "ytick.labelcolor": QUIET,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}

Drawing = Callable[["Axes"], None]


def figures(evaluation: Evaluation, summary: Summary) -> list[tuple[str, str]]:
    """The figures that this evaluation has something for, as (caption, SVG)."""
    lesions = [lesion for case in evaluation.cases for lesion in case.lesions]
    drawings: list[tuple[str, Drawing]] = [
        ("Dice of every case, worst first", lambda axes: _dices(axes, evaluation.cases)),
    ]
    if lesions:
        drawings += [
            ("Lesions found, by longest axial diameter", lambda axes: _recalls(axes, summary)),
            ("Dice of each lesion; hollow ones were missed", lambda axes: _sizes(axes, evaluation.cases)),
        ]
    if any(case.tumour.reference_voxels and case.tumour.predicted_voxels for case in evaluation.cases):
        drawings.append(("Tumour volume of each case", lambda axes: _volumes(axes, evaluation.cases)))
    if evaluation.froc and lesions:
        drawings.append(("Sensitivity over false lesions (FROC)", lambda axes: _froc(axes, evaluation.froc)))
    return [(caption, _svg(drawing)) for caption, drawing in drawings]


def _dices(axes: Axes, cases: Sequence[CaseScore]) -> None:
    ordered = sorted(cases, key=worst_first)
    places = range(1, len(ordered) + 1)
    tumours = [(n, case.tumour.values["dice"]) for n, case in zip(places, ordered, strict=True) if _has_tumour(case)]
    size = max(3.0, min(7.0, 160 / len(ordered)))
    axes.plot(places, [c.liver.values["dice"] for c in ordered], "o", color=LIVER, ms=size, label="liver")
    if tumours:
        axes.plot(*zip(*tumours, strict=True), "D", color=TUMOUR, ms=size * 0.85, label="tumour")
    axes.set(ylim=(-0.03, 1.03), xlim=(0.4, len(ordered) + 0.6), ylabel="Dice", xlabel="case")
    axes.set_xticks(list(places) if len(ordered) <= 12 else [])
    if len(ordered) <= 12:
        axes.set_xticklabels([case.name[:14] for case in ordered], rotation=30, ha="right")
        axes.set_xlabel("")
    axes.grid(visible=False, axis="x")
    axes.legend(loc="lower right", ncols=2)


def _recalls(axes: Axes, summary: Summary) -> None:
    classes = [size for size in DIAMETERS if summary.detection("half", size.name).recall.count]
    for n, (rule, colour) in enumerate(zip(RULES, RULE_COLOURS, strict=True)):
        each = [summary.detection(rule, size.name).recall for size in classes]
        places = [place + (n - 1) * 0.26 for place in range(len(classes))]
        axes.bar(places, [e.value for e in each], 0.24, color=colour, label=RULE_NAMES[rule])
        known = [(p, e) for p, e in zip(places, each, strict=True) if not math.isnan(e.low)]
        if known:
            axes.vlines([p for p, _ in known], [e.low for _, e in known], [e.high for _, e in known], color=INK, lw=1)
    counts = [summary.detection("half", size.name).recall.count for size in classes]
    names = [f"{size.name}\n{count} lesions" for size, count in zip(classes, counts, strict=True)]
    axes.set_xticks(range(len(classes)), names)
    axes.set(ylim=(0, 1.03), ylabel="share found")
    axes.grid(visible=False, axis="x")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.16), ncols=3, handlelength=1)


def _sizes(axes: Axes, cases: Sequence[CaseScore]) -> None:
    points = [(s.lesion.axial_long_axis_mm, s.dice, "half" in s.found) for case in cases for s in case.lesions]
    for found in (True, False):
        chosen = [point[:2] for point in points if point[2] == found]
        if chosen:
            face = TUMOUR if found else CARD
            axes.plot(*zip(*chosen, strict=True), "o", mfc=face, mec=TUMOUR, ms=5.5, mew=1.2, ls="none")
    axes.set(xscale="log", ylim=(-0.03, 1.03), ylabel="Dice of the lesion", xlabel="longest axial diameter, mm")
    _plain_ticks(axes, "x", [p[0] for p in points])


def _volumes(axes: Axes, cases: Sequence[CaseScore]) -> None:
    volumes = [_millilitres(case) for case in cases if case.tumour.reference_voxels and case.tumour.predicted_voxels]
    ends = min(map(min, volumes)) * 0.7, max(map(max, volumes)) * 1.4
    axes.plot(ends, ends, color=QUIET, lw=1, ls=(0, (4, 3)))
    axes.plot(*zip(*volumes, strict=True), "D", color=TUMOUR, ms=5)
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel="reference, ml", ylabel="prediction, ml")
    for axis in ("x", "y"):
        _plain_ticks(axes, axis, list(ends))


def _froc(axes: Axes, points: Sequence[FrocPoint]) -> None:
    for rule, colour in zip(RULES, RULE_COLOURS, strict=True):
        chosen = sorted((p for p in points if p.rule == rule), key=lambda point: point.factor)
        across, up = [p.false_per_case for p in chosen], [p.sensitivity for p in chosen]
        axes.plot(across, up, "o-", color=colour, ms=4.5, lw=1.6, label=RULE_NAMES[rule])
        if rule == "half":
            for place, factors in _places(chosen).items():
                text = f"{factors[0]:g}" if len(factors) == 1 else f"{factors[0]:g} to {factors[-1]:g}"
                axes.annotate(text, place, (4, -11), textcoords="offset points", fontsize=8, color=QUIET)
    froc_axes(axes, max(point.false_per_case for point in points))
    axes.legend(loc="lower right")


def froc_axes(axes: Axes, most: float) -> None:
    """Axes for shares found over so many false lesions a case.

    They are linear up to one of them, where most of what is of use happens, and logarithmic beyond.
    """
    axes.set_xscale("symlog", linthresh=1, linscale=1.5)
    ticks = [0, 0.25, 0.5, *(2.0**n for n in range(12) if 2**n <= 2 * most)]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlim(-0.05, max(1.05, most * 1.2))
    axes.set(ylim=(0, 1.03), ylabel="share of lesions found", xlabel="false lesions a case")


def _places(points: Sequence[FrocPoint]) -> dict[tuple[float, float], list[float]]:
    """Point on the curve -> the factors that lead there."""
    places: dict[tuple[float, float], list[float]] = {}
    for point in points:
        places.setdefault((point.false_per_case, point.sensitivity), []).append(point.factor)
    return places


def worst_first(case: CaseScore) -> tuple[float, float]:
    """What sorts cases: the lower of its two Dice, and the liver's."""
    liver = case.liver.values["dice"]
    return (min(case.tumour.values["dice"], liver) if _has_tumour(case) else liver), liver


def _has_tumour(case: CaseScore) -> bool:
    return bool(case.tumour.reference_voxels or case.tumour.predicted_voxels)


def _millilitres(case: CaseScore) -> tuple[float, float]:
    voxel = math.prod(case.spacing_mm) / 1000
    return case.tumour.reference_voxels * voxel, case.tumour.predicted_voxels * voxel


def _plain_ticks(axes: Axes, axis: str, values: Sequence[float]) -> None:
    """Round numbers on a logarithmic axis, at least two of them, written plainly."""
    low, high = min(values) * 0.8, max(values) * 1.25
    steps = [m * 10.0**e for e in range(-4, 6) for m in (1, 2, 5)]
    while len(ticks := [step for step in steps if low <= step <= high]) < 2:
        low, high = low * 0.8, high * 1.25
    ticks = ticks if len(ticks) <= 8 else [step for step in ticks if f"{step:e}"[0] == "1"]
    getattr(axes, f"set_{axis}lim")(low, high)
    getattr(axes, f"set_{axis}ticks")(ticks, [f"{tick:g}" for tick in ticks])
    getattr(axes, f"set_{axis}ticks")([], minor=True)


def _svg(drawing: Drawing) -> str:
    """One figure as an SVG element that is as large as the page lets it be."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 3.5), layout="constrained")
        drawing(figure.subplots())
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None})
    svg = re.sub(r"<metadata>.*?</metadata>", "", written.getvalue(), flags=re.DOTALL)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    box = re.search(r'viewBox="[^"]+"', svg)
    return f'<svg {box[0] if box else ""} role="img">{svg[svg.index(">", svg.index("<svg")) + 1 :]}'
