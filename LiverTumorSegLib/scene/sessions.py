"""Finished correction sessions in a scene: a table with a row each and their `session.json`, saved with the scene."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import slicer
import vtk

from ..correction.results import session_row
from .segments import ATTRIBUTE_PREFIX

_TABLE, _SESSION = ATTRIBUTE_PREFIX + "Sessions", ATTRIBUTE_PREFIX + "Session"
_TABLE_NAME = "Correction sessions"


def note_session(
    mrml_scene: slicer.vtkMRMLScene, document: Mapping[str, Any]
) -> tuple[slicer.vtkMRMLTableNode, slicer.vtkMRMLTextNode]:
    """Keep a finished session in a scene; once more for the same session replaces what was there.

    Args:
        mrml_scene: where.
        document: what `session.json` holds.

    Returns:
        The scene's table of sessions, with the columns of `sessions.csv`, and this session's text.
    """
    row = session_row(document)
    table = _find(mrml_scene, "vtkMRMLTableNode", _TABLE, "all") or _make(
        mrml_scene, "vtkMRMLTableNode", _TABLE_NAME, _TABLE, "all"
    )
    earlier = [each for each in _rows_of(table) if each["session"] != row["session"]]
    table.SetAndObserveTable(_table_of([*earlier, row]))
    name = "Session {reader} {case}".format(**document["reading"])
    session = str(document["session"])
    text = _find(mrml_scene, "vtkMRMLTextNode", _SESSION, session) or _make(
        mrml_scene, "vtkMRMLTextNode", mrml_scene.GenerateUniqueName(name), _SESSION, session
    )
    text.SetText(json.dumps(document, indent=2, ensure_ascii=False))
    return table, text


def sessions_in(mrml_scene: slicer.vtkMRMLScene) -> list[dict[str, Any]]:
    """The `session.json` of each session that a scene keeps, in the order of its nodes."""
    return [
        json.loads(node.GetText())
        for node in _nodes(mrml_scene, "vtkMRMLTextNode")
        if node.GetAttribute(_SESSION) is not None
    ]


def _table_of(rows: list[dict[str, Any]]) -> Any:
    table = vtk.vtkTable()
    for name in rows[-1]:
        values = [row.get(name, "") for row in rows]
        words = any(isinstance(value, str) and value for value in values)
        column = vtk.vtkStringArray() if words else vtk.vtkDoubleArray()
        column.SetName(name)
        for value in values:
            column.InsertNextValue(str(value) if words else float("nan") if value == "" else float(value))
        table.AddColumn(column)
    return table


def _rows_of(node: Any) -> list[dict[str, Any]]:
    """A table's rows: texts, numbers, and "" for none."""
    table = node.GetTable()
    columns = [table.GetColumn(number) for number in range(table.GetNumberOfColumns())]
    rows = []
    for number in range(table.GetNumberOfRows()):
        values = [column.GetValue(number) for column in columns]
        names = [column.GetName() for column in columns]
        rows.append({name: "" if value != value else value for name, value in zip(names, values, strict=True)})
    return rows


def _find(mrml_scene: Any, kind: str, attribute: str, value: str) -> Any:
    return next((node for node in _nodes(mrml_scene, kind) if node.GetAttribute(attribute) == value), None)


def _make(mrml_scene: Any, kind: str, name: str, attribute: str, value: str) -> Any:
    node = mrml_scene.AddNewNodeByClass(kind, name)
    node.SetAttribute(attribute, value)
    return node


def _nodes(mrml_scene: Any, kind: str) -> list[Any]:
    return [mrml_scene.GetNthNodeByClass(number, kind) for number in range(mrml_scene.GetNumberOfNodesByClass(kind))]
