"""Whole synthetic scans that no network was trained on: to judge bundles by, and to calibrate them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .body import complete_body
from .generator import Field, synthetic_scan
from .library import open_library
from .procedural import procedural_organs
from .settings import SHIFTED

HEIGHTS_MM = (180, 260, 360, 480)
SPACING_MM = 2.0


@dataclass(frozen=True)
class Case:
    """One scan with its truth: 0 background, 1 liver, 2 tumour, as an image on the scan's grid."""

    scan: sitk.Image
    truth: sitk.Image
    modality: str
    height_mm: int


def held_out(number: int, bodies: Path | None, deciding: bool = False) -> Case:
    """Scan number n: CT and MR in turn, short to tall, harder than in training (`settings.SHIFTED`).

    Args:
        number: the scan follows from it and the bodies.
        bodies: of a training run, whose validation side is drawn from; None for bodies from formulas.
        deciding: of the bodies on that side, take those that nothing is chosen on, else the others.
    """
    rng = np.random.default_rng([771, number])
    if bodies is not None:
        library = open_library(bodies)
        names = library.deciding if deciding else library.tuning
        # By chance: taken in turn, an even number of bodies would show CT some of them and MR the others.
        body = library.load(names[int(np.random.default_rng([772, number]).integers(len(names)))])
    else:
        body = complete_body(procedural_organs(rng), rng)
    height = HEIGHTS_MM[number // 2 % len(HEIGHTS_MM)]
    shape = (round(height / SPACING_MM), 150, 200)
    scan = synthetic_scan(
        body, Field(shape, SPACING_MM, "organ", cut=0.0), rng, "CT" if number % 2 == 0 else "MR", SHIFTED
    )
    images = [sitk.GetImageFromArray(array) for array in (scan.volume, scan.labels)]
    for image in images:
        image.SetSpacing([SPACING_MM] * 3)
    return Case(images[0], images[1], scan.modality, height)
