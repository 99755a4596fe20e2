"""`slicer.packaging` and the PyTorch extension: they note what is asked of them, and install nothing."""

from __future__ import annotations

import importlib.metadata
import sys
import types
from pathlib import Path

import slicer
from packaging.requirements import Requirement


class Packages:
    """What a test says of the Python environment, and what was asked to change in it.

    `missing` names packages to treat as not installed; `declined` makes the user say no; `failure` is raised by
    installing; `torch` says whether PyTorch is installed, `extension` whether its extension is.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.missing: set[str] = set()
        self.declined = False
        self.failure: Exception | None = None
        self.torch = True

    def install(self, requester: str, names: tuple[str, ...]) -> None:
        self.asked.append((requester, names))
        if self.declined:
            raise RuntimeError("User declined package installation")
        if self.failure is not None:
            raise self.failure
        self.missing -= {Requirement(name).name for name in names}


def load_requirements(path) -> list[Requirement]:
    lines = (line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]


def as_requirements(wanted) -> list[Requirement]:
    if isinstance(wanted, Requirement):
        return [wanted]
    if isinstance(wanted, str):
        wanted = [wanted] if ";" in wanted else wanted.split()
    return [each if isinstance(each, Requirement) else Requirement(each) for each in wanted]


def publish(packages: Packages) -> None:
    """Put `slicer.packaging` and `PyTorchUtils` where they are imported from."""

    def pip_check(wanted) -> bool:
        return all(satisfied(each) for each in as_requirements(wanted))

    def satisfied(wanted: Requirement) -> bool:
        if wanted.marker is not None and not wanted.marker.evaluate():
            return True
        if wanted.name in packages.missing:
            return False
        try:
            return importlib.metadata.version(wanted.name) in wanted.specifier
        except importlib.metadata.PackageNotFoundError:
            return False

    def pip_ensure(requirements, requester=None, skip_in_testing=True, **how):
        missing = tuple(str(each) for each in as_requirements(requirements) if not satisfied(each))
        if missing and not (skip_in_testing and slicer.app.testingEnabled()):
            packages.install(requester or "", missing)

    def pip_install(requirements, requester=None, **how):
        packages.install(requester or "", tuple(str(each) for each in as_requirements(requirements)))

    module = types.ModuleType("slicer.packaging", __doc__)
    for each in (load_requirements, pip_check, pip_ensure, pip_install):
        setattr(module, each.__name__, each)
    module.isPipInstallInProgress = lambda: False
    sys.modules["slicer.packaging"] = slicer.packaging = module

    class PyTorchUtilsLogic:
        def torchInstalled(self) -> bool:
            return packages.torch

        def installTorch(self, askConfirmation=False, forceComputationBackend=None, torchVersionRequirement=None):
            packages.asked.append(("PyTorchUtils", (f"torch{torchVersionRequirement or ''}",)))
            if packages.declined:
                return None
            if packages.failure is not None:
                raise packages.failure
            packages.torch = True
            return types.SimpleNamespace(__name__="torch")

    extension = types.ModuleType("PyTorchUtils", __doc__)
    extension.PyTorchUtilsLogic = PyTorchUtilsLogic
    sys.modules["PyTorchUtils"] = extension
