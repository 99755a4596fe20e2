"""How far readers agree: the corrected segmentations of one case in one arm, each two readers against each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..evaluation.metrics import dice
from ..itk_reader import read_file
from ..segmentation import LIVER, TUMOUR
from .results import CORRECTED
from .summary import Finished

SessionFolder = Callable[[Finished], Path]


def agreement_rows(sessions: Sequence[Finished], folder_of: SessionFolder) -> list[dict[str, Any]]:
    """One row for each case and two of its readers: Dice, and how far the volumes differ in percent of their mean.

    Args:
        sessions: of one arm.
        folder_of: where a session's corrected segmentation lies.

    Raises:
        ImageError: a corrected segmentation cannot be read.
    """
    rows = []
    for case in sorted({each.case for each in sessions}):
        own = sorted((each for each in sessions if each.case == case), key=lambda each: each.reader)
        if len(own) > 1:  # only then are there files to read
            labels = [sitk.GetArrayFromImage(read_file(folder_of(each) / CORRECTED)) for each in own]
            rows += [
                {"case": case, "readers": [own[a].reader, own[b].reader], **_agree(labels[a], labels[b])}
                for a, b in combinations(range(len(own)), 2)
            ]
    return rows


def _agree(a: np.ndarray, b: np.ndarray) -> dict[str, float | None]:
    row: dict[str, float | None] = {}
    for name, lowest in (("liver", LIVER), ("tumour", TUMOUR)):
        one, two = a >= lowest, b >= lowest
        sizes = int(np.count_nonzero(one)), int(np.count_nonzero(two))
        row[f"{name}_dice"] = dice(one, two)
        row[f"{name}_ml_difference_percent"] = 200 * abs(sizes[0] - sizes[1]) / sum(sizes) if sum(sizes) else 0.0
    return row
