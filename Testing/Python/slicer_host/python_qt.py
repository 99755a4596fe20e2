"""`qt` as a scripted module sees it: PySide6 with the rules of PythonQt, which Slicer's Python is wrapped with.

A Qt property is an attribute (`label.text = "x"`), its setter stays a method, an attribute that does not exist is
refused, and signals are connected by their C++ signature: `button.connect("clicked(bool)", call)`.
Opening this file needs PySide6; `reason_without_qt` in `application.py` says whether it is there.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from functools import partial

from PySide6 import QtCore, QtGui, QtWidgets

_get_property, _set_property = QtCore.QObject.property, QtCore.QObject.setProperty


class QtProperty:
    """An attribute that reads and writes a property of the C++ object."""

    def __init__(self, name: str, writable: bool, of_class: object = None) -> None:
        self.name = name
        self.writable = writable
        self.of_class = of_class  # QTimer.singleShot is a function of the class and a property of its objects
        self._reading: set[int] = set()

    def __get__(self, owner, kind=None):
        if owner is None:
            return self.of_class
        if id(owner) in self._reading:
            # Reading a virtual property (sizeHint) makes shiboken look for a method here that overrides it.
            return self.of_class.__get__(owner, kind)
        self._reading.add(id(owner))
        try:
            return _get_property(owner, self.name)
        finally:
            self._reading.remove(id(owner))

    def __set__(self, owner, value) -> None:
        kind = type(owner).__name__
        if not self.writable:
            raise AttributeError(f"{kind}.{self.name}: wanted a property that can be written, got a read-only one")
        if not _set_property(owner, self.name, value):
            raise AttributeError(f"{kind}.{self.name}: wanted another kind of value, got {value!r}")


def properties_to_set(kind: type) -> list[QtCore.QMetaProperty]:
    """The properties that a class adds to those of its base, and those that methods of its own would hide."""
    meta = kind.staticMetaObject
    found = [(n, meta.property(n)) for n in range(meta.propertyCount())]
    return [each for n, each in found if n >= meta.propertyOffset() or each.name() in vars(kind)]


def signal_index(owner, signature: str) -> int:
    return owner.metaObject().indexOfSignal(QtCore.QMetaObject.normalizedSignature(signature).data().decode())


def known_signals(owner) -> list[str]:
    meta = owner.metaObject()
    methods = [meta.method(n) for n in range(meta.methodCount())]
    named = {m.methodSignature().data().decode() for m in methods if m.methodType() == QtCore.QMetaMethod.Signal}
    return sorted(named.union(*(vars(kind).get("cppSignals", ()) for kind in type(owner).__mro__)))


def python_signal(owner, signature: str):
    """The signal of one of our own widgets that stands for a C++ signature, or None.

    Such a class lists `cppSignals`, as a signature with a MRML type is none that Qt could know here.
    """
    for kind in type(owner).__mro__:
        name = vars(kind).get("cppSignals", {}).get(signature.replace(" ", ""))
        if name:
            return getattr(owner, name)
    return None


def string_connection(owner, plain: Callable, *arguments):
    """`owner.connect("clicked(bool)", call)` or `disconnect`; what PySide itself asks for goes to `plain`."""
    if len(arguments) != 2 or not isinstance(arguments[0], str) or arguments[0][:1] in "12":
        return plain(*arguments)
    signature, call = arguments
    if ours := python_signal(owner, signature):
        return getattr(ours, plain.__name__)(call) is not False
    if signal_index(owner, signature) < 0:
        raise ValueError(f"{type(owner).__name__}: wanted one of {known_signals(owner)}, got {signature!r}")
    name, _, parameters = signature.replace(" ", "").rstrip(")").partition("(")
    return getattr(getattr(owner, name)[parameters or ()], plain.__name__)(call) is not False


def found_on(kind: type, name: str):
    return next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None)


def set_attribute(owner, name: str, value) -> None:
    """Write a property, or an attribute of a Python class; refuse what PythonQt refuses."""
    kind = type(owner)
    member = found_on(kind, name)
    if isinstance(value, QtCore.SignalInstance):
        owner.__dict__[name] = value  # PySide keeps the signals of objects that were made in C++
    elif isinstance(member, QtCore.Property):
        QtProperty(name, member.fset is not None).__set__(owner, value)
    elif hasattr(type(member), "__set__"):
        type(member).__set__(member, owner, value)
    elif member is None and name in {bytes(each).decode() for each in owner.dynamicPropertyNames()}:
        _set_property(owner, name, value)
    elif kind.__module__.startswith("PySide6"):
        problem = "does not exist" if member is None else "is a method or a signal, and cannot be overwritten"
        raise AttributeError(f"{kind.__name__}.{name}: wanted a property, got a name that {problem}")
    else:
        owner.__dict__[name] = value


def _reader(plain: Callable) -> Callable:
    def get_attribute(owner, name: str):
        found = plain(owner, name)
        # These two are functions of the class and of its objects at once, which a class attribute cannot replace.
        return partial(string_connection, owner, found) if name in ("connect", "disconnect") else found

    return get_attribute


def _object_classes() -> list[type]:
    names = [getattr(module, name) for module in (QtCore, QtGui, QtWidgets) for name in dir(module)]
    kinds = {each for each in names if isinstance(each, type) and issubclass(each, QtCore.QObject)}
    return sorted(kinds, key=lambda kind: len(kind.__mro__))


def follow_rules_of_python_qt() -> None:
    """Change the classes of PySide6 in this process; once is enough, twice does no harm."""
    if isinstance(vars(QtWidgets.QAbstractButton).get("text"), QtProperty):
        return
    plain = {kind: kind.__getattribute__ for kind in _object_classes()}
    for kind in plain:
        for prop in properties_to_set(kind):
            setattr(kind, prop.name(), QtProperty(prop.name(), prop.isWritable(), getattr(kind, prop.name(), None)))
    QtCore.QObject.name = QtProperty("objectName", True)
    QtCore.QObject.className = lambda owner: owner.metaObject().className()
    for kind in (QtWidgets.QDialog, QtWidgets.QApplication, QtWidgets.QMenu, QtCore.QEventLoop):
        kind.exec_ = kind.exec
    for kind, reader in plain.items():
        kind.__getattribute__ = _reader(reader)
        kind.__setattr__ = set_attribute


def publish() -> types.ModuleType:
    """Return the module `qt`, which `import qt` finds from now on."""
    if "qt" in sys.modules and sys.modules["qt"] is not None:
        return sys.modules["qt"]
    follow_rules_of_python_qt()
    module = types.ModuleType("qt", "Qt's classes, see slicer_host/python_qt.py")
    for source in (QtCore, QtGui, QtWidgets):
        module.__dict__.update({name: getattr(source, name) for name in dir(source) if name[0] == "Q"})
    from .ui_loader import QUiLoader

    module.QUiLoader = QUiLoader
    sys.modules["qt"] = module
    return module
