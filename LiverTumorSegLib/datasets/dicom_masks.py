"""References that are stacks of pictures: 3D-IRCADb's DICOM masks and CHAOS' PNG files."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import ImageError
from ..images import read_image
from ..itk_reader import itk_name, quiet_itk, read_file
from ..segmentation import LIVER, TUMOUR


def read_ircad_labels(masks: Path, scan: Path | None) -> sitk.Image:
    """3D-IRCADb's `liver` and `livertumor*` masks as one label map on the scan's grid.

    A livertumor mask is a tumour wherever it lies; masks of other structures are left out.

    Args:
        masks: `MASKS_DICOM`, a folder of DICOM folders, or its .zip.
        scan: `PATIENT_DICOM` or its .zip.

    Raises:
        ImageError: there is no liver mask, a file cannot be read, or a mask has another size than the scan.
    """
    if scan is None:
        raise ImageError(f"{masks.parent.name}: wanted PATIENT_DICOM for the geometry, got none")
    image = read_packed(scan)
    labels = np.zeros(image.GetSize()[::-1], np.uint8)
    with unpacked(masks) as folder:
        stacks = {path.name: path for path in sorted(folder.rglob("*")) if path.is_dir() and _has_files(path)}
        if "liver" not in stacks:
            raise ImageError(f"{masks.parent.name}: wanted a mask called liver, got {', '.join(stacks) or 'none'}")
        for name in ("liver", *(n for n in stacks if n.lower().startswith("livertumor"))):
            for index, mask in _slices(stacks[name], image):
                labels[index][mask > 0] = LIVER if name == "liver" else TUMOUR
    return _like(labels, image)


def read_chaos_labels(ground: Path, scan: Path | None, liver: tuple[int, int] = (1, 255)) -> sitk.Image:
    """CHAOS' PNG slices as one label map on the scan's grid: 1 liver; CHAOS marks no tumours.

    The n-th picture by name belongs to the n-th DICOM file by name, wherever that slice lies in space.

    Args:
        ground: folder of PNG files.
        scan: `DICOM_anon`, the folder of the DICOM files.
        liver: the first and last grey value that mean liver.

    Raises:
        ImageError: a file cannot be read, or there are not as many pictures as slices.
    """
    if scan is None:
        raise ImageError(f"{ground.parent.name}: wanted DICOM_anon for the geometry, got none")
    image = read_image(scan)
    files = sorted(path for path in scan.iterdir() if path.is_file())
    pictures = sorted(ground.glob("*.png"))
    if not len(pictures) == len(files) == image.GetSize()[2]:
        counts = f"{len(pictures)} pictures and {len(files)} DICOM files"
        raise ImageError(f"{ground.parent.name}: wanted {image.GetSize()[2]} of each, got {counts}")
    labels = np.zeros(image.GetSize()[::-1], np.uint8)
    for file, picture in zip(files, pictures, strict=True):
        grey = sitk.GetArrayFromImage(read_file(picture))
        index = _index(file, image)
        if grey.shape[:2] != labels.shape[1:]:
            raise ImageError(f"{picture.name}: wanted {labels.shape[:0:-1]} pixels, got {grey.shape[1::-1]}")
        inside = (grey[..., 0] if grey.ndim == 3 else grey).astype(int)
        labels[index][(inside >= liver[0]) & (inside <= liver[1])] = LIVER
    return _like(labels, image)


def read_packed(scan: Path) -> sitk.Image:
    """A DICOM series from its folder or from a .zip of it.

    Raises:
        ImageError: it cannot be read.
    """
    with unpacked(scan) as folder:
        inner = folder
        while not _has_files(inner) and len(children := [p for p in inner.iterdir() if p.is_dir()]) == 1:
            inner = children[0]
        return read_image(inner)


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """A folder as it is; a .zip in a private folder that is gone afterwards.

    Raises:
        ImageError: the .zip is damaged.
    """
    if path.is_dir():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="livertumorseg-") as aside:
        try:
            with zipfile.ZipFile(path) as archive:
                for member in archive.infolist():
                    if not member.is_dir():
                        _extract(archive, member, Path(aside))
        except (OSError, zipfile.BadZipFile, EOFError, NotImplementedError) as error:
            raise ImageError(f"{path.name}: wanted a readable .zip, got: {error}") from None
        yield Path(aside)


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    """Unpack one file; a name that leads out of the folder loses the parts that do."""
    parts = [part for part in member.filename.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    target = folder.joinpath(*(part.replace(":", "_") for part in parts))
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file)


def _has_files(folder: Path) -> bool:
    return any(path.is_file() for path in folder.iterdir())


def _slices(folder: Path, image: sitk.Image) -> Iterator[tuple[int, np.ndarray]]:
    """Each slice of a mask with its index in the scan."""
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        mask = sitk.GetArrayFromImage(_read_slice(path))[0]
        if mask.shape != image.GetSize()[1::-1]:
            raise ImageError(f"{folder.name}/{path.name}: wanted {image.GetSize()[:2]} pixels, got {mask.shape[::-1]}")
        yield _index(path, image), mask


def _index(path: Path, image: sitk.Image) -> int:
    """Which slice of the scan lies where a DICOM file says it does."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(itk_name(path))
    reader.SetImageIO("GDCMImageIO")
    try:
        with quiet_itk():
            reader.ReadImageInformation()
    except RuntimeError:  # the only type SimpleITK raises
        raise ImageError(f"wanted a DICOM file, got {path.name}: damaged or of another kind") from None
    index = image.TransformPhysicalPointToContinuousIndex(reader.GetOrigin())[2]
    if abs(index - round(index)) > 0.2 or not 0 <= round(index) < image.GetSize()[2]:
        raise ImageError(f"{path.name}: wanted a slice of the scan, got one at {index:.2f} of {image.GetSize()[2]}")
    return round(index)


def _read_slice(path: Path) -> sitk.Image:
    try:
        with quiet_itk():
            return sitk.ReadImage(itk_name(path), imageIO="GDCMImageIO")
    except RuntimeError:  # the only type SimpleITK raises
        raise ImageError(f"wanted a DICOM file, got {path.name}: damaged or of another kind") from None


def _like(labels: np.ndarray, image: sitk.Image) -> sitk.Image:
    result = sitk.GetImageFromArray(labels)
    result.CopyInformation(image)
    return result
