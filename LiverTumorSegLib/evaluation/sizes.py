"""Classes of lesions by size, as the papers bound them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..lesions import Lesion


@dataclass(frozen=True)
class SizeClass:
    """Lesions above `low` and up to `high`.

    Attributes:
        name: what a table calls it.
        low: in the measure's unit.
        high: likewise.
        measure: of a lesion.
    """

    name: str
    low: float
    high: float
    measure: Callable[[Lesion], float]

    def holds(self, lesion: Lesion) -> bool:
        """Whether the lesion belongs to it."""
        return self.low < self.measure(lesion) <= self.high


def _classes(unit: str, bounds: Sequence[float], measure: Callable[[Lesion], float]) -> tuple[SizeClass, ...]:
    pairs = zip(bounds, (*bounds[1:], math.inf), strict=True)
    return tuple(
        SizeClass(f"> {low:g} {unit}" if math.isinf(high) else f"{low:g}–{high:g} {unit}", low, high, measure)
        for low, high in pairs
    )


# S0's table 3 starts at 5 mm; what is smaller is listed too, so that the classes hold every lesion.
DIAMETERS = _classes("mm", (0, 5, 10, 30), lambda lesion: lesion.axial_long_axis_mm)
"""By the longest axial diameter (RECIST 1.1), what radiologists call a lesion's long diameter (S0, table 3)."""

MERGED_DIAMETERS = _classes("mm", (0, 10, 30), lambda lesion: lesion.axial_long_axis_mm)
"""The same as S0 counts: lesions under 5 mm "were classified as 5–10 mm" (section 2.1)."""

VOLUMES = _classes("cm³", (0, 0.5, 2, 4, 8, 16, 64), lambda lesion: lesion.volume_ml)
"""By volume (S3, table I; S3 leaves out what is smaller than 0.5 cm³)."""

SIZES = tuple({size.name: size for size in (*DIAMETERS, *MERGED_DIAMETERS, *VOLUMES)}.values())
"""Every class once, by its name."""
