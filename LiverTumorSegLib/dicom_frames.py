"""Frames of an enhanced DICOM file: where each of them says that it lies.

GDCM puts them on one axis in the order of the file, whatever their positions are, and takes voxels for 1 mm where
these are not exactly regular. So the file is asked itself: for the Plane Position of each frame and the Pixel Measures
(DICOM PS3.3 C.7.6.16.2), which SimpleITK does not tell.
"""

from __future__ import annotations

import mmap
import re
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
    found = _numbers(path, _POSITION, count + 1)
    if len(found) != count or any(len(each) != 3 for each in found):
        warn("the positions of the frames were not found: they were stacked in the order of the DICOM file")
        return volume
    positions = np.array(found)
    frame = np.array(volume.GetDirection()).reshape(3, 3)
    offsets = (positions - positions[0]) @ frame
    step = offsets[-1, 2] / (count - 1)
    off = np.abs(offsets - np.outer(np.arange(count), (0, 0, step))).max()
    if step == 0 or off > 0.1 * abs(step):
        gaps = np.diff(offsets[:, 2])
        got = f"frames {gaps.min():.2f} to {gaps.max():.2f} mm apart, {off:.2f} mm off their places"
        raise ImageError(f"wanted one regular stack of frames, got {got}")
    frame[:, 2] *= np.sign(step)
    volume.SetSpacing((*_in_plane_mm(path, count), abs(step)))
    volume.SetDirection(frame.ravel().tolist())
    volume.SetOrigin(positions[0].tolist())
    return volume


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
