"""The panel in the host: controls and parameters, a run, deletions, scenes and reloading; the test is the worker."""

from __future__ import annotations

import dataclasses
import shutil
import sys

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("slicer", reason="needs slicer-core: pip install 'LiverTumorSeg[slicer]'")

import slicer

import shapes
from LiverTumorSegLib import scene
from LiverTumorSegLib.networks.devices import Device
from panel_host import done, smaller_of
from slicer_host.nodes import voxels_of

# Controls and parameters


def test_every_control_changes_its_parameter_and_follows_it(panel):
    ui, parameters = panel.ui, panel.parameters
    for name in ("separateLesions", "exportSegNrrd", "exportNifti", "exportStl", "exportObj", "exportCsv"):
        box = getattr(ui, f"{name}CheckBox")
        for value in (True, False, True):
            box.checked = value
            assert getattr(parameters, name) is value
            setattr(parameters, name, not value)
            assert box.checked is not value
    for name in ("batchFolder", "batchOutput"):
        line = getattr(ui, f"{name}LineEdit")
        line.text = "there"
        assert getattr(parameters, name) == "there"
        setattr(parameters, name, "elsewhere")
        assert line.text == "elsewhere"
    for box, name, other in (
        (ui.modalityComboBox, "modality", "MR"),
        (ui.deviceComboBox, "device", "cpu"),
        (ui.batchSourceComboBox, "batchSource", "folder"),
    ):
        first = getattr(parameters, name)
        setattr(parameters, name, other)
        shown = box.currentIndex
        assert shown > 0
        box.setCurrentIndex(0)
        assert getattr(parameters, name) == first
        box.setCurrentIndex(shown)
        assert getattr(parameters, name) == other
    ui.sensitivitySlider.value = 1.5
    assert parameters.sensitivity == 1.5
    parameters.sensitivity = 0.5
    assert ui.sensitivitySlider.value == 0.5


def test_the_selectors_follow_the_parameters_and_change_them(panel, two_lesions):
    volume, node = done(panel, two_lesions)
    assert panel.ui.inputVolumeSelector.currentNode() is volume
    assert panel.ui.segmentationSelector.currentNode() is node
    panel.ui.segmentationSelector.setCurrentNode(None)
    assert panel.parameters.segmentation is None
    panel.ui.inputVolumeSelector.setCurrentNode(None)
    assert panel.parameters.inputVolume is None
    assert not panel.ui.applyButton.enabled


def test_every_control_has_a_tooltip(panel):
    kinds = ("Button", "Box", "Edit", "Selector", "Slider", "Widget", "Bar")
    ours = [name for name in vars(panel.ui) if name.endswith(kinds) and not name.startswith("qt_")]
    names = [name for name in ours if not name.endswith("CollapsibleButton")]
    assert len(names) > 25
    without = [name for name in names if not getattr(panel.ui, name).toolTip]
    assert without == []


def test_a_scan_in_the_scene_is_chosen_when_the_module_opens(panel, two_lesions):
    volume = panel.add(two_lesions[0])
    panel.parameters.inputVolume = None
    panel.place.enter()
    assert panel.parameters.inputVolume is volume


def test_devices_are_asked_for_once_and_offered_with_their_free_memory(panel):
    panel.at.client.known = [Device("cpu", "Processor"), Device("cuda:1", "Card", 20_100.0, 24_000.0)]
    panel.at.timer.pass_by(1)
    box = panel.ui.deviceComboBox
    texts = [box.itemText(n) for n in range(box.count)]
    assert texts == ["Automatic", "Processor (CPU)", "Card (20.1 of 24.0 GB free)"]
    box.setCurrentIndex(2)
    assert panel.parameters.device == "cuda:1"
    panel.place.enter()
    panel.at.timer.pass_by(1)
    assert panel.parameters.device == "cuda:1"


def test_devices_stay_on_offer_when_the_scene_is_closed(panel):
    panel.at.client.known = [Device("cpu", "Processor"), Device("cuda:1", "Card", 20_100.0, 24_000.0)]
    panel.at.timer.pass_by(1)
    slicer.mrmlScene.Clear()
    panel.at.timer.pass_by(5)
    box = panel.ui.deviceComboBox
    assert box.itemText(box.count - 1) == "Card (20.1 of 24.0 GB free)"


def test_a_device_of_a_saved_scene_that_is_not_here_stays_and_says_so(panel):
    panel.parameters.device = "cuda:7"
    assert panel.ui.deviceComboBox.currentText == "cuda:7 (not here)"


def test_the_card_of_the_chosen_networks_is_shown(panel):
    assert panel.ui.bundleSummaryLabel.text == "Liver and liver tumours in CT and MR."
    assert "not for diagnosis" in panel.ui.bundleSummaryLabel.toolTip
    panel.ui.openBundleFolderButton.click()
    assert [folder.name for folder in panel.at.messages.shown] == ["default"]


def test_a_bundle_is_imported_and_chosen(panel, repository, tmp_path, monkeypatch):
    monkeypatch.setenv("LIVERTUMORSEG_HOME", str(tmp_path / "home"))
    shutil.copytree(repository / "Resources" / "Bundles" / "default", tmp_path / "copied")
    panel.at.messages.file = tmp_path / "copied" / "checksums.json"
    panel.ui.importBundleButton.click()
    assert panel.parameters.bundle == "copied"
    assert panel.ui.bundleComboBox.currentText == "copied"
    assert panel.ui.statusLabel.text == "The networks copied were checked and imported."
    (tmp_path / "broken.zip").write_bytes(b"no zip")
    panel.at.messages.file = tmp_path / "broken.zip"
    panel.ui.importBundleButton.click()
    assert panel.ui.statusLabel.text.startswith("Not imported: ")
    assert panel.parameters.bundle == "copied"


def test_networks_of_a_saved_scene_that_are_not_here_say_so_and_the_worker_says_why_not(panel, two_lesions):
    panel.parameters.bundle = "gone"
    assert panel.ui.bundleComboBox.currentText == "gone (not here)"
    assert "not on this computer" in panel.ui.bundleSummaryLabel.text
    panel.add(two_lesions[0])
    panel.ui.applyButton.click()
    assert panel.at.client.runs[0][1].bundle == "gone"
    panel.ui.openBundleFolderButton.click()
    assert "got 'gone'" in panel.ui.statusLabel.text


# A run


def test_apply_asks_the_worker_for_what_was_chosen(panel, two_lesions):
    panel.parameters.modality, panel.parameters.device = "MR", "cpu"
    panel.add(two_lesions[0])
    panel.ui.applyButton.click()
    image, job = panel.at.client.runs[0]
    assert dataclasses.astuple(job) == ("default", "cpu", "MR", 1.0)
    assert image.GetSize() == two_lesions[0].GetSize()


def test_while_a_run_is_under_way_stage_and_time_are_shown_and_the_button_cancels(panel, two_lesions):
    panel.add(two_lesions[0])
    assert not panel.ui.progressBar.visible
    panel.ui.applyButton.click()
    panel.at.timer.pass_by(64.6)
    panel.at.client.listener.on_progress("crop: network", 0.5)
    assert panel.ui.progressBar.visible
    assert panel.ui.statusLabel.text == "Finding lesions… 1:04"
    assert 40 < panel.ui.progressBar.value < 85
    assert panel.ui.applyButton.text == "Cancel"
    panel.ui.applyButton.click()
    assert panel.ui.applyButton.text == "Apply"
    assert panel.ui.statusLabel.text == "Cancelled. Nothing was changed."
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


def test_the_bar_never_goes_back(panel, two_lesions):
    panel.add(two_lesions[0])
    panel.ui.applyButton.click()
    values = []
    steps = ("read", "open", "whole: prepare", "whole: network", "crop: prepare", "crop: network", "labels")
    for step in steps:
        for share in (0.0, 1.0):
            panel.at.client.listener.on_progress(step, share)
            values.append(panel.ui.progressBar.value)
    assert values == sorted(values)
    assert values[0] == 0
    assert values[-1] == 100


def test_a_result_is_shown_measured_and_chosen_for_the_next_run(panel, two_lesions):
    _, node = done(panel, two_lesions)
    assert list(node.GetSegmentation().GetSegmentIDs()) == ["liver", "tumour"]
    assert not panel.ui.resultsCollapsibleButton.collapsed
    rows = panel.rows()
    assert [row[0] for row in rows] == ["1", "2"]
    assert [row[3] for row in rows] == ["60", "60"]
    assert "in 2 lesions" in panel.ui.summaryLabel.text
    assert panel.ui.statusLabel.text == "Done in 0:00: 2 lesions found."
    assert panel.ui.show3DButton.segmentationNode() is node
    assert panel.at.centred == 1
    panel.ui.applyButton.click()
    panel.at.client.end("on_done", shapes.segmentation_of(panel.at.client.runs[-1][0], two_lesions[1]))
    assert panel.parameters.segmentation is node
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 1
    assert panel.at.centred == 1


def test_lesions_can_be_segments_of_their_own(panel, two_lesions):
    panel.parameters.separateLesions = True
    _, node = done(panel, two_lesions)
    assert list(node.GetSegmentation().GetSegmentIDs()) == ["liver", "tumour_1", "tumour_2"]


def test_a_run_that_fails_says_why_and_can_be_repeated(panel, two_lesions):
    panel.add(two_lesions[0])
    panel.ui.applyButton.click()
    panel.at.client.end("on_failed", "worker: wanted a result, got a process that ended with code 1", ["MemoryError"])
    assert panel.ui.statusLabel.text == "worker: wanted a result, got a process that ended with code 1"
    assert "MemoryError" in panel.ui.logTextEdit.plainText
    assert panel.ui.applyButton.text == "Apply"
    panel.ui.applyButton.click()
    assert len(panel.at.client.runs) == 2


def test_whatever_happens_while_a_result_is_kept_the_panel_is_free_again(panel, two_lesions, monkeypatch, caplog):
    panel.add(two_lesions[0])
    panel.ui.applyButton.click()
    monkeypatch.setattr(scene, "write_segmentation", _out_of_memory)
    panel.at.client.end("on_done", shapes.segmentation_of(panel.at.client.runs[-1][0], two_lesions[1]))
    told = "Ended by an unforeseen MemoryError: 512 MB; Slicer's log has more."
    assert panel.ui.statusLabel.text == told
    assert panel.ui.applyButton.text == "Apply"
    assert "_out_of_memory" in caplog.text  # the traceback


def _out_of_memory(*arguments, **more):
    raise MemoryError("512 MB")


def test_a_fallback_for_lack_of_memory_is_in_the_log_and_the_result_is_kept(panel, two_lesions):
    scan, labels = two_lesions
    panel.add(scan)
    panel.ui.applyButton.click()
    panel.at.client.listener.on_log("cuda:0 ran out of memory: smaller windows")
    image = panel.at.client.runs[-1][0]
    panel.at.client.end("on_done", shapes.segmentation_of(image, labels, warnings=("ran on the CPU",)))
    assert "cuda:0 ran out of memory: smaller windows" in panel.ui.logTextEdit.plainText
    assert panel.ui.statusLabel.text == "Done in 0:00: 2 lesions found. Note: ran on the CPU."


def test_declining_to_install_leaves_looking_and_correcting_usable(panel, two_lesions):
    _, node = done(panel, two_lesions)
    panel.at.installer.refusal = "PyTorch is needed, and installing it was declined."
    panel.ui.applyButton.click()
    assert panel.ui.statusLabel.text == "PyTorch is needed, and installing it was declined."
    assert len(panel.at.client.runs) == 1
    panel.ui.lesionTableWidget.setCurrentCell(0, 0)
    panel.ui.rejectButton.click()
    assert len(voxels_of(node, "tumour")) == np.count_nonzero(sitk.GetArrayViewFromImage(smaller_of(two_lesions)) == 2)
    assert panel.ui.segmentEditorWidget.segmentationNode() is node


# Deletions, scenes, reloading


def test_deleting_the_scan_ends_its_run(panel, two_lesions):
    volume = panel.add(two_lesions[0])
    panel.ui.applyButton.click()
    slicer.mrmlScene.RemoveNode(volume)
    assert not panel.at.client.busy
    assert panel.ui.statusLabel.text == "Cancelled: CT was deleted."
    assert not panel.ui.applyButton.enabled


def test_deleting_the_segmentation_during_a_run_puts_the_result_into_a_new_one(panel, two_lesions):
    _, node = done(panel, two_lesions)
    panel.ui.applyButton.click()
    slicer.mrmlScene.RemoveNode(node)
    assert panel.rows() == []
    panel.at.client.end("on_done", shapes.segmentation_of(panel.at.client.runs[-1][0], two_lesions[1]))
    assert panel.parameters.segmentation is not None
    assert len(panel.rows()) == 2
    assert "was deleted during the run" in panel.ui.logTextEdit.plainText


def test_closing_the_scene_ends_the_run_and_leaves_an_empty_panel(panel, two_lesions):
    done(panel, two_lesions)
    panel.ui.applyButton.click()
    slicer.mrmlScene.Clear(0)
    assert not panel.at.client.busy
    assert panel.parameters.segmentation is None
    assert panel.rows() == []
    assert panel.ui.segmentEditorWidget.segmentationNode() is None
    _, node = done(panel, two_lesions)
    assert len(panel.rows()) == 2
    assert panel.ui.segmentEditorWidget.segmentationNode() is node


def test_a_saved_scene_is_taken_up_again_with_its_decisions(panel, two_lesions, tmp_path):
    done(panel, two_lesions)
    panel.parameters.device = "cpu"
    panel.ui.lesionTableWidget.setCurrentCell(0, 0)
    panel.ui.acceptButton.click()
    panel.ui.lesionTableWidget.setCurrentCell(1, 0)
    panel.ui.rejectButton.click()
    before = panel.rows()
    assert [row[-1] for row in before] == ["accepted", "rejected"]
    assert slicer.util.saveScene(str(tmp_path / "case.mrb"))
    slicer.mrmlScene.Clear(0)
    assert panel.rows() == []
    slicer.util.loadScene(str(tmp_path / "case.mrb"))
    assert panel.parameters.device == "cpu"
    assert panel.parameters.segmentation.GetName() == "CT segmentation"
    assert panel.rows() == before
    assert not panel.ui.sensitivitySlider.enabled
    assert "press Apply first" in panel.ui.sensitivitySlider.toolTip
    panel.ui.lesionTableWidget.setCurrentCell(0, 0)
    panel.ui.rejectButton.click()
    assert [row[-1] for row in panel.rows()] == ["rejected", "rejected"]


def test_the_module_can_be_reloaded_and_closes_its_worker(panel, two_lesions):
    done(panel, two_lesions)
    before = panel.widget
    slicer.util.reloadScriptedModule("LiverTumorSeg")
    assert panel.at.client.closed
    assert slicer.modules.LiverTumorSegWidget is not before
    before.cleanup()


def test_closing_slicer_during_a_run_leaves_nothing_that_goes_on(panel, two_lesions):
    panel.add(two_lesions[0])
    panel.ui.applyButton.click()
    panel.widget.cleanup()
    assert panel.at.client.closed
    panel.at.timer.pass_by(5)
    assert panel.at.timer.pending == 0
    panel.widget.cleanup()


def test_the_developers_reload_reads_the_library_anew(panel, two_lesions, monkeypatch):
    base = sys.modules["slicer.ScriptedLoadableModule"].ScriptedLoadableModuleWidget
    monkeypatch.setattr(
        base, "onReload", lambda widget: slicer.util.reloadScriptedModule(widget.moduleName), raising=False
    )
    library = {name: each for name, each in sys.modules.items() if name.startswith("LiverTumorSegLib")}
    try:
        panel.widget.onReload()
        assert sys.modules["LiverTumorSegLib.panel.panel"] is not library["LiverTumorSegLib.panel.panel"]
        assert type(panel.widget.panel) is sys.modules["LiverTumorSegLib.panel.panel"].Panel
        assert panel.ui.bundleComboBox.currentText == "default"
    finally:
        for name in [name for name in sys.modules if name.startswith("LiverTumorSegLib")]:
            del sys.modules[name]
        sys.modules.update(library)


def test_entering_and_leaving_turns_the_editor_on_and_off(panel, two_lesions):
    done(panel, two_lesions)
    editor = panel.ui.segmentEditorWidget
    assert editor.views_observed
    assert editor.shortcuts_installed
    editor.setActiveEffectByName("Paint")
    panel.place.exit()
    assert editor.activeEffect() is None
    assert not editor.views_observed
    assert not editor.shortcuts_installed
    panel.place.enter()
    assert editor.views_observed
