"""How each kind of widget shows a parameter; like Slicer, strict about the pair of widget and type."""

from __future__ import annotations

import enum

import ctk
import qt
import slicer

from .parameter_types import (
    PATHS,
    Choice,
    Decimals,
    Maximum,
    Minimum,
    NodeReference,
    Parameter,
    SingleStep,
    WithinRange,
)


class GuiConnector:
    """Reads and writes one widget; `signal` is what it emits on a change."""

    signal = ""

    def __init__(self, widget, parameter: Parameter) -> None:
        self._widget = widget
        self._callback = None

    def widget(self):
        return self._widget

    def onChanged(self, callback) -> None:
        self._disconnect() if callback is None else self._connect()
        self._callback = callback

    def changed(self, *values) -> None:
        if self._callback is not None:
            self._callback()

    def _connect(self) -> None:
        getattr(self._widget, self.signal).connect(self.changed)

    def _disconnect(self) -> None:
        getattr(self._widget, self.signal).disconnect(self.changed)


class Attribute(GuiConnector):
    """A widget whose property `name` is the value."""

    name = ""

    def read(self):
        return getattr(self._widget, self.name)

    def write(self, value) -> None:
        setattr(self._widget, self.name, value)


class Checked(Attribute):
    name, signal = "checked", "toggled"

    def __init__(self, widget, parameter: Parameter) -> None:
        super().__init__(widget, parameter)
        if not widget.checkable:
            widget.checkable = True


class Number(Attribute):
    name, signal = "value", "valueChanged"

    def __init__(self, widget, parameter: Parameter) -> None:
        super().__init__(widget, parameter)
        for annotation, setter in ((Decimals, "setDecimals"), (SingleStep, "setSingleStep")):
            if (found := parameter.annotation(annotation)) is not None:
                getattr(widget, setter)(found.value)
        bounds = parameter.annotation(WithinRange)
        low, high = bounds or parameter.annotation(Minimum), bounds or parameter.annotation(Maximum)
        if (low is None or high is None) and isinstance(widget, qt.QSlider | ctk.ctkSliderWidget):
            raise RuntimeError(f"{parameter.name}: wanted WithinRange, as a slider has two ends")
        widget.setMinimum(low.minimum if low else -(2**31) if parameter.kind is int else float("-inf"))
        widget.setMaximum(high.maximum if high else 2**31 - 1 if parameter.kind is int else float("inf"))


class WholeNumber(Number):
    """An integer in a widget for numbers with decimals."""

    def __init__(self, widget, parameter: Parameter) -> None:
        super().__init__(widget, parameter)
        widget.setDecimals(0)

    def read(self) -> int:
        return int(super().read())


class Line(Attribute):
    name, signal = "text", "textChanged"


class Words(Attribute):
    """A label, which the user does not change."""

    name = "text"

    def _connect(self) -> None:
        pass

    _disconnect = _connect


class Paragraphs(Attribute):
    name, signal = "plainText", "textChanged"


class ChosenText(GuiConnector):
    """A combo box of the values in `Choice`, which it fills itself."""

    signal = "currentIndexChanged"

    def __init__(self, widget, parameter: Parameter) -> None:
        super().__init__(widget, parameter)
        self._values = self.values(parameter)
        widget.clear()
        for label in self._values:
            widget.addItem(label)

    @staticmethod
    def values(parameter: Parameter) -> dict[str, object]:
        choice = parameter.annotation(Choice)
        if choice is None:
            raise RuntimeError(f"{parameter.name}: wanted Choice, which a connected combo box is filled from")
        return {str(value): value for value in choice.choices}

    def read(self):
        return self._values[self._widget.currentText]

    def write(self, value) -> None:
        self._widget.currentIndex = list(self._values.values()).index(value)


class ChosenMember(ChosenText):
    @staticmethod
    def values(parameter: Parameter) -> dict[str, object]:
        label = getattr(parameter.kind, "label", lambda member: member.name)
        return {label(member): member for member in parameter.kind}


class PathLine(GuiConnector):
    signal, name = "currentPathChanged", "currentPath"

    def __init__(self, widget, parameter: Parameter) -> None:
        super().__init__(widget, parameter)
        self._kind = parameter.kind

    def read(self):
        return self._kind(getattr(self._widget, self.name))

    def write(self, value) -> None:
        setattr(self._widget, self.name, str(value))


class Directory(PathLine):
    signal, name = "directoryChanged", "directory"


class Node(GuiConnector):
    signal = "currentNodeChanged"

    def __init__(self, widget, parameter: Parameter) -> None:
        super().__init__(widget, parameter)
        widget.nodeTypes = [parameter.kind.__name__]

    def read(self):
        return self._widget.currentNode()

    def write(self, value) -> None:
        self._widget.setCurrentNode(value)


SIMPLE = (
    (qt.QCheckBox, (bool,), Checked),
    (qt.QPushButton, (bool,), Checked),
    (qt.QSlider, (int,), Number),
    (qt.QSpinBox, (int,), Number),
    (qt.QDoubleSpinBox, (float,), Number),
    (qt.QDoubleSpinBox, (int,), WholeNumber),
    (ctk.ctkSliderWidget, (float,), Number),
    (ctk.ctkSliderWidget, (int,), WholeNumber),
    (qt.QComboBox, (int, float, str, bool), ChosenText),
    (ctk.ctkComboBox, (int, float, str, bool), ChosenText),
    (qt.QLineEdit, (str,), Line),
    (qt.QLabel, (str,), Words),
    (qt.QTextEdit, (str,), Paragraphs),
    (ctk.ctkPathLineEdit, PATHS, PathLine),
    (ctk.ctkDirectoryButton, PATHS, Directory),
)


def connector(widget, parameter: Parameter) -> GuiConnector:
    """The connector for a widget of exactly this class; a derived class is none of Slicer's either."""
    for kind, values, found in SIMPLE:
        if type(widget) is kind and parameter.kind in values:
            return found(widget, parameter)
    if type(widget) in (qt.QComboBox, ctk.ctkComboBox) and issubclass(parameter.kind, enum.Enum):
        return ChosenMember(widget, parameter)
    if type(widget) is slicer.qMRMLNodeComboBox and isinstance(parameter.store, NodeReference):
        return Node(widget, parameter)
    raise RuntimeError(f"{parameter.name}: wanted a widget for {parameter.kind.__name__}, got {type(widget).__name__}")
