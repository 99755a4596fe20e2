"""One page for a radiologist: sizes, 3D picture, key slices, lesions, and where it all came from.

The page is a single HTML file without scripts; every picture is inside. Slices are shown as on a
reading screen: the patient's right on the left of axial and coronal slices, the front or head up.
They follow the scan's own axes, so those of an oblique scan are as oblique as it is.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import SimpleITK as sitk

from .errors import OutputError
from .lesions import Lesion, bounding_slices
from .rendering import FrontView, PatientAxes, front_view, render_3d
from .resources import resource_path
from .segmentation import LIVER, SEGMENTS, TUMOUR, Segmentation

Plane = Literal["axial", "coronal", "sagittal"]

CT_WINDOW_HU = (-100.0, 200.0)
MR_WINDOW_PERCENTILES = (1.0, 99.5)
KEY_SLICES = 6
LISTED_LESIONS = 40
LONG_SIDE_PIXELS = 640
SIZE_3D = (900, 700)
MARGIN_MM = 20.0  # of the scan around the liver

# For each plane: the axis across it, those to the right and upwards on the screen, as places in
# (left, back, head), and the letters on the left, right, top and bottom.
_PLANES: dict[Plane, tuple[int, int, int, str]] = {
    "axial": (2, 0, 1, "RLAP"),
    "coronal": (1, 0, 2, "RLSI"),
    "sagittal": (0, 1, 2, "APSI"),
}
_ENDS = ("LR", "PA", "SI")  # letters of positive and negative LPS coordinates


@dataclass(frozen=True)
class KeySlice:
    """One slice as it is shown.

    Attributes:
        plane: which way it lies.
        position: where, as "S 12.5 mm": RAS coordinate of its middle.
        grey: uint8 (rows, columns), windowed, with the letters' directions; pixels may be oblong.
        labels: the label map there, same shape.
        size_mm: width and height.
        letters: patient directions on the left, right, top and bottom.
        numbers: lesion ids with their places, as shares of the width and the height.
    """

    plane: Plane
    position: str
    grey: np.ndarray
    labels: np.ndarray
    size_mm: tuple[float, float]
    letters: str
    numbers: tuple[tuple[int, float, float], ...] = ()


class PatientView:
    """Cuts a scan and its labels along the patient's axes, all with the same crop and window."""

    def __init__(self, segmentation: Segmentation):
        """Find the liver's box and the grey window; no voxel is copied."""
        self.segmentation = segmentation  # keeps alive the images whose memory the arrays look at
        self.axes = PatientAxes.of(segmentation.labels)
        self.image = self.axes.view(sitk.GetArrayViewFromImage(segmentation.image))
        self.labels = self.axes.view(sitk.GetArrayViewFromImage(segmentation.labels))
        self.box = bounding_slices(self.labels)
        self.limits = self._window(segmentation.provenance.modality)

    def _window(self, modality: str) -> tuple[float, float]:
        if modality == "CT":
            return CT_WINDOW_HU
        sample = self.image[self.box or ...][::2, ::4, ::4]
        low, high = np.percentile(sample, MR_WINDOW_PERCENTILES)
        return float(low), float(max(high, low + 1e-6))

    def middle(self) -> tuple[int, int, int]:
        """The (left, back, head) index of the liver's centre of mass, or of the scan's middle."""
        if self.box is None:
            left, back, head = (n // 2 for n in self.axes.size)
            return left, back, head
        # Every fourth voxel tells the centre well enough, where there are many.
        steps = [max(1, (edge.stop - edge.start) // 64) for edge in self.box]
        coarse = self.labels[self.box][tuple(slice(None, None, n) for n in steps)]
        places = zip(np.nonzero(coarse), steps, self.box, strict=True)
        head, back, left = (edge.start + round(float(found.mean()) * n) for found, n, edge in places)
        return left, back, head

    def cut(self, plane: Plane, index: int, lesions: Sequence[Lesion] = ()) -> KeySlice:
        """One slice around the liver, or the whole slice where there is no liver.

        Args:
            plane: which way to cut.
            index: along the axis across the plane, towards the left, back or head.
            lesions: those to be numbered.
        """
        across, right, up, letters = _PLANES[plane]
        crop = self._crop(MARGIN_MM)
        crop[across] = slice(index, index + 1)
        flip = slice(None, None, 1 if plane == "axial" else -1)  # rows run backwards or headwards in the array
        place = tuple(crop[::-1])
        grey, labels = (np.squeeze(a[place], axis=2 - across)[flip] for a in (self.image, self.labels))
        low, high = self.limits
        shown = np.clip((grey.astype(np.float32) - low) * (255.0 / (high - low)), 0, 255).astype(np.uint8)
        width, height = (float(grey.shape[1 - n] * self.axes.spacing_mm[a]) for n, a in ((0, right), (1, up)))
        middle = self.axes.point([(edge.start + edge.stop - 1) / 2 for edge in crop])
        numbers = tuple(self._number(lesion, plane, crop, (width, height)) for lesion in lesions)
        return KeySlice(plane, position(middle, across), shown, labels, (width, height), letters, numbers)

    def _crop(self, margin_mm: float) -> list[slice]:
        """(left, back, head) ranges: the liver and a margin around it."""
        if self.box is None:
            return [slice(0, n) for n in self.axes.size]
        margins = np.round(margin_mm / self.axes.spacing_mm).astype(int)
        edges = zip(self.box[::-1], margins, self.axes.size, strict=True)
        return [slice(max(0, e.start - int(m)), min(n, e.stop + int(m))) for e, m, n in edges]

    def _number(
        self, lesion: Lesion, plane: Plane, crop: list[slice], size_mm: tuple[float, float]
    ) -> tuple[int, float, float]:
        """A lesion's id and where to write it: beside the lesion, not on it."""
        _, right, up, _ = _PLANES[plane]
        x, y, z = lesion.centroid_ras_mm
        index = self.axes.index((-x, -y, z))
        across, down = (
            float((index[axis] - crop[axis].start + 0.5) * self.axes.spacing_mm[axis] / extent)
            for axis, extent in ((right, size_mm[0]), (up, size_mm[1]))
        )
        reach = (lesion.axial_long_axis_mm / 2 + 3.0) / size_mm[0]
        beside = across + reach if across + reach < 0.94 else across - reach
        return lesion.id, beside, down if plane == "axial" else 1 - down

    def lesion_slices(self, lesions: Sequence[Lesion]) -> list[tuple[KeySlice, list[Lesion]]]:
        """Axial slices through the largest lesions, from the head down, with the lesions measured there."""
        shown: dict[int, list[Lesion]] = {}
        for lesion in lesions:
            index = lesion.axial_slice
            if self.axes.signs[2] < 0:
                index = self.axes.size[2] - 1 - index
            if index in shown or len(shown) < KEY_SLICES:
                shown.setdefault(index, []).append(lesion)
        return [(self.cut("axial", index, shown[index]), shown[index]) for index in sorted(shown, reverse=True)]


def position(point_lps_mm: np.ndarray, axis: int) -> str:
    """A coordinate as radiologists name it: "S 12.5 mm", "R 40.0 mm"."""
    value = float(point_lps_mm[axis])
    return f"{_ENDS[axis][value < 0]} {abs(value):.1f} mm"


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Closed curves around a mask's True pixels, slightly smoothed.

    Args:
        mask: (rows, columns), bool.

    Returns:
        For each curve its (n, 2) points: columns and rows from the outer edge of the first pixel.
    """
    padded = np.pad(mask, 1).astype(np.uint8)
    # Marching squares: each square of four pixel centres sends the curve from one of its sides to another,
    # with the mask on the left. A side has the number of twice the place of its middle.
    corners = padded[:-1, :-1] + 2 * padded[:-1, 1:] + 4 * padded[1:, 1:] + 8 * padded[1:, :-1]
    following: dict[tuple[int, int], tuple[int, int]] = {}
    rows, columns = np.nonzero((corners > 0) & (corners < 15))
    for row, column, kind in zip(rows.tolist(), columns.tolist(), corners[rows, columns].tolist(), strict=True):
        for (y0, x0), (y1, x1) in _TURNS[kind]:
            following[2 * row + y0, 2 * column + x0] = (2 * row + y1, 2 * column + x1)
    curves = []
    while following:
        start, place = following.popitem()
        curve = [start]
        while place != start:
            curve.append(place)
            place = following.pop(place)
        curves.append(_smoothed(np.array(curve, float)[:, ::-1] / 2 - 0.5))
    return curves


_TOP, _RIGHT, _BOTTOM, _LEFT = (0, 1), (1, 2), (2, 1), (1, 0)
_TURNS = {
    1: ((_TOP, _LEFT),),
    2: ((_RIGHT, _TOP),),
    3: ((_RIGHT, _LEFT),),
    4: ((_BOTTOM, _RIGHT),),
    5: ((_TOP, _LEFT), (_BOTTOM, _RIGHT)),
    6: ((_BOTTOM, _TOP),),
    7: ((_BOTTOM, _LEFT),),
    8: ((_LEFT, _BOTTOM),),
    9: ((_TOP, _BOTTOM),),
    10: ((_RIGHT, _TOP), (_LEFT, _BOTTOM)),
    11: ((_RIGHT, _BOTTOM),),
    12: ((_LEFT, _RIGHT),),
    13: ((_TOP, _RIGHT),),
    14: ((_LEFT, _TOP),),
}


def _smoothed(curve: np.ndarray) -> np.ndarray:
    """Round off the pixels' corners of a closed curve; a single pixel keeps half of its width."""
    for _ in range(2 if len(curve) > 8 else 0):
        curve = (np.roll(curve, 1, axis=0) + 2 * curve + np.roll(curve, -1, axis=0)) / 4
    return curve


def write_html(segmentation: Segmentation, path: Path) -> None:
    """Write the report of one segmentation as a single HTML file.

    Raises:
        OutputError: the file cannot be written, or Jinja or Pillow is not installed.
    """
    try:
        import jinja2
        import PIL  # noqa: F401 (fails here and not halfway)
    except ImportError as error:
        raise OutputError(
            f"{path}: the report needs {error.name}: install it with: pip install 'LiverTumorSeg[report]'"
        ) from error
    template = resource_path("report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["tenths"] = lambda value: f"{round(value, 1) + 0.0:.1f}"  # without a minus before 0.0
    page = environment.from_string(template).render(_content(segmentation), figure=figure)
    try:
        Path(path).write_text(page, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot write the report: {error.strerror}") from error


def _content(segmentation: Segmentation) -> dict[str, object]:
    """All that the template shows."""
    view, provenance = PatientView(segmentation), segmentation.provenance
    with ThreadPoolExecutor(1) as pool:
        liver = _cropped(segmentation.labels, view)
        rendered = pool.submit(render_3d, liver, SIZE_3D)  # a child process; meanwhile we draw the slices
        lesions = segmentation.lesions
        keys = view.lesion_slices(lesions)
        left, back, head = view.middle()
        overviews = [view.cut("axial", head), view.cut("coronal", back), view.cut("sagittal", left)]
        content: dict[str, object] = {
            "segmentation": segmentation,
            "lesions": lesions[:LISTED_LESIONS],
            "unlisted": lesions[LISTED_LESIONS:],
            "provenance": provenance,
            "spacing": " × ".join(f"{s:.4g}" for s in provenance.spacing_mm),
            "versions": ", ".join(f"{name} {version}" for name, version in provenance.versions.items()),
            "longest": max([*provenance.seconds.values(), 1e-3]),
            "overviews": [_shown(item, ()) for item in overviews],
            "slices": [_shown(item, found) for item, found in keys],
            "window": view.limits,
            "colours": {s.name: _css(s.colour) for s in SEGMENTS},
            "has_liver": view.box is not None,
        }
        pixels = rendered.result()
    content["picture_3d"] = None if pixels is None else _picture(pixels, front_view(liver, SIZE_3D), lesions)
    return content


def _cropped(labels: sitk.Image, view: PatientView) -> sitk.Image:
    """The labelled part of a label map, so that the 3D picture need not look for it again."""
    if view.box is None:
        return sitk.Image(1, 1, 1, sitk.sitkUInt8)
    start, size = [0, 0, 0], [1, 1, 1]
    for axis, sign, edge in zip(view.axes.order, view.axes.signs, view.box[::-1], strict=True):
        size[axis] = edge.stop - edge.start
        start[axis] = edge.start if sign > 0 else labels.GetSize()[axis] - edge.stop
    return sitk.RegionOfInterest(labels, size, start)


def _picture(pixels: np.ndarray, view: FrontView | None, lesions: Sequence[Lesion]) -> dict[str, object]:
    """The 3D picture, with the places of the lesions' numbers as shares of its width and height."""
    width, height = SIZE_3D
    numbers = []
    for lesion in lesions[:LISTED_LESIONS] if view else []:
        x, y, z = lesion.centroid_ras_mm
        across, down = view.pixel((-x, -y, z)) if view else (0.0, 0.0)
        numbers.append((lesion.id, across / width, down / height))
    bar = 50 / view.mm_per_pixel / width if view else 0.0
    return {"url": _data_url(pixels, "PNG"), "width": width, "height": height, "numbers": numbers, "bar": bar}


def _shown(item: KeySlice, lesions: Sequence[Lesion]) -> dict[str, object]:
    """A slice as the template takes it."""
    from PIL import Image

    width, height = item.size_mm
    scale = LONG_SIDE_PIXELS / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray(item.grey).resize(size, Image.Resampling.BICUBIC)
    step = width / item.grey.shape[1], height / item.grey.shape[0]
    return {
        "slice": item,
        "lesions": [lesion.id for lesion in lesions],
        "url": _data_url(np.asarray(picture), "JPEG"),
        "liver": _path(item.labels >= LIVER, step),
        "tumour": _path(item.labels == TUMOUR, step),
        "bar": 50 / width,
    }


def _path(mask: np.ndarray, step_mm: tuple[float, float]) -> str:
    """The outlines as the `d` of an SVG path, in millimetres from the upper left corner."""
    curves = (np.round(curve * step_mm, 1).tolist() for curve in outlines(mask))
    return "".join("M" + " ".join(f"{x:g},{y:g}" for x, y in curve) + "Z" for curve in curves)


def _data_url(pixels: np.ndarray, kind: Literal["JPEG", "PNG"]) -> str:
    from PIL import Image

    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, kind, quality=84, compress_level=4)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(encoded.getvalue()).decode('ascii')}"


def figure(value: float | None, digits: int = 3) -> str:
    """A measured number with `digits` significant digits, never rounded before the point; a dash for None."""
    if not value:
        return "–" if value is None else "0"
    whole = len(str(int(abs(value)))) if abs(value) >= 1 else 1
    return f"{value:.{max(0, digits - whole)}f}"


def _css(colour: Sequence[float]) -> str:
    return "#" + "".join(f"{round(255 * c):02x}" for c in colour)
