"""Slices of a DICOM series -> a volume whose anatomy is true.

Slices are placed by their own position and orientation (DICOM PS3.3 C.7.6.2, Image Plane), never by file name or
instance number. Missing slices, mixed spacing and gantry tilt are mended on a regular grid, with a warning.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .dicom_frames import place_frames
from .errors import ImageError, warn

_SAME_PLACE_MM = 0.01
_FLOATS = {sitk.sitkFloat32, sitk.sitkFloat64}


@dataclass(frozen=True)
class SliceHeader:
    """What one DICOM file says of itself; vectors are LPS, lengths in mm.

    Attributes:
        order: its acquisition and instance numbers.
        size: voxels along i, j and k; 1 along k unless the file has many frames.
        pixel_id: SimpleITK's, after rescaling.
    """

    path: Path
    uid: str
    modality: str
    description: str
    contrast_agent: str
    order: tuple[int, ...]
    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]
    pixel_id: int

    def is_parallel_to(self, other: SliceHeader) -> bool:
        """Same size, spacing and orientation, so that both can be slices of one volume."""
        pairs = zip(self.direction + self.spacing[:2], other.direction + other.spacing[:2], strict=True)
        return self.size == other.size and self.size[2] == 1 and all(abs(mine - yours) < 0.01 for mine, yours in pairs)


@dataclass(frozen=True)
class Stack:
    """Parallel slices of one series, sorted along their normal, one at each position; or one file of many frames.

    Attributes:
        slices: what is read, in order.
        duplicates: how many slices were left out because another lies at their position.
        others: how many images of the series were left out because they are of another size or orientation.
    """

    slices: tuple[SliceHeader, ...]
    duplicates: int = 0
    others: int = 0

    @cached_property
    def frame(self) -> np.ndarray:
        """(3, 3) LPS directions of i, j and k in its columns, exactly orthonormal."""
        given = np.array(self.slices[0].direction).reshape(3, 3)
        row = given[:, 0] / np.linalg.norm(given[:, 0])
        column = given[:, 1] - row * (given[:, 1] @ row)
        column /= np.linalg.norm(column)
        return np.stack([row, column, np.cross(row, column)], axis=1)

    @cached_property
    def offsets_mm(self) -> np.ndarray:
        """(slices, 3) positions along i, j and k, from the first slice."""
        origins = np.array([piece.origin for piece in self.slices])
        return np.asarray((origins - origins[0]) @ self.frame)

    @property
    def interleaved(self) -> int:
        """How many acquisitions, of three slices at least, have their slices between each other's; 0 for none."""
        numbers = [piece.order[0] for piece in self.slices]
        large = [number for number, count in Counter(numbers).items() if count >= 3]
        changes = sum(one != next_one for one, next_one in pairwise(numbers))
        return len(large) if len(large) > 1 and changes > len(numbers) / 2 else 0

    @property
    def size(self) -> tuple[int, int, int]:
        """Voxels along i, j and k."""
        first = self.slices[0].size
        return (*first[:2], len(self.slices) if len(self.slices) > 1 else first[2])

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Along i, j and k; along k the median distance between slices."""
        first = self.slices[0].spacing
        gap = float(np.median(np.diff(self.offsets_mm[:, 2]))) if len(self.slices) > 1 else first[2]
        return (*first[:2], gap)


def stack_slices(headers: list[SliceHeader], others: int) -> Stack:
    """Sort parallel slices along their normal and keep one at each position.

    Args:
        headers: of one series, any order.
        others: how many images of the series are not among them.

    Returns:
        The stack; of several slices at one position it has that of the first acquisition, then instance.
    """
    headers = sorted(headers, key=lambda header: header.order)
    along = Stack(tuple(headers)).offsets_mm[:, 2]
    nearest_mm = max(_SAME_PLACE_MM, 0.1 * _gap_mm(along, [header.order[0] for header in headers]))
    places: list[list[int]] = []
    for index in np.argsort(along, kind="stable").tolist():
        if places and along[index] - along[places[-1][0]] <= nearest_mm:
            places[-1].append(index)
        else:
            places.append([index])
    kept = tuple(headers[min(place)] for place in places)
    return Stack(kept, len(headers) - len(kept), others)


def _gap_mm(along: np.ndarray, acquisitions: list[int]) -> float:
    """The median distance between neighbouring slices of one acquisition; 0 where each has only one place."""
    numbers = np.array(acquisitions)
    gaps = np.concatenate([np.diff(np.sort(along[numbers == number])) for number in set(acquisitions)])
    gaps = gaps[gaps > _SAME_PLACE_MM]
    return float(np.median(gaps)) if gaps.size else 0.0


def read_stack(stack: Stack) -> sitk.Image:
    """Read the pixels and put them where the headers say.

    Returns:
        3D image in LPS on a regular grid, its k axis along the slices' normal, values as GDCM rescales them.

    Raises:
        ImageError: a file cannot be read, or its frames are no regular stack.
    """
    reader = sitk.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileNames([str(piece.path) for piece in stack.slices])
    types = {piece.pixel_id for piece in stack.slices}
    if len(types) > 1:
        # ITK would take the first slice's type, and wrap or cut off what other slices' rescaling needs.
        reader.SetOutputPixelType(sitk.sitkFloat32 if types & _FLOATS else sitk.sitkInt32)
    try:
        if len(stack.slices) == 1:
            path = stack.slices[0].path
            return place_frames(_narrowed(sitk.ReadImage(str(path), imageIO="GDCMImageIO")), path)
        return _place(_narrowed(reader.Execute()), stack)
    except RuntimeError:
        raise ImageError(f"wanted readable DICOM, got series {stack.slices[0].uid}: damaged or cut short") from None


def _narrowed(volume: sitk.Image) -> sitk.Image:
    """GDCM rescales 16-bit CT to 32 bits; 16 are enough for HU, and half the memory."""
    if volume.GetPixelID() != sitk.sitkInt32:
        return volume
    values = sitk.GetArrayViewFromImage(volume)
    fits = values.min() >= -(2**15) and values.max() < 2**15
    return sitk.Cast(volume, sitk.sitkInt16) if fits else volume


def _place(volume: sitk.Image, stack: Stack) -> sitk.Image:
    """Give the volume its geometry, and mend it where the slices are no regular, straight stack."""
    in_plane, low = np.array(stack.slices[0].spacing[:2]), np.zeros(2)
    along, shifts = stack.offsets_mm[:, 2], stack.offsets_mm[:, :2] / in_plane
    step = along[-1] / (len(along) - 1)
    # Positions are often rounded to a tenth of a millimetre, so single gaps say less than the whole ruler.
    is_regular = np.abs(along - step * np.arange(len(along))).max() <= 0.1 * step
    is_straight = np.abs(shifts).max() <= 0.5
    if not is_regular:
        gaps = np.diff(along)
        # The lower quartile is not misled by missing slices, and keeps the finer part of mixed spacing; interleaved
        # scans a hair apart must not fill the memory.
        count = min(round(along[-1] / float(np.quantile(gaps, 0.25))) + 1, 4 * len(along))
        step = along[-1] / (count - 1)
        warn(
            f"the slices are {gaps.min():.2f} to {gaps.max():.2f} mm apart (slices missing or spacing mixed): "
            f"interpolated to {count} slices every {step:.2f} mm"
        )
    if not is_straight:
        lean_mm = np.linalg.norm(stack.offsets_mm[-1, :2])
        warn(f"gantry tilt of {np.degrees(np.arctan2(lean_mm, along[-1])):.1f} degrees was corrected")
        low = np.floor(shifts.min(axis=0))
    if not (is_regular and is_straight):
        targets = np.linspace(0, along[-1], round(along[-1] / step) + 1)
        array = _regrid(sitk.GetArrayFromImage(volume), 0 * shifts if is_straight else shifts, along, targets)
        volume = sitk.GetImageFromArray(array)
    volume.SetSpacing((*in_plane.tolist(), float(step)))
    volume.SetDirection(stack.frame.ravel().tolist())
    volume.SetOrigin((np.array(stack.slices[0].origin) + stack.frame[:, :2] @ (low * in_plane)).tolist())
    return volume


def _regrid(array: np.ndarray, shifts: np.ndarray, along: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Shift slices in plane and interpolate between them, both linearly; what no slice saw gets the minimum.

    Args:
        array: (k, j, i) slices as acquired.
        shifts: (k, 2) voxels along i and j by which each slice lies off the first.
        along: (k,) mm along the normal, ascending.
        targets: mm along the normal of the slices wanted, within those acquired.

    Returns:
        Array of the same type, wide enough for all shifts; its corner lies at the floor of the smallest shift.
    """
    corner = np.floor(shifts.min(axis=0)).astype(int)
    wider = np.ceil(shifts.max(axis=0)).astype(int) - corner
    fill = array.min()
    rows, columns = array.shape[1:]

    @lru_cache(maxsize=2)
    def placed(k: int) -> np.ndarray:
        start = np.floor(shifts[k]).astype(int)
        right, down = shifts[k] - start
        canvas = np.zeros((rows + wider[1], columns + wider[0]), np.float32)
        piece = array[k].astype(np.float32) - np.float32(fill)
        for di, dj in ((0, 0), (1, 0), (0, 1), (1, 1)):
            weight = (right if di else 1 - right) * (down if dj else 1 - down)
            if weight > 0:
                i, j = start - corner + (di, dj)
                canvas[j : j + rows, i : i + columns] += np.float32(weight) * piece
        return canvas

    result = np.empty((len(targets), rows + wider[1], columns + wider[0]), array.dtype)
    for k, target in enumerate(targets):
        upper = int(np.clip(np.searchsorted(along, target), 1, len(along) - 1))
        weight = np.float32((target - along[upper - 1]) / (along[upper] - along[upper - 1]))
        plane = placed(upper - 1) * (1 - weight) + placed(upper) * weight + np.float32(fill)
        result[k] = plane if np.issubdtype(array.dtype, np.floating) else np.rint(plane)
    return result
