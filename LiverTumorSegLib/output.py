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
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import SimpleITK as sitk

from .errors import OutputError, warn
from .lesions import Lesion
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

# On a 512 x 512 x 200 label map level 1 is no faster and leaves three times the bytes; 6 takes three times as long.
_COMPRESSION_LEVEL = 3
_NIFTI_HEADER_BYTES = 352


def check_writable(directory: Path) -> None:
    """Make sure, before the long work, that results can be written; nothing is left behind or created.

    Raises:
        OutputError: the folder, or the nearest one above it that exists, is a file or may not be written to, or
            a folder stands where a file is to go.
    """
    directory = Path(directory)
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
        with _aside(directory) as aside:
            fresh, earlier = aside / "fresh", aside / "earlier"
            fresh.mkdir()
            earlier.mkdir()
            _write_all(segmentation, fresh, html)
            return _publish(fresh, earlier, directory)
    except OSError as error:
        raise OutputError(f"{directory}: wanted to write the results, got: {_reason(error)}") from error


def write_seg_nrrd(
    labels: sitk.Image,
    path: Path,
    segments: Sequence[SegmentStyle] = SEGMENTS,
    algorithm_name: str = "LiverTumorSeg",
) -> None:
    """Write a label map as a Slicer segmentation: one layer shared by all segments, on the labels' own grid.

    The segments are tagged as made by an algorithm, which DICOM SEG wants to know, and as not yet looked at.
    Metadata of the image, which may name a patient, is left out.

    Args:
        labels: uint8.
        path: ends in `.seg.nrrd`.
        segments: the segments to list, also those without a voxel.
        algorithm_name: the tag `DICOM.SegmentAlgorithmName`.

    Raises:
        OutputError: the file cannot be written.
    """
    _write_compressed(_shared_layer(labels, segments, algorithm_name), path)


def lesion_columns(lesion: Lesion) -> dict[str, str | int | float | None]:
    """A lesion as a row of `lesions.csv`: column -> value; intensities are in HU for CT."""
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
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}


def report_json(segmentation: Segmentation) -> str:
    """The contents of `report.json`: measurements, lesions and provenance."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "intended_use": "research only; not a medical device",
        "liver_ml": segmentation.liver_ml,
        "tumour_ml": segmentation.tumour_ml,
        "burden_percent": segmentation.burden_percent,
        "sensitivity": segmentation.sensitivity,
        "lesions": [dataclasses.asdict(lesion) for lesion in segmentation.lesions],
        "provenance": dataclasses.asdict(segmentation.provenance),
    }
    return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


@contextmanager
def _aside(directory: Path) -> Iterator[Path]:
    """A private folder inside `directory`, gone afterwards; `directory` too if it was made for nothing."""
    made = [folder for folder in (directory, *directory.parents) if not folder.exists()]
    folder = None
    try:
        directory.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".livertumorseg-", dir=directory))
        yield folder
    except BaseException:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        for each in made:
            if each.is_dir() and not any(each.iterdir()):
                each.rmdir()
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _write_all(segmentation: Segmentation, folder: Path, html: bool) -> None:
    algorithm = segmentation.provenance.algorithm
    labels, lesions = segmentation.labels, segmentation.lesions
    with ThreadPoolExecutor(2) as pool:  # SimpleITK lets other threads run while it writes
        # Each thread gets an image of its own, copied here: ITK notes requests in the images that it reads.
        nifti = _without_metadata(labels)
        writing = [pool.submit(_write_compressed, nifti, folder / NIFTI, _NIFTI_HEADER_BYTES)]
        layer = _shared_layer(labels, SEGMENTS, algorithm)
        writing.append(pool.submit(_write_compressed, layer, folder / SEG_NRRD))
        _write_table(lesions, folder / TABLE)
        if html:
            _write_page(segmentation, folder / PAGE)
        (folder / REPORT).write_text(report_json(segmentation), encoding="utf-8", newline="\n")
        for each in writing:
            each.result()


def _write_table(lesions: Sequence[Lesion], path: Path) -> None:
    columns = list(lesion_columns(Lesion(0, 0, 0.0, 0.0, 0.0, 0.0, 0, (0.0, 0.0, 0.0))))
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, columns, lineterminator="\n")
        table.writeheader()
        table.writerows(lesion_columns(lesion) for lesion in lesions)


def _write_page(segmentation: Segmentation, path: Path) -> None:
    missing = [name for module, name in (("jinja2", "Jinja2"), ("PIL", "Pillow")) if find_spec(module) is None]
    if missing:
        warn(f"no {PAGE}: {' and '.join(missing)} not installed; pip install 'LiverTumorSegLib[report]'")
        return
    from .report import write_html

    write_html(segmentation, path)


def _publish(fresh: Path, earlier: Path, directory: Path) -> list[Path]:
    """Swap the earlier files for the fresh ones; on any failure swap back."""
    names = [name for name in FILES if (fresh / name).exists()]
    try:
        for name in FILES:
            if (directory / name).exists():
                os.replace(directory / name, earlier / name)
            if name in names:
                os.replace(fresh / name, directory / name)
    except BaseException:
        # Asks the disk, not a list: an interrupt may fall between a move and the note of it.
        for name in FILES:
            if name in names and not (fresh / name).exists():
                os.replace(directory / name, fresh / name)
            if (earlier / name).exists():
                os.replace(earlier / name, directory / name)
        raise
    return [directory / name for name in names]


def _shared_layer(labels: sitk.Image, segments: Sequence[SegmentStyle], algorithm_name: str) -> sitk.Image:
    layer = _without_metadata(labels)
    for key, value in _segmentation_fields(labels, segments, algorithm_name).items():
        layer.SetMetaData(key, value)
    return layer


def _segmentation_fields(labels: sitk.Image, segments: Sequence[SegmentStyle], algorithm_name: str) -> dict[str, str]:
    """Slicer's custom fields of a `.seg.nrrd` file, as vtkMRMLSegmentationStorageNode reads them."""
    fields = {
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_ConversionParameters": "",
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
    }
    extent = " ".join(f"0 {size - 1}" for size in labels.GetSize())
    for number, segment in enumerate(segments):
        tags = {
            "DICOM.SegmentAlgorithmName": algorithm_name.replace("|", " "),
            "DICOM.SegmentAlgorithmType": "AUTOMATIC",
            "Segmentation.Status": "notstarted",
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


def _without_metadata(labels: sitk.Image) -> sitk.Image:
    if labels.GetPixelID() != sitk.sitkUInt8:
        raise ValueError(f"labels: wanted 8-bit unsigned integers, got {labels.GetPixelIDTypeAsString()}")
    # Assigning or copying a sitk.Image shares its metadata, where erasing and adding would show.
    return sitk.RegionOfInterest(labels, labels.GetSize(), (0, 0, 0))


def _write_compressed(labels: sitk.Image, path: Path, header_bytes: int = 0) -> None:
    try:
        sitk.WriteImage(labels, str(path), useCompression=True, compressionLevel=_COMPRESSION_LEVEL)
    except RuntimeError as error:
        if not os.access(path.parent, os.W_OK):
            raise OutputError(f"{path}: wanted a folder that can be written to, got none") from error
        detail = " ".join(str(error).split())[-160:]
        raise OutputError(f"{path}: wanted to write the labels, got (is the disk full?): ...{detail}") from error
    # ITK's NIfTI writer says nothing when the disk is full. The last four bytes of gzip tell the length of it all.
    wanted = (labels.GetNumberOfPixels() + header_bytes) % 2**32
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4))
        got = int.from_bytes(file.read(4), "little")
    if got != wanted:
        raise OutputError(f"{path.name}: wanted {wanted} bytes of labels, got a cut-off file; is the disk full?")


def _reason(error: OSError) -> str:
    return "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
