"""Whose lesion table is whose: clones of a segmentation, scenes that are read again, segmentations that are deleted."""

from __future__ import annotations

import pytest

pytest.importorskip("slicer", reason="needs slicer-core: pip install 'LiverTumorSeg[slicer]'")

import slicer

from LiverTumorSegLib.scene import (
    LesionRow,
    lesion_table_of,
    lesions_in,
    read_lesion_table,
    reject_lesion,
    remove_unused_table,
    restore_lesion,
    write_lesion_table,
)
from panel_host import done
from slicer_host.nodes import labels_in, oblique_scan, result_of, three_lesions, written_as

pytestmark = pytest.mark.usefixtures("slicer_started")
KINDS = ("vtkMRMLTableNode", "vtkMRMLTextNode")


@pytest.fixture
def saved_scene(slicer_started):
    """The application's scene, which can be written and read; empty before and after."""
    slicer_started.scene.Clear(0)
    yield slicer_started.scene
    slicer_started.scene.Clear(0)


def clone_of(node, name: str = "copy"):
    """A node like another, made as Slicer's subject hierarchy does."""
    clone = node.CreateNodeInstance()
    clone.Copy(node)
    clone.SetName(name)
    return node.GetScene().AddNode(clone)


def segmentation_with_table(scene):
    """Volume, segmentation, and rows: the first accepted, the others as they were proposed."""
    scan = oblique_scan()
    volume, node = written_as(result_of(scan, three_lesions(scan)), scene)
    first, *others = (LesionRow(placed) for placed in lesions_in(node, volume))
    rows = [LesionRow(first.lesion, "accepted"), *others]
    write_lesion_table(scene, node, rows)
    return volume, node, rows


def decisions(node) -> list[str]:
    return [row.decision for row in read_lesion_table(node)]


def counts(scene) -> list[int]:
    return [scene.GetNumberOfNodesByClass(kind) for kind in KINDS]


def test_decisions_on_a_clone_and_on_the_original_do_not_touch_each_other(scene):
    volume, node, rows = segmentation_with_table(scene)
    clone = clone_of(node)
    assert decisions(clone) == ["accepted", "proposed", "proposed"]
    rejected = reject_lesion(clone, volume, rows[1].lesion)
    table = write_lesion_table(scene, clone, [rows[0], LesionRow(rows[1].lesion, "rejected", rejected), rows[2]])
    assert table.GetName() == "copy lesions"
    write_lesion_table(scene, node, [rows[0], rows[1], LesionRow(rows[2].lesion, "accepted")])
    assert decisions(clone) == ["accepted", "rejected", "proposed"]
    assert decisions(node) == ["accepted", "proposed", "accepted"]
    restore_lesion(clone, read_lesion_table(clone)[1].rejected)
    assert (labels_in(clone, volume) == three_lesions(oblique_scan())).all()
    assert counts(scene) == [2, 2]


def test_a_clone_whose_original_is_gone_has_its_table(scene):
    _, node, rows = segmentation_with_table(scene)
    clone, table = clone_of(node), lesion_table_of(node)
    scene.RemoveNode(node)
    remove_unused_table(table)
    assert write_lesion_table(scene, clone, rows[:1]) is table
    assert counts(scene) == [1, 1]


def test_a_table_is_its_segmentation_s_also_after_the_scene_is_read_into_another(saved_scene, tmp_path):
    _, node, rows = segmentation_with_table(saved_scene)
    write_lesion_table(saved_scene, clone_of(node), rows[1:])
    assert saved_scene.WriteToMRB(str(tmp_path / "a.mrb"))
    saved_scene.Clear(False)
    segmentation_with_table(saved_scene)
    assert saved_scene.ReadFromMRB(str(tmp_path / "a.mrb"))
    nodes = [saved_scene.GetNthNodeByClass(number, "vtkMRMLSegmentationNode") for number in range(3)]
    assert [decisions(each) for each in nodes] == [
        ["accepted", "proposed", "proposed"],
        ["accepted", "proposed", "proposed"],
        ["proposed", "proposed"],
    ]
    for number, each in enumerate(nodes):
        write_lesion_table(saved_scene, each, rows[: number + 1])
    assert [len(read_lesion_table(each)) for each in nodes] == [1, 2, 3]
    assert counts(saved_scene) == [3, 3]


def test_a_table_that_is_in_use_or_gone_already_is_left_alone(scene):
    _, node, _ = segmentation_with_table(scene)
    table = lesion_table_of(node)
    remove_unused_table(table)
    assert lesion_table_of(node) is table
    scene.Clear(0)
    remove_unused_table(table)


def test_with_a_segmentation_goes_its_table_and_what_it_hides(panel, two_lesions):
    _, first = done(panel, two_lesions, "first")
    panel.parameters.segmentation = None
    _, second = done(panel, two_lesions, "second")
    scene, before = slicer.mrmlScene, counts(slicer.mrmlScene)
    assert lesion_table_of(first) is not lesion_table_of(second)
    scene.RemoveNode(second)
    panel.at.timer.pass_by(0.1)
    assert counts(scene) == [number - 1 for number in before]
    scene.RemoveNode(first)  # it is not the one on show
    panel.at.timer.pass_by(0.1)
    assert counts(scene) == [number - 2 for number in before]


def test_a_clone_keeps_the_table_of_a_segmentation_that_is_deleted(panel, two_lesions):
    _, node = done(panel, two_lesions)
    clone, before = clone_of(node), counts(slicer.mrmlScene)
    slicer.mrmlScene.RemoveNode(node)
    panel.at.timer.pass_by(0.1)
    assert counts(slicer.mrmlScene) == before
    assert len(read_lesion_table(clone)) == 2


def test_a_rejection_on_a_clone_can_be_taken_back_after_the_original_was_looked_at(panel, two_lesions):
    _, node = done(panel, two_lesions)
    clone = clone_of(node)
    panel.parameters.segmentation = clone
    panel.results.reject(0)
    panel.parameters.segmentation = node
    assert [row.decision for row in panel.results.rows] == ["proposed", "proposed"]
    panel.parameters.segmentation = clone
    assert [row.decision for row in panel.results.rows] == ["proposed", "rejected"]


def test_a_scene_that_is_closed_with_tables_in_it_is_empty(panel, two_lesions):
    done(panel, two_lesions)
    slicer.mrmlScene.Clear(0)
    panel.at.timer.pass_by(1)
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 0
