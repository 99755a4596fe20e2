"""DICOM folders: which scans one holds, and one of them as a volume; `dicom_stack` puts its slices together."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk

from .dicom_frames import spacing_of_frames
from .dicom_stack import SliceHeader, Stack, read_stack, stack_slices
from .errors import ImageError, SeriesChoiceError, warn
from .itk_reader import itk_name

SCAN_MODALITIES = ("CT", "MR", "OT", "")
FEWEST_SLICES = 3
_ENHANCED = re.compile(r"1\.2\.840\.10008\.5\.1\.4\.1\.1\.[24]\.[1-9]$")  # enhanced and converted CT and MR storage
_DAMAGED = "damaged file"  # has pixels (7FE0,0010) that GDCM cannot read
_UNREADABLE = "file that cannot be read"
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


def list_series(folder: Path) -> list[Series]:
    """The CT and MR series in a folder and the folders below it.

    Files that are not DICOM, segmentations, reports, localisers and series of fewer than three slices are passed over.

    Returns:
        The series sorted by description, then UID; empty if there is none.

    Raises:
        ImageError: the folder does not exist.
    """
    return [_series_of(stack) for stack in _find_stacks(folder)[0]]


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
    if passed_over[_UNREADABLE]:
        warn(f"{passed_over[_UNREADABLE]} files of the folder cannot be read and were left out")
    if stack.others:
        warn(f"{stack.others} images of another size or orientation in the same DICOM series were left out")
    if stack.duplicates:
        warn(f"{stack.duplicates} slices were left out: the DICOM series has another slice at the same position")
    if stack.slices[0].modality == "CT" and stack.interleaved:
        warn(
            f"the DICOM series holds {stack.interleaved} acquisitions whose slices lie between each other: "
            "they may be different phases"
        )
    image = read_stack(stack)
    for key in image.GetMetaDataKeys():
        image.EraseMetaData(key)
    image.SetMetaData("Modality", stack.slices[0].modality)
    image.SetMetaData("SeriesDescription", stack.slices[0].description)
    return image


def series_uid_of(path: Path) -> str | None:
    """The UID of the series to which a DICOM file belongs, or None if it is not a readable DICOM image."""
    reader = _open_header(Path(path))
    return None if reader is None else _tag(reader, "0020|000e")


def is_dicom(path: Path) -> bool:
    """Whether a file begins like DICOM: with the preamble of PS3.10, or, as older files do, with its first group.

    Raises:
        ImageError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(132)
    except OSError as error:
        raise ImageError(f"wanted a file that can be read, got {Path(path).name}: {error.strerror}") from None
    return head[128:] == b"DICM" or head[:2] in (b"\x02\x00", b"\x08\x00")


def holds_dicom(folder: Path) -> bool:
    """Whether a folder, or one below it, has a DICOM file."""
    return next(_dicom_files(folder, []), None) is not None


def _find_stacks(folder: Path) -> tuple[list[Stack], Counter[str]]:
    """The stacks that can be offered, and what else was there."""
    if not Path(folder).is_dir():
        raise ImageError(f"wanted a DICOM folder, got {Path(folder).name}, which is none")
    passed_over: Counter[str] = Counter()
    groups: dict[str, list[list[SliceHeader]]] = {}
    unreadable: list[str] = []
    for path in _dicom_files(folder, unreadable):
        header = _read_header(path)
        if isinstance(header, str):
            passed_over[header] += 1
            continue
        of_series = groups.setdefault(header.uid, [])
        group = next((group for group in of_series if group[0].is_parallel_to(header)), None)
        if group is None:
            of_series.append(group := [])
        group.append(header)
    if unreadable:
        passed_over[_UNREADABLE] = len(unreadable)
    stacks = []
    for of_series in groups.values():
        largest = max(of_series, key=len)
        stack = stack_slices(largest, others=sum(map(len, of_series)) - len(largest))
        if stack.size[2] >= FEWEST_SLICES:
            stacks.append(stack)
        else:
            passed_over[f"{stack.slices[0].modality} series of {stack.size[2]} slices"] += 1
    return sorted(stacks, key=lambda stack: (stack.slices[0].description, stack.slices[0].uid)), passed_over


def _dicom_files(folder: Path, unreadable: list[str]) -> Iterator[Path]:
    """The DICOM files in and below a folder, in order; `unreadable` is told what cannot be looked at."""
    for place, folders, names in os.walk(folder, onerror=lambda error: unreadable.append(str(error))):
        folders.sort()
        for name in sorted(names):
            path = Path(place, name)
            try:
                found = name.upper() != "DICOMDIR" and path.is_file() and is_dicom(path)
            except (ImageError, OSError) as error:
                unreadable.append(str(error))
            else:
                if found:
                    yield path


def _open_header(path: Path) -> sitk.ImageFileReader | None:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(itk_name(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:  # the only type SimpleITK raises
        return None
    return reader


def _tag(reader: sitk.ImageFileReader, key: str) -> str:
    text = reader.GetMetaData(key) if reader.HasMetaDataKey(key) else ""
    return "".join(letter if letter.isprintable() else " " for letter in text).strip()


def _read_header(path: Path) -> SliceHeader | str:
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
    return SliceHeader(
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


def _choose(stacks: list[Stack], uid: str | None) -> Stack:
    """The stack that is meant, or an error that lists them."""
    uids = [stack.slices[0].uid for stack in stacks]
    fits = stacks if not uid else [stacks[uids.index(uid)]] if uid in uids else []
    if uid and not fits:
        fits = [stack for stack, full in zip(stacks, uids, strict=True) if full.startswith(uid) or full.endswith(uid)]
    if len(fits) == 1:
        return fits[0]
    listing = "".join(f"\n  {_series_of(stack)}" for stack in fits or stacks)
    if fits:
        asked = f"{uid}, which fits several" if uid else "none chosen of several"
        raise SeriesChoiceError(f"wanted the UID of one DICOM series, got {asked}:{listing}")
    raise ImageError(f"wanted the UID of a DICOM series in the folder, got {uid}; there are:{listing}")


def _series_of(stack: Stack) -> Series:
    first = stack.slices[0]
    of_frames = spacing_of_frames(first.path, first.size[2], first.direction) if first.size[2] > 1 else None
    return Series(
        uid=first.uid,
        description=first.description,
        modality=first.modality,
        phase=_guess_phase(first.description, first.contrast_agent),
        files=tuple(piece.path for piece in stack.slices),
        size=stack.size,
        spacing_mm=of_frames or stack.spacing_mm,
    )


def _guess_phase(*texts: str) -> str:
    """The phase that the first telling text names; an underscore ends a word here."""
    found = (phase for text in texts for phase, pattern in _PHASES if re.search(pattern, text.replace("_", " "), re.I))
    return next(found, "")
