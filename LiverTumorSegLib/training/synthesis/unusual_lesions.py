"""What some lesions have besides: a place at the capsule or a vessel, a frayed outline, calcium.

The chance for each comes from a stream of its own, so that lesions without it are drawn as if it did not exist.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .anatomy import LIVER_TISSUES, VESSELS_OF_LIVER, Tissue
from .appearance import Modality
from .fields import own_chances, smooth_noise, torch_generator
from .shapes import Ball, tissue_mask

_CANDIDATES = 256
_VESSELS = (*VESSELS_OF_LIVER, Tissue.PORTAL_VEIN, Tissue.VENA_CAVA)
_BESIDE, _FRAYED, _CALCIFIED = 0.2, 0.08, 0.07


@dataclass(frozen=True)
class Unusual:
    """What is drawn of it in one scan.

    Attributes:
        place, outline, calcium: streams of chance.
        share: factor on how often; 0 for never.
        modality: of the scan; calcium is bright in CT and dark in MR.
    """

    place: np.random.Generator
    outline: np.random.Generator
    calcium: np.random.Generator
    share: float
    modality: Modality

    @classmethod
    def of(cls, rng: np.random.Generator, share: float, modality: Modality) -> Unusual:
        """Streams that follow from `rng` and leave its own numbers as they are."""
        place, outline, calcium = own_chances(rng, 3)
        return cls(place, outline, calcium, share, modality)

    def centre(self, tissues: torch.Tensor, places: torch.Tensor, radius: float) -> np.ndarray | None:
        """Now and then one of the (n, 3) places, next to which the liver ends or a vessel runs; radius in voxels."""
        if self.place.random() >= self.share * _BESIDE:
            return None
        at_vessel = self.place.random() < 0.5
        picked = places[torch.as_tensor(self.place.integers(len(places), size=_CANDIDATES), device=places.device)]
        ways = self.place.normal(size=(_CANDIDATES, 3))
        ways *= radius * self.place.uniform(0.7, 1.0) / np.linalg.norm(ways, axis=1, keepdims=True)
        ends = picked + torch.as_tensor(ways.round().astype(np.int64), device=places.device)
        k, j, i = (ends[:, axis].clamp(0, n - 1) for axis, n in enumerate(tissues.shape))
        there = tissues[k, j, i]
        fits = tissue_mask(there, _VESSELS) if at_vessel else ~tissue_mask(there, LIVER_TISSUES + _VESSELS)
        found = picked[fits]
        return np.asarray(found[0].cpu().numpy() + self.place.uniform(-0.5, 0.5, 3)) if len(found) else None

    def outlined(self, ball: Ball, radius: float) -> Ball:
        """The ball, now and then with an outline that grows into the liver in tongues."""
        if self.outline.random() >= self.share * _FRAYED or radius < 3:
            return ball
        k, j, i = ball.level.shape
        scale, depth = max(1.5, radius * self.outline.uniform(0.2, 0.4)), self.outline.uniform(0.25, 0.45)
        tongues = smooth_noise((k, j, i), scale, torch_generator(self.outline, ball.level.device))
        return ball.scaled((1 + depth * tongues).clamp(0.4, 1.8))

    def calcified(self, values: torch.Tensor, level: torch.Tensor, radius: float) -> torch.Tensor:
        """A lesion's contrasts, now and then with specks of calcium in it."""
        if self.calcium.random() >= self.share * _CALCIFIED or radius < 2:
            return values
        k, j, i = level.shape
        specks = smooth_noise((k, j, i), max(1.0, radius * 0.3), torch_generator(self.calcium, level.device))
        strength = self.calcium.uniform(2, 7) if self.modality == "CT" else -self.calcium.uniform(0.5, 1.5)
        return values.masked_fill((specks > self.calcium.uniform(1.0, 1.8)) & (level < 0.85), float(strength))
