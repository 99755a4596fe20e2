"""The worker through `qt.QProcess` and `qt.QTimer`, with the rules of PythonQt."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
import pytest
import SimpleITK as sitk

from LiverTumorSegLib import segment
from LiverTumorSegLib.panel.client import Job, WorkerClient
from LiverTumorSegLib.panel.process import QtProcess, QtTimer
from worker_host import Ear, living_processes

pytestmark = pytest.mark.usefixtures("slicer_app")


def wait(until: Callable[[], bool], seconds: float = 30.0) -> float:
    """Let Qt call back until it is so; return how long that took."""
    from PySide6.QtCore import QCoreApplication

    began = time.monotonic()
    while not until():
        assert time.monotonic() - began < seconds, "Qt's loop waited in vain"
        QCoreApplication.processEvents()
        time.sleep(0.002)
    return time.monotonic() - began


class Child:
    """A `QtProcess` and all that it tells."""

    def __init__(self, program: str, command: list[str] | None = None) -> None:
        self.output: list[str] = []
        self.error: list[str] = []
        self.codes: list[int] = []
        self.process = QtProcess()
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "LTS_WORD": "肝臓"}
        command = command or [sys.executable, "-X", "utf8", "-c", program]
        self.process.start(command, environment, self.output.append, self.error.append, self.codes.append)

    def ends(self) -> Child:
        wait(lambda: bool(self.codes))
        assert not self.process.is_running()
        return self


def test_lines_go_both_ways_whole_and_in_order():
    child = Child("while True:\n    line = input()\n    print(line[::-1])\n    if not line: break")
    assert child.process.is_running()
    for word in ("Leber", "肝臓", ""):
        child.process.write(word)
    assert child.ends().output == ["rebeL", "臓肝", ""]
    assert (child.error, child.codes) == ([], [0])


def test_characters_cut_by_the_pipe_and_a_last_line_without_end_come_whole():
    program = (
        "import os, time\n"
        "for byte in os.environ['LTS_WORD'].encode() + b'\\r\\nno end':\n"
        "    os.write(1, bytes([byte])); os.write(2, bytes([byte])); time.sleep(0.01)\n"
        "os._exit(3)"
    )
    child = Child(program).ends()
    assert (child.output, child.error, child.codes) == (["肝臓", "no end"], ["肝臓", "no end"], [3])


def test_a_program_that_is_not_there_ends_at_once_with_its_reason():
    child = Child("", ["no-such-program"]).ends()
    assert child.codes == [-1]
    assert child.output == []
    assert len(child.error) == 1
    child.process.write("nobody reads this")
    child.process.kill()
    assert child.codes == [-1]


def test_a_crash_has_a_negative_code_and_a_kill_waits_for_the_end():
    assert Child("import os; os.abort()").ends().codes[0] < 0
    child = Child("import time; print('up'); time.sleep(60)")
    wait(lambda: child.output == ["up"])
    child.process.kill()
    assert not child.process.is_running()
    assert child.codes[0] < 0
    assert len(child.codes) == 1


def test_a_timer_calls_once_and_later():
    called: list[float] = []
    began = time.monotonic()
    QtTimer().after(0.1, lambda: called.append(time.monotonic() - began))
    assert called == []
    wait(lambda: bool(called))
    assert called[0] >= 0.09


@pytest.fixture
def client(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = WorkerClient(QtProcess, QtTimer(), environment={**os.environ, "LTS_TEST_QT": str(tmp_path)})
    yield made
    made.close()
    assert living_processes(f"LTS_TEST_QT={tmp_path}") == []
    assert list(tmp_path.iterdir()) == []


def test_a_run_through_qt_is_that_of_segment_and_the_worker_stays(client, tiny_bundle, ellipsoid_scan, tmp_path):
    scan, _ = ellipsoid_scan()
    alone = segment(scan, tiny_bundle, device="cpu")
    for _ in range(2):
        ear = Ear()
        client.segment(scan, Job(str(tiny_bundle), "cpu"), ear)
        wait(lambda ear=ear: ear.ended)
        (result,) = ear.results
        assert np.array_equal(*(sitk.GetArrayFromImage(each.labels) for each in (result, alone)))
        assert len(living_processes(f"LTS_TEST_QT={tmp_path}")) == 1


@pytest.mark.parametrize("end", ["cancel", "close", "crash"])
def test_a_run_through_qt_that_is_ended_leaves_nothing(end, client, tiny_bundle, tmp_path):
    large = sitk.GetImageFromArray(np.random.default_rng(0).integers(-1000, 200, (180, 180, 180)).astype(np.int16))
    large.SetSpacing((10.0, 10.0, 10.0))
    ear = Ear()
    client.segment(large, Job(str(tiny_bundle), "cpu"), ear)
    wait(lambda: any(step == "whole: network" for step, _ in ear.steps))
    if end == "close":
        client.close()
    elif end == "cancel":
        client.cancel()
    else:
        os.kill(living_processes(f"LTS_TEST_QT={tmp_path}")[0], 9)
    if end != "close":
        assert wait(lambda: ear.ended) < 2
    assert (ear.cancelled, len(ear.failures), ear.results) == (end == "cancel", end == "crash", [])
    assert list(tmp_path.iterdir()) == []
