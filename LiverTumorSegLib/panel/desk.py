"""What a session works on: the segmentation on show and its scan, watched while the session runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .. import scene
from ..correction.session import CorrectionSession
from ..errors import SessionError
from .collaborators import Node, SessionTools
from .correction_section import CorrectionSection
from .results import Results
from .witness import SessionWitness, Witness

if TYPE_CHECKING:
    import SimpleITK as sitk


class Desk:
    """Puts cases on show, reads the corrected labels, and joins a session to what the reader does."""

    def __init__(
        self,
        mrml_scene: Node,
        results: Results,
        correction: CorrectionSection,
        tools: SessionTools,
        put_on_show: Callable[[Node, Node], None],
    ) -> None:
        """Args: the scene, the sections, Slicer's windows, and what shows a scan's node and a segmentation's."""
        self._scene, self._results, self._correction = mrml_scene, results, correction
        self._tools, self._put_on_show = tools, put_on_show
        self._watch: scene.SessionWatch | None = None
        self._stop_focus: Callable[[], None] | None = None

    @property
    def ready(self) -> bool:
        """Whether there is a segmentation with its scan."""
        return self._results.node is not None and self._results.volume is not None

    def labels(self) -> sitk.Image:
        """Liver and tumours as they are now.

        Raises:
            LiverTumorSegError: there is no segmentation with its scan, or no liver in it.
        """
        if not self.ready:
            raise SessionError("session: wanted a segmentation with its scan on show, got none")
        return scene.labels_from_segmentation(self._results.node, self._results.volume)

    def open_case(self, image: sitk.Image, labels: sitk.Image, name: str, edited: bool) -> None:
        """Show a scan and what its reader starts from, instead of what was there of an earlier case."""
        volume = scene.add_volume(image, self._scene, name)
        self._open(volume, scene.add_labels(labels, volume, edited))

    def open_labels(self, labels: sitk.Image, volume: Node | None) -> None:
        """Show edited labels on a scan that is loaded.

        Raises:
            LiverTumorSegError: it is not the scan that they belong to, or there is none.
        """
        if volume is None:
            raise SessionError("session: wanted the scan that it was begun on, got none; load it first")
        self._open(volume, scene.add_labels(labels, volume, edited=True))

    def watch(self, session: CorrectionSession, on_error: Callable[[str], None]) -> None:
        """Tell a session all that its reader does, until `leave`."""
        self.leave()
        watch = scene.SessionWatch(
            session, self._results.node, self._correction.editor_node, self._tools.interactors(), on_error
        )
        self._watch = watch
        self._correction.on_change = watch.changed
        self._results.witness = SessionWitness(session, watch, self._results.rows)
        self._stop_focus = self._tools.hear_focus(watch.focus)

    def leave(self) -> None:
        """Tell nobody anything more."""
        self._correction.on_change = None
        self._results.witness = Witness()
        if self._stop_focus is not None:
            self._stop_focus()
            self._stop_focus = None
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

    def _open(self, volume: Node, segmentation_node: Node) -> None:
        scene.show_alone(volume, segmentation_node)
        self._put_on_show(volume, segmentation_node)

    def note(self, document: Mapping[str, Any]) -> None:
        """Keep a finished session in the scene."""
        scene.note_session(self._scene, document)
