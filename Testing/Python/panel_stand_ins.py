"""Small stand-ins for what the panel works with: a worker that a test speaks for, a clock that it turns, questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import SimpleITK as sitk

from LiverTumorSegLib.panel.client import Device, Job, Listener, Phases
from LiverTumorSegLib.panel.collaborators import Collaborators


class HandTimer:
    """A timer whose time passes when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        self._count += 1
        self._due.append((self.now + seconds, self._count, call))

    @property
    def pending(self) -> int:
        """How many calls are still to come."""
        return len(self._due)

    def pass_by(self, seconds: float) -> None:
        """Let time go by, and what was asked for happen in its order."""
        end = self.now + seconds
        while due := sorted(each[:2] for each in self._due if each[0] <= end + 1e-9):
            moment, number = due[0]
            call = next(each[2] for each in self._due if each[1] == number)
            self._due = [each for each in self._due if each[1] != number]
            self.now = max(self.now, moment)
            call()
        self.now = end


class SpokenClient:
    """A worker's client; the test calls the listener's methods in the worker's place."""

    def __init__(self) -> None:
        self.runs: list[tuple[sitk.Image, Job]] = []
        self.phases: list[dict[str, sitk.Image]] = []
        self.listener: Listener | None = None
        self.closed = False
        self.known: list[Device] = []
        self.device_questions = 0

    @property
    def busy(self) -> bool:
        return self.listener is not None

    def segment(self, image: sitk.Image, job: Job, listener: Listener, phases: Phases | None = None) -> None:
        assert not self.busy
        self.phases.append(dict(phases or {}))
        self.runs.append((image, job))
        self.listener = listener

    def devices(self, on_answer: Callable[[list[Device]], None]) -> None:
        self.device_questions += 1
        on_answer(self.known)

    def cancel(self) -> None:
        self.end("on_cancelled")

    def close(self) -> None:
        self.closed, self.listener = True, None

    def end(self, how: str, *told: object) -> None:
        """End the run by one of the listener's methods, as the client does: it is free before it tells."""
        listener, self.listener = self.listener, None
        assert listener is not None
        getattr(listener, how)(*told)


class Agreeable:
    """An installer that has nothing to do, or is declined."""

    def __init__(self) -> None:
        self.asked = 0
        self.refusal = ""

    def ensure(self) -> None:
        self.asked += 1
        if self.refusal:
            raise RuntimeError(self.refusal)


class Answers:
    """Message boxes: notes the questions and gives the answers that the test has put in."""

    def __init__(self) -> None:
        self.questions: list[str] = []
        self.answers: list[bool] = []
        self.folder: Path | None = None
        self.file: Path | None = None
        self.shown: list[Path] = []

    def ask(self, question: str) -> bool:
        self.questions.append(question)
        return self.answers.pop(0)

    def choose_folder(self, title: str) -> Path | None:
        return self.folder

    def choose_file(self, title: str, patterns: Sequence[str]) -> Path | None:
        return self.file

    def show_folder(self, folder: Path) -> None:
        self.shown.append(folder)


def _new_selector() -> object:
    import slicer

    return slicer.qMRMLNodeComboBox()


class Surroundings:
    """Everything at once; `collaborators` is what the panel takes."""

    def __init__(self) -> None:
        self.client, self.timer, self.installer, self.messages = SpokenClient(), HandTimer(), Agreeable(), Answers()
        self.saved: list[object] = []
        self.centred = 0
        self.undo = lambda node: None  # the editor's, where there is a panel
        self.collaborators = Collaborators(
            client=self.client,
            timer=self.timer,
            clock=lambda: self.timer.now,
            installer=self.installer,
            messages=self.messages,
            save_for_undo=self._save,
            centre_3d=self._centre,
            new_selector=_new_selector,
        )

    def _centre(self) -> None:
        self.centred += 1

    def _save(self, node: object) -> None:
        self.saved.append(node)
        self.undo(node)
