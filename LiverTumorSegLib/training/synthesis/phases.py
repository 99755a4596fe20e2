"""What contrast medium does to lesions of each type and to the organs, phase by phase (S3's four: NC, AP, VP, DP).

The patterns are those of LI-RADS and radiology's textbooks, rounded: hyperenhancement and washout of HCC, the late
centre of ICC, the dark metastasis with its rim, the haemangioma that fills from its edge, FNH's scar, the cyst that
takes none. They are meant to differ as types differ, not to be mistaken for patients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .anatomy import Tissue
from .palettes import CT_HU, Palette

PHASES = {"plain": 0, "arterial": 1, "venous": 2, "delayed": 3}
"""Phase -> column of `CT_HU` and of the patterns."""

_LESION_UNIT_HU, _SPAN_HU = 70.0, 250.0


@dataclass(frozen=True)
class Pattern:
    """How one type of lesion differs from the liver, HU in the plain, arterial, venous and delayed phase.

    Attributes:
        body: of most of it.
        rim: of its outer part, further than `rim_from` of the way to its surface.
        core: of its inner part, nearer than `core_to`.
        frequency: how often it is drawn, relative to the others (S3, table I).
    """

    body: tuple[float, float, float, float]
    rim: tuple[float, float, float, float]
    core: tuple[float, float, float, float]
    frequency: float
    rim_from: float = 0.8
    core_to: float = 0.35


PATTERNS = {
    "hcc": Pattern((-8, 45, -18, -28), (-8, 40, 8, 12), (-12, 30, -25, -32), 0.3),
    "icc": Pattern((-14, -22, -28, 12), (-10, 20, 12, 5), (-16, -30, -35, 30), 0.12),
    "metastasis": Pattern((-16, -30, -52, -40), (-10, 18, -8, -18), (-20, -42, -70, -55), 0.23),
    "haemangioma": Pattern((-14, -18, 18, 32), (-14, 95, 70, 40), (-14, -30, -25, 22), 0.12),
    "other": Pattern((-3, 60, 12, 6), (-3, 60, 12, 6), (-8, 10, -12, 22), 0.1),
}
"""Every solid type; a cyst is `Tissue.CYST` and shows its fluid in every phase."""

CYST, CYST_FREQUENCY = "cyst", 0.13


def pattern_values(pattern: Pattern, level: torch.Tensor, column: float, strength: float) -> torch.Tensor:
    """Differences to the liver over a lesion's box, HU.

    Args:
        pattern: of its type.
        level: (k, j, i) distance from the centre as a share of the surface's.
        column: the phase, 0 to 3; between two phases, between their patterns.
        strength: factor on all of it.
    """
    body, rim, core = (
        float(np.interp(column, range(4), each)) * strength for each in (pattern.body, pattern.rim, pattern.core)
    )
    values = torch.full(level.shape, body, device=level.device)
    values[level > pattern.rim_from] = rim
    values[level < pattern.core_to] = core
    return values


def phase_palettes(columns: list[float], rng: np.random.Generator) -> list[Palette]:
    """Hounsfield units of one patient at several times after the contrast medium; organs keep their own offsets."""
    own = np.array([rng.normal(0, 6) for _ in Tissue])
    texture = np.abs(rng.normal(0, 5, len(Tissue)))
    still = [Tissue.AIR, Tissue.GAS, Tissue.LUNG, Tissue.TABLE]
    own[still] = texture[still] = 0
    palettes = []
    for column in columns:
        mean = np.array([np.interp(column, range(4), CT_HU.get(tissue, CT_HU[Tissue.LIVER])) for tissue in Tissue])
        mean += own
        mean[Tissue.LESION] = mean[Tissue.LIVER]
        levels, spreads = (torch.as_tensor(each, dtype=torch.float32) for each in (mean, texture))
        palettes.append(Palette(levels, spreads, _LESION_UNIT_HU, _SPAN_HU))
    return palettes
