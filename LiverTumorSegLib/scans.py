"""Which scans are in a folder, and what their results are called."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from .dicom import holds_dicom
from .errors import ImageError, is_unicode
from .images import EXTENSIONS


@dataclass(frozen=True)
class Scan:
    """One scan of a folder: what its results are called, unique in the folder, and its file or DICOM folder."""

    name: str
    path: Path

    def written(self) -> float:
        """When it was, or the last of its files, in seconds since 1970.

        Raises:
            OSError: it cannot be looked at.
        """
        files = (each for each in self.path.rglob("*") if each.is_file()) if self.path.is_dir() else (self.path,)
        return max((each.stat().st_mtime for each in files), default=0.0)


def find_scans(folder: Path, results: Path | None = None) -> list[Scan]:
    """The scans of a folder by name: image files, and folders with DICOM files in or below them, each counted as one.

    Args:
        folder: of the scans.
        results: a folder that is none, should it lie among them.

    Raises:
        ImageError: no such folder, or no scan in it.
    """
    if not folder.is_dir():
        raise ImageError(f"wanted a folder of scans, got {folder.name or 'nothing'}")
    found = [path for path in sorted(folder.iterdir()) if _is_scan(path, results)]
    if not found:
        raise ImageError(f"wanted scan files or DICOM folders in {folder.name}, got none")
    names = [_writable(_stem(path)) for path in found]
    twice = {name for name, count in Counter(name.casefold() for name in names).items() if count > 1}
    return [
        Scan(_writable(path.name) if name.casefold() in twice else name, path)
        for path, name in zip(found, names, strict=True)
    ]


def _is_scan(path: Path, results: Path | None) -> bool:
    if path.name.startswith(".") or (results is not None and path.resolve() == results.resolve()):
        return False
    if path.is_file():
        return path.name.lower().endswith(EXTENSIONS)
    return path.is_dir() and holds_dicom(path)


def _stem(path: Path) -> str:
    """A file's name without what its format adds."""
    for extension in EXTENSIONS:
        if path.is_file() and path.name.lower().endswith(extension):
            return path.name[: -len(extension)]
    return path.name


def _writable(name: str) -> str:
    """A name for a table: bytes that mean nothing here are shown by their numbers. Reading such a file is refused."""
    return name.encode("utf-8", "backslashreplace").decode().replace("\\udc", "%") if not is_unicode(name) else name
