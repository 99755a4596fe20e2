"""A stand-in for qMRMLNodeComboBox: the nodes of a scene, by type."""

from __future__ import annotations

from typing import ClassVar

import slicer
import vtk
from PySide6.QtCore import Property, Signal
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QSizePolicy, QWidget

from .mrml_widgets import Watch
from .ui_loader import for_designer, stored

SCENE_CHANGES = ("NodeAddedEvent", "NodeRemovedEvent", "EndBatchProcessEvent", "EndCloseEvent", "EndImportEvent")


@for_designer
class qMRMLNodeComboBox(QWidget):
    """Without `noneEnabled`, there is a current node as soon as there is any node."""

    currentNodeChanged = Signal(object)
    currentNodeValid = Signal(bool)
    currentNodeIDChanged = Signal(str)
    nodeActivated = Signal(object)
    nodeAdded = Signal(object)
    nodeAddedByUser = Signal(object)
    nodeAddedByUserAction = Signal(object)
    cppSignals: ClassVar = {
        "currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged",
        "currentNodeChanged(bool)": "currentNodeValid",
        "nodeActivated(vtkMRMLNode*)": "nodeActivated",
        "nodeAdded(vtkMRMLNode*)": "nodeAdded",
        "nodeAddedByUser(vtkMRMLNode*)": "nodeAddedByUser",
        "nodeAddedByUserAction(vtkMRMLNode*)": "nodeAddedByUserAction",
    }
    noneEnabled, setNoneEnabled = stored("noneEnabled", bool, False)
    noneDisplay, setNoneDisplay = stored("noneDisplay", str, "None")
    addEnabled, setAddEnabled = stored("addEnabled", bool, True)
    removeEnabled, setRemoveEnabled = stored("removeEnabled", bool, True)
    renameEnabled, setRenameEnabled = stored("renameEnabled", bool, False)
    editEnabled, setEditEnabled = stored("editEnabled", bool, False)
    selectNodeUponCreation, setSelectNodeUponCreation = stored("selectNodeUponCreation", bool, True)
    showHidden, setShowHidden = stored("showHidden", bool, False)
    showChildNodeTypes, setShowChildNodeTypes = stored("showChildNodeTypes", bool, True)
    hideChildNodeTypes, setHideChildNodeTypes = stored("hideChildNodeTypes", "QStringList", [])
    nodeTypes, setNodeTypes = stored("nodeTypes", "QStringList", [])
    baseName, setBaseName = stored("baseName", str, "")

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self._box = QComboBox(self)
        self._box.setSizeAdjustPolicy(QComboBox.AdjustToMinimumContentsLengthWithIcon)
        self._box.setMinimumContentsLength(8)
        self.setSizePolicy(QSizePolicy.MinimumExpanding, QSizePolicy.Fixed)
        self._box.setSizePolicy(QSizePolicy.MinimumExpanding, QSizePolicy.Fixed)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._box)
        self._scene = None
        self._current = ""
        self._attributes: list[tuple[str, str, object]] = []
        self._scene_watch, self._name_watch = Watch(self, "settle"), Watch(self, "_rename")
        self._box.activated.connect(self._on_activated)

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene) -> None:
        self._scene_watch.stop()
        self._scene = scene
        if scene is not None:
            self._scene_watch.start(scene, *(getattr(slicer.vtkMRMLScene, name) for name in SCENE_CHANGES))
        self.settle()

    def addAttribute(self, node_type: str, name: str, value=None) -> None:
        self._attributes.append((node_type, name, value))
        self.settle()

    def nodes(self) -> list:
        if self._scene is None:
            return []
        found = [self._scene.GetNthNode(n) for n in range(self._scene.GetNumberOfNodes())]
        return [node for node in found if self._shows(node)]

    def _shows(self, node) -> bool:
        fits = node.IsA if self.showChildNodeTypes else node.GetClassName().__eq__
        if not any(fits(kind) for kind in self.nodeTypes) or (node.GetHideFromEditors() and not self.showHidden):
            return False
        if any(node.IsA(kind) for kind in self.hideChildNodeTypes):
            return False
        return all(
            node.GetAttribute(name) is not None and value in (None, node.GetAttribute(name))
            for kind, name, value in self._attributes
            if node.IsA(kind)
        )

    def nodeCount(self) -> int:
        return len(self.nodes())

    def nodeFromIndex(self, index: int):
        nodes = self.nodes()
        return nodes[index] if 0 <= index < len(nodes) else None

    def currentNode(self):
        return self._scene.GetNodeByID(self._current) if self._scene is not None and self._current else None

    def setCurrentNode(self, node) -> None:
        self.setCurrentNodeID(node if isinstance(node, str) else node.GetID() if node is not None else "")

    def setCurrentNodeID(self, node_id: str) -> None:
        known = {node.GetID() for node in self.nodes()}
        self._select(node_id if node_id in known else "")

    def setCurrentNodeIndex(self, index: int) -> None:
        self.setCurrentNode(self.nodeFromIndex(index))

    currentNodeID = Property(str, lambda self: self._current, setCurrentNodeID, notify=currentNodeIDChanged)

    def addNode(self, node_type: str = ""):
        """What choosing "Create new …" does."""
        kind = node_type or self.nodeTypes[0]
        node = self._scene.CreateNodeByClass(kind)
        node.UnRegister(None)
        for attribute_type, name, value in self._attributes:
            if node.IsA(attribute_type):
                node.SetAttribute(name, value or "")
        node.SetName(self._scene.GenerateUniqueName(self.baseName or node.GetNodeTagName()))
        node = self._scene.AddNode(node)
        if self.selectNodeUponCreation:
            self.setCurrentNode(node)
        self.nodeAdded.emit(node)
        self.nodeAddedByUser.emit(node)
        self.nodeAddedByUserAction.emit(node)
        return node

    def removeCurrentNode(self) -> None:
        self._scene.RemoveNode(self.currentNode())

    def settle(self) -> None:
        """Show the nodes as they are now; in the middle of loading or closing a scene, wait for its end."""
        if self._scene is not None and self._scene.IsBatchProcessing():
            return
        nodes = self.nodes()
        self.setEnabled(self._scene is not None)
        self._name_watch.stop()
        self._box.clear()
        if self.noneEnabled:
            self._box.addItem(self.noneDisplay, "")
        for node in nodes:
            self._box.addItem(node.GetName(), node.GetID())
            self._name_watch.start(node, vtk.vtkCommand.ModifiedEvent)
        kept = self._current in {node.GetID() for node in nodes}
        first = nodes[0].GetID() if nodes and not self.noneEnabled else ""
        self._select(self._current if kept else first)

    def _rename(self) -> None:
        for index in range(self._box.count):
            node = self._scene.GetNodeByID(self._box.itemData(index) or "-") if self._scene is not None else None
            if node is not None:
                self._box.setItemText(index, node.GetName())

    def _select(self, node_id: str) -> None:
        self._box.setCurrentIndex(self._box.findData(node_id))
        if node_id != self._current:
            self._current = node_id
            self.currentNodeChanged.emit(self.currentNode())
            self.currentNodeValid.emit(bool(node_id))
            self.currentNodeIDChanged.emit(node_id)

    def _on_activated(self, index: int) -> None:
        self._select(self._box.itemData(index) or "")
        self.nodeActivated.emit(self.currentNode())
