"""MRML nodes <-> images and segmentations; the only part of the library that knows Slicer.

Slicer's world is RAS (x to the patient's right, y to the front, z to the head); everywhere else in
the library it is LPS. The two differ in the sign of x and y, and are converted here only. A label
map goes into the scene on exactly the voxels of its volume, under the same parent transform.

Works on any scene, with or without Slicer's windows: `pip install slicer-core` has all of it.
"""

from __future__ import annotations

from .application import (
    centre_3d,
    errors_shown,
    export_dicom,
    series_description,
    show_alone,
    show_scan,
    view_interactors,
)
from .cases import add_labels
from .changes import Change
from .editing import LiverKeeper, prepare_editor
from .export import FORMATS, export_segmentation
from .lesions import PlacedLesion, Rejected, Summary, lesions_in, reject_lesion, restore_lesion, summary_of, types_of
from .moving import moved_image, moved_kinds, movement_of
from .packages import ensure_packages
from .segments import ATTRIBUTE_PREFIX, is_edited
from .sessions import note_session, sessions_in
from .tables import LesionRow, lesion_table_of, read_lesion_table, remove_unused_table, write_lesion_table
from .views import jump_to
from .volumes import add_volume, image_from_volume
from .voxels import labels_from_segmentation
from .watching import SessionWatch
from .writing import add_segmentation, check_target, provenance_attributes, redraw, write_segmentation

__all__ = [
    "ATTRIBUTE_PREFIX",
    "FORMATS",
    "Change",
    "LesionRow",
    "LiverKeeper",
    "PlacedLesion",
    "Rejected",
    "SessionWatch",
    "Summary",
    "add_labels",
    "add_segmentation",
    "add_volume",
    "centre_3d",
    "check_target",
    "ensure_packages",
    "errors_shown",
    "export_dicom",
    "export_segmentation",
    "image_from_volume",
    "is_edited",
    "jump_to",
    "labels_from_segmentation",
    "lesion_table_of",
    "lesions_in",
    "moved_image",
    "moved_kinds",
    "movement_of",
    "note_session",
    "prepare_editor",
    "provenance_attributes",
    "read_lesion_table",
    "redraw",
    "reject_lesion",
    "remove_unused_table",
    "restore_lesion",
    "series_description",
    "sessions_in",
    "show_alone",
    "show_scan",
    "summary_of",
    "types_of",
    "view_interactors",
    "write_lesion_table",
    "write_segmentation",
]
