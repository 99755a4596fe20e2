"""What the papers' tables have in common."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ..summary import Summary
from ..tables import Table

Row = tuple[str, ...]

ONLY_WITH_BUNDLE = "Known only where --bundle made the predictions."


@dataclass(frozen=True)
class Layout:
    """One paper's way to print.

    Attributes:
        source: authors' short name and tables.
        data: what the paper tested on.
        tables: of a summary.
        printed: title of a table -> the paper's own rows.
    """

    source: str
    data: str
    tables: Callable[[Summary], list[Table]]
    printed: Mapping[str, tuple[Row, ...]] = field(default_factory=dict)


def percent(value: float) -> str:
    """A share, 0 to 1, in percent; a dash for NaN."""
    return "–" if math.isnan(value) else f"{100 * value:.1f}%"


def whole(value: int | None) -> str:
    """A count with separators; a dash for None."""
    return "–" if value is None else f"{value:,}"
