"""`slicer.parameterNodeWrapper`, the part that our module uses: typed parameters, tied to a panel by name."""

from __future__ import annotations

import sys
import types
import weakref

import slicer
import vtk

from . import parameter_types
from .parameter_types import Parameter, parameters_of

PROPERTY = "SlicerParameterName"


def _attribute(parameter: Parameter) -> property:
    return property(
        lambda self: self.getValue(parameter.name),
        lambda self, value: self.setValue(parameter.name, value),
    )


class Wrapped:
    """What the decorator adds to a class of annotated fields."""

    allParameters: dict[str, Parameter]

    def __init__(self, parameterNode) -> None:
        self.parameterNode = parameterNode
        self._connected: dict[int, dict[str, object]] = {}
        self._tags: dict[int, int] = {}
        self._next = 0
        self._writing = False
        for parameter in self.allParameters.values():
            if not parameterNode.HasParameter(parameter.name):
                parameter.write(parameterNode, parameter.default)
        # As in Slicer, values are kept until the node says that it was modified; the observer does not keep this alive.
        self._values = {name: each.read(parameterNode) for name, each in self.allParameters.items()}
        me = weakref.ref(self)
        self._tag = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: me()._read_all())

    def __del__(self) -> None:
        self.RemoveObserver(self._tag)

    def _read_all(self) -> None:
        self._values = {name: each.read(self.parameterNode) for name, each in self.allParameters.items()}

    def default(self, name: str):
        return parameter_types.Default(self._parameter(name).default)

    def dataType(self, name: str):
        return self._parameter(name).annotated

    def getValue(self, name: str):
        return self._values[self._parameter(name).name]

    def setValue(self, name: str, value) -> None:
        parameter = self._parameter(name)
        with slicer.util.NodeModify(self.parameterNode):
            parameter.write(self.parameterNode, value)
            self._values[name] = parameter.read(self.parameterNode)

    def _parameter(self, name: str) -> Parameter:
        if name not in self.allParameters:
            raise ValueError(f"wanted one of {sorted(self.allParameters)}, got {name!r}")
        return self.allParameters[name]

    def connectGui(self, gui) -> None:
        """Tie every widget with the dynamic property `SlicerParameterName`; `gui` is one or holds them.

        As in Slicer no tag comes back, so what is tied stays so.
        """
        import qt

        whole = hasattr(gui, "isWidgetType")
        widgets = gui.findChildren(qt.QWidget) if whole else list(vars(gui).values())
        named = {each.property(PROPERTY): each for each in widgets if each.property(PROPERTY)}
        self.connectParametersToGui(named)

    def connectParametersToGui(self, mapping: dict[str, object]) -> int:
        from .gui_connectors import GuiConnector, connector

        parameters = {name: self._parameter(name) for name in mapping}
        connectors = {
            name: each if isinstance(each, GuiConnector) else connector(each, parameters[name])
            for name, each in mapping.items()
        }
        tag, self._next = self._next, self._next + 1
        self._connected[tag] = connectors
        for name, each in connectors.items():
            each.write(self.getValue(name))
            each.onChanged(self._reader(name, each))
        self._tags[tag] = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: self._show())
        return tag

    def disconnectGui(self, tag: int) -> None:
        for each in self._connected.pop(tag, {}).values():
            each.onChanged(None)
        if tag in self._tags:  # in Slicer it goes on observing, for nothing
            self.RemoveObserver(self._tags.pop(tag))

    def _reader(self, name: str, each):
        def changed() -> None:
            with slicer.util.NodeModify(self):
                if not self._writing:
                    self.setValue(name, each.read())

        return changed

    def _show(self) -> None:
        if self._writing:
            return
        self._writing = True
        try:
            with slicer.util.NodeModify(self):
                for connectors in self._connected.values():
                    for name, each in connectors.items():
                        each.write(self.getValue(name))
        finally:
            self._writing = False

    def StartModify(self) -> int:
        return self.parameterNode.StartModify()

    def EndModify(self, was_modified: int) -> int:
        return self.parameterNode.EndModify(was_modified)

    def AddObserver(self, event, callback, priority: float = 0.0) -> int:
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def Modified(self) -> None:
        self.parameterNode.Modified()


def parameterNodeWrapper(kind: type | None = None):
    """The class decorator, with or without brackets."""
    return parameterNodeWrapper if kind is None else _wrapped(kind)


def _wrapped(kind: type) -> type:
    parameters = parameters_of(kind)
    added = {name: each for name, each in vars(Wrapped).items() if not name.startswith("__")}
    if clash := added.keys() & (vars(kind).keys() | parameters.keys()):
        raise ValueError(f"{kind.__name__}: wanted other names than {sorted(clash)}, which are the wrapper's")
    for name, parameter in parameters.items():
        setattr(kind, name, _attribute(parameter))
    for name, each in added.items():
        setattr(kind, name, each)
    kind.__init__, kind.__del__ = Wrapped.__init__, Wrapped.__del__
    kind.allParameters = parameters
    return kind


def isParameterNodeWrapper(each) -> bool:
    return hasattr(each, "allParameters")


def findChildWidgetForParameter(widget, name: str):
    import qt

    return next((each for each in widget.findChildren(qt.QWidget) if each.property(PROPERTY) == name), None)


def publish() -> types.ModuleType:
    module = types.ModuleType("slicer.parameterNodeWrapper", __doc__)
    names = ("Choice", "Decimals", "Default", "Maximum", "Minimum", "SingleStep", "WithinRange")
    module.__dict__.update({name: getattr(parameter_types, name) for name in names})
    for each in (parameterNodeWrapper, isParameterNodeWrapper, findChildWidgetForParameter):
        setattr(module, each.__name__, each)
    module.SlicerParameterNamePropertyName = PROPERTY
    sys.modules["slicer.parameterNodeWrapper"] = module
    slicer.parameterNodeWrapper = module
    return module
