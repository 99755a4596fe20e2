"""The panel in the host: lesion table, decisions, edits, sensitivity, export and batch; the test is the worker."""

from __future__ import annotations

import csv
import sys

import pytest
import SimpleITK as sitk

pytest.importorskip("slicer", reason="needs slicer-core: pip install 'LiverTumorSeg[slicer]'")

import slicer

import shapes
from LiverTumorSegLib.scene import add_segmentation, labels_from_segmentation, write_segmentation
from panel_host import done, kinds_of, smaller_of
from slicer_host.nodes import specify_geometry, voxels_of

# Lesions


def test_a_row_leads_all_slice_views_there_and_its_segment_blinks_and_stays_as_it_was(panel, two_lesions):
    _, node = done(panel, two_lesions)
    display = node.GetDisplayNode()
    panel.ui.lesionTableWidget.setCurrentCell(1, 0)
    where = panel.results.rows[1].lesion.lesion.centroid_ras_mm
    for name in ("Red", "Green", "Yellow"):
        matrix = slicer.app.layoutManager().sliceWidget(name).mrmlSliceNode().GetSliceToRAS()
        assert [matrix.GetElement(n, 3) for n in range(3)] == pytest.approx(where)
    seen = []
    for _ in range(12):
        seen.append(display.GetSegmentVisibility("tumour"))
        panel.at.timer.pass_by(0.15)
    assert seen.count(False) == 3
    assert seen[-1] is True
    display.SetSegmentVisibility("tumour", False)
    panel.ui.lesionTableWidget.setCurrentCell(0, 0)
    panel.at.timer.pass_by(2)
    assert not display.GetSegmentVisibility("tumour")


def test_a_rejected_lesion_becomes_liver_and_comes_back_by_accept_and_by_undo(panel, two_lesions):
    volume, node = done(panel, two_lesions)
    wanted = sitk.GetArrayFromImage(two_lesions[1])

    def now():
        return sitk.GetArrayFromImage(labels_from_segmentation(node, volume))

    panel.ui.lesionTableWidget.setCurrentCell(0, 0)
    panel.ui.rejectButton.click()
    assert (now() == 2).sum() == (sitk.GetArrayFromImage(smaller_of(two_lesions)) == 2).sum()
    assert ((now() > 0) == (wanted > 0)).all()
    assert [row[-1] for row in panel.rows()] == ["", "rejected"]
    panel.ui.lesionTableWidget.setCurrentCell(1, 0)
    assert not panel.ui.rejectButton.enabled
    panel.ui.acceptButton.click()
    assert (now() == wanted).all()
    assert sorted(row[-1] for row in panel.rows()) == ["", "accepted"]
    panel.ui.lesionTableWidget.setCurrentCell(0, 0)
    panel.ui.rejectButton.click()
    panel.ui.segmentEditorWidget.undo()
    panel.at.timer.pass_by(1)
    assert (now() == wanted).all()
    assert "rejected" not in [row[-1] for row in panel.rows()]


def test_a_decision_stays_with_its_lesion_when_the_segments_are_put_on_another_grid(panel, two_lesions):
    volume, node = done(panel, two_lesions)
    panel.ui.lesionTableWidget.setCurrentCell(1, 0)
    panel.ui.acceptButton.click()
    assert [row[-1] for row in panel.rows()] == ["", "accepted"]
    specify_geometry(node, volume, (1.0, 1.0, 0.5))
    panel.at.timer.pass_by(1)
    assert [row[-1] for row in panel.rows()] == ["", "accepted"]


def test_what_is_painted_is_in_the_table_a_moment_later(panel, two_lesions):
    done(panel, two_lesions)
    editor = panel.ui.segmentEditorWidget
    editor.setActiveEffectByName("Paint")
    editor.setCurrentSegmentID("tumour")
    editor.paint((30, 30, 12))
    panel.at.timer.pass_by(1)
    assert len(panel.rows()) == 3


def test_an_edited_segmentation_is_replaced_only_after_the_question_and_can_be_undone(panel, two_lesions):
    _, node = done(panel, two_lesions)
    panel.ui.lesionTableWidget.setCurrentCell(0, 0)
    panel.ui.rejectButton.click()
    edited = len(voxels_of(node, "tumour"))
    panel.at.messages.answers = [False]
    panel.ui.applyButton.click()
    assert "was edited by a person" in panel.at.messages.questions[-1]
    assert len(panel.at.client.runs) == 1
    panel.at.messages.answers = [True]
    panel.ui.applyButton.click()
    panel.at.client.end("on_done", shapes.segmentation_of(panel.at.client.runs[-1][0], two_lesions[1]))
    assert len(voxels_of(node, "tumour")) > edited
    panel.ui.segmentEditorWidget.undo()
    assert len(voxels_of(node, "tumour")) == edited


def test_what_is_edited_during_a_run_stays_and_the_result_is_a_new_segmentation(panel, two_lesions):
    _, node = done(panel, two_lesions)
    panel.ui.applyButton.click()
    panel.ui.lesionTableWidget.setCurrentCell(0, 0)
    panel.ui.rejectButton.click()
    edited = len(voxels_of(node, "tumour"))
    panel.at.client.end("on_done", shapes.segmentation_of(panel.at.client.runs[-1][0], two_lesions[1]))
    assert len(voxels_of(node, "tumour")) == edited
    assert panel.parameters.segmentation is not node


def test_a_segmentation_of_somebody_else_can_be_looked_at(panel, two_lesions):
    volume = panel.add(two_lesions[0])
    node = add_segmentation(volume)
    node.GetSegmentation().AddEmptySegment("kidney")
    panel.parameters.segmentation = node
    assert panel.rows() == []
    assert panel.ui.summaryLabel.text


# Sensitivity, export


class Scaled:
    """Evidence whose lesions shrink below a factor of 1: the smaller one is called only from there on."""

    def __init__(self, labels, small) -> None:
        self.labels, self.small = labels, small

    def labels_like(self, image, factor=1.0):
        if factor >= 1.0:
            return self.labels
        return self.labels - sitk.Cast(self.small == 2, sitk.sitkUInt8)

    def tumour_probability(self):
        return sitk.Cast(self.labels == 2, sitk.sitkFloat32) * 0.75


def with_evidence(panel, two_lesions):
    return done(panel, two_lesions, evidence=Scaled(two_lesions[1], smaller_of(two_lesions)))


def test_the_slider_draws_the_lesions_anew(panel, two_lesions):
    _, node = with_evidence(panel, two_lesions)
    assert panel.ui.sensitivitySlider.enabled
    assert [row[4] for row in panel.rows()] == ["0.75", "0.75"]
    before = len(voxels_of(node, "tumour"))
    panel.ui.sensitivitySlider.value = 0.5
    panel.at.timer.pass_by(1)
    assert len(voxels_of(node, "tumour")) < before
    assert len(panel.rows()) == 1
    assert node.GetAttribute("LiverTumorSeg.Sensitivity") == "0.5"
    panel.ui.sensitivitySlider.value = 2.0
    panel.at.timer.pass_by(1)
    assert len(voxels_of(node, "tumour")) == before
    assert len(panel.at.client.runs) == 1


def test_the_slider_asks_before_it_overwrites_what_a_person_edited(panel, two_lesions):
    _, node = with_evidence(panel, two_lesions)
    panel.ui.lesionTableWidget.setCurrentCell(0, 0)
    panel.ui.rejectButton.click()
    edited = len(voxels_of(node, "tumour"))
    panel.at.messages.answers = [False]
    panel.ui.sensitivitySlider.value = 2.0
    panel.at.timer.pass_by(1)
    assert len(voxels_of(node, "tumour")) == edited
    assert panel.ui.sensitivitySlider.value == 1.0
    panel.at.messages.answers = [True]
    panel.ui.sensitivitySlider.value = 2.0
    panel.at.timer.pass_by(1)
    assert len(voxels_of(node, "tumour")) > edited
    assert len(panel.at.messages.questions) == 2
    panel.ui.segmentEditorWidget.undo()
    assert len(voxels_of(node, "tumour")) == edited


def test_without_a_result_of_this_session_the_slider_says_why_it_is_off(panel, two_lesions):
    assert not panel.ui.sensitivitySlider.enabled
    assert panel.ui.sensitivitySlider.toolTip == "There is no result yet."
    scan, labels = two_lesions
    volume = panel.add(scan)
    node = add_segmentation(volume)
    write_segmentation(shapes.segmentation_of(scan, labels), node, volume)
    panel.parameters.segmentation = node
    assert len(panel.rows()) == 2
    assert "press Apply first" in panel.ui.sensitivitySlider.toolTip


def test_what_is_ticked_is_exported(panel, two_lesions, tmp_path):
    done(panel, two_lesions)
    panel.at.messages.folder = tmp_path / "out"
    for name in ("exportSegNrrd", "exportNifti", "exportStl", "exportObj", "exportCsv"):
        setattr(panel.parameters, name, name in ("exportNifti", "exportCsv"))
    panel.ui.exportButton.click()
    names = [path.name for path in (tmp_path / "out").iterdir()]
    assert len(names) == 2
    assert {name.partition(".")[2] for name in names} == {"nii.gz", "csv"}
    assert panel.ui.statusLabel.text.startswith("Exported to out: ")
    panel.parameters.exportNifti = panel.parameters.exportCsv = False
    panel.ui.exportButton.click()
    assert panel.ui.statusLabel.text == "Nothing was exported: tick at least one format."


def test_types_of_lesions_are_exported_also_where_what_the_networks_said_is_no_longer_known(
    panel, two_lesions, tmp_path
):
    _, node = done(panel, two_lesions, kinds=kinds_of(two_lesions[1], cyst=0.5, hcc=0.75))
    panel.results.close()  # as when the scene is closed, and opened again
    panel.results.show(node)
    assert panel.ui.sensitivitySlider.toolTip.startswith("Only for a result of this session")
    panel.at.messages.folder = tmp_path / "out"
    for name in ("exportSegNrrd", "exportNifti", "exportStl", "exportObj", "exportCsv"):
        setattr(panel.parameters, name, name == "exportCsv")
    panel.ui.exportButton.click()
    (file,) = (tmp_path / "out").iterdir()
    with file.open(encoding="utf-8", newline="") as lines:
        told = [(row["type"], row["type_score"]) for row in csv.DictReader(lines)]
    assert told == [("cyst", "0.5"), ("hcc", "0.75")]


def test_dicom_export_is_offered_for_scans_from_dicom_only(panel, two_lesions):
    volume, _ = done(panel, two_lesions)
    assert not panel.ui.exportDicomButton.enabled
    volume.SetAttribute("DICOM.instanceUIDs", "1.2.3 1.2.4")
    panel.widget.panel.show()
    assert panel.ui.exportDicomButton.enabled
    panel.ui.exportDicomButton.click()
    assert panel.ui.statusLabel.text == "This Slicer has no DICOM export."


# Batch


def test_a_batch_over_the_scene_is_shown_and_shares_the_worker(panel, two_lesions):
    scan, labels = two_lesions
    panel.add(scan, "one")
    panel.add(scan, "two")
    panel.ui.batchButton.click()
    assert panel.ui.batchButton.text == "Cancel batch"
    assert not panel.ui.applyButton.enabled
    assert "batch" in panel.ui.applyButton.toolTip
    table = panel.ui.batchTableWidget
    panel.at.client.end("on_failed", "no luck", [])
    panel.at.timer.pass_by(0.1)
    panel.at.client.end("on_done", shapes.segmentation_of(panel.at.client.runs[-1][0], labels))
    panel.at.timer.pass_by(0.1)
    shown = [[table.item(row, column).text() for column in (0, 1)] for row in range(2)]
    assert shown == [["one", "failed: no luck"], ["two", "done: liver 587 ml, 2 lesions"]]
    assert panel.ui.statusLabel.text == "Batch: 1 of 2 done, 1 failed."
    assert panel.ui.applyButton.enabled


def test_a_batch_over_folders_needs_both(panel, tmp_path):
    panel.parameters.batchSource = "folder"
    assert not panel.ui.batchButton.enabled
    panel.at.messages.folder = tmp_path
    panel.ui.batchFolderButton.click()
    panel.at.messages.folder = tmp_path / "out"
    panel.ui.batchOutputButton.click()
    assert panel.ui.batchButton.enabled
    panel.ui.batchButton.click()
    assert "wanted scan files or DICOM folders" in panel.ui.statusLabel.text
    assert panel.parameters.batchFolder == str(tmp_path)


def test_a_cancelled_batch_can_begin_again_once_the_worker_has_ended_the_run(panel, two_lesions, monkeypatch):
    panel.add(two_lesions[0])
    monkeypatch.setattr(panel.at.client, "cancel", lambda: None)  # the real one answers later
    panel.ui.batchButton.click()
    panel.ui.batchButton.click()
    assert not panel.ui.batchButton.enabled
    panel.at.client.end("on_cancelled")
    assert panel.ui.batchButton.enabled


def test_a_new_result_takes_over_no_decision_on_the_one_before(panel, two_lesions):
    _, node = done(panel, two_lesions)
    panel.results.accept(0)
    panel.results.reject(1)
    panel.at.messages.answers = [True]
    panel.ui.applyButton.click()
    panel.at.client.end("on_done", shapes.segmentation_of(panel.at.client.runs[-1][0], two_lesions[1]))
    assert panel.parameters.segmentation is node
    assert [row.decision for row in panel.results.rows] == ["proposed", "proposed"]


def test_a_table_of_lesions_is_not_exported_without_what_measures_them(panel, two_lesions, tmp_path, monkeypatch):
    done(panel, two_lesions)
    panel.at.messages.folder = tmp_path / "out"
    panel.at.installer.refusal = "PyTorch is needed, and installing it was declined."
    panel.ui.exportButton.click()
    assert panel.ui.statusLabel.text == f"Nothing was exported: {panel.at.installer.refusal}"
    panel.at.installer.refusal = ""
    with monkeypatch.context() as patch:
        for name in ("cc3d", "edt"):
            patch.setitem(sys.modules, name, None)
        panel.ui.exportButton.click()
    assert panel.ui.statusLabel.text.startswith("Nothing was exported: lesions cannot be measured without")
    panel.parameters.exportCsv = False
    asked = panel.at.installer.asked
    panel.ui.exportButton.click()
    assert panel.ui.statusLabel.text.startswith("Exported to out: ")
    assert panel.at.installer.asked == asked
