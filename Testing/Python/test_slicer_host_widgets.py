"""The host's stand-ins for widgets of CTK and Slicer behave as the panel expects of the real ones."""

from __future__ import annotations

import pytest

pytest.importorskip("slicer", reason="needs slicer-core: pip install 'LiverTumorSeg[slicer]'")

import slicer

pytestmark = pytest.mark.usefixtures("slicer_app")


@pytest.fixture
def qt(slicer_app):
    import qt

    return qt


@pytest.fixture
def ctk(slicer_app):
    import ctk

    return ctk


def volume(name: str = "CT"):
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)


def selector(**properties):
    made = slicer.qMRMLNodeComboBox()
    made.nodeTypes = ["vtkMRMLVolumeNode"]
    for name, value in properties.items():
        setattr(made, name, value)
    made.setMRMLScene(slicer.mrmlScene)
    return made


def test_a_section_hides_what_is_in_it_and_shows_again_what_was_to_be_seen(qt, ctk):
    section, told = ctk.ctkCollapsibleButton("Results"), []
    seen, hidden = qt.QLabel("seen"), qt.QLabel("hidden")
    layout = qt.QVBoxLayout(section)
    layout.addWidget(seen)
    layout.addWidget(hidden)
    hidden.hide()
    section.setAttribute(qt.Qt.WA_DontShowOnScreen)
    section.show()
    section.connect("contentsCollapsed(bool)", told.append)
    section.collapsed = True
    assert (seen.visible, hidden.visible, section.checked, section.maximumHeight) == (False, False, False, 26)
    section.collapsed = False
    assert (seen.visible, hidden.visible) == (True, False)
    assert told == [True, False]
    section.click()
    assert section.collapsed is True


def test_a_click_into_the_contents_of_a_section_does_not_fold_it(qt, ctk):
    section = ctk.ctkCollapsibleButton("Results")
    assert section.hitButton(qt.QPoint(50, 10))
    assert not section.hitButton(qt.QPoint(50, 60))


def test_a_box_with_a_title_folds_too(qt, ctk):
    box = ctk.ctkCollapsibleGroupBox("Advanced")
    inside = qt.QLabel("inside")
    qt.QVBoxLayout(box).addWidget(inside)
    box.collapsed = True
    assert (box.title, inside.isHidden(), box.checked) == ("Advanced", True, False)


def test_a_slider_tells_every_new_value_once(ctk):
    slider, told = ctk.ctkSliderWidget(), []
    slider.singleStep, slider.minimum, slider.maximum = 0.25, 0.25, 4.0
    slider.connect("valueChanged(double)", told.append)
    slider.value = 1.5
    slider.value = 1.5
    slider.value = 9.0
    assert (told, slider.value) == ([1.5, 4.0], 4.0)


def test_a_slider_that_does_not_track_waits_for_the_mouse_to_let_go(ctk):
    slider, told, moving = ctk.ctkSliderWidget(), [], []
    slider.tracking = False
    slider.connect("valueChanged(double)", told.append)
    slider.connect("valueIsChanging(double)", moving.append)
    handle = slider.findChild(type(slider._slider))
    handle.sliderDown = True
    handle.sliderPosition = 10
    assert (told, moving) == ([], [10.0])
    handle.sliderDown = False
    assert told == [10.0]


def test_a_path_is_asked_for_and_a_cancelled_question_changes_nothing(ctk, slicer_app):
    line, button, told = ctk.ctkPathLineEdit(), ctk.ctkDirectoryButton(), []
    line.connect("currentPathChanged(QString)", told.append)
    slicer_app.messages.paths[:] = ["/a/scan.nrrd", "", "/b"]
    line.browse()
    line.browse()
    button.click()
    assert (line.currentPath, told, button.directory) == ("/a/scan.nrrd", ["/a/scan.nrrd"], "/b")


def test_a_selector_takes_the_first_node_unless_none_is_a_choice():
    first, second = volume("one"), volume("two")
    assert selector().currentNode() is first
    assert selector(noneEnabled=True).currentNode() is None
    made = selector()
    made.setCurrentNode(second)
    slicer.mrmlScene.RemoveNode(second)
    assert made.currentNode() is first


def test_a_selector_shows_derived_classes_where_it_is_told_to():
    plain = volume()
    labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    assert selector().nodes() == [plain, labels]
    assert selector(nodeTypes=["vtkMRMLScalarVolumeNode"], showChildNodeTypes=False).nodes() == [plain]
    assert selector(hideChildNodeTypes=["vtkMRMLLabelMapVolumeNode"]).nodes() == [plain]


def test_a_selector_hides_hidden_nodes_and_those_without_an_attribute():
    plain, hidden = volume("plain"), volume("hidden")
    hidden.SetHideFromEditors(True)
    plain.SetAttribute("phase", "venous")
    assert selector().nodeCount() == 1
    made = selector(showHidden=True)
    assert made.nodeCount() == 2
    made.addAttribute("vtkMRMLVolumeNode", "phase", "venous")
    assert made.nodes() == [plain]


def test_a_selector_tells_each_change_once_with_the_node_and_with_whether_there_is_one():
    made, told = selector(noneEnabled=True), []
    made.connect("currentNodeChanged(vtkMRMLNode*)", told.append)
    made.connect("currentNodeChanged(bool)", told.append)
    node = volume()
    made.setCurrentNodeID(node.GetID())
    made.setCurrentNode(node)
    slicer.mrmlScene.RemoveNode(node)
    assert told == [node, True, None, False]


def test_a_selector_makes_nodes_with_its_own_name_and_selects_them():
    made, told = selector(nodeTypes=["vtkMRMLSegmentationNode"], baseName="Result", noneEnabled=True), []
    made.connect("nodeAddedByUser(vtkMRMLNode*)", told.append)
    node = made.addNode()
    assert (made.currentNode(), node.GetName(), told) == (node, "Result", [node])
    node.SetName("Renamed")
    assert made._box.currentText == "Renamed"


def test_a_selector_is_emptied_with_the_scene_and_filled_by_a_scene_file(tmp_path):
    volume()
    made = selector(noneEnabled=True)
    made.setCurrentNodeIndex(0)
    slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear(0)
    assert (made.nodeCount(), made.currentNode()) == (0, None)
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    assert [node.GetName() for node in made.nodes()] == ["CT"]


def test_a_selector_that_is_gone_observes_no_more(qt):
    made = selector()
    qt.QWidget.deleteLater(made)
    slicer.app.sendPostedEvents(made, qt.QEvent.DeferredDelete)
    volume()
    assert slicer.app.uncaught == []
