"""Synthetic scans: an anatomy, moved and bent, with lesions drawn in, painted as CT or MR.

One `SyntheticScans` is a stream: sample number n of seed s is the same on every run.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .anatomy import LIVER_TISSUES, SPACING_MM, Anatomy, Tissue
from .appearance import Modality, draw_look, paint
from .fields import Shape, enlarged, smooth_noise, torch_generator
from .lesions import draw_lesions
from .mimics import draw_mimics
from .settings import TRAINING, Settings
from .shapes import tissue_mask


@dataclass(frozen=True)
class SyntheticScan:
    """One synthetic scan on an isotropic grid.

    Attributes:
        volume: float32 (k, j, i), HU for CT, arbitrary units for MR.
        labels: uint8 (k, j, i), 0 background, 1 liver, 2 tumour.
        modality: what it was painted as.
        spacing_mm: edge of a voxel.
        lesion_diameters_mm: as drawn.
    """

    volume: np.ndarray
    labels: np.ndarray
    modality: Modality
    spacing_mm: float
    lesion_diameters_mm: tuple[float, ...]


@dataclass(frozen=True)
class Field:
    """Which part of a body is sampled.

    Attributes:
        shape: (k, j, i) voxels.
        spacing_mm: edge of a voxel.
        centre: "body" for a height of the liver in half of the scans and any height of the trunk, from
            chest to pelvis, in the others; "liver" for a point in the liver; "organ" for the liver's
            middle height and the body's axis.
        cut: chance that the scan ends inside the field, above or below, as short scans do.
    """

    shape: Shape
    spacing_mm: float
    centre: str = "body"
    cut: float = 0.4


def synthetic_scan(
    anatomy: Anatomy,
    field: Field,
    rng: np.random.Generator,
    modality: Modality | None = None,
    settings: Settings = TRAINING,
) -> SyntheticScan:
    """Draw one scan of `anatomy`; all chance comes from `rng`, the modality too where none is given."""
    tissues = sampled_tissues(anatomy, field, rng, settings.bend)
    look = draw_look(rng, modality, settings)
    contrast = draw_mimics(tissues, field.spacing_mm, rng, settings.mimics)
    lesions = draw_lesions(tissues, field.spacing_mm, rng, look, settings.contrast)
    contrast = torch.where(tissues == Tissue.LESION, lesions.contrast, contrast)
    volume = paint(tissues, contrast, field.spacing_mm, look, rng)
    _cut_field(volume, tissues, look.modality, field, rng)
    labels = tissue_mask(tissues, LIVER_TISSUES).to(torch.uint8)
    labels[tissues == Tissue.LESION] = 2
    return SyntheticScan(volume.numpy(), labels.numpy(), look.modality, field.spacing_mm, lesions.diameters_mm)


def sampled_tissues(anatomy: Anatomy, field: Field, rng: np.random.Generator, bend: float) -> torch.Tensor:
    """The anatomy's tissues on the field's grid after a random turn, stretch and bend (nearest voxel)."""
    source = torch.as_tensor(anatomy.tissues)
    centre = _centre(anatomy.tissues, field, rng)
    k, j, i = (
        ((torch.arange(n, dtype=torch.float32) - (n - 1) / 2) * field.spacing_mm).reshape(view)
        for n, view in zip(field.shape, ((-1, 1, 1), (1, -1, 1), (1, 1, -1)), strict=True)
    )
    matrix = torch.as_tensor(_turn_and_stretch(rng), dtype=torch.float32)
    generator = torch_generator(rng)
    bends = [(bend * rng.uniform(0, 9), rng.uniform(70, 140)), (bend * rng.uniform(0, 2.5), rng.uniform(20, 40))]
    # The bends are smooth: half of the grid's resolution holds them.
    half = (field.shape[0] // 2 + 1, field.shape[1] // 2 + 1, field.shape[2] // 2 + 1)
    flat = torch.zeros((), dtype=torch.long)
    inside = torch.ones(field.shape, dtype=torch.bool)
    for row, length in enumerate(source.shape):
        fields = [a * smooth_noise(half, scale_mm / field.spacing_mm / 2, generator) for a, scale_mm in bends]
        where = enlarged(fields[0] + fields[1], field.shape)
        where = where + (matrix[row, 0] * k + matrix[row, 1] * j + matrix[row, 2] * i)
        index = (where / SPACING_MM + float(centre[row])).round_().long()
        inside &= (index >= 0) & (index < length)
        flat = flat * length + index.clamp_(0, length - 1)
    tissues = source.reshape(-1)[flat]
    tissues[~inside] = Tissue.AIR
    return tissues


def _centre(tissues: np.ndarray, field: Field, rng: np.random.Generator) -> np.ndarray:
    """Voxel coordinates of the anatomy that come to lie in the field's middle."""
    rows = np.flatnonzero((tissues[:, ::2, ::2] == Tissue.LIVER).any((1, 2)))
    if field.centre == "liver":
        slice_k = int(rng.choice(rows))
        spots = np.argwhere(tissues[slice_k] == Tissue.LIVER)
        return np.array([slice_k, *spots[rng.integers(len(spots))]], float) + rng.normal(0, 15 / SPACING_MM, 3)
    if field.centre == "organ":
        k = (rows[0] + rows[-1]) / 2
    else:
        k = rng.uniform(rows[0], rows[-1]) if rng.random() < 0.5 else rng.uniform(0, len(tissues))
    body = np.argwhere((tissues[::4] != Tissue.AIR).any(0))
    middle = (body.min(0) + body.max(0)) / 2
    return np.array([k, *(middle + rng.normal(0, 20 / SPACING_MM, 2))])


def _turn_and_stretch(rng: np.random.Generator) -> np.ndarray:
    """A (3, 3) matrix in (k, j, i): rotations of a lying patient, size and a little shear. No mirror image."""
    angles = np.deg2rad(rng.normal(0, (7, 4, 4)))
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = [n for n in range(3) if n != axis]
        step = np.eye(3)
        step[a, a] = step[b, b] = np.cos(angle)
        step[a, b], step[b, a] = -np.sin(angle), np.sin(angle)
        turn = turn @ step
    size = np.exp(rng.normal(0, 0.1)) * np.exp(rng.normal(0, 0.07, 3))
    return np.asarray(turn @ np.diag(1 / size) + rng.normal(0, 0.03, (3, 3)))


def _cut_field(
    volume: torch.Tensor, tissues: torch.Tensor, modality: Modality, field: Field, rng: np.random.Generator
) -> None:
    """End the scan inside the field: what lies beyond becomes padding, in the volume and the tissues."""
    if rng.random() >= field.cut:
        return
    padding = -1024.0 if modality == "CT" else 0.0
    n = field.shape[0]
    low, high = int(rng.integers(0, n // 3 + 1)), n - int(rng.integers(0, n // 3 + 1))
    for outside in (slice(0, low), slice(high, n)):
        volume[outside] = padding
        tissues[outside] = Tissue.AIR
