"""Draws what lies below and beside the abdomen: pelvis, hips, bladder, and arms at the patient's side.

A tall scan shows all of this; a network that never saw it takes a hip for a liver.
"""

from __future__ import annotations

import numpy as np

from .anatomy import SPACING_MM, Tissue

Point = tuple[float, float, float]


def draw_pelvis(
    tissues: np.ndarray,
    midline: np.ndarray,
    spine: np.ndarray,
    inside: np.ndarray,
    crest: int,
    rng: np.random.Generator,
) -> None:
    """Write the pelvis into the slices below `crest`, over whatever was drawn inside the trunk there.

    Args:
        tissues: (k, j, i) body, changed in place.
        midline, spine: (k,) i-coordinate of the middle and j-coordinate of the vertebral bodies, in voxels.
        inside: (k, j, i) True within the trunk's wall.
        crest: slice of the iliac crests.
        rng: source of all chance.
    """
    if crest < 3:
        return
    part, room = tissues[:crest], inside[:crest]
    down = ((crest - np.arange(crest)) * SPACING_MM).astype(np.float32)[:, None, None]
    across = np.arange(part.shape[2])[None, None, :] - midline[:crest, None, None]
    side = np.abs(across).astype(np.float32) * SPACING_MM
    back = ((np.arange(part.shape[1])[None, :, None] - spine[:crest, None, None]) * SPACING_MM).astype(np.float32)
    half = max(90.0, float(room.any(1).sum(1).max()) * SPACING_MM / 2)
    _draw_muscles(part, room, side, back, down, half, rng)
    _draw_organs(part, across * SPACING_MM, back, down, rng)
    _draw_bones(part, side, back, down, half, rng)


def _draw_muscles(
    part: np.ndarray,
    room: np.ndarray,
    side: np.ndarray,
    back: np.ndarray,
    down: np.ndarray,
    half: float,
    rng: np.random.Generator,
) -> None:
    """Gluteal muscles and iliopsoas, muscle all round the hips, and fat where the spine has ended."""
    part[room & (down > 130) & (side < 45) & (back > -25)] = Tissue.VISCERAL_FAT
    gluteal = room & (down > 15) & (side > 0.3 * half) & (back > rng.uniform(0, 20))
    psoas = ((side - 0.4 * half) / rng.uniform(18, 28)) ** 2 + ((back + 8 + 0.25 * down) / 22) ** 2 < 1
    hip = room & (down > 115) & (side > 0.42 * half)
    part[gluteal | (psoas & room) | hip] = Tissue.MUSCLE
    part[room & (down > 175) & (side > 0.12 * half)] = Tissue.MUSCLE


def _draw_organs(
    part: np.ndarray, across: np.ndarray, back: np.ndarray, down: np.ndarray, rng: np.random.Generator
) -> None:
    """Bladder, empty to full, and rectum."""
    size = rng.uniform((18, 16, 12), (48, 40, 42))
    bladder = (across / size[0]) ** 2 + ((back + 45) / size[1]) ** 2 + ((down - 140) / size[2]) ** 2
    part[bladder < 1.35] = Tissue.MUSCLE
    part[bladder < 1] = Tissue.URINE
    wide = rng.uniform(10, 22)
    rectum = np.sqrt((across - rng.uniform(-8, 8)) ** 2 + (back - 5) ** 2) / wide
    low = (down > 70) & (down < 190)
    part[low & (rectum < 1)] = Tissue.BOWEL_WALL
    part[low & (rectum < 0.75)] = Tissue.GAS if rng.random() < 0.3 else Tissue.BOWEL_CONTENT


def _draw_bones(
    part: np.ndarray, side: np.ndarray, back: np.ndarray, down: np.ndarray, half: float, rng: np.random.Generator
) -> None:
    """Sacrum, iliac wings, sockets, femora, pubis and ischium: rods and plates of marrow in a hard shell."""
    tilt = rng.uniform(0.2, 0.4)
    sacrum = np.maximum(side / np.maximum(52 - 0.3 * down, 8), np.abs(back - 5 - tilt * down) / 20)
    sacrum[np.broadcast_to((down < 15) | (down > 125), sacrum.shape)] = 2
    outer = rng.uniform(0.78, 0.9) * half - np.maximum(0.0, down - 50) * 0.35
    front = -12 - np.minimum(down, 70) * rng.uniform(0.5, 0.8)
    wing = _distance_to_plate(side, back, (0.3 * half, 38.0), outer, front) / rng.uniform(5, 8)
    wing[np.broadcast_to(down > 125, wing.shape) | (side < 0.6 * half - 1.2 * down)] = 2
    hip: Point = (0.62 * half, -15.0, 130.0)
    trochanter: Point = (0.86 * half, 5.0, 150.0)
    rods: list[tuple[Point, Point, float]] = [
        (hip, hip, rng.uniform(26, 33)),
        (hip, trochanter, rng.uniform(13, 17)),
        (trochanter, (0.8 * half, -5.0, 400.0), rng.uniform(13, 17)),
        ((0.5 * half, 10.0, 125.0), (0.4 * half, 30.0, 190.0), 14.0),
        ((0.52 * half, -30.0, 128.0), (6.0, -55.0, 158.0), 10.0),
    ]
    bone = np.minimum(sacrum, wing)
    for start, end, radius in rods:
        bone = np.minimum(bone, _distance_to_rod((side, back, down), start, end) / radius)
    part[bone < 1] = Tissue.CORTICAL_BONE
    part[bone < 0.75] = Tissue.MARROW


def _distance_to_plate(
    side: np.ndarray, back: np.ndarray, rear: tuple[float, float], outer: np.ndarray, front: np.ndarray
) -> np.ndarray:
    """Distance in the slice to the line from `rear` to (outer, front), which differs from slice to slice."""
    run, rise = outer - rear[0], front - rear[1]
    t = np.clip(((side - rear[0]) * run + (back - rear[1]) * rise) / (run**2 + rise**2), 0, 1)
    return np.asarray(np.hypot(side - rear[0] - t * run, back - rear[1] - t * rise), np.float32)


def _distance_to_rod(grid: tuple[np.ndarray, np.ndarray, np.ndarray], start: Point, end: Point) -> np.ndarray:
    """Distance in space to the line between two points."""
    along = np.subtract(end, start)
    length = max(float(along @ along), 1e-6)
    offsets = [axis - np.float32(at) for axis, at in zip(grid, start, strict=True)]
    t = np.clip(sum(o * np.float32(a / length) for o, a in zip(offsets, along, strict=True)), 0, 1)
    return np.asarray(
        np.sqrt(sum((o - t * np.float32(a)) ** 2 for o, a in zip(offsets, along, strict=True))), np.float32
    )


def draw_arms(tissues: np.ndarray, rng: np.random.Generator) -> None:
    """Two arms beside the trunk, from top to bottom, in what is air."""
    body = (tissues != Tissue.AIR).any(0)
    columns, rows = np.flatnonzero(body.any(0)), np.flatnonzero(body.any(1))
    jj, ii = np.arange(tissues.shape[1])[:, None], np.arange(tissues.shape[2])[None, :]
    middle_j = rows.mean() + rng.normal(0, 20) / SPACING_MM
    radius = rng.uniform(32, 48)
    gap = (radius + rng.uniform(0, 15)) / SPACING_MM
    free = np.isin(tissues, (Tissue.AIR, Tissue.TABLE))
    rings = (
        (1.0, Tissue.SKIN),
        (0.94, Tissue.SUBCUTANEOUS_FAT),
        (rng.uniform(0.65, 0.85), Tissue.MUSCLE),
        (0.28, Tissue.CORTICAL_BONE),
        (0.16, Tissue.MARROW),
    )
    for centre in (columns[0] - gap, columns[-1] + gap):
        away = np.hypot(jj - middle_j, ii - centre) * SPACING_MM / radius
        for reach, tissue in rings:
            tissues[free & (away < reach)[None]] = tissue
