"""A case of a reader study in a scene: its scan, and what the reader starts from, alike in every arm."""

from __future__ import annotations

import SimpleITK as sitk
import slicer

from .. import __version__
from ..errors import LiverTumorSegError
from ..segmentation import Provenance, Segmentation
from .segments import kinds_of, mark_edited
from .volumes import image_from_volume
from .writing import add_segmentation, write_segmentation


def add_labels(
    labels: sitk.Image, volume_node: slicer.vtkMRMLScalarVolumeNode, edited: bool = False
) -> slicer.vtkMRMLSegmentationNode:
    """A label map as a new segmentation of a scan, the tumours as one segment; says nothing of where it came from.

    Args:
        labels: 0, 1 liver, 2 tumour (uint8), on the scan's voxels; may be empty.
        volume_node: the scan.
        edited: a person has worked on them.

    Raises:
        OutputError: the labels are not on the scan's voxels; the scene is as it was.
    """
    nothing = Provenance(
        software=f"LiverTumorSeg {__version__}",
        bundle="correction",
        bundle_version="",
        bundle_sha256="",
        recipe="",
        variant="",
        modality="",
        device="",
        engine="",
        precision="",
        size_voxels=labels.GetSize(),
        spacing_mm=labels.GetSpacing(),
    )
    node = add_segmentation(volume_node)
    try:
        write_segmentation(Segmentation(labels, image_from_volume(volume_node), nothing), node, volume_node)
    except LiverTumorSegError:
        volume_node.GetScene().RemoveNode(node)
        raise
    if edited:
        mark_edited(node, [*kinds_of(node)])
    return node
