"""`slicer.app.layoutManager()`: three slice views and one 3D view over the scene, without windows."""

from __future__ import annotations

import slicer
import vtk

VIEWS = {"Red": "Axial", "Green": "Coronal", "Yellow": "Sagittal"}


class SliceWidget:
    """Stands in for qMRMLSliceWidget: Slicer's own slice logic, its node and its composite node."""

    def __init__(self, name: str, application_logic, scene) -> None:
        self._logic, self._interactor = slicer.vtkMRMLSliceLogic(), vtk.vtkGenericRenderWindowInteractor()
        self._logic.SetMRMLApplicationLogic(application_logic)
        self._logic.SetMRMLScene(scene)
        self.renew(name)
        application_logic.GetSliceLogics().AddItem(self._logic)

    def renew(self, name: str) -> None:
        """Slicer's layout makes the nodes again after the scene was cleared."""
        if self._logic.GetSliceNode() is None or self._logic.GetSliceNode().GetScene() is None:
            node = self._logic.AddSliceNode(name)
            node.SetOrientation(VIEWS[name])

    def sliceLogic(self):
        return self._logic

    def sliceView(self):
        return self

    def interactor(self):
        return self._interactor

    def mrmlSliceNode(self):
        return self._logic.GetSliceNode()


class ThreeDWidget:
    def __init__(self, scene) -> None:
        self._scene, self._interactor = scene, vtk.vtkGenericRenderWindowInteractor()
        self.renew()

    def renew(self) -> None:
        if self._scene.GetFirstNodeByClass("vtkMRMLViewNode") is None:
            node = self._scene.CreateNodeByClass("vtkMRMLViewNode")
            node.UnRegister(None)
            node.SetLayoutName("1")
            node.SetSingletonTag("1")
            self._scene.AddNode(node)

    def mrmlViewNode(self):
        return self._scene.GetFirstNodeByClass("vtkMRMLViewNode")

    def threeDView(self):
        return self

    def interactor(self):
        return self._interactor

    def resetFocalPoint(self) -> None:
        """Slicer centres the camera on what is shown."""


class LayoutManager:
    threeDViewCount = 1

    def __init__(self, application_logic, scene) -> None:
        application_logic.SetSliceLogics(vtk.vtkCollection())
        application_logic.SetViewLogics(vtk.vtkCollection())
        self._logic = application_logic
        self._slices = {name: SliceWidget(name, application_logic, scene) for name in VIEWS}
        self._view = ThreeDWidget(scene)
        scene.AddObserver(slicer.vtkMRMLScene.EndCloseEvent, lambda caller, event: self.renew())

    def renew(self) -> None:
        for name, widget in self._slices.items():
            widget.renew(name)
        self._view.renew()

    def sliceViewNames(self) -> tuple[str, ...]:
        return tuple(self._slices)

    def sliceWidget(self, name: str) -> SliceWidget | None:
        return self._slices.get(name)

    def threeDWidget(self, index: int) -> ThreeDWidget | None:
        return self._view if index == 0 else None

    def mrmlSliceLogics(self):
        return self._logic.GetSliceLogics()

    def resetSliceViews(self) -> None:
        self._logic.FitSliceToAll()

    def resetThreeDViews(self) -> None:
        """Slicer centres the cameras on what is shown."""
