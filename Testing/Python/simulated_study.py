"""A reader study that was read by nobody: scans of ellipsoids, readers with known speeds, a clock that is told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from correction_shapes import NINE_O_CLOCK, NS, FakeClock
from LiverTumorSegLib.correction.initialise import init_study
from LiverTumorSegLib.correction.study import Study

Lesion = tuple[tuple[int, int, int], int]  # centre (k, j, i) and radius in voxels


def abdomen(lesions: list[Lesion], shift: int = 0, shape: tuple[int, int, int] = (24, 40, 48)) -> np.ndarray:
    """Return labels of an ellipsoid liver, moved by `shift` voxels along i, with round lesions in it."""
    k, j, i = np.indices(shape)
    centre = [size / 2 for size in shape]
    inside = sum(
        ((a - c - s) / (0.4 * n)) ** 2 for a, c, n, s in zip((k, j, i), centre, shape, (0, 0, shift), strict=True)
    )
    labels = (inside <= 1).astype(np.uint8)
    for (a, b, c), radius in lesions:
        labels[((k - a) ** 2 + (j - b) ** 2 + (i - c) ** 2 <= radius**2) & (labels > 0)] = 2
    return labels


def make_study(
    folder: Path, truths: dict[str, list[Lesion]], starts: dict[str, np.ndarray], readers: list[str], **more: object
) -> Study:
    """Make a study of two arms: "manual" from nothing, and "correct" from `starts`."""
    source = folder / "source"
    source.mkdir(parents=True)
    cases = []
    for code, lesions in truths.items():
        labels = abdomen(lesions)
        write(source / f"{code}.nii.gz", (labels * 60).astype(np.int16))
        write(source / f"{code}_labels.nii.gz", starts[code])
        cases.append({"code": code, "volume": f"{code}.nii.gz", "labels": {"correct": f"{code}_labels.nii.gz"}})
    arms = [{"code": "manual", "start": "nothing"}, {"code": "correct", "start": "labels"}]
    manifest = {"schema_version": 1, "title": "Correct or draw?", "readers": readers, "arms": arms, "cases": cases}
    (source / "manifest.json").write_text(json.dumps({**manifest, **more}), encoding="utf-8")
    return init_study(source / "manifest.json", folder / "study", no_network, lambda step, share: None)


def write(path: Path, array: np.ndarray, spacing_mm: tuple[float, float, float] = (2.0, 2.0, 3.0)) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing_mm)
    sitk.WriteImage(image, str(path))


def no_network(image: sitk.Image, bundle: str):
    raise AssertionError("no arm of this study starts from a bundle")


def clock_on_day(day: float) -> FakeClock:
    return FakeClock(wall=(NINE_O_CLOCK + round(day * 86_400)) * NS)


def labels_like(path: Path, array: np.ndarray) -> sitk.Image:
    """Return an array as labels on the grid of an image file."""
    image = sitk.GetImageFromArray(array.astype(np.uint8))
    image.CopyInformation(sitk.ReadImage(str(path)))
    return image


def read_next(study: Study, reader: str, clock: FakeClock, corrected: np.ndarray, liver_s: float, tumour_s: float):
    """Read what comes next: 10 s of looking, then so many seconds of edits of liver and tumour, 20 s a stroke."""
    assignment = study.next(reader, clock)
    session = study.session(assignment, clock)
    session.start()
    clock.wait(10)
    for segment, seconds in (("liver", liver_s), ("tumour", tumour_s)):
        while seconds > 0:
            session.edited(segment, voxels_added=50, voxels_removed=10)
            clock.wait(min(seconds, 20.0))
            seconds -= 20.0
    session.finish(labels_like(assignment.start, corrected))
    return assignment
