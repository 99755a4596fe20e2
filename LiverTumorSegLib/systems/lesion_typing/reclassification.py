"""Lesion reclassification (S3, section III.B, equations 8 to 11, figure 5): a second network looks at each lesion.

Each lesion is shown to it N times, where it is and transplanted elsewhere in the same liver; what it confirms on
average decides whether the lesion stays, and what it calls the confirmed voxels decides its type.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ...detection import Detection
from ...recipe import Typing
from .shuffle import cut_out, liver_patch, transplanted, window_holding
from .votes import Proposal

Classify = Callable[[np.ndarray], np.ndarray]
"""A patch (channels, k, j, i) -> for each voxel the number of its lesion type, from 0, or -1 for none; (k, j, i)."""

_SEED = 10  # with the lesion's place: the same lesion gets the same patches whatever else is in the scan


@dataclass(frozen=True)
class Tissue:
    """What the patches are made of.

    Attributes:
        volume: (channels, k, j, i), scaled for the second network.
        liver: (k, j, i), the liver with its lesions; the network sees 0 outside.
        healthy: what of it is no lesion at the highest sensitivity.
    """

    volume: np.ndarray
    liver: np.ndarray
    healthy: np.ndarray


def reclassified(
    proposals: Sequence[Proposal], tissue: Tissue, classify: Classify, size: Sequence[int], options: Typing
) -> list[Proposal]:
    """The lesions that the second network confirms, with the types that it gives them, in their order.

    Args:
        proposals: of the first network.
        tissue: where patches come from.
        classify: the second network.
        size: of a patch, (k, j, i) voxels.
        options: how many patches, and what counts as confirmed.
    """
    judged = (_judged(each, tissue, classify, size, options) for each in proposals)
    return [each for each in judged if each is not None]


def _judged(
    proposal: Proposal, tissue: Tissue, classify: Classify, size: Sequence[int], options: Typing
) -> Proposal | None:
    if proposal.found.volume_ml > options.largest_ml:
        return proposal
    voxel_ml = proposal.found.volume_ml / np.count_nonzero(proposal.mask)
    volumes = np.zeros(len(options.lesion_types))
    for patch, mask in shown(proposal.found, proposal.mask, tissue, size, options.patches):
        kinds = classify(patch)[mask]
        volumes += np.bincount(kinds[kinds >= 0], minlength=len(volumes)) * voxel_ml
    scored_ml = float(volumes.sum() / options.patches)
    if scored_ml < least_ml(proposal.found.volume_ml, options):
        return None
    kind = int(volumes.argmax()) if scored_ml > 0 else proposal.kind
    return dataclasses.replace(proposal, kind=kind, scored_ml=scored_ml)


def least_ml(volume_ml: float, options: Typing) -> float:
    """What must be confirmed of a lesion on average.

    As printed 0.5 ml, which no smaller lesion can reach; with `smallest_share`, that share of a small lesion.
    """
    if options.smallest_share is None:
        return options.smallest_ml
    return min(options.smallest_ml, options.smallest_share * volume_ml)


def shown(
    found: Detection, mask: np.ndarray, tissue: Tissue, size: Sequence[int], count: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The patches of one lesion, in turn where it is and transplanted, and in each the voxels that are the lesion's.

    Where there is no healthy liver for it, it is shown where it is, in windows that lie otherwise.
    """
    rng = np.random.default_rng([_SEED, *(edge.start for edge in found.box)])
    own = cut_out(tissue.volume, found.box, mask)
    for number in range(count):
        graft = (transplanted(own, tissue.healthy, rng) if number % 2 else None) or own
        window = window_holding(graft.box, tissue.liver.shape, size, rng)
        yield liver_patch(tissue.volume, tissue.liver, window, graft)
