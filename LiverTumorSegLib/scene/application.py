"""What only the application has, not `slicer-core`: views, DICOM's database, its export. Without it nothing happens."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import slicer


def centre_3d() -> None:
    """Turn the 3D views towards what they show; there are none without a main window."""
    if slicer.app.layoutManager() is not None:
        slicer.app.layoutManager().resetThreeDViews()


def view_interactors() -> list[Any]:
    """Where the pointer goes down: the interactors of the slice and 3D views; none without a main window."""
    layout = slicer.app.layoutManager()
    if layout is None:
        return []
    views = [layout.sliceWidget(name).sliceView() for name in layout.sliceViewNames()]
    views += [layout.threeDWidget(number).threeDView() for number in range(layout.threeDViewCount)]
    return [view.interactor() for view in views]


def errors_shown(message: str) -> AbstractContextManager[Any]:
    """Show what goes wrong inside the block in a box, below a message; it is raised all the same."""
    shown: AbstractContextManager[Any] = slicer.util.tryWithErrorDisplay(message)
    return shown


def show_scan(volume_node: Any) -> None:
    """Show a scan in all slice views, which are fitted to it; by itself, Slicer shows only what its readers load."""
    if volume_node.GetScene() is getattr(slicer, "mrmlScene", None):
        slicer.util.setSliceViewerLayers(background=volume_node, foreground=None, label=None, fit=True)


def show_alone(volume_node: Any, segmentation_node: Any) -> None:
    """Show a scan, and of all segmentations of its scene this one."""
    show_scan(volume_node)
    mrml_scene, kind = volume_node.GetScene(), "vtkMRMLSegmentationNode"
    for number in range(mrml_scene.GetNumberOfNodesByClass(kind)):
        each = mrml_scene.GetNthNodeByClass(number, kind)
        each.SetDisplayVisibility(each is segmentation_node)


def series_description(volume_node: Any) -> str:
    """What DICOM says of the series that a volume came from, or nothing; the volume may have another name by now."""
    uids = (volume_node.GetAttribute("DICOM.instanceUIDs") or "").split()
    database = getattr(slicer, "dicomDatabase", None)
    return str(database.instanceValue(uids[0], "0008,103e")) if uids and database is not None else ""


def export_dicom(segmentation_node: Any) -> None:
    """Open Slicer's own export with a segmentation selected; a scan from DICOM tells it where the result belongs.

    Raises:
        RuntimeError: there is none.
    """
    if not hasattr(slicer, "qSlicerDICOMExportDialog"):
        raise RuntimeError("This Slicer has no DICOM export.")
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    dialog = slicer.qSlicerDICOMExportDialog(None)
    dialog.setMRMLScene(slicer.mrmlScene)
    dialog.execDialog(hierarchy.GetItemByDataNode(segmentation_node))
