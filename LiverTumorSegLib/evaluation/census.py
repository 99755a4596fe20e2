"""How many lesions of which type and size the references hold (S0, table 2; S3, table I)."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ..lesions import Lesion, find_lesions
from ..recipe import Typing
from ..segmentation import TUMOUR
from .scores import CaseScore
from .sizes import SIZES

FIRST = 2
"""The value of the first lesion type in a typed label map; 1 is liver."""


@dataclass(frozen=True)
class LesionCount:
    """Lesions of one type and size in all references.

    Attributes:
        type: of the lesions; "" where some reference names no types, for all lesions together.
        size: name of the size class; the classes overlap, as `sizes` says.
        count: how many.
    """

    type: str
    size: str
    count: int


def typed_lesions(typed: np.ndarray, grid: sitk.Image, options: Typing) -> tuple[Lesion, ...]:
    """Measure the lesions of a reference with types; each is a 6-connected component of one type.

    Args:
        typed: (k, j, i) values, `FIRST` and up for the lesion types in their order.
        grid: an image on the same grid.
        options: which lesion types there are.

    Returns:
        By type, the largest of each first.
    """
    lesions: list[Lesion] = []
    for value, name in enumerate(options.lesion_types, FIRST):
        mask = typed == value
        if mask.any():
            image = sitk.GetImageFromArray(mask.astype(np.uint8) * TUMOUR)
            image.CopyInformation(grid)
            lesions += [dataclasses.replace(lesion, type=name) for lesion in find_lesions(image)]
    return tuple(lesions)


def count_lesions(cases: Sequence[CaseScore]) -> tuple[LesionCount, ...]:
    """Count the references' lesions by type where all references have types, and else by size alone."""
    by_type = [case.typed_lesions for case in cases if case.typed_lesions is not None]
    plain = [tuple(score.lesion for score in case.lesions) for case in cases]
    chosen = by_type if len(by_type) == len(cases) else plain
    counts = Counter(
        (lesion.type, size.name) for case in chosen for lesion in case for size in SIZES if size.holds(lesion)
    )
    return tuple(LesionCount(*key, count) for key, count in counts.items())
