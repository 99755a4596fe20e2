"""The selectors of further phases in the panel: built for the networks, filled by name, kept with the scene."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest
import SimpleITK as sitk

pytest.importorskip("slicer", reason="needs slicer-core: pip install 'LiverTumorSeg[slicer]'")

import slicer

import shapes
import test_segmenter
from LiverTumorSegLib.bundle import import_bundle, seal_bundle
from LiverTumorSegLib.panel.batch import Batch
from LiverTumorSegLib.panel.batch_sources import SceneWork
from LiverTumorSegLib.panel.client import Job
from LiverTumorSegLib.recipe import Phase
from LiverTumorSegLib.scene import add_volume
from panel_host import opened_module
from panel_stand_ins import HandTimer, SpokenClient, Surroundings
from test_phases import ARTERIAL, LIVER, engines, recipe_with, study  # noqa: F401  (fixtures)


@pytest.fixture
def panel(slicer_app, phased_bundle, tmp_path, monkeypatch):
    """The panel with the bundles "phased" and "strict", whose arterial phase is required, beside the default one."""
    monkeypatch.setenv("LIVERTUMORSEG_HOME", str(tmp_path / "home"))
    import_bundle(phased_bundle)
    strict = shutil.copytree(phased_bundle, tmp_path / "strict")
    recipe = json.loads((strict / "recipe.json").read_text(encoding="utf-8"))
    recipe["phases"][0]["required"] = True
    (strict / "recipe.json").write_text(json.dumps(recipe), encoding="utf-8")
    seal_bundle(strict)
    import_bundle(strict)
    with opened_module(Surroundings()) as opened:
        yield opened


@pytest.fixture
def scan(ellipsoid_scan) -> sitk.Image:
    return ellipsoid_scan()[0]


@pytest.fixture
def hierarchy(panel):
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)


def added(scan: sitk.Image, name: str, hierarchy=None, under: int = 0):
    node = add_volume(scan, slicer.mrmlScene, name)
    if under:
        hierarchy.CreateItem(under, node)
    return node


def form_of(panel):
    return panel.ui.inputsCollapsibleButton.layout()


def selectors(panel) -> dict[str, object]:
    """The label of each selector that is shown, and the selector."""
    import qt

    rows = range(form_of(panel).rowCount())
    parts = [
        [form_of(panel).itemAt(row, role) for role in (qt.QFormLayout.LabelRole, qt.QFormLayout.FieldRole)]
        for row in rows
    ]
    pairs = [[part.widget() for part in each] for each in parts if all(each)]
    fixed = {panel.ui.inputVolumeSelector, panel.ui.segmentationSelector}
    return {
        label.text: box
        for label, box in pairs
        if type(box) is slicer.qMRMLNodeComboBox and box not in fixed and not box.isHidden()
    }


def reference(panel):
    return panel.parameters.parameterNode.GetNodeReference("phase.arterial")


# Selectors


def test_selectors_appear_with_the_networks_that_want_them_below_the_scan(panel, scan):
    panel.add(scan, "portal")
    assert selectors(panel) == {}
    panel.parameters.bundle = "phased"
    (box,) = selectors(panel).values()
    assert list(selectors(panel)) == ["Arterial:"]
    assert form_of(panel).getWidgetPosition(box)[0] == 1
    assert "one frame of reference" in box.toolTip
    panel.parameters.bundle = "default"
    assert selectors(panel) == {}
    panel.parameters.bundle = "strict"
    assert list(selectors(panel)) == ["Arterial:"]
    assert selectors(panel)["Arterial:"] is box
    panel.parameters.bundle = "gone"
    assert selectors(panel) == {}


def test_a_selector_changes_the_parameter_node_and_follows_it(panel, scan):
    panel.add(scan, "portal")
    one, other = added(scan, "one"), added(scan, "other")
    panel.parameters.bundle = "phased"
    box = selectors(panel)["Arterial:"]
    assert box.currentNode() is None
    box.setCurrentNode(one)
    assert reference(panel) is one
    panel.parameters.parameterNode.SetNodeReferenceID("phase.arterial", other.GetID())
    assert box.currentNode() is other


def test_the_volume_of_the_same_study_is_filled_in_and_another_study_s_never(panel, scan, hierarchy):
    mine, theirs = (hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), name) for name in ("mine", "theirs"))
    added(scan, "late arterial", hierarchy, theirs)
    added(scan, "late arterial loose")
    arterial = added(scan, "4: Arterial 3.0", hierarchy, mine)
    portal = added(scan, "5: Portal 3.0", hierarchy, mine)
    panel.parameters.inputVolume = portal
    panel.parameters.bundle = "phased"
    assert reference(panel) is arterial
    assert selectors(panel)["Arterial:"].currentNode() is arterial
    slicer.mrmlScene.RemoveNode(slicer.util.getNode("late arterial loose"))
    panel.parameters.inputVolume = arterial
    assert reference(panel) is None


def test_a_volume_of_no_study_is_found_by_its_name_or_by_what_dicom_calls_its_series(panel, scan, monkeypatch):
    series = {"1.2.3": {"0008,103e": "LIVER ART 5.0"}}
    database = SimpleNamespace(instanceValue=lambda uid, tag: series[uid][tag])
    monkeypatch.setattr(slicer, "dicomDatabase", database, raising=False)
    renamed = added(scan, "series 7")
    renamed.SetAttribute("DICOM.instanceUIDs", "1.2.3 1.2.4")
    panel.add(scan, "series 8")
    panel.parameters.bundle = "phased"
    assert reference(panel) is renamed


def test_what_the_user_chose_stays_until_the_scan_is_another(panel, scan):
    portal, arterial = panel.add(scan, "portal"), added(scan, "arterial")
    panel.parameters.bundle = "phased"
    assert reference(panel) is arterial
    box = selectors(panel)["Arterial:"]
    box.setCurrentNode(None)
    panel.parameters.sensitivity = 2.0
    panel.place.enter()
    assert reference(panel) is None
    assert box.currentNode() is None
    panel.parameters.inputVolume = added(scan, "portal 2")
    assert reference(panel) is arterial
    box.setCurrentNode(portal)
    panel.parameters.sensitivity = 3.0
    assert reference(panel) is portal


def test_a_volume_that_is_loaded_later_is_found_and_one_that_is_deleted_is_let_go(panel, scan):
    panel.add(scan, "portal")
    panel.parameters.bundle = "phased"
    arterial = added(scan, "arterial")
    panel.place.enter()
    assert reference(panel) is arterial
    slicer.mrmlScene.RemoveNode(arterial)
    assert reference(panel) is None
    assert selectors(panel)["Arterial:"].currentNode() is None
    panel.ui.applyButton.click()
    assert panel.at.client.phases == [{}]


def test_choices_come_back_with_a_saved_scene(panel, scan, tmp_path):
    panel.add(scan, "portal")
    added(scan, "arterial")
    panel.parameters.bundle = "phased"
    selectors(panel)["Arterial:"].setCurrentNode(added(scan, "by hand"))
    assert slicer.util.saveScene(str(tmp_path / "study.mrb"))
    slicer.mrmlScene.Clear(0)
    assert reference(panel) is None
    slicer.util.loadScene(str(tmp_path / "study.mrb"))
    assert reference(panel).GetName() == "by hand"
    assert selectors(panel)["Arterial:"].currentNode().GetName() == "by hand"
    selectors(panel)["Arterial:"].setCurrentNode(None)
    assert slicer.util.saveScene(str(tmp_path / "none.mrb"))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "none.mrb"))
    assert reference(panel) is None


# Runs


def test_apply_hands_the_chosen_phases_to_the_worker(panel, scan):
    panel.add(scan, "portal")
    added(scan + 7, "arterial")
    panel.parameters.bundle = "phased"
    panel.ui.applyButton.click()
    (phases,) = panel.at.client.phases
    assert list(phases) == ["arterial"]
    assert sitk.GetArrayFromImage(phases["arterial"] - scan).mean() == 7
    assert phases["arterial"].GetOrigin() == pytest.approx(scan.GetOrigin())
    assert "with arterial" in panel.ui.logTextEdit.plainText
    panel.at.client.end("on_cancelled")
    panel.parameters.bundle = "default"
    panel.ui.applyButton.click()
    assert panel.at.client.phases[-1] == {}


def test_without_a_required_phase_nothing_begins_and_the_button_says_what_is_wanted(panel, scan):
    panel.add(scan, "portal")
    panel.parameters.bundle = "strict"
    assert not panel.ui.applyButton.enabled
    assert panel.ui.applyButton.toolTip == "Select the arterial phase first."
    assert selectors(panel)["Arterial:"].noneDisplay == "Select the arterial phase"
    panel.parameters.bundle = "phased"
    assert panel.ui.applyButton.enabled
    assert selectors(panel)["Arterial:"].noneDisplay == "None (optional)"
    panel.parameters.bundle = "strict"
    selectors(panel)["Arterial:"].setCurrentNode(added(scan, "by hand"))
    assert panel.ui.applyButton.enabled


def test_a_phase_under_a_warp_ends_in_one_line(panel, scan):
    panel.add(scan, "portal")
    warped = added(scan, "arterial")
    warp = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "warp")
    warped.SetAndObserveTransformNodeID(warp.GetID())
    panel.parameters.bundle = "phased"
    panel.ui.applyButton.click()
    assert panel.ui.statusLabel.text.startswith("arterial: wanted no parent transform or a linear one")
    assert panel.at.client.runs == []


def test_the_logic_takes_phases_as_nodes(slicer_app, panel, engines, study):  # noqa: F811
    portal, arterial = (added(study[name], name) for name in ("scan", "arterial"))
    chosen = test_segmenter.bundle(recipe_with(ARTERIAL))
    node = panel.widget.logic.segment(portal, bundle=chosen, phases={"arterial": arterial})
    assert engines[-1].middle() == [LIVER, 0.72]
    assert node.GetAttribute("LiverTumorSeg.Phases") == "arterial"


def test_a_batch_takes_phases_from_the_study_and_does_not_segment_them_by_themselves(slicer_app, ellipsoid_scan):
    scan, truth = ellipsoid_scan()
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    studies = [hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), name) for name in "ABC"]
    for each, name in zip([*studies[:2], *studies], ["art A", "art B", "portal A", "portal B", "art C"], strict=True):
        added(scan, name, hierarchy, each)
    added(scan, "portal loose")
    client, timer = SpokenClient(), HandTimer()
    batch = Batch(client, timer, lambda: None)
    batch.start(SceneWork(slicer.mrmlScene, separate_lesions=False, phases=(Phase("arterial", ("art",)),)), Job())
    while client.busy:
        client.end("on_done", shapes.segmentation_of(client.runs[-1][0], truth))
        timer.pass_by(0.1)
    assert [item.name for item in batch.items] == ["portal A", "portal B", "art C", "portal loose"]
    assert [list(each) for each in client.phases] == [["arterial"], ["arterial"], [], []]


def test_the_panel_s_batch_uses_the_phases_of_the_chosen_networks(panel, scan, hierarchy):
    mine = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "mine")
    for name in ("portal", "arterial"):
        added(scan, name, hierarchy, mine)
    panel.parameters.inputVolume = slicer.util.getNode("portal")
    panel.parameters.bundle = "phased"
    panel.ui.batchButton.click()
    assert [item.name for item in panel.widget.panel.batch.items] == ["portal"]
    assert list(panel.at.client.phases[0]) == ["arterial"]
