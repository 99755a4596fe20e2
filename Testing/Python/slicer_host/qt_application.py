"""The QApplication, without a screen, in a plain style; and what of Slicer's application needs Qt."""

from __future__ import annotations

import logging
import os
import sys
from typing import ClassVar

from PySide6.QtCore import QObject, QSettings, QtMsgType, Signal, qInstallMessageHandler
from PySide6.QtGui import QColor, QFont, QPalette
from PySide6.QtWidgets import QApplication

from . import python_qt

COLOURS = {
    QPalette.Window: "#f4f5f7",
    QPalette.Base: "#ffffff",
    QPalette.AlternateBase: "#eef0f4",
    QPalette.Button: "#e4e8ee",
    QPalette.Mid: "#b9c0cb",
    QPalette.WindowText: "#1f2733",
    QPalette.Text: "#1f2733",
    QPalette.ButtonText: "#1f2733",
    QPalette.Highlight: "#2f6fb5",
    QPalette.HighlightedText: "#ffffff",
}


LEVELS = {QtMsgType.QtDebugMsg: logging.DEBUG, QtMsgType.QtInfoMsg: logging.INFO, QtMsgType.QtWarningMsg: logging.INFO}


class ModuleManager(QObject):
    moduleAboutToBeUnloaded = Signal(str)
    cppSignals: ClassVar = {"moduleAboutToBeUnloaded(QString)": "moduleAboutToBeUnloaded"}

    def about_to_unload(self, name: str) -> None:
        self.moduleAboutToBeUnloaded.emit(name)


class SlicerApplication(QApplication):
    """Its `aboutToQuit` is Qt's: a test emits it to close Slicer, and `startupCompleted` to have opened it."""

    startupCompleted = Signal()


def start(uncaught: list[BaseException]) -> SlicerApplication:
    """Return the application; exceptions that leave a slot are noted, as nothing else would see them."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    qInstallMessageHandler(lambda kind, context, text: logging.getLogger("qt").log(LEVELS.get(kind, 40), text))
    python_qt.follow_rules_of_python_qt()
    application = SlicerApplication([sys.argv[0]])
    application.setStyle("Fusion")
    application.setFont(QFont("DejaVu Sans", 9))
    palette = QPalette()
    for role, colour in COLOURS.items():
        palette.setColor(role, QColor(colour))
    for role in (QPalette.WindowText, QPalette.Text, QPalette.ButtonText):
        palette.setColor(QPalette.Disabled, role, QColor("#9aa2ae"))
    application.setPalette(palette)
    printed = sys.excepthook

    def note(kind, error, trace) -> None:
        uncaught.append(error)
        printed(kind, error, trace)

    sys.excepthook = note
    return application


def settings(folder: str) -> QSettings:
    """The user's settings, which `qt.QSettings()` finds too: a file of this run."""
    QSettings.setDefaultFormat(QSettings.IniFormat)
    QSettings.setPath(QSettings.IniFormat, QSettings.UserScope, folder)
    QApplication.setOrganizationName("LiverTumorSeg tests")
    QApplication.setApplicationName("Slicer")
    return QSettings()
