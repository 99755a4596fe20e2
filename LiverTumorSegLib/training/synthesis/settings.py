"""What can be shifted in the generator, to see whether a network depends on how its scans were drawn."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Factors and limits of the drawing; the defaults are what networks are trained on.

    Attributes:
        noise: factor on the noise.
        contrast: factor on the lesions' difference to the liver.
        bend: factor on the deformation of the anatomy.
        mimics: factor on the chance of each thing that looks like a lesion and is none.
        thickest_mm: thickest slices.
        darkest_mr_lesion: least signal of a lesion in MR as a share of the liver's.
        unusual: factor on the chance of each thing that few scans have: DWI and hepatobiliary MR, ringing, breaths
            between a CT's slices, clipped or stepped grey values, dilated ducts, ascites, a gallbladder's neck, and
            lesions as in `unusual_lesions`.
    """

    noise: float = 1.0
    contrast: float = 1.0
    bend: float = 1.0
    mimics: float = 1.0
    thickest_mm: float = 8.0
    darkest_mr_lesion: float = 0.2
    unusual: float = 1.0


TRAINING = Settings()

SHIFTED = Settings(noise=1.25, contrast=0.85, bend=1.3, mimics=1.3, thickest_mm=9.0, darkest_mr_lesion=0.1, unusual=1.3)
"""Harder than anything trained on: what decides between networks."""
