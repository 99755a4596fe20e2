"""Organs drawn from nothing but formulas: what the generator uses where no label maps are given."""

from __future__ import annotations

import numpy as np

from .anatomy import SPACING_MM, Anatomy, Tissue
from .fields import smooth_noise, torch_generator

_SHAPE = (140, 110, 160)


def procedural_organs(rng: np.random.Generator) -> Anatomy:
    """Liver, spleen, kidneys, stomach, gallbladder, pancreas and great vessels as bent ellipsoids and tubes.

    Millimetres from the middle of the vessels' level, x to the patient's left, y to the back, z to
    the head. Positions and sizes are an adult's, varied by about a tenth.
    """
    generator = torch_generator(rng)
    lumps = smooth_noise(_SHAPE, 28 / SPACING_MM, generator).numpy()
    z, y, x = np.meshgrid(*[(np.arange(n) - n / 2) * SPACING_MM for n in _SHAPE], indexing="ij")
    tissues = np.zeros(_SHAPE, np.uint8)

    def vary(*values: float) -> tuple[float, ...]:
        return tuple(v * rng.normal(1, 0.07) for v in values)

    def ellipsoid(centre: tuple[float, ...], radii: tuple[float, ...], roughness: float = 0.06) -> np.ndarray:
        (cx, cy, cz), (rx, ry, rz) = vary(*centre), vary(*radii)
        distance = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 + ((z - cz) / rz) ** 2
        return np.sqrt(distance) * (1 + roughness * lumps)

    right_lobe = ellipsoid((-72, -8, 20), (68, 72, 88))
    left_lobe = ellipsoid((-8, -42, 55), (78, 38, 36))
    dome = np.minimum(right_lobe, left_lobe) < 1
    hollow = ellipsoid((-40, 45, -45), (48, 58, 62)) < 1
    tissues[dome & ~hollow & (z > rng.uniform(-85, -65))] = Tissue.LIVER
    tissues[ellipsoid((105, 35, 40), (28, 42, 52)) < 1] = Tissue.SPLEEN
    for side in (-58.0, 58.0):
        tissues[ellipsoid((side, 52, -35), (28, 26, 54), 0.03) < 1] = Tissue.KIDNEY
    stomach = (ellipsoid((58, -22, 45), (40, 44, 58)) < 1) & (tissues == Tissue.AIR)
    tissues[stomach] = Tissue.STOMACH
    tissues[ellipsoid((-38, -38, -30), (13, 18, 32), 0.02) < 1] = Tissue.GALLBLADDER
    tissues[(ellipsoid((18, 8, -5), (62, 11, 14)) < 1) & (tissues == Tissue.AIR)] = Tissue.PANCREAS
    aorta_radius, cava_radius, portal_radius = vary(10, 12, 7)
    tissues[(x - 12) ** 2 + (y - 32) ** 2 < aorta_radius**2] = Tissue.AORTA
    tissues[((x + 18) ** 2 + (y - 26) ** 2 < cava_radius**2) & (z < 100)] = Tissue.VENA_CAVA
    along = np.clip((z + 30) / 60, 0, 1)
    portal = (x - 5 + 38 * along) ** 2 + (y - 4) ** 2 < portal_radius**2
    tissues[portal & (z > -45) & (z < 30) & (tissues != Tissue.KIDNEY)] = Tissue.PORTAL_VEIN
    return Anatomy(_in_one_piece(tissues), "procedural")


def _in_one_piece(tissues: np.ndarray) -> np.ndarray:
    """The same organs with the liver's splinters removed (impressions can cut some off)."""
    import cc3d

    liver = tissues == Tissue.LIVER
    largest = cc3d.largest_k(liver, k=1, connectivity=6).astype(bool)
    tissues[liver & ~largest] = Tissue.AIR
    return tissues
