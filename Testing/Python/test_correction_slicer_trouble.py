"""Timed corrections in the panel when something fails: a full disk, packages that are lacking, files that are torn."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs slicer-core: pip install 'LiverTumorSeg[slicer]'")

import slicer

from LiverTumorSegLib.errors import JournalError, OutputError
from LiverTumorSegLib.panel import session as panel_session
from LiverTumorSegLib.scene import add_segmentation, write_segmentation
from slicer_host.nodes import labels_in, oblique_scan, result_of, three_lesions
from timed_panel import BLOCK, enabled, finished, timed_panel

WORKING = "working.seg.nrrd"


@pytest.fixture
def timed(slicer_app):
    with timed_panel() as made:
        yield made


def begun(timed, folder: Path) -> Path:
    """A session that runs; returns its folder."""
    timed.show_result()
    timed.code(folder)
    timed.ui.startSessionButton.click()
    return folder / "c1_R1_001"


def full_disk(*arguments, **more):
    raise OutputError("wanted to write the voxels, got: the disk is full")


def test_corrections_that_cannot_be_read_are_told_and_the_session_goes_on_from_its_start(timed, tmp_path):
    folder = begun(timed, tmp_path)
    timed.paint("Paint", "tumour_2", BLOCK)
    slicer.mrmlScene.Clear()
    (folder / WORKING).write_bytes(b"NRRD0004\n")
    timed.panel.add(oblique_scan(), "the scan again")
    timed.code(tmp_path)
    timed.ui.resumeSessionButton.click()
    assert timed.sessions.running
    assert "goes on from its start: " in timed.ui.sessionStatusLabel.text
    results = timed.panel.results
    assert np.array_equal(labels_in(results.node, results.volume), three_lesions(oblique_scan()))


def test_a_session_whose_start_cannot_be_written_leaves_nothing_behind(timed, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(panel_session, "write_seg_nrrd", full_disk)
        begun(timed, tmp_path)
    assert "the disk is full" in timed.ui.sessionStatusLabel.text
    assert list(tmp_path.iterdir()) == []
    assert enabled(timed.ui) == {"start"}
    timed.ui.startSessionButton.click()
    assert timed.sessions.running


def test_the_packages_that_a_finish_needs_are_there_before_a_session_begins(timed, tmp_path):
    timed.at.installer.refusal = "PyTorch is needed, and installing it was declined."
    begun(timed, tmp_path)
    assert timed.ui.sessionStatusLabel.text == timed.at.installer.refusal
    assert list(tmp_path.iterdir()) == []
    timed.at.installer.refusal = ""
    timed.ui.startSessionButton.click()
    assert timed.sessions.running
    assert timed.at.installer.asked == 2


def test_a_session_that_cannot_be_finished_for_lack_of_a_package_says_so_and_goes_on(timed, tmp_path, monkeypatch):
    folder = begun(timed, tmp_path)
    timed.wait(2)
    with monkeypatch.context() as patch:
        for name in ("cc3d", "edt"):
            patch.setitem(sys.modules, name, None)
        timed.ui.finishSessionButton.click()
    assert "without the Python package" in timed.ui.sessionStatusLabel.text
    assert timed.sessions.running
    timed.ui.finishSessionButton.click()
    assert finished(folder)["times"]["active_ms"] == 2000


def test_after_a_full_disk_the_clock_goes_on_and_what_follows_is_noted(timed, tmp_path, monkeypatch):
    begun(timed, tmp_path)
    timed.wait(2)
    session = timed.sessions.session
    timed.clock.wait(0.1)
    session.viewed()
    with monkeypatch.context() as patch:
        patch.setattr(session._journal, "append", _refuse)
        timed.wait(3)
        assert "a full disk" in timed.ui.sessionStatusLabel.text
        assert ">0:05<" in timed.ui.sessionClockLabel.text
    before = session._journal.lines
    timed.wait(4)
    assert session._journal.lines == before + 1 + 4  # the view, and a tick each second


def _refuse(note):
    raise JournalError("journal.jsonl: wanted to note what happened, got a full disk")


def test_a_folder_that_cannot_be_reached_leaves_the_panel_usable(timed):
    timed.code(Path("/") / ("x" * 300))
    timed.show_result()
    assert enabled(timed.ui) == {"start"}
    timed.ui.startSessionButton.click()
    assert "wanted a folder for sessions, got:" in timed.ui.sessionStatusLabel.text
    assert not timed.sessions.running


def test_each_rejected_lesion_of_one_segment_is_a_decision_of_its_own(timed, tmp_path):
    show_one_segment(timed, three_lesions(oblique_scan()))
    timed.code(tmp_path)
    timed.ui.startSessionButton.click()
    results = timed.panel.results
    first, second, _ = (row.lesion.lesion.voxels for row in results.rows)
    results.reject(0)
    results.reject(0)
    assert results.rows[0].lesion.lesion.id == 1
    results.accept(0)
    account = timed.sessions.session.account
    assert account.decisions == {"lesion 1": "rejected", "lesion 2": "rejected", "lesion 3": "accepted"}
    removed = {name: effort.voxels_removed for name, effort in account.effort.items()}
    assert removed == {"lesion 1": first, "lesion 2": second}


def test_a_session_that_is_taken_up_again_gives_no_name_of_a_decided_lesion_to_another(timed, tmp_path):
    show_one_segment(timed, three_lesions(oblique_scan()))
    timed.code(tmp_path)
    timed.ui.startSessionButton.click()
    timed.panel.results.reject(0)
    slicer.mrmlScene.Clear()
    timed.panel.add(oblique_scan(), "the scan again")
    timed.code(tmp_path)
    timed.ui.resumeSessionButton.click()
    timed.panel.results.reject(0)
    assert timed.sessions.session.account.decisions == {"lesion 1": "rejected", "lesion 2": "rejected"}


def show_one_segment(timed, labels: np.ndarray) -> None:
    """All tumours in one segment, on show with their scan."""
    scan = oblique_scan()
    volume = timed.panel.add(scan)
    node = add_segmentation(volume)
    write_segmentation(result_of(scan, labels), node, volume)
    timed.panel.parameters.segmentation = node


def test_a_lesion_that_appears_later_gets_a_number_that_no_other_has_had(timed, tmp_path):
    labels = three_lesions(oblique_scan())
    show_one_segment(timed, np.where(labels == 2, 1, labels))
    timed.code(tmp_path)
    timed.ui.startSessionButton.click()
    timed.paint("Paint", "tumour", BLOCK)
    timed.wait(1)
    timed.panel.results.reject(0)
    timed.paint("Paint", "tumour", np.s_[2:4, 3:6, 4:6])
    timed.wait(1)
    timed.panel.results.reject(0)
    assert timed.sessions.session.account.decisions == {"lesion 1": "rejected", "lesion 2": "rejected"}
