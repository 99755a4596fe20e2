"""Where in a scan the patient's body is: S2's mask by threshold and morphology (section 2.1, step 1)."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from .geometry import Box, GridGeometry, box_of_mask, fit_grid, resample_to_grid, whole_box, widened
from .postprocessing import large_components
from .preprocessing import padding_value
from .recipe import BodyCrop, Grid

_GRID = Grid(spacing_mm=3.0, multiple_of=1)  # half of the openings that recipes ask for
_AIR_SHARE = 0.05  # MR: of the 99.5th percentile, as `preprocessing` tells the body from the air
_SMALLEST_ML = 50.0  # what is less is no body, but noise, a table or a phantom's edge


def body_box(image: sitk.Image, modality: str, rules: BodyCrop) -> Box | None:
    """The box of a scan's voxels around the body, `rules.margin_mm` wider; None where there is no body.

    Args:
        image: the scan, CT in HU.
        modality: "CT" or "MR".
        rules: the recipe's.
    """
    mask, geometry = body_mask(image, modality, rules)
    if not mask.any():
        return None
    return widened(box_of_mask(mask, geometry, image), image, rules.margin_mm, None)


def body_mask(image: sitk.Image, modality: str, rules: BodyCrop) -> tuple[np.ndarray, GridGeometry]:
    """The body, filled, without the table, tubes, and arms that lie beside it.

    What is brighter than the threshold is opened, so that thin things come off it; of what is left the
    largest part is closed and filled slice by slice, as lungs and bowel are open at the ends of most scans.
    In MR, whose units are arbitrary, the threshold is a share of the scan's brightest.

    Returns:
        bool (k, j, i) on a grid of 3 mm over the whole scan, and the grid; nothing in it where there is no body.
    """
    box = whole_box(image)
    geometry = fit_grid(image, box, _GRID)
    volume = resample_to_grid(image, box, geometry, padding_value(image, modality))
    threshold = rules.threshold_hu if modality == "CT" else _AIR_SHARE * float(np.percentile(volume, 99.5))
    spacing = geometry.spacing_mm
    opened = _grown(_shrunk(volume > threshold, rules.opening_mm, spacing), rules.opening_mm, spacing)
    body = large_components(opened, 1.0)
    if body.sum() * geometry.voxel_ml < _SMALLEST_ML:
        return np.zeros_like(body), geometry
    closed = _shrunk(_grown(body, rules.closing_mm, spacing), rules.closing_mm, spacing)
    return _filled_slices(closed | body), geometry


def _grown(mask: np.ndarray, radius_mm: float, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    import edt

    if radius_mm == 0 or not mask.any():
        return mask
    return np.asarray(edt.edt(~mask, anisotropy=spacing_mm[::-1]) <= radius_mm)


def _shrunk(mask: np.ndarray, radius_mm: float, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """Erosion; beyond the scan's edge the mask goes on as it is there, for the body does."""
    import edt

    if radius_mm == 0 or mask.all():
        return mask
    return np.asarray(edt.edt(mask, anisotropy=spacing_mm[::-1]) > radius_mm)


def _filled_slices(mask: np.ndarray) -> np.ndarray:
    import fill_voids

    return np.stack([np.asarray(fill_voids.fill(each)).astype(bool) for each in mask])
