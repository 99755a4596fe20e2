"""Networks' logits -> the two differences to the background from which labels are made.

Every system ends in these, so that postprocessing, restoring and the sensitivity factor need to know of none.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..errors import RecipeError
from ..geometry import GridGeometry
from ..lesions import bounding_slices
from ..postprocessing import Evidence
from ..recipe import Postprocessing
from ..restoring import THREADS

_LIMIT = 100.0  # beyond it nothing changes, and float16 holds it


def evidence_of(liver: np.ndarray, tumour: np.ndarray, geometry: GridGeometry, rules: Postprocessing) -> Evidence:
    """Evidence from logit differences to the background.

    Args:
        liver, tumour: (k, j, i), any floating-point type: log of the class's probability over the background's.
        geometry: their grid.
        rules: what is made of them.
    """
    first, second = (np.clip(each, -_LIMIT, _LIMIT).astype(np.float16) for each in (liver, tumour))
    return Evidence(first, second, geometry, rules, rules.tumour_odds)


def softmax_evidence(
    logits: np.ndarray, classes: Sequence[str], geometry: GridGeometry, rules: Postprocessing
) -> Evidence:
    """Evidence from a network whose voxels are background, liver or tumour.

    Args:
        logits: (classes, k, j, i).
        classes: what they are; "background", "liver" and "tumour" are among them.
        geometry, rules: as for `evidence_of`.

    Raises:
        RecipeError: one of the three is not among the classes.
    """
    if missing := {"background", "liver", "tumour"} - set(classes):
        raise RecipeError(f"stage.classes: wanted {' and '.join(sorted(missing))} among them, got {', '.join(classes)}")
    background, liver, tumour = (logits[list(classes).index(name)] for name in ("background", "liver", "tumour"))
    return evidence_of(liver - background, tumour - background, geometry, rules)


def nested_evidence(
    liver: np.ndarray,
    tumour: np.ndarray,
    geometry: GridGeometry,
    rules: Postprocessing,
    reach_mm: float | None = None,
) -> Evidence:
    """Evidence from two networks that each say yes or no: liver with all that is in it, and tumour.

    A tumour lies in the liver, so that with the probabilities L and T the three classes have L * T (tumour),
    L * (1 - T) (liver) and 1 - L (background). A tumour at the capsule, which the first network left out of the
    liver, would be lost: near the liver, L is at least T.

    Args:
        liver, tumour: (k, j, i) logits of L and T.
        geometry, rules: as for `evidence_of`.
        reach_mm: what is near the liver, itself included; by default the rules' `tumour_reach_mm`. 0 changes nothing.
    """
    near = within(liver > 0, geometry, rules.tumour_reach_mm if reach_mm is None else reach_mm)
    differences = np.empty((2, *liver.shape), np.float16)

    def one_slice(k: int) -> None:
        inside, sure = liver[k].astype(np.float32), tumour[k].astype(np.float32)
        np.maximum(inside, sure, out=inside, where=near[k])
        # log(1 + exp(x)) is max(x, 0) and this, which is the same for -x.
        inside -= np.log(1 + np.exp(-np.abs(sure)))
        for difference, other in zip(differences, (sure, -sure), strict=True):
            difference[k] = np.clip(inside - np.maximum(other, 0), -_LIMIT, _LIMIT)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(one_slice, range(len(liver))))
    return Evidence(differences[0], differences[1], geometry, rules, rules.tumour_odds)


def within(mask: np.ndarray, geometry: GridGeometry, reach_mm: float) -> np.ndarray:
    """Voxels at most so far from a mask's, those included; none where that is nothing."""
    near = np.zeros_like(mask)
    box = bounding_slices(mask)
    if reach_mm <= 0 or box is None:
        return near
    import edt

    edges = geometry.spacing_mm[::-1]
    around = tuple(
        slice(max(0, each.start - int(reach_mm / edge) - 1), each.stop + int(reach_mm / edge) + 1)
        for each, edge in zip(box, edges, strict=True)
    )
    near[around] = edt.edt(~mask[around], anisotropy=edges, parallel=THREADS) <= reach_mm
    return near
