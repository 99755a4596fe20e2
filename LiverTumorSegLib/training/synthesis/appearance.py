"""What a scanner makes of the tissues: partial volume, blur, shading, streaks, ghosts and noise."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from .anatomy import Tissue
from .fields import along, gaussian_blur, own_chances, slice_filters, smooth_noise, torch_generator
from .palettes import Palette, ct_palette, mr_palette, unusual_mr_palette
from .settings import TRAINING, Settings

Modality = Literal["CT", "MR"]

_DARKEST_LESION_HU = 14.0  # darker is a cyst's fluid
_POINT = 0.4  # voxels: blurred by this, an edge between points is as steep, in the mean, as between means over voxels
_STRONG = 1.0  # contrast of a lesion, in lesion units
_LEAST_LEFT = 0.4  # of a lesion's contrast after blur: what is left of less is not made up for
_UNUSUAL_SEQUENCE, _RINGING = 0.15, 0.15  # of MR scans


@dataclass(frozen=True)
class Look:
    """How one scan is taken, drawn before anything is painted so that lesions can be made to show in it.

    Attributes:
        modality: CT or MR.
        palette: grey values.
        sharp_mm: standard deviation of the in-plane blur.
        slice_mm: thickness of the slices, 0 for slices as thin as the grid's.
        slice_axis: across which axis they lie; 0 is axial.
        noise: standard deviation in grey values.
        grain: correlation of the noise in voxels.
        sampled: share of the frequencies in plane that were measured; with less than all, edges ring.
        darkest_mr_lesion: least signal of a lesion in MR as a share of the liver's.
    """

    modality: Modality
    palette: Palette
    sharp_mm: float
    slice_mm: float
    slice_axis: int
    noise: float
    grain: float
    sampled: float = 1.0
    darkest_mr_lesion: float = 0.0

    @property
    def darkest_lesion(self) -> float:
        """The least grey value of a lesion."""
        return _DARKEST_LESION_HU if self.modality == "CT" else self.darkest_mr_lesion * self._liver

    @property
    def _liver(self) -> float:
        return float(self.palette.mean[Tissue.LIVER])

    def has_thick_slices(self, spacing_mm: float) -> bool:
        """Whether the slices are thicker than voxels with such an edge."""
        return self.slice_mm > 1.2 * spacing_mm

    @property
    def smallest_lesion_mm(self) -> float:
        """Below this a lesion drowns in its slice or in noise."""
        clear = (mm for mm in range(4, 30) if self.faintest_lesion(mm) <= _STRONG)
        return max(next(clear, 30), 0.8 * self.slice_mm)

    def faintest_lesion(self, diameter_mm: float) -> float:
        """The least contrast, in lesion units, that a reader could make out; small lesions need more."""
        needed = self.noise / self.palette.lesion_unit * float(np.clip(14 / diameter_mm, 0.7, 3))
        return max(0.2, needed) / max(self._left_of_contrast(diameter_mm), _LEAST_LEFT)

    def _left_of_contrast(self, diameter_mm: float) -> float:
        """The share of a ball's contrast that blur and slices leave in its middle: the Gaussian's integral over it."""
        reach = diameter_mm / (2 * math.sqrt(2) * max(self.sharp_mm, 1e-3))
        blurred = math.erf(reach) - 2 / math.sqrt(math.pi) * reach * math.exp(-(reach**2))
        return blurred * min(1.0, diameter_mm / max(self.slice_mm, 1e-6))

    def visible(self, contrast: float, diameter_mm: float) -> float:
        """A lesion's contrast, in lesion units, as strong as can be made out and no darker than a lesion gets.

        Where the liver is too dark for a darker lesion that can be made out, a bright one.
        """
        least = self.faintest_lesion(diameter_mm)
        lowest = (self.darkest_lesion - self._liver) / self.palette.lesion_unit
        if contrast < 0 and lowest > -least:
            return max(-contrast, least)
        return max(min(contrast, -least), lowest) if contrast < 0 else max(contrast, least)


def draw_look(rng: np.random.Generator, modality: Modality | None = None, settings: Settings = TRAINING) -> Look:
    """A scanner, a sequence or phase, and a patient's tissues; half of the scans have thick slices."""
    drawn: Modality = "CT" if rng.random() < 0.5 else "MR"
    modality = modality or drawn
    palette = ct_palette(rng) if modality == "CT" else mr_palette(rng)
    look = Look(
        modality=modality,
        palette=palette,
        sharp_mm=rng.uniform(0.5, 1.6),
        slice_mm=rng.uniform(2, settings.thickest_mm) if rng.random() < 0.5 else 0.0,
        slice_axis=0 if rng.random() < 0.9 else int(rng.integers(1, 3)),
        noise=palette.span * settings.noise * float(np.exp(rng.uniform(np.log(0.01), np.log(0.09)))),
        grain=rng.uniform(0, 0.9),
        darkest_mr_lesion=settings.darkest_mr_lesion,
    )
    return _unusual(look, rng, settings.unusual) if modality == "MR" else look


def _unusual(look: Look, rng: np.random.Generator, share: float) -> Look:
    """Now and then a sequence that few MR studies have, or ringing; the chance is its own."""
    sequence, ringing = own_chances(rng, 2)
    if sequence.random() < share * _UNUSUAL_SEQUENCE:
        palette, coarse = unusual_mr_palette(sequence)
        sharp_mm = sequence.uniform(1.5, 3.0) if coarse else look.sharp_mm
        relative_noise = look.noise / look.palette.span
        look = replace(look, palette=palette, sharp_mm=sharp_mm, noise=relative_noise * palette.span)
    if ringing.random() < share * _RINGING:
        look = replace(look, sampled=ringing.uniform(0.4, 0.75))
    return look


def paint(
    tissues: torch.Tensor,
    contrast: torch.Tensor,
    spacing_mm: float,
    look: Look,
    rng: np.random.Generator,
    as_measured: bool = False,
) -> torch.Tensor:
    """A scan of the tissues: float32 (k, j, i) in HU (CT) or arbitrary units (MR).

    Args:
        tissues: uint8 (k, j, i) array of `Tissue`.
        contrast: float32 (k, j, i) difference to the tissue's grey value, in lesion units.
        spacing_mm: edge of the voxels.
        look: of the scan.
        rng: source of all chance.
        as_measured: leave thick slices as they are, fewer along their axis than voxels, rather than interpolate.
    """
    palette, generator = look.palette, torch_generator(rng, tissues.device)
    mean, texture = (each.to(tissues.device) for each in (palette.mean, palette.texture))
    shape = (tissues.shape[0], tissues.shape[1], tissues.shape[2])
    index = tissues.long()
    volume = mean[index] + contrast * palette.lesion_unit
    volume = torch.where(tissues == Tissue.LESION, volume.clamp_min(look.darkest_lesion), volume)
    grain = smooth_noise(shape, max(1.0, rng.uniform(2, 8) / spacing_mm), generator)
    sharp = math.hypot(look.sharp_mm / spacing_mm, _POINT)
    volume = gaussian_blur(volume + texture[index] * grain, (sharp, sharp, sharp))
    if look.modality == "MR":
        shading = smooth_noise(shape, rng.uniform(120, 300) / spacing_mm, generator)
        volume = volume * torch.exp(rng.uniform(0, 0.3) * shading)
    if not look.has_thick_slices(spacing_mm):
        return _measured(volume, look, generator, rng)
    axis = look.slice_axis
    into_slices, back = slice_filters(shape[axis], look.slice_mm / spacing_mm, volume.device)
    measured = _measured(along(into_slices, volume, axis), look, generator, rng)
    return measured if as_measured else along(back, measured, axis)


def _measured(volume: torch.Tensor, look: Look, generator: torch.Generator, rng: np.random.Generator) -> torch.Tensor:
    """Slices with what goes wrong while they are measured, each with noise of its own."""
    if rng.random() < 0.15:
        ct = look.modality == "CT"
        volume = _streaked(volume, look.palette, generator, rng) if ct else _ghosted(volume, rng)
    if look.sampled < 1:
        volume = _rung(volume, look.sampled, look.slice_axis)
    return _noisy(volume, look, generator)


def _rung(volume: torch.Tensor, sampled: float, slice_axis: int) -> torch.Tensor:
    """The volume without the highest frequencies in its slices: Gibbs's ringing along edges."""
    plane = [axis for axis in range(3) if axis != slice_axis]
    spectrum = torch.fft.fft2(volume, dim=plane)
    for axis in plane:
        view = [-1 if each == axis else 1 for each in range(3)]
        high = torch.fft.fftfreq(volume.shape[axis], device=volume.device).abs() > sampled / 2
        spectrum = spectrum.masked_fill(high.reshape(view), 0)
    return torch.fft.ifft2(spectrum, dim=plane).real


def _streaked(
    volume: torch.Tensor, palette: Palette, generator: torch.Generator, rng: np.random.Generator
) -> torch.Tensor:
    """Streaks across each slice, all in one direction, as arms and metal cause them in CT."""
    k, j, i = volume.shape
    tilt = rng.uniform(-0.7, 0.7)
    reach = int(np.ceil(abs(tilt) * i)) + 1
    lines = torch.randn(k, j + 2 * reach, 1, generator=generator, device=volume.device)
    lines = gaussian_blur(lines, (0.7, rng.uniform(0.3, 1.0), 0.0))
    rows, columns = (torch.arange(n, device=volume.device) for n in (j, i))
    along = rows[:, None] + (tilt * columns[None, :]).round().long() + reach
    strength = palette.span * rng.uniform(0.01, 0.06) / float(lines.std().clamp_min(1e-6))
    where = smooth_noise((k, j, i), max(j, i) / 3, generator).clamp(0, 2)
    return volume + strength * where * lines[:, along, 0]


def _ghosted(volume: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Faint copies along the phase-encoding direction, as breathing causes them in MR."""
    axis = 1 if rng.random() < 0.7 else 2
    shift = int(rng.integers(6, max(7, volume.shape[axis] // 3)))
    copies = torch.roll(volume, shift, axis) + torch.roll(volume, -shift, axis)
    return volume + rng.uniform(0.02, 0.1) * copies


def _noisy(volume: torch.Tensor, look: Look, generator: torch.Generator) -> torch.Tensor:
    """Noise with a grain: Gaussian for CT, Rician for MR."""
    rough = torch.randn(volume.shape, generator=generator, device=volume.device)
    soft = gaussian_blur(rough, (look.grain * 0.5, look.grain, look.grain))
    noise = soft * (look.noise / soft.std())
    if look.modality == "CT":
        return volume + noise
    # The imaginary channel's noise is the same pattern far away: as good as independent, at no cost.
    far = torch.roll(noise, [n // 2 for n in noise.shape], (0, 1, 2))
    return ((volume.clamp_min(0) + noise) ** 2 + far**2).sqrt()
