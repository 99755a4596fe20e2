"""The worker's process from start to end: how it is started, what it said last, how it is killed."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..networks.devices import Device
from .process import Process, kill_tree, wait_until_gone

_LAST_LINES, _LONGEST_KEPT = 40, 400


def worker_command(python: str = sys.executable) -> list[str]:
    """The command that starts a worker; `python` is PythonSlicer in Slicer."""
    return [python, "-m", "LiverTumorSegLib", "worker"]


def worker_environment(base: Mapping[str, str] | None = None) -> dict[str, str]:
    """`base` (by default this process's variables) with what the worker needs to find the library and to be heard."""
    environment = dict(os.environ if base is None else base)
    library = str(Path(__file__).resolve().parents[2])
    known = [each for each in environment.get("PYTHONPATH", "").split(os.pathsep) if each and each != library]
    environment["PYTHONPATH"] = os.pathsep.join([library, *known])
    environment["PYTHONUNBUFFERED"] = "1"
    environment["PYTHONIOENCODING"] = "utf-8"
    environment["PYTHONSAFEPATH"] = "1"  # a numpy.py in whatever folder Slicer was started from is not ours
    environment["PYTHONFAULTHANDLER"] = "1"  # a crash in compiled code leaves last lines to show
    return environment


@dataclass(eq=False)
class WorkerProcess:
    """One process.

    Attributes:
        process: started by its owner.
        pid: the process that said "ready", or None until then; not the one started where that is a launcher.
        unsent: request -> its line, for as long as the worker is not ready.
        questions: request -> who waits for the list of devices.
        last_lines: what it said last that was no answer.
    """

    process: Process
    pid: int | None = None
    unsent: dict[int, str] = field(default_factory=dict)
    questions: dict[int, Callable[[list[Device]], None]] = field(default_factory=dict)
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=_LAST_LINES))

    def send(self, number: int, line: str) -> None:
        """Write a request, or keep it until the worker is ready."""
        if self.pid is None:
            self.unsent[number] = line
        else:
            self.process.write(line)

    def ready(self, pid: int) -> None:
        """Note who speaks, and write what waited for it."""
        self.pid = pid
        unsent, self.unsent = self.unsent, {}
        for line in unsent.values():
            self.process.write(line)

    def keep(self, line: str) -> None:
        """Note a line that may explain a failure later."""
        if line.strip():
            self.last_lines.append(line[:_LONGEST_KEPT])

    def kill(self) -> None:
        """End both the process that was started and the one that said "ready", and wait a moment for it."""
        if not self.process.is_running():
            return  # the system may have given its number to another process by now
        if self.pid is not None:
            kill_tree(self.pid)
        self.process.kill()
        if self.pid is not None:
            wait_until_gone(self.pid)
