"""The host's Qt keeps the rules by which Slicer's Python sees Qt; each test is one rule that the panel relies on."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import pytest

pytestmark = pytest.mark.usefixtures("slicer_app")


def wait_until(true: Callable[[], bool], limit_s: float = 10.0) -> None:
    """Run the event loop until something is so."""
    import slicer

    end = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < end, f"not so after {limit_s:g} s"
        slicer.app.processEvents()
        time.sleep(0.005)


def test_a_property_of_qt_is_an_attribute_and_its_setter_stays_a_method():
    import qt

    button = qt.QPushButton("one")
    assert (button.text, button.enabled, button.name) == ("one", True, "")
    button.text, button.enabled, button.name = "two", False, "apply"
    assert (button.text, button.isEnabled(), button.objectName) == ("two", False, "apply")
    button.setText("three")
    assert button.text == "three"
    assert button.className() == "QPushButton"


def test_an_unknown_attribute_is_refused_in_reading_and_in_writing():
    import qt

    label = qt.QLabel()
    with pytest.raises(AttributeError, match="txet"):
        label.txet  # noqa: B018
    for name in ("txet", "setText", "linkActivated"):
        with pytest.raises(AttributeError, match=name):
            setattr(label, name, "x")
    with pytest.raises(AttributeError, match="read-only"):
        label.width = 5
    with pytest.raises(AttributeError, match="another kind of value"):
        label.text = object()


def test_a_widget_written_in_python_takes_attributes_of_its_own():
    import ctk

    slider = ctk.ctkSliderWidget()
    slider.of_the_test = 5
    slider.maximum, slider.value = 10.0, 7.5
    assert (slider.of_the_test, slider.maximum, slider.value) == (5, 10.0, 7.5)
    with pytest.raises(AttributeError, match="another kind of value"):
        slider.value = "much"


def test_a_property_that_classes_override_is_read_without_end():
    import ctk
    import qt

    for made in (ctk.ctkSliderWidget(), ctk.ctkPathLineEdit(), qt.QPushButton("text")):
        assert made.sizeHint.width() > 0
        assert made.minimumSizeHint.height() > 0


def test_calls_that_give_nothing_back_keep_none_alive():
    """PySide6 6.12.0 takes a reference from None at each, until Python before 3.12 ends."""
    import qt

    label, before = qt.QLabel(), sys.getrefcount(None)
    for _ in range(500):
        label.setText("text")
    assert sys.getrefcount(None) > before - 100


def test_signals_are_connected_by_their_signature_or_as_attributes():
    import qt

    button, told = qt.QPushButton(), []
    button.checkable = True

    def quiet() -> None:
        told.append("quiet")

    assert button.connect("clicked(bool)", lambda checked: told.append(checked))
    assert button.connect("clicked()", quiet)
    button.toggled.connect(lambda checked: told.append(("toggled", checked)))
    button.click()
    assert sorted(map(str, told)) == ["('toggled', True)", "True", "quiet"]
    assert button.disconnect("clicked()", quiet)
    told.clear()
    button.click()
    assert "quiet" not in told


def test_a_slot_is_given_as_many_arguments_as_it_takes():
    import qt

    class Panel:
        def __init__(self) -> None:
            self.told: list[object] = []

        def onApply(self) -> None:
            self.told.append("applied")

    panel, button = Panel(), qt.QPushButton()
    button.connect("clicked(bool)", panel.onApply)
    button.clicked.connect(panel.onApply)
    button.click()
    assert panel.told == ["applied", "applied"]


def test_an_unknown_signal_is_refused_and_the_known_ones_are_named():
    import qt
    import slicer

    with pytest.raises(ValueError, match=r"clicked\(bool\)"):
        qt.QPushButton().connect("clickd(bool)", print)
    with pytest.raises(ValueError, match=r"currentNodeChanged\(vtkMRMLNode\*\)"):
        slicer.qMRMLNodeComboBox().connect("currentNodeChanged(vtkNode*)", print)


def test_an_exception_in_a_slot_is_noted(slicer_app):
    import qt

    def fail() -> None:
        raise KeyError("of the slot")

    button = qt.QPushButton()
    button.clicked.connect(fail)
    button.click()
    assert [str(error) for error in slicer_app.uncaught] == ["'of the slot'"]
    slicer_app.uncaught.clear()


def test_a_process_talks_over_its_pipes_and_tells_its_end():
    import qt

    process, said, ended = qt.QProcess(), [], []
    environment = qt.QProcessEnvironment.systemEnvironment()
    environment.insert("OF_THE_TEST", "seven")
    process.setProcessEnvironment(environment)
    process.connect("readyReadStandardOutput()", lambda: said.append(process.readAllStandardOutput().data()))
    process.connect("finished(int,QProcess::ExitStatus)", lambda code, status: ended.append((code, status)))
    process.start(sys.executable, ["-c", "import os; print(input(), os.environ['OF_THE_TEST']); raise SystemExit(3)"])
    process.write(b"hello\n")
    wait_until(lambda: ended)
    assert b"".join(said).split() == [b"hello", b"seven"]
    assert ended == [(3, qt.QProcess.NormalExit)]
    assert process.state() == qt.QProcess.NotRunning


def test_a_process_that_is_killed_and_one_that_does_not_exist_say_so():
    import qt

    process, ended, errors = qt.QProcess(), [], []
    process.connect("finished(int,QProcess::ExitStatus)", lambda code, status: ended.append(status))
    process.start(sys.executable, ["-c", "input()"])
    assert process.waitForStarted(5000)
    assert process.processId() > 0
    process.kill()
    wait_until(lambda: ended)
    assert ended == [qt.QProcess.CrashExit]
    absent = qt.QProcess()
    absent.connect("errorOccurred(QProcess::ProcessError)", errors.append)
    absent.start("no such program", [])
    wait_until(lambda: errors)
    assert errors == [qt.QProcess.FailedToStart]


def test_a_timer_is_a_property_of_objects_and_a_function_of_the_class():
    import qt

    told: list[str] = []
    qt.QTimer.singleShot(1, lambda: told.append("class"))
    timer = qt.QTimer()
    timer.singleShot, timer.interval = True, 1
    timer.connect("timeout()", lambda: told.append("object"))
    timer.start()
    wait_until(lambda: len(told) == 2)
    assert sorted(told) == ["class", "object"]
    assert timer.active is False


def test_a_table_keeps_its_items():
    import qt

    table, changed = qt.QTableWidget(0, 2), []
    table.setHorizontalHeaderLabels(["Volume", "State"])
    table.rowCount = 1
    table.connect("cellClicked(int,int)", lambda row, column: changed.append((row, column)))
    table.setItem(0, 1, qt.QTableWidgetItem("done"))
    table.cellClicked.emit(0, 1)
    assert (table.rowCount, table.item(0, 1).text(), table.item(0, 0), changed) == (1, "done", None, [(0, 1)])


def test_a_dialog_for_files_gives_the_path_alone(slicer_app):
    import qt

    slicer_app.messages.paths[:] = ["/a/scan.nrrd", ["/a", "/b"], ""]
    assert qt.QFileDialog.getOpenFileName(None, "Import bundle", "", "Bundles (*.zip)") == "/a/scan.nrrd"
    assert qt.QFileDialog.getOpenFileNames(None) == ["/a", "/b"]
    assert qt.QFileDialog.getExistingDirectory() == ""
    with pytest.raises(AssertionError, match="getSaveFileName"):
        qt.QFileDialog.getSaveFileName()


UI = """<ui version="4.0"><class>Panel</class><widget class="qMRMLWidget" name="Panel">
<layout class="QVBoxLayout"><item><widget class="ctkCollapsibleButton" name="inputs">
<property name="{name}" {stdset}><string>Inputs</string></property>
<layout class="QFormLayout"><item><widget class="{kind}" name="inner"/></item></layout>
</widget></item></layout></widget>
<connections><connection><sender>Panel</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
<receiver>inner</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot></connection></connections></ui>"""


def load(tmp_path, kind: str = "qMRMLNodeComboBox", name: str = "text", stdset: str = ""):
    import slicer

    (tmp_path / "panel.ui").write_text(UI.format(kind=kind, name=name, stdset=stdset), encoding="utf-8")
    return slicer.util.loadUI(str(tmp_path / "panel.ui"))


def test_a_panel_is_loaded_with_its_widgets_and_connections(tmp_path):
    import slicer

    panel = load(tmp_path)
    ui = slicer.util.childWidgetVariables(panel)
    assert (type(panel), type(ui.inner)) == (slicer.qMRMLWidget, slicer.qMRMLNodeComboBox)
    assert ui.inputs.text == "Inputs"
    panel.setMRMLScene(slicer.mrmlScene)
    assert ui.inner.mrmlScene() is slicer.mrmlScene


def test_a_panel_with_an_unknown_widget_or_property_is_refused(tmp_path):
    with pytest.raises(RuntimeError, match="qMRMLNodComboBox"):
        load(tmp_path, kind="qMRMLNodComboBox")
    with pytest.raises(RuntimeError, match="ctkCollapsibleButton inputs: no property 'txet'"):
        load(tmp_path, name="txet")


def test_a_dynamic_property_of_a_panel_is_kept(tmp_path):
    import qt

    panel = load(tmp_path, name="SlicerParameterName", stdset='stdset="0"')
    assert panel.findChild(qt.QWidget, "inputs").property("SlicerParameterName") == "Inputs"
