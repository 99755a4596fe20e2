"""The section Results: figures, lesion table, decisions, sensitivity, 3D and export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import scene
from ..errors import LiverTumorSegError, OutputError
from ..lesions import has_types
from .collaborators import Collaborators, ensured
from .nodes import from_dicom
from .results import Results
from .widgets import fill_table, set_up_table
from .wording import lacking_text, number_text, place_text, summary_html, volume_text

HEADERS = ("#", "Vol.\nml", "Size\nmm", "Mean", "Prob.", "Place\nmm", "Type", "Decision")
TYPE = HEADERS.index("Type")
"""The column that is hidden where no lesion has one."""
FORMATS = {
    "exportSegNrrd": "seg.nrrd",
    "exportNifti": "nii.gz",
    "exportStl": "stl",
    "exportObj": "obj",
    "exportCsv": "csv",
}
"""Parameter -> format of `scene.export_segmentation`."""


class ResultsSection:
    """Shows `Results` and hands the user's decisions to it."""

    def __init__(
        self,
        ui: Any,
        surroundings: Collaborators,
        results: Results,
        on_status: Callable[[str, bool], None],
        export_dicom: Callable[[Any], None],
    ) -> None:
        """Args: the controls, what the panel asks of, the results, the status line, Slicer's DICOM export."""
        self._ui, self._at, self._results, self._say = ui, surroundings, results, on_status
        self._export_dicom = export_dicom
        self._parameters: Any = None
        self._slider_tip = ui.sensitivitySlider.toolTip
        set_up_table(ui.lesionTableWidget, HEADERS, stretched=len(HEADERS) - 1)
        ui.lesionTableWidget.connect("currentCellChanged(int,int,int,int)", self._on_row)
        ui.lesionTableWidget.connect("cellClicked(int,int)", self._go_to)
        ui.acceptButton.connect("clicked()", lambda: self._decide(results.accept))
        ui.rejectButton.connect("clicked()", lambda: self._decide(results.reject))
        ui.exportButton.connect("clicked()", self.export)
        ui.exportDicomButton.connect("clicked()", self.export_dicom)

    def attach(self, parameters: Any) -> None:
        """Read these parameters from now on; None as the scene closes."""
        self._parameters = parameters

    def show(self) -> None:
        """Bring the section up to date with the results."""
        ui, results = self._ui, self._results
        ui.show3DButton.setSegmentationNode(results.node)
        ui.show3DButton.enabled = results.node is not None
        ui.summaryLabel.text = self._summary()
        faint = [number for number, row in enumerate(results.rows) if row.decision == "rejected"]
        fill_table(ui.lesionTableWidget, [_texts(row) for row in results.rows], numeric=5, faint=faint)
        ui.lesionTableWidget.setColumnHidden(TYPE, not has_types([row.lesion.lesion for row in results.rows]))
        ui.lesionTableWidget.visible = bool(results.rows)
        ui.sensitivitySlider.enabled = not results.why_no_slider
        ui.sensitivitySlider.toolTip = results.why_no_slider or self._slider_tip
        ui.exportButton.enabled = results.node is not None and results.volume is not None
        ui.exportDicomButton.enabled = results.volume is not None and from_dicom(results.volume)
        self._show_buttons()

    def export(self) -> None:
        """Write what is ticked into a folder of the user's choice."""
        formats = [FORMATS[name] for name in FORMATS if getattr(self._parameters, name)]
        if not formats:
            self._say("Nothing was exported: tick at least one format.", True)
            return
        folder = self._at.messages.choose_folder("Export to folder")
        if folder is None:
            return
        try:
            if "csv" in formats:
                ensured(self._at.installer)
            files = self._written(folder, formats)
        except LiverTumorSegError as error:
            self._say(f"Nothing was exported: {error}", True)
        except ModuleNotFoundError as error:
            self._say(lacking_text("Nothing was exported: lesions cannot be measured", error), True)
        else:
            self._say(f"Exported to {folder.name}: {', '.join(path.name for path in files)}", False)

    def export_dicom(self) -> None:
        """Open Slicer's own DICOM export at the segmentation."""
        try:
            self._export_dicom(self._results.node)
        except RuntimeError as error:
            self._say(str(error), True)

    def _written(self, folder: Path, formats: list[str]) -> list[Path]:
        results = self._results
        if results.node is None:
            raise OutputError("export: wanted a segmentation, got none: it was deleted")
        results.follow()
        # As the table shows them: it remembers more than this session's networks said.
        types = scene.types_of(results.node, [row.lesion for row in results.rows if row.decision != "rejected"])
        return scene.export_segmentation(results.node, results.volume, folder, formats, results.probability, types)

    def _summary(self) -> str:
        results = self._results
        if results.node is None:
            return "No result yet: press Apply, or choose a segmentation above."
        told = results.summary
        if results.note or told is None:
            return results.note
        lesions = sum(row.decision != "rejected" for row in results.rows)
        return summary_html(told.liver_ml, told.tumour_ml, told.burden_percent, lesions)

    def _on_row(self, row: int, column: int, before: int, column_before: int) -> None:
        self._show_buttons()
        if row != before and row >= 0:
            self._go_to(row, column)

    def _go_to(self, row: int, column: int) -> None:
        if 0 <= row < len(self._results.rows):
            self._results.go_to(row)

    def _decide(self, decision: Callable[[int], None]) -> None:
        row = self._ui.lesionTableWidget.currentRow()
        if not 0 <= row < len(self._results.rows):
            return
        try:
            decision(row)
        except LiverTumorSegError as error:
            self._say(str(error), True)

    def _show_buttons(self) -> None:
        number = self._ui.lesionTableWidget.currentRow()
        row = self._results.rows[number] if 0 <= number < len(self._results.rows) else None
        self._ui.rejectButton.enabled = row is not None and row.decision != "rejected"
        self._ui.acceptButton.enabled = row is not None and row.decision != "accepted"


def _texts(row: scene.LesionRow) -> tuple[str, ...]:
    lesion = row.lesion.lesion
    return (
        "–" if row.decision == "rejected" else str(lesion.id),
        volume_text(lesion.volume_ml),
        f"{lesion.axial_long_axis_mm:.0f} × {lesion.axial_perpendicular_mm:.0f}",
        "" if lesion.mean_intensity is None else number_text(lesion.mean_intensity),
        "" if lesion.mean_probability is None else f"{lesion.mean_probability:.2f}",
        place_text(lesion.centroid_ras_mm),
        lesion.type,
        "" if row.decision == "proposed" else row.decision,
    )
