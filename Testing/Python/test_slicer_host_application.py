"""The host's application: it opens, reloads and closes modules, and reads and writes files."""

from __future__ import annotations

import logging
import sys
import unittest
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs slicer-core: pip install 'LiverTumorSeg[slicer]'")

import slicer

from slicer_host.application import reason_without_qt, start
from slicer_host.modules import open_module

MODULE = """
import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import *

told = []

class Probe(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("Probe")

class ProbeWidget(ScriptedLoadableModuleWidget):
    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        import qt
        self.logic = ProbeLogic()
        self.button = qt.QPushButton(type(self).__name__)
        self.layout.addWidget(self.button)
        told.append(self.resourcePath("UI/Probe.ui"))
    def enter(self):
        told.append("enter")
    def exit(self):
        told.append("exit")
    def cleanup(self):
        told.append("cleanup")

class ProbeLogic(ScriptedLoadableModuleLogic):
    pass

class ProbeTest(ScriptedLoadableModuleTest):
    def runTest(self):
        self.delayDisplay("tested")
        told.append("test")
"""


@pytest.fixture
def probe(slicer_app, tmp_path):
    (tmp_path / "Probe.py").write_text(MODULE, encoding="utf-8")
    opened = open_module(tmp_path / "Probe.py")
    yield opened
    if hasattr(slicer.modules, "probe"):
        opened.close()
    sys.path.remove(str(tmp_path))


def test_starting_twice_gives_the_same_application(slicer_started, tmp_path):
    assert start(tmp_path) is slicer_started
    assert slicer.app is slicer_started
    assert slicer.mrmlScene is slicer_started.mrmlScene()


def test_a_test_starts_with_an_empty_scene_views_and_no_messages(slicer_app):
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode")
    slicer_app.messages.answers.append(True)
    colours = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLColorTableNode")
    slicer_app.renew()
    assert slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLTextNode") is None
    assert slicer_app.messages.answers == []
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLColorTableNode") == colours > 0
    for name in ("Red", "Green", "Yellow"):
        assert slicer_app.layoutManager().sliceWidget(name).mrmlSliceNode().GetScene() is slicer.mrmlScene
    assert slicer_app.layoutManager().threeDWidget(0).mrmlViewNode().GetScene() is slicer.mrmlScene


def test_a_module_is_opened_and_its_panel_made_when_it_is_asked_for(probe, tmp_path):
    import Probe

    assert (probe.title, Probe.told, slicer.modules.probe) == ("Probe", [], probe)
    panel = probe.widgetRepresentation()
    assert panel is probe.widgetRepresentation()
    assert panel.self() is slicer.modules.ProbeWidget
    assert Probe.told == [str(tmp_path / "Resources" / "UI" / "Probe.ui")]
    assert panel.self().parent.mrmlScene() is slicer.mrmlScene
    panel.enter()
    panel.exit()
    assert Probe.told[1:] == ["enter", "exit"]


def test_a_module_is_cleaned_up_once_when_it_is_closed(probe):
    import Probe

    probe.widgetRepresentation()
    told = Probe.told
    probe.close()
    assert told[1:] == ["cleanup"]
    assert not hasattr(slicer.modules, "probe")
    assert "Probe" not in sys.modules
    assert "Probe" not in slicer.selfTests


def test_a_reloaded_module_has_a_new_panel_from_the_new_source(probe, tmp_path):
    import Probe

    panel = probe.widgetRepresentation()
    first, told = panel.self(), Probe.told
    (tmp_path / "Probe.py").write_text(MODULE.replace("type(self).__name__", '"new source"'), encoding="utf-8")
    slicer.util.reloadScriptedModule("Probe")
    assert told[1:] == ["cleanup"]
    assert panel.self() is not first
    assert panel.self() is slicer.modules.ProbeWidget
    assert panel.self().button.text == "new source"
    assert panel.self().button.parent() is panel


def test_a_widget_without_a_place_makes_its_own(probe, slicer_app):
    widget = probe_module().ProbeWidget()
    assert widget.button.parent() is widget.parent
    assert widget.parent.mrmlScene() is slicer.mrmlScene
    slicer_app.moduleManager().about_to_unload("Probe")
    widget.parent.close()


def probe_module():
    return sys.modules["Probe"]


def test_the_self_test_of_a_module_is_found_and_run(probe, caplog):
    assert issubclass(probe_module().ProbeTest, unittest.TestCase)
    with caplog.at_level(logging.INFO):
        slicer.selfTests["Probe"](msec=5)
    assert probe_module().told == ["test"]
    assert "tested" in caplog.text


def test_the_parameter_node_is_one_and_stays_over_the_closing_of_the_scene(probe):
    logic = probe_module().ProbeLogic()
    node = logic.getParameterNode()
    assert (node.GetSingletonTag(), node.GetAttribute("ModuleName")) == ("Probe", "Probe")
    assert logic.getParameterNode() is node
    slicer.mrmlScene.Clear(0)
    assert logic.getParameterNode().GetAttribute("ModuleName") == "Probe"


def test_parameter_nodes_can_be_several(probe):
    logic = probe_module().ProbeLogic()
    logic.isSingletonParameterNode = False
    first = logic.getParameterNode()
    assert logic.getParameterNode() is first
    second = slicer.mrmlScene.AddNode(logic.createParameterNode())
    assert logic.getAllParameterNodes() == [first, second]


def test_settings_are_those_of_this_run_alone(slicer_app):
    import qt

    slicer_app.userSettings().setValue("Probe/Folder", "here")
    assert slicer.util.settingsValue("Probe/Folder", "") == "here"
    assert Path(qt.QSettings().fileName()).is_relative_to(slicer_app.temporaryPath)
    slicer_app.userSettings().remove("Probe")
    assert slicer.util.settingsValue("Probe/Folder", "none") == "none"


def test_slicer_tells_that_it_has_started_and_that_it_closes(slicer_app):
    told = []

    def started() -> None:
        told.append("started")

    def closing() -> None:
        told.append("closing")

    slicer.app.connect("startupCompleted()", started)
    slicer.app.connect("aboutToQuit()", closing)
    slicer_app.startupCompleted.emit()
    slicer_app.aboutToQuit.emit()
    assert told == ["started", "closing"]
    slicer.app.disconnect("startupCompleted()", started)
    slicer.app.disconnect("aboutToQuit()", closing)


def test_a_name_that_the_application_lacks_is_refused(slicer_app):
    with pytest.raises(AttributeError, match="extensionManager"):
        slicer_app.extensionManagerModel()


@pytest.fixture
def scan(slicer_started):
    return slicer.util.addVolumeFromArray(np.arange(60, dtype=np.int16).reshape(3, 4, 5), name="CT")


@pytest.mark.parametrize("name", ["scene.mrb", "scene.mrml"])
def test_a_scene_is_saved_and_loaded(slicer_app, scan, tmp_path, name):
    if name.endswith(".mrml"):
        assert slicer.util.saveNode(scan, str(tmp_path / "CT.nrrd"))
    assert slicer.util.saveScene(str(tmp_path / name))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(tmp_path / name))
    assert slicer.util.arrayFromVolume(slicer.util.getNode("CT")).ravel().tolist() == list(range(60))


def test_a_volume_and_a_segmentation_are_saved_and_loaded(slicer_app, scan, tmp_path):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Liver")
    node.SetReferenceImageGeometryParameterFromVolumeNode(scan)
    node.GetSegmentation().AddEmptySegment("liver", "liver")
    slicer.util.updateSegmentBinaryLabelmapFromArray(np.ones((3, 4, 5), np.uint8), node, "liver", scan)
    assert slicer.util.saveNode(scan, str(tmp_path / "CT.nrrd"))
    assert slicer.util.saveNode(node, str(tmp_path / "Liver.seg.nrrd"))
    slicer.mrmlScene.Clear(0)
    volume = slicer.util.loadVolume(str(tmp_path / "CT.nrrd"))
    labels = slicer.util.loadSegmentation(str(tmp_path / "Liver.seg.nrrd"))
    assert (volume.GetName(), volume.GetImageData().GetDimensions()) == ("CT", (5, 4, 3))
    assert list(labels.GetSegmentation().GetSegmentIDs()) == ["liver"]


def test_a_file_that_is_not_there_is_an_error(slicer_app, tmp_path):
    for load in (slicer.util.loadVolume, slicer.util.loadSegmentation, slicer.util.loadScene):
        with pytest.raises(RuntimeError, match="absent"):
            load(str(tmp_path / "absent.mrb"))


def test_all_slice_views_follow_a_jump(slicer_app, scan):
    manager = slicer_app.layoutManager()
    slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, 1.0, 2.0, 3.0, slicer.vtkMRMLSliceNode.CenteredJumpSlice)
    for name, axis in (("Red", 2), ("Green", 1), ("Yellow", 0)):
        matrix = manager.sliceWidget(name).mrmlSliceNode().GetSliceToRAS()
        assert matrix.GetElement(axis, 3) == pytest.approx(axis + 1.0)
    assert set(manager.sliceViewNames()) == {"Red", "Green", "Yellow"}
    assert manager.sliceWidget("Blue") is None


def test_without_qt_there_is_a_reason():
    assert reason_without_qt() is None or "PySide6" in reason_without_qt()
