"""Is a data set as it should be, and what is in it: faults named per case, a table and a fingerprint."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import SimpleITK as sitk

from ..errors import ImageError, recorded_warnings
from ..evaluation.scores import grid_difference
from ..evaluation.sizes import DIAMETERS
from ..images import modality_of
from ..lesions import bounding_slices, find_lesions
from ..segmentation import TUMOUR
from .cases import DatasetCase

PERCENTILES = (0.5, 5.0, 50.0, 95.0, 99.5)
_SAMPLED = 20_000  # of a case's liver voxels; a hundred cases then fit in 16 MB


@dataclass(frozen=True)
class CheckedCase:
    """What a case holds; None and empty where a fault kept it from being read.

    Attributes:
        name: of the case.
        patient: whose it is.
        scanner: manufacturer and model where the data set tells, else "".
        modality: "CT", "MR" or "".
        size_voxels: (i, j, k) of the scan.
        spacing_mm: likewise.
        liver_ml: tumours included.
        liver_extent_mm: edges of the box around it along (i, j, k).
        tumour_ml: all tumours.
        lesion_diameters_mm: longest axial diameters, by falling volume.
        faults: what keeps the case from being used, one line each.
        warnings: what is odd, one line each.
        intensities: a sample of the scan's values inside the liver.
        digest: of the scan's voxels; equal scans have equal ones.
    """

    name: str
    patient: str
    scanner: str = ""
    modality: str = ""
    size_voxels: tuple[int, ...] = ()
    spacing_mm: tuple[float, ...] = ()
    liver_ml: float | None = None
    liver_extent_mm: tuple[float, ...] = ()
    tumour_ml: float | None = None
    lesion_diameters_mm: tuple[float, ...] = ()
    faults: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    intensities: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32), repr=False, compare=False)
    digest: str = ""


@dataclass(frozen=True)
class Fingerprint:
    """What a data set is like; ranges are (smallest, median, largest).

    Attributes:
        cases: that have no fault.
        patients: of these.
        modalities: modality -> cases.
        scanners: manufacturer and model, or "" where nothing tells -> cases.
        spacing_mm: one range an axis (i, j, k).
        size_voxels: likewise.
        liver_intensity: percentile -> value inside the livers, each case weighing the same.
        liver_mean: mean of these values.
        liver_sd: their standard deviation.
        liver_ml: range.
        liver_extent_mm: one range an axis (i, j, k).
        lesions: how many in all.
        lesions_per_case: range.
        lesion_diameter_mm: range of the longest axial diameters.
        lesions_by_diameter: size class -> lesions.
        cases_without_lesions: how many.
    """

    cases: int
    patients: int
    modalities: dict[str, int]
    scanners: dict[str, int]
    spacing_mm: tuple[tuple[float, ...], ...]
    size_voxels: tuple[tuple[float, ...], ...]
    liver_intensity: dict[str, float]
    liver_mean: float
    liver_sd: float
    liver_ml: tuple[float, ...]
    liver_extent_mm: tuple[tuple[float, ...], ...]
    lesions: int
    lesions_per_case: tuple[float, ...]
    lesion_diameter_mm: tuple[float, ...]
    lesions_by_diameter: dict[str, int]
    cases_without_lesions: int


def check_cases(
    cases: Sequence[DatasetCase], progress: Callable[[str, float], None] | None = None
) -> list[CheckedCase]:
    """Open every scan and its labels; a case that goes wrong does not stop the others.

    Two cases with the same voxels under two patients' names are a fault of the later one: they would stand in two
    folds.

    Args:
        cases: of a data set.
        progress: told the case that is done and the share of all.
    """
    checked: list[CheckedCase] = []
    seen: dict[str, CheckedCase] = {}
    for number, case in enumerate(cases, 1):
        found = check_case(case)
        twin = seen.setdefault(found.digest, found) if found.digest else found
        if twin.patient != found.patient:
            fault = f"scan: wanted a patient of its own, got the voxels of {twin.name}"
            found = dataclasses.replace(found, faults=(*found.faults, fault))
        checked.append(found)
        if progress:
            progress(case.name, number / len(cases))
    return checked


def check_case(case: DatasetCase) -> CheckedCase:
    """Open one case."""
    checked = CheckedCase(case.name, case.patient, case.find_scanner())
    faults: list[str] = []
    with recorded_warnings() as texts:
        scan, labels = _opened(case.read_scan, "scan", faults), _opened(case.read_labels, "labels", faults)
    if scan is not None:
        checked = dataclasses.replace(
            checked,
            modality=modality_of(scan),
            size_voxels=scan.GetSize(),
            spacing_mm=scan.GetSpacing(),
            digest=_digest(scan),
        )
    if scan is not None and labels is not None:
        difference = grid_difference(scan, labels)
        if difference:
            faults.append(f"labels: wanted the scan's grid, got {difference.replace('the reference', 'the scan')}")
        else:
            checked = _described(checked, scan, labels)
            if not checked.liver_ml:
                faults.append("labels: wanted a liver, got an empty label map")
    return dataclasses.replace(checked, faults=tuple(faults), warnings=tuple(texts))


def fingerprint(checked: Sequence[CheckedCase]) -> Fingerprint | None:
    """What the cases without faults are like; None where there are none."""
    good = [case for case in checked if not case.faults]
    if not good:
        return None
    values = np.concatenate([case.intensities for case in good])
    diameters = [mm for case in good for mm in case.lesion_diameters_mm]
    by_size = {s.name: sum(s.low < mm <= s.high for mm in diameters) for s in DIAMETERS}
    modalities, scanners = (sorted({getattr(case, name) for case in good}) for name in ("modality", "scanner"))
    return Fingerprint(
        len(good),
        len({case.patient for case in good}),
        {modality: sum(case.modality == modality for case in good) for modality in modalities},
        {scanner: sum(case.scanner == scanner for case in good) for scanner in scanners},
        tuple(_range([case.spacing_mm[axis] for case in good]) for axis in range(3)),
        tuple(_range([case.size_voxels[axis] for case in good]) for axis in range(3)),
        {f"{p:g}": float(v) for p, v in zip(PERCENTILES, np.percentile(values, PERCENTILES), strict=True)},
        float(values.mean(dtype=np.float64)),
        float(values.std(dtype=np.float64)),
        _range([case.liver_ml or 0.0 for case in good]),
        tuple(_range([case.liver_extent_mm[axis] for case in good]) for axis in range(3)),
        len(diameters),
        _range([len(case.lesion_diameters_mm) for case in good]),
        _range(diameters),
        by_size,
        sum(not case.lesion_diameters_mm for case in good),
    )


def _opened(read: Callable[[], sitk.Image], what: str, faults: list[str]) -> sitk.Image | None:
    try:
        return read()
    except ImageError as error:
        faults.append(f"{what}: {error}")
        return None


def _described(checked: CheckedCase, scan: sitk.Image, labels: sitk.Image) -> CheckedCase:
    array = sitk.GetArrayViewFromImage(labels)
    voxel_ml = math.prod(labels.GetSpacing()) / 1000
    inside = sitk.GetArrayViewFromImage(scan)[array > 0]
    # Evenly spaced, so that each case weighs the same in the fingerprint, whatever its size.
    places = np.linspace(0, max(inside.size - 1, 0), _SAMPLED if inside.size else 0).astype(np.int64)
    return dataclasses.replace(
        checked,
        liver_ml=float(inside.size * voxel_ml),
        liver_extent_mm=_extent_mm(array > 0, labels.GetSpacing()),
        tumour_ml=float(np.count_nonzero(array == TUMOUR) * voxel_ml),
        lesion_diameters_mm=tuple(lesion.axial_long_axis_mm for lesion in find_lesions(labels)),
        intensities=inside[places].astype(np.float32),
    )


def _extent_mm(mask: np.ndarray, spacing_mm: Sequence[float]) -> tuple[float, ...]:
    box = bounding_slices(mask)
    if box is None:
        return (0.0, 0.0, 0.0)
    return tuple((part.stop - part.start) * step for part, step in zip(box[::-1], spacing_mm, strict=True))


def _digest(scan: sitk.Image) -> str:
    """Of voxels and size, not of the geometry, which copies of one scan may well state differently."""
    array = sitk.GetArrayFromImage(scan)
    found = hashlib.blake2b(repr(array.shape).encode(), digest_size=16)
    found.update(np.ascontiguousarray(array.astype(np.float32)).tobytes())
    return found.hexdigest()


def _range(values: Sequence[float]) -> tuple[float, ...]:
    return (float(min(values)), float(np.median(values)), float(max(values))) if values else ()
