"""Splitting a session's time into editing, reviewing, idle and paused, by segment class, exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from .events import KINDS, LIVER, MOVES, NONE, TUMOUR, Event, Kind, group_of

_STARTS: Mapping[str, Kind] = MappingProxyType(
    {
        "start": "reviewing",
        "resume": "reviewing",
        "recover": "reviewing",
        "pause": "paused",
        "edit": "editing",
        "stroke": "editing",
        "effect": "editing",
        "undo": "editing",
        "redo": "editing",
        "reject": "editing",
        "sensitivity": "editing",
        "select": "reviewing",
        "view": "reviewing",
        "accept": "reviewing",
        "focus_gained": "reviewing",
        "focus_lost": "idle",
    }
)


@dataclass(frozen=True)
class Times:
    """How long, in whole milliseconds; the parts always sum to the whole.

    Attributes:
        parts: (kind, segment class) -> ms, only what is above 0.
    """

    parts: Mapping[tuple[Kind, str], int]

    @property
    def whole_ms(self) -> int:
        """From the start to now or to the end."""
        return sum(self.parts.values())

    @property
    def active_ms(self) -> int:
        """Editing and reviewing: what S1 calls the correction time."""
        return self.of("editing") + self.of("reviewing")

    def of(self, kind: Kind, group: str | None = None) -> int:
        """Ms of one kind, of every class or of one of liver, tumour (with its lesions) and none."""
        return sum(ms for (k, c), ms in self.parts.items() if k == kind and group in (None, group_of(c)))

    def active_of(self, group: str) -> int:
        """Ms of editing and reviewing of liver, tumour (with its lesions) or none."""
        return self.of("editing", group) + self.of("reviewing", group)

    def document(self) -> dict[str, object]:
        """For JSON: the whole, each kind, correction time by group, and every part by class."""
        classes = sorted({c for _, c in self.parts}, key=_class_order)
        return {
            "whole_ms": self.whole_ms,
            "active_ms": self.active_ms,
            **{f"{kind}_ms": self.of(kind) for kind in KINDS},
            "active_by_group_ms": {group: self.active_of(group) for group in (LIVER, TUMOUR, NONE)},
            "by_class_ms": {c: {k: self.parts[k, c] for k in KINDS if (k, c) in self.parts} for c in classes},
        }


class Timesheet:
    """Adds up a session's time from its events.

    The axis is the session's own: whole milliseconds since the start, from a clock that does not jump. Every moment
    of it falls into exactly one part (kind, segment class):

    1. An event *starts* a kind of time, which lasts until the next event, but no longer than `idle_after_ms`; from
       then on the time is idle. So idle begins `idle_after_ms` after the last event to the millisecond, however late
       the next one comes, and the time up to there is not taken back.
    2. Editing starts with: a stroke begun, an edit (a stroke that ended), an effect taken up, undo, redo, a lesion
       rejected, the sensitivity changed. What comes after an edit is thus still editing: looking at the result, moving
       to the next stroke's place.
    3. Reviewing starts with: the session's start, going on after a pause, any view move (scroll, zoom, turn), a
       segment selected, a lesion accepted, an effect put away, the window's return to the front. View moves end
       editing, they never are editing.
    4. Losing the window's focus starts idle time at once, until the next event: work elsewhere is not seen and not
       counted.
    5. A pause starts paused time, until the session goes on. After a crash the time from the last line written until
       the session is taken up again is paused too. Paused time belongs to the class "none".
    6. The class of all other time is that of the last segment that an event named ("none" before the first); an
       event that names none, such as a view move, keeps it. Idle time keeps the class at which the reader fell idle.
    7. Ticks and gaps start nothing: they only carry the sum forward.

    The time before a stroke's end belongs to what happened before it, so a tool should tell the beginning of a
    stroke too (`stroke`), not only its end (`edit`). While a computer sleeps the session's axis stands still or runs
    on idle, depending on its clock; neither is counted as work.
    """

    def __init__(self, idle_after_ms: int) -> None:
        """Start at 0, with nothing under way and no segment."""
        self._idle_after_ms = idle_after_ms
        self._at_ms = 0
        self._kind: Kind | None = None
        self._segment = NONE
        self._idle_from_ms = 0
        self._parts: dict[tuple[Kind, str], int] = {}

    @property
    def at_ms(self) -> int:
        """How far the time has been added up."""
        return self._at_ms

    @property
    def falls_idle_at_ms(self) -> int:
        """When the time under way becomes idle, if nothing happens before."""
        return self._idle_from_ms

    def is_reviewing(self, at_ms: int) -> bool:
        """Whether this moment would be reviewing, if nothing happened before."""
        return self._kind == "reviewing" and self._at_ms <= at_ms < self._idle_from_ms

    def apply(self, at_ms: int, event: Event) -> None:
        """Close the time up to the event, and start what the event starts.

        Raises:
            ValueError: at_ms lies before the last event.
        """
        if event.name == "recover":
            self._kind = "paused"
        self.advance(at_ms)
        if event.segment is not None:
            self._segment = event.segment
        kind = _STARTS.get(event.name)
        if event.name == "effect" and not event.detail:
            kind = "reviewing"
        if kind is not None:
            self._kind = kind
            self._idle_from_ms = at_ms + (0 if kind == "idle" else self._idle_after_ms)
        elif event.name in MOVES:  # the end
            self._kind = None

    def advance(self, at_ms: int) -> None:
        """Add up to this moment; what is under way goes on."""
        if at_ms < self._at_ms:
            raise ValueError(f"at_ms: wanted at least {self._at_ms}, got {at_ms}")
        if self._kind == "paused":
            self._add("paused", NONE, at_ms - self._at_ms)
        elif self._kind is not None:
            active = max(0, min(at_ms, self._idle_from_ms) - self._at_ms)
            self._add(self._kind, self._segment, active)
            self._add("idle", self._segment, at_ms - self._at_ms - active)
        self._at_ms = at_ms

    def times(self) -> Times:
        """The sums so far."""
        return Times(MappingProxyType(dict(self._parts)))

    def _add(self, kind: Kind, segment: str, ms: int) -> None:
        if ms:
            self._parts[kind, segment] = self._parts.get((kind, segment), 0) + ms


def _class_order(segment: str) -> tuple[int, int]:
    groups = (LIVER, TUMOUR, NONE)
    number = segment.removeprefix("lesion ")
    return groups.index(group_of(segment)), int(number) if number.isdigit() else 0
