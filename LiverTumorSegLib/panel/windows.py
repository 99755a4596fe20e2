"""Slicer's windows, as timed corrections hear of them; Qt comes through Slicer's `qt`, imported when it is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def hear_focus(application: Any, tell: Callable[[bool], None]) -> Callable[[], None]:
    """Tell whether a window of the application is in front, as that changes.

    Args:
        application: Slicer's.
        tell: given True when a window comes to the front, False when all go to the back.

    Returns:
        What ends it.
    """
    import qt

    signal = "applicationStateChanged(Qt::ApplicationState)"

    def changed(state: Any) -> None:
        tell(state == qt.Qt.ApplicationActive)

    application.connect(signal, changed)
    return lambda: application.disconnect(signal, changed)
