"""The effects of the segment editor, as far as tests use them: their parameters, and strokes of Paint and Erase."""

from __future__ import annotations

import numpy as np
from vtk.util.numpy_support import vtk_to_numpy

EFFECTS = ("Paint", "Draw", "Erase", "Threshold", "Scissors", "Islands", "Smoothing", "Margin", "Grow from seeds")
BEFORE_A_STROKE = ("UpdateReferenceGeometryImage", "ResetModifierLabelmapToDefault", "UpdateMaskLabelmap")


class Effect:
    """Stands in for an effect: its parameters are attributes of the editor's node, as Slicer's are."""

    def __init__(self, name: str, editor) -> None:
        self.name = name
        self._editor = editor

    def setParameter(self, key: str, value: object) -> None:
        self._editor.mrmlSegmentEditorNode().SetAttribute(f"{self.name}.{key}", str(value))

    def parameter(self, key: str) -> str:
        return self._editor.mrmlSegmentEditorNode().GetAttribute(f"{self.name}.{key}") or ""

    def stroke(self, logic, voxels: np.ndarray) -> None:
        """Paint or erase `voxels` ((n, 3): i, j, k) of the selected segment, and keep the state before for undo.

        The mask and the overwrite mode of the editor's node hold, as they do for the real effects.
        """
        modes = {"Paint": logic.ModificationModeAdd, "Erase": logic.ModificationModeRemove}
        if self.name not in modes:
            raise RuntimeError(f"wanted Paint or Erase as the active effect, got {self.name}")
        for update in BEFORE_A_STROKE:
            if not getattr(logic, update)():
                raise RuntimeError(f"{update}: wanted a segmentation with a geometry and segments, got none")
        logic.SaveStateForUndo()
        brush = logic.GetModifierLabelmap()
        array = vtk_to_numpy(brush.GetPointData().GetScalars()).reshape(brush.GetDimensions()[::-1])
        i, j, k = (np.asarray(voxels) - np.array(brush.GetExtent())[::2]).T
        array[k, j, i] = 1
        erasing = self.name == "Erase"
        segment_id = logic.GetCurrentSegmentID()
        logic.ModifySegmentByLabelmap(logic.GetSegmentationNode(), segment_id, brush, modes[self.name], erasing, False)
