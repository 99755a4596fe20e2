"""A journal's lines back into what they add up to, and the sessions that wait to be taken up again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import JournalError
from .account import Account
from .clock import wall_ns_of
from .events import Event
from .journal_lines import JOURNAL, SESSION, is_begun, read_journal
from .reading import reading_of


def replayed(lines: list[dict[str, Any]]) -> Account:
    """The account that a journal's lines add up to.

    Raises:
        JournalError: a line does not fit those before it; names it, from 1.
    """
    account = Account(_checked_header(lines[0])["idle_after_ms"])
    for number, line in enumerate(lines[1:], 2):
        try:
            told = {name: value for name, value in line.items() if name not in ("t", "utc")}
            wall_ns_of(line["utc"])
            account.apply(line["t"], Event.of_fields(told))
        except (KeyError, TypeError, ValueError) as error:
            place = f"{JOURNAL}, line {number}"
            raise JournalError(f"{place}: wanted what can follow the lines before, got {error}") from error
    return account


def unfinished_sessions(folder: Path) -> list[Path]:
    """The folders right below `folder` with a session that was begun and neither finished nor abandoned, newest last.

    A journal that is not sound is among them: `CorrectionSession.recover` says what is wrong with it.
    """
    found = []
    for journal in sorted(Path(folder).glob(f"*/{JOURNAL}"), key=lambda path: path.stat().st_mtime_ns):
        if (journal.parent / SESSION).exists() or not is_begun(journal.parent):
            continue
        try:
            over = replayed(read_journal(journal.parent).lines).state == "abandoned"
        except JournalError:
            over = False
        if not over:
            found.append(journal.parent)
    return found


def _checked_header(header: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        reading_of(header)
        wall_ns_of(header["utc"])
        if type(header["idle_after_ms"]) is not int or not isinstance(header["reference"]["sha256"], str):
            raise TypeError("other types")
    except (KeyError, TypeError, ValueError) as error:
        raise JournalError(f"{JOURNAL}, line 1: wanted a session's header, got {error}") from error
    return header
