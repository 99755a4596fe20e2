"""What only the application has, not `slicer-core`: views, DICOM's database, its export. Without it nothing happens."""

from __future__ import annotations

from typing import Any

import slicer


def centre_3d() -> None:
    """Turn the 3D views towards what they show; there are none without a main window."""
    if slicer.app.layoutManager() is not None:
        slicer.app.layoutManager().resetThreeDViews()


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
