"""DICOM series: which scans a folder holds, and one of them as a volume whose anatomy is true.

Slices are placed by their own position and orientation (DICOM PS3.3 C.7.6.2, Image Plane), never by file name or
instance number. Missing slices, mixed spacing and gantry tilt are mended on a regular grid, with a warning.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .errors import ImageError, SeriesChoiceError, warn

SCAN_MODALITIES = ("CT", "MR", "OT", "")
FEWEST_SLICES = 3
_ENHANCED = re.compile(r"1\.2\.840\.10008\.5\.1\.4\.1\.1\.[24]\.[1-9]$")  # enhanced and converted CT and MR storage
_FLOATS = {sitk.sitkFloat32, sitk.sitkFloat64}
_DAMAGED = "damaged file"  # has pixels (7FE0,0010) that GDCM cannot read
_PHASES = (
    ("native", r"native|\bnon?[- ]?con|\bpre[- ]?con|unenhanced|without|w/o|\bplain\b|\bnc\b"),
    ("portal venous", r"portal|venous|\bpvp?\b|\bvp\b"),
    ("arterial", r"arter|\bart\b|\bh?ap\b"),
    ("delayed", r"delay|\blate\b|equilib|\bdp\b"),
)


@dataclass(frozen=True)
class Series:
    """A CT or MR series of at least three slices of one size and orientation.

    Attributes:
        uid: series instance UID.
        description: series description, as the scanner wrote it.
        modality: "CT", "MR", "OT" (other) or "".
        phase: "native", "arterial", "portal venous", "delayed" or "", guessed from description and contrast agent.
        files: what is read, in the order of the slices.
        size: voxels along i, j and k.
        spacing_mm: along i, j and k; along k the median distance between slices.
    """

    uid: str
    description: str
    modality: str
    phase: str
    files: tuple[Path, ...]
    size: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]

    def __str__(self) -> str:
        size = "×".join(map(str, self.size))
        spacing = "×".join(f"{step:.3g}" for step in self.spacing_mm)
        named = ", ".join(word for word in (self.description, self.phase) if word)
        return f"{self.uid}: {self.modality} {size}, {spacing} mm" + (f", {named}" if named else "")


@dataclass(frozen=True)
class _Header:
    """What one DICOM file says of itself; vectors are LPS, lengths in mm."""

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

    def is_parallel_to(self, other: _Header) -> bool:
        """Same size, spacing and orientation, so that both can be slices of one volume."""
        pairs = zip(self.direction + self.spacing[:2], other.direction + other.spacing[:2], strict=True)
        return self.size == other.size and self.size[2] == 1 and all(abs(mine - yours) < 0.01 for mine, yours in pairs)


@dataclass(frozen=True)
class _Stack:
    """Parallel slices of one series, sorted along their normal, one at each position."""

    slices: tuple[_Header, ...]
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
    def series(self) -> Series:
        first = self.slices[0]
        many = len(self.slices) > 1
        gap = float(np.median(np.diff(self.offsets_mm[:, 2]))) if many else first.spacing[2]
        return Series(
            uid=first.uid,
            description=first.description,
            modality=first.modality,
            phase=_guess_phase(first.description, first.contrast_agent),
            files=tuple(piece.path for piece in self.slices),
            size=(*first.size[:2], len(self.slices) if many else first.size[2]),
            spacing_mm=(*first.spacing[:2], gap),
        )


def list_series(folder: Path) -> list[Series]:
    """The CT and MR series in a folder and the folders below it.

    Files that are not DICOM, segmentations, reports, localisers and series of fewer than three slices are passed over.

    Returns:
        The series sorted by description, then UID; empty if there is none.

    Raises:
        ImageError: the folder does not exist.
    """
    return [stack.series for stack in _find_stacks(folder)[0]]


def read_series(folder: Path, uid: str | None = None) -> sitk.Image:
    """Read one series as a volume on a regular grid.

    Values are as GDCM rescales them; `images.read_image` also checks and calibrates them. Of the tags only "Modality"
    and "SeriesDescription" are kept.

    Args:
        folder: where to look, with the folders below it.
        uid: series instance UID, or a beginning or end of it that fits only one; None if there is only one series.

    Returns:
        3D image in LPS, its k axis along the slices' normal.

    Raises:
        ImageError: no such series, or its files cannot be read.
        SeriesChoiceError: several series fit; the message lists them.
    """
    stacks, passed_over = _find_stacks(folder)
    if not stacks:
        got = ", ".join(f"{count} × {what}" for what, count in sorted(passed_over.items())) or "no DICOM file"
        raise ImageError(f"wanted a CT or MR series of at least {FEWEST_SLICES} slices in a DICOM folder, got {got}")
    stack = _choose(stacks, uid)
    if passed_over[_DAMAGED]:
        warn(f"{passed_over[_DAMAGED]} DICOM files in the folder are damaged or cut short and were left out")
    if stack.others:
        warn(f"{stack.others} images of another size or orientation in the same DICOM series were left out")
    if stack.duplicates:
        warn(f"{stack.duplicates} slices were left out: the DICOM series has another slice at the same position")
    image = _read_slices(stack)
    for key in image.GetMetaDataKeys():
        image.EraseMetaData(key)
    image.SetMetaData("Modality", stack.series.modality)
    image.SetMetaData("SeriesDescription", stack.series.description)
    return image


def series_uid_of(path: Path) -> str | None:
    """The UID of the series to which a DICOM file belongs, or None if it is not a readable DICOM image."""
    reader = _open_header(Path(path))
    return None if reader is None else _tag(reader, "0020|000e")


def is_dicom(path: Path) -> bool:
    """Whether a file begins like DICOM: with the preamble of PS3.10, or, as older files do, with its first group."""
    with open(path, "rb") as file:
        head = file.read(132)
    return head[128:] == b"DICM" or head[:2] in (b"\x02\x00", b"\x08\x00")


def _find_stacks(folder: Path) -> tuple[list[_Stack], Counter[str]]:
    """The stacks that can be offered, and what else was there."""
    if not Path(folder).is_dir():
        raise ImageError(f"wanted a DICOM folder, got {Path(folder).name}, which is none")
    passed_over: Counter[str] = Counter()
    groups: dict[str, list[list[_Header]]] = {}
    for path in _dicom_files(folder):
        header = _read_header(path)
        if isinstance(header, str):
            passed_over[header] += 1
            continue
        of_series = groups.setdefault(header.uid, [])
        group = next((group for group in of_series if group[0].is_parallel_to(header)), None)
        if group is None:
            of_series.append(group := [])
        group.append(header)
    stacks = []
    for of_series in groups.values():
        largest = max(of_series, key=len)
        stack = _stacked(largest, others=sum(map(len, of_series)) - len(largest))
        if stack.series.size[2] >= FEWEST_SLICES:
            stacks.append(stack)
        else:
            passed_over[f"{stack.series.modality} series of {stack.series.size[2]} slices"] += 1
    return sorted(stacks, key=lambda stack: (stack.series.description, stack.series.uid)), passed_over


def _dicom_files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(place, name)
            if name.upper() != "DICOMDIR" and path.is_file() and is_dicom(path):
                yield path


def _open_header(path: Path) -> sitk.ImageFileReader | None:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:  # the only type SimpleITK raises
        return None
    return reader


def _tag(reader: sitk.ImageFileReader, key: str) -> str:
    text = reader.GetMetaData(key) if reader.HasMetaDataKey(key) else ""
    return "".join(letter if letter.isprintable() else " " for letter in text).strip()


def _read_header(path: Path) -> _Header | str:
    """The header of a slice or of an enhanced multi-frame scan; for anything else a word for what it is."""
    reader = _open_header(path)
    if reader is None:
        return _DAMAGED if b"\xe0\x7f\x10\x00" in path.read_bytes() else "object without image"
    modality = _tag(reader, "0008|0060")
    size = (*reader.GetSize(), 1)[:3]
    if modality not in SCAN_MODALITIES:
        return f"{modality} object"
    if "LOCALIZER" in _tag(reader, "0008|0008").upper():
        return "localiser image"
    if reader.GetNumberOfComponents() != 1:
        return "colour image"
    if size[2] > 1 and not _ENHANCED.match(_tag(reader, "0008|0016")):
        return "multi-frame object that is not enhanced CT or MR"
    if size[2] == 1 and not (_tag(reader, "0020|0032") and _tag(reader, "0020|0037")):
        return "image without position"
    return _Header(
        path=path,
        uid=_tag(reader, "0020|000e"),
        modality=modality,
        description=_tag(reader, "0008|103e"),
        contrast_agent=_tag(reader, "0018|0010"),
        order=tuple(int(re.sub(r"\D", "", _tag(reader, key)) or 0) for key in ("0020|0012", "0020|0013")),
        size=size,
        spacing=reader.GetSpacing(),
        origin=reader.GetOrigin(),
        direction=reader.GetDirection(),
        pixel_id=reader.GetPixelIDValue(),
    )


def _stacked(headers: list[_Header], others: int) -> _Stack:
    """Sort along the normal and keep one slice a position: that of the first acquisition, then instance."""
    headers = sorted(headers, key=lambda header: header.order)
    along = _Stack(tuple(headers)).offsets_mm[:, 2]
    kept: list[int] = []
    for index in np.argsort(along, kind="stable").tolist():
        if not kept or along[index] - along[kept[-1]] > 0.01:
            kept.append(index)
    return _Stack(tuple(headers[index] for index in kept), len(headers) - len(kept), others)


def _choose(stacks: list[_Stack], uid: str | None) -> _Stack:
    """The stack that is meant, or an error that lists them."""
    uids = [stack.slices[0].uid for stack in stacks]
    fits = stacks if not uid else [stacks[uids.index(uid)]] if uid in uids else []
    if uid and not fits:
        fits = [stack for stack, full in zip(stacks, uids, strict=True) if full.startswith(uid) or full.endswith(uid)]
    if len(fits) == 1:
        return fits[0]
    listing = "".join(f"\n  {stack.series}" for stack in fits or stacks)
    if fits:
        asked = f"{uid}, which fits several" if uid else "none chosen of several"
        raise SeriesChoiceError(f"wanted the UID of one DICOM series, got {asked}:{listing}")
    raise ImageError(f"wanted the UID of a DICOM series in the folder, got {uid}; there are:{listing}")


def _guess_phase(*texts: str) -> str:
    """The phase that the first telling text names; an underscore ends a word here."""
    found = (phase for text in texts for phase, pattern in _PHASES if re.search(pattern, text.replace("_", " "), re.I))
    return next(found, "")


def _read_slices(stack: _Stack) -> sitk.Image:
    """Read the pixels and put them where the headers say; a multi-frame file has its geometry from GDCM."""
    reader = sitk.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileNames([str(piece.path) for piece in stack.slices])
    types = {piece.pixel_id for piece in stack.slices}
    if len(types) > 1:
        # ITK would take the first slice's type, and wrap or cut off what other slices' rescaling needs.
        reader.SetOutputPixelType(sitk.sitkFloat32 if types & _FLOATS else sitk.sitkInt32)
    try:
        if len(stack.slices) == 1:
            return _narrowed(sitk.ReadImage(str(stack.slices[0].path), imageIO="GDCMImageIO"))
        return _place(_narrowed(reader.Execute()), stack)
    except RuntimeError:
        raise ImageError(f"wanted readable DICOM, got series {stack.series.uid}: damaged or cut short") from None


def _narrowed(volume: sitk.Image) -> sitk.Image:
    """GDCM rescales 16-bit CT to 32 bits; 16 are enough for HU, and half the memory."""
    if volume.GetPixelID() != sitk.sitkInt32:
        return volume
    values = sitk.GetArrayViewFromImage(volume)
    fits = values.min() >= -(2**15) and values.max() < 2**15
    return sitk.Cast(volume, sitk.sitkInt16) if fits else volume


def _place(volume: sitk.Image, stack: _Stack) -> sitk.Image:
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
