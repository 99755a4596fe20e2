"""The fixtures of tests that need Slicer's names; conftest.py imports them."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def slicer_started(tmp_path_factory):
    """The application, started once; no Qt is needed for it."""
    pytest.importorskip("slicer", reason="needs slicer-core: pip install 'LiverTumorSeg[slicer]'")
    from slicer_host.application import start

    return start(tmp_path_factory.mktemp("slicer"))


@pytest.fixture
def scene(slicer_started):
    """An empty scene beside the application's own."""
    import slicer

    return slicer.vtkMRMLScene()


@pytest.fixture
def slicer_app(slicer_started):
    """`slicer.app` with Qt and an empty scene; the test fails where an exception left a slot and nobody took it."""
    from slicer_host.application import reason_without_qt

    if reason := reason_without_qt():
        pytest.skip(reason)
    slicer_started.renew()
    yield slicer_started
    slicer_started.processEvents()
    left = list(slicer_started.uncaught)
    slicer_started.renew()
    assert not left, f"exceptions left slots: {left}"
