"""Masks, label maps and segmentations that several test files draw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from LiverTumorSegLib.segmentation import Provenance, Segmentation

IDENTITY = (1, 0, 0, 0, 1, 0, 0, 0, 1)
# Columns: i to the patient's right, j back, k up: left-handed.
LEFT_HANDED = (-1, 0, 0, 0, 1, 0, 0, 0, 1)
# i runs to the back, j up, k to the left: a sagittal scan.
SAGITTAL = (0, 0, 1, 1, 0, 0, 0, 1, 0)


def labels_of(
    tumour: np.ndarray, spacing_mm: Sequence[float] = (1, 1, 1), direction: Sequence[float] = IDENTITY
) -> sitk.Image:
    """Return labels with `tumour` (k, j, i) as label 2 in a liver that fills the volume; the origin is (10, 20, 30)."""
    image = sitk.GetImageFromArray(1 + tumour.astype(np.uint8))
    image.SetSpacing([float(s) for s in spacing_mm])
    image.SetDirection([float(d) for d in direction])
    image.SetOrigin((10.0, 20.0, 30.0))
    return image


def volume_with(*boxes: tuple[slice, slice, slice]) -> np.ndarray:
    """Return (12, 14, 16) voxels that are True in the boxes."""
    volume = np.zeros((12, 14, 16), bool)
    for box in boxes:
        volume[box] = True
    return volume


def provenance_of(image: sitk.Image, modality: str = "CT", warnings: tuple[str, ...] = ()) -> Provenance:
    return Provenance(
        software="LiverTumorSeg 0.1.0",
        bundle="default",
        bundle_version="1.2.3",
        bundle_sha256="abcdef0123456789" * 4,
        recipe="meng2020",
        variant="as_printed",
        modality=modality,
        device="cpu",
        engine="openvino",
        precision="f32",
        size_voxels=image.GetSize(),
        spacing_mm=image.GetSpacing(),
        versions={"numpy": "2.0.0"},
        stages={"whole": {"spacing_mm": (3.0, 3.0, 2.5), "size_voxels": (96, 96, 64)}},
        seconds={"whole: network": 1.25, "labels": 0.5},
        peak_memory_mb=987.6,
        warnings=warnings,
    )


def segmentation_of(image: sitk.Image, labels: sitk.Image, **told: object) -> Segmentation:
    """Return a segmentation made by a made-up bundle; `told` are arguments of `provenance_of`."""
    return Segmentation(labels, image, provenance_of(image, **told))  # type: ignore[arg-type]


def make_segmentation(
    tumours: Sequence[int] = (4, 1), direction: Sequence[float] = (1, 0, 0, 0, 1, 0, 0, 0, 1)
) -> Segmentation:
    """Return a liver of 8 x 9 x 6 voxels of 2 x 3 x 4 mm holding rows of so many tumour voxels; a CT of 50 HU."""
    array = np.zeros((8, 12, 14), np.uint8)
    array[1:7, 1:10, 2:10] = 1
    for row, length in enumerate(tumours):
        array[2 + 2 * row, 4, 3 : 3 + length] = 2
    labels = sitk.GetImageFromArray(array)
    labels.SetSpacing((2.0, 3.0, 4.0))
    labels.SetOrigin((-11.5, 22.25, 7.0))
    labels.SetDirection([float(d) for d in direction])
    image = sitk.Cast(labels, sitk.sitkInt16) * 0 + 50
    labels.SetMetaData("0010|0010", "Doe^Jane")
    bundle = {"bundle": "tiny", "bundle_version": "1", "bundle_sha256": "0" * 64}
    recipe = {"recipe": "one stage", "variant": "repaired", "modality": "CT"}
    engine = {"device": "cpu", "engine": "none", "precision": "f32"}
    grid = {"size_voxels": labels.GetSize(), "spacing_mm": labels.GetSpacing()}
    warnings = ("the scan is µ-small",)
    provenance = Provenance("LiverTumorSeg 9.9", **bundle, **recipe, **engine, **grid, warnings=warnings)
    return Segmentation(labels, image, provenance)
