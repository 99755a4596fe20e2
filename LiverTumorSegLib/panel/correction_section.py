"""The section Correction: Slicer's segment editor, set up so that liver and tumours never leave a hole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import scene
from .collaborators import Node

_EDITOR_TAG, _EDITOR_CLASS = "LiverTumorSeg", "vtkMRMLSegmentEditorNode"


class CorrectionSection:
    """Owns what the embedded `qMRMLSegmentEditorWidget` needs of its module.

    The editor's node is not the one of Slicer's own Segment Editor: of two widgets with one node, both act on a stroke,
    also the one that is not seen, and only the older one can undo it. Our widget wants the node before the scene, no
    effect and no shortcuts while another module is open, and nothing of a scene that closes.

    Attributes:
        on_change: told what voxels change in the segmentation, or None.
    """

    def __init__(self, ui: Any, mrml_scene: Node) -> None:
        """Args: the panel's controls, and the application's scene."""
        self._editor, self._scene = ui.segmentEditorWidget, mrml_scene
        self._keeper: scene.LiverKeeper | None = None
        self.on_change: Callable[[scene.Change], None] | None = None
        self._node: Node | None = None
        self._entered = False
        self._editor.setMRMLSegmentEditorNode(self._editor_node())
        self._editor.setMRMLScene(mrml_scene)
        ui.correctionCollapsibleButton.connect("contentsCollapsed(bool)", self._on_collapsed)

    def show(self, segmentation_node: Node | None, volume_node: Node | None) -> None:
        """Edit this segmentation from now on, or none."""
        # A scene that is added to this one brings what its editor had.
        if segmentation_node is not self._node or self._editor.segmentationNode() is not segmentation_node:
            self._stop_keeper()
            self._node = segmentation_node
            self._editor.setActiveEffect(None)
            self._editor.setSegmentationNode(segmentation_node)
            if segmentation_node is not None:
                scene.prepare_editor(self._editor_node(), segmentation_node)
                self._keeper = scene.LiverKeeper(segmentation_node, self._tell)
        if volume_node is not self._editor.sourceVolumeNode():
            self._editor.setSourceVolumeNode(volume_node)

    def save_for_undo(self, segmentation_node: Node) -> None:
        """Note the state, so that the editor's Undo brings it back."""
        if self._editor.segmentationNode() is not segmentation_node:
            self._editor.setSegmentationNode(segmentation_node)
        self._editor.saveStateForUndo()

    def enter(self) -> None:
        """The module is opened."""
        self._entered = True
        self._editor.setMRMLSegmentEditorNode(self._editor_node())
        self._editor.updateWidgetFromMRML()
        self._editor.setupViewObservations()
        self._editor.installKeyboardShortcuts()

    def exit(self) -> None:
        """Another module is opened."""
        if self._entered:
            self._entered = False
            self._editor.setActiveEffect(None)
            self._editor.uninstallKeyboardShortcuts()
            self._editor.removeViewObservations()

    def scene_closes(self) -> None:
        """Let go of everything in the scene."""
        self._stop_keeper()
        self._node = None
        self._editor.setActiveEffect(None)
        self._editor.setSegmentationNode(None)
        self._editor.removeViewObservations()

    def scene_closed(self) -> None:
        """The scene is empty, and the editor's node was removed with it."""
        self._editor.setMRMLSegmentEditorNode(self._editor_node())
        if self._entered:
            self._editor.updateWidgetFromMRML()
            self._editor.setupViewObservations()

    def close(self) -> None:
        """The panel ends."""
        self.exit()
        self._stop_keeper()
        self._editor.setSegmentationNode(None)
        self._editor.setMRMLSegmentEditorNode(None)  # a panel that is read anew only hides the widgets that it had

    @property
    def editor_node(self) -> Node:
        """The editor's node, where effect and selected segment are."""
        return self._editor_node()

    def _tell(self, change: scene.Change) -> None:
        if self.on_change is not None:
            self.on_change(change)

    def _stop_keeper(self) -> None:
        if self._keeper is not None:
            self._keeper.stop()
            self._keeper = None

    def _editor_node(self) -> Node:
        node = self._scene.GetSingletonNode(_EDITOR_TAG, _EDITOR_CLASS)
        if node is None:
            node = self._scene.CreateNodeByClass(_EDITOR_CLASS)
            node.UnRegister(None)
            node.SetSingletonTag(_EDITOR_TAG)
            node = self._scene.AddNode(node)
        return node

    def _on_collapsed(self, collapsed: bool) -> None:
        if collapsed:
            self._editor.setActiveEffect(None)
