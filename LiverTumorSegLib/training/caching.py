"""Arrays kept on disk between epochs and runs, read back as memory maps: only what is looked at is read.

One entry is one folder, `<key>/`, of plain `.npy` files and a `facts.json`: no pickle, no code, no name of a patient or
a file. It is written aside and renamed when its last byte is on disk, so a killed process leaves no half entry, and
several processes may fill one cache at once.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..errors import OutputError, warn

DEFAULT_LIMIT_GB = 100.0

_TAG = "CACHEDIR.TAG"  # by this name and beginning backup programs know a cache (bford.info/cachedir)
_TAG_TEXT = "Signature: 8a477f597d28d172789f06886806bc55\n# Prepared training cases of LiverTumorSeg.\n"
_FACTS = "facts.json"
_ASIDE = ".aside-"
_DEAD_AFTER_S = 3600.0  # an entry takes seconds to write; what was begun longer ago belongs to a killed process
_STAMP_AGAIN_S = 60.0  # how exact "least recently used" is
_AGAIN = "what does not fit is prepared again whenever it is shown, which takes long; see --cache and --cache-limit"


@dataclass(frozen=True)
class Entry:
    """What a cache keeps under one key.

    Attributes:
        arrays: by name; memory maps that cannot be written to when they come from the disk.
        facts: whatever JSON can say.
    """

    arrays: Mapping[str, np.ndarray]
    facts: Mapping[str, Any] = field(default_factory=dict)


def cache_key(*parts: object) -> str:
    """The SHA-256 of what an entry was made from and how; parts are whatever JSON can say."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def file_identity(path: Path) -> list[list[object]]:
    """What changes when a file, or a file in a folder, is replaced: where it is, its size and when it was written.

    Raises:
        OSError: it cannot be looked at.
    """
    path = path.resolve()
    files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    return [[str(each), (about := each.stat()).st_size, about.st_mtime_ns] for each in files]


class Cache:
    """A folder of entries, private to its owner, with an upper limit for its size."""

    def __init__(self, folder: Path, limit_gb: float = DEFAULT_LIMIT_GB):
        """Open a cache, or make one.

        Args:
            folder: empty, new, or a cache from before.
            limit_gb: when a new entry takes the cache beyond it, those used longest ago go.

        Raises:
            OutputError: the folder has other things in it, cannot be made, or is another user's.
        """
        self.folder = folder
        self.limit_bytes = int(limit_gb * 1e9)
        self._used: set[str] = set()
        self._warned = False
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not (folder / _TAG).exists():
                others = [path.name for path in folder.iterdir()]
                if others:
                    raise OutputError(f"{folder}: wanted an empty folder or a cache, got one with {others[0]}")
                (folder / _TAG).write_text(_TAG_TEXT, encoding="utf-8")
            folder.chmod(0o700)
            self._bury_the_dead()
        except OSError as error:
            raise OutputError(f"{folder}: wanted a folder for the cache, got: {error.strerror}") from error

    def get(self, key: str, make: Callable[[], Entry]) -> Entry:
        """The entry of a key; made and kept first where there is none, or a damaged one.

        Where the disk is full or the limit too small for one entry, it is given back without being kept. Once there is
        a warning of that, or of a limit at which entries go that are still in use.

        Raises:
            ValueError: the key is no SHA-256.
        """
        if len(key) != 64 or not set(key) <= set("0123456789abcdef"):
            raise ValueError(f"key: wanted a SHA-256 in hexadecimal digits, got {key!r}")
        found = self._read(key)
        self._used.add(key)
        if found is not None:
            return found
        made = make()
        if self._room_for(sum(array.nbytes for array in made.arrays.values())) and self._write(key, made):
            return self._read(key) or made
        return made

    def size_bytes(self) -> int:
        """What all entries take."""
        return sum(size for _, size, _ in self._entries())

    def _read(self, key: str) -> Entry | None:
        home = self.folder / key
        try:
            facts = json.loads((home / _FACTS).read_text(encoding="utf-8"))
            # As plain arrays: each slice of a numpy.memmap would cost a new object of that class.
            arrays = {
                name: np.asarray(np.load(home / f"{name}.npy", mmap_mode="r", allow_pickle=False))
                for name in facts["arrays"]
            }
            about = (home / _FACTS).stat()
            if time.time() - about.st_mtime > _STAMP_AGAIN_S:
                os.utime(home / _FACTS)
            return Entry(arrays, facts["facts"])
        except (OSError, ValueError, KeyError, TypeError):  # not there, cut short or altered: it is made again
            self._remove(home)
            return None

    def _write(self, key: str, entry: Entry) -> bool:
        """Whether the entry stands, ours or that of another process that was faster."""
        aside = None
        try:
            aside = Path(tempfile.mkdtemp(prefix=_ASIDE, dir=self.folder))
            for name, array in entry.arrays.items():
                with (aside / f"{name}.npy").open("wb") as file:
                    np.save(file, np.ascontiguousarray(array), allow_pickle=False)
                    _settle(file)
            with (aside / _FACTS).open("w", encoding="utf-8") as text:
                json.dump({"arrays": sorted(entry.arrays), "facts": dict(entry.facts)}, text)
                _settle(text)
            os.rename(aside, self.folder / key)
            return True
        except OSError as error:  # a full disk, or another process's entry is there already
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                self._warn(f"wanted to keep prepared cases there, got: {error.strerror}")
            return (self.folder / key / _FACTS).exists()
        finally:
            if aside is not None:
                shutil.rmtree(aside, ignore_errors=True)

    def _room_for(self, needed: int) -> bool:
        """Take away the entries used longest ago until there is room; False where there never will be."""
        limit = f"{self.limit_bytes / 1e9:.3g} GB"
        if needed > self.limit_bytes:
            self._warn(f"wanted room for a case of {needed / 1e9:.3g} GB, got a limit of {limit}")
            return False
        entries = sorted(self._entries())
        total = sum(size for _, size, _ in entries)
        for _, size, home in entries:
            if total + needed <= self.limit_bytes:
                break
            if home.name in self._used:
                self._warn(f"wanted room for all cases that are in use, got a limit of {limit}")
            self._remove(home)
            total -= size
        return True

    def _warn(self, text: str) -> None:
        if not self._warned:
            self._warned = True
            warn(f"cache {self.folder}: {text}; {_AGAIN}")

    def _entries(self) -> list[tuple[float, int, Path]]:
        """(Last use, bytes, folder) of each entry."""
        found = []
        for home in self.folder.iterdir():
            try:
                if len(home.name) == 64:
                    size = sum(path.stat().st_size for path in home.iterdir())
                    found.append(((home / _FACTS).stat().st_mtime, size, home))
            except OSError:  # taken away by another process meanwhile
                continue
        return found

    def _remove(self, home: Path) -> None:
        """Take an entry away: renamed first, so that nobody ever sees half of one."""
        if not home.exists():
            return
        with contextlib.suppress(OSError):  # another process was faster, or (Windows) still reads it
            aside = Path(tempfile.mkdtemp(prefix=_ASIDE, dir=self.folder))
            try:
                os.rename(home, aside / "old")
            finally:
                shutil.rmtree(aside, ignore_errors=True)

    def _bury_the_dead(self) -> None:
        for path in self.folder.glob(f"{_ASIDE}*"):
            try:
                dead = time.time() - path.stat().st_mtime > _DEAD_AFTER_S
            except OSError:  # its owner finished meanwhile
                continue
            if dead:
                shutil.rmtree(path, ignore_errors=True)


def _settle(file: IO[Any]) -> None:
    """Have the bytes on disk before the rename, which after a power cut may otherwise be there without them."""
    file.flush()
    os.fsync(file.fileno())
