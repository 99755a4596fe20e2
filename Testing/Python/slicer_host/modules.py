"""`slicer.modules`: opens a scripted module as the application does, and its panel, and reloads them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import slicer


class ScriptedModule:
    """Stands in for qSlicerScriptedLoadableModule: the object that a module's class is given as `parent`."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.name = path.stem
        self.title, self.categories, self.dependencies, self.contributors = "", [], [], []
        self.helpText, self.acknowledgementText, self.icon = "", "", None
        self._panel = None
        self.instance = getattr(sys.modules[self.name], self.name)(self)

    def widgetRepresentation(self):
        """The panel, which is made the first time that it is asked for."""
        if self._panel is None:
            from .module_panel import ModulePanel

            self._panel = ModulePanel(self)
            self._panel.reload()
        return self._panel

    def logic(self):
        return None

    def close(self) -> None:
        """Unload it, as Slicer does when it ends."""
        slicer.app.moduleManager().about_to_unload(self.name)
        if self._panel is not None:
            self._panel.deleteLater()
            self._panel = None
        for name in (self.name.lower(), self.name + "Widget", self.name + "Instance"):
            vars(slicer.modules).pop(name, None)
        getattr(slicer, "selfTests", {}).pop(self.name, None)
        sys.modules.pop(self.name, None)


def open_module(path: Path) -> ScriptedModule:
    """Load a module's file from nothing but its path, and publish `slicer.modules.<name in lower case>`."""
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.append(folder)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    opened = ScriptedModule(path)
    setattr(slicer.modules, path.stem.lower(), opened)
    return opened
