"""What the workers of a cluster do in `test_cluster`; they import it by name."""

from __future__ import annotations

import os
from pathlib import Path


def square(number: int, folder: Path, has_gpu: bool, threads: int) -> tuple[int, int]:
    """2 raises, 3 dies the first time, 4 every time; the others are well."""
    if number == 2:
        raise ValueError("two is\ntoo even")
    if number == 4 or (number == 3 and not (folder / "died").exists()):
        (folder / "died").touch()
        os.kill(os.getpid(), 9)
    return number**2, os.getpid()
