"""What a training run leaves to read: a CSV line an epoch, TensorBoard's curves and pictures, and the time left."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import OutputError, warn
from ..networks.weights import write_durably


@dataclass(frozen=True)
class Epoch:
    """One line of the log.

    Attributes:
        epoch: from 1.
        learning_rate: of its steps.
        training_loss, validation_loss: means; the validation loss decides which weights are the best.
        scores: what the stage's task says of the validation patches, Dice of every class for example.
        seconds: it took.
    """

    epoch: int
    learning_rate: float
    training_loss: float
    validation_loss: float
    scores: dict[str, float]
    seconds: float

    def columns(self) -> dict[str, float]:
        """Names and values in the order of the CSV file."""
        return {
            "epoch": self.epoch,
            "learning_rate": self.learning_rate,
            "training_loss": self.training_loss,
            "validation_loss": self.validation_loss,
            **self.scores,
            "seconds": self.seconds,
        }


def append_line(path: Path, line: Epoch) -> None:
    """Add an epoch to a CSV file, with the names of the columns above the first.

    Raises:
        OutputError: the file cannot be written.
    """
    rows = [list(line.columns())] if not path.exists() else []
    try:
        with path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([*rows, [round(value, 6) for value in line.columns().values()]])
    except OSError as error:
        raise OutputError(f"{path}: wanted to write it, got: {error.strerror}") from error


def keep_lines(path: Path, epochs: int) -> None:
    """Leave the first `epochs` lines of a CSV log: an epoch that was cut off after its line is done again."""
    if not path.exists():
        return
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[: epochs + 1]
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    write_durably(path, text.getvalue().encode("utf-8"))


class Curves:
    """TensorBoard's files; without that package nothing but one line that says so."""

    def __init__(self, folder: Path, begins_after: int):
        """Write into `folder`; what an earlier process wrote after epoch `begins_after` is no longer shown."""
        self._writer: Any = None
        try:
            from PIL import Image  # noqa: F401  # pictures need it
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            warn(f"no curves for TensorBoard: wanted the packages of the extra [train], got: {error}")
            return
        self._writer = SummaryWriter(str(folder), purge_step=begins_after + 1)

    def add(self, line: Epoch, picture: Callable[[], np.ndarray]) -> None:
        """An epoch's numbers and its picture, (rows, columns, 3) uint8."""
        if self._writer is None:
            return
        for name, value in line.columns().items():
            if name != "epoch":
                self._writer.add_scalar(name, value, line.epoch)
        self._writer.add_image("validation", picture(), line.epoch, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """End the file."""
        if self._writer is not None:
            self._writer.close()


class Pace:
    """Tells how far a stage is and how long it may take, at most once a second."""

    def __init__(
        self,
        stage: str,
        epochs: int,
        steps: int,
        done: int,
        tell: Callable[[str, float], None] | None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Tell of a stage of so many epochs of so many steps, `done` steps of all before; `clock` gives seconds."""
        self._stage, self._epochs, self._steps, self._tell, self._clock = stage, epochs, steps, tell, clock
        self._first, self._began, self._told = done, clock(), float("-inf")

    def step(self, epoch: int, step: int) -> None:
        """So many steps of an epoch, counted from 0, are done."""
        now, done, steps = self._clock(), epoch * self._steps + step, self._epochs * self._steps
        if self._tell is None or (now - self._told < 1 and done < steps):
            return
        self._told = now
        left = (now - self._began) / (done - self._first) * (steps - done)
        self._tell(f"{self._stage}: epoch {epoch + 1} of {self._epochs}, at most {duration(left)} left", done / steps)


def duration(seconds: float) -> str:
    """Hours and minutes, minutes, or seconds."""
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{round(seconds)} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
