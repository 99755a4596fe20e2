"""Which scanner a scan was made with, where its files tell: folds are dealt evenly over scanners."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import SimpleITK as sitk

from ..errors import ImageError
from ..images import EXTENSIONS
from ..itk_reader import itk_name, quiet_itk
from .dicom_masks import unpacked

_TAGS = ("0008|0070", "0008|1090")  # Manufacturer, Manufacturer's Model Name
_KEYS = ("Manufacturer", "ManufacturersModelName")  # the same in the JSON beside a NIfTI file (BIDS, dcm2niix)


def scanner_of(scan: Path) -> str:
    """Manufacturer and model from the DICOM files, or from the JSON file beside a NIfTI file.

    Args:
        scan: image file, DICOM folder, or a .zip of one.

    Returns:
        Such as "SIEMENS Sensation 64"; "" where no file tells, as in LiTS and MSD, and where anonymising removed it.
    """
    extension = next((end for end in sorted(EXTENSIONS, key=len, reverse=True) if scan.name.lower().endswith(end)), "")
    if extension:
        return _from_json(scan.with_name(f"{scan.name[: -len(extension)]}.json"))
    try:
        with unpacked(scan) as folder:
            files = (path for path in sorted(folder.rglob("*")) if path.is_file())
            return next(_from_dicom(files), "")
    except ImageError:  # its check will say so
        return ""


def _from_json(path: Path) -> str:
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # most scans have none, and what is no JSON tells of no scanner
        return ""
    return _joined(described.get(key) for key in _KEYS) if isinstance(described, dict) else ""


def _from_dicom(files: Iterator[Path]) -> Iterator[str]:
    """What each DICOM file among these says."""
    for path in files:
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(itk_name(path))
        try:
            with quiet_itk():
                reader.ReadImageInformation()
        except RuntimeError:  # the only type SimpleITK raises; not a DICOM file
            continue
        yield _joined(reader.GetMetaData(key) if reader.HasMetaDataKey(key) else "" for key in _TAGS)


def _joined(parts: Iterator[object]) -> str:
    words = " ".join(str(part) for part in parts if part)
    return " ".join(word for word in words.replace("\0", " ").split() if word.isprintable())
