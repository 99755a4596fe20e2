"""Structures of the abdomen as label arrays: the drawing that a synthetic scan is painted from.

Arrays are (k, j, i) with k towards the head, j towards the back and i towards the patient's left
(SimpleITK's LPS), on an isotropic grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from ...datasets.cases import read_mapped_labels
from ...errors import ImageError

SPACING_MM = 2.0


class Tissue(IntEnum):
    """What a voxel is made of."""

    AIR = 0
    LIVER = 1
    LESION = 2
    SPLEEN = 3
    KIDNEY = 4
    GALLBLADDER = 5
    OESOPHAGUS = 6
    STOMACH = 7
    AORTA = 8
    VENA_CAVA = 9
    PORTAL_VEIN = 10
    PANCREAS = 11
    ADRENAL = 12
    BOWEL_WALL = 13
    BOWEL_CONTENT = 14
    GAS = 15
    VISCERAL_FAT = 16
    SUBCUTANEOUS_FAT = 17
    SKIN = 18
    MUSCLE = 19
    CORTICAL_BONE = 20
    MARROW = 21
    LUNG = 22
    HEART = 23
    HEPATIC_VEIN = 24
    STOMACH_CONTENT = 25
    URINE = 26
    SPINAL_CANAL = 27
    DISC = 28
    TABLE = 29
    LUNG_VESSEL = 30
    ARTERY = 31
    CYST = 32
    MASS = 33
    DUCT = 34
    FLUID = 35
    PORTAL_BRANCH = 36


VESSELS_OF_LIVER = (Tissue.HEPATIC_VEIN, Tissue.PORTAL_BRANCH)
LIVER_TISSUES = (Tissue.LIVER, *VESSELS_OF_LIVER, Tissue.LESION, Tissue.CYST, Tissue.DUCT)

# Label values of public multi-organ data sets -> tissue; what is not named here becomes background.
BTCV = {
    1: Tissue.SPLEEN,
    2: Tissue.KIDNEY,
    3: Tissue.KIDNEY,
    4: Tissue.GALLBLADDER,
    5: Tissue.OESOPHAGUS,
    6: Tissue.LIVER,
    7: Tissue.STOMACH,
    8: Tissue.AORTA,
    9: Tissue.VENA_CAVA,
    10: Tissue.PORTAL_VEIN,
    11: Tissue.PANCREAS,
    12: Tissue.ADRENAL,
    13: Tissue.ADRENAL,
}
AMOS = {
    **{value: BTCV[value] for value in range(1, 10)},
    10: Tissue.PANCREAS,
    11: Tissue.ADRENAL,
    12: Tissue.ADRENAL,
    13: Tissue.BOWEL_WALL,
    14: Tissue.URINE,
    15: Tissue.MUSCLE,
}
SPL_ATLAS = {
    3: Tissue.LIVER,
    4: Tissue.SPLEEN,
    6: Tissue.PANCREAS,
    7: Tissue.AORTA,
    8: Tissue.VENA_CAVA,
    9: Tissue.BOWEL_WALL,
    10: Tissue.GALLBLADDER,
    12: Tissue.PORTAL_VEIN,
    13: Tissue.STOMACH,
    51: Tissue.KIDNEY,
    52: Tissue.KIDNEY,
    111: Tissue.ADRENAL,
    112: Tissue.ADRENAL,
    117: Tissue.PORTAL_VEIN,
    151: Tissue.HEPATIC_VEIN,
    152: Tissue.HEPATIC_VEIN,
    153: Tissue.HEPATIC_VEIN,
}


@dataclass(frozen=True)
class Anatomy:
    """One body, or the organs of one before the rest is drawn around them.

    Attributes:
        tissues: uint8 (k, j, i) array of `Tissue` values, isotropic at `SPACING_MM`.
        source: where it came from: a label map's file name, or "procedural".
    """

    tissues: np.ndarray
    source: str

    @cached_property
    def liver_rows(self) -> np.ndarray:
        """The slices with liver in them, from the lowest to the highest k; two voxels' steps within a slice will do."""
        return np.flatnonzero((self.tissues[:, ::2, ::2] == Tissue.LIVER).any((1, 2)))

    @cached_property
    def middle(self) -> np.ndarray:
        """The middle (j, i) of all that is not air, in voxels."""
        body = np.argwhere((self.tissues[::4] != Tissue.AIR).any(0))
        return np.asarray((body.min(0) + body.max(0)) / 2)

    def on(self, device: torch.device | str) -> torch.Tensor:
        """The tissues on a device, brought there once."""
        place = str(torch.device(device))
        if place not in self._placed:
            self._placed[place] = torch.as_tensor(self.tissues, device=device)
        return self._placed[place]

    @cached_property
    def _placed(self) -> dict[str, torch.Tensor]:
        return {}


def labelmap_files(folder: Path) -> list[tuple[Path, Mapping[int, Tissue]]]:
    """The label maps in `folder` (searched recursively) with what their values mean, in a fixed order.

    The meaning follows from the name of the folder a file lies in: it contains "btcv", "amos" or
    "spl_atlas".

    Raises:
        ImageError: there is none.
    """
    meanings = {"btcv": BTCV, "amos": AMOS, "spl_atlas": SPL_ATLAS}
    found: list[tuple[Path, Mapping[int, Tissue]]] = [
        (file, meaning)
        for file in sorted(Path(folder).rglob("*"))
        if file.name.endswith((".nii.gz", ".nii", ".nrrd"))
        for key, meaning in meanings.items()
        if key in file.parent.name.lower() and "labelmap" in file.parent.name.lower()
    ]
    if not found:
        raise ImageError(
            f"{folder}: wanted folders named labelmap*_btcv, labelmap*_amos or labelmap*_spl_atlas with label maps, "
            "got none"
        )
    return found


def organs_from_labelmap(path: Path, meaning: Mapping[int, Tissue]) -> Anatomy:
    """The labelled organs of one file on the working grid; everything unlabelled is `Tissue.AIR`.

    Raises:
        ImageError: it cannot be read or is not one 3D volume.
    """
    image = sitk.DICOMOrient(read_mapped_labels(path, values=meaning), "LPS")
    organs = sitk.GetImageFromArray(sitk.GetArrayFromImage(image))
    organs.SetSpacing(_true_spacing(image.GetSpacing()) if meaning is SPL_ATLAS else image.GetSpacing())
    size = [round(n * s / SPACING_MM) for n, s in zip(organs.GetSize(), organs.GetSpacing(), strict=True)]
    grid = sitk.Image(size, sitk.sitkUInt8)
    grid.SetSpacing([SPACING_MM] * 3)
    # Half a voxel's shift keeps the field of view: both grids then share their outer corner.
    grid.SetOrigin([(SPACING_MM - s) / 2 for s in organs.GetSpacing()])
    resampled = sitk.Resample(organs, grid, sitk.Transform(), sitk.sitkLabelLinear)
    return Anatomy(sitk.GetArrayFromImage(resampled), path.name)


def _true_spacing(told_mm: tuple[float, ...]) -> tuple[float, ...]:
    """Of the SPL atlas of 2015, whose header would make a man of half size: vertebrae 17.5 mm apart, 0.24 l of liver.

    With one and a half times its in-plane spacing and twice its slices they are 35 mm apart, and the liver has 1.1 l.
    """
    wrong = np.allclose(told_mm, (0.9375, 0.9375, 1.5), atol=1e-3)
    return (1.40625, 1.40625, 3.0) if wrong else told_mm
