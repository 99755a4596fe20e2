"""The panel's side of the worker, with real worker processes: whatever ends a run leaves no process and no file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import SimpleITK as sitk

from LiverTumorSegLib import segment
from LiverTumorSegLib.errors import LiverTumorSegWarning
from LiverTumorSegLib.panel.client import Device, Job
from LiverTumorSegLib.panel.process import Lines
from LiverTumorSegLib.panel.worker_process import worker_environment
from worker_host import STUCK, Desk, Ear, desks, reaches, with_engine


@pytest.fixture
def desk(tmp_path) -> Iterator[Callable[..., Desk]]:
    with desks(tmp_path / "temporary") as make:
        yield make


@pytest.fixture
def tiny_job(tiny_bundle) -> Job:
    return Job(bundle=str(tiny_bundle), device="cpu")


def array(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)


def test_an_oblique_left_handed_scan_comes_back_as_from_segment(desk, tiny_job, tiny_bundle, ellipsoid_scan, oblique):
    mirrored = [-v if n % 3 == 0 else v for n, v in enumerate(oblique)]
    scan, _ = ellipsoid_scan((30, 26, 20), (5, 5, 6), mirrored)
    scan.SetMetaData("Modality", "CT")
    ear = desk().run(scan, tiny_job)
    assert not ear.failures
    (result,), alone = ear.results, segment(scan, tiny_bundle, device="cpu")
    assert result.image is scan
    for name in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection", "GetPixelID"):
        assert getattr(result.labels, name)() == getattr(alone.labels, name)()
    assert np.array_equal(array(result.labels), array(alone.labels))
    for factor in (0.5, 3.0):
        theirs, ours = result.with_sensitivity(factor), alone.with_sensitivity(factor)
        assert np.array_equal(array(theirs.labels), array(ours.labels))
    assert np.array_equal(result.evidence.tumour, alone.evidence.tumour)
    assert result.evidence.geometry == alone.evidence.geometry
    assert result.provenance.stages == alone.provenance.stages
    assert result.provenance.warnings == alone.provenance.warnings
    assert ear.steps[0][0] == "reading the scan"
    assert ear.steps[-1] == ("handing over the result", 1.0)


def test_a_ct_whose_values_start_at_zero_comes_back_in_hounsfield_units_and_says_so(
    desk, tiny_job, tiny_bundle, ellipsoid_scan
):
    scan = ellipsoid_scan()[0] + 1024
    scan.SetMetaData("Modality", "CT")
    ear = desk().run(scan, tiny_job)
    assert any("1024 was subtracted" in text for text in ear.logged)
    (result,) = ear.results
    with pytest.warns(LiverTumorSegWarning, match="1024 was subtracted"):
        alone = segment(scan, tiny_bundle, device="cpu")
    assert np.array_equal(array(result.image), array(alone.image))
    assert np.array_equal(array(result.labels), array(alone.labels))


def test_further_phases_are_seen_as_from_segment_and_their_files_go_with_the_scan_s(
    desk, phased_bundle, ellipsoid_scan, oblique
):
    at, job = desk(), Job(bundle=str(phased_bundle), device="cpu")
    scan, arterial = ellipsoid_scan(noise_hu=10)[0], ellipsoid_scan((40, 40, 30), (4, 4, 4), oblique)[0]
    with_phase, without = at.run(scan, job, phases={"arterial": arterial}), at.run(scan, job)
    alone = segment(scan, phased_bundle, phases={"arterial": arterial}, device="cpu")
    assert (with_phase.failures, without.failures) == ([], [])
    (result,), (other,) = with_phase.results, without.results
    assert result.provenance.phases == alone.provenance.phases == ("arterial",)
    assert other.provenance.phases == ()
    assert np.array_equal(result.evidence.tumour, alone.evidence.tumour)
    assert np.array_equal(array(result.labels), array(alone.labels))
    assert not np.array_equal(result.evidence.tumour, other.evidence.tumour)
    assert at.run(scan, job, phases={"venous": arterial}).failures == [("phase: wanted arterial, got 'venous'", [])]


def test_further_phases_have_neutral_names_and_are_removed_as_soon_as_they_are_read(
    desk, phased_bundle, ellipsoid_scan
):
    at, ear = desk(with_engine(STUCK)), Ear()
    scan, _ = ellipsoid_scan()
    at.client.segment(scan, Job(bundle=str(phased_bundle)), ear, {"arterial": scan})
    assert [path.name for path in at.files()[1:]] == ["phase1.nrrd", "scan.nrrd"]
    at.loop.run(reaches(ear, "open"))
    assert not [path for path in at.files() if path.suffix == ".nrrd"]


def test_two_runs_in_a_row_use_one_process_and_the_second_begins_from_the_listener(desk, tiny_job, ellipsoid_scan):
    at, second = desk(), Ear()
    scan, _ = ellipsoid_scan(noise_hu=10)

    class Again(Ear):
        def on_done(self, segmentation):
            super().on_done(segmentation)
            assert at.client.state == "idle"
            assert at.files() == []
            at.client.segment(scan, tiny_job, second)

    first = at.run(scan, tiny_job, Again())
    at.loop.run(lambda: second.ended)
    assert len(first.results) == len(second.results) == len(at.started) == 1
    assert np.array_equal(array(first.results[0].labels), array(second.results[0].labels))


def test_one_run_at_a_time(desk, tiny_job, ellipsoid_scan):
    at, ear = desk(), Ear()
    scan, _ = ellipsoid_scan()
    at.client.segment(scan, tiny_job, ear)
    assert (at.client.busy, at.client.state) == (True, "starting")
    with pytest.raises(RuntimeError, match="wanted one run at a time"):
        at.client.segment(scan, tiny_job, ear)
    at.loop.run(reaches(ear, "reading the scan"))
    assert at.client.state == "running"
    at.loop.run(lambda: ear.ended)
    assert (at.client.busy, at.client.state, len(ear.results)) == (False, "idle", 1)


def test_the_scan_is_in_a_private_folder_under_a_neutral_name_and_only_as_long_as_needed(
    desk, tiny_job, ellipsoid_scan
):
    at, ear = desk(with_engine(STUCK)), Ear()
    scan, _ = ellipsoid_scan()
    scan.SetMetaData("0010|0010", "Doe^Jane")
    at.client.segment(scan, tiny_job, ear)
    folder, file = at.files()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert file.name == "scan.nrrd"
    assert b"Doe" not in file.read_bytes()
    at.loop.run(reaches(ear, "open"))
    assert not file.exists()


def test_a_run_is_cancelled_within_the_step_and_the_networks_stay(desk, tiny_job):
    at, ear = desk(), Ear()
    # 2 m of scan on a grid of 10 mm are many windows of 64 voxels.
    large = sitk.GetImageFromArray(np.random.default_rng(0).integers(-1000, 200, (200, 200, 200)).astype(np.int16))
    large.SetSpacing((10.0, 10.0, 10.0))
    at.client.segment(large, tiny_job, ear)
    at.loop.run(reaches(ear, "whole: network"))
    at.client.cancel()
    at.client.cancel()
    assert at.client.state == "cancelling"
    assert at.loop.run(lambda: ear.ended) < 2
    assert (ear.cancelled, ear.results, ear.failures) == (1, [], [])
    assert at.files() == []
    again = at.run(sitk.Extract(large, (20, 20, 20), (90, 90, 90)), tiny_job)
    assert len(again.results) == len(at.started) == 1


def test_a_worker_that_does_not_stop_by_itself_is_killed_within_two_seconds(desk, tiny_job, ellipsoid_scan):
    at, ear = desk(with_engine(STUCK)), Ear()
    at.client.segment(ellipsoid_scan()[0], tiny_job, ear)
    at.loop.run(reaches(ear, "whole: network"))
    assert len(at.processes()) == 1
    at.client.cancel()
    assert at.loop.run(lambda: ear.ended) < 2
    assert (ear.cancelled, ear.failures, at.processes(), at.files()) == (1, [], [], [])


def test_a_launcher_is_killed_with_the_worker_that_it_started_and_its_children(desk, tiny_job, ellipsoid_scan):
    child = "import subprocess; subprocess.Popen(['sleep', '60']); time.sleep(60)"
    launcher = [sys.executable, "-c", "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))"]
    at, ear = desk(launcher + with_engine(child)), Ear()
    at.client.segment(ellipsoid_scan()[0], tiny_job, ear)
    at.loop.run(lambda: len(at.processes()) == 3)
    at.client.cancel()
    assert at.loop.run(lambda: ear.ended) < 2
    assert (ear.cancelled, at.files()) == (1, [])
    at.loop.run(lambda: not at.processes(), 1.0)


def test_a_run_that_waits_for_its_worker_is_cancelled_at_once_and_the_worker_serves_the_next(
    desk, tiny_job, ellipsoid_scan
):
    at, ear = desk(), Ear()
    at.client.segment(ellipsoid_scan()[0], tiny_job, ear)
    at.client.cancel()
    assert (ear.cancelled, at.client.state, at.files()) == (1, "idle", [])
    assert len(at.run(ellipsoid_scan()[0], tiny_job).results) == len(at.started) == 1
    assert ear.cancelled == 1


def test_cancel_without_a_run_does_nothing(desk):
    at = desk()
    at.client.cancel()
    assert (at.client.state, at.started) == ("idle", [])


def test_answers_to_a_run_that_is_over_are_not_told_to_the_next(desk, ellipsoid_scan):
    late = (
        "import json, os\n"
        "ready = {'id': 0, 'event': 'ready', 'protocol': 1, 'version': '0', 'pid': os.getpid()}\n"
        "print(json.dumps(ready), flush=True)\n"
        "first = json.loads(input())['id']\n"
        "json.loads(input())\n"
        "print(json.dumps({'id': first, 'event': 'cancelled'}), flush=True)\n"
        "second = json.loads(input())['id']\n"
        "for answer in ({'event': 'progress', 'step': 'late', 'share': 0}, {'event': 'log', 'text': 'late'},\n"
        "               {'event': 'done'}):\n"
        "    print(json.dumps({'id': first, **answer}), flush=True)\n"
        "print(json.dumps({'id': second, 'event': 'failed', 'kind': 'ImageError', 'message': 'm'}), flush=True)\n"
        "input()\n"
    )
    at, first = desk([sys.executable, "-c", late]), Ear()
    at.client.segment(ellipsoid_scan()[0], Job(), first)
    at.loop.run(lambda: at.client.state == "running")
    at.client.cancel()
    at.loop.run(lambda: first.ended)
    second = at.run(ellipsoid_scan()[0], Job())
    assert (first.cancelled, first.results) == (1, [])
    assert (second.steps, second.logged, second.failures) == ([], [], [("m", [])])


def test_a_result_that_was_ready_when_cancel_came_is_not_delivered(desk, tiny_job, ellipsoid_scan):
    at, ear = desk(), Ear()
    at.client.segment(ellipsoid_scan()[0], tiny_job, ear)
    at.loop.run(reaches(ear, "whole: prepare"))
    time.sleep(0.5)  # the tiny networks are done by then, and nobody has read it
    at.client.cancel()
    at.loop.run(lambda: ear.ended)
    assert (ear.cancelled, ear.results, at.files()) == (1, [], [])


@pytest.mark.parametrize("moment", ["before", "starting", "running", "afterwards"])
def test_close_leaves_no_process_and_no_file_and_tells_nobody(moment, desk, tiny_job, ellipsoid_scan):
    at, ear = desk(with_engine(STUCK if moment == "running" else "pass")), Ear()
    if moment != "before":
        at.client.segment(ellipsoid_scan()[0], tiny_job, ear)
    if moment == "running":
        at.loop.run(reaches(ear, "whole: network"))
    if moment == "afterwards":
        at.loop.run(lambda: ear.ended)
    began = time.monotonic()
    at.client.close()
    assert time.monotonic() - began < 2
    assert (at.processes(), at.files(), at.client.state) == ([], [], "idle")
    ended = ear.ended
    at.client.close()
    with pytest.raises(AssertionError, match="in vain"):
        at.loop.run(lambda: ear.ended != ended, 0.3)


def test_the_devices_are_told_also_during_a_run_and_none_by_a_worker_that_dies(desk, tiny_job, ellipsoid_scan):
    at, ear = desk(), Ear()
    answers: list[list[Device]] = []
    at.client.devices(answers.append)
    at.client.segment(ellipsoid_scan()[0], tiny_job, ear)
    at.client.devices(answers.append)
    at.loop.run(lambda: len(answers) == 2)
    assert len(ear.results) == 1
    assert answers[0] == answers[1]
    assert answers[0][-1].device == "cpu"
    for command in (["no-such-program"], [sys.executable, "-c", "input()"]):
        at = desk(command)
        at.client.devices(answers.append)
        for process in at.started:
            process.kill()
        at.loop.run(lambda: len(answers) % 2 == 1 or len(answers) == 4)
        assert answers[-1] == []
        answers.append([])


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_lines_come_whole_however_the_pipe_cuts_them(size):
    told: list[str] = []
    lines = Lines(told.append)
    data = "Leber\r\n肝臓 🫀\n\nno end".encode()
    for start in range(0, len(data), size):
        lines.feed(data[start : start + size])
    assert told == ["Leber", "肝臓 🫀", ""]
    lines.end()
    lines.end()
    assert told[3:] == ["no end"]


def test_bytes_that_are_not_utf_8_are_replaced_and_an_endless_line_is_cut():
    told: list[str] = []
    lines = Lines(told.append)
    lines.feed(b"\xff\xfeok\n")
    assert told == ["\ufffd\ufffdok"]
    for _ in range(1025):
        lines.feed(b"x" * 1024)
    assert len(told) == 2


def test_the_worker_finds_the_library_first_and_keeps_the_other_variables(repository):
    made = worker_environment({"PYTHONPATH": os.pathsep.join(["a", "", "b"]), "PYTHONHOME": "c"})
    assert made["PYTHONPATH"].split(os.pathsep) == [str(repository), "a", "b"]
    assert (made["PYTHONHOME"], made["PYTHONUNBUFFERED"], made["PYTHONIOENCODING"]) == ("c", "1", "utf-8")
    assert worker_environment(made) == made
