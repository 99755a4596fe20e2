"""The application: a scene, with the logics that segmentations and scene files need, under Slicer's names."""

from __future__ import annotations

import sys
from pathlib import Path

import slicer
import vtk

from . import scripted_module


class Application:
    """Stands in for `slicer.app`; also keeps the logics alive."""

    def __init__(self, cache: Path) -> None:
        self.scene = slicer.vtkMRMLScene()
        self.logic = slicer.vtkSlicerApplicationLogic()
        self.logic.SetMRMLScene(self.scene)
        self.logic.SetSliceLogics(vtk.vtkCollection())
        self.logic.SetViewLogics(vtk.vtkCollection())
        self._add_logic("Colors", self.logic.GetColorLogic())
        self.logic.GetColorLogic().AddDefaultColorNodes()
        # These register the node types and, for segmentations, the conversion to closed surfaces.
        self._add_logic("Segmentations", slicer.vtkSlicerSegmentationsModuleLogic())
        self._add_logic("Volumes", slicer.vtkSlicerVolumesLogic())
        self._add_logic("SubjectHierarchy", slicer.vtkSlicerSubjectHierarchyModuleLogic())
        self._add_file_transfer(cache)

    def mrmlScene(self):
        return self.scene

    def testingEnabled(self) -> bool:
        return True

    def processEvents(self, flags: int = 0) -> None:
        pass

    def _add_logic(self, name: str, logic) -> None:
        logic.SetMRMLApplicationLogic(self.logic)
        logic.SetMRMLScene(self.scene)
        self.logic.SetModuleLogic(name, logic)

    def _add_file_transfer(self, cache: Path) -> None:
        """Reading a scene file asks for it, though nothing is remote."""
        self._remote = slicer.vtkMRMLRemoteIOLogic()
        self._remote.SetMRMLScene(self.scene)
        self._remote.SetMRMLApplicationLogic(self.logic)
        self._remote.GetCacheManager().SetRemoteCacheDirectory(str(cache))
        self._transfer = slicer.vtkDataIOManagerLogic()
        self._transfer.SetMRMLApplicationLogic(self.logic)
        self._transfer.SetMRMLScene(self.scene)
        self._transfer.SetAndObserveDataIOManager(self._remote.GetDataIOManager())
        self._remote.AddDataIOToScene()


def start(cache: Path) -> Application:
    """Publish the names that a scripted module expects: `slicer.mrmlScene`, `slicer.app`, `ScriptedLoadableModule`."""
    slicer.app = Application(cache)
    slicer.mrmlScene = slicer.app.mrmlScene()
    slicer.ScriptedLoadableModule = scripted_module
    sys.modules["slicer.ScriptedLoadableModule"] = scripted_module
    return slicer.app
