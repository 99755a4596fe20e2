"""A session's journal survives crashes and a full disk, has one writer, and shows what was changed afterwards."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from correction_shapes import NS, FakeClock, liver_with, session_in
from LiverTumorSegLib.correction.journal import Journal
from LiverTumorSegLib.correction.journal_lines import JOURNAL, read_journal
from LiverTumorSegLib.correction.replay import replayed, unfinished_sessions
from LiverTumorSegLib.correction.session import CorrectionSession
from LiverTumorSegLib.errors import JournalError, SessionError

# Edits as fast as it can, and says after each which number was noted.
WRITER = """
import sys
from pathlib import Path
from LiverTumorSegLib.correction.journal import Journal
import time
journal = Journal.create(Path(sys.argv[1]), {}, time.monotonic_ns)
for number in range(1, 10**9):
    journal.append({"t": number, "event": "edit", "segment": "liver", "voxels_added": number})
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def written(tmp_path: Path, clock: FakeClock) -> Path:
    """Return the folder of a session of eight lines that was closed in the middle: header, start, six edits."""
    session = session_in(tmp_path / "s1", clock)
    session.start()
    for number in range(6):
        clock.wait(2)
        session.edited("liver", voxels_added=number + 1)
    session.close()
    return tmp_path / "s1"


def lines_of(folder: Path) -> list[bytes]:
    return (folder / JOURNAL).read_bytes().splitlines(keepends=True)


def write_lines(folder: Path, lines: list[bytes]) -> None:
    (folder / JOURNAL).write_bytes(b"".join(lines))


def refused(folder: Path, *words: str) -> None:
    with pytest.raises(JournalError) as caught:
        replayed(read_journal(folder).lines)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def kill_while_writing(folder: Path, seconds: float) -> tuple[int, list[dict[str, object]]]:
    """Return the last number that the killed writer had said was noted, and what its journal holds."""
    child = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    first = child.stdout.readline()
    time.sleep(seconds)
    child.kill()
    rest = child.stdout.read()
    child.wait()
    child.stdout.close()
    whole = (first + rest)[: (first + rest).rfind(b"\n")]
    return int(whole.splitlines()[-1]), read_journal(folder).lines


def check_kills(tmp_path: Path, points: int) -> None:
    draw = random.Random(0)
    for point in range(points):
        said, lines = kill_while_writing(tmp_path / f"s{point}", draw.uniform(0, 0.05))
        assert [line["t"] for line in lines[1:]] == list(range(1, len(lines)))
        assert said <= len(lines) - 1 <= said + 1
        journal, contents = Journal.reopen(tmp_path / f"s{point}", time.monotonic_ns)
        journal.append({"t": 0})
        journal.close()
        assert len(read_journal(tmp_path / f"s{point}").lines) == len(contents.lines) + 1


def test_a_killed_writer_loses_nothing_that_it_had_noted(tmp_path: Path) -> None:
    check_kills(tmp_path, 15)


@pytest.mark.slow
def test_a_writer_killed_at_two_hundred_points_loses_nothing(tmp_path: Path) -> None:
    check_kills(tmp_path, 200)


def test_a_session_cut_anywhere_can_be_taken_up_again(written: Path, clock: FakeClock) -> None:
    content = (written / JOURNAL).read_bytes()
    ends = [n + 1 for n, byte in enumerate(content) if byte == ord("\n")]
    for length in [*range(ends[0], len(content), 37), len(content)]:
        (written / JOURNAL).write_bytes(content[:length])
        whole = sum(end <= length for end in ends)
        session = CorrectionSession.recover(liver_with(), written, clock)
        # The edits came every 2 s, the clock still shows the last one's moment: what is lost became pause.
        assert session.times().whole_ms == 12_000
        assert session.times().of("paused") == 2000 * (len(ends) - max(whole, 2))
        effort = session.account.effort
        assert (effort["liver"].strokes if effort else 0) == max(whole, 2) - 2
        session.close()


def test_the_time_until_a_session_is_taken_up_again_is_pause(written: Path, clock: FakeClock) -> None:
    clock.wait(86_400)
    clock.mono = 5 * NS  # another start of the computer
    assert unfinished_sessions(written.parent) == [written]
    session = CorrectionSession.recover(liver_with(), written, clock)
    clock.wait(3)
    times = session.times()
    assert (session.state, session.account.recoveries, session.account.gaps) == ("running", 1, [])
    assert times.parts == {
        ("reviewing", "none"): 2000,
        ("editing", "liver"): 10_000,
        ("paused", "none"): 86_400_000,
        ("reviewing", "liver"): 3000,
    }
    session.abandon()
    assert unfinished_sessions(written.parent) == []
    with pytest.raises(SessionError, match="recover: wanted a session that is not started or running"):
        CorrectionSession.recover(liver_with(), written, clock)


def test_ticks_save_the_time_until_a_crash_and_stop_when_it_is_idle(tmp_path: Path, clock: FakeClock) -> None:
    session = session_in(tmp_path / "s1", clock)
    session.start()
    session.edited("liver")
    for _ in range(300):
        clock.wait(1)
        session.tick()
    session.close()
    account = replayed(read_journal(tmp_path / "s1").lines)
    assert account.times.parts == {("editing", "liver"): 30_000}
    assert len(read_journal(tmp_path / "s1").lines) == 3 + 30


def test_another_segmentation_is_not_what_the_session_started_from(written: Path, clock: FakeClock) -> None:
    import numpy as np

    with pytest.raises(SessionError, match="wanted the segmentation that the session started from, got another"):
        CorrectionSession.recover(liver_with(np.s_[4:5, 4:5, 4:5]), written, clock)
    CorrectionSession.recover(liver_with(), written, clock).close()


def test_two_writers_cannot_share_a_journal(tmp_path: Path, clock: FakeClock) -> None:
    session = session_in(tmp_path / "s1", clock)
    session.start()
    with pytest.raises(JournalError, match=f"wanted to be its only writer, got process {os.getpid()} before us"):
        CorrectionSession.recover(liver_with(), tmp_path / "s1", clock)
    program = (
        "import sys, time; from pathlib import Path; from LiverTumorSegLib.correction.journal import Journal\n"
        "Journal.reopen(Path(sys.argv[1]), time.monotonic_ns)"
    )
    result = subprocess.run([sys.executable, "-c", program, tmp_path / "s1"], capture_output=True, text=True)
    assert f"JournalError: journal.jsonl: wanted to be its only writer, got process {os.getpid()}" in result.stderr
    session.close()
    with pytest.raises(JournalError, match="wanted a new session, got one that was begun before"):
        session_in(tmp_path / "s1", clock).start()


def test_a_changed_line_is_named(written: Path) -> None:
    lines = lines_of(written)
    for number in range(len(lines)):
        changed = list(lines)
        changed[number] = changed[number].replace(b'"t":', b'"t": ', 1)  # the same JSON, other bytes
        write_lines(written, changed)
        refused(written, f"line {number + 1}:", "changed since")
    write_lines(written, [*lines[:3], lines[3].replace(b'"voxels_added":2', b'"voxels_added":9'), *lines[4:]])
    refused(written, "line 4:", "changed since")


def test_missing_added_and_reordered_lines_are_named(written: Path) -> None:
    lines = lines_of(written)
    write_lines(written, lines[:4] + lines[5:])
    refused(written, "line 5:", "wanted number 4, got 5")
    write_lines(written, [*lines[:4], lines[5], lines[4], *lines[6:]])
    refused(written, "line 5:", "wanted number 4, got 5")
    write_lines(written, [*lines[:5], lines[4], *lines[5:]])
    refused(written, "line 6:", "wanted number 5, got 4")
    write_lines(written, [*lines[:4], lines[4][:30] + b"\n", *lines[5:]])
    refused(written, "line 5:", "wanted a numbered and sealed JSON object")
    write_lines(written, lines[1:])
    refused(written, "line 1:", "wanted number 0, got 1")


def test_a_line_sealed_anew_does_not_follow_the_one_before(written: Path, tmp_path: Path) -> None:
    other = Journal.create(tmp_path / "other", {}, lambda: 0)
    for number in range(1, 4):
        other.append({"t": number})
    other.close()
    lines = lines_of(written)
    write_lines(written, [*lines[:3], lines_of(tmp_path / "other")[3], *lines[4:]])
    refused(written, "line 4:", "changed since")


@pytest.mark.parametrize(
    ("note", "words"),
    [
        ({"t": 1000, "event": "edit"}, "wanted at least 2000, got 1000"),
        ({"t": 9000, "event": "dance"}, "'dance'"),
        ({"t": 9000, "event": "start"}, "start: wanted a session that is not started"),
        ({"t": 9000, "event": "edit", "name": "Jane"}, "name"),
        ({"event": "edit"}, "'t'"),
    ],
)
def test_a_sound_line_that_makes_no_sense_is_named(tmp_path: Path, clock: FakeClock, note, words: str) -> None:
    session = session_in(tmp_path / "s1", clock)
    session.start()
    clock.wait(2)
    session.edited("liver")
    session.close()
    journal, _ = Journal.reopen(tmp_path / "s1", clock.monotonic_ns)
    journal.append({"utc": "2026-03-02T09:00:00.000Z", **note})
    journal.close()
    refused(tmp_path / "s1", "line 4:", words)


def test_a_journal_of_another_schema_or_of_nothing_is_refused(written: Path) -> None:
    (written / JOURNAL).write_bytes(b"")
    refused(written, "line 1:", "empty")
    (written / JOURNAL).unlink()
    refused(written, "wanted a journal in s1")
    journal = Journal.create(written, {"schema_version": 9}, lambda: 0)
    journal.close()
    refused(written, "line 1:", "wanted schema_version 1, got 9")


def test_a_journal_without_a_whole_line_was_never_begun(tmp_path: Path, clock: FakeClock) -> None:
    (tmp_path / "s1").mkdir()
    (tmp_path / "s1" / JOURNAL).write_bytes(b'{"n":0,"schema_ver')
    assert unfinished_sessions(tmp_path) == []
    session = session_in(tmp_path / "s1", clock)
    session.start()
    session.close()
    assert len(read_journal(tmp_path / "s1").lines) == 2


def test_a_disk_that_refuses_to_keep_a_line_is_told_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    session = session_in(tmp_path / "s1", clock)
    session.start()

    def refuse(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    clock.wait(2)
    session.edited("liver")
    time.sleep(0.1)
    clock.wait(2)
    with pytest.raises(JournalError, match="wanted to note what happened, got Input/output error"):
        session.edited("tumour")
    monkeypatch.undo()
    assert list(session.account.effort) == ["liver"]
    session.edited("tumour")
    session.close()
    assert replayed(read_journal(tmp_path / "s1").lines).effort == session.account.effort


def test_on_a_full_disk_an_event_is_refused_and_those_before_are_safe(tmp_path: Path) -> None:
    pytest.importorskip("resource", reason="needs a limit on file sizes, which Windows lacks")
    program = """
import json, resource, signal, sys, time
from pathlib import Path
from LiverTumorSegLib.correction.journal import Journal
from LiverTumorSegLib.correction.journal_lines import read_journal
from LiverTumorSegLib.errors import JournalError
folder = Path(sys.argv[1])
journal = Journal.create(folder, {}, time.monotonic_ns)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
noted = 0
try:
    while True:
        journal.append({"t": noted})
        noted += 1
except JournalError as error:
    print(error)
assert len(read_journal(folder).lines) == noted + 1
assert read_journal(folder).torn_bytes == 0
resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
journal.append({"t": noted})
journal.close()
print(noted, len(read_journal(folder).lines))
"""
    result = subprocess.run([sys.executable, "-c", program, tmp_path / "s"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    said, counts = result.stdout.splitlines()
    assert said == ("journal.jsonl: wanted to note what happened, got a full disk; what was noted before is safe")
    noted, lines = map(int, counts.split())
    assert noted > 3
    assert lines == noted + 2


def test_ten_thousand_events_replay_within_a_second(tmp_path: Path, clock: FakeClock) -> None:
    session = session_in(tmp_path / "s1", clock)
    session.start()
    for number in range(10_000):
        clock.wait(0.5)
        session.edited("liver" if number % 3 else "tumour_1", voxels_added=number % 100)
    session.close()
    began = time.process_time()  # of this process alone: another at work does not count
    account = replayed(read_journal(tmp_path / "s1").lines)
    assert time.process_time() - began < 1
    assert account.times.whole_ms == 5_000_000
    assert account.effort["liver"].strokes + account.effort["lesion 1"].strokes == 10_000


def test_each_line_is_json_with_its_moment(written: Path) -> None:
    lines = [json.loads(line) for line in lines_of(written)]
    assert [line["event"] for line in lines[1:]] == ["start", *["edit"] * 6]
    assert [line["t"] for line in lines[1:]] == [0, 2000, 4000, 6000, 8000, 10_000, 12_000]
    assert lines[2]["utc"] == "2026-03-02T09:00:02.000Z"
    assert lines[0]["reading"] == {"reader": "R1", "case": "c1", "arm": "correct", "period": 1, "position": 1}
