"""One run of the networks, from Apply to segments in the scene; says at every moment what the panel shows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from .. import scene
from ..errors import LiverTumorSegError
from .client import Job
from .collaborators import Collaborators, Node
from .wording import count_text, elapsed_text, overall_share, step_text, unforeseen_text

if TYPE_CHECKING:
    import SimpleITK as sitk

    from ..segmentation import Segmentation

log = logging.getLogger(__name__)

TICK_SECONDS = 0.5
_REPLACE_EDITED = (
    "{name} was edited by a person. Replace it with a new result?\n\n"
    "Undo in the segment editor brings the edited state back."
)


class Phase(Enum):
    """What has become of the latest run."""

    IDLE = "idle"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Order:
    """What Apply asks for.

    Attributes:
        volume: the scan's node.
        target: the segmentation node to fill, or None for a new one.
        job: bundle, device, modality and sensitivity.
        stages: the names of the bundle's stages, for the progress bar.
        separate_lesions: a segment for each lesion.
        phases: nodes of further scans of the study, by the names that the bundle's recipe gives them.
    """

    volume: Node
    target: Node | None
    job: Job
    stages: tuple[str, ...] = ()
    separate_lesions: bool = False
    phases: Mapping[str, Node] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """What a run left: the nodes, and the segmentation with the networks' output."""

    segmentation: Segmentation
    node: Node
    volume: Node


class Run:
    """Carries out one order after the other; a `Listener` of the client.

    Attributes:
        phase: of the latest run.
        status: one line for the user.
        share: how much is done, 0 to 1.
    """

    def __init__(
        self,
        surroundings: Collaborators,
        on_change: Callable[[], None],
        on_log: Callable[[str], None],
        on_result: Callable[[Result], None],
    ) -> None:
        """Args: what the panel asks of, and whom to tell of a new state, a line for the log, a result."""
        self._at = surroundings
        self._on_change, self._log, self._on_result = on_change, on_log, on_result
        self.phase, self.status, self.share = Phase.IDLE, "", 0.0
        self._order: Order | None = None
        self._step, self._began, self._number = "", 0.0, 0
        self._reason_to_cancel = ""
        self._may_replace = False

    @property
    def running(self) -> bool:
        """Whether the worker is at it."""
        return self.phase is Phase.RUNNING

    def start(self, order: Order) -> None:
        """Ask what must be asked, then begin; returns at once.

        Nothing happens while a run is under way, or when the user declines a question.
        """
        if self._at.client.busy:
            return
        target = order.target
        self._may_replace = False
        if target is not None and scene.is_edited(target):
            self._may_replace = self._at.messages.ask(_REPLACE_EDITED.format(name=target.GetName()))
            if not self._may_replace:
                return
        try:
            self._at.installer.ensure()
            image = scene.image_from_volume(order.volume)
            phases = {name: scene.image_from_volume(node) for name, node in order.phases.items()}
        except (RuntimeError, LiverTumorSegError) as error:
            self._end(Phase.FAILED, str(error))
            return
        self._begin(order, image, phases)

    def cancel(self, reason: str = "Cancelled. Nothing was changed.") -> None:
        """End the run under way; its listener hears of it in a moment."""
        if self.running:
            self._reason_to_cancel = reason
            self._set(f"Stopping… {self._elapsed()}", self.share)
            self._at.client.cancel()

    def node_removed(self, node: Node) -> None:
        """Stop when the scan under way was deleted."""
        if self.running and self._order is not None and node is self._order.volume:
            self.cancel(f"Cancelled: {node.GetName()} was deleted.")

    def close(self) -> None:
        """The panel ends, and the worker with it: nobody is told of the run any more."""
        self.phase, self._order = Phase.IDLE, None

    def on_progress(self, step: str, share: float) -> None:
        """Told by the client: `share` (0 to 1) of a step is done."""
        if self._order is not None and not self._reason_to_cancel:
            self._step = step
            whole = overall_share(self._order.stages, step, share)
            self._show_step(self.share if whole is None else max(self.share, whole))

    def on_log(self, text: str) -> None:
        """Told by the client: something for the log."""
        self._log(text)

    def on_done(self, segmentation: Segmentation) -> None:
        """Told by the client: the result is there; it goes into the scene."""
        order, self._order = self._order, None
        if order is None:
            return
        try:
            self._keep(segmentation, order)
        except LiverTumorSegError as error:
            self._end(Phase.FAILED, str(error))
        except Exception as error:  # whatever it is, the panel must be free again
            log.exception("a result could not be kept")
            self._end(Phase.FAILED, unforeseen_text(error))
        else:
            told = segmentation.provenance
            found = count_text(len(segmentation.lesions), "lesion") if segmentation.liver_ml else "no liver"
            self._end(Phase.DONE, f"Done in {self._elapsed()}: {found} found. {_first(told.warnings)}".strip())

    def on_failed(self, message: str, last_lines: list[str]) -> None:
        """Told by the client: the run or the whole worker came to an end."""
        for line in last_lines:
            self._log(line)
        self._log(message)
        self._end(Phase.FAILED, message)

    def on_cancelled(self) -> None:
        """Told by the client: the run was ended as asked."""
        self._end(Phase.CANCELLED, self._reason_to_cancel or "Cancelled.")

    def _begin(self, order: Order, image: sitk.Image, phases: Mapping[str, sitk.Image]) -> None:
        self._order, self._reason_to_cancel = order, ""
        self._step, self._began, self._number = "open", self._at.clock(), self._number + 1
        self.phase, self.share = Phase.RUNNING, 0.0
        used = f", with {', '.join(order.phases)}" if order.phases else ""
        self._log(f"Networks {order.job.bundle}, device {order.job.device}{used}")
        self._show_step(0.0)
        self._tick(self._number)
        try:
            self._at.client.segment(image, order.job, self, phases)
        except (OSError, LiverTumorSegError) as error:  # no worker can be started, or no room for its files
            self.on_failed(str(error), [])

    def _keep(self, segmentation: Segmentation, order: Order) -> None:
        """Put a result into the scene, and tell of it."""
        node = self._write(segmentation, order)
        for warning in segmentation.provenance.warnings:
            self._log(warning)
        told = segmentation.provenance
        self._log(f"{told.algorithm} on {told.device} ({told.engine}, {told.precision}), {self._elapsed()}")
        self._on_result(Result(segmentation, node, order.volume))

    def _write(self, segmentation: Segmentation, order: Order) -> Node:
        node = order.target
        if node is not None and node.GetScene() is None:
            self._log("The segmentation was deleted during the run; the result is in a new one.")
            node = None
        elif node is not None and scene.is_edited(node):
            if self._may_replace:
                self._at.save_for_undo(node)
            else:
                self._log("The segmentation was edited during the run and stays; the result is in a new one.")
                node = None
        if node is None:
            node = scene.add_segmentation(order.volume)
        scene.write_segmentation(
            segmentation, node, order.volume, separate_lesions=order.separate_lesions, replace_edited=True
        )
        return node

    def _tick(self, number: int) -> None:
        """Keep the clock on the status line going for as long as the run of that number lasts."""
        if self.running and number == self._number:
            if not self._reason_to_cancel:
                self._show_step(self.share)
            self._at.timer.after(TICK_SECONDS, lambda: self._tick(number))

    def _show_step(self, share: float) -> None:
        self._set(f"{step_text(self._step)}… {self._elapsed()}", share)

    def _elapsed(self) -> str:
        return elapsed_text(self._at.clock() - self._began)

    def _set(self, status: str, share: float) -> None:
        self.status, self.share = status, share
        self._on_change()

    def _end(self, phase: Phase, status: str) -> None:
        self.phase, self._order = phase, None
        self._set(status, 1.0 if phase is Phase.DONE else 0.0)


def _first(warnings: tuple[str, ...]) -> str:
    """The first warning, and that there are more."""
    if not warnings:
        return ""
    more = f" (and {len(warnings) - 1} more in the log)" if len(warnings) > 1 else ""
    return f"Note: {warnings[0]}{more}."
