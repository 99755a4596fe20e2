"""What the panel's tests share; pytest finds it through conftest.py, with or without Slicer's modules."""

from __future__ import annotations

import pytest


@pytest.fixture
def panel(slicer_app):
    """Open the module's panel, with a worker that the test speaks for."""
    from panel_host import opened_module
    from panel_stand_ins import Surroundings

    with opened_module(Surroundings()) as opened:
        yield opened


@pytest.fixture
def two_lesions(ellipsoid_scan):
    """Return a scan, and its labels with lesions of 14 and 9 mm radius."""
    return ellipsoid_scan((60, 60, 40), (3, 3, 4), lesions=[((20, 10, 5), 14.0), ((-25, 0, 0), 9.0)])
