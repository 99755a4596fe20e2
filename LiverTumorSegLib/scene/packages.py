"""The Python packages that the networks need, by Slicer's own installers; what Slicer has stays as it is."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

# The newest MONAI asks for the newest torch; pip would bring a build of it that may not suit this computer.
_STAYS = ("torch", "numpy", "SimpleITK")


def ensure_packages(requirements: Path) -> None:
    """Install what is missing, after asking; the event loop runs meanwhile.

    Args:
        requirements: a requirements.txt without torch, which Slicer's PyTorch extension installs.

    Raises:
        RuntimeError: there is no PyTorch extension, or installing was declined or failed; one line.
    """
    try:
        _ensure_torch()
        _ensure_others(requirements)
    except subprocess.CalledProcessError as error:
        raise RuntimeError(
            f"Python packages could not be installed: pip ended with code {error.returncode}. "
            "What it said is in the Python console."
        ) from error


def _ensure_torch() -> None:
    # It is not imported here: that takes seconds, and only the worker needs it.
    if importlib.util.find_spec("torch") is not None:
        return
    try:
        extension = importlib.import_module("PyTorchUtils")
    except ModuleNotFoundError as error:
        told = "Slicer's PyTorch extension is needed: get it from the Extensions Manager."
        raise RuntimeError(told) from error
    if extension.PyTorchUtilsLogic().installTorch(askConfirmation=True) is None:
        raise RuntimeError("PyTorch is needed, and installing it was declined.")


def _ensure_others(requirements: Path) -> None:
    import slicer.packaging

    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("".join(f"{each}\n" for each in _as_installed()), encoding="utf-8")
        wanted = slicer.packaging.load_requirements(requirements)
        slicer.packaging.pip_ensure(wanted, requester="LiverTumorSeg", constraints=constraints)


def _as_installed() -> Iterator[str]:
    for name in _STAYS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # a build of one's own may not say it
            yield f"{name}=={importlib.metadata.version(name)}"
