"""Whole synthetic scans as files: for the demo, for tests, for sample data."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ...errors import LiverTumorSegError, OutputError
from ...output import aside, publish, write_nifti
from .anatomy import SPACING_MM, labelmap_files, organs_from_labelmap
from .appearance import Modality
from .body import complete_body
from .generator import Field, SyntheticScan, synthetic_scan
from .preview import real_scan, write_contact_sheet
from .procedural import procedural_organs

FIELD_MM = (260.0, 300.0, 400.0)
"""Height, depth and width of a case's field of view, (k, j, i)."""

_IN_PLANE_MM = (0.5, 1.5)
_FINEST_MM = 1.0  # that is drawn: bodies have voxels of 2 mm; what is finer is interpolated


def write_case(
    folder: Path,
    name: str,
    seed: int,
    modality: Modality | None = None,
    spacing_mm: float | None = SPACING_MM,
    labelmaps: Path | None = None,
) -> tuple[Path, Path]:
    """Draw one scan and write `<name>.nii.gz` and `<name>_labels.nii.gz` into `folder`: both or, on any error, none.

    Args:
        folder: exists.
        name: of the files.
        seed: all chance; the same seed gives the same scan.
        modality: "CT", "MR", or None to draw it.
        spacing_mm: of the isotropic voxels, 0.5 to 5; None for a grid as scanners have, see `acquired`.
        labelmaps: a folder of label maps to take the organs from instead of formulas.

    Raises:
        LiverTumorSegError: spacing out of range, a label map cannot be read, or the files cannot be written.
    """
    if spacing_mm is None:
        images = acquired(seed, modality, labelmaps)
    else:
        images = _centred(draw_case(seed, modality, spacing_mm, labelmaps))
    files = [f"{name}.nii.gz", f"{name}_labels.nii.gz"]
    try:
        with aside(folder) as private:
            fresh, earlier = private / "fresh", private / "earlier"
            fresh.mkdir()
            earlier.mkdir()
            for file, image in zip(files, images, strict=True):
                write_nifti(image, fresh / file)
            grey, truth = publish(fresh, earlier, folder, files)
    except OSError as error:
        raise OutputError(f"{folder}: wanted to write the scan, got: {error.strerror or error}") from error
    return grey, truth


def write_preview(
    folder: Path,
    seeds: Iterable[int],
    modality: Modality | None = None,
    spacing_mm: float = SPACING_MM,
    labelmaps: Path | None = None,
    beside: Iterable[Path] = (),
) -> Path:
    """Draw the scans of these seeds and write `preview.png`, a contact sheet of them, into `folder`.

    Args:
        folder: exists.
        seeds: a scan each.
        modality: see `write_case`.
        spacing_mm: see `write_case`.
        labelmaps: see `write_case`.
        beside: real scans, shown above the drawn ones.

    Raises:
        LiverTumorSegError: spacing out of range, or a scan or label map cannot be read.
    """
    _check_spacing(spacing_mm)
    path = folder / "preview.png"
    real = (real_scan(each, spacing_mm) for each in beside)
    drawn = (draw_case(seed, modality, spacing_mm, labelmaps) for seed in seeds)
    write_contact_sheet(chain(real, drawn), path)  # one at a time: each takes room
    return path


def draw_case(
    seed: int, modality: Modality | None = None, spacing_mm: float = SPACING_MM, labelmaps: Path | None = None
) -> SyntheticScan:
    """The scan itself on an isotropic grid; see `write_case`."""
    _check_spacing(spacing_mm)
    return _drawn(np.random.default_rng(seed), modality, spacing_mm, labelmaps, as_measured=False)


def _check_spacing(spacing_mm: float) -> None:
    if not 0.5 <= spacing_mm <= 5:
        raise LiverTumorSegError(f"spacing: wanted 0.5 to 5 mm, got {spacing_mm}")


def acquired(
    seed: int, modality: Modality | None = None, labelmaps: Path | None = None
) -> tuple[sitk.Image, sitk.Image]:
    """A scan and its labels on a grid as scanners have.

    It has 0.5 to 1.5 mm in plane, slices of up to 8 mm as they were measured, across any of the patient's axes, its
    own axes in any order and direction; half of the scans are oblique.

    Args:
        seed: all chance.
        modality: see `write_case`.
        labelmaps: see `write_case`.

    Raises:
        LiverTumorSegError: a label map cannot be read.
    """
    rng = np.random.default_rng([seed, 1])
    in_plane_mm = float(rng.uniform(*_IN_PLANE_MM))
    scan = _drawn(rng, modality, max(in_plane_mm, _FINEST_MM), labelmaps, as_measured=True)
    axis, apart_mm = scan.slices or (0, scan.spacing_mm)
    # The patient's axes that the image's (i, j, k) follow, the slices' last, each in one of its two directions.
    order, signs = [2 - n for n in range(3) if n != axis], rng.choice((-1, 1), 3)
    order = [*order[:: int(rng.choice((-1, 1)))], 2 - axis]
    direction = _oblique(rng) @ (np.eye(3)[:, order] * signs)
    spacing_mm = (scan.spacing_mm, scan.spacing_mm, apart_mm)
    images = []
    for array in (scan.volume.round().astype(np.int16), scan.labels):
        turned = array.transpose([2 - n for n in order[::-1]])[tuple(slice(None, None, sign) for sign in signs[::-1])]
        image = _placed(turned, spacing_mm, direction)
        images.append(_finer(image, in_plane_mm, is_labels=array is scan.labels))
    return images[0], images[1]


def _placed(array: np.ndarray, spacing_mm: tuple[float, float, float], direction: np.ndarray) -> sitk.Image:
    """An image around the scanner's middle."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    image.SetSpacing(spacing_mm)
    image.SetDirection(direction.ravel().tolist())
    middle = np.array(spacing_mm) * (np.array(image.GetSize()) - 1) / 2
    image.SetOrigin((-direction @ middle).tolist())
    return image


def _oblique(rng: np.random.Generator) -> np.ndarray:
    """A turn of a few degrees, or none."""
    if rng.random() < 0.5:
        return np.eye(3)
    turn = sitk.Euler3DTransform()
    turn.SetRotation(*(float(np.deg2rad(degrees)) for degrees in rng.normal(0, 8, 3)))
    return np.array(turn.GetMatrix()).reshape(3, 3)


def _finer(image: sitk.Image, in_plane_mm: float, is_labels: bool) -> sitk.Image:
    """The image with such voxels in its slices, over the same field of view."""
    own = image.GetSpacing()
    if in_plane_mm >= own[0]:
        return image
    spacing_mm = (in_plane_mm, in_plane_mm, own[2])
    size = [round(n * mm / new) for n, mm, new in zip(image.GetSize(), own, spacing_mm, strict=True)]
    corner = [(new / mm - 1) / 2 for mm, new in zip(own, spacing_mm, strict=True)]
    origin = image.TransformContinuousIndexToPhysicalPoint(corner)
    interpolator = sitk.sitkNearestNeighbor if is_labels else sitk.sitkLinear
    at_the_edge = sitk.ResampleImageFilter()
    at_the_edge.SetInterpolator(interpolator)
    at_the_edge.SetSize(size)
    at_the_edge.SetOutputOrigin(origin)
    at_the_edge.SetOutputSpacing(spacing_mm)
    at_the_edge.SetOutputDirection(image.GetDirection())
    at_the_edge.UseNearestNeighborExtrapolatorOn()
    return at_the_edge.Execute(image)


def _centred(scan: SyntheticScan) -> tuple[sitk.Image, sitk.Image]:
    """A scan on an isotropic grid, and its labels, around the scanner's middle."""
    images = [sitk.GetImageFromArray(array) for array in (scan.volume.round().astype(np.int16), scan.labels)]
    for image in images:
        image.SetSpacing([scan.spacing_mm] * 3)
        image.SetOrigin([-n * scan.spacing_mm / 2 for n in image.GetSize()])
    return images[0], images[1]


def _drawn(
    rng: np.random.Generator, modality: Modality | None, spacing_mm: float, labelmaps: Path | None, as_measured: bool
) -> SyntheticScan:
    if labelmaps is None:
        organs = procedural_organs(rng)
    else:
        sources = labelmap_files(labelmaps)
        organs = organs_from_labelmap(*sources[int(rng.integers(len(sources)))])
    k, j, i = (round(mm / spacing_mm) for mm in FIELD_MM)
    field = Field((k, j, i), spacing_mm, centre="organ", cut=0.0, as_measured=as_measured)
    return synthetic_scan(complete_body(organs, rng, tall=False), field, rng, modality)
