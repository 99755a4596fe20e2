"""The kinds of values that a parameter node keeps, their checks, and how each is written as text."""

from __future__ import annotations

import enum
import pathlib
import typing
from dataclasses import dataclass

import slicer

PATHS = (pathlib.Path, pathlib.PosixPath, pathlib.PurePath, pathlib.PurePosixPath)


@dataclass(frozen=True)
class Default:
    value: object


@dataclass(frozen=True)
class Decimals:
    value: int


@dataclass(frozen=True)
class SingleStep:
    value: float


@dataclass(frozen=True)
class Minimum:
    minimum: float

    def validate(self, value) -> None:
        if value < self.minimum:
            raise ValueError(f"wanted at least {self.minimum}, got {value}")


@dataclass(frozen=True)
class Maximum:
    maximum: float

    def validate(self, value) -> None:
        if value > self.maximum:
            raise ValueError(f"wanted at most {self.maximum}, got {value}")


@dataclass(frozen=True)
class WithinRange:
    minimum: float
    maximum: float

    def validate(self, value) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"wanted {self.minimum} to {self.maximum}, got {value}")


class Choice:
    def __init__(self, choices) -> None:
        self.choices = choices

    def validate(self, value) -> None:
        if value not in self.choices:
            raise ValueError(f"wanted one of {list(self.choices)}, got {value!r}")


VALIDATORS = (Minimum, Maximum, WithinRange, Choice)


class Text:
    """A value kept as one parameter of the node."""

    def __init__(self, kind: type, write=str, read=None, accepted=None, default=None) -> None:
        self.kind, self.write_text, self.read_text = kind, write, read or kind
        self.accepted = accepted or kind
        self.default = kind() if default is None else default

    def check(self, value) -> None:
        if not isinstance(value, self.accepted):
            raise TypeError(f"wanted {self.kind.__name__}, got {value!r}")

    def write(self, node, name: str, value) -> None:
        node.SetParameter(name, self.write_text(value))

    def read(self, node, name: str):
        return self.read_text(node.GetParameter(name))


class NodeReference:
    """A node, kept as a reference; an empty parameter of the same name says that it was set."""

    default = None

    def __init__(self, kind: type) -> None:
        self.kind = kind

    def check(self, value) -> None:
        if value is not None and not isinstance(value, self.kind):
            raise TypeError(f"wanted {self.kind.__name__} or None, got {value!r}")

    def write(self, node, name: str, value) -> None:
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, node, name: str):
        return node.GetNodeReference(name)


def stored_as(kind: type) -> Text | NodeReference:
    if typing.get_origin(kind) is typing.Union and type(None) in typing.get_args(kind):
        raise TypeError(f"wanted a node type without Optional, which Slicer reads as another kind, got {kind}")
    if not isinstance(kind, type):
        raise TypeError(f"wanted a class, got {kind}")
    if issubclass(kind, slicer.vtkMRMLNode):
        return NodeReference(kind)
    if issubclass(kind, enum.Enum):
        return Text(kind, lambda value: value.name, lambda text: kind[text], default=next(iter(kind)))
    if kind is bool:
        return Text(bool, lambda value: "True" if value else "False", "True".__eq__)
    if kind in (int, float):
        return Text(kind, accepted=(int, float) if kind is float else int)
    if kind is str or kind in PATHS:
        return Text(kind)
    raise TypeError(f"wanted a node, str, int, float, bool, path or enumeration, got {kind}")


@dataclass(frozen=True)
class Parameter:
    """One annotated field of a parameter pack."""

    name: str
    annotated: object
    store: Text | NodeReference
    default: object
    validators: tuple

    @property
    def kind(self) -> type:
        return self.store.kind

    def annotation(self, kind: type):
        return next((each for each in self.annotations if isinstance(each, kind)), None)

    @property
    def annotations(self) -> tuple:
        return getattr(self.annotated, "__metadata__", ())

    def write(self, node, value) -> None:
        self.store.check(value)
        for each in self.validators:
            each.validate(value)
        self.store.write(node, self.name, value)

    def read(self, node):
        if not node.HasParameter(self.name):
            self.write(node, self.default)
        return self.store.read(node, self.name)


def parameters_of(kind: type) -> dict[str, Parameter]:
    found = {}
    for name, annotated in typing.get_type_hints(kind, include_extras=True).items():
        annotations = getattr(annotated, "__metadata__", ())
        store = stored_as(typing.get_args(annotated)[0] if annotations else annotated)
        preset = next((each.value for each in annotations if isinstance(each, Default)), store.default)
        validators = tuple(each for each in annotations if isinstance(each, VALIDATORS))
        found[name] = Parameter(name, annotated, store, vars(kind).get(name, preset), validators)
    return found
