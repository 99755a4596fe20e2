"""Stand-ins for Slicer's widgets over the MRML scene; published as `slicer.qMRML…` and `slicer.qSlicer…`."""

from __future__ import annotations

import weakref
from typing import ClassVar

import shiboken6
import slicer
from PySide6.QtCore import Signal
from PySide6.QtWidgets import QPushButton, QWidget

from .ui_loader import STAND_INS, for_designer


class Watch:
    """What a widget observes; ends by itself when the widget is gone, and never keeps it alive."""

    def __init__(self, widget, call: str) -> None:
        self._widget = weakref.ref(widget)
        self._call = call
        self._tags: list[tuple[object, int]] = []

    def __call__(self, caller, event) -> None:
        widget = self._widget()
        if widget is None or not shiboken6.isValid(widget):
            self.stop()
        else:
            getattr(widget, self._call)()

    def start(self, watched, *events) -> None:
        self._tags += [(watched, watched.AddObserver(event, self)) for event in events]

    def stop(self) -> None:
        for watched, tag in self._tags:
            watched.RemoveObserver(tag)
        self._tags.clear()


@for_designer
class qMRMLWidget(QWidget):
    mrmlSceneChanged = Signal(object)
    cppSignals: ClassVar = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}

    def setMRMLScene(self, scene) -> None:
        if scene is not self.mrmlScene():
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)

    def mrmlScene(self):
        return getattr(self, "_scene", None)


@for_designer
class qSlicerWidget(qMRMLWidget):
    pass


@for_designer
class qMRMLSegmentationShow3DButton(QPushButton):
    """Makes and removes the closed surfaces of a segmentation, and shows whether there are any."""

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self.setText("Show 3D")
        self.setCheckable(True)
        self.setEnabled(False)
        self._node = None
        self._watch = Watch(self, "settle")
        self.clicked.connect(self._on_clicked)

    def setMRMLScene(self, scene) -> None:
        """Slicer's observes the closing of the scene."""

    def segmentationNode(self):
        return self._node

    def setSegmentationNode(self, node) -> None:
        self._watch.stop()
        self._node = node
        if node is not None:
            events = (slicer.vtkSegmentation.ContainedRepresentationNamesModified, slicer.vtkSegmentation.SegmentAdded)
            self._watch.start(node, *events, slicer.vtkSegmentation.SegmentRemoved)
        self.settle()

    def settle(self) -> None:
        segments = self._node.GetSegmentation() if self._node is not None else None
        self.setEnabled(segments is not None)
        self.setChecked(segments is not None and segments.ContainsRepresentation("Closed surface"))

    def _on_clicked(self, checked: bool) -> None:
        if checked:
            self._node.CreateClosedSurfaceRepresentation()
            self._node.CreateDefaultDisplayNodes()
            self._node.GetDisplayNode().SetPreferredDisplayRepresentationName3D("Closed surface")
        else:
            self._node.RemoveClosedSurfaceRepresentation()


def publish() -> None:
    """Put the widgets where Slicer has them; opening the other two files makes theirs known."""
    from . import node_selector, segment_editor  # noqa: F401

    for name, kind in STAND_INS.items():
        if name.startswith(("qMRML", "qSlicer")):
            setattr(slicer, name, kind)
