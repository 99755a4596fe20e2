"""Apply or Cancel, the progress bar, the status line and the log."""

from __future__ import annotations

from typing import Any

from .run import Phase, Run

_FAILED_STYLE = "color: #c0392b;"
_CANCEL_STYLE = "font-weight: bold;"


class RunSection:
    """Shows what a run says of itself."""

    def __init__(self, ui: Any) -> None:
        """Args: the panel's controls."""
        self._ui, self._apply_style = ui, ui.applyButton.styleSheet
        ui.progressBar.visible = False
        ui.statusLabel.visible = False

    def show(self, run: Run, can_apply: bool, why_not: str) -> None:
        """Bring button, bar and line up to date.

        Args:
            run: the run.
            can_apply: whether a new run can begin.
            why_not: what the button's tooltip says where it cannot.
        """
        ui = self._ui
        ui.applyButton.text = "Cancel" if run.running else "Apply"
        ui.applyButton.setStyleSheet(_CANCEL_STYLE if run.running else self._apply_style)
        ui.applyButton.enabled = run.running or can_apply
        ui.applyButton.toolTip = _tip(run, can_apply, why_not)
        ui.progressBar.visible = run.running
        ui.progressBar.value = round(100 * run.share)
        if run.phase is not Phase.IDLE:
            self.say(run.status, failed=run.phase is Phase.FAILED)

    def say(self, text: str, failed: bool = False) -> None:
        """Put a line under the button."""
        self._ui.statusLabel.setStyleSheet(_FAILED_STYLE if failed else "")
        self._ui.statusLabel.text = text
        self._ui.statusLabel.visible = bool(text)

    def log(self, text: str) -> None:
        """Add a line to the log."""
        self._ui.logTextEdit.appendPlainText(text)


def _tip(run: Run, can_apply: bool, why_not: str) -> str:
    if run.running:
        return "Stop. What was there before stays as it is."
    if not can_apply:
        return why_not
    return (
        "Find the liver and its tumours in the scan. Slicer stays usable meanwhile. "
        "The first time, missing Python packages are installed after asking."
    )
