"""What the panel asks of its surroundings; Slicer's own are made in one place, tests pass small ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import PackageError

if TYPE_CHECKING:
    import SimpleITK as sitk

    from ..correction.clock import Clock as SessionClock
    from .client import Device, Job, Listener, Phases
    from .process import Timer

Node = Any
"""A MRML node; the panel hands it on and leaves it to `scene` to look inside."""

Clock = Callable[[], float]
"""Seconds since some moment; never goes back."""


class Client(Protocol):
    """The warm worker process, see `client.WorkerClient`."""

    @property
    def busy(self) -> bool:
        """Whether a run is under way."""

    def segment(self, image: sitk.Image, job: Job, listener: Listener, phases: Phases | None = None) -> None:
        """Begin a run; the listener is told how it goes."""

    def devices(self, on_answer: Callable[[list[Device]], None]) -> None:
        """Ask what this computer can compute on; answers later."""

    def cancel(self) -> None:
        """End the run under way."""

    def close(self) -> None:
        """End the worker."""


class Installer(Protocol):
    """Brings the Python packages that the networks need."""

    def ensure(self) -> None:
        """Install what is missing, after asking.

        Raises:
            RuntimeError: it cannot be had, or the user declined; one line for the user.
        """


def ensured(installer: Installer) -> None:
    """Have the packages there before anything depends on them.

    Raises:
        PackageError: they cannot be had, or the user declined; one line for the user.
    """
    try:
        installer.ensure()
    except RuntimeError as error:
        raise PackageError(str(error)) from error


class Messages(Protocol):
    """Questions to the user."""

    def ask(self, question: str) -> bool:
        """Whether the user says yes."""

    def choose_folder(self, title: str) -> Path | None:
        """A folder, or None when the user thought better of it."""

    def choose_file(self, title: str, patterns: Sequence[str]) -> Path | None:
        """A file whose name fits one of the patterns ("*.zip"), or None."""

    def show_folder(self, folder: Path) -> None:
        """Open a folder in the system's file browser."""


def _deaf(tell: Callable[[bool], None]) -> Callable[[], None]:
    return lambda: None


@dataclass(frozen=True)
class SessionTools:
    """What a timed correction asks of the application.

    Attributes:
        clock: of sessions; None for the computer's.
        interactors: the vtkRenderWindowInteractors of the views that are open.
        busy: shows that the program works, inside a block.
        hear_focus: begins to tell whether the application's windows are in front; what comes back ends it.
    """

    clock: SessionClock | None = None
    interactors: Callable[[], Sequence[Any]] = list
    busy: Callable[[], AbstractContextManager[Any]] = nullcontext
    hear_focus: Callable[[Callable[[bool], None]], Callable[[], None]] = _deaf


@dataclass(frozen=True)
class Collaborators:
    """Everything outside that the panel works with.

    Attributes:
        client: the worker process.
        timer: calls back later.
        clock: for elapsed times.
        installer: of Python packages.
        messages: questions to the user.
        save_for_undo: notes the state of a segmentation node, so that the editor's Undo brings it back.
        centre_3d: turns the 3D views towards what is shown in them.
        new_selector: makes a `qMRMLNodeComboBox`.
        sessions: for timed corrections.
    """

    client: Client
    timer: Timer
    clock: Clock
    installer: Installer
    messages: Messages
    save_for_undo: Callable[[Node], None]
    centre_3d: Callable[[], None]
    new_selector: Callable[[], Any]
    sessions: SessionTools = field(default_factory=SessionTools)


class Later:
    """A call that is put off until nobody has asked for it for a while."""

    def __init__(self, timer: Timer, call: Callable[[], None]) -> None:
        self._timer, self._call, self._asked = timer, call, 0

    def ask(self, seconds: float) -> None:
        """Call after `seconds`, unless asked again or dropped before."""
        self._asked += 1
        asked = self._asked

        def due() -> None:
            if asked == self._asked:
                self._call()

        self._timer.after(seconds, due)

    def drop(self) -> None:
        """Forget what was asked."""
        self._asked += 1
