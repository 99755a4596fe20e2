"""The shipped bundle on real scans: evaluation only, nothing is trained or tuned on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from LiverTumorSegLib import Segmenter, read_image
from LiverTumorSegLib.errors import LiverTumorSegWarning, SeriesChoiceError
from LiverTumorSegLib.evaluation.metrics import dice

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def segmenter(repository) -> Segmenter:
    if not (repository / "Resources" / "Bundles" / "default").is_dir():
        pytest.skip("needs the default bundle")
    return Segmenter("default", device="cpu")


@pytest.mark.parametrize(
    ("case", "labels"),
    [("chaos_ct03", "liver.nii.gz"), ("ircad07", "liver_tumour.nii.gz"), ("ircad17", "liver_tumour.nii.gz")],
)
def test_the_liver_of_a_real_ct_is_found_with_a_dice_of_at_least_080(case, labels, segmenter, real_data):
    image = read_image(real_data / case / "ct.nii.gz")
    result = segmenter(image)
    truth = sitk.GetArrayFromImage(sitk.ReadImage(str(real_data / case / labels))) > 0
    assert result.provenance.modality == "CT"
    assert dice(truth, sitk.GetArrayFromImage(result.labels) > 0) >= 0.80


def test_a_dicom_folder_of_a_patient_with_metastases_gives_a_liver_of_a_person_s_size(segmenter, real_data):
    image = read_image(real_data / "crlm_1004" / "DICOM")
    result = segmenter(image)
    assert result.labels.GetSize() == (512, 512, 41)
    assert 800 < result.liver_ml < 3500


@pytest.mark.parametrize("phase", ["precontrast", "arterial", "portal"])
def test_every_contrast_phase_gives_a_liver(phase, segmenter, real_data):
    result = segmenter(read_image(real_data / "hcc_005_multiphase" / f"ct_{phase}.nii.gz"))
    assert 600 < result.liver_ml < 4000


def test_three_slices_of_a_liver_are_segmented(segmenter, real_data):
    folder = real_data / "dcmqi_ct3slice"
    with pytest.warns(LiverTumorSegWarning):
        result = segmenter(read_image(folder / "ct.nii.gz"))
    assert result.labels.GetSize()[2] == 3
    assert set(np.unique(sitk.GetArrayFromImage(result.labels))) <= {0, 1, 2}


def test_mr_is_told_from_ct_and_its_liver_is_found_at_its_place(segmenter, real_data):
    scan = sorted((real_data / "chaos_mr_t2spir").glob("mr_??.nii.gz"))[0]
    result = segmenter(read_image(scan))
    assert result.provenance.modality == "MR"
    organs = sitk.GetArrayFromImage(sitk.ReadImage(str(scan.with_name(scan.name.replace(".nii", "_organs.nii")))))
    assert dice(organs == 1, sitk.GetArrayFromImage(result.labels) > 0) > 0.5


def test_a_folder_with_other_objects_beside_the_series_is_read(segmenter, real_data, tmp_path):
    try:
        image = read_image(real_data / "dcmqi_ct3slice" / "DICOM")
    except SeriesChoiceError as error:
        pytest.fail(f"one CT series, but: {error}")
    assert image.GetSize() == (512, 512, 3)


def test_nothing_of_the_real_cases_is_copied_into_the_project(repository: Path):
    copied = [path for path in (repository / "Resources").rglob("*") if path.name.endswith((".nii", ".gz", ".dcm"))]
    assert copied == []
