"""Stand-ins for CTK's widgets that ask for a path or an answer, and the module `ctk`."""

from __future__ import annotations

import sys
import types

from PySide6.QtCore import Property, Signal
from PySide6.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QMessageBox,
    QPushButton,
    QTextBrowser,
    QToolButton,
    QWidget,
)

from . import ctk_widgets  # noqa: F401  (its classes register themselves)
from .ui_loader import STAND_INS, for_designer, stored


@for_designer
class ctkPathLineEdit(QWidget):
    currentPathChanged = Signal(str)
    filters, setFilters = stored("filters", str, "")
    nameFilters, setNameFilters = stored("nameFilters", "QStringList", [])
    settingKey, setSettingKey = stored("settingKey", str, "")

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self._edit, self._button = QLineEdit(self), QToolButton(self)
        self._button.setText("…")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._edit, 1)
        row.addWidget(self._button)
        self._edit.textChanged.connect(self.currentPathChanged)
        self._button.clicked.connect(self.browse)

    def browse(self) -> None:
        """Ask for a folder where `filters` says so, else for a file."""
        folder = "Dirs" in self.filters and "Files" not in self.filters
        if folder:
            path = QFileDialog.getExistingDirectory(self, "", self.currentPath)
        else:
            path = QFileDialog.getOpenFileName(self, "", self.currentPath, ";;".join(self.nameFilters))
        if path:
            self.setCurrentPath(path)

    def addCurrentPathToHistory(self) -> None:
        """Slicer keeps the path in its settings."""

    def setCurrentPath(self, path: str) -> None:
        self._edit.setText(path)

    def setPlaceholderText(self, text: str) -> None:
        self._edit.setPlaceholderText(text)

    currentPath = Property(str, lambda self: self._edit.text, setCurrentPath, notify=currentPathChanged)
    placeholderText = Property(str, lambda self: self._edit.placeholderText, setPlaceholderText)


@for_designer
class ctkDirectoryButton(QPushButton):
    directoryChanged = Signal(str)
    directorySelected = Signal(str)
    caption, setCaption = stored("caption", str, "")

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self._directory = ""
        self.clicked.connect(self.browse)

    def browse(self) -> None:
        if path := QFileDialog.getExistingDirectory(self, self.caption, self.directory):
            self.setDirectory(path)
            self.directorySelected.emit(path)

    def setDirectory(self, path: str) -> None:
        if path != self._directory:
            self._directory = path
            self.setText(path)
            self.directoryChanged.emit(path)

    directory = Property(str, lambda self: self._directory, setDirectory, notify=directoryChanged)


@for_designer
class ctkComboBox(QComboBox):
    defaultText, setDefaultText = stored("defaultText", str, "")
    forceDefault, setForceDefault = stored("forceDefault", bool, False)


@for_designer
class ctkFittedTextBrowser(QTextBrowser):
    pass


class ctkMessageBox(QMessageBox):
    """`messages.py` answers it."""

    dontShowAgainVisible, setDontShowAgainVisible = stored("dontShowAgainVisible", bool, False)
    dontShowAgainSettingsKey, setDontShowAgainSettingsKey = stored("dontShowAgainSettingsKey", str, "")


def publish() -> types.ModuleType:
    """Return the module `ctk`, which `import ctk` finds from now on."""
    if sys.modules.get("ctk") is None:
        module = types.ModuleType("ctk", "Stand-ins, see slicer_host/ctk_widgets.py and ctk_paths.py")
        module.__dict__.update({name: kind for name, kind in STAND_INS.items() if name.startswith("ctk")})
        module.ctkMessageBox = ctkMessageBox
        sys.modules["ctk"] = module
    return sys.modules["ctk"]
