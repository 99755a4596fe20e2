"""Whole synthetic scans as files, on isotropic grids and on those that scanners have, and a sheet to look at them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from PIL import Image

from LiverTumorSegLib.__main__ import main
from LiverTumorSegLib.errors import LiverTumorSegError
from LiverTumorSegLib.output import write_nifti
from LiverTumorSegLib.training.synthesis import cases, generator
from LiverTumorSegLib.training.synthesis.anatomy import Anatomy, Tissue
from LiverTumorSegLib.training.synthesis.body import complete_body
from LiverTumorSegLib.training.synthesis.cases import acquired, draw_case, write_case
from LiverTumorSegLib.training.synthesis.fields import slice_centres
from LiverTumorSegLib.training.synthesis.generator import Field, Slices, SyntheticScan, synthetic_scan
from LiverTumorSegLib.training.synthesis.preview import contact_sheet
from LiverTumorSegLib.training.synthesis.procedural import procedural_organs

pytestmark = pytest.mark.usefixtures("one_thread")

LEFT_MM, BACK_MM, UP_MM = 10.0, -20.0, 15.0  # where the marked voxel lies from the field's middle


@pytest.fixture(scope="module")
def body() -> Anatomy:
    rng = np.random.default_rng(3)
    return complete_body(procedural_organs(rng), rng, tall=False)


@pytest.fixture
def marked(monkeypatch) -> list[bool]:
    """Instead of a body, scans of one bright block, in slices of 5 mm across each of the patient's axes in turn."""
    wanted: list[bool] = []

    def drawn(rng, modality, spacing_mm, labelmaps, as_measured):
        axis = len(wanted) % 3
        wanted.append(as_measured)
        shape, spacing = [61, 61, 61], [spacing_mm] * 3
        shape[axis], spacing[axis] = 31, 5.0
        volume = np.zeros(shape, np.float32)
        middle = [n // 2 + round(mm / s) for n, mm, s in zip(shape, (UP_MM, BACK_MM, LEFT_MM), spacing, strict=True)]
        volume[tuple(slice(m - 1, m + 2) for m in middle)] = 900
        return SyntheticScan(volume, (volume > 0).astype(np.uint8), "CT", spacing_mm, (), Slices(axis, 5.0))

    monkeypatch.setattr(cases, "_drawn", drawn)
    return wanted


def mark_mm(image: sitk.Image) -> np.ndarray:
    """Where the block's middle lies."""
    indices = np.argwhere(sitk.GetArrayFromImage(image) > 0).mean(0)[::-1]
    return np.array(image.TransformContinuousIndexToPhysicalPoint(indices.tolist()))


def test_a_case_is_written_as_two_nifti_files_on_one_grid(tmp_path):
    scan, labels = write_case(tmp_path, "case", 4, "CT", spacing_mm=4.0)
    image, truth = sitk.ReadImage(str(scan)), sitk.ReadImage(str(labels))
    assert image.GetSize() == truth.GetSize() == (100, 75, 65)
    assert image.GetSpacing() == (4.0, 4.0, 4.0)
    assert image.GetPixelID() == sitk.sitkInt16
    assert set(np.unique(sitk.GetArrayFromImage(truth))) <= {0, 1, 2}
    assert (sitk.GetArrayFromImage(truth) > 0).sum() * 64 / 1000 > 500  # ml: the whole liver is in the field


def test_a_case_that_is_broken_off_leaves_the_earlier_one_or_nothing(tmp_path, monkeypatch):
    def broken_off(image, path):
        if path.name == "case_labels.nii.gz":
            raise KeyboardInterrupt
        write_nifti(image, path)

    monkeypatch.setattr(cases, "write_nifti", broken_off)
    with pytest.raises(KeyboardInterrupt):
        write_case(tmp_path, "case", 4, "CT", spacing_mm=5.0)
    assert not list(tmp_path.iterdir())
    (tmp_path / "case.nii.gz").write_text("earlier")
    with pytest.raises(KeyboardInterrupt):
        write_case(tmp_path, "case", 4, "CT", spacing_mm=5.0)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"case.nii.gz": "earlier"}


def test_a_contact_sheet_has_a_line_for_each_scan_and_marks_liver_and_tumour(body):
    scans = [synthetic_scan(body, Field((24, 30, 40), 6.0, "organ", cut=0.0), np.random.default_rng(n)) for n in (1, 2)]
    sheet = contact_sheet(scans)
    assert sheet.dtype == np.uint8
    # Each line is as high as the highest of its slices (axial 30 rows) plus the gap of 4.
    assert sheet.shape == (2 * (30 + 4), 2 * (40 + 40 + 30) + 6 * 4, 3)
    coloured = (sheet.max(2).astype(int) - sheet.min(2)) > 60
    assert coloured.any()
    assert not coloured[:, :40].any()  # the first tile is plain


def test_a_spacing_that_makes_no_sense_is_refused(tmp_path):
    with pytest.raises(LiverTumorSegError, match=r"spacing: wanted 0.5 to 5 mm, got 0.01"):
        write_case(tmp_path, "case", 4, spacing_mm=0.01)


def test_a_drawn_case_has_the_lesions_that_it_names():
    scan = draw_case(12, "CT", 3.0)
    assert bool(scan.lesion_diameters_mm) == bool((scan.labels == 2).any())


def test_on_a_scanners_grid_everything_lies_where_it_lay_in_the_patient(marked):
    directions, in_plane, oblique = set(), [], 0
    for seed in range(24):
        image, labels = acquired(seed)
        (i, j, k), found = image.GetSpacing(), mark_mm(image)
        assert (i, k) == (j, 5.0)
        in_plane.append(i)
        wanted = np.array([LEFT_MM, BACK_MM, UP_MM])
        within = [2.5 if axis == 2 - seed % 3 else 1.1 * max(i, 1.0) for axis in range(3)]  # half a slice, or a voxel
        assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(wanted), abs=2.5)
        direction = np.array(image.GetDirection())
        if set(np.abs(direction)) == {0.0, 1.0}:
            assert (np.abs(found - wanted) <= within).all()
        else:
            oblique += 1
        assert np.allclose(mark_mm(labels), found, atol=1e-3 + i)
        assert labels.GetSize() == image.GetSize()
        directions.add(tuple(direction.round().astype(int)))
    assert all(marked)
    assert 0.5 <= min(in_plane) < 0.9 < 1.1 < max(in_plane) <= 1.5
    assert 5 < oblique < 19
    assert len(directions) > 12
    assert {round(float(np.linalg.det(np.reshape(each, (3, 3))))) for each in directions} == {-1, 1}  # mirrored, too


def test_thick_slices_are_left_as_measured_with_the_labels_of_their_middle(body):
    field = Field((40, 30, 40), 3.0, "organ", cut=0.0, as_measured=True)
    seen = set()
    for seed in range(12):
        scan = synthetic_scan(body, field, np.random.default_rng(seed), "MR")
        assert scan.volume.shape == scan.labels.shape
        seen.add(scan.slices is None)
        if scan.slices is None:
            assert scan.volume.shape == field.shape
        else:
            axis, apart_mm = scan.slices
            assert 3.6 < apart_mm <= 8.0
            shape = list(field.shape)
            shape[axis] = int(np.ceil(shape[axis] * 3.0 / apart_mm))
            assert scan.volume.shape == tuple(shape)
    assert seen == {True, False}


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.0, 3.0])
def test_in_thick_slices_a_lesion_between_two_middles_is_labelled(shift):
    # Slices of 8 mm on voxels of 1 mm have their middles at 4, 12, 20, ...; a ball of 6.4 mm fits between two.
    tissues = torch.full((40, 21, 21), int(Tissue.LIVER), dtype=torch.uint8)
    k, j, i = torch.meshgrid(*(torch.arange(n) + 0.5 for n in tissues.shape), indexing="ij")
    tissues[(k - 16 - shift) ** 2 + (j - 10.5) ** 2 + (i - 10.5) ** 2 < 3.2**2] = int(Tissue.LESION)
    assert (generator._in_slices(tissues, Slices(0, 8.0), 1.0) == Tissue.LESION).any()


def test_the_middle_of_a_slice_of_two_and_a_half_voxels_lies_in_one_of_them():
    # Slices end at 0, 2.5, 5, 7.5 and 10 voxels; their middles are at 1.25, 3.75, 6.25 and 8.75.
    assert slice_centres(10, 2.5) == [1, 3, 6, 8]
    # One voxel short: ten in slices of 4 begin at -1, and their middles are at 1, 5 and 9.
    assert slice_centres(10, 4.0) == [1, 5, 9]


def test_real_scans_are_shown_above_the_drawn_ones_and_isotropic(tmp_path, capsys):
    ramp = sitk.GetImageFromArray(np.tile(np.linspace(-100, 200, 60, dtype=np.int16), (10, 50, 1)))
    ramp.SetSpacing((4.0, 4.0, 16.0))
    sitk.WriteImage(ramp, str(tmp_path / "real.nii.gz"))
    told = ["synthesise", "-o", str(tmp_path / "out"), "--preview", "--spacing", "5", "--beside"]
    assert main([*told, str(tmp_path / "real.nii.gz")]) == 0
    sheet = np.asarray(Image.open(tmp_path / "out" / "preview.png")).astype(int)
    # The real scan's axial slice: 200 mm and 240 mm in voxels of 5 mm, brighter to the right, nothing outlined.
    tile = sheet[:40, :48]
    assert (np.diff(tile[20, :, 0]) >= 0).all()
    assert tile[20, -1, 0] - tile[20, 0, 0] > 150
    line = sheet[:44]  # with the gap below it
    assert sheet.shape[0] == 44 + 60 + 4  # and the drawn one's, 300 mm deep
    assert (tile[0] == tile[20]).all()  # nothing was put around it
    assert (line.max(2) == line.min(2)).all()
    assert "preview.png" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        (["--beside", "scan.nii.gz"], "--beside: wanted it with --preview"),
        (["--spacing", "0"], "spacing: wanted 0.5 to 5 mm, got 0"),
        (["--preview", "--spacing", "0.3", "--beside", "missing.nii.gz"], "spacing: wanted 0.5 to 5 mm, got 0.3"),
        (["--preview", "--acquired"], "--preview: wanted isotropic voxels, got --acquired"),
        (["--preview", "--beside", "missing.nii.gz"], "missing.nii.gz"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_one_line(told, wanted, tmp_path: Path, capsys):
    assert main(["synthesise", "-o", str(tmp_path / "out"), *told]) == 2
    printed = capsys.readouterr().err.strip()
    assert wanted in printed
    assert "\n" not in printed


def test_a_case_on_a_scanners_grid_is_written_by_the_command(tmp_path, marked):
    assert main(["synthesise", "-o", str(tmp_path), "--acquired", "--seed", "3"]) == 0
    image, truth = (sitk.ReadImage(str(tmp_path / f"case_0003{end}.nii.gz")) for end in ("", "_labels"))
    assert image.GetSpacing()[2] == pytest.approx(5.0)
    assert np.allclose(image.GetDirection(), truth.GetDirection(), atol=1e-5)
    assert np.allclose(mark_mm(image), mark_mm(truth), atol=1.5)
