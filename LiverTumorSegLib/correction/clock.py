"""Where a session's time comes from: a clock that never jumps, and the wall's, which tells when it should have."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Protocol

NS_PER_MS = 1_000_000


class Clock(Protocol):
    """Two clocks, in integer nanoseconds, so that differences are exact."""

    def monotonic_ns(self) -> int:
        """Never set back or forth; stands still while some computers sleep. Only differences mean anything."""

    def wall_ns(self) -> int:
        """Since 1970 UTC; jumps when somebody, or the network, sets it."""


class SystemClock:
    """The computer's own clocks."""

    def monotonic_ns(self) -> int:
        """`time.monotonic_ns`."""
        return time.monotonic_ns()

    def wall_ns(self) -> int:
        """`time.time_ns`."""
        return time.time_ns()


def utc_text(wall_ns: int) -> str:
    """A moment of the wall clock as ISO 8601 in UTC with milliseconds, such as 2026-03-01T09:30:00.250Z."""
    seconds, rest = divmod(wall_ns, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest // NS_PER_MS:03d}Z"


def wall_ns_of(text: str) -> int:
    """The moment that `utc_text` wrote, to the millisecond.

    Raises:
        ValueError: it is not such a text.
    """
    moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
    return int(moment.replace(microsecond=0).timestamp()) * 1_000_000_000 + moment.microsecond * 1000
