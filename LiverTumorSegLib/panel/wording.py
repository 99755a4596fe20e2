"""What the user reads: steps, times, sizes and places in plain words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..networks.devices import Device

_STAGES = {"whole": "Finding the liver", "crop": "Finding lesions"}
_OPENING = "Loading the networks"
# Shares of a run's time, measured on a CT of 512 x 512 x 200 voxels; only their order has to be right.
_OPENING_SHARE, _PREPARE_SHARE, _LABELS_SHARE = 0.1, 0.2, 0.15


def lacking_text(what: str, error: ModuleNotFoundError) -> str:
    """What cannot be done for lack of a Python package, and the remedy."""
    return f"{what} without the Python package {error.name}; Apply installs it."


def unforeseen_text(error: Exception) -> str:
    """An error that nobody has foreseen, in one line; what it says may go on for many."""
    said = " ".join(str(error).split())[:160]
    return f"Ended by an unforeseen {type(error).__name__}{said and f': {said}'}; Slicer's log has more."


def step_text(step: str) -> str:
    """A step of `segment()` as the status line says it, "whole: network" for example."""
    stage, _, part = step.partition(": ")
    if stage in _STAGES:
        return _STAGES[stage] if part == "network" else f"{_STAGES[stage]} (preparing)"
    return {"labels": "Drawing the result", "open": _OPENING}.get(step, step[:1].upper() + step[1:])


def overall_share(stages: Sequence[str], step: str, share: float) -> float | None:
    """How much of the whole run is done.

    Args:
        stages: the names of the bundle's stages.
        step: the step under way.
        share: of that step, 0 to 1.

    Returns:
        0 to 1, or None for a step that is none of the cascade's.
    """
    each = (1.0 - _OPENING_SHARE - _LABELS_SHARE) / max(1, len(stages))
    began, lasts = _OPENING_SHARE, each
    name, _, part = step.partition(": ")
    if name in stages:
        began += list(stages).index(name) * each
        prepare = _PREPARE_SHARE * each
        began, lasts = (began + prepare, each - prepare) if part == "network" else (began, prepare)
    elif step == "labels":
        began, lasts = 1.0 - _LABELS_SHARE, _LABELS_SHARE
    else:
        return None
    return began + lasts * min(1.0, max(0.0, share))


def elapsed_text(seconds: float) -> str:
    """Minutes and seconds: 75 is "1:15"."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def count_text(number: int, noun: str) -> str:
    """A number of things: "1 lesion", "3 lesions"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def volume_text(millilitres: float) -> str:
    """Three significant digits below a litre, whole millilitres above."""
    if millilitres >= 100:
        return f"{millilitres:,.0f}".replace(",", "\u202f")
    return f"{millilitres:.1f}" if millilitres >= 10 else f"{millilitres:.2f}"


def number_text(number: float) -> str:
    """A whole number with a minus as long as a plus."""
    return f"{number:.0f}".replace("-", "\u2212")


def place_text(ras_mm: Sequence[float]) -> str:
    """A place in Slicer's world: (12, -40, 88) is "R12 P40 S88"."""
    names = zip(ras_mm, ("RL", "AP", "SI"), strict=True)
    return " ".join(f"{pair[0] if value >= 0 else pair[1]}{abs(value):.0f}" for value, pair in names)


def summary_html(liver_ml: float, tumour_ml: float, burden_percent: float, lesions: int) -> str:
    """The three figures of a result side by side, as rich text."""
    cells = [
        (f"{volume_text(liver_ml)} ml", "liver"),
        (f"{volume_text(tumour_ml)} ml", f"in {count_text(lesions, 'lesion')}"),
        (f"{burden_percent:.1f} %", "of the liver"),
    ]
    columns = "".join(
        f'<td width="33%" align="center"><span style="font-size:large; font-weight:600">{escape(figure)}</span>'
        f"<br/>{escape(caption)}</td>"
        for figure, caption in cells
    )
    return f'<table width="100%" cellpadding="2"><tr>{columns}</tr></table>'


def device_text(device: Device) -> str:
    """A device as the list of them says it: its name, and the memory that is free."""
    if device.free_mb is None or device.total_mb is None:
        return device.name
    return f"{device.name} ({device.free_mb / 1e3:.1f} of {device.total_mb / 1e3:.1f} GB free)"


def clock_html(seconds: Mapping[str, float], groups: Mapping[str, float], paused: bool) -> str:
    """A session's clock as rich text: its kinds of time side by side, and below them what they went to.

    Args:
        seconds: kind -> so far.
        groups: segment -> editing and reviewing of it so far.
        paused: nothing runs on.
    """
    colour = "#9aa2ae" if paused else "palette(text)"
    columns = "".join(
        f'<td width="33%" align="center"><span style="font-size:large; font-weight:600; color:{colour}">'
        f"{elapsed_text(value)}</span><br/>{escape(kind)}</td>"
        for kind, value in seconds.items()
    )
    below = " · ".join(f"{escape(group)} {elapsed_text(value)}" for group, value in groups.items())
    below += " · paused" if paused else ""
    rows = f'<tr>{columns}</tr><tr><td colspan="3" align="center">{below}</td></tr>'
    return f'<table width="100%" cellpadding="2">{rows}</table>'


def dice_text(dice: Mapping[str, float] | None) -> str:
    """How far what the reader started from is from the labels now, or nothing."""
    if dice is None:
        return ""
    return "Start against now: " + ", ".join(
        f"{name} –" if math.isnan(value) else f"{name} {value:.3f}" for name, value in dice.items()
    )
