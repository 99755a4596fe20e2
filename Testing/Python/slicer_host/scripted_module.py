"""Base classes of a scripted module, as far as ours uses them; published as `slicer.ScriptedLoadableModule`."""

from __future__ import annotations

from pathlib import Path

MODULE_FOLDER = Path(__file__).resolve().parents[3] / "LiverTumorSeg"


class ScriptedLoadableModule:
    def __init__(self, parent) -> None:
        self.parent = parent


class ScriptedLoadableModuleLogic:
    def __init__(self, parent=None) -> None:
        self.parent = parent


class ScriptedLoadableModuleWidget:
    def __init__(self, parent=None) -> None:
        self.parent = parent

    def resourcePath(self, name: str) -> str:
        return str(MODULE_FOLDER / "Resources" / name)


class ScriptedLoadableModuleTest:
    def delayDisplay(self, message: str, msec: int = 0) -> None:
        """Slicer shows the message for a moment."""
