"""What a session's events add up to: its state, its times, the work on each segment, the clock's gaps.

A live session and the replay of its journal feed the same class, so they cannot differ.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from ..errors import SessionError
from .events import NONE, Event
from .timing import Times, Timesheet

State = Literal["not started", "running", "paused", "finished", "abandoned"]

# What each state allows, and where it leads. A crash can fall between the journal's header and the start, or between
# its last line and the results: such sessions, too, may be recovered.
_MOVES: dict[str, tuple[tuple[State, ...], State]] = {
    "start": (("not started",), "running"),
    "pause": (("running",), "paused"),
    "resume": (("paused",), "running"),
    "recover": (("not started", "running", "paused", "finished"), "running"),
    "finish": (("running", "paused"), "finished"),
    "abandon": (("running", "paused"), "abandoned"),
}
_STROKES = ("edit",)
_CHANGES = ("edit", "undo", "redo", "reject", "sensitivity")


@dataclass(frozen=True)
class Effort:
    """The work on one segment class, as the events told it, corrections of corrections included.

    Attributes:
        strokes: edits; undo, redo, rejected lesions and the sensitivity are none.
        undone: how often something was undone.
        voxels_added: sum over all strokes and other changes.
        voxels_removed: the same of what was taken away.
    """

    strokes: int = 0
    undone: int = 0
    voxels_added: int = 0
    voxels_removed: int = 0


@dataclass(frozen=True)
class Gap:
    """The wall clock jumped against the session's: the computer slept, or the clock was set.

    Attributes:
        at_ms: when it was noticed, on the session's axis.
        gap_ms: by how much the wall clock ran ahead; negative: it was set back. Not counted as time.
    """

    at_ms: int
    gap_ms: int


class Account:
    """The running sum over a session's events."""

    def __init__(self, idle_after_ms: int) -> None:
        """Begin with a session that was not started."""
        self.state: State = "not started"
        self.sheet = Timesheet(idle_after_ms)
        self.effort: dict[str, Effort] = {}
        self.gaps: list[Gap] = []
        self.recoveries = 0
        self.events = 0
        self.decisions: dict[str, str] = {}

    @property
    def times(self) -> Times:
        """The times up to the last event or tick."""
        return self.sheet.times()

    def check(self, event: Event) -> None:
        """Refuse what the state does not allow.

        Raises:
            SessionError: an illegal move; says which states allow it.
        """
        allowed, _ = _MOVES.get(event.name, (("running",), "running"))
        if event.name == "gap":
            allowed = ("running", "paused")
        if self.state not in allowed:
            raise SessionError(f"{event.name}: wanted a session that is {' or '.join(allowed)}, got one {self.state}")

    def apply(self, at_ms: int, event: Event) -> None:
        """Add one event at a moment of the session's axis.

        Raises:
            SessionError: the state does not allow it.
            ValueError: the moment lies before the last event.
        """
        self.check(event)
        self.sheet.apply(at_ms, event)
        if event.name in _MOVES:
            self.state = _MOVES[event.name][1]
        self.events += event.name not in ("tick", "gap")
        self.recoveries += event.name == "recover"
        if event.name == "gap":
            self.gaps.append(Gap(at_ms, event.gap_ms))
        if event.name in ("accept", "reject") and event.segment:
            self.decisions[event.segment] = f"{event.name}ed"
        if event.name in _CHANGES:
            self._add_effort(event)

    def document(self) -> dict[str, Any]:
        """For JSON: times, effort by class, gaps, decisions."""
        return {
            "times": self.times.document(),
            "effort": {segment: asdict(effort) for segment, effort in sorted(self.effort.items())},
            "gaps": [asdict(gap) for gap in self.gaps],
            "recoveries": self.recoveries,
            "events": self.events,
            "decisions": self.decisions,
        }

    def _add_effort(self, event: Event) -> None:
        segment = event.segment or NONE
        before = self.effort.get(segment, Effort())
        self.effort[segment] = replace(
            before,
            strokes=before.strokes + (event.name in _STROKES),
            undone=before.undone + (event.name == "undo"),
            voxels_added=before.voxels_added + event.voxels_added,
            voxels_removed=before.voxels_removed + event.voxels_removed,
        )
