"""NIfTI files, and what ITK passes over in silence there: a spacing of zero, and voxels cut short or damaged."""

from __future__ import annotations

import ctypes
import gzip
import math
import os
import struct
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

import numpy as np
import SimpleITK as sitk

from .errors import ImageError, warn
from .itk_reader import itk_name, quiet_itk, read_file

EXTENSIONS = (".nii", ".nii.gz")
_FIRST_VOXEL = 352  # in a file that holds header and voxels
_DEFLATE_RATIO = 1032  # no more can be packed into a byte (zlib, Technical Details)
_VOXELS = {
    sitk.sitkInt8: "i1",
    sitk.sitkUInt8: "u1",
    sitk.sitkInt16: "i2",
    sitk.sitkUInt16: "u2",
    sitk.sitkInt32: "i4",
    sitk.sitkFloat32: "f4",
}


def read_nifti(path: Path) -> sitk.Image:
    """Read a NIfTI file as ITK does, and check what ITK does not.

    Axes that are a rounding error off the right angle, which ITK refuses, are read as the nearest right-angled ones.

    Args:
        path: its name ends in one of `EXTENSIONS`; packed or not, whatever the name says.

    Returns:
        The image in LPS, of any type and dimension; its metadata need not be kept.

    Raises:
        ImageError: it cannot be read or is incomplete, a spacing is not above zero, or the axes are sheared.
    """
    header = _read_header(path)
    if header:
        _check_header(path, header)
    image = _read_packed(path, header) if header else None
    if image is not None:
        return image
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
    offset: float  # where the voxels start
    start: bytes  # all before the voxels
    voxel_bytes: int
    sform: np.ndarray | None  # (3, 3), RAS
    plain: bool  # the voxels are in this computer's byte order, and are not to be scaled


def _read_header(path: Path) -> _Header | None:
    """Read the header of NIfTI-1 (nifti1.h of the NIfTI DFWG, 2003); None for what is none.

    Raises:
        ImageError: it is NIfTI-2, which ITK does not read.
    """
    try:
        with gzip.open(path) if _is_packed(path) else open(path, "rb") as file:
            start = file.read(348)
            if start[:4] in (struct.pack(order + "i", 540) for order in "<>"):
                raise ImageError(f"wanted NIfTI-1, got NIfTI-2 in {path.name}")
            order = next((order for order in "<>" if start[:4] == struct.pack(order + "i", 348)), None)
            if order is None or len(start) < 348:
                return None
            offset = struct.unpack_from(order + "f", start, 108)[0]
            if 348 <= offset < 1 << 31:
                start += file.read(int(offset) - 348)
    except (OSError, EOFError, zlib.error):
        return None  # ITK, which reads it next, says what is wrong
    dimensions, *sizes = struct.unpack_from(order + "8h", start, 40)
    voxels = math.prod(sizes[: max(0, min(dimensions, 7))])
    sform_code = struct.unpack_from(order + "h", start, 254)[0]
    sform = np.array(struct.unpack_from(order + "12f", start, 280)).reshape(3, 4)[:, :3] if sform_code > 0 else None
    spacing = struct.unpack_from(order + "3f", start, 80)
    slope, intercept = struct.unpack_from(order + "2f", start, 112)
    plain = order == "<>"[sys.byteorder == "big"] and slope in (0, 1) and intercept == 0
    return _Header(spacing, offset, start, voxels * struct.unpack_from(order + "h", start, 72)[0] // 8, sform, plain)


def _check_header(path: Path, header: _Header) -> None:
    """Raise at what ITK would read wrongly, and before it asks for memory for more voxels than the file can hold."""
    if not all(math.isfinite(step) and step > 0 for step in header.spacing):  # ITK mirrors at a negative one
        got = "×".join(f"{step:g}" for step in header.spacing)
        raise ImageError(f"wanted a spacing above zero, got {got} in {path.name}")
    if header.start[344:348] == b"n+1\0" and not _FIRST_VOXEL <= header.offset < 1 << 31:
        got = f"{header.offset:g} in {path.name}"
        raise ImageError(f"wanted voxels from byte {_FIRST_VOXEL} on, got the offset {got}")
    size, wanted = path.stat().st_size, len(header.start) + header.voxel_bytes
    if wanted > size * (_DEFLATE_RATIO if _is_packed(path) else 1):
        raise ImageError(f"wanted a complete scan, got {path.name}: cut short, {size} bytes for {wanted}")
    if header.sform is not None:
        steps = np.linalg.norm(header.sform, axis=0)
        if not np.allclose(steps, header.spacing, rtol=0.01):
            got, other = ("×".join(f"{step:.4g}" for step in each) for each in (header.spacing, steps))
            warn(f"the header's pixdim says voxels of {got} mm, its sform {other} mm; pixdim is taken")


def _is_packed(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _read_packed(path: Path, header: _Header) -> sitk.Image | None:
    """Read a gzip file in two thirds of the time, straight into the image's memory.

    ITK reads the header. None where it must read the voxels too: it converts them, they are damaged, or the file is
    not packed. The checksum is compared as the last voxels are unpacked.
    """
    try:
        from isal import igzip
        from isal.igzip_lib import IsalError
    except ImportError:
        return None
    reader = sitk.ImageFileReader()
    reader.SetFileName(itk_name(path))
    try:
        with quiet_itk():
            reader.ReadImageInformation()
        if not header.plain or reader.GetDimension() != 3 or reader.GetPixelID() not in _VOXELS:
            return None
        size = reader.GetSize()
        if math.prod(size) * np.dtype(_VOXELS[reader.GetPixelID()]).itemsize != header.voxel_bytes:
            return None
        with igzip.open(path) as file:  # type: ignore[no-untyped-call]
            file.read(len(header.start))
            image = _filled(file, size, reader.GetPixelID())
            while file.read(1 << 20):  # to the end, where the checksum is
                pass
    except (RuntimeError, OSError, EOFError, zlib.error, IsalError):  # type: ignore[misc]
        return None
    image.SetOrigin(reader.GetOrigin())
    image.SetSpacing(reader.GetSpacing())
    image.SetDirection(reader.GetDirection())
    return image


def _filled(file: BinaryIO, size: tuple[int, ...], pixel_id: int) -> sitk.Image:
    """An image of the voxels that come next in a file."""
    image = sitk.Image(size, pixel_id)
    voxels = sitk.GetArrayViewFromImage(image)
    # SimpleITK lends its voxels for reading only; nobody else has this image yet.
    room, done = memoryview((ctypes.c_ubyte * voxels.nbytes).from_address(voxels.ctypes.data)).cast("B"), 0
    while done < len(room):
        got = file.readinto(room[done : done + (1 << 20)])  # type: ignore[attr-defined]
        if not got:
            raise EOFError
        done += got
    return image


def _check_complete(path: Path, header: _Header, image: sitk.Image) -> None:
    """Raise if the voxels are cut short or damaged, which ITK does not notice.

    The checksum of a gzip file (RFC 1952, section 2.3.1) is compared with that of the header and the voxels in memory,
    which takes a tenth of the time of unpacking the file again. That is done only where the two differ, as they
    also do when the voxels are of another byte order or were rescaled, or when something follows them.
    """
    if not _is_packed(path):
        return  # its size was compared before
    with open(path, "rb") as file:
        file.seek(-8, os.SEEK_END)
        checksum = struct.unpack("<I", file.read(8)[:4])[0]
    crc32 = fastest_zlib().crc32
    voxels = np.ascontiguousarray(sitk.GetArrayViewFromImage(image))
    if crc32(voxels.reshape(-1).view(np.uint8), crc32(header.start)) == checksum:
        return
    got, wanted = _unpacked_bytes(path), len(header.start) + header.voxel_bytes
    if got < wanted:
        found = "damaged or cut short" if got < 0 else f"cut short, {got} of {wanted} bytes"
        raise ImageError(f"wanted a complete scan, got {path.name}: {found}")


def fastest_zlib() -> ModuleType:
    """Intel's `isal_zlib`, which is two to ten times faster, or Python's own `zlib`; both are called alike."""
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib
    return isal_zlib


def _unpacked_bytes(path: Path) -> int:
    """How much a gzip file holds, or -1 if it is damaged."""
    count = 0
    try:
        with gzip.open(path, "rb") as file:
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
