"""Scans: reading them, and the sanity of what was read.

Conventions, said here once: a scan is a `SimpleITK.Image` in LPS (x to the patient's left, y to the back, z to the
head), indexed (i, j, k). Its array, `sitk.GetArrayFromImage`, is indexed [k, j, i]. Sizes, spacings and windows are
written (i, j, k) unless a name says otherwise; lengths are mm. Slicer's RAS lives in `scene/` only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import SimpleITK as sitk

from . import dicom, nifti
from .errors import ImageError, warn
from .itk_reader import quiet_itk, read_file

AIR_HU = -1024
EXTENSIONS = (*nifti.EXTENSIONS, ".nrrd", ".nhdr", ".mha", ".mhd")
FEWEST_VOXELS = 3
SPACING_RANGE_MM = (0.05, 50.0)
THIN_MM, LONGEST_MM = 20.0, 3000.0
_KEPT_TYPES = (sitk.sitkInt8, sitk.sitkUInt8, sitk.sitkInt16, sitk.sitkUInt16, sitk.sitkInt32, sitk.sitkFloat32)
_WIDE_TYPES = (sitk.sitkUInt32, sitk.sitkInt64, sitk.sitkUInt64, sitk.sitkFloat64)
_MODALITY_KEYS = ("Modality", "0008|0060")


def read_image(path: Path, series: str | None = None, *, modality: str | None = None) -> sitk.Image:
    """Read a scan, check it and, if it is CT, bring its values to HU.

    Args:
        path: NIfTI, NRRD or MetaImage file, DICOM folder, or one file of a DICOM series.
        series: UID of the DICOM series, or an unambiguous beginning or end of it; None if there is only one.
        modality: "CT" or "MR", if it is known better than `modality_of` would say.

    Returns:
        3D scalar image in LPS; metadata has "Modality" if a DICOM tag says so, and nothing of the patient.

    Raises:
        ImageError: the scan cannot be read, or is not a 3D grey-scale volume that can be segmented.
        SeriesChoiceError: the folder holds several series and none was chosen.
    """
    path = Path(path)
    check_modality(modality)
    _check_existing(path)
    if path.is_dir():
        with quiet_itk():
            image = dicom.read_series(path, series)
    elif path.name.lower().endswith(EXTENSIONS):
        if series:
            raise ImageError(f"wanted a DICOM folder to choose series {series} from, got {path.name}")
        image = _read_file(path)
    elif dicom.is_dicom(path):
        uid = dicom.series_uid_of(path)
        if uid is None:
            raise ImageError(f"wanted a DICOM image, got {path.name}: damaged, cut short or without an image")
        with quiet_itk():
            image = dicom.read_series(path.parent, series or uid)
    else:
        raise ImageError(f"wanted DICOM or one of {', '.join(EXTENSIONS)}, got {path.name}")
    try:
        image = check_image(image)
    except ImageError as error:
        raise ImageError(f"{path.name}: {error}") from None
    return calibrate_ct(image) if (modality or modality_of(image)) == "CT" else image


def check_image(image: sitk.Image) -> sitk.Image:
    """Refuse what cannot be segmented and mend what safely can be.

    Args:
        image: a scan from a file or from memory.

    Returns:
        The same image if nothing was to do; else a copy that is 3D, of at most 32 bits, and finite.

    Raises:
        ImageError: not 3D, not grey-scale, fewer than three voxels along an axis, an impossible spacing, extent or
            direction, a single value throughout, or more than 1 % of the voxels not finite.
    """
    while image.GetDimension() > 3 and image.GetSize()[-1] == 1:
        image = _with_metadata(sitk.Extract(image, (*image.GetSize()[:-1], 0)), image)
    if image.GetPixelID() not in _KEPT_TYPES + _WIDE_TYPES:
        raise ImageError(f"wanted grey values, one real number a voxel, got {image.GetPixelIDTypeAsString()}")
    if image.GetDimension() != 3:
        raise ImageError(f"wanted a 3D volume, got {image.GetDimension()}D of {_times(image.GetSize())} voxels")
    if min(image.GetSize()) < FEWEST_VOXELS:
        raise ImageError(f"wanted at least {FEWEST_VOXELS} voxels along each axis, got {_times(image.GetSize())}")
    _check_geometry(image)
    return _checked_values(image)


def check_modality(modality: str | None) -> None:
    """Refuse a modality that nothing here knows.

    Raises:
        ImageError: it is neither "CT" nor "MR" nor None.
    """
    if modality not in ("CT", "MR", None):
        raise ImageError(f"modality: wanted CT, MR or none, got {modality!r}")


def modality_of(image: sitk.Image) -> Literal["CT", "MR"]:
    """What kind of scan this is: the DICOM tag if there is one, else the intensities.

    Without a tag a scan is CT if a thousandth of it lies at or below -500 (air); or if its second percentile is
    at or below -50 and a sixth as far from zero as the 99th is (a crop with fat but no air; MR has at most slight
    ringing below zero); or if it is clearly CT whose values start at zero (see `calibrate_ct`), three quarters of the
    body between 850 and 1250: 84 to 93 % in CT, at most 44 % in MR however scaled. Everything else is MR.
    """
    for key in _MODALITY_KEYS:
        tag = image.GetMetaData(key).strip().upper() if image.HasMetaDataKey(key) else ""
        if tag in ("CT", "MR"):
            return "CT" if tag == "CT" else "MR"
    sample = _sample(image)
    if np.mean(sample <= -500) >= 0.001:
        return "CT"
    low, high = np.percentile(sample, (2, 99))
    has_fat = low <= -50 and -low >= abs(high) / 6
    return "CT" if has_fat or _starts_at_zero(sample, tissue_share=0.75) else "MR"


def calibrate_ct(image: sitk.Image) -> sitk.Image:
    """Bring a CT to HU: padding below -1024 is raised to it, and values that start at zero are moved down by 1024.

    A CT starts at zero if its rescale intercept was lost: air near 0 and most of the body near 1024.

    Args:
        image: CT, 3D scalar.

    Returns:
        The same image if nothing was to do; else a calibrated copy, signed.
    """
    if _starts_at_zero(_sample(image), tissue_share=0.5):
        warn(f"the CT's values start at zero; {-AIR_HU} was subtracted to make them HU")
        if image.GetPixelID() != sitk.sitkFloat32:
            largest = int(sitk.GetArrayViewFromImage(image).max())
            image = sitk.Cast(image, sitk.sitkInt16 if largest <= np.iinfo(np.int16).max else sitk.sitkInt32)
        return _with_metadata(sitk.Maximum(image, 0) + AIR_HU, image)
    # int8 and the unsigned types cannot hold such padding.
    if image.GetPixelID() in (sitk.sitkInt16, sitk.sitkInt32, sitk.sitkFloat32, sitk.sitkFloat64) and (
        sitk.GetArrayViewFromImage(image).min() < AIR_HU
    ):
        return _with_metadata(sitk.Maximum(image, AIR_HU), image)
    return image


def _check_existing(path: Path) -> None:
    try:
        there = path.exists()
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise ImageError(f"wanted an existing file or DICOM folder, got {path.name}: {error.strerror}") from None
    if not there:
        raise ImageError(f"wanted an existing file or DICOM folder, got {path.name}, which does not exist")


def _times(numbers: tuple[float, ...]) -> str:
    return "×".join(f"{number:g}" for number in numbers)


def _with_metadata(image: sitk.Image, source: sitk.Image) -> sitk.Image:
    """SimpleITK's filters lose the metadata."""
    for key in source.GetMetaDataKeys():
        image.SetMetaData(key, source.GetMetaData(key))
    return image


def _sample(image: sitk.Image) -> np.ndarray:
    """About a hundred thousand voxels, evenly spread."""
    step = max(1, round((image.GetNumberOfPixels() / 1e5) ** (1 / 3)))
    return np.array(sitk.GetArrayViewFromImage(image)[::step, ::step, ::step], np.float32)


def _starts_at_zero(sample: np.ndarray, tissue_share: float) -> bool:
    """Whether the body, and enough of it, lies around 1024 as water does when air is zero."""
    body = sample[sample > 300]
    air_is_zero = np.mean((sample > AIR_HU) & (sample < -300)) < 0.001
    return bool(air_is_zero and body.size >= 0.1 * sample.size and np.mean(abs(body - 1050) <= 200) >= tissue_share)


def _check_geometry(image: sitk.Image) -> None:
    spacing = image.GetSpacing()
    least, most = SPACING_RANGE_MM
    if not all(least <= step <= most for step in spacing):  # NaN neither
        raise ImageError(f"wanted a spacing of {least:g} to {most:g} mm, got {_times(spacing)}")
    extent = tuple(step * count for step, count in zip(spacing, image.GetSize(), strict=True))
    if max(extent) > LONGEST_MM:
        raise ImageError(f"wanted an extent of at most {LONGEST_MM:g} mm, got {_times(extent)} mm")
    if min(extent) < THIN_MM:
        warn(f"the scan is very thin: {_times(extent)} mm")
    direction = np.array(image.GetDirection()).reshape(3, 3)
    if not np.abs(direction.T @ direction - np.eye(3)).max() <= 0.01:
        raise ImageError(f"wanted axes at right angles, got the direction matrix {direction.round(3).tolist()}")
    if not np.isfinite(image.GetOrigin()).all():
        raise ImageError(f"wanted a finite origin, got {image.GetOrigin()}")


def _checked_values(image: sitk.Image) -> sitk.Image:
    values = sitk.GetArrayViewFromImage(image)
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high)):  # a NaN anywhere is the minimum
        array = sitk.GetArrayFromImage(image)
        bad = ~np.isfinite(array)
        if bad.mean() > 0.01:
            raise ImageError(f"wanted finite values, got {bad.mean():.1%} of the voxels NaN or infinite")
        warn(f"{int(bad.sum())} voxels were NaN or infinite and were given the smallest finite value")
        low, high = array[~bad].min(), array[~bad].max()
        array[bad] = low
        mended = sitk.GetImageFromArray(array)
        mended.CopyInformation(image)
        image = _with_metadata(mended, image)
    if low == high:
        raise ImageError(f"wanted a scan, got {low} in every voxel")
    if image.GetPixelID() not in _WIDE_TYPES:
        return image
    room = np.iinfo(np.int32)
    fits = image.GetPixelID() != sitk.sitkFloat64 and low >= room.min and high <= room.max
    return _with_metadata(sitk.Cast(image, sitk.sitkInt32 if fits else sitk.sitkFloat32), image)


def _read_file(path: Path) -> sitk.Image:
    """Read NIfTI, NRRD or MetaImage; of the metadata only the modality stays."""
    is_nifti = path.name.lower().endswith(nifti.EXTENSIONS)
    image = nifti.read_nifti(path) if is_nifti else read_file(path)
    modality = next((image.GetMetaData(key) for key in _MODALITY_KEYS if image.HasMetaDataKey(key)), "")
    for key in image.GetMetaDataKeys():
        image.EraseMetaData(key)
    if modality:
        image.SetMetaData("Modality", modality.strip())
    return image
