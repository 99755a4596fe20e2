"""Lines from the worker, checked: what cannot be understood is nonsense, whoever said it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from ..networks.devices import Device

EVENTS = ("ready", "progress", "log", "devices", "done", "failed", "cancelled")


class NonsenseError(Exception):
    """Something else than a worker of our protocol speaks; one line with wanted and got."""


@dataclass(frozen=True)
class Answer:
    """One line of the protocol, see `worker`.

    Attributes:
        id: the request's; 0 where the worker speaks of itself.
        event: one of `EVENTS`.
        content: the other keys, checked when they are asked for.
    """

    id: int
    event: str
    content: dict[str, Any]

    @classmethod
    def parsed(cls, line: str, last_id: int) -> Answer:
        """Read a line.

        Raises:
            NonsenseError: not JSON, not an object, an unknown event, or a request that was never made.
        """
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            raise NonsenseError(f"wanted JSON, got {line[:80]!r}") from None
        if not isinstance(content, dict):
            raise NonsenseError(f"wanted an object, got {line[:80]!r}")
        number, event = content.get("id"), content.get("event")
        if type(number) is not int or not 0 <= number <= last_id:
            raise NonsenseError(f"wanted the id of a request, got {str(number)[:80]}")
        if event not in EVENTS:
            raise NonsenseError(f"wanted one of {', '.join(EVENTS)}, got {str(event)[:80]!r}")
        return cls(number, event, content)

    def text(self, key: str) -> str:
        """A text of the content."""
        return str(self._checked(key, str))

    def number(self, key: str) -> int:
        """A whole number of the content."""
        return int(self._checked(key, int))

    def share(self) -> float:
        """The share of a step that is done, 0 to 1."""
        share = self._checked("share", (int, float))
        if not math.isfinite(share):
            raise NonsenseError(f"wanted a share, got {share}")
        return min(1.0, max(0.0, float(share)))

    def devices(self) -> list[Device]:
        """The devices of the content."""
        found = self._checked("devices", list)
        try:
            return [Device(**each) for each in found]
        except TypeError as error:
            raise NonsenseError(f"wanted devices, got {str(found)[:80]}") from error

    def _checked(self, key: str, kind: Any) -> Any:
        value = self.content.get(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise NonsenseError(f"{self.event}: wanted {key!r} as it was agreed, got {str(value)[:80]!r}")
        return value
