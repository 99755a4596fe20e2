"""Distances between the surfaces of a predicted mask and a reference, in millimetres.

A mask's surface is its border voxels: those with at least one voxel outside the mask among their neighbours; outside
the volume nothing belongs to it. By default 18 neighbours count, as in the LiTS challenge's evaluation (Bilic et al.,
The Liver Tumor Segmentation Benchmark, 2023); with 6 the border is thinner and distances on spheres come out larger,
which is what MONAI's SurfaceDistanceMetric does. Distances run between voxel centres and are exact (Euclidean
distance transform).

Arrays are bool (k, j, i), spacings mm along (k, j, i). A mask without a voxel has no surface: with one or both empty
every distance is NaN, so that a mean must decide what to do with it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np

from ..lesions import bounding_slices

Connectivity = Literal[6, 18, 26]


@dataclass(frozen=True)
class SurfaceDistances:
    """The distances from every border voxel of each mask to the nearest of the other's.

    Attributes:
        from_reference: mm, one a border voxel of the reference.
        from_prediction: mm, one a border voxel of the prediction.
    """

    from_reference: np.ndarray
    from_prediction: np.ndarray

    @property
    def measurable(self) -> bool:
        """Whether both masks have a surface."""
        return bool(self.from_reference.size and self.from_prediction.size)

    @property
    def assd(self) -> float:
        """Average symmetric surface distance: the mean of all distances of both borders together (LiTS)."""
        return float(np.mean(self._pooled())) if self.measurable else float("nan")

    @property
    def rmsd(self) -> float:
        """Root of the mean squared distance of both borders together (LiTS)."""
        return float(np.sqrt(np.mean(np.square(self._pooled())))) if self.measurable else float("nan")

    @property
    def hausdorff(self) -> float:
        """The largest distance of all (LiTS' maximum surface distance)."""
        return float(self._pooled().max()) if self.measurable else float("nan")

    @property
    def hd95(self) -> float:
        """The larger of the two borders' 95th percentiles, interpolated (Metrics Reloaded, 2024; MONAI)."""
        if not self.measurable:
            return float("nan")
        return float(max(np.percentile(self.from_reference, 95), np.percentile(self.from_prediction, 95)))

    def nsd(self, tolerance_mm: float) -> float:
        """Normalised surface distance: the share of both borders' voxels within the tolerance of the other, 0 to 1.

        By border voxels, each counting the same. Nikolov et al. (2021) weigh surface elements by their area, which
        differs. Both masks empty: 1; one empty: 0.
        """
        if not self.measurable:
            return 0.0 if self.from_reference.size or self.from_prediction.size else 1.0
        return float(np.mean(self._pooled() <= tolerance_mm))

    def _pooled(self) -> np.ndarray:
        return np.concatenate([self.from_reference, self.from_prediction])


def surface_distances(
    reference: np.ndarray,
    prediction: np.ndarray,
    spacing_mm: Sequence[float],
    connectivity: Connectivity = 18,
) -> SurfaceDistances:
    """Measure the distances between the borders of two masks.

    Args:
        reference: (k, j, i), bool.
        prediction: the same for what is judged.
        spacing_mm: edges of a voxel along (k, j, i).
        connectivity: which neighbours make a voxel a border voxel.

    Raises:
        ValueError: not two bool arrays of one shape.
    """
    for name, mask in (("reference", reference), ("prediction", prediction)):
        if mask.dtype != np.bool_:
            raise ValueError(f"{name}: wanted a bool mask, got {mask.dtype}")
    if reference.shape != prediction.shape:
        raise ValueError(f"prediction: wanted the reference's shape {reference.shape}, got {prediction.shape}")
    box = bounding_slices(reference | prediction)
    if box is None:
        return SurfaceDistances(np.zeros(0), np.zeros(0))
    borders = [border(mask[box], connectivity) for mask in (reference, prediction)]
    if not (borders[0].any() and borders[1].any()):
        return SurfaceDistances(*(np.full(np.count_nonzero(each), np.nan) for each in borders))
    return SurfaceDistances(
        _distances(borders[0], borders[1], spacing_mm), _distances(borders[1], borders[0], spacing_mm)
    )


def border(mask: np.ndarray, connectivity: Connectivity = 18) -> np.ndarray:
    """The voxels of a mask that have a neighbour outside it; the volume is surrounded by outside."""
    padded = np.pad(mask, 1)
    inside = mask.copy()
    reach = {6: 1, 18: 2, 26: 3}[connectivity]
    for steps in product((0, 1, 2), repeat=mask.ndim):
        if 0 < sum(step != 1 for step in steps) <= reach:
            inside &= padded[tuple(slice(step, step + size) for step, size in zip(steps, mask.shape, strict=True))]
    return mask & ~inside


def assd(reference: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float]) -> float:
    """Average symmetric surface distance in mm, by 18-neighbour borders; see `SurfaceDistances.assd`."""
    return surface_distances(reference, prediction, spacing_mm).assd


def rmsd(reference: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float]) -> float:
    """Root mean squared symmetric surface distance in mm; see `SurfaceDistances.rmsd`."""
    return surface_distances(reference, prediction, spacing_mm).rmsd


def hausdorff(reference: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float]) -> float:
    """Hausdorff distance in mm; see `SurfaceDistances.hausdorff`."""
    return surface_distances(reference, prediction, spacing_mm).hausdorff


def hd95(reference: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float]) -> float:
    """95 % Hausdorff distance in mm; see `SurfaceDistances.hd95`."""
    return surface_distances(reference, prediction, spacing_mm).hd95


def nsd(reference: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float], tolerance_mm: float = 2.0) -> float:
    """Normalised surface distance by border voxels; see `SurfaceDistances.nsd`."""
    return surface_distances(reference, prediction, spacing_mm).nsd(tolerance_mm)


def _distances(start: np.ndarray, goal: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    import edt

    threads = min(4, os.cpu_count() or 1)
    outside = np.ascontiguousarray(~goal).view(np.uint8)  # which edt takes faster than bool
    away = edt.edt(outside, anisotropy=tuple(float(s) for s in spacing_mm), parallel=threads)
    return np.asarray(away[start], np.float64)
