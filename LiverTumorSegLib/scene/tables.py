"""The lesion table of a segmentation: a table node that is saved with the scene, decisions and rejected voxels too."""

from __future__ import annotations

import base64
import dataclasses
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import slicer
import vtk

from ..errors import OutputError
from ..lesions import Lesion, has_types
from .lesions import PlacedLesion, Rejected
from .segments import ATTRIBUTE_PREFIX
from .voxels import Block

Decision = Literal["proposed", "accepted", "rejected"]

COLUMNS = {
    "number": vtk.vtkIntArray,
    "volume (ml)": vtk.vtkDoubleArray,
    "long axis (mm)": vtk.vtkDoubleArray,
    "perpendicular (mm)": vtk.vtkDoubleArray,
    "mean intensity": vtk.vtkDoubleArray,
    "probability": vtk.vtkDoubleArray,
    "R (mm)": vtk.vtkDoubleArray,
    "A (mm)": vtk.vtkDoubleArray,
    "S (mm)": vtk.vtkDoubleArray,
    "decision": vtk.vtkStringArray,
}
TYPE_COLUMN = {"type": vtk.vtkStringArray}
"""One more column, where any lesion has a type."""
_TABLE, _RECORD = ATTRIBUTE_PREFIX + "LesionTable", ATTRIBUTE_PREFIX + "LesionRecord"
_OWNER = ATTRIBUTE_PREFIX + "LesionTableOf"  # back from the table: clones of a segmentation refer to its table, too


@dataclass(frozen=True, eq=False)
class LesionRow:
    """One line of the lesion table.

    Attributes:
        lesion: as it was measured last, with its voxels.
        decision: what the person made of it.
        rejected: for a rejected one, what `restore_lesion` takes.
    """

    lesion: PlacedLesion
    decision: Decision = "proposed"
    rejected: Rejected | None = None


def write_lesion_table(
    scene: slicer.vtkMRMLScene, segmentation_node: slicer.vtkMRMLSegmentationNode, rows: Sequence[LesionRow]
) -> slicer.vtkMRMLTableNode:
    """Write the lesion table of a segmentation; it has one, which is made the first time and used again after that.

    A clone of a segmentation begins with the rows of what it was cloned from, and gets a table of its own here.

    The node refers to it, so both are saved with the scene. A hidden text node keeps what the table does not show,
    the voxels of each lesion, so that decisions find their lesions and rejected ones can be restored after reading
    the scene again.

    Args:
        scene: of the segmentation.
        segmentation_node: whose lesions they are.
        rows: in the order of the table.

    Raises:
        OutputError: the segmentation is not in that scene.
    """
    if segmentation_node.GetScene() is not scene:
        raise OutputError(f"{segmentation_node.GetName()}: wanted a segmentation of this scene, got one of another")
    table = lesion_table_of(segmentation_node)
    if table is None or table.GetNodeReference(_OWNER) not in (None, segmentation_node):
        table = _added(segmentation_node, _TABLE, "vtkMRMLTableNode", f"{segmentation_node.GetName()} lesions")
    table.SetNodeReferenceID(_OWNER, segmentation_node.GetID())
    record = table.GetNodeReference(_RECORD)
    if record is None:
        record = _added(table, _RECORD, "vtkMRMLTextNode", f"{table.GetName()} record")
    record.SetHideFromEditors(True)
    columns = vtk.vtkTable()
    typed = has_types([row.lesion.lesion for row in rows])
    for name, kind in {**COLUMNS, **(TYPE_COLUMN if typed else {})}.items():
        column = kind()
        column.SetName(name)
        columns.AddColumn(column)
    for row in rows:
        columns.InsertNextRow(_cells(row, typed))
    table.SetAndObserveTable(columns)
    record.SetText(json.dumps([_row_to_json(row) for row in rows]))
    return table


def lesion_table_of(segmentation_node: slicer.vtkMRMLSegmentationNode) -> slicer.vtkMRMLTableNode | None:
    """The lesion table of a segmentation, if it has one."""
    return segmentation_node.GetNodeReference(_TABLE)


def read_lesion_table(segmentation_node: slicer.vtkMRMLSegmentationNode) -> list[LesionRow]:
    """The rows as they were written last, also after saving and reading the scene.

    Raises:
        OutputError: what is in the scene is not what `write_lesion_table` wrote.
    """
    table = lesion_table_of(segmentation_node)
    record = table.GetNodeReference(_RECORD) if table is not None else None
    if record is None:
        return []
    try:
        return [_row_from_json(row) for row in json.loads(record.GetText())]
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise OutputError(f"{record.GetName()}: wanted the record of a lesion table, got {error}") from error


def remove_unused_table(table: slicer.vtkMRMLTableNode) -> None:
    """Delete a lesion table with its record, once no segmentation refers to it.

    Nothing happens where the table has left its scene, or while the scene is being closed, read or restored.
    """
    scene = table.GetScene()
    if scene is None or scene.IsClosing() or scene.IsImporting() or scene.IsRestoring():
        return
    kind = "vtkMRMLSegmentationNode"
    nodes = (scene.GetNthNodeByClass(number, kind) for number in range(scene.GetNumberOfNodesByClass(kind)))
    if not any(lesion_table_of(each) is table for each in nodes):
        for each in (table.GetNodeReference(_RECORD), table):
            if each is not None:
                scene.RemoveNode(each)


def _added(node: Any, role: str, kind: str, name: str) -> Any:
    """A new node that a node refers to."""
    added = node.GetScene().AddNewNodeByClass(kind, node.GetScene().GenerateUniqueName(name))
    node.SetNodeReferenceID(role, added.GetID())
    return added


def _cells(row: LesionRow, typed: bool) -> Any:
    lesion = row.lesion.lesion
    cells = vtk.vtkVariantArray()
    numbers = (
        lesion.volume_ml,
        lesion.axial_long_axis_mm,
        lesion.axial_perpendicular_mm,
        lesion.mean_intensity,
        lesion.mean_probability,
        *lesion.centroid_ras_mm,
    )
    cells.InsertNextValue(lesion.id)
    for number in numbers:
        cells.InsertNextValue(float("nan") if number is None else number)
    cells.InsertNextValue(row.decision)
    if typed:
        cells.InsertNextValue(lesion.type)
    return cells


def _row_to_json(row: LesionRow) -> dict[str, Any]:
    taken = row.rejected.taken if row.rejected is not None else {}
    return {
        "decision": row.decision,
        "lesion": dataclasses.asdict(row.lesion.lesion),
        "segment": row.lesion.segment_id,
        "voxels": _block_to_json(row.lesion.voxels),
        "taken": {segment_id: _block_to_json(block) for segment_id, block in taken.items()},
    }


def _row_from_json(row: dict[str, Any]) -> LesionRow:
    told = {**row["lesion"], "centroid_ras_mm": tuple(row["lesion"]["centroid_ras_mm"])}
    placed = PlacedLesion(Lesion(**told), str(row["segment"]), _block_from_json(row["voxels"]))
    taken = {segment_id: _block_from_json(block) for segment_id, block in row["taken"].items()}
    if row["decision"] not in get_args(Decision):
        raise ValueError(f"the decision {row['decision']}")
    return LesionRow(placed, row["decision"], Rejected(placed, taken) if taken else None)


def _block_to_json(block: Block) -> dict[str, Any]:
    bits = base64.b64encode(zlib.compress(np.packbits(block.array).tobytes())).decode("ascii")
    return {"start": block.start, "shape": block.array.shape, "matrix": block.matrix.tolist(), "bits": bits}


def _block_from_json(told: dict[str, Any]) -> Block:
    shape = tuple(int(n) for n in told["shape"])
    bits = np.frombuffer(zlib.decompress(base64.b64decode(told["bits"])), np.uint8)
    array = np.unpackbits(bits, count=int(np.prod(shape))).astype(bool).reshape(shape)
    i, j, k = (int(n) for n in told["start"])
    return Block(array, (i, j, k), np.reshape(np.array(told["matrix"], float), (4, 4)))
