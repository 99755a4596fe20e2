"""A process and a timer for `WorkerClient` without Qt: threads read the pipes, a loop calls on the test's thread."""

from __future__ import annotations

import heapq
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
import SimpleITK as sitk

from LiverTumorSegLib.panel.client import Job, Phases, WorkerClient, worker_command
from LiverTumorSegLib.panel.process import NOT_STARTED, Lines
from LiverTumorSegLib.segmentation import Segmentation


class Loop:
    """What an event loop is to Qt; also a `Timer`."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._due, (time.monotonic() + seconds, next(self._numbers), call))

    def post(self, call: Callable[[], None]) -> None:
        """Call soon, on the loop's thread; from any thread."""
        self._calls.put(call)

    def run(self, until: Callable[[], bool], seconds: float = 60.0) -> float:
        """Call back until it is so; return how long that took."""
        began = time.monotonic()
        while not until():
            assert time.monotonic() - began < seconds, "the loop waited in vain"
            if self._due and self._due[0][0] <= time.monotonic():
                heapq.heappop(self._due)[2]()
                continue
            try:
                self._calls.get(timeout=0.01)()
            except queue.Empty:
                continue
        return time.monotonic() - began


class PipedProcess:
    """A `Process` over `subprocess`."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._running = False

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        on_output: Callable[[str], None],
        on_error_text: Callable[[str], None],
        on_finished: Callable[[int], None],
    ) -> None:
        pipe = subprocess.PIPE
        try:
            self.child = subprocess.Popen(command, env=dict(environment), stdin=pipe, stdout=pipe, stderr=pipe)
        except OSError as error:
            on_error_text(str(error))
            on_finished(NOT_STARTED)
            return
        self._running = True
        readers = [
            threading.Thread(target=self._read, args=(stream, Lines(lambda line, tell=tell: self._post(tell, line))))
            for stream, tell in ((self.child.stdout, on_output), (self.child.stderr, on_error_text))
        ]
        for reader in readers:
            reader.start()
        threading.Thread(target=self._wait, args=(readers, on_finished)).start()

    def write(self, line: str) -> None:
        try:
            self.child.stdin.write(f"{line}\n".encode())
            self.child.stdin.flush()
        except (BrokenPipeError, ValueError):  # ended, or closed by _wait
            return

    def kill(self) -> None:
        if self._running:
            self.child.kill()
            self.child.wait(0.5)

    def is_running(self) -> bool:
        return self._running

    def _read(self, stream, lines: Lines) -> None:
        with stream:
            while data := os.read(stream.fileno(), 1000):
                lines.feed(data)
        lines.end()

    def _post(self, tell: Callable[[str], None], line: str) -> None:
        self._loop.post(lambda: tell(line))

    def _wait(self, readers: list[threading.Thread], on_finished: Callable[[int], None]) -> None:
        code = self.child.wait()
        for reader in readers:
            reader.join(1.0)
        with suppress(BrokenPipeError):  # of a line that was on its way
            self.child.stdin.close()

        def finished() -> None:
            self._running = False
            on_finished(code)

        self._loop.post(finished)


class Ear:
    """A `Listener` that keeps what it is told."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, float]] = []
        self.logged: list[str] = []
        self.results: list[Segmentation] = []
        self.failures: list[tuple[str, list[str]]] = []
        self.cancelled = 0

    @property
    def ended(self) -> bool:
        return bool(self.results or self.failures or self.cancelled)

    def on_progress(self, step: str, share: float) -> None:
        self.steps.append((step, share))

    def on_log(self, text: str) -> None:
        self.logged.append(text)

    def on_done(self, segmentation: Segmentation) -> None:
        self.results.append(segmentation)

    def on_failed(self, message: str, last_lines: list[str]) -> None:
        self.failures.append((message, last_lines))

    def on_cancelled(self) -> None:
        self.cancelled += 1


def living_processes(marker: str) -> list[int]:
    """Return who has the marker in its environment, by Linux's process table; zombies have none."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if marker.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]


def reaches(ear: Ear, step: str) -> Callable[[], bool]:
    return lambda: ear.ended or any(name == step for name, _ in ear.steps)


ENGINE = """
import sys, time
import numpy as np
import LiverTumorSegLib.segmenter
from LiverTumorSegLib.worker import serve

class Stage:
    name, device, precision = "stand-in", "cpu", "f32"
    def get_ready(self, shape): pass
    def __call__(self, array):
        {call}
        return np.zeros((1, 3, *array.shape[2:]), np.float32)

LiverTumorSegLib.segmenter.open_engine = lambda *arguments, **more: Stage()
serve()
"""
STUCK = "time.sleep(60)"


def with_engine(call: str) -> list[str]:
    """Return the command of a worker whose networks do this instead of computing."""
    return [sys.executable, "-c", ENGINE.format(call=call)]


@dataclass
class Desk:
    """A client with what it needs, and what it started."""

    command: list[str]
    folder: Path
    loop: Loop = field(default_factory=Loop)
    started: list[PipedProcess] = field(default_factory=list)
    marker: str = field(default_factory=lambda: f"LTS_TEST_{uuid.uuid4().hex}")

    def __post_init__(self) -> None:
        self.client = WorkerClient(self._new_process, self.loop, self.command, {**os.environ, self.marker: "1"})

    def _new_process(self) -> PipedProcess:
        self.started.append(PipedProcess(self.loop))
        return self.started[-1]

    def run(self, image: sitk.Image, job: Job, ear: Ear | None = None, phases: Phases | None = None) -> Ear:
        """Run to the end."""
        ear = ear or Ear()
        self.client.segment(image, job, ear, phases)
        self.loop.run(lambda: ear.ended)
        return ear

    def files(self) -> list[Path]:
        return sorted(self.folder.rglob("*"))

    def processes(self) -> list[int]:
        return living_processes(self.marker)


@contextmanager
def desks(folder: Path) -> Iterator[Callable[..., Desk]]:
    """A function that makes a desk; its temporary folders lie in this folder, and nothing must be left in the end."""
    folder.mkdir()
    made: list[Desk] = []

    def make(command: list[str] | None = None) -> Desk:
        made.append(Desk(command or worker_command(), folder))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        yield make
    for each in made:
        each.client.close()
        assert each.processes() == []
        assert each.files() == []
