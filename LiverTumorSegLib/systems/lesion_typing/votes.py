"""Multi-sensitivity segmentation (S3, section III.A): many classes at once, and lesions that count f times.

The classes' probabilities are never held: of each slab of logits three numbers a voxel are kept, from which the vote
at every f follows. With probabilities p, argmax over f * p(lesion) and p(others) is argmax over log p + log f, and
softmax does not change differences of logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...detection import Detection, scaled_vote, seg2det
from ...errors import RecipeError
from ...lesions import Slices

_LIMIT = 100.0  # beyond it nothing changes, and float16 holds it


@dataclass(frozen=True)
class Ballot:
    """Which of a network's channels are what.

    Attributes:
        lesions: a channel for each lesion type, in the order of `Typing.lesion_types`.
        liver: the liver's, and of what lies in it and is no lesion.
        others: the background's and of other organs.
    """

    lesions: tuple[int, ...]
    liver: tuple[int, ...]
    others: tuple[int, ...]

    @classmethod
    def of(cls, classes: Sequence[str], lesion_types: Sequence[str], in_liver: Sequence[str]) -> Ballot:
        """From the names of a stage's classes.

        Raises:
            RecipeError: a lesion type or the liver is no class of the stage, or nothing else is.
        """
        missing = [name for name in (*lesion_types, "liver") if name not in classes]
        if missing:
            raise RecipeError(f"stage.classes: wanted {', '.join(missing)} among them, got {', '.join(classes)}")
        liver = tuple(n for n, name in enumerate(classes) if name == "liver" or name in in_liver)
        lesions = tuple(classes.index(name) for name in lesion_types)
        others = tuple(n for n in range(len(classes)) if n not in (*liver, *lesions))
        if not others:
            raise RecipeError(f"stage.classes: wanted a background beside {', '.join(classes)}, got none")
        return cls(lesions, liver, others)

    def count(self, logits: np.ndarray) -> np.ndarray:
        """What is kept of a slab of logits.

        Args:
            logits: (classes, k, j, i).

        Returns:
            float16 (3, k, j, i): the liver's and the lesions' highest logit, both less the others' highest, and which
            lesion type is the highest, from 0.
        """
        others = _highest(logits, self.others)
        kept = np.empty((3, *logits.shape[1:]), np.float16)
        for row, channels in enumerate((self.liver, self.lesions)):
            kept[row] = np.clip(_highest(logits, channels) - others, -_LIMIT, _LIMIT)
        kept[2] = np.argmax(logits[list(self.lesions)], axis=0)
        return kept


@dataclass(frozen=True)
class Votes:
    """What `Ballot.count` kept of a region.

    Attributes:
        liver, lesion: float16 (k, j, i) logit differences to the background and other organs.
        kind: uint8 (k, j, i), the lesion type with the highest logit, from 0, wherever the lesion may be.
        spacing_mm: edges of a voxel along (k, j, i).
    """

    liver: np.ndarray
    lesion: np.ndarray
    kind: np.ndarray
    spacing_mm: tuple[float, ...]

    @classmethod
    def counted(cls, kept: np.ndarray, spacing_mm: Sequence[float]) -> Votes:
        """From what `Ballot.count` gave, (3, k, j, i)."""
        return cls(kept[0], kept[1], kept[2].astype(np.uint8), tuple(spacing_mm))

    def within(self, box: Slices) -> Votes:
        """A copy of a part, so that the rest can be let go."""
        liver, lesion, kind = (each[box].copy() for each in (self.liver, self.lesion, self.kind))
        return Votes(liver, lesion, kind, self.spacing_mm)

    def lesions(self, factor: float) -> np.ndarray:
        """Where a lesion wins when each type's probability counts `factor` times (equations 2 and 3); (k, j, i)."""
        return scaled_vote(self._against_all(), factor)

    def organ(self, factor: float) -> np.ndarray:
        """Where the liver or, at this factor, a lesion in it wins; (k, j, i)."""
        return np.asarray((self.liver > 0) | self.lesions(factor))

    def probability(self) -> np.ndarray:
        """Of being a lesion rather than the likeliest other class: float16 (k, j, i), never scaled by a factor."""
        return np.asarray(1 / (1 + np.exp(-self._against_all().astype(np.float32))), np.float16)

    def _against_all(self) -> np.ndarray:
        return self.lesion - np.maximum(self.liver, 0)


@dataclass(frozen=True)
class Proposal:
    """A lesion with a type.

    Attributes:
        found: where it is; it has a mask.
        kind: number of the lesion type, from 0.
        scored_ml: mean volume that the second network confirmed, or None where it was not asked.
    """

    found: Detection
    kind: int
    scored_ml: float | None = None

    @property
    def mask(self) -> np.ndarray:
        """(k, j, i) of its box."""
        assert self.found.mask is not None
        return self.found.mask

    @property
    def score(self) -> float:
        """0 to 1: the share of it that was confirmed, or else the highest probability of its voxels."""
        if self.scored_ml is None:
            return self.found.score
        return min(1.0, self.scored_ml / self.found.volume_ml)


def propose(votes: Votes, factor: float, inside: np.ndarray) -> list[Proposal]:
    """The lesions at one sensitivity (equation 5), largest first, each with the type that most of its voxels have.

    Args:
        votes: of a region.
        factor: f of equation 3.
        inside: (k, j, i), where lesions may be.
    """
    mask = votes.lesions(factor) & inside
    found = seg2det(mask, votes.probability(), votes.spacing_mm)
    return [Proposal(each, most_frequent(votes.kind[each.box][each.mask])) for each in found]


def most_frequent(kinds: np.ndarray) -> int:
    """The number that most voxels have; the smallest one among equals."""
    return int(np.bincount(kinds.ravel().astype(np.int64)).argmax())


def _highest(logits: np.ndarray, channels: Sequence[int]) -> np.ndarray:
    """The highest logit of some channels, without a copy of all of them."""
    highest = logits[channels[0]].copy()
    for channel in channels[1:]:
        np.maximum(highest, logits[channel], out=highest)
    return np.asarray(highest)
