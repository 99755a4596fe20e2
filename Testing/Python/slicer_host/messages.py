"""What Slicer would show in message boxes: noted, and answered by the test."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import slicer


@dataclass(frozen=True)
class Message:
    level: str  # "info", "warning" or "error"
    text: str
    title: str | None = None
    details: str | None = None
    question: bool = False


class Messages:
    """What was shown, and what the user will say.

    `shown` lists the messages since the last `clear`; `answers` are given to questions in turn, True is yes;
    `paths` are what the user picks in dialogs for files and folders, "" is cancel.
    """

    def __init__(self) -> None:
        self.shown: list[Message] = []
        self.answers: list[bool] = []
        self.paths: list[str | list[str]] = []

    @property
    def texts(self) -> list[str]:
        return [message.text for message in self.shown]

    def clear(self) -> None:
        self.shown.clear()
        self.answers.clear()
        self.paths.clear()

    def ask(self, level: str, text: str, title: str | None, details: str | None) -> bool:
        self.shown.append(Message(level, text, title, details, question=True))
        if not self.answers:
            raise AssertionError(f"wanted an answer in slicer.app.messages.answers, got none for: {text}")
        return self.answers.pop(0)

    def pick(self, dialog: str):
        if not self.paths:
            raise AssertionError(f"wanted a path in slicer.app.messages.paths, got none for {dialog}")
        return self.paths.pop(0)

    def tell(self, level: str, text: str, title: str | None, details: str | None) -> None:
        self.shown.append(Message(level, text, title, details))


def publish(messages: Messages) -> None:
    """Put the messages in the place of the boxes of `slicer.util`, which the rest of it calls too."""

    def telling(level: int):
        def display(text, windowTitle=None, parent=None, standardButtons=None, **more) -> None:
            logging.getLogger("slicer").log(level, text)
            messages.tell(logging.getLevelName(level).lower(), text, windowTitle, more.get("detailedText"))

        return display

    def asking(level: str):
        def display(text, windowTitle=None, parent=None, **more) -> bool:
            return messages.ask(level, text, windowTitle, more.get("detailedText"))

        return display

    slicer.util.infoDisplay = telling(logging.INFO)
    slicer.util.warningDisplay = telling(logging.WARNING)
    slicer.util.errorDisplay = telling(logging.ERROR)
    slicer.util.confirmOkCancelDisplay = asking("info")
    slicer.util.confirmYesNoDisplay = asking("info")
    slicer.util.confirmRetryCloseDisplay = asking("error")

    def messageBox(text, parent=None, **more):
        """Yes or No where both are offered, else Ok."""
        import qt

        buttons = qt.QMessageBox
        offered, title = more.get("standardButtons", buttons.Ok), more.get("windowTitle")
        if not offered & (buttons.No | buttons.Cancel):
            messages.tell("info", text, title, more.get("detailedText"))
            return buttons.Ok
        agreed = messages.ask("info", text, title, more.get("detailedText"))
        if offered & buttons.Yes:
            return buttons.Yes if agreed else buttons.No if offered & buttons.No else buttons.Cancel
        return buttons.Ok if agreed else buttons.Cancel

    slicer.util.messageBox = messageBox


def publish_file_dialogs(messages: Messages) -> None:
    """Answer QFileDialog's questions; as with PythonQt, each gives back the path alone, without the filter."""
    from PySide6.QtWidgets import QFileDialog

    for name in ("getExistingDirectory", "getOpenFileName", "getOpenFileNames", "getSaveFileName"):
        setattr(QFileDialog, name, staticmethod(lambda *question, name=name, **more: messages.pick(name)))
