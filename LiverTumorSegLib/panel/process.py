"""Child processes and timers as the panel sees them, and what they are in Slicer: QProcess and QTimer.

Qt is reached through Slicer's module `qt` (PythonQt), imported when a process or timer is used.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

NOT_STARTED = -1
"""The exit code of a process that could not be started."""

_LONGEST_LINE = 1 << 20  # bytes; a process that never ends its line must not fill the memory
_KILL_SECONDS = 0.4


class Process(Protocol):
    """A child process that talks in lines; its callbacks come on the caller's thread."""

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        on_output: Callable[[str], None],
        on_error_text: Callable[[str], None],
        on_finished: Callable[[int], None],
    ) -> None:
        """Start the process; once for each object.

        Args:
            command: the executable and its arguments.
            environment: all of the child's variables; nothing is inherited beside them.
            on_output: told each line of standard output, without its end.
            on_error_text: told each line of standard error, and why a process could not be started.
            on_finished: told the exit code, once and last; negative for a crash or a failed start,
                which may come before this call returns.
        """

    def write(self, line: str) -> None:
        """Send a line to standard input; nothing happens once the process has ended."""

    def kill(self) -> None:
        """End the process without asking, and wait a moment until it has ended."""

    def is_running(self) -> bool:
        """Whether it was started and has not ended."""


class Timer(Protocol):
    """Calls later on the caller's thread."""

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Call once, so much later."""


class Lines:
    """Bytes as a pipe hands them out, cut into lines of text; a line and a character may come in pieces."""

    def __init__(self, on_line: Callable[[str], None]):
        """Tell `on_line` each line without its end; bytes that are not UTF-8 become replacement characters."""
        self._on_line = on_line
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        for line in whole:
            self._tell(line)
        if len(self._rest) > _LONGEST_LINE:
            self.end()

    def end(self) -> None:
        """Tell what came without a line end."""
        rest, self._rest = self._rest, b""
        if rest:
            self._tell(rest)

    def _tell(self, line: bytes) -> None:
        self._on_line(line.removesuffix(b"\r").decode("utf-8", "replace"))


class QtProcess:
    """A `Process` over `qt.QProcess`; its callbacks come through Qt's event loop."""

    def __init__(self) -> None:
        self._process: Any = None
        self._running = False

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        on_output: Callable[[str], None],
        on_error_text: Callable[[str], None],
        on_finished: Callable[[int], None],
    ) -> None:
        """See `Process.start`."""
        import qt

        self._qt = qt
        self._output, self._error = Lines(on_output), Lines(on_error_text)
        self._on_finished = on_finished
        self._process = process = qt.QProcess()
        variables = qt.QProcessEnvironment()
        for name, value in environment.items():
            variables.insert(name, value)
        process.setProcessEnvironment(variables)
        process.connect("readyReadStandardOutput()", self._read_output)
        process.connect("readyReadStandardError()", self._read_error)
        process.connect("finished(int,QProcess::ExitStatus)", self._finished)
        process.connect("errorOccurred(QProcess::ProcessError)", self._failed)
        self._running = True
        process.start(command[0], list(command[1:]))

    def write(self, line: str) -> None:
        """See `Process.write`."""
        if self._running:
            self._process.write(f"{line}\n".encode())

    def kill(self) -> None:
        """See `Process.kill`."""
        if self._running:
            self._process.kill()
            self._process.waitForFinished(int(_KILL_SECONDS * 1000))

    def is_running(self) -> bool:
        """See `Process.is_running`."""
        return self._running

    def _read_output(self) -> None:
        # PythonQt's QByteArray gives its bytes by data(), and does not take part in bytes().
        self._output.feed(self._process.readAllStandardOutput().data())

    def _read_error(self) -> None:
        self._error.feed(self._process.readAllStandardError().data())

    def _failed(self, error: Any) -> None:
        """Only a process that did not start fails without finishing."""
        if error == self._qt.QProcess.FailedToStart and self._running:
            self._error.feed(self._process.errorString().encode())
            self._conclude(NOT_STARTED)

    def _finished(self, code: int, status: Any) -> None:
        if self._running:
            self._read_output()
            self._read_error()
            self._conclude(code if status == self._qt.QProcess.NormalExit else -max(1, code))

    def _conclude(self, code: int) -> None:
        self._running = False
        self._output.end()
        self._error.end()
        # This runs inside a signal of the process, which Qt must not lose before it is over; the connections keep
        # this object alive until then.
        self._process.deleteLater()
        self._on_finished(code)


class QtTimer:
    """A `Timer` over `qt.QTimer`."""

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """See `Timer.after`."""
        import qt

        qt.QTimer.singleShot(round(seconds * 1000), call)


def kill_tree(pid: int) -> None:
    """End the worker that said it has this id, and its children, without asking; wait a moment on Windows.

    A worker leads a group of processes, which goes with it; on Windows the system knows the children. A process that
    leads no group of its own is none of ours, whoever named it, and is left alone.
    """
    if sys.platform == "win32":
        command = ["taskkill", "/PID", str(pid), "/T", "/F"]
        killing = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, creationflags=subprocess.CREATE_NO_WINDOW
        )
        with contextlib.suppress(subprocess.TimeoutExpired):  # it goes on by itself
            killing.wait(_KILL_SECONDS)
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if pid > 1 and os.getpgid(pid) == pid != os.getpgrp():
            os.killpg(pid, signal.SIGKILL)


def wait_until_gone(pid: int, seconds: float = _KILL_SECONDS) -> None:
    """Wait, not longer than this, until no process has this id."""
    if sys.platform == "win32":  # taskkill has waited, and asking with signal 0 would end the process
        return
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, PermissionError):
            return
        time.sleep(0.005)
