"""Grey values of every tissue: CT in Hounsfield units by contrast phase, MR by sequence, or at random.

Painting at random per structure is SynthSeg's idea (Billot et al. 2023): a network that has seen
every contrast relies on shape and place. Plausible CT and MR are mixed in because that is what comes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .anatomy import Tissue

# Hounsfield units without contrast, and in the arterial, portal-venous and delayed phase (rounded
# from radiology textbooks' ranges; the spread around them is drawn for every scan).
CT_HU: dict[Tissue, tuple[float, float, float, float]] = {
    Tissue.AIR: (-1000, -1000, -1000, -1000),
    Tissue.LIVER: (55, 70, 110, 90),
    Tissue.SPLEEN: (48, 115, 120, 95),
    Tissue.KIDNEY: (32, 140, 180, 150),
    Tissue.GALLBLADDER: (8, 8, 8, 8),
    Tissue.OESOPHAGUS: (40, 60, 70, 60),
    Tissue.STOMACH: (40, 75, 85, 70),
    Tissue.AORTA: (40, 300, 150, 110),
    Tissue.VENA_CAVA: (40, 80, 140, 110),
    Tissue.PORTAL_VEIN: (40, 110, 165, 115),
    Tissue.PANCREAS: (40, 100, 90, 75),
    Tissue.ADRENAL: (25, 70, 75, 55),
    Tissue.BOWEL_WALL: (40, 80, 90, 75),
    Tissue.BOWEL_CONTENT: (20, 20, 20, 20),
    Tissue.GAS: (-950, -950, -950, -950),
    Tissue.VISCERAL_FAT: (-105, -105, -103, -103),
    Tissue.SUBCUTANEOUS_FAT: (-108, -108, -108, -108),
    Tissue.SKIN: (20, 25, 30, 30),
    Tissue.MUSCLE: (55, 60, 65, 65),
    Tissue.CORTICAL_BONE: (500, 500, 500, 500),
    Tissue.MARROW: (170, 175, 180, 180),
    Tissue.LUNG: (-820, -815, -810, -810),
    Tissue.HEART: (42, 190, 140, 105),
    Tissue.HEPATIC_VEIN: (40, 70, 155, 115),
    Tissue.PORTAL_BRANCH: (40, 110, 165, 115),
    Tissue.STOMACH_CONTENT: (15, 15, 15, 15),
    Tissue.URINE: (8, 8, 10, 150),
    Tissue.SPINAL_CANAL: (25, 28, 30, 30),
    Tissue.DISC: (75, 75, 80, 80),
    Tissue.TABLE: (-350, -350, -350, -350),
    Tissue.LUNG_VESSEL: (20, 100, 80, 60),
    Tissue.ARTERY: (40, 250, 140, 100),
    Tissue.CYST: (6, 6, 6, 6),
    Tissue.DUCT: (6, 6, 6, 6),
    Tissue.FLUID: (8, 8, 10, 12),
    Tissue.MASS: (40, 75, 85, 75),
}

# Relative signal of T1 (in and after contrast), T2 and fat-suppressed T2 images, air 0, brightest 1.
MR_SIGNAL: dict[Tissue, tuple[float, float, float, float]] = {
    Tissue.LIVER: (0.55, 0.65, 0.30, 0.25),
    Tissue.SPLEEN: (0.38, 0.65, 0.50, 0.60),
    Tissue.KIDNEY: (0.42, 0.80, 0.55, 0.65),
    Tissue.GALLBLADDER: (0.25, 0.25, 0.95, 1.00),
    Tissue.OESOPHAGUS: (0.40, 0.55, 0.40, 0.35),
    Tissue.STOMACH: (0.40, 0.60, 0.40, 0.40),
    Tissue.AORTA: (0.25, 0.90, 0.15, 0.15),
    Tissue.VENA_CAVA: (0.25, 0.85, 0.25, 0.35),
    Tissue.PORTAL_VEIN: (0.28, 0.90, 0.25, 0.35),
    Tissue.PANCREAS: (0.58, 0.65, 0.42, 0.40),
    Tissue.ADRENAL: (0.42, 0.55, 0.40, 0.40),
    Tissue.BOWEL_WALL: (0.40, 0.60, 0.40, 0.40),
    Tissue.BOWEL_CONTENT: (0.35, 0.35, 0.70, 0.75),
    Tissue.VISCERAL_FAT: (0.90, 0.30, 0.80, 0.15),
    Tissue.SUBCUTANEOUS_FAT: (0.95, 0.30, 0.85, 0.20),
    Tissue.SKIN: (0.40, 0.40, 0.40, 0.30),
    Tissue.MUSCLE: (0.40, 0.42, 0.20, 0.18),
    Tissue.CORTICAL_BONE: (0.08, 0.08, 0.06, 0.06),
    Tissue.MARROW: (0.60, 0.40, 0.50, 0.25),
    Tissue.LUNG: (0.06, 0.08, 0.06, 0.06),
    Tissue.HEART: (0.35, 0.75, 0.30, 0.35),
    Tissue.HEPATIC_VEIN: (0.32, 0.85, 0.25, 0.45),
    Tissue.PORTAL_BRANCH: (0.30, 0.90, 0.25, 0.40),
    Tissue.STOMACH_CONTENT: (0.25, 0.25, 0.85, 0.90),
    Tissue.URINE: (0.22, 0.40, 1.00, 1.00),
    Tissue.SPINAL_CANAL: (0.30, 0.35, 0.85, 0.90),
    Tissue.DISC: (0.35, 0.40, 0.45, 0.45),
    Tissue.LUNG_VESSEL: (0.20, 0.50, 0.20, 0.25),
    Tissue.ARTERY: (0.25, 0.85, 0.15, 0.20),
    Tissue.CYST: (0.20, 0.20, 0.97, 1.00),
    Tissue.DUCT: (0.20, 0.20, 0.95, 1.00),
    Tissue.FLUID: (0.22, 0.24, 0.95, 1.00),
    Tissue.MASS: (0.40, 0.55, 0.50, 0.55),
}

# The same of diffusion-weighted images of low and of high b, and of T1 images twenty minutes after gadoxetic acid.
UNUSUAL_MR_SIGNAL: dict[Tissue, tuple[float, float, float]] = {
    Tissue.LIVER: (0.45, 0.30, 0.90),
    Tissue.SPLEEN: (0.75, 0.85, 0.45),
    Tissue.KIDNEY: (0.80, 0.70, 0.75),
    Tissue.GALLBLADDER: (0.90, 0.25, 0.45),
    Tissue.OESOPHAGUS: (0.50, 0.40, 0.45),
    Tissue.STOMACH: (0.50, 0.40, 0.50),
    Tissue.AORTA: (0.10, 0.05, 0.50),
    Tissue.VENA_CAVA: (0.12, 0.05, 0.48),
    Tissue.PORTAL_VEIN: (0.15, 0.06, 0.48),
    Tissue.PANCREAS: (0.55, 0.40, 0.55),
    Tissue.ADRENAL: (0.50, 0.45, 0.45),
    Tissue.BOWEL_WALL: (0.50, 0.40, 0.50),
    Tissue.BOWEL_CONTENT: (0.60, 0.25, 0.35),
    Tissue.VISCERAL_FAT: (0.10, 0.06, 0.20),
    Tissue.SUBCUTANEOUS_FAT: (0.12, 0.08, 0.22),
    Tissue.SKIN: (0.25, 0.15, 0.35),
    Tissue.MUSCLE: (0.30, 0.15, 0.38),
    Tissue.CORTICAL_BONE: (0.03, 0.03, 0.08),
    Tissue.MARROW: (0.25, 0.20, 0.35),
    Tissue.LUNG: (0.03, 0.03, 0.06),
    Tissue.HEART: (0.15, 0.10, 0.45),
    Tissue.HEPATIC_VEIN: (0.12, 0.06, 0.50),
    Tissue.PORTAL_BRANCH: (0.14, 0.06, 0.48),
    Tissue.STOMACH_CONTENT: (0.80, 0.20, 0.25),
    Tissue.URINE: (1.00, 0.20, 0.60),
    Tissue.SPINAL_CANAL: (0.90, 0.55, 0.30),
    Tissue.DISC: (0.40, 0.20, 0.35),
    Tissue.LUNG_VESSEL: (0.10, 0.05, 0.35),
    Tissue.ARTERY: (0.10, 0.05, 0.48),
    Tissue.CYST: (1.00, 0.25, 0.20),
    Tissue.DUCT: (0.90, 0.25, 0.45),
    Tissue.FLUID: (1.00, 0.20, 0.20),
    Tissue.MASS: (0.70, 0.75, 0.45),
}


# Share of patients whose lesions are brighter than the liver, in the order of the three tables above: what a reader
# would expect of metastases and carcinomas there, not counted.
_BRIGHT_IN_CT = (0.05, 0.45, 0.10, 0.25)
_BRIGHT_IN_MR = (0.10, 0.30, 0.85, 0.90)
_BRIGHT_IN_UNUSUAL_MR = (0.90, 0.90, 0.05)

_DARKEST_LIVER_HU = -10.0  # the fattest


@dataclass(frozen=True)
class Palette:
    """Grey values of one scan before blur and noise.

    Attributes:
        mean, texture: (number of tissues,) mean value and deviation of the tissue's own texture.
        lesion_unit: grey values that one unit of lesion contrast amounts to.
        span: width of the range in which soft tissue lies; noise is measured against it.
        bright_lesions: the share of patients whose lesions are brighter than the liver.
    """

    mean: torch.Tensor
    texture: torch.Tensor
    lesion_unit: float
    span: float
    bright_lesions: float = 1 / 3


def ct_palette(rng: np.random.Generator) -> Palette:
    """Hounsfield units of one patient in one phase, between the tabulated phases more often than at them."""
    phase = np.clip(rng.choice([0, 1, 2, 2, 2, 3]) + rng.normal(0, 0.25), 0, 3)
    mean = np.zeros(len(Tissue))
    for tissue, values in CT_HU.items():
        mean[tissue] = np.interp(phase, range(4), values)
    enhanced = mean - np.array([CT_HU.get(Tissue(t), (0,))[0] for t in range(len(Tissue))])
    mean += enhanced * rng.normal(0, 0.25, len(Tissue)) + rng.normal(0, 6, len(Tissue))
    mean[Tissue.LIVER] += rng.normal(0, 8) - (rng.exponential(25) if rng.random() < 0.3 else 0)  # fat
    mean[Tissue.LIVER] += rng.exponential(15) if rng.random() < 0.05 else 0  # iron
    mean[Tissue.LIVER] = max(mean[Tissue.LIVER], _DARKEST_LIVER_HU)
    mean[Tissue.CORTICAL_BONE] += rng.normal(0, 120)
    mean[Tissue.MARROW] += rng.normal(0, 40)
    mean[Tissue.LUNG] += rng.normal(0, 50)
    for content in (Tissue.BOWEL_CONTENT, Tissue.STOMACH_CONTENT):
        mean[content] = rng.uniform(100, 400) if rng.random() < 0.3 else rng.uniform(-20, 70)
    if rng.random() < 0.2:  # dense bile
        mean[Tissue.GALLBLADDER] = rng.uniform(10, 70)
    mean[Tissue.MASS] += rng.normal(0, 20)
    mean[Tissue.LESION] = mean[Tissue.LIVER]
    texture = np.abs(rng.normal(0, 5, len(Tissue)))
    texture[[Tissue.BOWEL_CONTENT, Tissue.STOMACH_CONTENT, Tissue.MARROW, Tissue.LUNG]] += rng.uniform(0, 40, 4)
    return _palette(mean, texture, 70.0, 250.0, float(np.interp(phase, range(4), _BRIGHT_IN_CT)))


def mr_palette(rng: np.random.Generator) -> Palette:
    """Signal of one MR scan: a tabulated sequence with jitter, or every structure at random."""
    mean, bright = np.zeros(len(Tissue)), 1 / 3
    if rng.random() < 0.6:
        sequence = np.clip(rng.choice(4) + rng.normal(0, 0.1), 0, 3)
        lower = int(min(2, np.floor(sequence)))
        share = float(round(sequence - lower, 1)) if sequence - lower in (0, 1) else sequence - lower
        for tissue, values in MR_SIGNAL.items():
            mean[tissue] = (1 - share) * values[lower] + share * values[lower + 1]
        mean = np.clip(mean * np.exp(rng.normal(0, 0.2, len(Tissue))), 0, 1.3)
        bright = float(np.interp(sequence, range(4), _BRIGHT_IN_MR))
    else:
        mean = rng.uniform(0.05, 1.0, len(Tissue))
        mean[Tissue.LUNG] = rng.uniform(0, 0.3)
        mean[Tissue.CORTICAL_BONE] = rng.uniform(0, 0.4)
    for empty in (Tissue.AIR, Tissue.GAS, Tissue.TABLE):
        mean[empty] = 0.0
    if rng.random() < 0.2:  # iron, or fat, where the sequence shows it
        mean[Tissue.LIVER] *= rng.uniform(0.4, 1.4)
    if rng.random() < 0.2:
        mean[Tissue.GALLBLADDER] = rng.uniform(0.1, 1.0)
    mean[Tissue.LIVER] = max(mean[Tissue.LIVER], 0.12)
    mean[Tissue.LESION] = mean[Tissue.LIVER]
    texture = np.abs(rng.normal(0, 0.03, len(Tissue)))
    texture[[Tissue.AIR, Tissue.GAS, Tissue.TABLE]] = 0
    scale = float(np.exp(rng.uniform(np.log(100), np.log(2000))))
    return _palette(mean * scale, texture * scale, 0.45 * scale, scale, bright)


def unusual_mr_palette(rng: np.random.Generator) -> tuple[Palette, bool]:
    """Signal of a sequence of `UNUSUAL_MR_SIGNAL` with jitter, and whether it is a coarse one, as diffusion's are."""
    column = int(rng.integers(3))
    mean = np.zeros(len(Tissue))
    for tissue, values in UNUSUAL_MR_SIGNAL.items():
        mean[tissue] = values[column]
    mean = np.clip(mean * np.exp(rng.normal(0, 0.15, len(Tissue))), 0, 1.3)
    mean[Tissue.LESION] = mean[Tissue.LIVER]
    texture = np.abs(rng.normal(0, 0.03, len(Tissue)))
    texture[[Tissue.AIR, Tissue.GAS, Tissue.TABLE]] = 0
    scale = float(np.exp(rng.uniform(np.log(100), np.log(2000))))
    return _palette(mean * scale, texture * scale, 0.45 * scale, scale, _BRIGHT_IN_UNUSUAL_MR[column]), column < 2


def _palette(mean: np.ndarray, texture: np.ndarray, lesion_unit: float, span: float, bright: float) -> Palette:
    """`bright` of the patients have bright lesions by the table; a third of them follow no table."""
    grey, own = (torch.as_tensor(each, dtype=torch.float32) for each in (mean, texture))
    return Palette(grey, own, lesion_unit, span, 2 / 3 * bright + 1 / 3 * 0.5)
