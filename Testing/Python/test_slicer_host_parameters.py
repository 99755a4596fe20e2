"""The host's parameter nodes: what is kept, and that every kind of widget shows it and changes it."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("slicer", reason="needs slicer-core: pip install 'LiverTumorSeg[slicer]'")

import slicer

from slicer_host.parameter_node import parameterNodeWrapper
from slicer_host.parameter_types import Choice, Default, Maximum, Minimum, WithinRange

pytestmark = pytest.mark.usefixtures("slicer_app")


class Plane(enum.Enum):
    AXIAL = 1
    CORONAL = 2


@parameterNodeWrapper
class Parameters:
    volume: slicer.vtkMRMLScalarVolumeNode
    segmentation: slicer.vtkMRMLSegmentationNode
    sensitivity: Annotated[float, WithinRange(0.25, 4.0)] = 1.0
    steps: Annotated[int, WithinRange(0, 10), Default(3)]
    modality: Annotated[str, Choice(["auto", "CT", "MR"]), Default("auto")]
    bundle: str = "default"
    separate: bool
    folder: Path = Path("here")
    plane: Plane
    note: Annotated[str, Default("none")]


def parameters():
    node = slicer.ScriptedLoadableModule.ScriptedLoadableModuleLogic().getParameterNode()
    return Parameters(node)


def test_defaults_are_written_into_a_new_node():
    pack = parameters()
    assert (pack.volume, pack.sensitivity, pack.steps, pack.modality) == (None, 1.0, 3, "auto")
    assert (pack.bundle, pack.separate, pack.folder, pack.plane) == ("default", False, Path("here"), Plane.AXIAL)
    assert pack.parameterNode.GetParameter("sensitivity") == "1.0"
    assert pack.default("steps").value == 3


def test_a_second_wrapper_finds_the_values_of_the_first():
    first = parameters()
    first.sensitivity, first.bundle = 2.5, "other"
    second = parameters()
    assert second.parameterNode is first.parameterNode
    assert (second.sensitivity, second.bundle) == (2.5, "other")


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    sensitivity=st.floats(0.25, 4.0),
    steps=st.integers(0, 10),
    bundle=st.text(st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=["Cs"])),
)
def test_what_is_written_is_read_back(sensitivity, steps, bundle):
    pack = parameters()
    pack.sensitivity, pack.steps, pack.bundle = sensitivity, steps, bundle
    assert (pack.sensitivity, pack.steps, pack.bundle) == (sensitivity, steps, bundle)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("sensitivity", 4.5, ValueError),
        ("sensitivity", "2", TypeError),
        ("modality", "PET", ValueError),
        ("bundle", None, TypeError),
        ("volume", "CT", TypeError),
        ("folder", "text", TypeError),
    ],
)
def test_a_value_that_does_not_fit_is_refused_and_the_old_one_stays(name, value, error):
    pack = parameters()
    before = getattr(pack, name)
    with pytest.raises(error, match="wanted"):
        setattr(pack, name, value)
    assert getattr(pack, name) == before


def test_least_and_greatest_values_are_kept_apart():
    for bound, value in ((Minimum(0), -1), (Maximum(5), 6)):
        with pytest.raises(ValueError, match=str(value)):
            bound.validate(value)
        bound.validate(3)


def test_a_node_of_another_class_is_refused_and_a_deleted_one_is_none():
    pack = parameters()
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    with pytest.raises(TypeError, match="vtkMRMLSegmentationNode"):
        pack.segmentation = volume
    pack.volume = volume
    assert pack.parameterNode.GetNodeReference("volume") is volume
    slicer.mrmlScene.RemoveNode(volume)
    assert pack.volume is None


def test_a_field_with_a_name_of_the_wrapper_or_a_kind_that_is_not_kept_is_refused():
    with pytest.raises(ValueError, match="setValue"):
        parameterNodeWrapper(type("Clash", (), {"__annotations__": {"setValue": str}}))
    with pytest.raises(TypeError, match="complex"):
        parameterNodeWrapper(type("Strange", (), {"__annotations__": {"value": complex}}))


def test_observers_hear_of_a_change_once():
    pack, told = parameters(), []
    tag = pack.AddObserver("ModifiedEvent", lambda caller, event: told.append(pack.sensitivity))
    with slicer.util.NodeModify(pack):
        pack.sensitivity, pack.bundle = 2.0, "other"
    assert told == [2.0]
    pack.RemoveObserver(tag)
    pack.Modified()
    assert told == [2.0]


def test_values_and_nodes_survive_a_scene_file(tmp_path):
    pack = parameters()
    pack.volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    pack.sensitivity, pack.separate, pack.plane, pack.folder = 2.5, True, Plane.CORONAL, tmp_path / "with space"
    pack.bundle = 'a "quoted"; name; with <signs>: ä'
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear(0)
    assert parameters().sensitivity == 1.0
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    back = parameters()
    assert back.volume.GetName() == "CT"
    assert (back.sensitivity, back.separate, back.plane) == (2.5, True, Plane.CORONAL)
    assert (back.folder, back.bundle) == (tmp_path / "with space", 'a "quoted"; name; with <signs>: ä')


def widget(kind: str, of: str | None = None):
    import ctk
    import qt

    home = ctk if kind.startswith("ctk") else slicer if kind.startswith("qMRML") else qt
    made = getattr(home, kind)()
    if of:
        made.setProperty("SlicerParameterName", of)
    return made


@pytest.fixture
def connected():
    """Ties a panel with one widget of a class to a parameter; gives the widget, and the tag of the tie."""
    import qt

    ties = []

    def connect(pack, name: str, kind: str):
        panel, made = qt.QWidget(), widget(kind, name)
        qt.QVBoxLayout(panel).addWidget(made)
        tag = pack.connectParametersToGui({name: made})
        ties.append((pack, tag, panel))
        return made, tag

    yield connect
    for pack, tag, _panel in ties:
        pack.disconnectGui(tag)


WIDGETS = [
    ("sensitivity", "ctkSliderWidget", "value", 2.5, 0.5),
    ("sensitivity", "QDoubleSpinBox", "value", 2.5, 0.5),
    ("steps", "QSpinBox", "value", 7, 1),
    ("steps", "QSlider", "value", 7, 1),
    ("separate", "QCheckBox", "checked", True, False),
    ("separate", "QPushButton", "checked", True, False),
    ("bundle", "QLineEdit", "text", "mine", "yours"),
    ("note", "QTextEdit", "plainText", "two\nlines", "x"),
    ("steps", "ctkSliderWidget", "value", 7, 1),
    ("modality", "QComboBox", "currentText", "MR", "CT"),
    ("modality", "ctkComboBox", "currentText", "MR", "CT"),
]


@pytest.mark.parametrize(("name", "kind", "attribute", "typed", "written"), WIDGETS)
def test_a_widget_and_its_parameter_follow_each_other(name, kind, attribute, typed, written, connected):
    pack = parameters()
    made, tag = connected(pack, name, kind)
    assert getattr(made, attribute) == getattr(pack, name)
    setattr(made, attribute, typed)
    assert getattr(pack, name) == typed
    setattr(pack, name, written)
    assert getattr(made, attribute) == written
    pack.disconnectGui(tag)
    setattr(made, attribute, typed)
    assert getattr(pack, name) == written


@pytest.mark.parametrize(
    ("kind", "attribute"), [("ctkPathLineEdit", "currentPath"), ("ctkDirectoryButton", "directory")]
)
def test_a_path_is_shown_as_text(kind, attribute, connected):
    pack = parameters()
    made, _ = connected(pack, "folder", kind)
    assert getattr(made, attribute) == "here"
    setattr(made, attribute, "there/deep")
    assert pack.folder == Path("there/deep")


def test_a_label_shows_a_text(connected):
    pack = parameters()
    label, _ = connected(pack, "note", "QLabel")
    pack.note = "done"
    assert label.text == "done"


def test_an_enumeration_is_shown_by_its_names(connected):
    pack = parameters()
    box, _ = connected(pack, "plane", "QComboBox")
    assert [box.itemText(n) for n in range(box.count)] == ["AXIAL", "CORONAL"]
    box.currentIndex = 1
    assert pack.plane is Plane.CORONAL


def test_a_selector_shows_nodes_of_the_parameters_class_and_none(connected):
    pack = parameters()
    selector, _ = connected(pack, "volume", "qMRMLNodeComboBox")
    selector.noneEnabled = True
    selector.setMRMLScene(slicer.mrmlScene)
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    assert selector.nodeTypes == ["vtkMRMLScalarVolumeNode"]
    assert selector.nodes() == [volume]
    assert pack.volume is None
    selector.setCurrentNode(volume)
    assert pack.volume is volume
    pack.volume = None
    assert selector.currentNode() is None
    pack.volume = volume
    slicer.mrmlScene.RemoveNode(volume)
    assert (selector.currentNode(), pack.volume) == (None, None)


def test_widgets_by_name_are_connected_too():
    pack, box = parameters(), widget("QCheckBox")
    tag = pack.connectParametersToGui({"separate": box})
    box.checked = True
    assert pack.separate is True
    pack.disconnectGui(tag)


def test_widgets_that_say_their_parameter_are_connected_and_no_tag_comes_back_to_undo_it():
    import qt

    pack, panel, box = parameters(), qt.QWidget(), widget("QCheckBox", "separate")
    qt.QVBoxLayout(panel).addWidget(box)
    assert pack.connectGui(panel) is None
    pack.disconnectGui(None)
    box.checked = True
    assert pack.separate is True
    pack.disconnectGui(0)


def test_a_slider_takes_its_range_from_the_parameter(connected):
    slider, _ = connected(parameters(), "sensitivity", "ctkSliderWidget")
    assert (slider.minimum, slider.maximum) == (0.25, 4.0)


@pytest.mark.parametrize(
    ("name", "kind", "problem"),
    [
        ("bundle", "QComboBox", "Choice"),
        ("note", "QPlainTextEdit", "QPlainTextEdit"),
        ("sensitivity", "QSpinBox", "QSpinBox"),
        ("absent", "QCheckBox", "absent"),
    ],
)
def test_a_pair_that_slicer_has_no_connector_for_is_refused(name, kind, problem, connected):
    with pytest.raises((RuntimeError, ValueError), match=problem):
        connected(parameters(), name, kind)


def test_the_module_publishes_what_the_panel_imports(connected):
    from slicer.parameterNodeWrapper import WithinRange as Published
    from slicer.parameterNodeWrapper import findChildWidgetForParameter, isParameterNodeWrapper

    pack = parameters()
    box, _ = connected(pack, "separate", "QCheckBox")
    assert Published is WithinRange
    assert isParameterNodeWrapper(pack)
    assert findChildWidgetForParameter(box.parent(), "separate") is box
