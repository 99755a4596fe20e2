"""The files of one result: all of them are written, or none.

They are made in a private folder inside the target and moved out of it when the last one is complete; what an
earlier run left under the same names stays until then, and comes back if a move fails.
"""

from __future__ import annotations

import csv
import dataclasses
import errno
import json
import os
import shutil
import struct
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .errors import OutputError, is_unicode, warn
from .lesions import Lesion, has_types
from .nifti import fastest_zlib
from .segmentation import SEGMENTS, Segmentation, SegmentStyle

SEG_NRRD, NIFTI, TABLE, PAGE, REPORT = (
    "segmentation.seg.nrrd",
    "segmentation.nii.gz",
    "lesions.csv",
    "report.html",
    "report.json",
)
# In the order in which they appear: whoever waits for the report finds the rest.
FILES = (SEG_NRRD, NIFTI, TABLE, PAGE, REPORT)
SCHEMA_VERSION = 1

_COMPRESSION_LEVEL = 1  # a nearly empty label map shrinks 250 times in 6 ms; level 3 takes fifteen times as long
_NIFTI_SIZES = 42  # where the header has the three sizes, as 16-bit integers


def check_writable(directory: Path) -> None:
    """Make sure, before the long work, that results can be written; nothing is left behind or created.

    Raises:
        OutputError: the folder, or the nearest one above it that exists, is a file or may not be written to, a folder
            stands where a file is to go, or its name is no valid Unicode.
    """
    directory = Path(directory)
    if not is_unicode(directory.absolute()):
        raise OutputError(f"wanted a folder with a name in valid Unicode, got {str(directory)!a}")
    existing = directory.absolute()
    try:
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
        if not existing.is_dir():
            raise OutputError(f"{directory}: wanted a folder for the results, got a file at {existing}")
        for name in FILES:
            if (directory / name).is_dir():
                raise OutputError(f"{directory / name}: wanted to write a file there, got a folder")
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise OutputError(f"{directory}: wanted a folder that can be written to, got: {_reason(error)}") from error


def write_results(segmentation: Segmentation, directory: Path, html: bool = True) -> list[Path]:
    """Write label maps, lesion table and reports into a folder, which is made when it does not exist.

    Our own files of an earlier run are replaced (and a page that would not belong to this result is removed);
    other files stay untouched. When anything goes wrong, an interrupt included, the folder is as it was.

    Args:
        segmentation: what to write.
        directory: where.
        html: also `report.html`, which needs the extra `report`; without it, a warning and no page.

    Returns:
        The files, in the order of `FILES`.

    Raises:
        OutputError: the folder cannot be written to, or the disk is full.
    """
    directory = Path(directory)
    check_writable(directory)
    try:
        with aside(directory) as folder:
            fresh, earlier = folder / "fresh", folder / "earlier"
            fresh.mkdir()
            earlier.mkdir()
            _write_all(segmentation, fresh, html)
            return publish(fresh, earlier, directory)
    except OSError as error:
        raise OutputError(f"{directory}: wanted to write the results, got: {_reason(error)}") from error


def write_seg_nrrd(
    labels: sitk.Image,
    path: Path,
    segments: Sequence[SegmentStyle] = SEGMENTS,
    algorithm_name: str = "LiverTumorSeg",
    algorithm_types: Mapping[int, str] | None = None,
) -> None:
    """Write a label map as a Slicer segmentation: one layer shared by all segments, on the labels' own grid.

    The segments are tagged as made by an algorithm, which DICOM SEG wants to know, and as not yet looked at.
    Metadata of the image, which may name a patient, is left out.

    Args:
        labels: uint8.
        path: ends in `.seg.nrrd`.
        segments: the segments to list, also those without a voxel.
        algorithm_name: the tag `DICOM.SegmentAlgorithmName`.
        algorithm_types: label -> SEMIAUTOMATIC or MANUAL where a person has edited, which also marks the segment as
            completed; by default AUTOMATIC.

    Raises:
        OutputError: the file cannot be written.
    """
    _check_type(labels)
    fields = _segmentation_fields(labels, segments, algorithm_name, algorithm_types or {})
    header = _itk_header(labels, ".nrrd", fields).decode("utf-8")
    sizes = " ".join(str(size) for size in labels.GetSize())
    header = header.replace("\nsizes: 1 1 1\n", f"\nsizes: {sizes}\n").replace(
        "\nencoding: raw\n", "\nencoding: gzip\n"
    )
    _write_compressed(labels, path, plain=header.encode("utf-8"))


def write_nifti(image: sitk.Image, path: Path) -> None:
    """Write a label map or a scan as NIfTI; its metadata, which may name a patient, is left out.

    Args:
        image: 3D, one number a voxel.
        path: ends in `.nii.gz`.

    Raises:
        OutputError: the file cannot be written; ITK's own writer says nothing when the disk is full.
    """
    header = bytearray(_itk_header(image, ".nii", {}))
    struct.pack_into("<3h", header, _NIFTI_SIZES, *image.GetSize())
    _write_compressed(image, path, packed=bytes(header))


def lesion_columns(lesion: Lesion, typed: bool = False) -> dict[str, str | int | float | None]:
    """A lesion as a row of `lesions.csv`: column -> value; intensities are in HU for CT; its type where asked for."""
    right, anterior, superior = lesion.centroid_ras_mm
    row: dict[str, str | int | float | None] = {
        "id": lesion.id,
        "voxels": lesion.voxels,
        "volume_ml": lesion.volume_ml,
        "long_axis_mm": lesion.long_axis_mm,
        "axial_long_axis_mm": lesion.axial_long_axis_mm,
        "axial_perpendicular_mm": lesion.axial_perpendicular_mm,
        "axial_slice": lesion.axial_slice,
        "centroid_r_mm": right,
        "centroid_a_mm": anterior,
        "centroid_s_mm": superior,
        "mean_intensity": lesion.mean_intensity,
        "mean_probability": lesion.mean_probability,
    }
    if typed:
        row |= {"type": lesion.type, "type_score": lesion.type_score}
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}


def report_json(segmentation: Segmentation) -> str:
    """The contents of `report.json`: measurements, lesions and provenance."""
    typed = has_types(segmentation.lesions)
    document: dict[str, object] = {
        "schema_version": SCHEMA_VERSION,
        "intended_use": "research only; not a medical device",
        "liver_ml": segmentation.liver_ml,
        "tumour_ml": segmentation.tumour_ml,
        "burden_percent": segmentation.burden_percent,
        "sensitivity": segmentation.sensitivity,
        "lesions": [_told(lesion, typed) for lesion in segmentation.lesions],
        "provenance": dataclasses.asdict(segmentation.provenance),
    }
    if segmentation.patient_class:
        document["patient_class"] = segmentation.patient_class
    return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _told(lesion: Lesion, typed: bool) -> dict[str, object]:
    """All that is known of a lesion, for JSON."""
    return {key: value for key, value in dataclasses.asdict(lesion).items() if typed or not key.startswith("type")}


@contextmanager
def aside(directory: Path) -> Iterator[Path]:
    """A private folder inside `directory`, gone afterwards; `directory` too if it was made for nothing."""
    made = [folder for folder in (directory, *directory.parents) if not folder.exists()]
    folder = None
    try:
        directory.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".livertumorseg-", dir=directory))
        yield folder
        shutil.rmtree(folder, ignore_errors=True)
    except BaseException:  # also an interrupt of that very clearing
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        for each in made:
            if each.is_dir() and not any(each.iterdir()):
                each.rmdir()
        raise


def _write_all(segmentation: Segmentation, folder: Path, html: bool) -> None:
    """Every file; label maps while another process draws the page's 3D picture."""

    def write_labels() -> None:
        write_nifti(segmentation.labels, folder / NIFTI)
        write_seg_nrrd(segmentation.labels, folder / SEG_NRRD, SEGMENTS, segmentation.provenance.algorithm)

    missing = missing_for_page() if html else []
    if missing:
        warn(f"no {PAGE}: {' and '.join(missing)} not installed; pip install 'LiverTumorSegLib[report]'")
    if html and not missing:
        from .report import write_html

        write_html(segmentation, folder / PAGE, meanwhile=write_labels)
    else:
        write_labels()
    write_lesions(segmentation.lesions, folder / TABLE)
    (folder / REPORT).write_text(report_json(segmentation), encoding="utf-8", newline="\n")


def write_lesions(lesions: Sequence[Lesion], path: Path) -> None:
    """Write the lesions as `lesions.csv`, a line each; with their types where any has one."""
    typed = has_types(lesions)
    columns = list(lesion_columns(Lesion(0, 0, 0.0, 0.0, 0.0, 0.0, 0, (0.0, 0.0, 0.0)), typed))
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, columns, lineterminator="\n")
        table.writeheader()
        table.writerows(lesion_columns(lesion, typed) for lesion in lesions)


def missing_for_page() -> list[str]:
    """The packages that the page needs and that are not installed."""
    return [name for module, name in (("jinja2", "Jinja2"), ("PIL", "Pillow")) if find_spec(module) is None]


def publish(fresh: Path, earlier: Path, directory: Path, files: Sequence[str] = FILES) -> list[Path]:
    """Swap the earlier files for the fresh ones; on any failure swap back.

    Args:
        fresh: where the new files are.
        earlier: where those that they replace go.
        directory: where they are to be, on the same disk.
        files: all that belong together; one that is not among the fresh ones is taken away.

    Returns:
        The new files in their place, in the order of `files`.
    """
    names = [name for name in files if (fresh / name).exists()]
    try:
        for name in files:
            if (directory / name).exists():
                os.replace(directory / name, earlier / name)
            if name in names:
                os.replace(fresh / name, directory / name)
    except BaseException:
        # Asks the disk, not a list: an interrupt may fall between a move and the note of it.
        for name in files:
            if name in names and not (fresh / name).exists():
                os.replace(directory / name, fresh / name)
            if (earlier / name).exists():
                os.replace(earlier / name, directory / name)
        raise
    return [directory / name for name in names]


def _segmentation_fields(
    labels: sitk.Image, segments: Sequence[SegmentStyle], algorithm_name: str, algorithm_types: Mapping[int, str]
) -> dict[str, str]:
    """Slicer's custom fields of a `.seg.nrrd` file, as vtkMRMLSegmentationStorageNode reads them."""
    fields = {
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_ConversionParameters": "",
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
    }
    extent = " ".join(f"0 {size - 1}" for size in labels.GetSize())
    edited = {label for label, kind in algorithm_types.items() if kind != "AUTOMATIC"}
    for number, segment in enumerate(segments):
        tags = {
            "DICOM.SegmentAlgorithmName": algorithm_name.replace("|", " "),
            "DICOM.SegmentAlgorithmType": algorithm_types.get(segment.label, "AUTOMATIC"),
            "Segmentation.Status": "completed" if segment.label in edited else "notstarted",
            "TerminologyEntry": segment.terminology,
        }
        of_segment = {
            "ID": segment.name,
            "Name": segment.name,
            "NameAutoGenerated": "0",
            "Color": " ".join(f"{part:g}" for part in segment.colour),
            "ColorAutoGenerated": "0",
            "Extent": extent,
            "LabelValue": str(segment.label),
            "Layer": "0",
            "Tags": "".join(f"{key}:{value}|" for key, value in tags.items()),
        }
        fields.update({f"Segment{number}_{key}": value for key, value in of_segment.items()})
    return fields


def _check_type(labels: sitk.Image) -> None:
    if labels.GetPixelID() != sitk.sitkUInt8:
        raise ValueError(f"labels: wanted 8-bit unsigned integers, got {labels.GetPixelIDTypeAsString()}")


def _itk_header(image: sitk.Image, kind: str, fields: Mapping[str, str]) -> bytes:
    """What ITK writes before the voxels of an image, but for the sizes: those are 1, 1 and 1.

    Args:
        image: for geometry and type alone; its metadata, which may name a patient, is left out.
        kind: ".nii" or ".nrrd".
        fields: metadata to write.
    """
    single = sitk.Image(1, 1, 1, image.GetPixelID())
    single.SetSpacing(image.GetSpacing())
    single.SetOrigin(image.GetOrigin())
    single.SetDirection(image.GetDirection())
    for key, value in fields.items():
        single.SetMetaData(key, value)
    with tempfile.TemporaryDirectory(prefix="LiverTumorSeg-") as folder:
        path = Path(folder, f"header{kind}")
        try:
            sitk.WriteImage(single, str(path))
        except RuntimeError as error:  # the only type SimpleITK raises
            detail = " ".join(str(error).split())[-160:]
            raise OutputError(f"{folder}: wanted to write there, got (is the disk full?): ...{detail}") from error
        return path.read_bytes()[: -image.GetSizeOfPixelComponent()]


def _write_compressed(image: sitk.Image, path: Path, plain: bytes = b"", packed: bytes = b"") -> None:
    """Write a header as it is; then, in gzip, another one and the voxels: ITK's own way takes ten times as long.

    An earlier file of that name stays until the new one is whole.
    """
    part = path.with_name(f".{path.name}.part")
    packer = fastest_zlib().compressobj(_COMPRESSION_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    voxels = np.ascontiguousarray(sitk.GetArrayViewFromImage(image))
    try:
        with part.open("wb") as file:
            file.write(plain)
            for piece in (packed, voxels.reshape(-1)):
                file.write(packer.compress(piece))
            file.write(packer.flush())
        os.replace(part, path)
    except OSError as error:
        with suppress(OSError):  # what is told is why it could not be written
            part.unlink()
        raise OutputError(f"{path}: wanted to write the voxels, got: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    return "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
