"""`qt.QUiLoader` for panels with widgets of CTK and Slicer: strict about what a stand-in does not know."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from PySide6 import QtCore, QtUiTools, QtWidgets

STAND_INS: dict[str, type] = {}


def for_designer(kind: type) -> type:
    """Make a class known to the loader by its name; a decorator."""
    STAND_INS[kind.__name__] = kind
    return kind


def stored(name: str, kind: type | str, default: object):
    """A property that is only kept, and its setter; the widget's `settle` hears of each change."""

    def read(self):
        return self.__dict__.get(f"_{name}", default)

    def write(self, value) -> None:
        self.__dict__[f"_{name}"] = value
        if settle := getattr(self, "settle", None):
            settle()

    return QtCore.Property(kind, read, write), write


def class_of(name: str) -> type:
    found = STAND_INS.get(name) or getattr(QtWidgets, name, None)
    if found is None:
        raise RuntimeError(f"{name}: wanted one of {sorted(STAND_INS)} or of Qt's widgets")
    return found


def check(root: ElementTree.Element) -> None:
    """Raise where a widget has a property that its class does not know; stdset="0" marks dynamic ones."""
    for widget in root.iter("widget"):
        meta = class_of(widget.get("class", "")).staticMetaObject
        for each in widget.findall("property"):
            if each.get("stdset") != "0" and meta.indexOfProperty(each.get("name")) < 0:
                raise RuntimeError(f"{widget.get('class')} {widget.get('name')}: no property {each.get('name')!r}")


def simplify(root: ElementTree.Element) -> list[ElementTree.Element]:
    """Take out the connections, and make names of CTK's and Slicer's enumerations plain texts.

    Qt would refuse both: it knows the C++ types neither of signals nor of enumerations.
    """
    for widget in root.iter("widget"):
        for value in widget.findall("property/*"):
            if value.tag in ("enum", "set") and (value.text or "").startswith(("ctk", "qMRML", "qSlicer")):
                value.tag = "string"
    connections = root.find("connections")
    if connections is None:
        return []
    root.remove(connections)
    return list(connections)


class QUiLoader(QtUiTools.QUiLoader):
    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        for kind in STAND_INS.values():
            self.registerCustomWidget(kind)

    def load(self, file, parent=None):
        root = ElementTree.fromstring(file.readAll().data())
        check(root)
        connections = simplify(root)
        text = QtCore.QBuffer()
        text.setData(ElementTree.tostring(root))
        text.open(QtCore.QIODevice.ReadOnly)
        widget = super().load(text, parent)
        if widget is None:
            raise RuntimeError(f"{file.fileName()}: {self.errorString()}")
        for each in connections:
            self.join(widget, each)
        return widget

    def join(self, widget, connection: ElementTree.Element) -> None:
        def named(role: str):
            name = connection.findtext(role)
            return widget if widget.objectName == name else widget.findChild(QtCore.QObject, name)

        slot = connection.findtext("slot", "").partition("(")[0]
        named("sender").connect(connection.findtext("signal"), getattr(named("receiver"), slot))
