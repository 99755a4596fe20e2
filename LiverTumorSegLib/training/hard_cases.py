"""What the first network of S3 takes for lesions, so that the second one is shown its mistakes (section III.B)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from ..datasets.cases import DatasetCase
from ..inference import run_network
from ..networks.engines import TorchEngine
from ..recipe import Recipe, Triple, Typing
from ..systems.lesion_typing.votes import Ballot, Votes
from ..windows import Window, cut
from .caching import Cache, Entry, cache_key
from .preparing import entry_key, prepare

FIRST = 0
"""The number of the stage whose mistakes are looked for."""


class FirstNetwork:
    """The first stage's network with its trained weights."""

    def __init__(self, recipe: Recipe, weights: Path, device: str = "cpu") -> None:
        """Build it and load its weights.

        Raises:
            BundleError: the weights do not fit the recipe.
        """
        self._stage, self._options = recipe.stages[FIRST], recipe.typing or Typing()
        self._engine = TorchEngine(weights, self._stage, device)

    def lesions(self, volume: np.ndarray, window: Triple | None = None) -> np.ndarray:
        """Where it votes for a lesion at the high sensitivity; (k, j, i).

        Args:
            volume: its input, float32 (channels, k, j, i) on the stage's grid; of any size.
            window: (i, j, k) size above which the volume is tiled; None shows it whole.
        """
        shape = volume.shape[1:]
        more = [(0, -n % multiple) for n, multiple in zip(shape, self._stage.grid.multiples[::-1], strict=True)]
        whole = np.pad(volume, [(0, 0), *more], mode="edge")
        ballot = Ballot.of(self._stage.classes, self._options.lesion_types, self._options.in_liver)
        overlap, multiples = self._stage.overlap, self._stage.grid.multiples
        kept = run_network(self._engine, whole, window, overlap, reduce=ballot.count, multiples=multiples)
        votes = Votes.counted(kept, (1.0, 1.0, 1.0))
        return votes.lesions(self._options.factor_high)[: shape[0], : shape[1], : shape[2]]


@dataclass(frozen=True)
class FirstLook:
    """What the first network takes for lesions in measured cases: asked once a case, on the whole scan, and kept.

    Attributes:
        recipe: of both networks.
        weights: the first one's.
        digest: of these weights, which tells one look from that of other weights.
        cache: where prepared cases are, too.
    """

    recipe: Recipe
    weights: Path
    digest: str
    cache: Cache

    @classmethod
    def with_weights(cls, recipe: Recipe, weights: Path, cache: Cache) -> FirstLook:
        """With the weights that are in a file now."""
        return cls(recipe, weights, hashlib.sha256(weights.read_bytes()).hexdigest(), cache)

    def at(self, case: DatasetCase, network: FirstNetwork | None = None) -> Entry:
        """A bool array `seen` (k, j, i) on the first stage's grid over the whole scan, with where that grid lies.

        Args:
            case: with labels.
            network: by default one on the CPU, made when nothing is in the cache.

        Raises:
            ImageError: see `preparing.prepare`.
        """
        whole = entry_key(case, self.recipe, FIRST, 0)
        options = self.recipe.typing or Typing()
        key = cache_key("seen", whole, self.digest, options.factor_high, options.lesion_types, options.in_liver)

        def ask() -> Entry:
            entry = self.cache.get(whole, partial(prepare, case, self.recipe, FIRST, 0))
            window = self.recipe.stages[FIRST].window
            seen = (network or self._own_network).lesions(entry.arrays["volume"], window)
            return Entry({"seen": seen}, {name: entry.facts[name] for name in ("origin", "direction", "spacing_mm")})

        return self.cache.get(key, ask)

    def on(self, case: DatasetCase, entry: Entry) -> np.ndarray:
        """The same on the grid of a case prepared for a later stage, whose voxels are those of the first stage's.

        The grids may be off by less than a voxel; each voxel gets the nearest one's answer.

        Returns:
            bool (k, j, i).
        """
        seen = self.at(case)
        axes = np.array(seen.facts["direction"]).reshape(3, 3)  # its columns
        apart = (np.array(entry.facts["origin"]) - np.array(seen.facts["origin"])) @ axes
        start = np.round(apart / np.array(seen.facts["spacing_mm"])).astype(int)
        window = Window(tuple(int(n) for n in start[::-1]), entry.arrays["labels"].shape)
        return cut(seen.arrays["seen"], window)

    @cached_property
    def _own_network(self) -> FirstNetwork:
        return FirstNetwork(self.recipe, self.weights)
