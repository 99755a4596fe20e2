"""The report's figures as marks in pixels; the template draws them as SVG, so that they stay sharp at any size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_TOP, _BOTTOM = 14, 46
_LETTER_PX = 6.6  # how wide a letter of a label is at most


@dataclass(frozen=True)
class Tick:
    """A place on an axis, in pixels, and what stands there."""

    at: float
    text: str


@dataclass(frozen=True)
class Mark:
    """A bar (with width and height) or a dot (without), its series for the colour, and what the pointer shows."""

    x: float
    y: float
    series: str
    tip: str
    width: float = 0.0
    height: float = 0.0


@dataclass(frozen=True)
class Line:
    """A line through points "x,y x,y"."""

    points: str
    series: str


@dataclass(frozen=True)
class Figure:
    """A figure, ready to be drawn.

    Attributes:
        plot: left, top, right, bottom of the field, in pixels.
        grid: the axis whose ticks have lines across the field.
    """

    width: float
    height: float
    plot: tuple[float, float, float, float]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    x_title: str = ""
    y_title: str = ""
    grid: str = "y"
    bars: tuple[Mark, ...] = ()
    dots: tuple[Mark, ...] = ()
    lines: tuple[Line, ...] = ()


@dataclass(frozen=True)
class Scale:
    """Values -> pixels, with round ticks; a scale may run backwards, as upward axes do in SVG."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 2)

    def ticks(self, count: int = 5) -> tuple[Tick, ...]:
        """About so many ticks at round values."""
        step = round_step((self.high - self.low) / count)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return tuple(Tick(self(n * step), f"{n * step:g}") for n in range(first, last + 1))


def round_step(rough: float) -> float:
    """The next of 1, 2, 5, 10, 20 ... that is not smaller."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))


def scale_from_zero(values: Sequence[float], start: float, end: float) -> Scale:
    """A scale from 0 to a round value above all."""
    top = max([*values, 1e-9])
    step = round_step(top / 5)
    return Scale(0.0, math.ceil(top / step - 1e-9) * step, start, end)


def pairs_by_case(cases: Sequence[Mapping[str, Any]], baseline: str, arm: str, width: float = 1040) -> Figure:
    """Minutes of each case in two arms, joined by a line; longest first."""
    ordered = sorted(cases, key=lambda case: -case["before"])
    left, right, row = _label_width([case["case"] for case in ordered]), width - 24, 24
    bottom = _TOP + row * len(ordered)
    x = scale_from_zero([v for case in ordered for v in (case["before"], case["after"])], left, right)
    dots, lines, ticks = [], [], []
    for number, case in enumerate(ordered):
        y = _TOP + row * (number + 0.5)
        ticks.append(Tick(y, case["case"]))
        lines.append(Line(f"{x(case['before'])},{y} {x(case['after'])},{y}", "join"))
        for name, value, series in ((baseline, case["before"], "a0"), (arm, case["after"], "a1")):
            dots.append(Mark(x(value), y, series, f"{case['case']}, {name}: {value:.1f} min"))
    plot = (left, _TOP, right, bottom)
    title = "minutes of editing and reviewing, mean of the readers"
    return Figure(
        width, bottom + _BOTTOM, plot, x.ticks(8), tuple(ticks), title, "", "x", (), tuple(dots), tuple(lines)
    )


def stacked_times(times: Mapping[str, Mapping[str, Mapping[str, Any]]], width: float = 1040) -> Figure:
    """Mean minutes of each arm, stacked: liver, tumour, neither."""
    arms = [arm for arm in times if times[arm]["total"]["mean"] is not None]
    left, right, row = _label_width(arms), width - 24, 44
    bottom = _TOP + row * len(arms)
    x = scale_from_zero([times[arm]["total"]["mean"] for arm in arms], left, right)
    bars, ticks = [], []
    for number, arm in enumerate(arms):
        y, done = _TOP + row * number + 8, 0.0
        ticks.append(Tick(y + (row - 16) / 2, arm))
        for part in ("liver", "tumour", "no_segment"):
            value = times[arm][part]["mean"]
            tip = f"{arm}, {part.replace('_', ' ')}: {value:.1f} min"
            bars.append(Mark(x(done), y, part, tip, round(x(done + value) - x(done), 2), row - 16))
            done += value
    plot = (left, _TOP, right, bottom)
    title = "mean minutes of editing and reviewing a session"
    return Figure(width, bottom + _BOTTOM, plot, x.ticks(8), tuple(ticks), title, "", "x", tuple(bars))


def dice_bars(by_case: Mapping[str, Mapping[str, float | None]], width: float = 1040) -> Figure:
    """Two bars a case: Dice of liver and tumour (S1, figure 7)."""
    left, right, bottom = 56.0, width - 16, 260.0
    right = max(right, left + 34 * len(by_case))
    y = Scale(0.0, 1.0, bottom, _TOP)
    slot = (right - left) / max(1, len(by_case))
    bar = min(26.0, slot * 0.36)
    bars, ticks = [], []
    for number, (case, dice) in enumerate(by_case.items()):
        middle = left + slot * (number + 0.5)
        ticks.append(Tick(round(middle, 2), case))
        for group, shift in (("liver", -bar - 1), ("tumour", 1.0)):
            value = dice[group]
            if value is not None:
                tip = f"{case}, {group}: Dice {value:.3f}"
                bars.append(Mark(round(middle + shift, 2), y(value), group, tip, bar, round(bottom - y(value), 2)))
    plot = (left, _TOP, right, bottom)
    return Figure(right + 16, bottom + 34, plot, tuple(ticks), y.ticks(), "", "Dice", "y", tuple(bars))


def scatter(points: Mapping[str, Sequence[tuple[str, float, float]]], x_title: str, width: float = 510) -> Figure:
    """Minutes against something else; series -> (label, x, minutes), series numbered in their order."""
    left, right, bottom = 56.0, width - 16, 270.0
    everything = [point for each in points.values() for point in each]
    x = scale_from_zero([p[1] for p in everything], left, right)
    y = scale_from_zero([p[2] for p in everything], bottom, _TOP)
    dots = [
        Mark(x(a), y(b), f"a{number}", f"{label}, {series}: {a:g}, {b:.1f} min")
        for number, (series, each) in enumerate(points.items())
        for label, a, b in each
    ]
    plot = (left, _TOP, right, bottom)
    return Figure(width, bottom + _BOTTOM, plot, x.ticks(), y.ticks(), x_title, "minutes", "y", (), tuple(dots))


def curves(learning: Mapping[str, Mapping[str, Any]], width: float = 1040) -> Figure:
    """One line a reader: the time of each session as a share of the arm's median, in the order of reading."""
    left, right, bottom = 56.0, width - 16, 270.0
    points = [p for each in learning.values() for p in each["points"]]
    last = max([p["order"] for p in points], default=1)
    x = Scale(0.5, last + 0.5, left, right)
    y = scale_from_zero([p["share"] for p in points], bottom, _TOP)
    dots, lines = [], [Line(f"{left},{y(1)} {right},{y(1)}", "median")]
    for number, (reader, each) in enumerate(learning.items()):
        places = [(x(p["order"]), y(p["share"]), p) for p in each["points"]]
        lines.append(Line(" ".join(f"{a},{b}" for a, b, _ in places), f"r{number % 6}"))
        tips = [f"{reader}, session {p['order']}: {p['minutes']:.1f} min, {p['share']:.2f}" for *_, p in places]
        dots += [Mark(a, b, f"r{number % 6}", tip) for (a, b, _), tip in zip(places, tips, strict=True)]
    every = max(1, math.ceil(last / 20))
    ticks = tuple(Tick(x(order), str(order)) for order in range(1, last + 1) if (order - 1) % every == 0)
    plot = (left, _TOP, right, bottom)
    titles = "session, in the reader's order", "time ÷ the arm's median"
    return Figure(width, bottom + _BOTTOM, plot, ticks, y.ticks(), *titles, "y", (), tuple(dots), tuple(lines))


def _label_width(labels: Sequence[str]) -> float:
    return 30 + _LETTER_PX * max([len(label) for label in labels], default=1)
