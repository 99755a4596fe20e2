"""Draws the rest of a body around labelled organs: wall, spine, ribs, lungs, heart, bowel, fat, table.

Public label maps name a dozen organs and leave everything else blank. The liver is found by what
lies around it, so the blank is filled with procedural anatomy: crude in shape, right in place,
and different every time.
"""

from __future__ import annotations

from dataclasses import dataclass

import edt
import numpy as np
import torch

from .anatomy import SPACING_MM, VESSELS_OF_LIVER, Anatomy, Tissue
from .fields import gaussian_blur, smooth_noise, torch_generator
from .pelvis import draw_arms, draw_pelvis
from .vessels import draw_hepatic_vessels


@dataclass(frozen=True)
class Cavity:
    """The inside of the trunk's wall, slice by slice, in voxels.

    Attributes:
        midline: (k,) i-coordinate of the body's middle.
        spine: (k,) j-coordinate of the vertebral bodies' centre.
        radius: (k, j, i) normalised distance from the axis: 1 at the wall's inner side.
    """

    midline: np.ndarray
    spine: np.ndarray
    radius: np.ndarray


def complete_body(organs: Anatomy, rng: np.random.Generator, tall: bool = True) -> Anatomy:
    """The whole trunk around `organs`; the labelled organs stay as they are.

    Args:
        organs: what is known.
        rng: source of all chance.
        tall: add chest, pelvis and arms in many bodies; else the body is as high as the organs' field.
    """
    arms = rng.random() < 0.3
    given = _padded(organs.tissues, 130 if arms and tall else 60, rng, tall)
    tissues = given.copy()
    cavity = _cavity(tissues, rng)
    crest = _iliac_crest(tissues) - round(rng.uniform(15, 45) / SPACING_MM)
    _draw_wall(tissues, cavity, rng)
    _draw_spine(tissues, cavity, rng)
    _draw_chest(tissues, cavity, rng)
    _draw_bowel_and_fat(tissues, cavity, rng)
    _fill_stomach(tissues, rng)
    draw_pelvis(tissues, cavity.midline, cavity.spine, cavity.radius <= 1, crest, rng)
    if arms and tall:
        draw_arms(tissues, rng)
    draw_hepatic_vessels(tissues, rng)
    _draw_table(tissues, rng)
    refined = np.isin(tissues, (Tissue.STOMACH_CONTENT, Tissue.GAS, *VESSELS_OF_LIVER))
    kept = (given != Tissue.AIR) & ~refined
    tissues[kept] = given[kept]
    return Anatomy(tissues, organs.source)


def _padded(tissues: np.ndarray, margin_mm: float, rng: np.random.Generator, tall: bool) -> np.ndarray:
    """Room beside the organs; in tall bodies often above for the chest, and below for the pelvis where it lacks."""
    rows = np.flatnonzero((tissues == Tissue.LIVER).any((1, 2)))
    above = rng.uniform(0, 200) if rng.random() < 0.7 else 0.0
    below = rng.uniform(0, 280) if rows.size and rows[0] * SPACING_MM < 150 else 0.0
    if not tall:
        above = below = 0.0
    beside = round(margin_mm / SPACING_MM)
    return np.pad(tissues, ((round(below / SPACING_MM), round(above / SPACING_MM)), (beside, beside), (beside, beside)))


def _iliac_crest(tissues: np.ndarray) -> int:
    """The slice of the kidneys' lower end, or of the liver's: the pelvis begins a few centimetres below."""
    for organ in (Tissue.KIDNEY, Tissue.LIVER):
        rows = np.flatnonzero((tissues == organ).sum((1, 2)) > 20)
        if rows.size:
            return int(rows[0])
    return 0


def _track(mask: np.ndarray, axis: int, default: float, smooth_mm: float = 30.0) -> np.ndarray:
    """The (k,) course of a structure's centre along axis 1 (j) or 2 (i), smoothed and extrapolated."""
    other = 2 if axis == 1 else 1
    profile = mask.any(axis=other)
    counts = profile.sum(1)
    known = np.flatnonzero(counts)
    if known.size == 0:
        return np.full(mask.shape[0], default)
    centre = (profile * np.arange(profile.shape[1])).sum(1)[known] / counts[known]
    full = np.interp(np.arange(mask.shape[0]), known, centre)
    return _smooth_along(full, smooth_mm)


def _smooth_along(course: np.ndarray, sigma_mm: float) -> np.ndarray:
    volume = torch.as_tensor(course, dtype=torch.float32)[:, None, None]
    return gaussian_blur(volume, (sigma_mm / SPACING_MM, 0, 0))[:, 0, 0].numpy()


def _cavity(tissues: np.ndarray, rng: np.random.Generator) -> Cavity:
    """A tube of superelliptic slices that holds every organ and fits closely at the flanks."""
    organs = tissues != Tissue.AIR
    n, height, width = tissues.shape
    vessels = (tissues == Tissue.AORTA) | (tissues == Tissue.VENA_CAVA)
    midline = _track(vessels, 2, float(np.argwhere(organs)[:, 2].mean()))
    aorta = _track(tissues == Tissue.AORTA, 1, float(np.argwhere(organs)[:, 1].mean()) + 20)
    spine = aorta + rng.uniform(26, 34) / SPACING_MM
    k, j, i = np.nonzero(organs)
    front = float(np.percentile(j, 0.5)) - rng.uniform(2, 10) / SPACING_MM
    back = spine + rng.uniform(20, 35) / SPACING_MM
    centre, half_depth = (front + back) / 2, (back - front) / 2
    sideways = i - midline[k]
    slack = rng.uniform(0.96, 1.08)
    right = _flank(k, -sideways, half_depth, n) * slack
    left = _flank(k, sideways, half_depth, n) * slack
    power = rng.uniform(2.4, 3.2)
    half = np.where(sideways < 0, right[k], left[k])
    reach = np.abs(sideways / half) ** power + np.abs((j - centre[k]) / half_depth[k]) ** power
    needed = np.ones(n)
    np.maximum.at(needed, k, reach)
    scale = _smooth_along(_running_max(needed, 20) ** (1 / power), 20.0)
    jj = np.arange(height)[None, :, None]
    di = np.arange(width)[None, None, :] - midline[:, None, None]
    half_widths = np.where(di < 0, right[:, None, None], left[:, None, None])
    across = np.abs(di / (half_widths * scale[:, None, None])) ** power
    along = np.abs((jj - centre[:, None, None]) / (half_depth * scale)[:, None, None]) ** power
    return Cavity(midline, spine, ((across + along) ** (1 / power)).astype(np.float32))


def _flank(k: np.ndarray, sideways: np.ndarray, half_depth: np.ndarray, n: int) -> np.ndarray:
    """(k,) half width on one side: the organs' reach nearby, never much narrower than elsewhere."""
    reach = np.zeros(n)
    np.maximum.at(reach, k, sideways)
    narrowest = np.maximum(1.05 * half_depth, 0.85 * reach.max())
    return _smooth_along(np.maximum(_running_max(reach, 40), narrowest), 20.0)


def _running_max(course: np.ndarray, reach_mm: float) -> np.ndarray:
    window = round(reach_mm / SPACING_MM)
    return np.array([course[max(0, s - window) : s + window + 1].max() for s in range(course.size)])


def _draw_wall(tissues: np.ndarray, cavity: Cavity, rng: np.random.Generator) -> None:
    """Muscle with ribs in it, fat of varying thickness, skin; written only where nothing is yet."""
    inside = cavity.radius <= 1
    depth = edt.edt(~inside, anisotropy=(SPACING_MM,) * 3)
    generator = torch_generator(rng)
    wobble = smooth_noise(tissues.shape, 30, generator).numpy()
    muscle = rng.uniform(8, 18) + 2 * wobble
    fat = muscle + np.maximum(2.0, rng.uniform(3, 40) + 4 * wobble)
    blank = tissues == Tissue.AIR
    tissues[blank & ~inside & (depth < muscle)] = Tissue.MUSCLE
    tissues[blank & ~inside & (depth >= muscle) & (depth < fat)] = Tissue.SUBCUTANEOUS_FAT
    tissues[blank & ~inside & (depth >= fat) & (depth < fat + 3)] = Tissue.SKIN
    _draw_ribs(tissues, cavity, depth, blank & ~inside, rng)


def _draw_ribs(
    tissues: np.ndarray, cavity: Cavity, depth: np.ndarray, wall: np.ndarray, rng: np.random.Generator
) -> None:
    """Oblique bands of bone in the wall, from a little below the liver's dome region upwards."""
    n, height, _ = tissues.shape
    liver_k = np.flatnonzero((tissues == Tissue.LIVER).any((1, 2)))
    lowest = liver_k[0] + 0.1 * (liver_k[-1] - liver_k[0]) if liver_k.size else n * 0.5
    kk = np.arange(n)[:, None, None]
    jj = np.arange(height)[None, :, None]
    pitch, slope = rng.uniform(24, 32) / SPACING_MM, rng.uniform(0.3, 0.7)
    phase = (kk + slope * (jj - cavity.spine[:, None, None]) + rng.uniform(0, pitch)) % pitch
    band = (phase < rng.uniform(10, 14) / SPACING_MM) & (kk > lowest)
    outer = band & wall & (depth > 1.5) & (depth < 9)
    tissues[outer] = Tissue.CORTICAL_BONE
    tissues[outer & (depth > 3.5) & (depth < 7)] = Tissue.MARROW


def _draw_spine(tissues: np.ndarray, cavity: Cavity, rng: np.random.Generator) -> None:
    """Vertebral bodies, discs, canal, arch, spinous process and the muscles beside them."""
    n, height, width = tissues.shape
    dx = (np.arange(width)[None, None, :] - cavity.midline[:, None, None]) * SPACING_MM
    dy = (np.arange(height)[None, :, None] - cavity.spine[:, None, None]) * SPACING_MM
    kk = np.arange(n)[:, None, None] * SPACING_MM
    rx, ry = rng.uniform(19, 25), rng.uniform(15, 19)
    radius = np.sqrt((dx / rx) ** 2 + (dy / ry) ** 2)
    period = rng.uniform(28, 38)
    disc = (kk + rng.uniform(0, period)) % period < rng.uniform(5, 9)
    back = ry + rng.uniform(6, 9)
    canal = np.sqrt((dx / 1.2) ** 2 + (dy - back) ** 2)
    blank = ~np.isin(tissues, (*range(1, 13),))
    beside = (np.abs(np.abs(dx) - 30) / 26) ** 2 + ((dy - back - 14) / 22) ** 2 < 1
    psoas = (np.abs(np.abs(dx) - rx - 13) / 15) ** 2 + ((dy - 4) / 18) ** 2 < 1
    lower = kk < np.percentile(kk, rng.uniform(35, 60))
    tissues[blank & (beside | (psoas & lower)) & (tissues != Tissue.SKIN)] = Tissue.MUSCLE
    process = (np.abs(dx) < 4) & (dy > back + 6) & (dy < back + 38)
    wings = (np.abs(dy - back) < 6) & (np.abs(dx) < rng.uniform(30, 40))
    arch = ((canal < 14) & (dy > ry - 3)) | ((process | wings) & ~disc)
    tissues[blank & arch] = Tissue.CORTICAL_BONE
    tissues[blank & (radius < 1)] = Tissue.CORTICAL_BONE
    tissues[blank & (radius < 0.87)] = Tissue.MARROW
    tissues[blank & (radius < 0.97) & disc] = Tissue.DISC
    tissues[blank & (canal < 8.5)] = Tissue.SPINAL_CANAL


def _draw_chest(tissues: np.ndarray, cavity: Cavity, rng: np.random.Generator) -> None:
    """Lungs above a diaphragm that rests on the upper organs, with heart and mediastinum between."""
    n, height, width = tissues.shape
    dome = _diaphragm(tissues, cavity, rng)
    kk = np.arange(n)[:, None, None]
    dx = (np.arange(width)[None, None, :] - cavity.midline[:, None, None]) * SPACING_MM
    jj = np.arange(height)[None, :, None]
    chest = (tissues == Tissue.AIR) & (cavity.radius <= 1) & (kk > dome[None])
    tissues[chest] = Tissue.LUNG
    generator = torch_generator(rng)
    tissues[chest & (smooth_noise(tissues.shape, 3, generator).numpy() > 2.2)] = Tissue.LUNG_VESSEL
    spine_mm = (jj - cavity.spine[:, None, None]) * SPACING_MM
    tissues[chest & (np.abs(dx + 5) < rng.uniform(14, 30)) & (spine_mm < 0)] = Tissue.VISCERAL_FAT
    aorta = (dx - 14) ** 2 + (spine_mm + 20) ** 2 < rng.uniform(10, 14) ** 2
    tissues[chest & aorta] = Tissue.AORTA
    middle = (np.abs(dx - 15) < 60).any(0).any(0)
    heights = dome[:, middle]
    floor = float(np.percentile(heights[np.isfinite(heights)], 60)) if np.isfinite(heights).any() else n
    radii = rng.uniform((48, 38, 40), (68, 55, 70))
    front = _front_of(cavity, int(min(n - 1, floor)))
    heart = (
        ((dx - rng.uniform(8, 30)) / radii[0]) ** 2
        + (((jj - front) * SPACING_MM - radii[1] - 8) / radii[1]) ** 2
        + (((kk - floor) * SPACING_MM - radii[2] * 0.75) / radii[2]) ** 2
    )
    tissues[chest & (heart < 1.15)] = Tissue.VISCERAL_FAT
    tissues[chest & (heart < 1)] = Tissue.HEART


def _front_of(cavity: Cavity, k: int) -> float:
    column = cavity.radius[k, :, int(np.clip(cavity.midline[k], 0, cavity.radius.shape[2] - 1))]
    inside = np.flatnonzero(column <= 1)
    return float(inside[0]) if inside.size else 0.0


def _diaphragm(tissues: np.ndarray, cavity: Cavity, rng: np.random.Generator) -> np.ndarray:
    """(j, i) height in slices above which the chest begins; low at the wall, where lung dips behind the liver."""
    upper = np.isin(tissues, (Tissue.LIVER, Tissue.SPLEEN, Tissue.STOMACH))
    any_organ = upper.any(0)
    n = tissues.shape[0]
    top = np.where(any_organ, n - 1 - np.argmax(upper[::-1], axis=0), 0).astype(np.float32)
    sigma = 12 / SPACING_MM
    weight = gaussian_blur(torch.as_tensor(any_organ, dtype=torch.float32)[None], (0, sigma, sigma))[0].numpy()
    spread = gaussian_blur(torch.as_tensor(top * any_organ)[None], (0, sigma, sigma))[0].numpy()
    highest = float(top.max())
    known = spread / np.maximum(weight, 1e-4)
    trust = np.clip(weight * 4, 0, 1)
    fallback = highest - rng.uniform(20, 60) / SPACING_MM
    radius = cavity.radius[int(np.clip(highest, 0, n - 1))]
    dip = rng.uniform(10, 60) / SPACING_MM * np.clip((radius - 0.7) / 0.3, 0, 1) ** 2
    height = known * trust + fallback * (1 - trust) - dip * (1 - any_organ)
    return np.where(any_organ, top, height)


def _draw_bowel_and_fat(tissues: np.ndarray, cavity: Cavity, rng: np.random.Generator) -> None:
    """Loops of bowel with wall, content and gas in whatever of the cavity is still blank; fat between."""
    blank = (tissues == Tissue.AIR) & (cavity.radius <= 1)
    generator = torch_generator(rng)
    loops = smooth_noise(tissues.shape, rng.uniform(16, 26) / SPACING_MM, generator).numpy()
    threshold = rng.uniform(-0.3, 1.0)
    tissues[blank] = Tissue.VISCERAL_FAT
    tissues[blank & (loops > threshold)] = Tissue.BOWEL_WALL
    inner = blank & (loops > threshold + rng.uniform(0.25, 0.6))
    tissues[inner] = Tissue.BOWEL_CONTENT
    gas = smooth_noise(tissues.shape, 40 / SPACING_MM, generator).numpy() > rng.uniform(0.2, 1.5)
    tissues[inner & gas] = Tissue.GAS
    threads = smooth_noise(tissues.shape, 8 / SPACING_MM, generator).numpy() > 2.0
    tissues[blank & (loops < threshold - 0.3) & threads] = Tissue.ARTERY


def _fill_stomach(tissues: np.ndarray, rng: np.random.Generator) -> None:
    """The stomach's wall, its content, and gas rising to the front."""
    stomach = tissues == Tissue.STOMACH
    if not stomach.any():
        return
    depth = edt.edt(stomach, anisotropy=(SPACING_MM,) * 3)
    inner = stomach & (depth > rng.uniform(3, 7))
    tissues[inner] = Tissue.STOMACH_CONTENT
    rows = np.nonzero(inner)[1]
    if rows.size and rng.random() < 0.7:
        level = np.quantile(rows, rng.uniform(0.1, 0.6))
        tissues[inner & (np.arange(tissues.shape[1])[None, :, None] < level)] = Tissue.GAS


def _draw_table(tissues: np.ndarray, rng: np.random.Generator) -> None:
    """The scanner's table under the back, in two of three bodies."""
    if rng.random() < 0.33:
        return
    _, height, width = tissues.shape
    rows = np.flatnonzero((tissues != Tissue.AIR).any((0, 2)))
    across = (np.arange(width) - width / 2) * SPACING_MM
    curve = rows[-1] + rng.uniform(4, 20) / SPACING_MM - rng.uniform(0, 6e-4) * across**2
    lower = np.arange(height)[:, None] - curve[None]
    slab = (lower > 0) & (lower < rng.uniform(2, 6)) & (np.abs(across) < 220)[None]
    tissues[(tissues == Tissue.AIR) & slab[None]] = Tissue.TABLE
