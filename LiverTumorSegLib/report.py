"""One page for a radiologist: sizes, 3D picture, key slices, lesions, and where it all came from.

The page is a single HTML file without scripts; every picture is inside.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk

from .errors import OutputError
from .lesions import Lesion, has_types
from .outlines import outlines
from .rendering import FrontView, front_view, render_3d
from .resources import resource_path
from .segmentation import LIVER, SEGMENTS, TUMOUR, Segmentation
from .views import KeySlice, PatientView

LISTED_LESIONS = 40
LONG_SIDE_PIXELS = 640
SIZE_3D = (900, 700)


def write_html(segmentation: Segmentation, path: Path, meanwhile: Callable[[], None] | None = None) -> None:
    """Write the report of one segmentation as a single HTML file.

    Args:
        segmentation: what to tell of.
        path: the file.
        meanwhile: what else is to be done while another process draws the 3D picture.

    Raises:
        OutputError: the file cannot be written, or Jinja or Pillow is not installed.
    """
    try:
        import jinja2  # noqa: F401 (fails here and not halfway)
        import PIL  # noqa: F401
    except ImportError as error:
        raise OutputError(
            f"{path}: the report needs {error.name}: install it with: pip install 'LiverTumorSegLib[report]'"
        ) from error
    with ThreadPoolExecutor(1) as pool:
        view, labels = PatientView(segmentation), segmentation.labels
        liver = _cropped(labels, view)
        rendered = pool.submit(render_3d, liver, SIZE_3D)  # a child process; meanwhile we make all the rest
        if meanwhile is not None:
            meanwhile()
        content, seen, template = _content(segmentation, view), front_view(liver, SIZE_3D), _template()
        pixels = rendered.result()
    picture = None if pixels is None else _picture(pixels, seen, segmentation.lesions)
    page = template.render(content, picture_3d=picture, figure=figure)
    try:
        Path(path).write_text(page, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot write the report: {error.strerror}") from error


@cache
def _template() -> Any:
    """The page as Jinja has compiled it."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["tenths"] = lambda value: f"{round(value, 1) + 0.0:.1f}"  # without a minus before 0.0
    return environment.from_string(resource_path("report.html.j2").read_text(encoding="utf-8"))


def _content(segmentation: Segmentation, view: PatientView) -> dict[str, object]:
    """All that the template shows, but for the 3D picture."""
    provenance, lesions = segmentation.provenance, segmentation.lesions
    keys = view.lesion_slices(lesions)
    left, back, head = view.middle()
    overviews = [view.cut("axial", head), view.cut("coronal", back), view.cut("sagittal", left)]
    return {
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
        "has_types": has_types(lesions),
    }


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
    Image.fromarray(pixels).save(encoded, kind, quality=84, compress_level=2)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(encoded.getvalue()).decode('ascii')}"


def figure(value: float | None, digits: int = 3) -> str:
    """A measured number with `digits` digits, never rounded before the point; below 0.1 two; a dash for None."""
    if not value:
        return "–" if value is None else "0"
    whole = len(str(int(abs(value))))
    decimals = max(0, digits - whole)
    if abs(value) < 0.1:
        decimals = 1 - math.floor(math.log10(abs(value)))
    return f"{value:.{decimals}f}"


def _css(colour: Sequence[float]) -> str:
    return "#" + "".join(f"{round(255 * c):02x}" for c in colour)
