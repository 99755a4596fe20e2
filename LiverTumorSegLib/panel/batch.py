"""Many scans, one after the other: each waits, runs, and is done, failed or skipped; none stops the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import LiverTumorSegError
from .collaborators import Client
from .wording import step_text, unforeseen_text

if TYPE_CHECKING:
    import SimpleITK as sitk

    from ..segmentation import Segmentation
    from .client import Job, Phases
    from .process import Timer

log = logging.getLogger(__name__)

_POLL_SECONDS, _POLL_WAIT = 0.05, 0.01


class State(Enum):
    """What has become of one scan."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass
class Item:
    """One scan of a batch.

    Attributes:
        name: what the table says.
        source: a file, a folder or a node.
        state: what has become of it.
        message: why, or how far.
    """

    name: str
    source: Any
    state: State = State.WAITING
    message: str = ""


class Work(Protocol):
    """Where a batch's scans come from and where its results go.

    Attributes:
        background: whether `read` and `keep` may run in another thread, off the user's.
    """

    background: bool

    def items(self) -> list[Item]:
        """The scans, in the order in which they are done."""

    def earlier_result(self, item: Item) -> str:
        """What is there already, in words, or nothing."""

    def read(self, item: Item) -> tuple[sitk.Image, Phases]:
        """The scan, and the further phases of its study that are at hand."""

    def keep(self, item: Item, segmentation: Segmentation) -> str:
        """Put a result where it belongs, and say in a few words what it is."""


class Batch:
    """Runs the items of one work after the other; a `Listener` of the client."""

    def __init__(self, client: Client, timer: Timer, on_change: Callable[[], None]) -> None:
        """Args: the worker, what calls back later, and whom to tell that the table changed."""
        self._client, self._timer, self._on_change = client, timer, on_change
        self.items: list[Item] = []
        self._work: Work | None = None
        self._job: Job | None = None
        self._current: Item | None = None
        self._pool: ThreadPoolExecutor | None = None

    @property
    def running(self) -> bool:
        """Whether a batch is under way."""
        return self._work is not None

    def start(self, work: Work, job: Job) -> None:
        """Begin with the first item; returns at once. Nothing happens while the worker is busy.

        Raises:
            LiverTumorSegError: the scans cannot be listed.
        """
        if self.running or self._client.busy:
            return
        self.items = work.items()
        self._work, self._job = work, job
        self._pool = ThreadPoolExecutor(1, "LiverTumorSeg batch") if work.background else None
        self._next()

    def cancel(self) -> None:
        """Stop after the item under way has been ended; what is done stays, the rest waits."""
        current, self._current = self._current, None
        if current is not None:
            current.state, current.message = State.WAITING, "cancelled"
            if self._client.busy:
                self._client.cancel()
        self._finish()

    def on_progress(self, step: str, share: float) -> None:
        """Told by the client: `share` (0 to 1) of a step is done."""
        self._say(f"{step_text(step)} {share:.0%}")

    def on_log(self, text: str) -> None:
        """Told by the client: a warning; the result's own warnings say it again."""

    def on_done(self, segmentation: Segmentation) -> None:
        """Told by the client: a result is there; it is kept, and the next one begins."""
        item, work = self._current, self._work
        if item is not None and work is not None:
            self._say("keeping the result")
            self._do(lambda: work.keep(item, segmentation), lambda text: self._close(State.DONE, text))

    def on_failed(self, message: str, last_lines: list[str]) -> None:
        """Told by the client: this one came to nothing; the next one begins."""
        self._close(State.FAILED, message)

    def on_cancelled(self) -> None:
        """Told by the client: the run was ended, by this batch or by somebody else."""
        if self._current is not None:
            self.cancel()
        else:  # by this one, which waited for the worker to be free again
            self._on_change()

    def _next(self) -> None:
        work = self._work
        if work is None:
            return
        for item in self.items:
            if item.state is not State.WAITING:
                continue
            earlier = work.earlier_result(item)
            if earlier:
                item.state, item.message = State.SKIPPED, earlier
                continue
            self._current = item
            item.state = State.RUNNING
            self._say("reading")
            self._do(lambda item=item: work.read(item), self._segment)  # type: ignore[misc]
            return
        self._finish()

    def _segment(self, study: tuple[sitk.Image, Phases]) -> None:
        if self._job is not None:
            image, phases = study
            self._client.segment(image, self._job, self, phases)

    def _do(self, call: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Do what may take a second, and go on with what came of it; errors end the item."""
        item = self._current
        if self._pool is not None:
            self._poll(self._pool.submit(call), item, then)
        else:
            self._settle(call, then)

    def _poll(self, future: Future[Any], item: Item | None, then: Callable[[Any], None]) -> None:
        # Waiting a moment lets the other thread have Python's lock, which Slicer's event loop does not give up.
        wait([future], _POLL_WAIT)
        if self._current is not item:
            return
        if future.done():
            self._settle(future.result, then)
        else:
            self._timer.after(_POLL_SECONDS, lambda: self._poll(future, item, then))

    def _settle(self, call: Callable[[], Any], then: Callable[[Any], None]) -> None:
        try:
            then(call())
        except (LiverTumorSegError, OSError) as error:
            self._close(State.FAILED, str(error))
        except Exception as error:  # whatever it is, the other scans must have their turn
            log.exception("a scan of a batch failed")
            self._close(State.FAILED, unforeseen_text(error))

    def _close(self, state: State, message: str) -> None:
        item, self._current = self._current, None
        if item is not None:
            item.state, item.message = state, message
            self._on_change()
            # The client is free again only when it has returned from telling us.
            self._timer.after(0.0, self._next)

    def _finish(self) -> None:
        self._work = self._current = None
        if self._pool is not None:
            self._pool.shutdown(wait=False)
            self._pool = None
        self._on_change()

    def _say(self, message: str) -> None:
        if self._current is not None:
            self._current.message = message
            self._on_change()


def tally(items: Sequence[Item]) -> str:
    """How many are done, failed and so on: "3 of 5 done, 1 failed"."""
    counts = {state: sum(item.state is state for item in items) for state in State}
    parts = [f"{counts[State.DONE]} of {len(items)} done"]
    parts += [f"{counts[state]} {state.value}" for state in (State.FAILED, State.SKIPPED) if counts[state]]
    return ", ".join(parts)
