"""Frames of an enhanced DICOM file: where each of them says that it lies.

GDCM puts them on one axis in the order of the file, whatever their positions are, and takes voxels for 1 mm where
these are not exactly regular. So the file is asked itself: for the Plane Position of each frame and the Pixel Measures
(DICOM PS3.3 C.7.6.16.2), which SimpleITK does not tell.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .errors import ImageError, warn

# Little-endian, with the elements' types (PS3.5, explicit VR) or without; of a text its length is told.
_ITEM = rb"(?:SQ\0\0)?.{4}\xfe\xff\x00\xe0.{4}"
_TEXT = rb"(?:DS(?P<short>..)|(?P<long>..)\0\0)"
_POSITION = re.compile(rb"\x20\x00\x13\x91" + _ITEM + rb"\x20\x00\x32\x00" + _TEXT, re.DOTALL)
_PIXEL_SPACING = re.compile(rb"\x28\x00\x10\x91" + _ITEM + rb".{0,120}?\x28\x00\x30\x00" + _TEXT, re.DOTALL)


def place_frames(volume: sitk.Image, path: Path) -> sitk.Image:
    """Give the frames of a file the places that they say.

    Args:
        volume: 3D, the frames along k in the order of the file, with GDCM's geometry; it is changed.
        path: the file.

    Returns:
        The volume. Where the positions cannot be found, it stays as GDCM has it, with a warning.

    Raises:
        ImageError: the frames are no regular stack, or not all of one pixel spacing.
    """
    count = volume.GetDepth()
    positions = _positions(path, count)
    if positions is None:
        warn("the positions of the frames were not found: they were stacked in the order of the DICOM file")
        return volume
    frame = np.array(volume.GetDirection()).reshape(3, 3)
    step = _step_mm(positions, frame)
    frame[:, 2] *= np.sign(step)
    volume.SetSpacing((*_in_plane_mm(path, count), abs(step)))
    volume.SetDirection(frame.ravel().tolist())
    volume.SetOrigin(positions[0].tolist())
    return volume


def spacing_of_frames(path: Path, count: int, direction: Sequence[float]) -> tuple[float, float, float] | None:
    """What `place_frames` will make the spacing along i, j, k; None where it changes nothing or refuses the file.

    Args:
        path: the file.
        count: of its frames.
        direction: row-major, LPS, as GDCM has it.
    """
    positions = _positions(path, count)
    if positions is None:
        return None
    try:
        step = _step_mm(positions, np.array(direction).reshape(3, 3))
        return (*_in_plane_mm(path, count), abs(step))
    except ImageError:
        return None


def _positions(path: Path, count: int) -> np.ndarray | None:
    """(frames, 3) of their first voxels in mm, LPS; None where the file does not have one for each."""
    found = _numbers(path, _POSITION, count + 1)
    return np.array(found) if len(found) == count and all(len(each) == 3 for each in found) else None


def _step_mm(positions: np.ndarray, frame: np.ndarray) -> float:
    """From one frame to the next along the last column of a direction matrix, negative against it."""
    offsets = (positions - positions[0]) @ frame
    step = float(offsets[-1, 2]) / (len(positions) - 1)
    off = np.abs(offsets - np.outer(np.arange(len(positions)), (0, 0, step))).max()
    if step == 0 or off > 0.1 * abs(step):
        gaps = np.diff(offsets[:, 2])
        got = f"frames {gaps.min():.2f} to {gaps.max():.2f} mm apart, {off:.2f} mm off their places"
        raise ImageError(f"wanted one regular stack of frames, got {got}")
    return step


def _in_plane_mm(path: Path, count: int) -> tuple[float, float]:
    """Along i and j, the same for all frames; the file has the distance between rows first."""
    found = set(_numbers(path, _PIXEL_SPACING, count))
    if len(found) != 1 or len(spacing := found.pop()) != 2:
        raise ImageError(f"wanted one pixel spacing for all frames, got {len(found) or 'one without two numbers'}")
    return spacing[1], spacing[0]


def _numbers(path: Path, pattern: re.Pattern[bytes], most: int) -> list[tuple[float, ...]]:
    """The numbers of the texts that a pattern leads to, at most so many; empty where one of them is no number."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        texts = []
        for found in islice(pattern.finditer(content), most):
            length = int.from_bytes(found["short"] or found["long"], "little")
            texts.append(content[found.end() : found.end() + length])
    try:
        return [tuple(float(number) for number in text.strip(b"\0 ").split(b"\\")) for text in texts]
    except ValueError:
        return []
