"""A stand-in for qMRMLSegmentEditorWidget over Slicer's own editor logic: it really paints, erases and undoes."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import slicer
from PySide6.QtCore import Property, Signal
from PySide6.QtWidgets import QButtonGroup, QGridLayout, QHBoxLayout, QSizePolicy, QToolButton, QVBoxLayout

from .editor_effects import EFFECTS, Effect
from .mrml_widgets import Watch, qMRMLWidget
from .segments_table import qMRMLSegmentsTableView
from .ui_loader import for_designer, stored

COLUMNS = 5


@for_designer
class qMRMLSegmentEditorWidget(qMRMLWidget):
    segmentationNodeChanged = Signal(object)
    sourceVolumeNodeChanged = Signal(object)
    currentSegmentIDChanged = Signal(str)
    cppSignals: ClassVar = {
        "segmentationNodeChanged(vtkMRMLSegmentationNode*)": "segmentationNodeChanged",
        "sourceVolumeNodeChanged(vtkMRMLVolumeNode*)": "sourceVolumeNodeChanged",
    }
    segmentationNodeSelectorVisible, setSegmentationNodeSelectorVisible = stored(
        "segmentationNodeSelectorVisible", bool, True
    )
    sourceVolumeNodeSelectorVisible, setSourceVolumeNodeSelectorVisible = stored(
        "sourceVolumeNodeSelectorVisible", bool, True
    )
    switchToSegmentationsButtonVisible, setSwitchToSegmentationsButtonVisible = stored(
        "switchToSegmentationsButtonVisible", bool, True
    )
    addRemoveSegmentButtonsVisible, setAddRemoveSegmentButtonsVisible = stored(
        "addRemoveSegmentButtonsVisible", bool, True
    )
    specifyGeometryButtonVisible, setSpecifyGeometryButtonVisible = stored("specifyGeometryButtonVisible", bool, True)
    maskingSectionVisible, setMaskingSectionVisible = stored("maskingSectionVisible", bool, True)
    show3DButtonVisible, setShow3DButtonVisible = stored("show3DButtonVisible", bool, True)
    unorderedEffectsVisible, setUnorderedEffectsVisible = stored("unorderedEffectsVisible", bool, True)
    autoShowSourceVolumeNode, setAutoShowSourceVolumeNode = stored("autoShowSourceVolumeNode", bool, True)
    undoEnabled, setUndoEnabled = stored("undoEnabled", bool, True)
    readOnly, setReadOnly = stored("readOnly", bool, False)

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self._logic = slicer.vtkSlicerSegmentEditorLogic()
        self._node = None
        self._segmentation, self._segment_id = None, ""  # as shown
        self._effects = {name: Effect(name, self) for name in EFFECTS}
        self.shortcuts_installed = self.views_observed = False
        self._history = Watch(self, "updateWidgetFromMRML")
        self._history.start(self._logic, slicer.vtkSlicerSegmentEditorLogic.SegmentationHistoryChangedEvent)
        self._node_watch = Watch(self, "updateWidgetFromMRML")
        self._lay_out()
        self._table.selectionChanged.connect(self._on_selection)

    def _lay_out(self) -> None:
        column, self._table = QVBoxLayout(self), qMRMLSegmentsTableView(self)
        column.setContentsMargins(0, 0, 0, 0)
        self._table.setMinimumHeight(110)
        column.addWidget(self._table)
        grid, self._group = QGridLayout(), QButtonGroup(self)
        grid.setSpacing(3)
        self._buttons = {}
        for index, name in enumerate(("None", *EFFECTS)):
            button = self._buttons[name] = self._small_button(name)
            button.setCheckable(True)
            button.clicked.connect(lambda checked, name=name: self.setActiveEffectByName(name))
            self._group.addButton(button)
            grid.addWidget(button, index // COLUMNS, index % COLUMNS)
        column.addLayout(grid)
        self._undo, self._redo = self._small_button("Undo"), self._small_button("Redo")
        row = QHBoxLayout()
        row.addStretch(3)
        for button, call in ((self._undo, self.undo), (self._redo, self.redo)):
            button.clicked.connect(lambda checked, call=call: call())
            row.addWidget(button, 1)
        column.addLayout(row)
        self.updateWidgetFromMRML()

    def _small_button(self, text: str) -> QToolButton:
        button = QToolButton(self)
        button.setText(text)
        button.setSizePolicy(QSizePolicy.Expanding, QSizePolicy.Fixed)
        return button

    def setMRMLScene(self, scene) -> None:
        super().setMRMLScene(scene)
        self._logic.SetMRMLScene(scene)
        self.updateWidgetFromMRML()

    def mrmlSegmentEditorNode(self):
        return self._node

    def setMRMLSegmentEditorNode(self, node) -> None:
        self._node_watch.stop()
        self._node = node
        self._logic.SetSegmentEditorNode(node)
        if node is not None:
            self._node_watch.start(node, "ModifiedEvent")
        self.updateWidgetFromMRML()

    def logic(self):
        return self._logic

    def segmentationNode(self):
        return self._node.GetSegmentationNode() if self._node is not None else None

    def setSegmentationNode(self, node) -> None:
        """Edit another segmentation: no effect is active then, and the first segment is selected."""
        if node is not self.segmentationNode():
            self._logic.SetSegmentationNode(node)
            self.setActiveEffect(None)

    def setSegmentationNodeID(self, node_id: str) -> None:
        self.setSegmentationNode(self.mrmlScene().GetNodeByID(node_id))

    def segmentationNodeID(self) -> str:
        node = self.segmentationNode()
        return node.GetID() if node is not None else ""

    def sourceVolumeNode(self):
        return self._node.GetSourceVolumeNode() if self._node is not None else None

    def setSourceVolumeNode(self, node) -> None:
        if node is not self.sourceVolumeNode():
            self._logic.SetSourceVolumeNode(node)
            self.sourceVolumeNodeChanged.emit(node)

    def setSourceVolumeNodeID(self, node_id: str) -> None:
        self.setSourceVolumeNode(self.mrmlScene().GetNodeByID(node_id))

    def currentSegmentID(self) -> str:
        return (self._node.GetSelectedSegmentID() or "") if self._node is not None else ""

    def setCurrentSegmentID(self, segment_id: str) -> None:
        if self._node is not None:
            self._node.SetSelectedSegmentID(segment_id)

    def _on_selection(self) -> None:
        selected = self._table.selectedSegmentIDs()
        if selected:
            self.setCurrentSegmentID(selected[0])

    def availableEffectNames(self) -> tuple[str, ...]:
        return EFFECTS

    def effectByName(self, name: str) -> Effect | None:
        return self._effects.get(name)

    def activeEffect(self) -> Effect | None:
        return self._effects.get(self._node.GetActiveEffectName() or "") if self._node is not None else None

    def setActiveEffect(self, effect: Effect | None) -> None:
        if self._node is not None:
            self._node.SetActiveEffectName(effect.name if effect else "")

    def setActiveEffectByName(self, name: str) -> None:
        self.setActiveEffect(self._effects.get(name))

    def setEffectNameOrder(self, names) -> None:
        """Slicer puts the effects of these names first."""

    def setupViewObservations(self) -> None:
        self.views_observed = True

    def removeViewObservations(self) -> None:
        self.views_observed = False

    def installKeyboardShortcuts(self, parent=None) -> None:
        self.shortcuts_installed = True

    def uninstallKeyboardShortcuts(self) -> None:
        self.shortcuts_installed = False

    def setMaximumNumberOfUndoStates(self, count: int) -> None:
        self._logic.SetMaximumNumberOfUndoStates(count)

    maximumNumberOfUndoStates = Property(
        int, lambda self: self._logic.GetMaximumNumberOfUndoStates(), setMaximumNumberOfUndoStates
    )

    def saveStateForUndo(self) -> None:
        self._logic.SaveStateForUndo()

    def undo(self) -> None:
        self._logic.Undo()

    def redo(self) -> None:
        self._logic.Redo()

    def updateWidgetFromMRML(self) -> None:
        """Show what the editor's node says; without one, or without a segmentation, nothing can be edited."""
        node = self.segmentationNode()
        if node is not self._segmentation:
            self._show_segmentation(node)
        if self.currentSegmentID() != self._segment_id:
            self._segment_id = self.currentSegmentID()
            self._table.select([self._segment_id])
            self.currentSegmentIDChanged.emit(self._segment_id)
        effect = self.activeEffect()
        self._buttons[effect.name if effect else "None"].setChecked(True)
        for button in self._buttons.values():
            button.setEnabled(node is not None)
        self._undo.setEnabled(node is not None and self._logic.CanUndo())
        self._redo.setEnabled(node is not None and self._logic.CanRedo())

    def _show_segmentation(self, node) -> None:
        self._segmentation = node
        self._table.setSegmentationNode(node)
        if node is not None:
            reference = node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole())
            if reference is not None:
                self.setSourceVolumeNode(reference)
            node.CreateDefaultDisplayNodes()
            if node.GetSegmentation().GetNumberOfSegments():
                self.setCurrentSegmentID(node.GetSegmentation().GetNthSegmentID(0))
        self.segmentationNodeChanged.emit(node)

    def paint(self, voxels: np.ndarray) -> None:
        """Do what a stroke of the active effect does: Paint adds `voxels` ((n, 3): i, j, k), Erase takes them away."""
        effect = self.activeEffect()
        if effect is None:
            raise RuntimeError("wanted Paint or Erase as the active effect, got none")
        effect.stroke(self._logic, voxels)
