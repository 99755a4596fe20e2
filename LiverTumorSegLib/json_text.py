"""What JSON can say: it has no word for numbers that are not finite."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def finite(value: Any) -> Any:
    """A value of mappings, sequences, texts and numbers, with None for each number that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [finite(each) for each in value]
    return value
