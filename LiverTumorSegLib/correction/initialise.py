"""Making a study's folder from its manifest: scans without patients, and something to start from in every arm."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..datasets.cases import read_labels
from ..errors import ImageError, OutputError, StudyError, recorded_warnings, warn
from ..evaluation.scores import grid_difference
from ..images import read_image
from ..output import aside, check_writable, write_seg_nrrd
from ..segmentation import Segmentation
from .manifest import Arm, Case, load_manifest
from .study import STUDY, Study

Progress = Callable[[str, float], None]
# (scan, bundle's name or folder) -> its output
Segment = Callable[[sitk.Image, str], Segmentation]


def init_study(manifest_path: Path, folder: Path, segment: Segment, progress: Progress) -> Study:
    """Make a study's folder: all of it, or nothing.

    Args:
        manifest_path: see `manifest`; paths in it are relative to its folder.
        folder: new or empty.
        segment: makes the starts of arms that begin with a bundle's output.
        progress: is told each step and the share that is done.

    Raises:
        StudyError: the manifest is not as it must be, a file is missing, or the folder holds something.
        OutputError: the folder cannot be written to.
    """
    manifest, folder = load_manifest(manifest_path), Path(folder)
    check_writable(folder)
    if folder.exists() and any(folder.iterdir()):
        raise StudyError(f"{folder}: wanted a new or empty folder, got one that holds something")
    sources = [_check_sources(case, manifest.arms, Path(manifest_path).parent) for case in manifest.cases]
    study = Study(folder, manifest)
    try:
        with aside(folder) as private:
            made = Study(private, manifest)
            checksums: dict[str, str] = {}
            for number, (case, (volume, labels)) in enumerate(zip(manifest.cases, sources, strict=True)):
                progress(f"case {case.code}", number / len(sources))
                with recorded_warnings() as texts:
                    checksums |= _make_case(made, case, volume, labels, segment)
                for text in texts:
                    warn(f"case {case.code}: {text}")
            arms = tuple(replace(arm, bundle_sha256=checksums.get(arm.code, "")) for arm in manifest.arms)
            study.manifest = replace(manifest, arms=arms)
            text = json.dumps(study.manifest.document(), indent=2, ensure_ascii=False) + "\n"
            (private / STUDY).write_text(text, encoding="utf-8", newline="\n")
            try:
                for name in ("cases", STUDY):
                    os.replace(private / name, folder / name)
            except BaseException:
                shutil.rmtree(folder / "cases", ignore_errors=True)
                raise
    except OSError as error:
        raise OutputError(f"{folder}: wanted to write the study, got: {error.strerror}") from error
    return study


def _check_sources(case: Case, arms: tuple[Arm, ...], base: Path) -> tuple[Path, dict[str, Path]]:
    """The files of a case, all of which exist."""
    volume = base / case.volume
    labels = {arm.code: base / case.labels.get(arm.code, "") for arm in arms if arm.start == "labels"}
    for what, path in (("volume", volume), *((f"labels of arm {arm}", path) for arm, path in labels.items())):
        if path == base or not path.exists():
            raise StudyError(f"case {case.code}: wanted its {what}, got no file {path.name}")
    return volume, labels


def _make_case(study: Study, case: Case, volume: Path, labels: dict[str, Path], segment: Segment) -> dict[str, str]:
    """Write a case's files; returns the checksums of the bundles that took part, by arm."""
    checksums = {}
    image = read_image(volume, case.series or None)
    target = study.volume(case.code)
    target.parent.mkdir(parents=True)
    # A region is a new image: the old one's metadata, which may name a patient, stays behind.
    bare = sitk.RegionOfInterest(image, image.GetSize(), (0, 0, 0))
    try:
        sitk.WriteImage(bare, str(target), useCompression=True, compressionLevel=3)
    except RuntimeError as error:  # the only type SimpleITK raises
        raise OutputError(f"case {case.code}: wanted to write its scan, got an error (is the disk full?)") from error
    for arm in study.manifest.arms:
        if arm.start == "nothing":
            start = _like(image, np.zeros(image.GetSize()[::-1], np.uint8))
        elif arm.start == "bundle":
            segmentation = segment(image, arm.bundle)
            start, checksums[arm.code] = segmentation.labels, segmentation.provenance.bundle_sha256
        else:
            start = _given_labels(image, labels[arm.code], case.code)
        write_seg_nrrd(start, study.start(case.code, arm.code))
    return checksums


def _given_labels(image: sitk.Image, path: Path, case: str) -> sitk.Image:
    try:
        labels = read_labels(path)
    except ImageError as error:
        raise ImageError(f"case {case}: {error}") from None
    if difference := grid_difference(image, labels):
        got = difference.replace("the reference", "the scan")
        raise ImageError(f"case {case}: wanted labels on the scan's grid, got {got} in {path.name}")
    return _like(image, sitk.GetArrayFromImage(labels))


def _like(image: sitk.Image, array: np.ndarray) -> sitk.Image:
    labels = sitk.GetImageFromArray(array)
    labels.CopyInformation(image)
    return labels
