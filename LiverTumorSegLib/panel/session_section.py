"""The part of the section Correction that times: who reads what, a clock, and the buttons of a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import LiverTumorSegError
from .collaborators import Collaborators, ensured
from .desk import Desk
from .session import Sessions, next_code
from .wording import clock_html, dice_text, elapsed_text, lacking_text

_FOLDER_TITLE = "Folder of a reader study, or where free sessions go"
_ABANDON = "End this session without results? Its times are kept in the journal, but it cannot be taken up again."


class SessionSection:
    """Shows `Sessions` and hands the reader's wishes to it."""

    def __init__(self, ui: Any, surroundings: Collaborators, desk: Desk, on_change: Callable[[], None]) -> None:
        """Args: the panel's controls, what it asks of, where sessions work, and whom to tell; `show` is to follow."""
        self._ui, self._at = ui, surroundings
        self._parameters: Any = None
        self._blocked = False
        self.sessions = Sessions(desk, surroundings.sessions, surroundings.timer, on_change, self._complain)
        ui.sessionFolderButton.connect("clicked()", self._choose_folder)
        for button, act in (
            (ui.nextCaseButton, lambda: self._prepared(self._next_case)),
            (ui.resumeSessionButton, lambda: self._prepared(self._resume_last)),
            (ui.startSessionButton, lambda: self._prepared(self._start)),
            (ui.pauseSessionButton, self.sessions.pause_or_go_on),
            (ui.finishSessionButton, self._finish),
            (ui.abandonSessionButton, self._abandon),
            (ui.sessionDiceButton, self.sessions.compare),
        ):
            button.connect("clicked()", self._tried(act))

    def attach(self, parameters: Any) -> None:
        """Read these parameters from now on; None as the scene closes."""
        self._parameters = parameters

    def show(self, blocked: bool) -> None:
        """Bring the section up to date.

        Args:
            blocked: the networks are at work; nothing can be begun.
        """
        ui, sessions, wanted = self._ui, self.sessions, self._parameters
        self._blocked = blocked
        self._open_folder()
        study, running, free = sessions.study, sessions.running, not (sessions.running or blocked)
        for control in (ui.readerCodeLineEdit, ui.sessionFolderLineEdit, ui.sessionFolderButton):
            control.enabled = not running
        ui.caseCodeLineEdit.enabled = not running and study is None
        ui.startSessionButton.visible = not running
        ui.nextCaseButton.visible = not running and study is not None
        ui.resumeSessionButton.visible = not running and study is None
        ui.nextCaseButton.enabled = free and study is not None and bool(wanted.readerCode)
        ui.resumeSessionButton.enabled = free and sessions.can_resume
        ui.startSessionButton.enabled = free and sessions.can_start and self._has_codes()
        state = sessions.session.state if sessions.session is not None else ""
        ui.pauseSessionButton.text = "Go on" if state == "paused" else "Pause"
        for control in (
            *(ui.pauseSessionButton, ui.finishSessionButton, ui.abandonSessionButton),
            *(ui.sessionDiceButton, ui.sessionNoteTextEdit),
        ):
            control.enabled = control.visible = running
        self._show_clock()

    def _show_clock(self) -> None:
        ui, session = self._ui, self.sessions.session
        ui.sessionClockLabel.visible = ui.sessionDiceLabel.visible = session is not None
        if session is not None:
            times = session.times()
            ui.sessionClockLabel.text = clock_html(
                {kind: times.of(kind) / 1000 for kind in ("editing", "reviewing", "idle")},
                {group: times.active_of(group) / 1000 for group in ("liver", "tumour")},
                session.state == "paused",
            )
            ui.sessionDiceLabel.text = dice_text(self.sessions.dice)

    def _has_codes(self) -> bool:
        wanted = self._parameters
        return self.sessions.study is not None or bool(wanted.readerCode and wanted.caseCode)

    def _open_folder(self) -> None:
        text = self._parameters.sessionFolder.strip()
        try:
            self.sessions.open_folder(Path(text) if text else None)
        except LiverTumorSegError as error:
            self._complain(str(error))

    def _choose_folder(self) -> None:
        folder = self._at.messages.choose_folder(_FOLDER_TITLE)
        if folder is not None and self._parameters is not None:
            self._parameters.sessionFolder = str(folder)

    def _prepared(self, begin: Callable[[], None]) -> None:
        """Begin once there is all that the session's end needs, so that no reader works in vain."""
        ensured(self._at.installer)
        if self._parameters is not None:  # events have run meanwhile
            begin()

    def _next_case(self) -> None:
        self.sessions.next_case(self._parameters.readerCode)

    def _resume_last(self) -> None:
        self.sessions.resume_last(self._parameters.inputVolume)

    def _start(self) -> None:
        self.sessions.start(self._parameters.readerCode, self._parameters.caseCode)
        self._ui.sessionNoteTextEdit.setPlainText("")

    def _finish(self) -> None:
        session, study = self.sessions.session, self.sessions.study
        path = self.sessions.finish(self._ui.sessionNoteTextEdit.plainText.strip())
        active = elapsed_text(session.times().active_ms / 1000) if session is not None else ""
        self._say(f"Finished after {active} of editing and reviewing; see {path.parent.name}/{path.name}.")
        if study is None:
            self._parameters.caseCode = next_code(self._parameters.caseCode)

    def _abandon(self) -> None:
        if self._at.messages.ask(_ABANDON):
            self.sessions.abandon()
            self._say("The session was abandoned.")

    def _tried(self, act: Callable[[], object]) -> Callable[[], None]:
        """Do it, and tell the user of what it raises."""

        def attempt() -> None:
            if self._parameters is None:
                return
            self._say("")
            try:
                act()
            except LiverTumorSegError as error:
                self._complain(str(error))
            except ModuleNotFoundError as error:
                self._complain(lacking_text("Corrections cannot be compared", error))
            if self._parameters is not None:
                self.show(self._blocked)

        return attempt

    def _say(self, text: str) -> None:
        self._ui.sessionStatusLabel.text = text
        self._ui.sessionStatusLabel.visible = bool(text)

    def _complain(self, text: str) -> None:
        self._say(text)
