"""What the first network of S3 takes for lesions, so that the second one is shown its mistakes (section III.B)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ..networks import build_network
from ..networks.weights import load_weights
from ..preprocessing import scale_intensity
from ..recipe import Recipe, Typing
from ..systems.lesion_typing.votes import Ballot, Votes


class FirstNetwork:
    """The first stage's network with its trained weights, on the CPU."""

    def __init__(self, recipe: Recipe, weights: Path) -> None:
        """Build it and load its weights.

        Raises:
            BundleError: the weights do not fit the recipe.
        """
        self._stage, self._options = recipe.stages[0], recipe.typing or Typing()
        self._network = build_network(self._stage.network, self._stage.arguments)
        load_weights(self._network, weights)
        self._network.eval()

    @torch.inference_mode()
    def lesions(self, grey: Sequence[np.ndarray]) -> np.ndarray:
        """Where it votes for a lesion at the high sensitivity.

        Args:
            grey: HU of each phase, (k, j, i), on the stage's grid.
        """
        scaled = [scale_intensity(each, self._stage.intensity, "CT") for each in grey]
        volume = np.stack(scaled)
        shape = volume.shape[1:]
        sides = zip(shape, self._stage.grid.multiples[::-1], strict=True)
        more = [(0, -length % multiple) for length, multiple in sides]
        whole = torch.from_numpy(np.pad(volume, [(0, 0), *more], mode="edge"))[None]
        ballot = Ballot.of(self._stage.classes, self._options.lesion_types, self._options.in_liver)
        votes = Votes.counted(ballot.count(self._network(whole)[0].numpy()), (1.0, 1.0, 1.0))
        return votes.lesions(self._options.factor_high)[: shape[0], : shape[1], : shape[2]]
