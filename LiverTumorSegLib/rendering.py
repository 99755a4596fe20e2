"""The 3D picture of a segmentation: the liver as glass with its tumours inside, from the patient's front.

What is to be seen, and from where, is settled here; `rendering_vtk`, a short-lived child process, draws it. Whoever
knows early that there will be a picture calls `get_ready`: then the child loads VTK meanwhile.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from . import rendering_vtk
from .lesions import bounding_slices
from .rendering_vtk import LIBRARIES, NATIVE, NO_OPENGL
from .views import PatientAxes

log = logging.getLogger(__name__)

WINDOWS = tuple(LIBRARIES) if sys.platform.startswith("linux") else (NATIVE,)
MARGIN = 0.04  # of the picture's width and height, on each side
LARGE_VOXELS = 1_500_000  # a liver of more than this is drawn from every second voxel


@dataclass(frozen=True)
class FrontView:
    """Where things are in a parallel view from the front: the patient's right on the left, the head up.

    Attributes:
        centre_lps_mm: what is in the picture's middle.
        mm_per_pixel: the same everywhere in the picture.
        size: width and height in pixels.
    """

    centre_lps_mm: tuple[float, ...]
    mm_per_pixel: float
    size: tuple[int, int]

    def pixel(self, point_lps_mm: Sequence[float] | np.ndarray) -> tuple[float, float]:
        """Pixels from the left and from the top."""
        x, _, z = (np.asarray(point_lps_mm) - self.centre_lps_mm) / self.mm_per_pixel
        return float(self.size[0] / 2 + x), float(self.size[1] / 2 - z)


def front_view(labels: sitk.Image, size: tuple[int, int]) -> FrontView | None:
    """The view that `render_3d` takes of a label map; None where the map is empty."""
    axes = PatientAxes.of(labels)
    array = axes.view(sitk.GetArrayFromImage(labels))
    box = bounding_slices(array)
    return _front_view(axes, array[box] > 0, _first_index(box), size) if box else None


def render_3d(
    labels: sitk.Image, size: tuple[int, int] = (960, 720), windows: Sequence[str] = WINDOWS, limit_s: float = 20.0
) -> np.ndarray | None:
    """Draw the liver (labels 1 and 2) as a translucent and the tumours (2) as an opaque surface.

    Args:
        labels: label map 0/1/2 of any orientation; only its non-zero part matters.
        size: width and height in pixels.
        windows: the kinds of VTK window to try, keys of `LIBRARIES` or `NATIVE`.
        limit_s: how long one try may take.

    Returns:
        uint8 (height, width, 4): red, green, blue, and opacity, the background being transparent; seen
        as `front_view` says. None where there is nothing to draw, or no OpenGL or VTK to draw it with.
    """
    content = _scene(labels, size)
    if content is None:
        return None
    scene = io.BytesIO()
    np.savez(scene, **content)
    for window in windows:
        picture = _drawn(window, scene.getvalue(), limit_s)
        if picture is not None:
            return picture
    return None


def get_ready() -> None:
    """Start the child process of the next `render_3d`, which loads VTK and waits; returns at once.

    One at most waits. It ends when it has drawn, or with this process.
    """
    with _lock:
        waiting = _waiting.get(WINDOWS[0])
        if waiting is None or waiting.poll() is not None:
            with contextlib.suppress(OSError):  # `render_3d` tries again and tells
                _waiting[WINDOWS[0]] = _child(WINDOWS[0])


def _scene(labels: sitk.Image, size: tuple[int, int]) -> dict[str, Any] | None:
    """All that the child process must know: masks (head, back, left), where they lie in LPS, and the view."""
    axes = PatientAxes.of(labels)
    array = axes.view(sitk.GetArrayFromImage(labels))
    box = bounding_slices(array)
    if box is None:
        return None
    inside, first, spacing = array[box], _first_index(box), axes.spacing_mm
    view = _front_view(axes, inside > 0, first, size)
    large = np.count_nonzero(inside) > LARGE_VOXELS
    steps = np.where(large & (spacing <= 2 * spacing.min()), 2, 1)
    content = {
        "size": size,
        "centre": view.centre_lps_mm,
        "mm_per_pixel": view.mm_per_pixel,
        "direction": axes.direction,
        "liver": np.pad(inside[:: steps[2], :: steps[1], :: steps[0]] > 0, 1),
        "liver_spacing": spacing * steps,
        "liver_origin": axes.point(first - steps),
    }
    box = bounding_slices(inside == 2)
    if box is not None:
        content["tumour"] = np.pad(inside[box] == 2, 1)
        content["tumour_spacing"] = spacing
        content["tumour_origin"] = axes.point(first + _first_index(box) - 1)
    return content


def _first_index(box: tuple[slice, ...]) -> np.ndarray:
    """The (left, back, head) index of a (head, back, left) box's first voxel."""
    return np.array([edge.start for edge in box[::-1]])


def _front_view(axes: PatientAxes, mask: np.ndarray, first: np.ndarray, size: tuple[int, int]) -> FrontView:
    """Make the mask, whose first voxel is `first`, fill the picture."""
    head, back = np.nonzero(mask.any(axis=2))
    rows = mask[head, back]
    ends = [rows.argmax(axis=1), mask.shape[2] - 1 - rows[:, ::-1].argmax(axis=1)]
    index = np.concatenate([np.stack([left, back, head]) for left in ends], axis=1) + first[:, None]
    points = axes.origin[:, None] + axes.direction @ (index * axes.spacing_mm[:, None])
    half = np.abs(axes.direction) @ axes.spacing_mm / 2
    low, high = points.min(axis=1) - half, points.max(axis=1) + half
    fit = [(high[a] - low[a]) / (pixels * (1 - 2 * MARGIN)) for a, pixels in ((0, size[0]), (2, size[1]))]
    return FrontView(tuple(map(float, (low + high) / 2)), float(max(fit)), size)


_waiting: dict[str, subprocess.Popen[bytes]] = {}
_lock = threading.Lock()


@atexit.register
def _send_home() -> None:
    """End the child that still waits."""
    for child in _waiting.values():
        child.kill()
        child.communicate()


def _child(window: str) -> subprocess.Popen[bytes]:
    search = [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, search))}
    command = [sys.executable, "-m", rendering_vtk.__name__, window]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe)


def _drawn(window: str, scene: bytes, limit_s: float) -> np.ndarray | None:
    """The picture that a child process draws, or None where it cannot."""
    with _lock:
        child = _waiting.pop(window, None)
    try:
        if child is None or child.poll() is not None:  # none was started, or it has ended while it waited
            child = _child(window)
        with child:
            try:
                picture, errors = child.communicate(scene, limit_s)
            finally:
                child.kill()
    except (OSError, subprocess.TimeoutExpired) as error:
        log.info("no 3D picture: %s", error)
        return None
    if child.returncode == 0:
        return np.asarray(np.load(io.BytesIO(picture)))
    if child.returncode != NO_OPENGL:
        text = errors.decode("utf-8", "replace")[-500:]
        log.info("no 3D picture with %s: exit code %d: %s", window, child.returncode, text)
    return None
