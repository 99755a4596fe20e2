"""The panel with the real worker process and the bundle that ships, on a scan that lies obliquely."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("slicer", reason="needs slicer-core: pip install 'LiverTumorSeg[slicer]'")

import slicer

from LiverTumorSegLib.evaluation.metrics import dice
from LiverTumorSegLib.scene import labels_from_segmentation
from LiverTumorSegLib.training.synthesis.cases import write_case
from panel_host import opened_module
from slicer_host.nodes import LPS_TO_RAS, places_of


@pytest.fixture(scope="module")
def oblique_sample(tmp_path_factory, oblique):
    """The synthetic abdomen and its true labels on a left-handed grid with no axis along the patient's."""
    paths = write_case(tmp_path_factory.mktemp("sample"), "abdomen", 7, "CT", 4.0)
    drawn = [sitk.ReadImage(str(path)) for path in paths]
    left_handed = [-value if n % 3 == 0 else value for n, value in enumerate(oblique)]
    grid = sitk.Image(110, 100, 110, sitk.sitkUInt8)
    grid.SetSpacing((3.5, 3.5, 3.5))
    grid.SetDirection(left_handed)
    middle = np.array(drawn[0].TransformContinuousIndexToPhysicalPoint([n / 2 for n in drawn[0].GetSize()]))
    here = np.array(grid.TransformContinuousIndexToPhysicalPoint([n / 2 for n in grid.GetSize()]))
    grid.SetOrigin((middle - here).tolist())
    scan = sitk.Resample(drawn[0], grid, sitk.Transform(), sitk.sitkLinear, -1000)
    truth = sitk.Resample(drawn[1], grid, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    return scan, truth


@pytest.fixture
def panel(slicer_app, tmp_path, monkeypatch):
    """The module with its own worker; what it leaves in the folder for temporary files is seen here."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with opened_module(None) as opened:
        yield opened


def worker_of(panel):
    return panel.widget.panel._at.client._worker


def left_behind(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("livertumorseg-*")]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_apply_cancel_crash_and_apply_again_with_a_real_worker(panel, oblique_sample, tmp_path):
    scan, truth = oblique_sample
    volume = panel.add(scan)

    # Apply ends in segments at the right places of the world.
    panel.ui.applyButton.click()
    assert panel.widget.panel.run.running
    panel.wait(lambda: not panel.widget.panel.run.running)
    assert panel.ui.statusLabel.text.startswith("Done in 0:")
    node = panel.parameters.segmentation
    found, wanted = (sitk.GetArrayFromImage(i) for i in (labels_from_segmentation(node, volume), truth))
    assert dice(wanted > 0, found > 0) > 0.8
    middle = np.argwhere(found > 0)[:, ::-1].mean(0)
    expected = LPS_TO_RAS @ scan.TransformContinuousIndexToPhysicalPoint(middle.tolist())
    places = np.concatenate([places_of(node, each) for each in ("liver", "tumour")])
    np.testing.assert_allclose(places.mean(0), expected, atol=1e-3)
    assert left_behind(tmp_path) == []

    # The slider works on what the worker sent, without it.
    before = len(places_of(node, "tumour"))
    panel.ui.sensitivitySlider.value = 2.5
    panel.wait(lambda: node.GetAttribute("LiverTumorSeg.Sensitivity") == "2.5")
    assert len(places_of(node, "tumour")) > before
    panel.wait(lambda: len(panel.rows()) > 0)

    # Cancel ends the run within two seconds; nothing has changed and the worker stays warm.
    pid = worker_of(panel).pid
    panel.ui.applyButton.click()
    panel.wait(lambda: panel.widget.panel.run.share > 0)
    began = time.monotonic()
    panel.ui.applyButton.click()
    panel.wait(lambda: not panel.widget.panel.run.running)
    assert time.monotonic() - began < 2
    assert panel.ui.statusLabel.text == "Cancelled. Nothing was changed."
    assert node.GetAttribute("LiverTumorSeg.Sensitivity") == "2.5"
    assert left_behind(tmp_path) == []

    # A worker that dies is told, and the next Apply starts another one. Slicer closes in the middle of that run.
    panel.ui.applyButton.click()
    panel.wait(lambda: panel.widget.panel.run.share > 0)
    pid = worker_of(panel).pid
    os.kill(pid, signal.SIGKILL)
    panel.wait(lambda: not panel.widget.panel.run.running)
    assert "process that ended" in panel.ui.statusLabel.text
    panel.ui.applyButton.click()
    panel.wait(lambda: panel.widget.panel.run.share > 0)
    assert worker_of(panel).pid != pid
    pid = worker_of(panel).pid
    panel.widget.cleanup()
    end = time.monotonic() + 2
    while is_alive(pid) and time.monotonic() < end:
        time.sleep(0.01)
    assert not is_alive(pid)
    assert left_behind(tmp_path) == []


def test_the_devices_of_this_computer_are_offered(panel):
    box = panel.ui.deviceComboBox
    assert [box.itemText(n) for n in range(2)] == ["Automatic", "Processor (CPU)"]
    panel.wait(lambda: worker_of(panel) is not None and worker_of(panel).pid is not None)
    panel.wait(lambda: not worker_of(panel).questions)
    assert box.currentIndex == 0


def test_declining_the_packages_starts_no_worker(slicer_app, tmp_path, ellipsoid_scan):
    slicer_app.packages.missing = {"monai"}
    slicer_app.packages.declined = True
    with opened_module(None) as panel:
        panel.place.exit()
        panel.add(ellipsoid_scan()[0])
        panel.ui.applyButton.click()
        assert panel.ui.statusLabel.text
        assert not panel.widget.panel.run.running
        assert slicer_app.packages.asked[-1][0] == "LiverTumorSeg"
        assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0
