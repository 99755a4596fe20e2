"""A session's diary, as it is read: numbered JSON lines, each sealed with the checksum of all before it.

A line is one JSON object: its number `n` from 0, what was noted, and last `sha256` = SHA-256 of the previous line's
`sha256` (64 zeros for the first) followed by the line without that field. So a line that was changed, removed, added
or moved is found and named; that lines are missing at the end is seen only against the count and checksum that
`session.json` keeps. This shows mishaps and careless changes; who writes all lines anew, seals included, is not seen.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import JournalError

JOURNAL = "journal.jsonl"
SESSION = "session.json"  # what a finished session leaves beside it
SCHEMA_VERSION = 1
FIRST_SHA256 = "0" * 64


@dataclass(frozen=True)
class Contents:
    """What a journal file holds.

    Attributes:
        lines: the notes, without `n` and `sha256`; the first is the header.
        sha256: of the last line.
        whole_bytes: the length of the whole lines.
        torn_bytes: what follows them: the beginning of a line that a crash cut off, not part of the journal.
    """

    lines: list[dict[str, Any]]
    sha256: str
    whole_bytes: int
    torn_bytes: int


def sealed_line(number: int, note: Mapping[str, Any], previous: str) -> tuple[bytes, str]:
    """A line of the journal, and its checksum.

    Args:
        number: of the line, from 0.
        note: what it says.
        previous: the checksum of the line before, `FIRST_SHA256` for the first.
    """
    body = json.dumps({"n": number, **note}, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    sha256 = _digest(previous, body.encode())
    return f'{body[:-1]},"sha256":"{sha256}"}}\n'.encode(), sha256


def is_begun(folder: Path) -> bool:
    """Whether a folder has a journal with a whole line; a crash in the first moment leaves one without."""
    try:
        with (folder / JOURNAL).open("rb") as file:
            return file.readline().endswith(b"\n")
    except FileNotFoundError:
        return False
    except OSError:
        return True  # of what is there instead, `read_journal` says that it is none


def read_journal(folder: Path) -> Contents:
    """Read and verify a folder's journal; nobody's lock is needed.

    Raises:
        JournalError: it cannot be read, or a line is not as it was written; names the line, from 1.
    """
    try:
        content = (folder / JOURNAL).read_bytes()
    except OSError as error:
        raise JournalError(f"{JOURNAL}: wanted a journal in {folder.name}, got: {error.strerror}") from error
    whole = content.rfind(b"\n") + 1
    lines: list[dict[str, Any]] = []
    sha256 = FIRST_SHA256
    for number, line in enumerate(content[:whole].splitlines()):
        note, sha256 = _opened(number, line, sha256)
        lines.append(note)
    if not lines:
        raise JournalError(f"{JOURNAL}, line 1: wanted a header, got an empty journal")
    if lines[0].get("schema_version") != SCHEMA_VERSION:
        got = lines[0].get("schema_version")
        raise JournalError(f"{JOURNAL}, line 1: wanted schema_version {SCHEMA_VERSION}, got {got!r}")
    return Contents(lines, sha256, whole, len(content) - whole)


def _opened(number: int, line: bytes, previous: str) -> tuple[dict[str, Any], str]:
    """A line's note and checksum, after checking both."""
    place = f"{JOURNAL}, line {number + 1}"
    try:
        note = json.loads(line)
        found, sha256 = note.pop("n"), note.pop("sha256")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise JournalError(f"{place}: wanted a numbered and sealed JSON object, got {line[:40]!r}") from None
    if found != number:
        raise JournalError(f"{place}: wanted number {number}, got {found!r}: lines are missing, added or out of order")
    body = line[: line.rfind(b',"sha256":')] + b"}"
    if sha256 != _digest(previous, body):
        raise JournalError(f"{place}: wanted the line as it was written, got one that was changed since")
    return note, sha256


def _digest(previous: str, body: bytes) -> str:
    return hashlib.sha256(previous.encode("ascii") + body).hexdigest()
