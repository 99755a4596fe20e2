"""Whole synthetic scans as files: for the demo, for tests, for sample data."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ...errors import LiverTumorSegError, OutputError
from ...output import aside, publish, write_nifti
from .anatomy import SPACING_MM, labelmap_files, organs_from_labelmap
from .appearance import Modality
from .body import complete_body
from .generator import Field, SyntheticScan, synthetic_scan
from .preview import write_contact_sheet
from .procedural import procedural_organs

FIELD_MM = (260.0, 300.0, 400.0)
"""Height, depth and width of a case's field of view, (k, j, i)."""


def write_case(
    folder: Path,
    name: str,
    seed: int,
    modality: Modality | None = None,
    spacing_mm: float = SPACING_MM,
    labelmaps: Path | None = None,
) -> tuple[Path, Path]:
    """Draw one scan and write `<name>.nii.gz` and `<name>_labels.nii.gz` into `folder`: both or, on any error, none.

    Args:
        folder: exists.
        name: of the files.
        seed: all chance; the same seed gives the same scan.
        modality: "CT", "MR", or None to draw it.
        spacing_mm: of the isotropic voxels, 0.5 to 5.
        labelmaps: a folder of label maps to take the organs from instead of formulas.

    Raises:
        LiverTumorSegError: spacing out of range, a label map cannot be read, or the files cannot be written.
    """
    scan = draw_case(seed, modality, spacing_mm, labelmaps)
    arrays = {f"{name}.nii.gz": scan.volume.round().astype(np.int16), f"{name}_labels.nii.gz": scan.labels}
    try:
        with aside(folder) as private:
            fresh, earlier = private / "fresh", private / "earlier"
            fresh.mkdir()
            earlier.mkdir()
            for file, array in arrays.items():
                image = sitk.GetImageFromArray(array)
                image.SetSpacing([spacing_mm] * 3)
                image.SetOrigin([-n * spacing_mm / 2 for n in array.shape[::-1]])
                write_nifti(image, fresh / file)
            grey, truth = publish(fresh, earlier, folder, [*arrays])
    except OSError as error:
        raise OutputError(f"{folder}: wanted to write the scan, got: {error.strerror or error}") from error
    return grey, truth


def write_preview(
    folder: Path,
    seeds: Iterable[int],
    modality: Modality | None = None,
    spacing_mm: float = SPACING_MM,
    labelmaps: Path | None = None,
) -> Path:
    """Draw the scans of these seeds and write `preview.png`, a contact sheet of them, into `folder`."""
    path = folder / "preview.png"
    write_contact_sheet((draw_case(seed, modality, spacing_mm, labelmaps) for seed in seeds), path)
    return path


def draw_case(
    seed: int, modality: Modality | None = None, spacing_mm: float = SPACING_MM, labelmaps: Path | None = None
) -> SyntheticScan:
    """The scan itself; see `write_case`."""
    if not 0.5 <= spacing_mm <= 5:
        raise LiverTumorSegError(f"spacing: wanted 0.5 to 5 mm, got {spacing_mm}")
    rng = np.random.default_rng(seed)
    if labelmaps is None:
        organs = procedural_organs(rng)
    else:
        sources = labelmap_files(labelmaps)
        organs = organs_from_labelmap(*sources[int(rng.integers(len(sources)))])
    k, j, i = (round(mm / spacing_mm) for mm in FIELD_MM)
    field = Field((k, j, i), spacing_mm, centre="organ", cut=0.0)
    return synthetic_scan(complete_body(organs, rng, tall=False), field, rng, modality)
