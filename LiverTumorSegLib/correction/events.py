"""What can happen in a correction session, and to which part of the segmentation it belongs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ..errors import SessionError, is_unicode

Name = Literal[
    "start", "pause", "resume", "recover", "finish", "abandon",
    "edit", "stroke", "effect", "undo", "redo", "reject", "sensitivity",
    "select", "view", "accept", "focus_gained", "focus_lost", "tick", "gap",
]  # fmt: skip
Kind = Literal["editing", "reviewing", "idle", "paused"]

NAMES: tuple[Name, ...] = get_args(Name)
KINDS: tuple[Kind, ...] = get_args(Kind)
MOVES: frozenset[Name] = frozenset({"start", "pause", "resume", "recover", "finish", "abandon"})

# A segment class is one of these, or "lesion 3" where lesions are segments of their own.
NONE, LIVER, TUMOUR = "none", "liver", "tumour"
_CLASS = re.compile(r"none|liver|tumour|lesion [1-9]\d{0,3}")
_LESION = re.compile(r"(?:tumour|lesion)[ _]?([1-9]\d{0,3})", re.IGNORECASE)
_LONGEST_DETAIL = 64


@dataclass(frozen=True)
class Event:
    """One thing that happened; when, is said beside it.

    Attributes:
        name: what.
        segment: the segment class it is about, None where it is about none in particular.
        voxels_added: voxels that the segment gained.
        voxels_removed: voxels that the segment lost.
        detail: the effect's name, the sensitivity's factor, or of "finish" the checksum of the results.
        gap_ms: of "gap": by how much the wall clock ran ahead of the session's, negative when set back.
    """

    name: Name
    segment: str | None = None
    voxels_added: int = 0
    voxels_removed: int = 0
    detail: str = ""
    gap_ms: int = 0

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise SessionError(f"event: wanted one of {', '.join(NAMES)}, got {self.name!r}")
        if self.segment is not None and not (isinstance(self.segment, str) and _CLASS.fullmatch(self.segment)):
            raise SessionError(
                f"{self.name}: wanted a segment of none, liver, tumour or lesion N, got {self.segment!r}"
            )
        for name in ("voxels_added", "voxels_removed", "gap_ms"):
            count = getattr(self, name)
            if type(count) is not int or (count < 0 and name != "gap_ms"):
                raise SessionError(f"{self.name}: wanted whole {name}, not below 0, got {count!r}")
        if not isinstance(self.detail, str) or len(self.detail) > _LONGEST_DETAIL or not is_unicode(self.detail):
            raise SessionError(f"{self.name}: wanted a detail of at most {_LONGEST_DETAIL} characters")

    def fields(self) -> dict[str, Any]:
        """What is worth writing down: the attributes that say something."""
        said = {"event": self.name, "segment": self.segment, "voxels_added": self.voxels_added}
        said |= {"voxels_removed": self.voxels_removed, "detail": self.detail, "gap_ms": self.gap_ms}
        return {name: value for name, value in said.items() if value not in (None, 0, "")}

    @classmethod
    def of_fields(cls, fields: Mapping[str, Any]) -> Event:
        """The event that `fields` describes.

        Raises:
            SessionError: an unknown name or field, or a value out of range.
        """
        known = {"event", "segment", "voxels_added", "voxels_removed", "detail", "gap_ms"}
        if not fields.keys() <= known or "event" not in fields:
            raise SessionError(f"event: wanted the fields {', '.join(sorted(known))}, got {', '.join(sorted(fields))}")
        return cls(fields["event"], **{name: value for name, value in fields.items() if name != "event"})


def segment_class(segment: str | None) -> str:
    """The class of a segment by its id or name: "tumour_3" and "Tumour 3" are "lesion 3".

    Any other segment is "none": its name is the reader's own, may tell of a patient, and is not written down.
    """
    text = (segment or "").strip()
    if text.lower() in (LIVER, TUMOUR):
        return text.lower()
    lesion = _LESION.fullmatch(text)
    return f"lesion {lesion.group(1)}" if lesion else NONE


def group_of(segment: str) -> str:
    """What a segment class counts as in the sums: liver, tumour (with every lesion) or none."""
    return TUMOUR if segment.startswith("lesion ") else segment
