"""Volume nodes <-> scans, and where a volume's voxels lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from ..errors import ImageError

LPS_TO_RAS = np.diag((-1.0, -1.0, 1.0))


def image_from_volume(volume_node: slicer.vtkMRMLScalarVolumeNode) -> sitk.Image:
    """A volume node as a scan, where it lies in the world: a linear parent transform is applied.

    Args:
        volume_node: a scalar volume with voxels.

    Returns:
        A copy in LPS, of the same type and voxel order; its metadata has "Modality" if the volume
        came from DICOM.

    Raises:
        ImageError: no voxels, several numbers a voxel, a warp as parent transform, or axes that are
            not at right angles.
    """
    image = placed(voxels_of_volume(volume_node), world_matrix(volume_node), volume_node)
    modality = _dicom_modality(volume_node)
    if modality:
        image.SetMetaData("Modality", modality)
    return image


def add_volume(image: sitk.Image, scene: slicer.vtkMRMLScene, name: str) -> slicer.vtkMRMLScalarVolumeNode:
    """A scan as a new volume node; the inverse of `image_from_volume`.

    Args:
        image: 3D scalar image.
        scene: where the node goes.
        name: of the node.
    """
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    voxels = vtk.vtkImageData()
    voxels.SetDimensions(*image.GetSize())
    array = sitk.GetArrayFromImage(image)
    voxels.GetPointData().SetScalars(numpy_to_vtk(array.ravel(), deep=True))
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ijk_to_ras_of(image)))
    node.SetAndObserveImageData(voxels)
    node.CreateDefaultDisplayNodes()
    return node


def voxels_of_volume(volume_node: Any) -> np.ndarray:
    """The voxels themselves, (k, j, i), not a copy.

    Raises:
        ImageError: no voxels, or several numbers a voxel.
    """
    name, voxels = volume_node.GetName(), volume_node.GetImageData()
    if voxels is None or voxels.GetPointData().GetScalars() is None:
        raise ImageError(f"{name}: wanted a volume with voxels, got an empty one")
    if voxels.GetNumberOfScalarComponents() != 1:
        raise ImageError(f"{name}: wanted one number a voxel, got {voxels.GetNumberOfScalarComponents()}")
    return np.asarray(vtk_to_numpy(voxels.GetPointData().GetScalars()).reshape(voxels.GetDimensions()[::-1]))


def ijk_to_ras(volume_node: Any) -> np.ndarray:
    """4 x 4: a volume's voxel indices -> RAS mm, without its parent transform."""
    matrix = vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASMatrix(matrix)
    return np.asarray(slicer.util.arrayFromVTKMatrix(matrix))


def ijk_to_ras_of(image: sitk.Image) -> np.ndarray:
    """4 x 4: an image's voxel indices -> RAS mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = LPS_TO_RAS @ np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    matrix[:3, 3] = LPS_TO_RAS @ image.GetOrigin()
    return matrix


def world_matrix(volume_node: Any) -> np.ndarray:
    """4 x 4: a volume's voxel indices -> RAS mm in the world, its parent transform included.

    Raises:
        ImageError: the parent transform is a warp.
    """
    return parent_matrix(volume_node) @ ijk_to_ras(volume_node)


def parent_matrix(node: Any) -> np.ndarray:
    """4 x 4: the frame of a node -> world, RAS mm.

    Raises:
        ImageError: the parent transform is a warp.
    """
    transform = node.GetParentTransformNode()
    to_world = vtk.vtkMatrix4x4()
    if transform is not None:
        if not transform.IsTransformToWorldLinear():
            raise ImageError(
                f"{node.GetName()}: wanted no parent transform or a linear one, "
                f"got the warp {transform.GetName()}; harden it"
            )
        transform.GetMatrixTransformToWorld(to_world)
    return np.asarray(slicer.util.arrayFromVTKMatrix(to_world))


def placed(array: np.ndarray, matrix: np.ndarray, node: Any) -> sitk.Image:
    """A (k, j, i) array as an image in LPS.

    Args:
        array: voxels.
        matrix: 4 x 4, voxel indices -> RAS mm.
        node: whose voxels they are; named in errors.

    Raises:
        ImageError: axes that are not at right angles.
    """
    image = sitk.GetImageFromArray(array)
    origin, spacing, direction = _lps_geometry(matrix, node)
    image.SetOrigin(origin.tolist())
    image.SetSpacing(spacing.tolist())
    image.SetDirection(direction.ravel().tolist())
    return image


def same_place(image: sitk.Image, volume_node: Any) -> bool:
    """Whether an image of the volume's size lies where the volume does, transform included."""
    here = np.concatenate([part.ravel() for part in _lps_geometry(world_matrix(volume_node), volume_node)])
    there = np.concatenate([image.GetOrigin(), image.GetSpacing(), image.GetDirection()])
    return bool(np.allclose(here, there, rtol=1e-5, atol=1e-3))


def subject_hierarchy(node: Any) -> Any:
    """The subject hierarchy of a node's scene, or None."""
    scene = node.GetScene()
    return scene.GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode") if scene is not None else None


def _lps_geometry(matrix: np.ndarray, node: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Origin (mm), spacing (mm) and 3 x 3 direction (columns are the axes i, j, k) in LPS."""
    axes = LPS_TO_RAS @ matrix[:3, :3]
    spacing = np.linalg.norm(axes, axis=0).round(12)  # 0.8, where the matrix has made it 0.8000000000000004
    direction = axes / np.where(spacing > 0, spacing, 1)
    if not np.abs(direction.T @ direction - np.eye(3)).max() <= 0.01:  # NaN neither
        transform = node.GetParentTransformNode()
        under = f" under the transform {transform.GetName()}" if transform is not None else ""
        raise ImageError(
            f"{node.GetName()}: wanted axes at right angles, got directions {direction.round(3).tolist()}{under}"
        )
    return LPS_TO_RAS @ matrix[:3, 3], spacing, direction


def _dicom_modality(volume_node: Any) -> str:
    """What Slicer's DICOM import noted of the series, or nothing."""
    hierarchy = subject_hierarchy(volume_node)
    item = hierarchy.GetItemByDataNode(volume_node) if hierarchy is not None else 0
    key = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMSeriesModalityAttributeName()
    return str(hierarchy.GetItemAttribute(item, key)) if item else ""
