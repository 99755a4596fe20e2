"""A case of a data set: where its scan and its labels are, whose they are, and how they are read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .. import nifti
from ..errors import ImageError, LiverTumorSegError
from ..images import EXTENSIONS, read_image
from ..itk_reader import read_file
from ..recipe import Typing
from ..segmentation import LIVER, TUMOUR
from .dicom_masks import read_packed
from .scanners import scanner_of


class DatasetError(LiverTumorSegError):
    """A data set's folder is not as its layout says, or its cases cannot be split as asked."""


LabelReader = Callable[[Path, Path | None], sitk.Image]
"""Reads a reference at its path, with the scan's path for its geometry, as uint8: 0, 1 liver, 2 tumour."""

OTHER = "other"
"""The lesion type that is one only beside others: what a data set calls so may be anything."""
_NO_SUCH_TYPE = 255
_TUMOURS = {"tumour", "tumours", "lesion", "lesions", "cancer"}


@dataclass(frozen=True)
class DatasetCase:
    """One scan of one patient, with an expert's labels where there are any.

    Attributes:
        name: unique in its data set.
        patient: unique among patients, also across the data sets that share them (`layouts` says which do).
        scan: image file or DICOM folder; None where it is not there.
        labels: file or folder of the reference; None where it is not there.
        read: how the labels are read.
        scanner: manufacturer and model, or centre, where it is known without opening the scan, else "".
        phases: further scans of the same study by what the data set calls them, on grids of their own.
        value_names: what the values in the label file are called, where the layout tells.
    """

    name: str
    patient: str
    scan: Path | None
    labels: Path | None
    read: LabelReader
    scanner: str = ""
    phases: Mapping[str, Path] = field(default_factory=dict)
    value_names: Mapping[int, str] = field(default_factory=dict)

    def find_scanner(self) -> str:
        """Manufacturer and model where the layout or the scan's files tell, else ""."""
        return self.scanner or (scanner_of(self.scan) if self.scan is not None else "")

    def read_scan(self) -> sitk.Image:
        """The scan, in HU if it is CT.

        Raises:
            ImageError: it is not there or cannot be read.
        """
        if self.scan is None:
            raise ImageError(f"{self.name}: wanted a scan, got none")
        return read_packed(self.scan) if self.scan.suffix == ".zip" else read_image(self.scan)

    def read_labels(self) -> sitk.Image:
        """The reference as uint8: 0 background, 1 liver, 2 tumour.

        Raises:
            ImageError: it is not there, cannot be read, or has other labels.
        """
        if self.labels is None:
            raise ImageError(f"{self.name}: wanted labels, got none")
        return self.read(self.labels, self.scan)

    def read_named(self, names: Sequence[str]) -> sitk.Image:
        """The reference as uint8 with the value n where `names[n]` is: types of lesions where the data set has them.

        Args:
            names: background first. A tumour of a type that is not among them is "tumour", what lies in the liver is
                "liver", and any other name of the data set that is not among them is background.

        Raises:
            ImageError: it is not there, cannot be read, or has tumours that none of the names are.
        """
        if self.labels is not None and "liver" in names and "liver" in self.value_names.values():
            result = read_mapped_labels(self.labels, self.scan, values=self._values(names))
        else:
            result = _renumbered(self.read_labels(), [0, *(_place_of(meaning, names) for meaning in (LIVER, TUMOUR))])
        if (sitk.GetArrayViewFromImage(result) == _NO_SUCH_TYPE).any():
            raise ImageError(f"{self.name}: labels: wanted {', '.join(names[1:])}, got tumours of no such type")
        return result

    def _values(self, names: Sequence[str]) -> dict[int, int]:
        """Value in the file -> value of the name that it goes by."""
        meant = meanings(self.value_names.values())
        return {
            value: names.index(name) if name in names[1:] else _place_of(meant.get(name, 0), names)
            for value, name in self.value_names.items()
        }


def read_labels(path: Path, scan: Path | None = None) -> sitk.Image:
    """Read a label map as uint8: 0 background, 1 liver, 2 tumour.

    Args:
        path: NIfTI, NRRD or MetaImage; whole numbers, also where they are stored as floating point.
        scan: not needed here.

    Raises:
        ImageError: it cannot be read, is not one 3D volume, or has other values.
    """
    image = read_volume(path)
    values = sitk.GetArrayViewFromImage(image)
    low, high = values.min(), values.max()
    whole = values.dtype.kind in "iu" or bool(np.all(values == np.floor(values)))
    if not (whole and low >= 0 and high <= TUMOUR):
        raise ImageError(f"wanted labels 0, 1 and 2, got {_listed(values)} in {path.name}")
    return sitk.Cast(image, sitk.sitkUInt8)


def read_mapped_labels(path: Path, scan: Path | None = None, *, values: Mapping[int, int]) -> sitk.Image:
    """Read a label map whose values mean something else, as uint8: 0 background, 1 liver, 2 tumour.

    Args:
        path: NIfTI, NRRD or MetaImage.
        scan: not needed here.
        values: value in the file -> 1 or 2; others are background.

    Raises:
        ImageError: it cannot be read or is not one 3D volume.
    """
    image = read_volume(path)
    array = sitk.GetArrayViewFromImage(image)
    labels = np.zeros(array.shape, np.uint8)
    for value, label in values.items():
        labels[array == value] = label
    result = sitk.GetImageFromArray(labels)
    result.CopyInformation(image)
    return result


def read_volume(path: Path) -> sitk.Image:
    """Read a file of label values, whatever they are.

    Raises:
        ImageError: it cannot be read or is not one 3D volume of single numbers.
    """
    name = path.name.lower()
    if not path.is_file() or not name.endswith(EXTENSIONS):
        raise ImageError(f"wanted a file of type {', '.join(EXTENSIONS)}, got {path.name}")
    image = nifti.read_nifti(path) if name.endswith(nifti.EXTENSIONS) else read_file(path)
    while image.GetDimension() > 3 and image.GetSize()[-1] == 1:
        image = sitk.Extract(image, (*image.GetSize()[:-1], 0))
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        size = "×".join(map(str, image.GetSize()))
        layers = image.GetNumberOfComponentsPerPixel()
        raise ImageError(f"wanted one 3D label map, got {size} voxels in {layers} layer(s) in {path.name}")
    return image


def meanings(names: Iterable[str]) -> dict[str, int]:
    """What a data set's names for its labels mean: 1 liver, 2 tumours of any type; other names are left out.

    Lesion types and what lies in the liver are called as in `recipe.Typing`; of `OTHER`, see there.
    """
    plain = {name: plain_name(name) for name in names}
    types = set(Typing().lesion_types).intersection(plain.values())
    types = types if len(types) > 1 else types - {OTHER}
    found = {}
    for name, each in plain.items():
        words = re.split(r"[^a-z]+", each)
        if each in types or not _TUMOURS.isdisjoint(words):
            found[name] = TUMOUR
        elif each in Typing().in_liver or "liver" in words:
            found[name] = LIVER
    return found


def plain_name(label: str) -> str:
    """A label's name as recipes write it: "Liver Tumor" is liver_tumour."""
    return re.sub(r"[^a-z0-9]+", "_", label.lower()).replace("tumor", "tumour").replace("hemangioma", "haemangioma")


def stem(path: Path) -> str:
    """A file's name without its image extension."""
    extension = next((e for e in sorted(EXTENSIONS, key=len, reverse=True) if path.name.lower().endswith(e)), "")
    name = path.name[: len(path.name) - len(extension)]
    return name[:-4] if name.lower().endswith(".seg") and extension == ".nrrd" else name


def image_files(folder: Path) -> list[Path]:
    """The image files in a folder, sorted; hidden ones left out."""
    files = folder.iterdir() if folder.is_dir() else iter(())
    return sorted(f for f in files if f.name.lower().endswith(EXTENSIONS) and not f.name.startswith("."))


def _place_of(meaning: int, names: Sequence[str]) -> int:
    """The value among a recipe's names of what means 1 liver, 2 a tumour of any type, 0 anything else."""
    name = {LIVER: "liver", TUMOUR: "tumour"}.get(meaning, "")
    if name in names:
        return names.index(name)
    return _NO_SUCH_TYPE if meaning == TUMOUR else 0


def _renumbered(labels: sitk.Image, values: Sequence[int]) -> sitk.Image:
    """The labels with `values[n]` for each n."""
    result = sitk.GetImageFromArray(np.array(values, np.uint8)[sitk.GetArrayViewFromImage(labels)])
    result.CopyInformation(labels)
    return result


def _listed(values: np.ndarray) -> str:
    """The first few of the values that are no labels."""
    others = np.unique(values[(values != 0) & (values != 1) & (values != 2)])
    shown = ", ".join(f"{value:g}" for value in others[:5])
    return f"{shown}{', ...' if others.size > 5 else ''}"
