"""The place that Slicer gives a module's panel, which calls its setup, enter, exit and cleanup."""

from __future__ import annotations

import sys

import slicer
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QVBoxLayout

from .mrml_widgets import qMRMLWidget


class ModulePanel(qMRMLWidget):
    """Stands in for qSlicerScriptedLoadableModuleWidget; `self()` is the module's own widget object."""

    def __init__(self, module) -> None:
        super().__init__()
        self._module, self.isEntered = module, False
        self._instance = None
        QVBoxLayout(self)
        self.setAttribute(Qt.WA_DontShowOnScreen)
        self.setMRMLScene(slicer.mrmlScene)

    def self(self):
        return self._instance

    def reload(self) -> None:
        """Make the widget anew from the class as it is now."""
        name = self._module.name + "Widget"
        self._instance = getattr(sys.modules[self._module.name], name)(self)
        setattr(slicer.modules, name, self._instance)
        self._instance.setup()

    def enter(self) -> None:
        """The user opens the module."""
        self.isEntered = True
        if hasattr(self._instance, "enter"):
            self._instance.enter()

    def exit(self) -> None:
        """The user goes to another module."""
        self.isEntered = False
        if hasattr(self._instance, "exit"):
            self._instance.exit()
