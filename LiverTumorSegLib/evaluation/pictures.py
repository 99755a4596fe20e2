"""Slices of the worst cases: the reference's and the prediction's outlines over the scan."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ..datasets.cases import read_labels
from ..errors import LiverTumorSegError
from ..images import modality_of
from ..lesions import bounding_slices
from ..outlines import outlines
from ..segmentation import TUMOUR
from ..views import CT_WINDOW_HU, MARGIN_MM, MR_WINDOW_PERCENTILES, PatientAxes, position
from .run import Pair

LONG_SIDE_PIXELS = 560


@dataclass(frozen=True)
class Picture:
    """One axial slice of one case, the patient's right on the left, as the page shows it.

    Attributes:
        about: why this slice is shown.
        position: "S 12.5 mm".
        url: the grey values as a data URL.
        size_mm: width and height.
        curves: class of the curve -> the `d` of an SVG path in mm; "reference-liver", "prediction-tumour", ...
    """

    about: str
    position: str
    url: str
    size_mm: tuple[float, float]
    curves: dict[str, str]


def pictures(pair: Pair) -> list[Picture]:
    """The axial slices on which reference and prediction disagree most: on tumours, and on the liver.

    Without a scan, or with one that cannot be read or is on another grid, the slices are of the labels alone.

    Raises:
        LiverTumorSegError: the reference or the prediction cannot be read.
    """
    if pair.prediction is None:
        return []
    reference, prediction = pair.case.read_labels(), read_labels(pair.prediction)
    axes = PatientAxes.of(reference)
    labels = [axes.view(sitk.GetArrayFromImage(image)) for image in (reference, prediction)]
    grey = _grey(pair, reference, labels, axes)
    wrong = {
        "tumours": (labels[0] == TUMOUR) ^ (labels[1] == TUMOUR),
        "liver": (labels[0] > 0) ^ (labels[1] > 0),
    }
    shown: dict[int, str] = {}
    for structure, mask in wrong.items():
        counts = mask.sum(axis=(1, 2))
        if counts.any():
            shown.setdefault(int(counts.argmax()), structure)
    crop = _crop(labels, axes)
    return [_picture(f"worst for the {about}", index, grey, labels, axes, crop) for index, about in shown.items()]


def _grey(pair: Pair, reference: sitk.Image, labels: Sequence[np.ndarray], axes: PatientAxes) -> np.ndarray:
    """The windowed scan as uint8, (head, back, left); a flat picture of the labels where there is no scan."""
    scan = None
    if pair.case.scan is not None:
        try:
            scan = pair.case.read_scan()
        except LiverTumorSegError:  # the figures do not need the scan, and the page says that it is not shown
            scan = None
    if scan is None or scan.GetSize() != reference.GetSize():
        return np.asarray(24 + 40 * ((labels[0] > 0) | (labels[1] > 0)), np.uint8)
    array = axes.view(sitk.GetArrayFromImage(scan))
    low, high = CT_WINDOW_HU
    if modality_of(scan) != "CT":
        low, high = (float(v) for v in np.percentile(array[::2, ::4, ::4], MR_WINDOW_PERCENTILES))
    return np.clip((array.astype(np.float32) - low) * (255 / max(high - low, 1e-6)), 0, 255).astype(np.uint8)


def _crop(labels: Sequence[np.ndarray], axes: PatientAxes) -> tuple[slice, slice]:
    """Rows and columns around both livers."""
    box = bounding_slices(labels[0] | labels[1])
    if box is None:
        return slice(0, labels[0].shape[1]), slice(0, labels[0].shape[2])
    margins = [round(MARGIN_MM / axes.spacing_mm[axis]) for axis in (1, 0)]
    rows, columns = (slice(max(0, b.start - m), b.stop + m) for b, m in zip(box[1:], margins, strict=True))
    return rows, columns


def _picture(
    about: str,
    index: int,
    grey: np.ndarray,
    labels: Sequence[np.ndarray],
    axes: PatientAxes,
    crop: tuple[slice, slice],
) -> Picture:
    from PIL import Image

    pixels = np.ascontiguousarray(grey[index][crop])
    step = float(axes.spacing_mm[0]), float(axes.spacing_mm[1])
    size = pixels.shape[1] * step[0], pixels.shape[0] * step[1]
    scale = LONG_SIDE_PIXELS / max(size)
    drawn = Image.fromarray(pixels).resize(
        (max(1, round(size[0] * scale)), max(1, round(size[1] * scale))), Image.Resampling.BICUBIC
    )
    encoded = io.BytesIO()
    drawn.save(encoded, "JPEG", quality=82)
    curves = {}
    for who, array in zip(("reference", "prediction"), labels, strict=True):
        curves[f"{who}-liver"] = _path(array[index][crop] > 0, step)
        curves[f"{who}-tumour"] = _path(array[index][crop] == TUMOUR, step)
    return Picture(
        about,
        position(axes.point((0, 0, index)), 2),
        f"data:image/jpeg;base64,{base64.b64encode(encoded.getvalue()).decode('ascii')}",
        size,
        curves,
    )


def _path(mask: np.ndarray, step_mm: tuple[float, float]) -> str:
    """Outlines as the `d` of an SVG path, in mm from the upper left corner."""
    curves = (np.round(curve * step_mm, 1).tolist() for curve in outlines(mask))
    return "".join("M" + " ".join(f"{x:g},{y:g}" for x, y in curve) + "Z" for curve in curves)
