"""One process at a time: a lock that the operating system drops when its holder ends, however it ends."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import JournalError

# Windows keeps others from reading what is locked, so the lock lies far behind the holder's number.
_LOCKED_BYTE = 1 << 20


class FileLock:
    """Holds a lock file from construction until `release`; the file itself stays, empty locks mean nothing."""

    def __init__(self, path: Path, what: str) -> None:
        """Take the lock.

        Args:
            path: the lock file; made where it is not.
            what: what is locked, for the message.

        Raises:
            JournalError: another process holds it.
            OSError: the file cannot be made.
        """
        # Readers of one study may have accounts of their own; the folder's owner says by the umask who may write.
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(self._descriptor)
        except OSError:
            holder = os.read(self._descriptor, 20).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise JournalError(f"{what}: wanted to be its only writer, got process {holder or '?'} before us") from None
        try:
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, str(os.getpid()).encode("ascii"))
        except OSError:  # a full disk; the next try must not find ourselves in the way
            os.close(self._descriptor)
            raise

    def release(self) -> None:
        """Let others in; a second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@contextmanager
def waiting_lock(path: Path, what: str, seconds: float = 10.0) -> Iterator[None]:
    """Hold a lock inside the block, waiting for others to leave.

    Raises:
        JournalError: they did not within `seconds`.
        OSError: the lock file cannot be made.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            lock = FileLock(path, what)
            break
        except JournalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
    try:
        yield
    finally:
        lock.release()


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        # Unlike lockf, flock also keeps out a second writer within the same process.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
