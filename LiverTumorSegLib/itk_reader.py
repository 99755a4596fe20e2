"""Reading a file with ITK: quietly, and with its errors in one line of our own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import SimpleITK as sitk

from .errors import ImageError, is_unicode


def read_file(path: Path) -> sitk.Image:
    """Read an image file of any kind that ITK knows by its name.

    Raises:
        ImageError: it cannot be read; says why in ITK's words where these tell anything.
    """
    if not path.is_file():  # of a folder, ITK's libraries print the whole name
        raise ImageError(f"wanted a readable scan, got {path.name}: no file")
    try:
        with quiet_itk():
            return sitk.ReadImage(itk_name(path))
    except RuntimeError as error:  # the only type SimpleITK raises
        raise ImageError(f"wanted a readable scan, got {path.name}: {_telling_part(error, path)}") from None


def itk_name(path: Path) -> str:
    """A path as ITK wants it.

    Raises:
        ImageError: it is no valid Unicode, as names from old archives are; SimpleITK would end the process.
    """
    if not is_unicode(path):
        raise ImageError(f"wanted a file name in valid Unicode, got {path.name!a}; rename it")
    return str(path)


@contextmanager
def quiet_itk() -> Iterator[None]:
    """Keep ITK's own warnings, which name addresses and source files, off the terminal."""
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)


def _telling_part(error: RuntimeError, path: Path) -> str:
    text = re.sub(r"\w+\(0x[0-9a-f]+\):", "", str(error).rpartition("ERROR:")[2]).replace(str(path), path.name)
    if "Unable to determine ImageIO" in text:
        return "damaged, or not of the kind that its name says"
    if "trouble" in text or "cannot be read" in text:
        return "its voxels are missing, damaged or cut short"
    return text.strip().splitlines()[-1].strip() if text.strip() else "damaged"
