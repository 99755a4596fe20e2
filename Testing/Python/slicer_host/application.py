"""The application: a scene, with the logics that segmentations and scene files need, under Slicer's names."""

from __future__ import annotations

import os
import sys
import tempfile
import types
from pathlib import Path

import slicer

from . import messages, packaging, parameter_node, sample_data, scripted_module, translation
from .files import FileManager
from .views import LayoutManager

LOGICS = {
    # These register the node types and, for segmentations, the conversion to closed surfaces.
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Volumes": "vtkSlicerVolumesLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Tables": "vtkSlicerTablesLogic",
}


def reason_without_qt() -> str | None:
    """Why there is no Qt here, None where there is."""
    try:
        from PySide6 import QtWidgets  # noqa: F401
    except ImportError as error:
        return f"needs PySide6 (pip install 'LiverTumorSeg[test]') and the libraries that Qt opens: {error}"
    return None


class Application:
    """Stands in for `slicer.app`; also keeps the logics alive.

    A test reads and sets `testing`, `messages` (boxes and their answers), `packages` (what pip was asked) and
    `uncaught` (exceptions that left a slot, which Qt only prints).
    """

    applicationName = "Slicer"
    applicationVersion = "5.13.0"
    majorVersion, minorVersion = 5, 13

    def __init__(self, cache: Path) -> None:
        self.testing = False
        self.messages = messages.Messages()
        self.packages = packaging.Packages()
        self.samples = sample_data.Samples()
        self.uncaught: list[BaseException] = []
        self.temporaryPath = tempfile.mkdtemp(dir=cache)
        self.scene = slicer.vtkMRMLScene()
        self.logic = slicer.vtkSlicerApplicationLogic()
        self.logic.SetMRMLScene(self.scene)
        self._layout = LayoutManager(self.logic, self.scene)
        self._logics = {"Colors": self._added("Colors", self.logic.GetColorLogic())}
        self.logic.GetColorLogic().AddDefaultColorNodes()
        self._logics |= {name: self._added(name, getattr(slicer, kind)()) for name, kind in LOGICS.items()}
        self._files = FileManager(self._logics["Volumes"])
        self._add_file_transfer(cache)
        self._qt = None

    def renew(self) -> None:
        """An empty scene, no messages, and packages as they are: what a test starts with."""
        self.testing = False
        self.messages.clear()
        self.packages.clear()
        self.samples.registered.clear()
        self.scene.Clear(0)
        self.uncaught.clear()

    def mrmlScene(self):
        return self.scene

    def applicationLogic(self):
        return self.logic

    def moduleLogic(self, name: str):
        return self._logics.get(name)

    def layoutManager(self) -> LayoutManager:
        return self._layout

    def coreIOManager(self) -> FileManager:
        return self._files

    def testingEnabled(self) -> bool:
        return self.testing

    def startupEnvironment(self) -> dict[str, str]:
        return dict(os.environ)

    def pauseRender(self) -> None:
        """There is no window to hold back."""

    def resumeRender(self) -> None:
        """There is no window to draw again."""

    def processEvents(self, *arguments) -> None:
        if self._qt is not None:
            self._qt.processEvents(*arguments)

    def start_qt(self) -> None:
        from . import qt_application

        self._qt = qt_application.start(self.uncaught)
        self._settings = qt_application.settings(self.temporaryPath)
        self._manager = qt_application.ModuleManager()
        messages.publish_file_dialogs(self.messages)

    def userSettings(self):
        return self._settings

    settings = userSettings

    def moduleManager(self):
        return self._manager

    def __getattr__(self, name: str):
        # What is not here is the QApplication's, which Slicer's application is: aboutToQuit, setOverrideCursor …
        if name.startswith("_") or self._qt is None:
            raise AttributeError(f"slicer.app: wanted a known name, got {name!r}")
        return getattr(self._qt, name)

    def _added(self, name: str, logic):
        logic.SetMRMLApplicationLogic(self.logic)
        logic.SetMRMLScene(self.scene)
        self.logic.SetModuleLogic(name, logic)
        return logic

    def _add_file_transfer(self, cache: Path) -> None:
        """Reading a scene file asks for it, though nothing is remote."""
        self._remote = slicer.vtkMRMLRemoteIOLogic()
        (cache / ".slicer-cache").touch()  # what tells the cache's manager that the folder is its own
        self._remote.SetMRMLScene(self.scene)
        self._remote.SetMRMLApplicationLogic(self.logic)
        self._remote.GetCacheManager().SetRemoteCacheDirectory(str(cache))
        self._transfer = slicer.vtkDataIOManagerLogic()
        self._transfer.SetMRMLApplicationLogic(self.logic)
        self._transfer.SetMRMLScene(self.scene)
        self._transfer.SetAndObserveDataIOManager(self._remote.GetDataIOManager())
        self._remote.AddDataIOToScene()


def start(cache: Path) -> Application:
    """Publish the names that a scripted module expects, once; with `qt`, `ctk` and the widgets where Qt is there."""
    if isinstance(getattr(slicer, "app", None), Application):
        return slicer.app
    slicer.app = Application(cache)
    slicer.mrmlScene = slicer.app.mrmlScene()
    slicer.modules = types.SimpleNamespace()
    for name, logic in slicer.app._logics.items():
        setattr(slicer.modules, name.lower(), types.SimpleNamespace(name=name, logic=lambda logic=logic: logic))
    slicer.ScriptedLoadableModule = sys.modules["slicer.ScriptedLoadableModule"] = scripted_module
    translation.publish()
    packaging.publish(slicer.app.packages)
    messages.publish(slicer.app.messages)
    sample_data.publish(slicer.app.samples)
    parameter_node.publish()
    if reason_without_qt() is None:
        slicer.app.start_qt()
        from . import ctk_paths, mrml_widgets, python_qt

        python_qt.publish()
        ctk_paths.publish()
        mrml_widgets.publish()
    return slicer.app
