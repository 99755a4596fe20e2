"""A session's diary, as it is written: one writer, lines that are only ever appended (see `journal_lines`).

Every line reaches the operating system before `append` returns, and the disk about a second later as long as somebody
appends or calls `sync_if_due`: a killed process loses nothing, a power cut the last second. A thread waits for the
disk, which can take a tenth of a second, so that nobody's stroke does.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import JournalError
from .journal_lines import FIRST_SHA256, JOURNAL, SCHEMA_VERSION, Contents, is_begun, read_journal, sealed_line
from .lock import FileLock

_SYNC_NS = 1_000_000_000


class Journal:
    """The one writer of a journal file."""

    def __init__(self, folder: Path, monotonic_ns: Callable[[], int]) -> None:
        """Lock the folder's journal, which may not exist yet; use `create` or `reopen`."""
        self.path = folder / JOURNAL
        self._monotonic_ns = monotonic_ns
        self._lock = FileLock(folder / f".{JOURNAL}.lock", self.path.name)
        self._descriptor = -1
        self._sha256 = FIRST_SHA256
        self._lines = self._bytes = 0
        self._synced_ns: int | None = None
        self._disk = ThreadPoolExecutor(1, "journal")
        self._syncing: Future[None] | None = None

    @classmethod
    def create(cls, folder: Path, header: Mapping[str, Any], monotonic_ns: Callable[[], int]) -> Journal:
        """Begin a journal with a header line; the schema's version is added to it.

        Raises:
            JournalError: there is one already, another process holds it, or it cannot be written.
        """
        journal = cls._locked(folder, monotonic_ns)
        try:
            if is_begun(folder):
                raise JournalError(f"{JOURNAL}: wanted a new session, got one that was begun before")
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
            journal._descriptor = os.open(journal.path, flags, 0o666)
            journal.append({"schema_version": SCHEMA_VERSION, **header})
            journal.sync()
        except OSError as error:
            journal.release()
            raise _cannot_write(error) from error
        except JournalError:
            journal.release()
            raise
        return journal

    @classmethod
    def reopen(cls, folder: Path, monotonic_ns: Callable[[], int]) -> tuple[Journal, Contents]:
        """Go on with a journal; what a crash left of its last line is cut off.

        Raises:
            JournalError: none there, not sound, or another process holds it.
        """
        if not (folder / JOURNAL).is_file():
            raise JournalError(f"{JOURNAL}: wanted a session to go on with, got none in {folder.name}")
        journal = cls._locked(folder, monotonic_ns)
        try:
            contents = read_journal(folder)
            journal._descriptor = os.open(journal.path, os.O_WRONLY | getattr(os, "O_BINARY", 0))
            os.ftruncate(journal._descriptor, contents.whole_bytes)
            os.lseek(journal._descriptor, 0, os.SEEK_END)
        except OSError as error:
            journal.release()
            raise _cannot_write(error) from error
        except JournalError:
            journal.release()
            raise
        journal._sha256, journal._lines, journal._bytes = contents.sha256, len(contents.lines), contents.whole_bytes
        return journal, contents

    @classmethod
    def _locked(cls, folder: Path, monotonic_ns: Callable[[], int]) -> Journal:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return cls(folder, monotonic_ns)
        except OSError as error:
            raise _cannot_write(error) from error

    @property
    def sha256(self) -> str:
        """Of the last line."""
        return self._sha256

    @property
    def lines(self) -> int:
        """How many there are, with the header."""
        return self._lines

    def append(self, note: Mapping[str, Any]) -> None:
        """Add a line; all of it is in the file afterwards, or none.

        Raises:
            JournalError: it cannot be written, the disk is full; the journal is as it was and can be appended to
                as soon as there is room.
        """
        line, sha256 = sealed_line(self._lines, note, self._sha256)
        self._raise_if_refused()
        try:
            _write_all(self._descriptor, line)
        except OSError as error:
            self._cut(self._bytes)
            raise _cannot_write(error) from error
        self._sha256, self._lines, self._bytes = sha256, self._lines + 1, self._bytes + len(line)
        self._send_if_due()

    @contextmanager
    def provisional(self) -> Iterator[None]:
        """Take back the lines that the block appends when the block fails."""
        before = self._sha256, self._lines, self._bytes
        try:
            yield
        except BaseException:
            self._cut(before[2])
            self._sha256, self._lines, self._bytes = before
            raise

    def sync_if_due(self) -> None:
        """Send the lines to the disk, unless that was done within the last second; does not wait for it.

        Raises:
            JournalError: the disk refused those of the time before.
        """
        self._raise_if_refused()
        self._send_if_due()

    def sync(self) -> None:
        """Send the lines to the disk and wait until they are there.

        Raises:
            JournalError: the disk refuses them.
        """
        self._send()
        wait([self._syncing] if self._syncing else [])
        self._raise_if_refused()

    def close(self) -> None:
        """Sync, close, unlock; a second call does nothing.

        Raises:
            JournalError: the disk refuses the last lines; closed and unlocked it is all the same.
        """
        try:
            if self._descriptor >= 0:
                self.sync()
        finally:
            self.release()

    def release(self) -> None:
        """Close and unlock without a word to the disk."""
        self._disk.shutdown()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._lock.release()

    def _send_if_due(self) -> None:
        since_ns = None if self._synced_ns is None else self._monotonic_ns() - self._synced_ns
        if self._syncing is None and (since_ns is None or not 0 <= since_ns < _SYNC_NS):
            self._send()

    def _send(self) -> None:
        self._syncing, self._synced_ns = self._disk.submit(os.fsync, self._descriptor), self._monotonic_ns()

    def _raise_if_refused(self) -> None:
        if self._syncing is None or not self._syncing.done():
            return
        syncing, self._syncing = self._syncing, None
        try:
            syncing.result()
        except OSError as error:
            raise _cannot_write(error) from error

    def _cut(self, length: int) -> None:
        os.ftruncate(self._descriptor, length)
        os.lseek(self._descriptor, length, os.SEEK_SET)


def _write_all(descriptor: int, content: bytes) -> None:
    while content:  # a disk that is nearly full takes a part
        content = content[os.write(descriptor, content) :]


def _cannot_write(error: OSError) -> JournalError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    reason = "a full disk; what was noted before is safe" if full else error.strerror or str(error)
    return JournalError(f"{JOURNAL}: wanted to note what happened, got {reason}")
