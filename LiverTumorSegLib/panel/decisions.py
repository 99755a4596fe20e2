"""What a person decided of lesions stays with them when all of them are measured anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..scene import LesionRow, PlacedLesion


def with_decisions(placed: Sequence[PlacedLesion], earlier: Sequence[LesionRow]) -> list[LesionRow]:
    """Rows for the lesions as they are now, with the decisions made on what was there before.

    An accepted lesion is the one now that it shares most voxels with; each decision goes to one lesion. A rejected
    one stays in the list, after all others, unless half of it is lesion again: then its rejection was undone.

    Args:
        placed: from `scene.lesions_in`.
        earlier: the rows shown so far, or those that came with the scene.
    """
    placed = [_with_type(each, earlier) for each in placed]
    rows = [LesionRow(each) for each in placed]
    for before in (each for each in earlier if each.decision == "accepted"):
        shared = [shared_voxels(before, each) for each in placed]
        if any(shared):
            number = int(np.argmax(shared))
            rows[number] = LesionRow(placed[number], "accepted")
    return rows + [each for each in earlier if each.decision == "rejected" and not _is_back(each, placed)]


def _with_type(found: PlacedLesion, earlier: Sequence[LesionRow]) -> PlacedLesion:
    """The lesion, with the type of the one it shares most voxels with where nothing else tells its type."""
    if found.lesion.type:
        return found
    shared = [(shared_voxels(row, found), row.lesion.lesion) for row in earlier if row.lesion.lesion.type]
    voxels, before = max(shared, key=lambda each: each[0], default=(0, found.lesion))
    if not voxels:
        return found
    return replace(found, lesion=replace(found.lesion, type=before.type, type_score=before.type_score))


def _is_back(row: LesionRow, placed: Sequence[PlacedLesion]) -> bool:
    return any(2 * shared_voxels(row, each) > row.lesion.lesion.voxels for each in placed)


def shared_voxels(row: LesionRow, lesion: PlacedLesion) -> int:
    """How many voxels of the row's lesion the other one has, too, on whatever grid the segments are now."""
    before, now = row.lesion.voxels, lesion.voxels
    return int(np.count_nonzero(now.under(before)[before.array]))
