"""Synthetic scans: an anatomy, moved and bent, with lesions drawn in, painted as CT or MR, on any torch device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from .anatomy import LIVER_TISSUES, SPACING_MM, Anatomy, Tissue
from .appearance import Modality, draw_look, paint
from .fields import Shape, along, enlarged, own_chances, slice_centres, slice_filters, smooth_noise, torch_generator
from .files import stored
from .lesions import Aim, draw_lesions
from .mimics import draw_mimics
from .settings import TRAINING, Settings
from .shapes import tissue_mask

_OFF_CENTRE_MM = 45.0
_BENDS = ((12.0, (70, 140)), (4.0, (20, 40)))  # mm: the largest deviation, and over what length it changes
_BREATHED, _BREATH_MM = 0.06, (5.0, 2.0, 1.0)  # share of CTs; deviation along (k, j, i)


class Slices(NamedTuple):
    """The axis, of (k, j, i), across which slices lie, and how far apart: their thickness, in mm."""

    axis: int
    apart_mm: float


@dataclass(frozen=True)
class DrawnScan:
    """One synthetic scan on the device where it was drawn; see `SyntheticScan`."""

    volume: torch.Tensor
    labels: torch.Tensor
    modality: Modality
    spacing_mm: float
    lesion_diameters_mm: tuple[float, ...]
    slices: Slices | None = None


@dataclass(frozen=True)
class SyntheticScan:
    """One synthetic scan.

    Attributes:
        volume: float32 (k, j, i), HU for CT, arbitrary units for MR.
        labels: uint8 (k, j, i), 0 background, 1 liver, 2 tumour.
        modality: what it was painted as.
        spacing_mm: edge of a voxel; within the slices, where there are such.
        lesion_diameters_mm: as drawn.
        slices: where they are left as they were measured and thick; None on an isotropic grid.
    """

    volume: np.ndarray
    labels: np.ndarray
    modality: Modality
    spacing_mm: float
    lesion_diameters_mm: tuple[float, ...]
    slices: Slices | None = None


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
        off_centre: chance that a field of "liver" lies some centimetres beside its point, as windows at the border of
            the liver's box do.
        as_measured: leave thick slices as they are, with less of them than `shape` says, rather than interpolate.
    """

    shape: Shape
    spacing_mm: float
    centre: str = "body"
    cut: float = 0.4
    off_centre: float = 0.0
    as_measured: bool = False


def synthetic_scan(
    anatomy: Anatomy,
    field: Field,
    rng: np.random.Generator,
    modality: Modality | None = None,
    settings: Settings = TRAINING,
    aim: Aim = "any",
    device: torch.device | str = "cpu",
) -> SyntheticScan:
    """`drawn_scan` as arrays; see there."""
    scan = drawn_scan(anatomy, field, rng, modality, settings, aim, device)
    volume, labels = (each.cpu().numpy() for each in (scan.volume, scan.labels))
    return SyntheticScan(volume, labels, scan.modality, scan.spacing_mm, scan.lesion_diameters_mm, scan.slices)


def drawn_scan(
    anatomy: Anatomy,
    field: Field,
    rng: np.random.Generator,
    modality: Modality | None = None,
    settings: Settings = TRAINING,
    aim: Aim = "any",
    device: torch.device | str = "cpu",
) -> DrawnScan:
    """Draw one scan of `anatomy`; all chance comes from `rng`, the modality too where none is given.

    Args:
        anatomy: the body.
        field: the part of it that is scanned.
        rng: source of all chance.
        modality: CT or MR.
        settings: of the drawing.
        aim: which lesions are drawn.
        device: where it is drawn, and stays. Each kind of device has random numbers of its own, so that a seed gives
            one scan on the CPU and another on a GPU.
    """
    look = draw_look(rng, modality, settings)
    breaths = _breaths(field, rng, settings.unusual) if look.modality == "CT" else None
    tissues = sampled_tissues(anatomy, field, rng, settings.bend, device, breaths)
    contrast = draw_mimics(tissues, field.spacing_mm, rng, settings.mimics, settings.unusual)
    lesions = draw_lesions(tissues, field.spacing_mm, rng, look, settings.contrast, aim, settings.unusual)
    contrast = torch.where(tissues == Tissue.LESION, lesions.contrast, contrast)
    volume = paint(tissues, contrast, field.spacing_mm, look, rng, field.as_measured)
    slices = None
    if field.as_measured and look.has_thick_slices(field.spacing_mm):
        slices = Slices(look.slice_axis, look.slice_mm)
        tissues = _in_slices(tissues, slices, field.spacing_mm)
    whole_body = field.centre != "liver"
    volume = stored(volume, tissues, look.modality, rng, settings.unusual, whole_body)
    _cut_field(volume, tissues, look.modality, field, rng)
    labels = tissue_mask(tissues, LIVER_TISSUES).to(torch.uint8)
    labels.masked_fill_(tissues == Tissue.LESION, 2)
    return DrawnScan(volume, labels, look.modality, field.spacing_mm, lesions.diameters_mm, slices)


def _in_slices(tissues: torch.Tensor, slices: Slices, spacing_mm: float) -> torch.Tensor:
    """What lies in the middle of each slice; lesion also where a third of the slice is, as one between two may be."""
    axis, thickness = slices.axis, slices.apart_mm / spacing_mm
    centres = slice_centres(tissues.shape[axis], thickness)
    middle = tissues.index_select(axis, torch.as_tensor(centres, device=tissues.device))
    into_slices, _ = slice_filters(tissues.shape[axis], thickness, tissues.device)
    share = along(into_slices, (tissues == Tissue.LESION).float(), axis)
    return middle.masked_fill_(share >= 1 / 3, int(Tissue.LESION))


def _breaths(field: Field, rng: np.random.Generator, share: float) -> np.ndarray | None:
    """Where the patient of a CT breathed, (k, 3) mm along (k, j, i), or none: above each such slice all has moved.

    Slices of one moment and of the next then do not fit: an outline has steps, and a part is there twice or missing.
    The chance is its own.
    """
    own = own_chances(rng, 1)[0]
    if own.random() >= share * _BREATHED:
        return None
    moved, count = np.zeros((field.shape[0], 3), np.float32), int(own.integers(1, 4))
    for slice_k in own.integers(1, field.shape[0], count):
        moved[slice_k:] += own.normal(0, _BREATH_MM)
    return moved


def sampled_tissues(
    anatomy: Anatomy,
    field: Field,
    rng: np.random.Generator,
    bend: float,
    device: torch.device | str = "cpu",
    moved_mm: np.ndarray | None = None,
) -> torch.Tensor:
    """The anatomy's tissues on the field's grid after a random turn, stretch and bend (nearest voxel).

    Args:
        anatomy: the body.
        field: the part of it that is scanned.
        rng: source of all chance.
        bend: factor on the bends.
        device: where they are sampled, and stay.
        moved_mm: (k, 3) how far each slice lies from its place, along (k, j, i).
    """
    source = anatomy.on(device)
    centre = _centre(anatomy, field, rng)
    k, j, i = (
        ((torch.arange(n, dtype=torch.float32, device=device) - (n - 1) / 2) * field.spacing_mm).reshape(view)
        for n, view in zip(field.shape, ((-1, 1, 1), (1, -1, 1), (1, 1, -1)), strict=True)
    )
    matrix = _turn_and_stretch(rng).astype(np.float32)
    generator = torch_generator(rng, device)
    bends = [(bend * rng.uniform(0, most_mm), rng.uniform(*scale_mm)) for most_mm, scale_mm in _BENDS]
    # The bends are smooth: half of the grid's resolution holds them.
    half = (field.shape[0] // 2 + 1, field.shape[1] // 2 + 1, field.shape[2] // 2 + 1)
    flat = torch.zeros((), dtype=torch.long, device=device)
    inside = torch.ones(field.shape, dtype=torch.bool, device=device)
    for row, length in enumerate(source.shape):
        fields = [a * smooth_noise(half, scale_mm / field.spacing_mm / 2, generator) for a, scale_mm in bends]
        where = enlarged(fields[0] + fields[1], field.shape)
        way = [float(share) for share in matrix[row]]
        where = where + (way[0] * k + way[1] * j + way[2] * i)
        if moved_mm is not None:
            where = where + torch.as_tensor(moved_mm[:, row], device=device).reshape(-1, 1, 1)
        index = (where / SPACING_MM + float(centre[row])).round_().long()
        inside &= (index >= 0) & (index < length)
        flat = flat * length + index.clamp_(0, length - 1)
    tissues = source.reshape(-1)[flat]
    return tissues.masked_fill_(~inside, int(Tissue.AIR))


def _centre(anatomy: Anatomy, field: Field, rng: np.random.Generator) -> np.ndarray:
    """Voxel coordinates of the anatomy that come to lie in the field's middle."""
    tissues, rows = anatomy.tissues, anatomy.liver_rows
    if field.centre == "liver":
        slice_k = int(rng.choice(rows))
        spots = np.argwhere(tissues[slice_k] == Tissue.LIVER)
        spread = _OFF_CENTRE_MM if field.off_centre and rng.random() < field.off_centre else 15.0
        return np.array([slice_k, *spots[rng.integers(len(spots))]], float) + rng.normal(0, spread / SPACING_MM, 3)
    if field.centre == "organ":
        k = (rows[0] + rows[-1]) / 2
    else:
        k = rng.uniform(rows[0], rows[-1]) if rng.random() < 0.5 else rng.uniform(0, len(tissues))
    return np.array([k, *(anatomy.middle + rng.normal(0, 20 / SPACING_MM, 2))])


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
    n = volume.shape[0]
    low, high = int(rng.integers(0, n // 3 + 1)), n - int(rng.integers(0, n // 3 + 1))
    for outside in (slice(0, low), slice(high, n)):
        volume[outside] = padding
        tissues[outside] = Tissue.AIR
