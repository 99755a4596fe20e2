"""The panel as a whole: its sections, what they tell each other, and what the application tells them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .batch_section import BatchSection
from .bundles import BundleStore
from .collaborators import Collaborators, Node
from .correction_section import CorrectionSection
from .desk import Desk
from .inputs_section import InputsSection
from .nodes import SegmentWatch, volumes_in
from .results import Results
from .results_section import ResultsSection
from .run import Result, Run
from .run_section import RunSection
from .session import Sessions
from .session_section import SessionSection

_SENSITIVITIES = (0.2, 5.0)
_ENTERED_SECONDS = 0.5


class Panel:
    """Everything behind the controls; the module's widget owns one and hands on what happens.

    Attributes:
        parameters: what the panel remembers, or None while there is no scene to remember it in.
        run, results, batch, sessions: what the sections show.
    """

    def __init__(
        self,
        ui: Any,
        mrml_scene: Node,
        bundles: BundleStore,
        collaborate: Callable[[Callable[[Node], None]], Collaborators],
        export_dicom: Callable[[Node], None],
    ) -> None:
        """Build the sections.

        Args:
            ui: the controls, by name.
            mrml_scene: the application's.
            bundles: the networks that can be chosen.
            collaborate: given what saves a segmentation for undo, makes what the panel asks of its surroundings.
            export_dicom: Slicer's own export of a segmentation.
        """
        self._ui, self._scene, self._entered = ui, mrml_scene, False
        self.parameters: Any = None
        self._progress = RunSection(ui)
        self._correction = CorrectionSection(ui, mrml_scene)
        self._at = at = collaborate(self._correction.save_for_undo)
        self.run = Run(at, self._show_run, self._progress.log, self._adopt)
        self.results = Results(at, self.show, self._set_sensitivity)
        self._inputs = InputsSection(ui, at, bundles, self._progress.say)
        self._table = ResultsSection(ui, at, self.results, self._progress.say, export_dicom)
        self._batch = BatchSection(ui, at, mrml_scene, self._inputs, self._progress.say, self._show_run)
        self.batch = self._batch.batch
        self._watch = SegmentWatch(self.results.edited)
        desk = Desk(mrml_scene, self.results, self._correction, at.sessions, self._put_on_show)
        self._session = SessionSection(ui, at, desk, self._show_session)
        self.sessions: Sessions = self._session.sessions
        ui.applyButton.connect("clicked()", self.apply_or_cancel)

    def apply_or_cancel(self) -> None:
        """The main button."""
        if self.run.running:
            self.run.cancel()
        elif self.parameters is not None:
            self.run.start(self._inputs.order())

    def attach(self, parameters: Any) -> None:
        """Work with these parameters from now on; None lets go of them."""
        self.parameters = parameters
        for section in (self._inputs, self._table, self._batch, self._session):
            section.attach(parameters)
        if parameters is not None:
            if parameters.inputVolume is None:
                parameters.inputVolume = next(iter(volumes_in(self._scene)), None)
            self.parameters_changed()

    def parameters_changed(self) -> None:
        """A control, a loaded scene or a script has changed a parameter."""
        self._inputs.show()
        if self.parameters.segmentation is not self.results.node:
            self.sessions.close()
        self.results.show(self.parameters.segmentation)
        self.results.set_sensitivity(self.parameters.sensitivity)
        self.show()

    def enter(self) -> None:
        """The user opens the module; the worker is asked for devices, which also warms it up."""
        self._entered = True
        self._correction.enter()
        self._at.timer.after(_ENTERED_SECONDS, self._inputs.ask_for_devices)

    def exit(self) -> None:
        """The user goes to another module."""
        self._entered = False
        self._correction.exit()

    def node_removed(self, node: Node) -> None:
        """A node is about to leave the scene."""
        if node in (self.results.node, self.results.volume):
            self.sessions.close()
        self.run.node_removed(node)
        self.results.node_removed(node)

    def scene_closes(self) -> None:
        """Nothing of the scene is touched from now on."""
        self.sessions.close()
        self.run.cancel("Cancelled: the scene was closed.")
        self._batch.stop()
        self.attach(None)
        self._watch.stop()
        self.results.close()
        self._correction.scene_closes()

    def scene_closed(self) -> None:
        """The scene is empty and can be worked with again."""
        self._correction.scene_closed()

    def close(self) -> None:
        """The application ends or reads the module anew: no process and no observer is left."""
        self.sessions.close()
        self._at.client.close()
        self.run.close()
        self._batch.stop()
        self.attach(None)
        self._watch.stop()
        self.results.close()
        self._correction.close()

    def show(self) -> None:
        """Bring everything up to date."""
        if self.parameters is not None:
            self._watch.start(self.results.node, self.results.volume)
            self._table.show()
            self._correction.show(self.results.node, self.results.volume)
            self._show_run()

    def _show_run(self) -> None:
        if self.parameters is not None:
            lacking, timed = self._inputs.lacking(), self.sessions.running
            why_not = lacking or ("A correction is being timed." if timed else "A batch is under way.")
            self._progress.show(self.run, not (lacking or timed or self.batch.running), why_not)
            self._batch.show()
            self._show_session()

    def _show_session(self) -> None:
        """A session belongs to what is on show, so nothing else can be chosen or computed meanwhile."""
        if self.parameters is None:
            return
        timed = self.sessions.running
        self._session.show(self.run.running or self.batch.running)
        for control in (self._ui.inputVolumeSelector, self._ui.segmentationSelector):
            control.enabled = not timed
        if timed:
            self._ui.applyButton.enabled = self._ui.batchButton.enabled = False

    def _put_on_show(self, volume: Node, segmentation_node: Node) -> None:
        """A case of a study, or the labels of a session that is taken up again."""
        self.parameters.inputVolume = volume
        self.parameters.segmentation = segmentation_node
        self._at.centre_3d()
        self._ui.correctionCollapsibleButton.collapsed = False

    def _adopt(self, result: Result) -> None:
        self.results.adopt(result)
        if self.parameters is not None:
            is_new = self.parameters.segmentation is not result.node
            self.parameters.segmentation = result.node
            if is_new:  # later results are looked at from where the user looks
                self._at.centre_3d()
        self._ui.resultsCollapsibleButton.collapsed = False

    def _set_sensitivity(self, value: float) -> None:
        """The slider follows what is on show."""
        if self.parameters is not None:
            least, most = _SENSITIVITIES
            self.parameters.sensitivity = min(most, max(least, value))
