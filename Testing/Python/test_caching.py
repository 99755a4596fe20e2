"""The cache of prepared cases: whole or not at all, bounded, private, and safe with several processes."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from LiverTumorSegLib.errors import LiverTumorSegWarning, OutputError
from LiverTumorSegLib.training import caching
from LiverTumorSegLib.training.caching import Cache, Entry, cache_key, file_identity

KEYS = [cache_key("case", n) for n in range(4)]
KILOBYTE = np.arange(250, dtype=np.float32)


def entry(value: float = 0.0) -> Entry:
    return Entry({"volume": KILOBYTE + np.float32(value)}, {"value": value})


def never() -> Entry:
    raise AssertionError("wanted the kept entry, was asked to make it again")


def test_what_was_made_once_is_read_back_as_a_map_that_cannot_be_written_to(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    cache.get(KEYS[0], lambda: entry(3.0))
    found = Cache(tmp_path / "cache").get(KEYS[0], never)
    assert np.array_equal(found.arrays["volume"], KILOBYTE + 3)
    assert found.facts == {"value": 3.0}
    with pytest.raises(ValueError, match="read-only"):
        found.arrays["volume"][0] = 1


def test_only_its_owner_may_look_into_a_cache(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    cache.get(KEYS[0], entry)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (cache.folder, cache.folder / KEYS[0])}
    assert modes == {0o700}


def test_a_folder_with_other_things_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match=r"wanted an empty folder or a cache, got one with thesis\.txt"):
        Cache(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OutputError, match="wanted a folder for the cache"):
        Cache(tmp_path / "file")


def test_a_key_that_could_be_a_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="wanted a SHA-256"):
        Cache(tmp_path).get("../elsewhere", entry)


def test_the_entry_used_longest_ago_goes_when_the_limit_is_reached(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit_gb=4e-6)  # 4000 bytes; an entry takes 1128 and its facts
    for age, key in zip((300, 200, 100), KEYS[:3], strict=True):
        cache.get(key, entry)
        stamp = time.time() - age
        os.utime(tmp_path / key / "facts.json", (stamp, stamp))
    cache.get(KEYS[0], never)  # the oldest, used now
    with pytest.warns(LiverTumorSegWarning, match="wanted room for all cases that are in use"):
        cache.get(KEYS[3], entry)
    assert {path.name for path in tmp_path.iterdir() if len(path.name) == 64} == {KEYS[0], KEYS[2], KEYS[3]}
    assert cache.size_bytes() <= 4000


def test_an_entry_larger_than_the_limit_is_given_and_not_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit_gb=1e-7)
    with pytest.warns(LiverTumorSegWarning, match="wanted room for a case of 1e-06 GB, got a limit of 1e-07 GB"):
        assert np.array_equal(cache.get(KEYS[0], entry).arrays["volume"], KILOBYTE)
    assert cache.size_bytes() == 0


@pytest.mark.parametrize("harm", ["cut short", "no facts", "odd facts", "a pickle", "array gone"])
def test_a_damaged_entry_is_made_again(tmp_path: Path, harm: str) -> None:
    cache = Cache(tmp_path)
    cache.get(KEYS[0], entry)
    volume, facts = tmp_path / KEYS[0] / "volume.npy", tmp_path / KEYS[0] / "facts.json"
    if harm == "cut short":
        volume.write_bytes(volume.read_bytes()[:600])
    elif harm == "no facts":
        facts.unlink()
    elif harm == "odd facts":
        facts.write_text("[]", encoding="utf-8")
    elif harm == "a pickle":
        np.save(volume, np.array([{}], object), allow_pickle=True)
    else:
        volume.unlink()
    assert np.array_equal(cache.get(KEYS[0], lambda: entry(1.0)).arrays["volume"], KILOBYTE + 1)
    assert np.array_equal(cache.get(KEYS[0], never).arrays["volume"], KILOBYTE + 1)


def test_a_process_killed_while_it_writes_leaves_no_entry_and_its_rest_is_cleared_away(tmp_path: Path) -> None:
    program = (
        "import os, sys; import numpy as np; from pathlib import Path\n"
        "from LiverTumorSegLib.training import caching\n"
        "def stop(file): print('writing', flush=True); sys.stdin.read()\n"
        "caching._settle = stop\n"
        f"caching.Cache(Path({str(tmp_path)!r})).get({KEYS[0]!r}, lambda: caching.Entry({{'volume': np.zeros(9)}}))\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"writing\n"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    (rest,) = tmp_path.glob(".aside-*")
    assert np.array_equal(Cache(tmp_path).get(KEYS[0], entry).arrays["volume"], KILOBYTE)
    assert rest.exists()  # it may be another process's that still writes
    os.utime(rest, (1, 1))
    Cache(tmp_path)
    assert not rest.exists()


def _fill(folder: str, ready: object, answers: object) -> None:
    cache = Cache(Path(folder), limit_gb=3e-6)
    ready.wait()  # type: ignore[attr-defined]
    total = 0.0
    for turn in range(40):
        number = turn % 4
        total += float(cache.get(KEYS[number], lambda value=float(number): entry(value)).arrays["volume"][0])
    answers.put(total)  # type: ignore[attr-defined]


def test_processes_that_fill_and_clear_one_cache_at_once_all_read_what_is_right(tmp_path: Path) -> None:
    """The limit keeps two of four entries, so that they take away what the others read."""
    context = multiprocessing.get_context("spawn")
    ready, answers = context.Event(), context.Queue()
    children = [context.Process(target=_fill, args=(str(tmp_path), ready, answers)) for _ in range(3)]
    for child in children:
        child.start()
    ready.set()
    totals = [answers.get(timeout=60) for _ in children]
    for child in children:
        child.join()
    assert totals == [10 * (0 + 1 + 2 + 3)] * 3
    assert not list(tmp_path.glob(".aside-*"))


def test_a_file_s_identity_changes_with_its_contents_and_a_folder_s_with_its_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1", encoding="utf-8")
    alone, together = file_identity(tmp_path / "a"), file_identity(tmp_path)
    assert together == alone
    (tmp_path / "a").write_text("22", encoding="utf-8")
    (tmp_path / "b").write_text("3", encoding="utf-8")
    assert file_identity(tmp_path / "a") != alone
    assert len(file_identity(tmp_path)) == 2
    assert cache_key(alone) != cache_key(file_identity(tmp_path / "a"))


def told(caught: pytest.WarningsRecorder) -> list[str]:
    return [str(each.message) for each in caught if issubclass(each.category, LiverTumorSegWarning)]


def test_a_full_disk_is_told_once_and_what_was_made_is_given_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(caching, "_settle", full)
    cache = Cache(tmp_path)
    for value in (1.0, 2.0):
        assert np.array_equal(cache.get(KEYS[0], lambda: entry(value)).arrays["volume"], KILOBYTE + value)  # noqa: B023
    (text,) = told(recwarn)
    assert text.startswith(f"cache {tmp_path}: wanted to keep prepared cases there, got: No space left on device; ")
    assert text.endswith("is prepared again whenever it is shown, which takes long; see --cache and --cache-limit")
    assert not list(tmp_path.glob(".aside-*"))


def test_a_limit_too_small_for_what_is_in_use_is_told_once(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """An entry takes 1128 bytes and its facts; three of them fit into 4000."""
    earlier = Cache(tmp_path, limit_gb=4e-6)
    earlier.get(KEYS[0], entry)
    cache = Cache(tmp_path, limit_gb=4e-6)
    for key in KEYS[1:]:
        cache.get(key, entry)  # the earlier run's goes, which is as it should be
    assert told(recwarn) == []
    cache.get(KEYS[0], entry)
    cache.get(KEYS[1], entry)
    (text,) = told(recwarn)
    assert "wanted room for all cases that are in use, got a limit of 4e-06 GB; what does not fit is prepared" in text
