"""NIfTI files, and what ITK passes over in silence there: a spacing of zero, and voxels cut short or damaged."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import SimpleITK as sitk

from .errors import ImageError
from .itk_reader import read_file

EXTENSIONS = (".nii", ".nii.gz")


def read_nifti(path: Path) -> sitk.Image:
    """Read a NIfTI file as ITK does, and check what ITK does not.

    Axes that are a rounding error off the right angle, which ITK refuses, are read as the nearest right-angled ones.

    Args:
        path: its name ends in one of `EXTENSIONS`; packed or not, whatever the name says.

    Returns:
        The image in LPS, of any type and dimension.

    Raises:
        ImageError: it cannot be read or is incomplete, a spacing is zero or not finite, or the axes are sheared.
    """
    header = _read_header(path)
    if header and not all(math.isfinite(step) and step != 0 for step in header.spacing):
        got = "×".join(f"{step:g}" for step in header.spacing)
        raise ImageError(f"wanted a spacing above zero, got {got} in {path.name}")
    try:
        image = read_file(path)
    except ImageError as error:
        if header is None or "orthonormal" not in str(error):
            raise
        image = _read_nearly_orthonormal(path, header)
    if header:
        _check_complete(path, header, image)
    return image


@dataclass(frozen=True)
class _Header:
    """What the header says of itself and of the voxels."""

    spacing: tuple[float, ...]
    start: bytes  # all before the voxels
    voxel_bytes: int
    sform: np.ndarray | None  # (3, 3), RAS


def _read_header(path: Path) -> _Header | None:
    """Read the header of NIfTI-1 (nifti1.h of the NIfTI DFWG, 2003); None for NIfTI-2 or what is no NIfTI."""
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else open(path, "rb") as file:
            start = file.read(348)
            order = next((order for order in "<>" if start[:4] == struct.pack(order + "i", 348)), None)
            if order is None or len(start) < 348:
                return None
            offset = int(struct.unpack_from(order + "f", start, 108)[0])
            start += file.read(max(0, offset - 348))
    except (OSError, EOFError, zlib.error, ValueError, OverflowError):
        return None  # ITK, which reads it next, says what is wrong
    dimensions, *sizes = struct.unpack_from(order + "8h", start, 40)
    voxels = math.prod(sizes[: max(0, min(dimensions, 7))])
    sform_code = struct.unpack_from(order + "h", start, 254)[0]
    sform = np.array(struct.unpack_from(order + "12f", start, 280)).reshape(3, 4)[:, :3] if sform_code > 0 else None
    spacing = struct.unpack_from(order + "3f", start, 80)
    return _Header(spacing, start, voxels * struct.unpack_from(order + "h", start, 72)[0] // 8, sform)


def _check_complete(path: Path, header: _Header, image: sitk.Image) -> None:
    """Raise if the voxels are cut short or damaged, which ITK does not notice.

    The checksum of a gzip file (RFC 1952, section 2.3.1) is compared with that of the header and the voxels in memory,
    which takes a tenth of the time of unpacking the file again. That is done only where the two differ, as they
    also do when the voxels are of another byte order or were rescaled, or when something follows them.
    """
    wanted = len(header.start) + header.voxel_bytes
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(-8, os.SEEK_END)
        checksum = struct.unpack("<I", file.read(8)[:4])[0]
    if packed:
        crc32 = _gzip_and_zlib()[1].crc32
        voxels = np.ascontiguousarray(sitk.GetArrayViewFromImage(image))
        if crc32(voxels.reshape(-1).view(np.uint8), crc32(header.start)) == checksum:
            return
        got = _unpacked_bytes(path)
    else:
        got = path.stat().st_size
    if got < wanted:
        found = "damaged or cut short" if got < 0 else f"cut short, {got} of {wanted} bytes"
        raise ImageError(f"wanted a complete scan, got {path.name}: {found}")


def _gzip_and_zlib() -> tuple[ModuleType, ModuleType]:
    """Intel's, which are two to three times faster, or Python's own."""
    try:
        from isal import igzip, isal_zlib
    except ImportError:
        return gzip, zlib
    return igzip, isal_zlib


def _unpacked_bytes(path: Path) -> int:
    """How much a gzip file holds, or -1 if it is damaged."""
    unpacker, _ = _gzip_and_zlib()
    count = 0
    try:
        with unpacker.open(path, "rb") as file:
            while piece := file.read(1 << 20):
                count += len(piece)
    except (OSError, EOFError, zlib.error):
        return -1
    return count


def _read_nearly_orthonormal(path: Path, header: _Header) -> sitk.Image:
    """Read NIfTI whose axes are a rounding error off the right angle: ITK refuses it unless told otherwise."""
    name = "ITK_NIFTI_SFORM_PERMISSIVE"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        image = read_file(path)
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
    taken = np.array(image.GetDirection()).reshape(3, 3)
    lengths = np.linalg.norm(header.sform, axis=0) if header.sform is not None else np.zeros(3)
    off = np.inf if not lengths.all() else np.abs(np.diag([-1, -1, 1]) @ header.sform / lengths - taken).max()
    if off > 0.01:
        raise ImageError(f"wanted axes at right angles, got the sform {header.sform} in {path.name}".replace("\n", ""))
    return image
