"""What a reader does, one method each: the names that observers of an editor call.

Segments may be given by their class ("liver", "tumour", "lesion 3") or by id or name as in Slicer ("tumour_3"), see
`events.segment_class`. What each starts, editing or reviewing, is said in `timing.Timesheet`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from .events import TUMOUR, Event, Name, segment_class


class Actions(ABC):
    """Turns calls into events.

    Each raises a SessionError when the session is not running, and a JournalError when the event cannot be noted;
    then it does not count, and the next is tried again.
    """

    @abstractmethod
    def _happen(self, event: Event) -> None:
        """Note and count an event that happens now."""

    @abstractmethod
    def viewed(self) -> None:
        """A view moved: slice scrolled, zoomed, panned, 3D turned."""

    def edited(self, segment: str, voxels_added: int = 0, voxels_removed: int = 0) -> None:
        """A stroke ended, or a segment changed by other means."""
        self._happen(_change("edit", segment, voxels_added, voxels_removed))

    def stroke_began(self, segment: str) -> None:
        """The pointer went down with an effect in hand; what follows is editing."""
        self._happen(Event("stroke", segment_class(segment)))

    def effect_chosen(self, effect: str) -> None:
        """The editor's active effect changed; "" when it was put away."""
        self._happen(Event("effect", detail=effect))

    def selected(self, segment: str) -> None:
        """A segment, or a lesion of the table, was selected: what follows is about it."""
        self._happen(Event("select", segment_class(segment)))

    def undone(self, segment: str, voxels_added: int = 0, voxels_removed: int = 0) -> None:
        """A change was taken back."""
        self._happen(_change("undo", segment, voxels_added, voxels_removed))

    def redone(self, segment: str, voxels_added: int = 0, voxels_removed: int = 0) -> None:
        """A change that was taken back was made again."""
        self._happen(_change("redo", segment, voxels_added, voxels_removed))

    def accepted(self, lesion: str) -> None:
        """The reader agreed with a lesion."""
        self._happen(Event("accept", segment_class(lesion)))

    def rejected(self, lesion: str, voxels_removed: int = 0) -> None:
        """The reader turned a lesion into liver."""
        self._happen(_change("reject", lesion, 0, voxels_removed))

    def sensitivity_changed(self, factor: float, voxels_added: int = 0, voxels_removed: int = 0) -> None:
        """The tumours were drawn anew with another sensitivity."""
        self._happen(Event("sensitivity", TUMOUR, voxels_added, voxels_removed, f"{factor:g}"))

    def focus_lost(self) -> None:
        """The program's window went to the back."""
        self._happen(Event("focus_lost"))

    def focus_gained(self) -> None:
        """The program's window came to the front."""
        self._happen(Event("focus_gained"))


def _change(name: Name, segment: str, added: int, removed: int) -> Event:
    return Event(name, segment_class(segment), int(added), int(removed))
