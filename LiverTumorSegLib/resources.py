"""Where the files beside the code are, and where the user's own files go."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def resource_path(*parts: str) -> Path:
    """A file or folder of `Resources/`; it need not exist.

    An installed library has `Resources` inside the package, a source checkout beside it.
    """
    inside = _PACKAGE / "Resources"
    root = inside if inside.is_dir() else _PACKAGE.parent / "Resources"
    return root.joinpath(*parts)


def user_path(*parts: str) -> Path:
    """A file or folder of this program in the user's own data folder; it need not exist.

    The environment variable LIVERTUMORSEG_HOME names another folder. Otherwise it is
    `LiverTumorSeg` under APPDATA (Windows), ~/Library/Application Support (macOS), or
    XDG_DATA_HOME, by default ~/.local/share (elsewhere).
    """
    own = os.environ.get("LIVERTUMORSEG_HOME")
    root = Path(own).expanduser() if own else _platform_folder() / "LiverTumorSeg"
    return root.joinpath(*parts)


def _platform_folder() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
