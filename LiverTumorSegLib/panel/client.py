"""The panel's side of the warm worker: one process that keeps its networks, one run at a time; no Qt, no Slicer.

A run goes: private folder, scan into it, request, progress, result out of it, folder removed. Whatever ends a run
ends it here, in `_end_run`. A worker that died or that cannot be understood is put away; the next request starts
another.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import SimpleITK as sitk

from .. import errors
from ..errors import LiverTumorSegError
from ..exchange import SCAN, load_segmentation, write_volume
from ..networks.devices import Device
from ..segmentation import Segmentation
from ..worker import PROTOCOL, READING
from .answers import Answer, NonsenseError
from .process import Process, Timer
from .worker_process import WorkerProcess, worker_command, worker_environment

__all__ = ["Device", "Job", "Listener", "WorkerClient", "worker_command"]

CANCEL_SECONDS = 1.0
"""How long a worker may take to stop by itself before it is killed."""
START_SECONDS = 60.0
"""How long a worker may take to say that it is ready."""
_RESULT = "result"
_REMOVAL_TRIES, _REMOVAL_PAUSE = 20, 0.05


Phases = Mapping[str, sitk.Image]


@dataclass(frozen=True)
class Job:
    """What to do with a scan; see `segmenter.segment` for the values."""

    bundle: str = "default"
    device: str = "auto"
    modality: str | None = None
    sensitivity: float = 1.0


class Listener(Protocol):
    """Told how a run goes: any number of progress and log lines, then exactly one of the other three."""

    def on_progress(self, step: str, share: float) -> None:
        """A step is under way; share runs from 0 to 1."""

    def on_log(self, text: str) -> None:
        """Something worth a line: smaller windows, the CPU goes on, and other warnings."""

    def on_done(self, segmentation: Segmentation) -> None:
        """The result, on the scan that was handed in."""

    def on_failed(self, message: str, last_lines: list[str]) -> None:
        """One line for the user; what the process said last, where that may explain it."""

    def on_cancelled(self) -> None:
        """The run has ended as asked."""


@dataclass(eq=False)
class _Run:
    id: int
    image: sitk.Image
    listener: Listener
    folder: Path
    cancelling: bool = False


class WorkerClient:
    """One warm worker, one run at a time; every callback comes on the thread of process and timer."""

    def __init__(
        self,
        new_process: Callable[[], Process],
        timer: Timer,
        command: Sequence[str] | None = None,
        environment: Mapping[str, str] | None = None,
    ):
        """Nothing is started yet.

        Args:
            new_process: makes a process that is not started.
            timer: calls back later.
            command: starts a worker; by default `worker_command()`.
            environment: the worker's variables before `worker_environment` adds to them; by default this process's.
        """
        self._new_process, self._timer = new_process, timer
        self._command = list(command or worker_command())
        self._environment = worker_environment(environment)
        self._worker: WorkerProcess | None = None
        self._run: _Run | None = None
        self._last_id = 0

    @property
    def busy(self) -> bool:
        """Whether a run is under way."""
        return self._run is not None

    @property
    def state(self) -> str:
        """One of "idle", "starting" (the run waits for its worker), "running" and "cancelling"."""
        if self._run is None:
            return "idle"
        if self._run.cancelling:
            return "cancelling"
        return "starting" if self._worker is None or self._worker.pid is None else "running"

    def segment(self, image: sitk.Image, job: Job, listener: Listener, phases: Phases | None = None) -> None:
        """Begin a run and come back as soon as the scans are written; the listener is told how it goes.

        Args:
            image: the scan; not to be changed before the run has ended.
            job: what to do.
            listener: `on_failed` may be called before this returns (no room for the scan, no process).
            phases: further scans of the study, by the names that the bundle's recipe gives them.

        Raises:
            RuntimeError: a run is under way.
        """
        if self._run is not None:
            raise RuntimeError("segment: wanted one run at a time, got another one while the first is under way")
        try:
            folder = Path(tempfile.mkdtemp(prefix="livertumorseg-"))
        except OSError as error:
            listener.on_failed(f"scan: wanted a temporary folder for it, got: {error.strerror}", [])
            return
        run = self._run = _Run(self._next_id(), image, listener, folder)
        worker = self._started_worker()  # imports its libraries while the scan is being written
        if worker is None:
            return
        try:
            write_volume(image, folder / SCAN)
            files = _write_phases(phases or {}, folder)
        except LiverTumorSegError as error:
            self._fail(run, str(error), [])
            return
        request = {
            "do": "segment",
            "volume": str(folder / SCAN),
            "phases": files,
            "output": str(folder / _RESULT),
            "bundle": job.bundle,
            "device": job.device,
            "modality": job.modality,
            "sensitivity": job.sensitivity,
        }
        worker.send(run.id, _line(run.id, request))

    def devices(self, on_answer: Callable[[list[Device]], None]) -> None:
        """Ask the worker what this computer can compute on; it answers after the run under way.

        Args:
            on_answer: told the devices, or an empty list when the worker ended or failed instead.
        """
        number = self._next_id()
        worker = self._started_worker({number: on_answer})
        if worker is not None:
            worker.send(number, _line(number, {"do": "devices"}))

    def cancel(self) -> None:
        """End the run under way: by asking, and a second later by killing the worker."""
        run, worker = self._run, self._worker
        if run is None or run.cancelling:
            return
        run.cancelling = True
        if worker is None or worker.unsent.pop(run.id, None) is not None:
            self._end_run(run)
            run.listener.on_cancelled()
            return
        number = self._next_id()
        worker.send(number, _line(number, {"do": "cancel"}))
        self._timer.after(CANCEL_SECONDS, lambda: self._insist(run))

    def close(self) -> None:
        """End the worker and remove what is left of a run; its listener hears no more."""
        run, worker = self._run, self._worker
        self._worker = None
        if worker is not None:
            worker.questions.clear()
            worker.kill()
        if run is not None:
            self._run = None
            _remove_now(run.folder)

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def _started_worker(
        self, questions: dict[int, Callable[[list[Device]], None]] | None = None
    ) -> WorkerProcess | None:
        """The worker, started if there is none; None when it could not be."""
        worker = self._worker
        if worker is None:
            worker = self._worker = WorkerProcess(self._new_process())
            worker.questions.update(questions or {})
            heard, gone = partial(self._hear, worker), partial(self._gone, worker)
            worker.process.start(self._command, self._environment, heard, worker.keep, gone)
            self._timer.after(START_SECONDS, partial(self._give_up_waiting, worker))
        else:
            worker.questions.update(questions or {})
        return worker if self._worker is worker else None

    def _hear(self, worker: WorkerProcess, line: str) -> None:
        """A line of the worker's standard output; nothing but answers is expected there."""
        if worker is not self._worker:
            return
        try:
            answer = Answer.parsed(line, self._last_id)
            if (worker.pid is None) != (answer.event == "ready"):
                raise NonsenseError(f"wanted 'ready' first and once, got {answer.event!r}")
            self._take(worker, answer)
        except NonsenseError as nonsense:
            worker.keep(line)
            self._put_away(f"worker: wanted an answer of protocol {PROTOCOL}: {nonsense}")

    def _take(self, worker: WorkerProcess, answer: Answer) -> None:
        if answer.event == "ready":
            if answer.number("protocol") != PROTOCOL:
                raise NonsenseError(f"wanted version {PROTOCOL}, got {answer.number('protocol')}")
            worker.ready(answer.number("pid"))
        elif answer.id in worker.questions:
            found = answer.devices() if answer.event == "devices" else []
            worker.questions.pop(answer.id)(found)
        elif self._run is not None and answer.id == self._run.id:
            self._take_of_run(self._run, worker, answer)

    def _take_of_run(self, run: _Run, worker: WorkerProcess, answer: Answer) -> None:
        if answer.event in ("done", "failed", "cancelled") and (run.cancelling or answer.event == "cancelled"):
            self._end_run(run)
            run.listener.on_cancelled()
        elif run.cancelling:
            return
        elif answer.event == "progress":
            step, share = answer.text("step"), answer.share()
            if step == READING and share == 1.0:
                for scan in run.folder.glob("*.nrrd"):  # no copy of a scan lies about longer than needed
                    with contextlib.suppress(OSError):  # it goes with the folder at the latest
                        scan.unlink()
            run.listener.on_progress(step, share)
        elif answer.event == "log":
            run.listener.on_log(_discreet(answer.text("text"), run.folder))
        elif answer.event == "done":
            self._deliver(run)
        elif answer.event == "failed":
            ours = hasattr(errors, answer.text("kind"))  # and needs no explanation
            trace = answer.text("trace").splitlines() if "trace" in answer.content else []
            lines = [*worker.last_lines, *trace]
            self._fail(run, answer.text("message"), [] if ours else lines)

    def _deliver(self, run: _Run) -> None:
        try:
            segmentation = load_segmentation(run.folder / _RESULT, run.image)
        except LiverTumorSegError as error:
            self._fail(run, str(error), [])
            return
        except MemoryError:
            self._fail(run, "result: wanted to read it, got not enough memory", [])
            return
        self._end_run(run)
        run.listener.on_done(segmentation)

    def _gone(self, worker: WorkerProcess, code: int) -> None:
        """The process has ended by itself."""
        if worker is self._worker:
            self._put_away(f"worker: wanted a result, got a process that ended with code {code}")

    def _give_up_waiting(self, worker: WorkerProcess) -> None:
        if worker is self._worker and worker.pid is None:
            self._put_away(f"worker: wanted 'ready' within {START_SECONDS:.0f} s, got nothing")

    def _insist(self, run: _Run) -> None:
        if self._run is run:
            self._put_away("")

    def _put_away(self, message: str) -> None:
        """Kill the worker and end what it was at; the next request starts another one."""
        worker, self._worker = self._worker, None
        assert worker is not None
        worker.kill()
        run = self._run
        if run is not None and run.cancelling:
            self._end_run(run)
            run.listener.on_cancelled()
        elif run is not None:
            self._fail(run, message, list(worker.last_lines))
        for answer in worker.questions.values():
            answer([])

    def _fail(self, run: _Run, message: str, last_lines: list[str]) -> None:
        self._end_run(run)
        run.listener.on_failed(_discreet(message, run.folder), [_discreet(line, run.folder) for line in last_lines])

    def _end_run(self, run: _Run) -> None:
        """Be ready for the next run, and leave nothing of this one; its listener is told afterwards."""
        self._run = None
        self._remove(run.folder, _REMOVAL_TRIES)

    def _remove(self, folder: Path, tries: int) -> None:
        """Remove a folder, at once or, where Windows says that a file is still open, in a moment."""
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists() and tries:
            self._timer.after(_REMOVAL_PAUSE, lambda: self._remove(folder, tries - 1))


def _write_phases(phases: Phases, folder: Path) -> dict[str, str]:
    """The request's `phases`: files of neutral names, whatever the recipe calls them."""
    files = {name: folder / f"phase{number}.nrrd" for number, name in enumerate(phases, 1)}
    for name, file in files.items():
        write_volume(phases[name], file)
    return {name: str(file) for name, file in files.items()}


def _remove_now(folder: Path) -> None:
    """The same without a timer, which no longer runs when Slicer closes."""
    for _ in range(_REMOVAL_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(_REMOVAL_PAUSE)


def _discreet(text: str, folder: Path) -> str:
    """The text without the run's folder and the user's name in paths, also as Python quotes them."""
    home = Path.home()
    for path, name in ((folder, "…"), (home, "~")):
        if len(path.parts) > 1:
            text = text.replace(str(path), name).replace(repr(str(path))[1:-1], name)
    return text


def _line(number: int, request: dict[str, Any]) -> str:
    return json.dumps({"id": number, **request})
