"""Timed corrections from the panel: free ones in any folder, or those that a reader study plans."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import SimpleITK as sitk

from ..correction.reading import Reading
from ..correction.reference import fingerprint
from ..correction.replay import unfinished_sessions
from ..correction.session import CorrectionSession
from ..correction.study import STUDY, Assignment, Study
from ..errors import LiverTumorSegError, SessionError
from ..itk_reader import read_file
from ..output import write_seg_nrrd
from .collaborators import Node, SessionTools
from .desk import Desk
from .process import Timer

START, WORKING = "start.seg.nrrd", "working.seg.nrrd"
TICK_SECONDS = 1.0


class Sessions:
    """One session at a time: begun, paused, finished; closed at any moment and taken up again.

    A study's folder says itself what comes next. In any other folder each session has a folder of its own, with what
    it started from. Whatever closes a session before its end saves the labels beside its journal, and so does a pause.

    Attributes:
        session: the one under way, or None.
        study: the study of the chosen folder, or None.
        assignment: the study's case on show, begun or not, or None.
        dice: of what the reader started from against the labels as they were when it was asked for.
    """

    def __init__(
        self,
        desk: Desk,
        tools: SessionTools,
        timer: Timer,
        on_change: Callable[[], None],
        on_error: Callable[[str], None],
    ) -> None:
        """Args: where it works, Slicer's windows and clocks, a timer, and whom to tell of changes and of problems."""
        self._desk, self._tools, self._timer = desk, tools, timer
        self._on_change, self._on_error = on_change, on_error
        self._folder: Path | None = None
        self.session: CorrectionSession | None = None
        self.study: Study | None = None
        self.assignment: Assignment | None = None
        self.dice: dict[str, float] | None = None

    @property
    def running(self) -> bool:
        """Whether one is under way, paused or not."""
        return self.session is not None

    @property
    def can_start(self) -> bool:
        """Whether there is something to start from, and a place for the session."""
        if self.running or self._folder is None or not self._desk.ready:
            return False
        return self.study is None or self.assignment is not None

    @property
    def can_resume(self) -> bool:
        """Whether the folder has a session that waits to be taken up again; a study's next case says so itself."""
        if self.running or self._folder is None or self.study is not None or not os.path.isdir(self._folder):
            return False
        return bool(unfinished_sessions(self._folder))

    def open_folder(self, folder: Path | None) -> None:
        """Work in this folder from now on; a study is one that has a `study.json`.

        Raises:
            LiverTumorSegError: the study cannot be read; then nothing is chosen.
        """
        if folder != self._folder and not self.running:
            self._folder, self.study, self.assignment = None, None, None
            self.study = Study.load(folder) if folder is not None and os.path.isfile(folder / STUDY) else None
            self._folder = folder

    def next_case(self, reader: str) -> None:
        """Put the reader's next case on show; one that was begun before goes on at once.

        Raises:
            LiverTumorSegError: nothing is left, it is too early, or a file cannot be read.
        """
        if self.study is None or self.running:
            raise SessionError("next case: wanted a study and no session under way, got another state")
        assignment = self.study.next(reader, self._tools.clock)
        left = self._left_in(assignment.folder) if assignment.under_way else None
        labels = read_file(assignment.start) if left is None else left
        self._desk.open_case(read_file(assignment.volume), labels, assignment.reading.case, left is not None)
        self.assignment = assignment
        if assignment.under_way:
            self._go_on_with(self.study.session(assignment, self._tools.clock))

    def start(self, reader: str, case: str) -> None:
        """Begin the session of the study's case on show, or a free one.

        Raises:
            LiverTumorSegError: no code of a reader or case, or the folder cannot be written to.
        """
        if not self.can_start or self._folder is None:
            raise SessionError("start: wanted a folder, a segmentation with its scan and no session under way")
        if self.study is not None and self.assignment is not None:
            if fingerprint(self._desk.labels()) != fingerprint(read_file(self.assignment.start)):
                raise SessionError(
                    "start: wanted the case as it was opened, got another or edited labels; open it again"
                )
            session = self.study.session(self.assignment, self._tools.clock)
            session.start()
        else:
            session = self._free_session(self._folder, Reading(reader, case))
        self._go_on_with(session)

    def resume_last(self, volume: Node | None) -> None:
        """Take up the last session of the folder that has no end, with its labels on show.

        Args:
            volume: the scan that is loaded.

        Raises:
            LiverTumorSegError: it is another scan, or the session's files are not sound.
        """
        waiting = unfinished_sessions(self._folder) if self._folder is not None else []
        if not waiting:
            raise SessionError("resume: wanted a session without an end in the folder, got none")
        folder = waiting[-1]
        start, left = read_file(folder / START), self._left_in(folder)
        if left is not None:
            self._desk.open_labels(left, volume)
        elif not self._desk.ready or (folder / WORKING).is_file():
            self._desk.open_labels(start, volume)
        self._go_on_with(CorrectionSession.recover(start, folder, self._tools.clock))

    def pause_or_go_on(self) -> None:
        """The button; a pause saves the labels.

        Raises:
            LiverTumorSegError: the journal or the labels cannot be written.
        """
        session = self._under_way()
        if session.state == "paused":
            session.resume()
        else:
            session.pause()
            self._save(session)
        self._on_change()

    def compare(self) -> None:
        """Work out the Dice of what the reader started from against the labels as they are now.

        Raises:
            LiverTumorSegError: there is no liver, or the segmentation moved to another grid.
        """
        self.dice = self._under_way().dice(self._desk.labels())
        self._on_change()

    def finish(self, note: str) -> Path:
        """End the session with its results, which the scene keeps as well.

        Args:
            note: the reader's own words.

        Returns:
            `session.json`.

        Raises:
            LiverTumorSegError: they cannot be written; the session goes on.
        """
        session = self._under_way()
        with self._tools.busy():
            path = session.finish(self._desk.labels(), note)
        self._desk.note(json.loads(path.read_text(encoding="utf-8")))
        (session.folder / WORKING).unlink(missing_ok=True)
        self._end()
        return path

    def abandon(self) -> None:
        """End the session without results."""
        self._under_way().abandon()
        self._end()

    def close(self) -> None:
        """Stop for now, as the scene closes or the panel ends; the session can be taken up again."""
        session, self.assignment = self.session, None
        if session is None:
            return
        try:
            self._save(session)
        except LiverTumorSegError as error:
            self._on_error(f"The labels of the session were not saved: {error}")
        try:
            session.close()
        except LiverTumorSegError as error:
            self._on_error(str(error))
        self._end()

    def _save(self, session: CorrectionSession) -> None:
        """Keep the labels as they are now, so that nothing is lost when the session is taken up elsewhere."""
        with self._tools.busy():
            write_seg_nrrd(self._desk.labels(), session.folder / WORKING)

    def _left_in(self, folder: Path) -> sitk.Image | None:
        """The labels that an earlier sitting left; None where there are none, or none that can be read."""
        if not (folder / WORKING).is_file():
            return None
        try:
            return read_file(folder / WORKING)
        except LiverTumorSegError as error:
            self._on_error(f"The saved corrections cannot be read, so the session goes on from its start: {error}")
            return None

    def _free_session(self, parent: Path, reading: Reading) -> CorrectionSession:
        """Begin a session of no study in a folder of its own, of which nothing is left when it cannot begin."""
        labels, folder = self._desk.labels(), _free_folder(parent, reading)
        session = CorrectionSession(labels, folder, reading, self._tools.clock)
        try:
            folder.mkdir(parents=True)
            # First, as a journal without it could never be taken up again.
            write_seg_nrrd(labels, folder / START)
            session.start()
        except OSError as error:
            raise SessionError(f"{parent.name}: wanted a folder for sessions, got: {error.strerror}") from error
        except LiverTumorSegError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return session

    def _go_on_with(self, session: CorrectionSession) -> None:
        self.session, self.dice = session, None
        self._desk.watch(session, self._on_error)
        self._on_change()
        self._timer.after(TICK_SECONDS, lambda: self._tick(session))

    def _tick(self, session: CorrectionSession) -> None:
        if session is not self.session:
            return
        try:
            session.tick()
        except SessionError as error:
            self._on_error(str(error))
        finally:
            self._timer.after(TICK_SECONDS, lambda: self._tick(session))
        self._on_change()

    def _end(self) -> None:
        self._desk.leave()
        self.session, self.assignment = None, None
        self._on_change()

    def _under_way(self) -> CorrectionSession:
        if self.session is None:
            raise SessionError("session: wanted one under way, got none")
        return self.session


def next_code(code: str) -> str:
    """The code after this one: "c09" becomes "c10", "liver" becomes "liver-2"."""
    found = re.fullmatch(r"(.*?)(\d+)", code)
    if not found:
        return f"{code}-2"
    return f"{found[1]}{int(found[2]) + 1:0{len(found[2])}d}"


def _free_folder(folder: Path, reading: Reading) -> Path:
    """A folder for a session; the same reader may correct a case again."""
    names = (f"{reading.case}_{reading.reader}_{number:03d}" for number in range(1, 1000))
    return next(folder / name for name in names if not os.path.lexists(folder / name))
