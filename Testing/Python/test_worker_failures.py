"""Workers that die, run out of memory or speak nonsense: the run fails with their last lines, the next gets another."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from LiverTumorSegLib.panel.client import Job
from LiverTumorSegLib.panel.process import kill_tree
from worker_host import Desk, Ear, desks, with_engine


@pytest.fixture
def desk(tmp_path) -> Iterator[Callable[..., Desk]]:
    with desks(tmp_path / "temporary") as make:
        yield make


@pytest.fixture
def tiny_job(tiny_bundle) -> Job:
    return Job(bundle=str(tiny_bundle), device="cpu")


def test_a_killed_worker_fails_the_run_and_the_next_one_gets_another_worker(desk, tiny_job, ellipsoid_scan, tmp_path):
    flag = tmp_path / "flag"
    stuck_once = f"from pathlib import Path; flag = Path({str(flag)!r})\n"
    stuck_once += "        if not flag.exists(): flag.touch(); time.sleep(60)"
    at, ear = desk(with_engine(stuck_once)), Ear()
    at.client.segment(ellipsoid_scan()[0], tiny_job, ear)
    at.loop.run(flag.exists)
    os.kill(at.started[0].child.pid, signal.SIGKILL)
    at.loop.run(lambda: ear.ended)
    assert ear.failures[0][0] == "worker: wanted a result, got a process that ended with code -9"
    assert (at.files(), at.processes()) == ([], [])
    assert len(at.run(ellipsoid_scan()[0], tiny_job).results) == 1
    assert len(at.started) == 2


def test_a_worker_that_died_between_two_runs_is_replaced(desk, tiny_job, ellipsoid_scan):
    at = desk()
    at.run(ellipsoid_scan()[0], tiny_job)
    os.kill(at.started[0].child.pid, signal.SIGKILL)
    at.loop.run(lambda: not at.started[0].is_running())
    assert len(at.run(ellipsoid_scan()[0], tiny_job).results) == 1
    assert len(at.started) == 2


def test_a_crash_in_compiled_code_and_an_unexpected_error_show_the_last_lines(desk, tiny_job, ellipsoid_scan):
    at = desk(with_engine("import os; print('adding two numbers', flush=True); os.abort()"))
    ((message, lines),) = at.run(ellipsoid_scan()[0], tiny_job).failures
    assert message == "worker: wanted a result, got a process that ended with code -6"
    assert lines[0] == "adding two numbers"
    assert any("Fatal Python error: Aborted" in line for line in lines)
    at = desk(with_engine("raise ZeroDivisionError('two', 'numbers')"))
    ((message, lines),) = at.run(ellipsoid_scan()[0], tiny_job).failures
    assert message == "ZeroDivisionError: ('two', 'numbers')"
    assert lines[0].startswith("Traceback")
    assert not any(str(Path.home()) in line for line in lines)
    assert at.files() == []


def test_a_mistake_of_the_user_is_one_line_without_last_lines_and_the_worker_stays(desk, tiny_job, ellipsoid_scan):
    at = desk()
    ear = at.run(ellipsoid_scan()[0], Job(bundle="nowhere"))
    assert [lines for _, lines in ear.failures] == [[]]
    assert "wanted a folder or one of the installed bundles" in ear.failures[0][0]
    assert len(at.run(ellipsoid_scan()[0], tiny_job).results) == len(at.started) == 1


def test_a_worker_without_memory_says_so_and_the_next_run_may_succeed(desk, tiny_job, ellipsoid_scan):
    at = desk(with_engine("raise MemoryError('16 GB')"))
    for _ in range(2):
        ear = at.run(ellipsoid_scan()[0], tiny_job)
        assert ear.failures[0][0] == "wanted more memory than this computer has free, got: 16 GB"
    assert len(at.started) == 1


READY = '{"id": 0, "event": "ready", "protocol": 1, "version": "0", "pid": 4711}'


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["Hello!"], "wanted JSON, got 'Hello!'"),
        (["[" * 100_000], "wanted JSON, got"),
        (["3"], "wanted an object, got '3'"),
        ([READY, '{"id": 1, "event": "sing"}'], "wanted one of ready"),
        ([READY, '{"id": 1, "event": ["done"]}'], "wanted one of ready"),
        ([READY, '{"id": 77, "event": "done"}'], "wanted the id of a request, got 77"),
        ([READY, '{"id": "1", "event": "done"}'], "wanted the id of a request, got 1"),
        ([READY.replace('"protocol": 1', '"protocol": 2')], "wanted version 1, got 2"),
        ([READY.replace("4711", "null")], "wanted 'pid' as it was agreed, got 'None'"),
        (['{"id": 1, "event": "done"}'], "wanted 'ready' first and once, got 'done'"),
        ([READY, READY], "wanted 'ready' first and once, got 'ready'"),
        ([READY, '{"id": 1, "event": "progress", "step": "x"}'], "progress: wanted 'share'"),
        ([READY, '{"id": 1, "event": "progress", "step": "x", "share": NaN}'], "wanted a share, got nan"),
        ([READY, '{"id": 1, "event": "log"}'], "log: wanted 'text'"),
        ([READY, '{"id": 1, "event": "failed", "kind": "ImageError"}'], "failed: wanted 'message'"),
        ([READY, '{"id": 1, "event": "done"}'], "wanted the whole of what was written"),
    ],
    ids=range(16),
)
def test_who_speaks_nonsense_is_put_away_with_its_last_lines(lines, words, desk, ellipsoid_scan):
    said = "".join(f"print({line!r}.replace('4711', str(os.getpid())), flush=True); " for line in lines)
    at = desk([sys.executable, "-c", f"import os, time; {said}time.sleep(60)"])
    ear = at.run(ellipsoid_scan()[0], Job())
    ((message, last_lines),) = ear.failures
    assert words in message
    assert len(message) < 1000
    shown = [re.sub(r'"pid": \d+', '"pid": 4711', line) for line in last_lines]
    assert shown == ([] if "whole" in words else [lines[-1][:400]])
    assert at.files() == []
    assert (len(at.processes()) == 0) == ("whole" not in words)


def test_a_flood_of_lines_is_kept_to_the_last_forty(desk, ellipsoid_scan):
    said = "import sys; [print(n, 'x' * 10_000, file=sys.stderr) for n in range(1000)]; sys.exit(3)"
    ((message, lines),) = desk([sys.executable, "-c", said]).run(ellipsoid_scan()[0], Job()).failures
    assert message == "worker: wanted a result, got a process that ended with code 3"
    assert [line.partition(" ")[0] for line in lines] == [str(n) for n in range(960, 1000)]
    assert {len(line) for line in lines} == {400}


def test_a_worker_that_cannot_be_started_fails_the_run_at_once(desk, ellipsoid_scan):
    at, ear = desk(["no-such-program"]), Ear()
    at.client.segment(ellipsoid_scan()[0], Job(), ear)
    ((message, lines),) = ear.failures
    assert message == "worker: wanted a result, got a process that ended with code -1"
    assert "no-such-program" in lines[0]
    assert (at.client.state, at.files()) == ("idle", [])


def test_a_worker_that_never_says_ready_is_not_waited_for_for_ever(desk, ellipsoid_scan, monkeypatch):
    monkeypatch.setattr("LiverTumorSegLib.panel.client.START_SECONDS", 0.2)
    at = desk([sys.executable, "-c", "import time; time.sleep(60)"])
    ((message, _),) = at.run(ellipsoid_scan()[0], Job()).failures
    assert message == "worker: wanted 'ready' within 0 s, got nothing"
    assert at.processes() == []


def test_a_scan_that_cannot_be_written_fails_the_run(desk, tiny_job, ellipsoid_scan, monkeypatch, tmp_path):
    at, ear = desk(), Ear()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    at.client.segment(ellipsoid_scan()[0], tiny_job, ear)
    assert ear.failures[0][0].startswith("scan: wanted a temporary folder for it, got: No such file")
    assert at.client.state == "idle"
    monkeypatch.setattr(tempfile, "tempdir", str(at.folder))
    monkeypatch.setattr("LiverTumorSegLib.panel.client.SCAN", "missing/scan.nrrd")
    ear = at.run(ellipsoid_scan()[0], tiny_job)
    assert ear.failures[0][0].startswith("scan.nrrd: wanted to write the scan")
    assert at.files() == []


def test_a_process_that_leads_no_group_of_its_own_is_nobody_s_worker_and_left_alone():
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    for pid in (bystander.pid, os.getpid(), 0, 1, -1, 2**22 + 1):
        kill_tree(pid)
    bystander.stdin.write(b"\n")
    bystander.stdin.close()
    assert bystander.wait(5) == 0
