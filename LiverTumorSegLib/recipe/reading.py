"""Parsed JSON -> frozen dataclasses, by their annotations alone."""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from typing import Any, Literal

from ..errors import RecipeError


def build(kind: Any, value: Any, where: str = "") -> Any:
    """Turn parsed JSON into the annotated type `kind`.

    Args:
        kind: a dataclass, or what the fields of one are annotated with: `str`, `int`, `float`, `bool`, `dict`,
            `Literal`, tuples of fixed or any length, and unions of these.
        value: what `json.loads` gave.
        where: the key path of the value, for messages.

    Raises:
        RecipeError: names the key and what is allowed there.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _dataclass(typing.cast(type, kind), value, where)
    if origin in (types.UnionType, typing.Union):
        return _union(arguments, value, where)
    if origin is tuple:
        return _tuple(arguments, value, where)
    if origin is Literal:
        if not any(value == each and type(value) is type(each) for each in arguments):
            raise RecipeError(f"{where}: wanted one of {', '.join(map(repr, arguments))}, got {value!r}")
        return value
    plain = dict if origin is dict else kind
    if plain is float and isinstance(value, int) and not isinstance(value, bool):
        return _float(value, where)
    if not isinstance(value, plain) or (isinstance(value, bool) and plain is not bool):
        raise RecipeError(f"{where}: wanted {plain.__name__}, got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise RecipeError(f"{where}: wanted a finite number, got {value!r}")
    if isinstance(value, str) and any(letter < " " or "\ud800" <= letter <= "\udfff" for letter in value):
        raise RecipeError(f"{where}: wanted text in one line, got {value!r}")
    return value


def _float(value: int, where: str) -> float:
    try:
        return float(value)
    except OverflowError:
        digits = len(str(abs(value)))
        raise RecipeError(f"{where}: wanted a finite number, got a whole one of {digits} digits") from None


def _union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    """The first kind that takes the value; a refusal says what each wanted."""
    if value is None and type(None) in kinds:
        return None
    refusals = []
    for kind in kinds:
        if kind is not type(None):
            try:
                return build(kind, value, where)
            except RecipeError as error:
                refusals.append(str(error))
    raise RecipeError(", or ".join(refusals))


def _dataclass(kind: type, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise RecipeError(f"{where or 'recipe'}: wanted an object, got {value!r}")
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for key in value:
        if key not in fields:
            raise RecipeError(f"unknown key {_join(where, key)!r}; allowed there: {', '.join(fields)}")
    for name, each in fields.items():
        has_default = each.default is not dataclasses.MISSING or each.default_factory is not dataclasses.MISSING
        if name not in value and not has_default:
            raise RecipeError(f"missing key {_join(where, name)!r}")
    hints = typing.get_type_hints(kind)
    arguments = {key: build(hints[key], each, _join(where, key)) for key, each in value.items()}
    try:
        return kind(**arguments)
    except RecipeError as error:
        # A dataclass knows its own name, as in "grid.shape: ..."; the file has more than one grid.
        raise RecipeError(re.sub(r"^\w+", lambda _: where, str(error), count=1) if where else str(error)) from None


def _tuple(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise RecipeError(f"{where}: wanted a list, got {value!r}")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(value) != len(kinds):
        raise RecipeError(f"{where}: wanted {len(kinds)} values, got {value!r}")
    return tuple(build(k, v, f"{where}[{n}]") for n, (k, v) in enumerate(zip(kinds, value, strict=True)))


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
