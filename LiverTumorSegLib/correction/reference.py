"""The segmentation that a reader starts from: its labels, its fingerprint, what made it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from ..errors import SessionError

if TYPE_CHECKING:
    import SimpleITK as sitk

    from ..segmentation import Segmentation


def labels_of(reference: Segmentation | sitk.Image) -> sitk.Image:
    """The label map itself."""
    labels: sitk.Image = getattr(reference, "labels", reference)  # type: ignore[arg-type]
    return labels


def check_labels(labels: sitk.Image, what: str) -> None:
    """Refuse what is no label map.

    Raises:
        SessionError: not 3D, or not 8-bit 0, 1 and 2; says of `what`.
    """
    import SimpleITK as sitk

    from ..segmentation import TUMOUR

    if labels.GetDimension() != 3:
        raise SessionError(f"{what}: wanted 3D labels, got {labels.GetDimension()}D")
    if labels.GetPixelID() != sitk.sitkUInt8:
        raise SessionError(f"{what}: wanted 8-bit 0, 1, 2, got {labels.GetPixelIDTypeAsString()}")
    highest = int(sitk.GetArrayViewFromImage(labels).max())
    if highest > TUMOUR:
        raise SessionError(f"{what}: wanted 0 background, 1 liver, 2 tumour, got {highest}")


def described(reference: Segmentation | sitk.Image) -> dict[str, Any]:
    """What the reader starts from: the voxels' checksum, and what made them."""
    provenance = getattr(reference, "provenance", None)
    described: dict[str, Any] = {"sha256": fingerprint(reference)}
    for name in ("software", "bundle", "bundle_version", "bundle_sha256", "recipe", "variant", "device"):
        if provenance is not None:
            described[name] = getattr(provenance, name)
    return described


def fingerprint(reference: Segmentation | sitk.Image) -> str:
    """SHA-256 of the voxels, to know the segmentation again."""
    import numpy as np
    import SimpleITK as sitk

    labels = np.ascontiguousarray(sitk.GetArrayViewFromImage(labels_of(reference)))
    return hashlib.sha256(labels.data).hexdigest()
