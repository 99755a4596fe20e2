"""Where a scan has gone since it was segmented: under a transform, by hardening one, by another origin."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk
import slicer

from ..errors import OutputError
from ..lesions import LesionKind
from ..segmentation import Segmentation
from .volumes import ijk_to_ras_of, placed, same_place, voxels_of_volume, world_matrix


def movement_of(image: sitk.Image, volume_node: slicer.vtkMRMLScalarVolumeNode) -> np.ndarray:
    """From where a scan's voxels lay to where they lie now.

    Args:
        image: what `image_from_volume` said of the volume then.
        volume_node: the same volume now.

    Returns:
        4 x 4, RAS mm in the world then -> RAS mm in the world now.

    Raises:
        OutputError: the volume lies elsewhere and has other voxels, so nothing tells where each of them went.
        ImageError: it lies under a warp, or its axes are not at right angles.
    """
    if same_place(image, volume_node):
        return np.eye(4)
    now = voxels_of_volume(volume_node)
    if not np.array_equal(sitk.GetArrayViewFromImage(image), now, equal_nan=True):
        raise OutputError(f"{volume_node.GetName()}: wanted the scan that was segmented, got other voxels elsewhere")
    return world_matrix(volume_node) @ np.linalg.inv(ijk_to_ras_of(image))


def moved_image(image: sitk.Image, movement: np.ndarray, volume_node: slicer.vtkMRMLScalarVolumeNode) -> sitk.Image:
    """An image of the same voxels that lies elsewhere.

    Args:
        image: in the world then (LPS).
        movement: from `movement_of`.
        volume_node: the volume that moved; named in errors.

    Raises:
        ImageError: the image's axes would not be at right angles.
    """
    if np.array_equal(movement, np.eye(4)):
        return image
    return placed(sitk.GetArrayViewFromImage(image), movement @ ijk_to_ras_of(image), volume_node)


def moved_kinds(kinds: Sequence[LesionKind], movement: np.ndarray) -> tuple[LesionKind, ...]:
    """Sorts of lesions at the places that moved with the scan; see `movement_of`."""
    moved = []
    for kind in kinds:
        right, front, up = (movement @ [*kind.place_ras_mm, 1.0])[:3].tolist()
        moved.append(dataclasses.replace(kind, place_ras_mm=(right, front, up)))
    return tuple(moved)


def labels_now(segmentation: Segmentation, volume_node: slicer.vtkMRMLScalarVolumeNode) -> sitk.Image:
    """The labels of a result where its scan lies now.

    Raises:
        OutputError, ImageError: nothing tells where that is; see `movement_of`.
    """
    return moved_image(segmentation.labels, movement_of(segmentation.image, volume_node), volume_node)
