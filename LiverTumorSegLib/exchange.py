"""Scans and segmentations as files between two processes of the same computer: whole, exact and quick.

    scan.nrrd        voxels uncompressed; the geometry once more in full precision; of the metadata only the modality
    phase1.nrrd ...  the same of further phases
    result.json      provenance, sensitivity, the grid and the rules of the evidence
    labels.raw       uint8, (k, j, i) of the scan
    liver.raw, tumour.raw   float16, little-endian, (k, j, i) of the evidence's grid; only where there is evidence

No name of a patient, volume or user is written. Reading executes nothing and checks everything.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk

from .errors import ImageError, LiverTumorSegError, OutputError
from .geometry import GridGeometry
from .itk_reader import read_file
from .lesions import LesionKind
from .postprocessing import Evidence
from .recipe import Postprocessing
from .segmentation import TUMOUR, Provenance, Segmentation, check_sensitivity

SCAN, RECORD, LABELS, LIVER, TUMOURS = "scan.nrrd", "result.json", "labels.raw", "liver.raw", "tumour.raw"

_GEOMETRY = "LiverTumorSeg_geometry"
_MODALITY = ("Modality", "0008|0060")


@dataclass(frozen=True)
class _Record:
    """What `result.json` says; both or none of geometry and rules are there, and without them no base factor counts."""

    format: Literal[1]
    sensitivity: float
    provenance: Provenance
    own_scan: bool
    kinds: tuple[LesionKind, ...]
    patient_class: str
    geometry: GridGeometry | None
    rules: Postprocessing | None
    base_factor: float


def write_volume(image: sitk.Image, path: Path) -> None:
    """Write a scan so that `read_volume` gives back its voxels, geometry and modality exactly.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        # A copy: setting metadata in the image itself would show in every image that shares it.
        copy = sitk.RegionOfInterest(image, image.GetSize(), [0] * image.GetDimension())
        for key in copy.GetMetaDataKeys():
            copy.EraseMetaData(key)
        modality = next((image.GetMetaData(key) for key in _MODALITY if image.HasMetaDataKey(key)), "")
        if modality.strip():
            copy.SetMetaData("Modality", modality.strip())
        # NRRD keeps spacing times direction, whose parts come back with rounding errors.
        geometry = [image.GetSpacing(), image.GetOrigin(), image.GetDirection()]
        copy.SetMetaData(_GEOMETRY, json.dumps(geometry))
        sitk.WriteImage(copy, str(path), useCompression=False)
    except RuntimeError as error:  # the only type SimpleITK raises
        reason = " ".join(str(error).split())[-160:]
        raise OutputError(f"{path.name}: wanted to write the scan, got (is the disk full?): ...{reason}") from None


def read_volume(path: Path) -> sitk.Image:
    """Read what `write_volume` wrote, or any other image file; of its metadata only "Modality" stays.

    Raises:
        ImageError: it cannot be read, or its two notes of the geometry differ.
    """
    image = read_file(path)
    notes = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys() if key in (_GEOMETRY, *_MODALITY)}
    for key in image.GetMetaDataKeys():
        image.EraseMetaData(key)
    for key in _MODALITY:
        if key in notes:
            image.SetMetaData("Modality", notes[key].strip())
            break
    if _GEOMETRY in notes:
        rough = image.GetSpacing(), image.GetOrigin(), image.GetDirection()
        try:
            exact = json.loads(notes[_GEOMETRY])
            agree = all(np.allclose(a, b, rtol=1e-6, atol=1e-6) for a, b in zip(exact, rough, strict=True))
        except (TypeError, ValueError):
            agree = False
        if not agree:
            raise ImageError(f"{path.name}: wanted the geometry {rough}, got the note {notes[_GEOMETRY][:200]}")
        image.SetSpacing(exact[0])
        image.SetOrigin(exact[1])
        image.SetDirection(exact[2])
    return image


def save_segmentation(segmentation: Segmentation, folder: Path, scan: sitk.Image) -> None:
    """Write a segmentation into a folder, which is there; `result.json` comes last.

    Args:
        segmentation: what to write.
        folder: where.
        scan: the scan that the reader has; the segmentation's own is only written if it is another object.

    Raises:
        OutputError: it cannot be written.
    """
    evidence, own_scan = segmentation.evidence, segmentation.image is not scan
    record = _Record(
        1,
        segmentation.sensitivity,
        segmentation.provenance,
        own_scan,
        segmentation.kinds,
        segmentation.patient_class,
        evidence.geometry if evidence else None,
        evidence.rules if evidence else None,
        evidence.base_factor if evidence else 1.0,
    )
    try:
        sitk.GetArrayViewFromImage(segmentation.labels).tofile(folder / LABELS)
        if evidence:
            evidence.liver.astype("<f2", copy=False).tofile(folder / LIVER)
            evidence.tumour.astype("<f2", copy=False).tofile(folder / TUMOURS)
        if own_scan:
            write_volume(segmentation.image, folder / SCAN)
        text = json.dumps(dataclasses.asdict(record), ensure_ascii=False)
        (folder / RECORD).write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise OutputError(f"result: wanted to write it for the panel, got: {error.strerror or error}") from error


def load_segmentation(folder: Path, scan: sitk.Image) -> Segmentation:
    """Read what `save_segmentation` wrote.

    Args:
        folder: where.
        scan: the scan as it was handed to `save_segmentation`.

    Returns:
        A segmentation whose labels, scan, evidence, provenance and sensitivity equal the saved one's.

    Raises:
        OutputError: something is missing, damaged, or does not fit the scan.
    """
    try:
        record: _Record = _parsed(_Record, json.loads((folder / RECORD).read_text(encoding="utf-8")), RECORD)
        check_sensitivity(record.sensitivity)
        check_sensitivity(record.base_factor)
        image = read_volume(folder / SCAN) if record.own_scan else scan
        array = _read_array(folder / LABELS, np.dtype(np.uint8), image.GetSize())
        if array.max() > TUMOUR:
            raise ValueError(f"{LABELS}: wanted labels up to {TUMOUR}, got {array.max()}")
        labels = sitk.GetImageFromArray(array)
        labels.CopyInformation(image)
        evidence = _read_evidence(folder, record)
        return Segmentation(
            labels, image, record.provenance, evidence, record.sensitivity, record.kinds, record.patient_class
        )
    except OSError as error:
        reason = error.strerror or str(error)
    except (LiverTumorSegError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
    raise OutputError(f"result: wanted the whole of what was written for the panel, got: {reason}")


def _read_evidence(folder: Path, record: _Record) -> Evidence | None:
    if record.geometry is None or record.rules is None:
        if record.geometry or record.rules:
            raise ValueError(f"{RECORD}: wanted both geometry and rules or none, got one of them")
        return None
    geometry = record.geometry
    if not (min(geometry.spacing_mm) > 0 and len(geometry.origin) == 3 and len(geometry.direction) == 9):
        raise ValueError(f"{RECORD}: wanted a grid in space, got {geometry}")
    kind = np.dtype("<f2")
    liver, tumour = (_read_array(folder / name, kind, geometry.size) for name in (LIVER, TUMOURS))
    for name, field in ((LIVER, liver), (TUMOURS, tumour)):
        if not np.isfinite(field).all():
            raise ValueError(f"{name}: wanted finite numbers, got others")
    liver, tumour = (field.astype(np.float16, copy=False) for field in (liver, tumour))
    return Evidence(liver, tumour, geometry, record.rules, record.base_factor)


def _read_array(path: Path, kind: np.dtype[Any], size: tuple[int, ...]) -> np.ndarray:
    """A (k, j, i) array; the length is compared first, so that no number in a file makes memory be asked for."""
    wanted = kind.itemsize * math.prod(size)
    got = path.stat().st_size
    if min(size) < 1 or got != wanted:
        raise ValueError(f"{path.name}: wanted {wanted} bytes for {size} voxels, got {got}")
    return np.fromfile(path, kind).reshape(size[::-1])


def _parsed(kind: Any, value: Any, where: str) -> Any:
    """Parsed JSON as the annotated type `kind`; `where` is told in errors."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        names = {field.name for field in dataclasses.fields(kind)}
        if not isinstance(value, dict) or value.keys() != names:
            raise ValueError(f"{where}: wanted the keys {', '.join(sorted(names))}, got {_excerpt(value)}")
        hints = typing.get_type_hints(kind)
        return typing.cast(type, kind)(**{key: _parsed(hints[key], each, key) for key, each in value.items()})
    if origin is types.UnionType:
        return None if value is None else _parsed(arguments[0], value, where)
    if origin is tuple and isinstance(value, list):
        kinds = (arguments[0],) * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) == len(value):
            return tuple(_parsed(each, item, where) for each, item in zip(kinds, value, strict=True))
    if origin is dict and isinstance(value, dict):
        return {key: _parsed(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if origin is Literal and value in arguments:
        return value
    if kind is object:
        return tuple(value) if isinstance(value, list) else value
    if kind is float and type(value) is int:
        return float(value)
    if isinstance(kind, type) and type(value) is kind:
        return value
    raise ValueError(f"{where}: wanted {kind}, got {_excerpt(value)}")


def _excerpt(value: Any) -> str:
    return repr(value)[:80]
