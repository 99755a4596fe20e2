"""What two runs have in common, and from lesions to the patient (S3, equations 6, 7 and 12; table IV)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from ...recipe import Typing
from ...windows import Window, cut
from .votes import Proposal

NORMAL, UNCERTAIN = "normal", "uncertain"


def match(lesions: Sequence[Proposal], others: Sequence[Proposal]) -> list[Literal["same", "other type", "none"]]:
    """What each lesion has for a counterpart among others on the same grid: one of its type, of another type, or none.

    Two lesions are of one site when they share a voxel.
    """
    found: list[Literal["same", "other type", "none"]] = []
    for lesion in lesions:
        kinds = {other.kind for other in others if _overlap(lesion, other)}
        found.append("same" if lesion.kind in kinds else "other type" if kinds else "none")
    return found


def _overlap(lesion: Proposal, other: Proposal) -> bool:
    # The other one as the lesion's box sees it.
    start = tuple(a.start - b.start for a, b in zip(lesion.found.box, other.found.box, strict=True))
    return bool((cut(other.mask, Window(start, lesion.mask.shape)) & lesion.mask).any())


def classify_patient(types: Iterable[str], options: Typing) -> str:
    """The first of the recipe's lesion types, the worst one, that any lesion has; "normal" without lesions.

    Args:
        types: of the patient's lesions, in any order.
        options: whose `lesion_types` are in the order HCC > ICC > metastasis > haemangioma > other > cyst.
    """
    found = set(types)
    return next((name for name in options.lesion_types if name in found), NORMAL)


def agreed(low: str, high: str) -> str:
    """What the runs at both sensitivities say of the patient, or "uncertain" (section V.B)."""
    return low if low == high else UNCERTAIN
