"""The segmentation that a reader starts from: its labels, its fingerprint, what made it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import SimpleITK as sitk

    from ..segmentation import Segmentation


def labels_of(reference: Segmentation | sitk.Image) -> sitk.Image:
    """The label map itself."""
    labels: sitk.Image = getattr(reference, "labels", reference)  # type: ignore[arg-type]
    return labels


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
