"""What the command line shows while it works: a bar for people, JSON lines for programs, or nothing."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol, TextIO

from .errors import OutputError
from .json_text import finite

_WIDTH = 24


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Let an interrupt wait until the block is over.

    For imports and the loading of networks: compiled modules that are broken off meanwhile crash, or call it an error
    of their own.

    Raises:
        KeyboardInterrupt: at the end, if there was one.
    """
    if threading.current_thread() is not threading.main_thread():  # no signal's handler runs there
        yield
        return
    told: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        told.append(number)

    before = {number: signal.signal(number, hold) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
    if told:
        raise KeyboardInterrupt


class Console(Protocol):
    """Where progress, notes and results go."""

    def progress(self, step: str, share: float) -> None:
        """A step is under way; share runs from 0 to 1."""

    def note(self, text: str) -> None:
        """Something worth a line."""

    def result(self, event: str, content: dict[str, Any], text: str) -> None:
        """The outcome: `content` for programs, `text` for people."""

    def close(self) -> None:
        """Leave the terminal tidy."""


class BarConsole:
    """A line that is redrawn on a terminal's error stream; results go to standard output."""

    def __init__(self, error: TextIO | None = None):
        """Draw on `error`, by default the process's standard error; only a terminal gets the bar."""
        self._error = error or sys.stderr
        self._drawing = self._error.isatty()
        self._began = time.monotonic()

    def progress(self, step: str, share: float) -> None:
        """Redraw the bar."""
        if self._drawing:
            done = round(_WIDTH * min(max(share, 0.0), 1.0))
            bar = "#" * done + "." * (_WIDTH - done)
            self._error.write(f"\r\x1b[K[{bar}] {step}  {time.monotonic() - self._began:.1f} s")
            self._error.flush()

    def note(self, text: str) -> None:
        """Print a line on the error stream."""
        self.close()
        self._error.write(text + "\n")

    def result(self, event: str, content: dict[str, Any], text: str) -> None:
        """Print the text on standard output."""
        self.close()
        _print(text)

    def close(self) -> None:
        """Clear the bar."""
        if self._drawing:
            self._error.write("\r\x1b[K")
            self._error.flush()


class QuietConsole(BarConsole):
    """Only notes and errors."""

    def progress(self, step: str, share: float) -> None:
        """Say nothing."""

    def result(self, event: str, content: dict[str, Any], text: str) -> None:
        """Say nothing."""


class JsonConsole:
    """One JSON object a line on standard output; a number that is not finite is null."""

    def progress(self, step: str, share: float) -> None:
        """{"event": "progress", "step": …, "share": …}."""
        self._write({"event": "progress", "step": step, "share": round(share, 3)})

    def note(self, text: str) -> None:
        """{"event": "note", "text": …}."""
        self._write({"event": "note", "text": text})

    def result(self, event: str, content: dict[str, Any], text: str) -> None:
        """{"event": event, …content}."""
        self._write({"event": event, **content})

    def close(self) -> None:
        """Nothing to tidy."""

    def _write(self, line: dict[str, Any]) -> None:
        _print(json.dumps(finite(line), allow_nan=False))


def _print(text: str) -> None:
    """One line or more on standard output; letters that it cannot show are spelt out.

    Raises:
        OutputError: nobody reads it any more, or the disk is full.
    """
    try:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except OSError as error:
        # What is still in the buffer would raise once more when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise OutputError(f"standard output: wanted to print the result there, got: {error.strerror}") from error


def lesion_table(lesions: list[Any]) -> str:
    """The lesions as an aligned table for a terminal; one line that says so where there are none."""
    if not lesions:
        return "no lesions"
    head = ("id", "ml", "3D mm", "axial mm", "centre R,A,S mm", "mean", "prob.")
    rows = [
        (
            str(each.id),
            f"{each.volume_ml:.2f}",
            f"{each.long_axis_mm:.1f}",
            f"{each.axial_long_axis_mm:.1f} x {each.axial_perpendicular_mm:.1f}",
            ", ".join(f"{c:.0f}" for c in each.centroid_ras_mm),
            "" if each.mean_intensity is None else f"{each.mean_intensity:.0f}",
            "" if each.mean_probability is None else f"{each.mean_probability:.2f}",
        )
        for each in lesions
    ]
    widths = [max(len(row[n]) for row in [head, *rows]) for n in range(len(head))]
    return "\n".join("  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in [head, *rows])
