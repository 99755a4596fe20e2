"""A clock that stands still until it is told, and label maps small enough to count."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from LiverTumorSegLib.correction.reading import Reading
from LiverTumorSegLib.correction.session import CorrectionSession

NS = 1_000_000_000
NINE_O_CLOCK = 1_772_442_000  # 2026-03-02T09:00:00Z


@dataclass
class FakeClock:
    """Both clocks of a session, in nanoseconds."""

    mono: int = 77 * NS
    wall: int = NINE_O_CLOCK * NS

    def monotonic_ns(self) -> int:
        return self.mono

    def wall_ns(self) -> int:
        return self.wall

    def wait(self, seconds: float) -> None:
        """Both clocks advance."""
        self.mono += round(seconds * NS)
        self.wall += round(seconds * NS)

    def sleep(self, seconds: float) -> None:
        """The computer sleeps, or the clock is set: only the wall clock advances."""
        self.wall += round(seconds * NS)


def image_of(array: np.ndarray, spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> sitk.Image:
    image = sitk.GetImageFromArray(array.astype(np.uint8))
    image.SetSpacing(spacing_mm)
    return image


def liver_with(*tumours: tuple[slice, slice, slice], spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)):
    """Return labels of 10 x 20 x 20 voxels: a liver of 8 x 16 x 16 = 2048 voxels with tumours in it."""
    array = np.zeros((10, 20, 20), np.uint8)
    array[1:9, 2:18, 2:18] = 1
    for box in tumours:
        array[box] = 2
    return image_of(array, spacing_mm)


def session_in(folder: Path, clock: FakeClock, labels: sitk.Image | None = None, **more) -> CorrectionSession:
    """Return a session of reader R1 and case c1 that was not started."""
    reading = more.pop("reading", Reading("R1", "c1"))
    return CorrectionSession(liver_with() if labels is None else labels, folder, reading, clock, **more)
