"""Stand-ins for the widgets of CTK: the properties, signals and looks that a panel relies on."""

from __future__ import annotations

from typing import ClassVar

from PySide6.QtCore import Property, QPoint, QRect, QSize, Qt, Signal
from PySide6.QtGui import QPainter, QPalette, QPolygon
from PySide6.QtWidgets import (
    QAbstractButton,
    QDoubleSpinBox,
    QGroupBox,
    QHBoxLayout,
    QSlider,
    QWidget,
)

from .ui_loader import for_designer, stored

HEADER = 26  # pixels: the bar of a section
WITHOUT_LIMIT = 16777215  # pixels: Qt's largest size


class Folding:
    """Hides the children of a widget, and shows again only those that were to be seen before."""

    folded_size = HEADER

    def fold(self, collapsed: bool) -> None:
        if collapsed:
            self._hidden = [child for child in self.children() if child.isWidgetType() and not child.isHidden()]
            for child in self._hidden:
                child.hide()
        else:
            for child in getattr(self, "_hidden", ()):
                child.show()
        self.setMaximumHeight(self.folded_size if collapsed else WITHOUT_LIMIT)
        self.update()


@for_designer
class ctkCollapsibleButton(Folding, QAbstractButton):
    contentsCollapsed = Signal(bool)
    flat, setFlat = stored("flat", bool, False)
    collapsedHeight, setCollapsedHeight = stored("collapsedHeight", int, HEADER)

    def __init__(self, text="", parent=None) -> None:
        super().__init__(text if isinstance(text, QWidget) else parent)
        self.setContentsMargins(0, HEADER, 0, 0)
        self.setCheckable(True)
        self.setChecked(True)
        self.toggled.connect(self._on_toggled)
        if isinstance(text, str):
            self.setText(text)

    def _on_toggled(self, checked: bool) -> None:
        self.fold(not checked)
        self.contentsCollapsed.emit(not checked)

    def setCollapsed(self, collapsed: bool) -> None:
        self.setChecked(not collapsed)

    collapsed = Property(bool, lambda self: not self.isChecked(), setCollapsed)

    def showEvent(self, event) -> None:
        # The loader sets `collapsed` before there are children.
        if self.collapsed and not getattr(self, "_hidden", None):
            self.fold(True)

    def hitButton(self, place: QPoint) -> bool:
        return place.y() < HEADER

    def sizeHint(self) -> QSize:
        wide = self.fontMetrics().horizontalAdvance(self.text) + 2 * HEADER
        inside = self.layout().totalSizeHint() if self.layout() and not self.collapsed else QSize(0, HEADER)
        return inside.expandedTo(QSize(wide, HEADER))

    minimumSizeHint = sizeHint

    def paintEvent(self, event) -> None:
        painter = QPainter(self)
        bar = QRect(0, 0, self.width, HEADER - 3)
        colours = self.palette
        painter.setRenderHint(QPainter.Antialiasing)
        painter.setPen(colours.color(QPalette.Mid))
        painter.setBrush(colours.color(QPalette.Button))
        painter.drawRoundedRect(bar.adjusted(0, 0, -1, 0), 3, 3)
        x, y = 12, bar.center().y() + 1
        corners = ((-3, -5), (3, 0), (-3, 5)) if self.collapsed else ((-5, -3), (0, 3), (5, -3))
        painter.setPen(Qt.NoPen)
        painter.setBrush(colours.color(QPalette.ButtonText))
        painter.drawPolygon(QPolygon([QPoint(x + dx, y + dy) for dx, dy in corners]))
        painter.setPen(colours.color(QPalette.ButtonText))
        painter.drawText(bar.adjusted(25, 0, -6, 0), Qt.AlignVCenter | Qt.AlignLeft, self.text)
        painter.end()


@for_designer
class ctkCollapsibleGroupBox(Folding, QGroupBox):
    def __init__(self, text="", parent=None) -> None:
        super().__init__(text if isinstance(text, QWidget) else parent)
        self.setCheckable(True)
        self.setChecked(True)
        self.toggled.connect(lambda checked: self.fold(not checked))
        if isinstance(text, str):
            self.setTitle(text)

    def setCollapsed(self, collapsed: bool) -> None:
        self.setChecked(not collapsed)

    collapsed = Property(bool, lambda self: not self.isChecked(), setCollapsed)

    def showEvent(self, event) -> None:
        if self.collapsed and not getattr(self, "_hidden", None):
            self.fold(True)


@for_designer
class ctkSliderWidget(QWidget):
    """A slider and a number, in steps of `singleStep`."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)
    cppSignals: ClassVar = {"valueChanged(double)": "valueChanged", "valueIsChanging(double)": "valueIsChanging"}

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self._slider = QSlider(Qt.Horizontal, self)
        self._number = QDoubleSpinBox(self)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._slider, 1)
        row.addWidget(self._number)
        self._tracking = True
        self.setRange(0, 99)
        self._slider.valueChanged.connect(self._on_slider)
        self._slider.sliderReleased.connect(lambda: self._number.setValue(self._of_slider()))
        self._number.valueChanged.connect(self._on_number)

    def _of_slider(self) -> float:
        return self.minimum + self._slider.value * self.singleStep

    def _on_slider(self) -> None:
        value = self._of_slider()
        self.valueIsChanging.emit(value)
        if self._tracking or not self._slider.sliderDown:
            self._number.setValue(value)

    def _on_number(self, value: float) -> None:
        self._follow()
        self.valueChanged.emit(value)

    def _follow(self) -> None:
        self._slider.blockSignals(True)
        self._slider.setRange(0, round((self.maximum - self.minimum) / self.singleStep))
        self._slider.setValue(round((self._number.value - self.minimum) / self.singleStep))
        self._slider.blockSignals(False)

    def setRange(self, low: float, high: float) -> None:
        self._number.setRange(low, high)
        self._follow()

    def setMinimum(self, value: float) -> None:
        self.setRange(value, self.maximum)

    def setMaximum(self, value: float) -> None:
        self.setRange(self.minimum, value)

    def setValue(self, value: float) -> None:
        self._number.setValue(value)

    def setSingleStep(self, step: float) -> None:
        self._number.setSingleStep(step)
        self._follow()

    def setDecimals(self, count: int) -> None:
        self._number.setDecimals(count)

    def setSuffix(self, text: str) -> None:
        self._number.setSuffix(text)

    def setTracking(self, on: bool) -> None:
        self._tracking = on

    value = Property(float, lambda self: self._number.value, setValue, notify=valueChanged)
    minimum = Property(float, lambda self: self._number.minimum, setMinimum)
    maximum = Property(float, lambda self: self._number.maximum, setMaximum)
    singleStep = Property(float, lambda self: self._number.singleStep, setSingleStep)
    decimals = Property(int, lambda self: self._number.decimals, setDecimals)
    suffix = Property(str, lambda self: self._number.suffix, setSuffix)
    tracking = Property(bool, lambda self: self._tracking, setTracking)
    pageStep, setPageStep = stored("pageStep", float, 10.0)
    tickInterval, setTickInterval = stored("tickInterval", float, 0.0)
