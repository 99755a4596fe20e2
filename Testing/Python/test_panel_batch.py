"""Batches: the state of each scan, what is skipped, and that one failure does not stop the rest; no Qt, no Slicer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("slicer", reason="needs slicer-core: pip install 'LiverTumorSeg[slicer]'")

import slicer

import shapes
from LiverTumorSegLib.errors import ImageError
from LiverTumorSegLib.output import FILES
from LiverTumorSegLib.panel.batch import Batch, State, tally
from LiverTumorSegLib.panel.batch_sources import FolderWork, SceneWork
from LiverTumorSegLib.panel.client import Job
from LiverTumorSegLib.scene import add_volume
from panel_stand_ins import HandTimer, SpokenClient


class Scans:
    """A folder of scans, the batch over it, and a hand on the worker."""

    def __init__(self, folder: Path, scan: sitk.Image, truth: sitk.Image) -> None:
        self.scans, self.results = folder / "scans", folder / "results"
        self.scans.mkdir()
        self.scan, self.truth = scan, truth
        self.client, self.timer = SpokenClient(), HandTimer()
        self.batch = Batch(self.client, self.timer, lambda: None)

    def add(self, name: str) -> Path:
        path = self.scans / name
        sitk.WriteImage(self.scan, str(path))
        return path

    def start(self) -> None:
        self.batch.start(FolderWork(self.scans, self.results), Job())
        self.wait()

    def wait(self) -> None:
        """Until the worker is asked for something, or nothing is left to do."""
        for _ in range(2000):
            self.timer.pass_by(0.05)
            if self.client.busy or not self.batch.running:
                return
        raise AssertionError("the batch hangs")

    def answer(self) -> None:
        image = self.client.runs[-1][0]
        self.client.end("on_done", shapes.segmentation_of(image, self.truth))
        self.wait()

    def states(self) -> dict[str, str]:
        return {item.name: item.state.value for item in self.batch.items}


@pytest.fixture
def scans(tmp_path, ellipsoid_scan) -> Scans:
    return Scans(tmp_path, *ellipsoid_scan())


def test_scans_of_a_folder_are_done_one_after_the_other(scans):
    scans.add("b.nii.gz")
    scans.add("a.nrrd")
    (scans.scans / "notes.txt").write_text("no scan", encoding="utf-8")
    scans.start()
    assert scans.states() == {"a": "running", "b": "waiting"}
    scans.answer()
    assert scans.states() == {"a": "done", "b": "running"}
    scans.answer()
    assert scans.states() == {"a": "done", "b": "done"}
    assert not scans.batch.running
    expected = {name for name in FILES if name != "report.html"}
    assert {path.name for path in (scans.results / "a").iterdir()} == expected
    assert scans.batch.items[0].message == "liver 234 ml, 1 lesion"


def test_a_scan_that_cannot_be_read_or_segmented_does_not_stop_the_others(scans):
    (scans.scans / "a.nii.gz").write_bytes(b"no scan at all")
    scans.add("b.nii.gz")
    scans.add("c.nii.gz")
    scans.start()
    assert scans.states() == {"a": "failed", "b": "running", "c": "waiting"}
    assert "a.nii.gz" in scans.batch.items[0].message
    scans.client.end("on_failed", "out of memory", ["last line"])
    scans.wait()
    scans.answer()
    assert scans.states() == {"a": "failed", "b": "failed", "c": "done"}
    assert tally(scans.batch.items) == "1 of 3 done, 2 failed"


def test_whatever_happens_to_one_result_the_next_scan_has_its_turn(scans, monkeypatch):
    scans.add("a.nii.gz")
    scans.add("b.nii.gz")
    scans.start()
    with monkeypatch.context() as patch:
        patch.setattr(FolderWork, "keep", _out_of_memory)
        scans.answer()
    assert scans.states() == {"a": "failed", "b": "running"}
    assert scans.batch.items[0].message == "Ended by an unforeseen MemoryError; Slicer's log has more."
    scans.answer()
    assert scans.states() == {"a": "failed", "b": "done"}


def _out_of_memory(*arguments):
    raise MemoryError


def test_a_batch_goes_on_where_it_was_stopped(scans):
    for name in ("a.nii.gz", "b.nii.gz"):
        scans.add(name)
    scans.start()
    scans.answer()
    scans.batch.cancel()
    assert scans.states() == {"a": "done", "b": "waiting"}
    assert not scans.client.busy
    scans.start()
    assert scans.states() == {"a": "skipped", "b": "running"}
    assert scans.batch.items[0].message == "results are there already (default 1.2.3)"
    scans.answer()
    assert scans.states() == {"a": "skipped", "b": "done"}


def test_a_report_that_is_not_whole_is_made_anew(scans):
    scans.add("a.nii.gz")
    (scans.results / "a").mkdir(parents=True)
    (scans.results / "a" / "report.json").write_text('{"provenance": ', encoding="utf-8")
    scans.start()
    assert scans.states() == {"a": "running"}


def test_two_files_of_one_name_get_results_of_their_own(scans):
    scans.add("a.nii.gz")
    scans.add("a.nrrd")
    scans.start()
    assert [item.name for item in scans.batch.items] == ["a.nii.gz", "a.nrrd"]


def test_a_folder_of_dicom_files_counts_as_one_scan(scans):
    for name in ("series", "no series"):
        (scans.scans / name).mkdir()
    (scans.scans / "series" / "1.dcm").write_bytes(bytes(128) + b"DICM")
    (scans.scans / "no series" / "1.txt").write_bytes(b"text")
    scans.start()
    assert scans.states() == {"series": "failed"}  # there is no image in it


def test_a_folder_without_scans_is_refused(scans):
    with pytest.raises(ImageError, match="wanted scan files or DICOM folders in scans, got none"):
        scans.start()
    assert not scans.batch.running


def test_a_scan_that_is_said_to_be_mr_is_not_taken_for_a_ct_that_starts_at_zero(scans):
    values = np.full((10, 12, 14), 20, np.int16)
    values[2:8, 2:10, 2:12] = 1050  # as most of a body is where a CT's rescaling was lost
    sitk.WriteImage(sitk.GetImageFromArray(values), str(scans.scans / "a.nii.gz"))
    for modality, least in ((None, -1004), ("MR", 20)):
        work = FolderWork(scans.scans, scans.results, modality)
        (item,) = work.items()
        assert sitk.GetArrayViewFromImage(work.read(item)[0]).min() == least


def test_nothing_begins_while_the_worker_is_busy(scans):
    scans.add("a.nii.gz")
    scans.client.listener = scans.batch
    scans.batch.start(FolderWork(scans.scans, scans.results), Job())
    assert scans.batch.items == []


def test_the_volumes_of_a_scene_get_segmentations_and_those_that_have_one_are_skipped(slicer_started, ellipsoid_scan):
    scan, truth = ellipsoid_scan()
    scene = slicer.vtkMRMLScene()
    volumes = [add_volume(scan, scene, name) for name in ("one", "two")]
    scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "no scan")
    client, timer = SpokenClient(), HandTimer()
    batch = Batch(client, timer, lambda: None)
    for _ in range(2):
        batch.start(SceneWork(scene, separate_lesions=False), Job())
        while client.busy:
            client.end("on_done", shapes.segmentation_of(client.runs[-1][0], truth))
            timer.pass_by(0.1)
    assert [item.state for item in batch.items] == [State.SKIPPED] * 2
    assert [item.message for item in batch.items] == [
        "has one segmentation already",
        "has two segmentation already",
    ]
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 2
    assert len(client.runs) == 2
    assert volumes[0].GetScene() is scene


def test_a_volume_deleted_while_it_is_segmented_fails_alone(slicer_started, ellipsoid_scan):
    scan, truth = ellipsoid_scan()
    scene = slicer.vtkMRMLScene()
    volumes = [add_volume(scan, scene, name) for name in ("one", "two")]
    client, timer = SpokenClient(), HandTimer()
    batch = Batch(client, timer, lambda: None)
    batch.start(SceneWork(scene, separate_lesions=True), Job())
    scene.RemoveNode(volumes[0])
    while client.busy:
        client.end("on_done", shapes.segmentation_of(client.runs[-1][0], truth))
        timer.pass_by(0.1)
    assert [item.state.value for item in batch.items] == ["failed", "done"]
    assert batch.items[0].message == "one: wanted the scan in the scene, it was deleted"
