"""A contact sheet of synthetic scans: what a person looks at before a training run is worth its electricity."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ...geometry import fit_grid, resample_to_grid, whole_box
from ...images import modality_of, read_image
from ...preprocessing import padding_value
from ...recipe import Grid
from .appearance import Modality

_COLOURS = {1: (90, 220, 90), 2: (255, 120, 40)}
_GAP = 4
_CT_WINDOW = (-110.0, 240.0)


class Shown(Protocol):
    """What a line of the sheet shows: arrays (k, j, i), k to the head, j to the back, i to the left."""

    @property
    def volume(self) -> np.ndarray:
        """Grey values."""

    @property
    def labels(self) -> np.ndarray:
        """0 background, 1 liver, 2 tumour."""

    @property
    def modality(self) -> Modality:
        """CT or MR."""


@dataclass(frozen=True)
class RealScan:
    """A scan that was read from a file, to be shown beside drawn ones; nothing is outlined in it."""

    volume: np.ndarray
    labels: np.ndarray
    modality: Modality


def real_scan(path: Path, spacing_mm: float) -> RealScan:
    """A scan on an isotropic grid as networks are shown it: along its own axes, or the patient's if it is oblique.

    Raises:
        ImageError: it cannot be read.
    """
    image = read_image(path)
    box, modality = whole_box(image), modality_of(image)
    grid = fit_grid(image, box, Grid(spacing_mm=spacing_mm, multiple_of=1))
    volume = resample_to_grid(image, box, grid, padding_value(image, modality))
    return RealScan(volume, np.zeros(volume.shape, np.uint8), modality)


def contact_sheet(scans: Iterable[Shown]) -> np.ndarray:
    """uint8 (rows, columns, 3): a line for each scan with its axial, coronal and sagittal slice.

    The slices go through the largest lesion, or the liver, or the middle where there is neither. Each
    is shown plain and with the outlines of liver (green) and tumour (orange).
    """
    lines = [_line(scan) for scan in scans]
    width = max(line.shape[1] for line in lines)
    padded = [np.pad(line, ((0, _GAP), (0, width - line.shape[1]), (0, 0))) for line in lines]
    return np.concatenate(padded)


def write_contact_sheet(scans: Iterable[Shown], path: Path) -> None:
    """Write the sheet as an image in the format of the file's name."""
    from PIL import Image

    Image.fromarray(contact_sheet(scans)).save(path)


def _line(scan: Shown) -> np.ndarray:
    grey = _grey(scan.volume, scan.modality)
    centre = _point_of_interest(scan.labels)
    tiles = []
    for axis in range(3):
        # Left of the picture is the patient's right, up is the head.
        plane, marks = (np.take(array, centre[axis], axis) for array in (grey, scan.labels))
        if axis > 0:
            plane, marks = plane[::-1], marks[::-1]
        plain = np.repeat(plane[..., None], 3, axis=2)
        tiles += [plain, _outlined(plain, marks)]
    height = max(tile.shape[0] for tile in tiles)
    return np.concatenate([np.pad(t, ((0, height - t.shape[0]), (0, _GAP), (0, 0))) for t in tiles], axis=1)


def _grey(volume: np.ndarray, modality: Modality) -> np.ndarray:
    if modality == "CT":
        low, high = _CT_WINDOW
    else:
        low, high = 0.0, max(float(np.percentile(volume, 99.5)), 1e-6)
    return np.asarray(np.clip((volume - low) / (high - low), 0, 1) * 255, np.uint8)


def _point_of_interest(labels: np.ndarray) -> np.ndarray:
    """(k, j, i) of the largest lesion's centre, else the liver's, else the middle."""
    import cc3d

    if (labels == 2).any():
        mask = cc3d.largest_k(labels == 2, k=1, connectivity=6).astype(bool)
    else:
        mask = labels == 1
    if not mask.any():
        return np.array(labels.shape) // 2
    return np.round(np.argwhere(mask).mean(0)).astype(int)


def _outlined(plain: np.ndarray, marks: np.ndarray) -> np.ndarray:
    picture = plain.copy()
    for value, colour in _COLOURS.items():
        mask = marks >= value
        inner = mask.copy()
        for axis in (0, 1):
            for step in (1, -1):
                inner &= np.roll(mask, step, axis)
        picture[mask & ~inner] = colour
    return picture
