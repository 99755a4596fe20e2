"""In which order each reader reads: balanced, and the same again from the same manifest on every computer."""

from __future__ import annotations

import hashlib

from .manifest import Manifest
from .reading import Reading


def schedule(manifest: Manifest, reader: str) -> tuple[Reading, ...]:
    """All readings of one reader, in order.

    There are as many periods as arms, and each case comes once a period. Cases change their arm from period to
    period, and readers from one to the next (a Latin square over the cases in drawn order): in each period a reader
    has each arm equally often, give or take one, and a case is read in different arms by successive readers. Within a
    period the cases come in an order drawn for that reader and period, so that no order is remembered.
    """
    drawn = sorted((case.code for case in manifest.cases), key=lambda code: _draw(manifest, "arms", code))
    readings: list[Reading] = []
    for period in range(len(manifest.arms)):
        order = sorted(drawn, key=lambda code: _draw(manifest, reader, period, code))
        for code in order:
            turn = drawn.index(code) + manifest.readers.index(reader) + period
            arm = manifest.arms[turn % len(manifest.arms)].code
            readings.append(Reading(reader, code, arm, period + 1, len(readings) + 1))
    return tuple(readings)


def blind_name(manifest: Manifest, case: str, arm: str) -> str:
    """The file name of a start segmentation, which does not tell its arm."""
    return f"start_{_draw(manifest, 'start', case, arm)[:8]}.seg.nrrd"


def _draw(manifest: Manifest, *what: object) -> str:
    """A draw that depends on the seed and what it is for; Python's own generator may change between versions."""
    return hashlib.sha256("/".join(map(str, (manifest.seed, *what))).encode()).hexdigest()
