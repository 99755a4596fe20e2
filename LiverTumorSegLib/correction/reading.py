"""Who corrects which case, in codes: nothing of a session names a person."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import SessionError

_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")


@dataclass(frozen=True)
class Reading:
    """Who corrects what: codes only, never a name.

    Attributes:
        reader: the code that the reader typed.
        case: the case's code in the study.
        arm: how the reading starts, "correct" or "manual" for example.
        period: which round of the study, from 1.
        position: the reader's how manieth reading it is planned to be, from 1.
    """

    reader: str
    case: str
    arm: str = "correct"
    period: int = 1
    position: int = 1

    def __post_init__(self) -> None:
        for name in ("reader", "case", "arm"):
            check_code(name, getattr(self, name))


def reading_of(header: Mapping[str, Any]) -> Reading:
    """Who reads what, of a journal's header or a `session.json`.

    Raises:
        SessionError: it does not say, or not as a study does.
    """
    try:
        return Reading(**header["reading"])
    except (KeyError, TypeError) as error:
        raise SessionError(f"reading: wanted reader, case, arm, period and position, got {error}") from error


def check_code(name: str, code: object) -> str:
    """Refuse what is no code: codes appear in files and pages, so they hold neither names nor paths.

    Raises:
        SessionError: not 1 to 32 letters, digits, - and _.
    """
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        raise SessionError(f"{name}: wanted a code of 1 to 32 letters, digits, - and _, got {code!r}")
    return code
