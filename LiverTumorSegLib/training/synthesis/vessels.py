"""Portal and hepatic vein trees inside the liver, as tapering curved tubes."""

from __future__ import annotations

import numpy as np

from .anatomy import SPACING_MM, Tissue


def draw_hepatic_vessels(tissues: np.ndarray, rng: np.random.Generator) -> None:
    """Draw portal branches into the liver from its hilum, and hepatic veins from its caval end.

    A trunk is a curved line from its root to a random point of the liver; every trunk sends off
    thinner branches. Radii fall from about 5 mm to 1.5 mm.
    """
    inside = np.argwhere(tissues == Tissue.LIVER)
    if len(inside) < 1000:
        return
    centre = inside.mean(0)
    portal = np.argwhere(tissues == Tissue.PORTAL_VEIN)
    hilum = _nearest(inside, portal[np.argmin(((portal - centre) ** 2).sum(1))] if len(portal) else centre)
    top = inside[inside[:, 0] > np.quantile(inside[:, 0], 0.85)]
    cava = np.argwhere(tissues == Tissue.VENA_CAVA)
    outlet = _nearest(top, cava[np.argmax(cava[:, 0])] if len(cava) else top.mean(0))
    trees = ((Tissue.PORTAL_BRANCH, hilum, rng.integers(3, 7)), (Tissue.HEPATIC_VEIN, outlet, rng.integers(2, 4)))
    for vessel, root, count in trees:
        for _ in range(count):
            trunk = _curve(root, inside[rng.integers(len(inside))], rng)
            start, end = rng.uniform(3.0, 5.5), rng.uniform(1.2, 2.0)
            _stamp(tissues, vessel, trunk, start, end)
            for _ in range(rng.integers(1, 4)):
                at = rng.integers(len(trunk) // 4, max(len(trunk) // 4 + 1, 3 * len(trunk) // 4))
                twig = _curve(trunk[at], inside[rng.integers(len(inside))], rng)
                _stamp(tissues, vessel, twig, start * 0.6, end * 0.8)


def _nearest(points: np.ndarray, to: np.ndarray) -> np.ndarray:
    return np.asarray(points[np.argmin(((points - to) ** 2).sum(1))], float)


def _curve(start: np.ndarray, end: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Points of a quadratic Bezier curve, about one a voxel."""
    length = float(np.linalg.norm(end - start))
    bend = (start + end) / 2 + rng.normal(0, 0.15 * length + 1e-3, 3)
    t = np.linspace(0, 1, max(3, int(length)))[:, None]
    return np.asarray((1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end)


def _stamp(tissues: np.ndarray, vessel: Tissue, line: np.ndarray, start_mm: float, end_mm: float) -> None:
    """Draw balls along `line` with radii falling linearly from `start_mm` to `end_mm`, in the liver only."""
    for point, radius_mm in zip(line, np.linspace(start_mm, end_mm, len(line)), strict=True):
        radius = radius_mm / SPACING_MM
        low = np.maximum(np.floor(point - radius).astype(int), 0)
        high = np.minimum(np.ceil(point + radius).astype(int) + 1, tissues.shape)
        if (low >= high).any():
            continue
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        distance = sum((grid - p) ** 2 for grid, p in zip(np.ogrid[box], point, strict=True))
        region = tissues[box]
        region[(distance <= max(radius, 0.6) ** 2) & (region == Tissue.LIVER)] = vessel
