"""Where a session's time goes, under a clock that the test moves: every number can be added up by hand."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from correction_shapes import FakeClock, liver_with, session_in
from LiverTumorSegLib.correction.events import Event, segment_class
from LiverTumorSegLib.correction.journal_lines import read_journal
from LiverTumorSegLib.correction.lock import FileLock
from LiverTumorSegLib.correction.reading import Reading
from LiverTumorSegLib.correction.replay import replayed
from LiverTumorSegLib.correction.session import CorrectionSession
from LiverTumorSegLib.errors import SessionError


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def session(tmp_path: Path, clock: FakeClock):
    session = session_in(tmp_path / "s1", clock)
    yield session
    session.close()


def seconds_of(session: CorrectionSession) -> dict[tuple[str, str], float]:
    return {part: ms / 1000 for part, ms in session.times().parts.items()}


def test_time_after_an_event_belongs_to_its_kind_and_segment(session, clock) -> None:
    session.start()
    clock.wait(5)  # reviewing, nothing selected
    session.selected("liver")
    clock.wait(7)
    session.stroke_began("liver")
    clock.wait(4)
    session.edited("liver", voxels_added=10)
    clock.wait(6)
    session.viewed()
    clock.wait(3)
    session.edited("tumour_2", voxels_removed=4)
    clock.wait(2)
    assert seconds_of(session) == {
        ("reviewing", "none"): 5,
        ("reviewing", "liver"): 7 + 3,
        ("editing", "liver"): 4 + 6,
        ("editing", "lesion 2"): 2,
    }
    times = session.times()
    assert (times.whole_ms, times.active_ms) == (27_000, 27_000)
    assert (times.active_of("liver"), times.active_of("tumour"), times.active_of("none")) == (20_000, 2_000, 5_000)


def test_idle_time_begins_exactly_thirty_seconds_after_the_last_event(session, clock) -> None:
    session.start()
    session.edited("tumour")
    clock.wait(29.999)
    assert seconds_of(session) == {("editing", "tumour"): 29.999}
    clock.wait(0.001)
    assert seconds_of(session) == {("editing", "tumour"): 30}
    clock.wait(100)
    session.viewed()
    clock.wait(1)
    assert seconds_of(session) == {
        ("editing", "tumour"): 30,
        ("idle", "tumour"): 100,
        ("reviewing", "tumour"): 1,
    }


def test_view_moves_end_editing_and_never_are_editing(session, clock) -> None:
    session.start()
    session.effect_chosen("Paint")
    clock.wait(2)
    for _ in range(40):
        session.viewed()
        clock.wait(0.05)
    assert seconds_of(session) == {("editing", "none"): 2, ("reviewing", "none"): 2}
    session.effect_chosen("Erase")
    clock.wait(1)
    session.effect_chosen("")
    clock.wait(1)
    assert seconds_of(session) == {("editing", "none"): 3, ("reviewing", "none"): 3}


def test_a_long_series_of_view_moves_takes_few_lines_and_loses_no_time(session, clock) -> None:
    session.start()
    for _ in range(600):  # a minute of scrolling
        session.viewed()
        clock.wait(0.1)
    clock.wait(40 - 0.1)  # the last move was 0.1 s before the loop's end
    session.pause()
    assert seconds_of(session) == {("reviewing", "none"): 59.9 + 30, ("idle", "none"): 10}
    session.close()
    assert len(read_journal(session.folder).lines) < 130


def test_a_pause_counts_for_no_segment_and_going_on_is_reviewing(session, clock) -> None:
    session.start()
    session.edited("liver")
    clock.wait(10)
    session.pause()
    clock.wait(3600)
    session.resume()
    clock.wait(4)
    assert seconds_of(session) == {("editing", "liver"): 10, ("paused", "none"): 3600, ("reviewing", "liver"): 4}


def test_work_in_another_window_is_idle_at_once(session, clock) -> None:
    session.start()
    session.edited("liver")
    clock.wait(5)
    session.focus_lost()
    clock.wait(12)
    session.focus_gained()
    clock.wait(3)
    assert seconds_of(session) == {("editing", "liver"): 5, ("idle", "liver"): 12, ("reviewing", "liver"): 3}


def test_strokes_and_voxels_add_up_by_segment(session, clock) -> None:
    session.start()
    session.edited("liver", voxels_added=10, voxels_removed=2)
    session.edited("liver", voxels_added=5)
    session.undone("liver", voxels_removed=5)
    session.redone("liver", voxels_added=5)
    session.accepted("tumour_1")
    session.rejected("tumour_2", voxels_removed=33)
    session.sensitivity_changed(1.5, voxels_added=70)
    effort = session.account.effort
    assert (effort["liver"].strokes, effort["liver"].undone) == (2, 1)
    assert (effort["liver"].voxels_added, effort["liver"].voxels_removed) == (20, 7)
    assert effort["lesion 2"].voxels_removed == 33
    assert (effort["tumour"].strokes, effort["tumour"].voxels_added) == (0, 70)
    assert session.account.decisions == {"lesion 1": "accepted", "lesion 2": "rejected"}


def test_a_sleeping_computer_is_noticed_and_not_counted(session, clock) -> None:
    session.start()
    clock.wait(5)
    clock.sleep(7200)
    session.edited("liver")
    clock.wait(2)
    clock.sleep(-3600)  # somebody sets the clock back
    session.tick()
    clock.sleep(1.9)  # within what the network's time may correct
    session.tick()
    assert [(gap.at_ms, gap.gap_ms) for gap in session.account.gaps] == [(5000, 7_200_000), (7000, -3_600_000)]
    assert seconds_of(session) == {("reviewing", "none"): 5, ("editing", "liver"): 2}


def test_a_monotonic_clock_that_runs_backwards_takes_no_time_away(session, clock) -> None:
    session.start()
    clock.wait(8)
    session.edited("liver")
    clock.mono -= 5 * 1_000_000_000
    session.viewed()
    clock.wait(1)
    assert seconds_of(session) == {("reviewing", "none"): 8, ("reviewing", "liver"): 1}
    assert [gap.gap_ms for gap in session.account.gaps] == [5000]


def test_a_step_back_of_the_clock_after_views_takes_none_of_the_time_away_that_was_shown(session, clock) -> None:
    session.start()
    for _ in range(2):  # the second one of a quick series is not noted yet
        session.viewed()
        clock.wait(0.1)
    assert session.times().whole_ms == 200
    clock.mono -= 150_000_000
    assert session.times().whole_ms == 200
    clock.wait(1)
    assert session.times().whole_ms == 1200


@pytest.mark.parametrize(
    ("moves", "refused"),
    [
        ((), "pause"),
        ((), "resume"),
        ((), "abandon"),
        (("start",), "start"),
        (("start",), "resume"),
        (("start", "pause"), "pause"),
        (("start", "pause"), "viewed"),
        (("start", "abandon"), "start"),
        (("start", "abandon"), "abandon"),
        (("start", "abandon"), "viewed"),
    ],
)
def test_an_illegal_move_is_an_error_and_changes_nothing(session, moves: tuple[str, ...], refused: str) -> None:
    for move in moves:
        getattr(session, move)()
    state, times = session.state, session.times()
    with pytest.raises(SessionError, match=r"wanted a session that is .*, got one"):
        getattr(session, refused)()
    assert (session.state, session.times()) == (state, times)


def test_nothing_is_written_before_the_start(session) -> None:
    assert not session.folder.exists()
    session.start()
    assert {path.name for path in session.folder.iterdir()} == {"journal.jsonl", ".journal.jsonl.lock"}


def test_a_segment_s_own_name_is_never_noted(session) -> None:
    assert [segment_class(name) for name in ("Liver", "tumour", "Tumour 12", "lesion 3", "Jane Doe", "", None)] == [
        "liver", "tumour", "lesion 12", "lesion 3", "none", "none", "none",
    ]  # fmt: skip
    session.start()
    session.edited("Jane Doe", voxels_added=3)
    session.close()
    assert "Jane" not in (session.folder / "journal.jsonl").read_text(encoding="utf-8")


def test_codes_are_codes_and_counts_are_counts(tmp_path: Path) -> None:
    for reader in ("Jane Doe", "../R1", "", "x" * 33):
        with pytest.raises(SessionError, match="reader: wanted a code"):
            Reading(reader, "c1")
    with pytest.raises(SessionError, match="idle_after_s: wanted 1 to 3600 seconds, got 0"):
        session_in(tmp_path, FakeClock(), idle_after_s=0)
    with pytest.raises(SessionError, match="wanted whole voxels_added, not below 0, got -1"):
        Event("edit", "liver", -1)
    with pytest.raises(SessionError, match="wanted a segment of none, liver, tumour or lesion N, got 'spleen'"):
        Event("edit", "spleen")


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *("viewed", "edited", "stroke_began", "selected", "undone", "effect_chosen"),
                *("focus_lost", "focus_gained", "pause", "resume"),
                *("tick", "sleep", "backwards", "crash", "times"),
            ]
        ),
        st.sampled_from(["liver", "tumour", "tumour_1", "lesion 7", "other"]),
        st.integers(0, 90_000_000_000),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(STEPS, st.integers(1, 60))
def test_for_any_events_the_parts_sum_to_the_whole_and_a_replay_gives_the_same(steps, idle_after_s: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        clock, labels, passed_ns = FakeClock(), liver_with(), 0
        session = session_in(Path(folder) / "s", clock, labels, idle_after_s=idle_after_s)
        session.start()
        for name, segment, wait_ns in steps:
            clock.mono, clock.wall, passed_ns = clock.mono + wait_ns, clock.wall + wait_ns, passed_ns + wait_ns
            if name == "sleep":
                clock.sleep(wait_ns / 1e9)
            elif name == "backwards":
                session.times()
                clock.mono -= wait_ns
                session.times()  # the live clock reads often: a step back that nobody saw cannot be told from no step
            elif name == "crash":
                before = session.times().parts
                session.close()
                session = CorrectionSession.recover(labels, Path(folder) / "s", clock)
                after = session.times().parts
                # Both clocks are cut to milliseconds, each at its own moment.
                assert all(after.get(part, 0) >= ms - 1 for part, ms in before.items() if part[0] == "paused")
                passed_ns = session.times().whole_ms * 1_000_000  # what was not noted before counts from the wall clock
            else:
                act(session, name, segment)
        times = session.times()
        assert all(ms > 0 for ms in times.parts.values())
        assert times.whole_ms == sum(times.of(kind) for kind in ("editing", "reviewing", "idle", "paused"))
        assert abs(times.whole_ms - passed_ns / 1e6) <= len(steps) + 1  # each crash and backward step may cut a ms
        assert times.active_ms == sum(times.active_of(group) for group in ("liver", "tumour", "none"))
        if session.state == "running":
            session.pause()
        session.close()
        again = replayed(read_journal(Path(folder) / "s").lines)
        again.sheet.advance(session.account.sheet.at_ms)
        assert again.times == session.times()
        assert (again.effort, again.gaps, again.state) == (
            session.account.effort, session.account.gaps, session.account.state,
        )  # fmt: skip


def act(session: CorrectionSession, name: str, segment: str) -> None:
    """Do what the name says where the session's state allows it."""
    if name in ("tick", "times"):
        getattr(session, name)()
    elif name == "resume":
        if session.state == "paused":
            session.resume()
    elif session.state == "running":
        if name in ("edited", "undone"):
            getattr(session, name)(segment, voxels_added=3, voxels_removed=1)
        elif name in ("stroke_began", "selected", "effect_chosen"):
            getattr(session, name)(segment)
        else:
            getattr(session, name)()


def test_text_that_cannot_be_written_down_is_refused_and_the_session_goes_on(session) -> None:
    session.start()
    with pytest.raises(SessionError, match="wanted a detail"):
        session.effect_chosen("a\ud800")
    with pytest.raises(SessionError, match="note: wanted valid Unicode"):
        session.finish(liver_with(), note="x\udc80")
    assert session.finish(liver_with()).name == "session.json"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda labels: labels * 5, "start: wanted 0 background, 1 liver, 2 tumour, got"),
        (lambda labels: sitk.Cast(labels, sitk.sitkInt16), "start: wanted 8-bit"),
        (lambda labels: labels[:, :, 3], "start: wanted 3D labels, got 2D"),
    ],
)
def test_a_session_starts_from_labels_only(tmp_path: Path, change, words: str) -> None:
    session = CorrectionSession(change(liver_with()), tmp_path / "s", Reading("R1", "c1"))
    with pytest.raises(SessionError, match=words):
        session.start()
    assert not (tmp_path / "s").exists()


def test_corrected_labels_of_another_dimension_are_refused(session) -> None:
    session.start()
    for labels in (liver_with()[:, :, 3], sitk.JoinSeries([liver_with(), liver_with()])):
        with pytest.raises(SessionError, match="corrected labels: wanted 3D labels"):
            session.compare(labels)


def test_a_lock_that_a_full_disk_refused_can_be_taken_when_there_is_room(tmp_path: Path, monkeypatch) -> None:
    def full(descriptor: int, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="space"):
            FileLock(tmp_path / "lock", "a table")
    FileLock(tmp_path / "lock", "a table").release()


def test_asking_for_the_times_writes_nothing_and_tells_of_a_view_that_waits_to_be_noted(session, clock) -> None:
    session.start()
    clock.wait(0.5)
    session.viewed()
    clock.wait(40)
    before = session._journal.lines
    assert session.times().of("reviewing") == 30_500
    assert session.times().of("idle") == 10_000
    assert session._journal.lines == before
    session.pause()
    assert seconds_of(session) == {("reviewing", "none"): 30.5, ("idle", "none"): 10}


@pytest.mark.skipif(os.name != "posix", reason="the umask is POSIX")
def test_a_second_reader_may_write_where_the_umask_of_the_first_allows_it(session) -> None:
    before = os.umask(0o002)
    try:
        session.start()
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in session.folder.iterdir()}
    assert modes == {"journal.jsonl": 0o664, ".journal.jsonl.lock": 0o664}
