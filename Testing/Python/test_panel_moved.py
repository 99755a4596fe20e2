"""The panel in the host, after a scan was moved together with its segmentation; the test is the worker."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("slicer", reason="needs slicer-core: pip install 'LiverTumorSeg[slicer]'")

import slicer
import vtk

from LiverTumorSegLib.scene import lesion_table_of
from panel_host import done, kinds_of, smaller_of
from slicer_host.nodes import QUARTER_TURN, labels_in, moved_by, voxels_of
from test_panel_results import Scaled

TYPE, PROBABILITY, INTENSITY = 6, 4, 3
SHIFT = [[1, 0, 0, 60], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


@pytest.fixture
def shown(panel, two_lesions):
    """Volume and segmentation with two lesions, of probability 0.75, the larger called a cyst and the other hcc."""
    evidence = Scaled(two_lesions[1], smaller_of(two_lesions))
    return done(panel, two_lesions, evidence=evidence, kinds=kinds_of(two_lesions[1], cyst=0.5, hcc=0.75))


def told(panel) -> list[tuple[str, str]]:
    return [(row[PROBABILITY], row[TYPE]) for row in panel.rows()]


def move(panel, nodes, matrix=QUARTER_TURN) -> None:
    transform = moved_by(matrix, nodes[0])
    nodes[1].SetAndObserveTransformNodeID(transform.GetID())
    panel.at.timer.pass_by(1)


def harden(panel, nodes) -> None:
    for node in nodes:
        node.HardenTransform()
    panel.at.timer.pass_by(1)


def centre(row) -> np.ndarray:
    return np.array(row.lesion.lesion.centroid_ras_mm)


@pytest.mark.parametrize("hardened", [False, True], ids=["under a transform", "hardened"])
def test_probability_and_type_stay_with_lesions_that_are_moved_with_their_scan(hardened, panel, shown):
    wanted = [("0.75", "cyst"), ("0.75", "hcc")]
    assert told(panel) == wanted
    right, front, up = centre(panel.results.rows[0])
    move(panel, shown)
    if hardened:
        harden(panel, shown)
    assert told(panel) == wanted
    assert centre(panel.results.rows[0]) == pytest.approx((5 - front, right, up - 30))
    table = lesion_table_of(shown[1]).GetTable().GetColumnByName("probability")
    assert [table.GetValue(n) for n in range(2)] == pytest.approx([0.75, 0.75])


def test_another_origin_of_the_scan_shows_in_the_table_without_an_edit(panel, shown):
    assert "" not in [row[INTENSITY] for row in panel.rows()]
    shown[0].SetOrigin(900, 0, 0)  # the segments stay where they are
    panel.at.timer.pass_by(1)
    assert [row[INTENSITY] for row in panel.rows()] == ["", ""]


def test_an_export_right_after_a_move_has_the_same_probability(panel, shown, tmp_path):
    for node in shown:
        moved_by(SHIFT, node)
    shown[1].SetAndObserveTransformNodeID(shown[0].GetTransformNodeID())
    panel.at.messages.folder = tmp_path
    for name in ("exportSegNrrd", "exportNifti", "exportCsv"):
        setattr(panel.parameters, name, name == "exportCsv")
    panel.ui.exportButton.click()
    (file,) = tmp_path.iterdir()
    with file.open(encoding="utf-8", newline="") as lines:
        assert [(row["mean_probability"], row["type"]) for row in csv.DictReader(lines)] == [
            ("0.75", "cyst"),
            ("0.75", "hcc"),
        ]


@pytest.mark.parametrize("hardened", [False, True], ids=["under a transform", "hardened"])
def test_the_slider_draws_on_the_moved_scan(hardened, panel, two_lesions, shown):
    volume, node = shown
    move(panel, shown)
    if hardened:
        harden(panel, shown)
    assert panel.ui.sensitivitySlider.enabled
    panel.ui.sensitivitySlider.value = 0.5
    panel.at.timer.pass_by(1)
    larger = sitk.GetArrayFromImage(two_lesions[1]) - (sitk.GetArrayFromImage(smaller_of(two_lesions)) == 2)
    assert np.array_equal(labels_in(node, volume), larger)
    assert told(panel) == [("0.75", "cyst")]
    panel.ui.sensitivitySlider.value = 1.0
    panel.at.timer.pass_by(1)
    assert np.array_equal(labels_in(node, volume), sitk.GetArrayFromImage(two_lesions[1]))


def test_a_scan_that_only_looks_moved_says_no_probability_and_why_the_slider_is_off(panel, shown):
    slicer.util.arrayFromVolume(shown[0])[0, 0, 0] += 1
    panel.results.measure()
    assert panel.ui.sensitivitySlider.enabled  # the same place: nothing has gone elsewhere
    move(panel, shown)
    assert [row[PROBABILITY] for row in panel.rows()] == ["", ""]
    assert not panel.ui.sensitivitySlider.enabled
    assert "got other voxels elsewhere" in panel.ui.sensitivitySlider.toolTip


def test_under_a_warp_the_slider_is_off_and_says_why(panel, shown):
    warp = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "breathing")
    for node in shown:
        node.SetAndObserveTransformNodeID(warp.GetID())
    spline = vtk.vtkThinPlateSplineTransform()
    warp.SetAndObserveTransformFromParent(spline)
    panel.at.timer.pass_by(1)
    assert not panel.ui.sensitivitySlider.enabled
    assert "got the warp breathing" in panel.ui.sensitivitySlider.toolTip


def test_a_slider_that_cannot_draw_says_so_goes_back_and_asks_nothing(panel, shown):
    volume, node = shown
    panel.results.reject(0)
    saved, before = len(panel.at.saved), len(voxels_of(node, "tumour"))
    slicer.util.arrayFromVolume(volume)[0, 0, 0] += 1
    volume.SetOrigin(1, 2, 3)  # of which the panel takes note only later
    panel.ui.sensitivitySlider.value = 2.0
    panel.at.timer.pass_by(0.4)
    assert panel.at.messages.questions == []
    assert len(panel.at.saved) == saved
    assert len(voxels_of(node, "tumour")) == before
    assert panel.ui.sensitivitySlider.value == 1.0
    assert panel.ui.summaryLabel.text.startswith("Nothing was drawn anew: CT: wanted the scan that was segmented")
