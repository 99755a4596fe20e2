"""Lesions with types: from a system's answer to the files, the report, the panel's process and the scene's table."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from LiverTumorSegLib.exchange import load_segmentation, save_segmentation
from LiverTumorSegLib.lesions import LesionKind, find_lesions, iterate_components
from LiverTumorSegLib.output import write_results
from LiverTumorSegLib.segmentation import Segmentation
from shapes import make_segmentation


def typed(count: int = 1) -> Segmentation:
    """The usual result, whose first `count` lesions a system has called something."""
    plain = make_segmentation()
    kinds = tuple(
        LesionKind(name, 0.75, lesion.centroid_ras_mm)
        for name, lesion in zip(("hcc", "cyst", "other")[:count], plain.lesions, strict=False)
    )
    return dataclasses.replace(plain, kinds=kinds, patient_class="hcc")


def test_a_kind_belongs_to_the_lesion_that_its_place_lies_in_and_the_first_one_counts() -> None:
    found = make_segmentation().lesions
    assert len(found) >= 2
    places = [lesion.centroid_ras_mm for lesion in found]
    kinds = [
        LesionKind("nowhere", 1.0, (9999.0, 0.0, 0.0)),
        LesionKind("second", 0.5, places[1]),
        LesionKind("late", 0.9, places[1]),
    ]
    again = find_lesions(make_segmentation().labels, kinds=kinds)
    assert [(each.type, each.type_score) for each in again[:2]] == [("", None), ("second", 0.5)]


def test_types_reach_the_table_and_the_reports_and_the_patient_gets_a_class(tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    segmentation = typed()
    write_results(segmentation, tmp_path)
    with (tmp_path / "lesions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["type"], row["type_score"]) for row in rows[:2]] == [("hcc", "0.75"), ("", "")]
    told = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert told["patient_class"] == "hcc"
    assert (told["lesions"][0]["type"], told["lesions"][0]["type_score"]) == ("hcc", 0.75)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<th>Type</th>" in page
    assert "<td>hcc (0.75)</td>" in page
    assert "<dt>Patient</dt><dd>hcc</dd>" in page


def test_without_types_nothing_of_them_is_shown(tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    write_results(make_segmentation(), tmp_path)
    header = (tmp_path / "lesions.csv").read_text(encoding="utf-8").splitlines()[0]
    assert "type" not in header
    told = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert "patient_class" not in told
    assert not {"type", "type_score"} & told["lesions"][0].keys()
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<th>Type</th>" not in page
    assert "<dt>Patient</dt>" not in page


def test_types_pass_from_the_worker_to_the_panel(tmp_path: Path) -> None:
    segmentation = typed(2)
    save_segmentation(segmentation, tmp_path, segmentation.image)
    again = load_segmentation(tmp_path, segmentation.image)
    assert (again.kinds, again.patient_class) == (segmentation.kinds, "hcc")
    assert [lesion.type for lesion in again.lesions[:2]] == ["hcc", "cyst"]


def test_at_another_sensitivity_a_lesion_keeps_its_type() -> None:
    segmentation = typed()
    array = sitk.GetArrayFromImage(segmentation.labels)
    box, mask = next(iterate_components(array == 2))
    array[box][tuple(np.argwhere(mask)[0])] = 1  # a voxel less, as another factor might leave it
    labels = sitk.GetImageFromArray(array)
    labels.CopyInformation(segmentation.labels)
    smaller = dataclasses.replace(segmentation, labels=labels)
    assert smaller.lesions[0].voxels == segmentation.lesions[0].voxels - 1
    assert smaller.lesions[0].type == "hcc"


@pytest.mark.usefixtures("slicer_started")
def test_the_scenes_table_has_a_column_of_types_where_there_is_one_and_remembers_them(scene) -> None:
    from LiverTumorSegLib.panel.decisions import with_decisions
    from LiverTumorSegLib.scene import LesionRow, lesions_in, read_lesion_table, write_lesion_table
    from slicer_host.nodes import oblique_scan, result_of, three_lesions, written_as

    scan = oblique_scan()
    volume, node = written_as(result_of(scan, three_lesions(scan)), scene)
    plain = lesions_in(node, volume)
    table = write_lesion_table(scene, node, [LesionRow(each) for each in plain])
    assert _names(table)[-1] == "decision"

    kinds = [LesionKind("hcc", 0.5, plain[1].lesion.centroid_ras_mm)]
    named = lesions_in(node, volume, kinds=kinds)
    assert [each.lesion.type for each in named] == ["", "hcc", ""]
    table = write_lesion_table(scene, node, [LesionRow(each) for each in named])
    assert _names(table)[-1] == "type"
    assert table.GetCellText(1, table.GetNumberOfColumns() - 1) == "hcc"

    earlier = read_lesion_table(node)
    rows = with_decisions(plain, earlier)  # the scene was read again: nobody knows the kinds any more
    assert [row.lesion.lesion.type for row in rows] == ["", "hcc", ""]


def _names(table) -> list[str]:
    return [table.GetTable().GetColumnName(n) for n in range(table.GetNumberOfColumns())]
