"""The section Batch: where the scans are, where results go, and the table of what became of each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import LiverTumorSegError
from .batch import Batch, State, Work, tally
from .batch_sources import FolderWork, SceneWork
from .collaborators import Collaborators, Node
from .inputs_section import InputsSection
from .widgets import Choices, fill_table, set_up_table

SCENE, FOLDER = "scene", "folder"
SOURCES = ((SCENE, "All scans that are loaded"), (FOLDER, "A folder of scans"))


class BatchSection:
    """Starts and stops a batch, and shows how far it is."""

    def __init__(
        self,
        ui: Any,
        surroundings: Collaborators,
        mrml_scene: Node,
        inputs: InputsSection,
        on_status: Callable[[str, bool], None],
        on_change: Callable[[], None],
    ) -> None:
        """Build the section.

        Args:
            ui: the panel's controls.
            surroundings: what it asks of.
            mrml_scene: the application's.
            inputs: what to do with a scan.
            on_status: where a line for the user goes, and whether it tells of a failure.
            on_change: told when a scan has begun or ended; `show` is to follow.
        """
        self._ui, self._at, self._scene, self._inputs = ui, surroundings, mrml_scene, inputs
        self._say, self._on_change = on_status, on_change
        self.batch = Batch(surroundings.client, surroundings.timer, self._show_table)
        self._parameters: Any = None
        self._source = Choices(ui.batchSourceComboBox, self._set_source)
        set_up_table(ui.batchTableWidget, ("Scan", "State"), stretched=1)
        ui.batchButton.connect("clicked()", self.start_or_cancel)
        ui.batchFolderButton.connect("clicked()", lambda: self._choose("batchFolder", "Folder with the scans"))
        ui.batchOutputButton.connect("clicked()", lambda: self._choose("batchOutput", "Folder for the results"))

    def attach(self, parameters: Any) -> None:
        """Show these parameters from now on; None as the scene closes."""
        self._parameters = parameters
        if parameters is not None:
            self._source.fill(SOURCES, parameters.batchSource)

    def show(self) -> None:
        """The parameters or the worker's state have changed."""
        ui, wanted, running = self._ui, self._parameters, self.batch.running
        self._source.show(wanted.batchSource)
        from_folder = wanted.batchSource == FOLDER
        for control in (ui.batchFolderLabel, ui.batchFolderLineEdit, ui.batchFolderButton):
            control.visible = from_folder
        for control in (ui.batchOutputLabel, ui.batchOutputLineEdit, ui.batchOutputButton):
            control.visible = from_folder
        complete = not from_folder or bool(wanted.batchFolder.strip() and wanted.batchOutput.strip())
        ui.batchButton.text = "Cancel batch" if running else "Start batch"
        ui.batchButton.enabled = running or (complete and not self._at.client.busy)
        ui.batchTableWidget.visible = bool(self.batch.items)

    def start_or_cancel(self) -> None:
        """The button."""
        if self.batch.running:
            self.batch.cancel()
            return
        try:
            self._at.installer.ensure()
            self.batch.start(self._work(), self._inputs.job())
        except (RuntimeError, LiverTumorSegError) as error:
            self._say(str(error), True)

    def stop(self) -> None:
        """The scene closes, or the panel ends."""
        if self.batch.running:
            self.batch.cancel()

    def _work(self) -> Work:
        wanted = self._parameters
        if wanted.batchSource == FOLDER:
            folders = Path(wanted.batchFolder.strip()), Path(wanted.batchOutput.strip())
            return FolderWork(*folders, self._inputs.job().modality)
        return SceneWork(self._scene, wanted.separateLesions, self._inputs.phases())

    def _show_table(self) -> None:
        rows = [(item.name, _state_text(item.state, item.message)) for item in self.batch.items]
        fill_table(self._ui.batchTableWidget, rows)
        self._on_change()
        if self.batch.items and not self.batch.running:
            self._say(f"Batch: {tally(self.batch.items)}.", False)

    def _set_source(self, value: str) -> None:
        if self._parameters is not None:
            self._parameters.batchSource = value

    def _choose(self, parameter: str, title: str) -> None:
        folder = self._at.messages.choose_folder(title)
        if folder is not None and self._parameters is not None:
            setattr(self._parameters, parameter, str(folder))


def _state_text(state: State, message: str) -> str:
    return f"{state.value}: {message}" if message else state.value
