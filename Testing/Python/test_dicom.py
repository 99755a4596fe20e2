"""DICOM folders, written by the tests themselves; the anatomy is a straight line or a ramp that one can compute."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from conftest import unreadable
from LiverTumorSegLib.dicom import list_series, read_series
from LiverTumorSegLib.errors import ImageError, LiverTumorSegWarning, SeriesChoiceError, recorded_warnings
from LiverTumorSegLib.images import read_image

AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"


def write_slice(path, array, origin, uid="1.2.3", orientation=AXIAL, instance=1, spacing=(2.0, 2.0), **tags):
    """Write one CT slice; further tags as t0008_103e='text'."""
    image = sitk.GetImageFromArray(np.asarray(array)[None].astype(np.int16))
    image.SetSpacing((*spacing, 1.0))
    written = {
        "0008|0016": CT_STORAGE,
        "0008|0018": f"{uid}.{instance}",
        "0008|0060": "CT",
        "0010|0010": "Doe^Jane",
        "0020|000d": "1.2",
        "0020|000e": uid,
        "0020|0013": str(instance),
        "0020|0032": "\\".join(f"{x:.6f}" for x in origin),
        "0020|0037": "\\".join(f"{x:.8f}" for axis in orientation for x in axis),
        "0028|1052": "0",
        "0028|1053": "1",
    }
    written.update({key[1:].replace("_", "|"): value for key, value in tags.items()})
    for key, value in written.items():
        image.SetMetaData(key, value)
    normal = np.cross(*orientation)
    image.SetOrigin(tuple(float(x) for x in origin))
    image.SetDirection(np.stack([*orientation, normal], axis=1).ravel().tolist())
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.KeepOriginalImageUIDOn()
    writer.SetFileName(str(path))
    writer.Execute(image)


def write_ramp(folder: Path, heights, uid="1.2.3", **tags) -> None:
    """Write 12×10 slices whose value is 10 HU per mm of height, minus 500; file names in no useful order."""
    folder.mkdir(exist_ok=True, parents=True)
    for number, z in enumerate(heights):
        array = np.full((10, 12), 10 * z - 500)
        array[0, 0] = -1000
        name = f"{(number * 7) % 97:02d}_{uid}.dcm"
        write_slice(folder / name, array, (-12, -10, z), uid, instance=number + 1, **tags)


def test_slices_are_sorted_by_position_and_not_by_name(tmp_path):
    write_ramp(tmp_path, [20, 5, 10, 0, 15])
    image = read_series(tmp_path)
    assert image.GetSize() == (12, 10, 5)
    assert image.GetSpacing() == pytest.approx((2, 2, 5))
    assert image.GetOrigin() == pytest.approx((-12, -10, 0))
    assert sitk.GetArrayFromImage(image)[:, 5, 5].tolist() == [-500, -450, -400, -350, -300]


def test_nothing_of_the_patient_is_kept(tmp_path):
    write_ramp(tmp_path, [0, 5, 10], t0008_103e="Liver portal venous")
    image = read_series(tmp_path)
    assert {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()} == {
        "Modality": "CT",
        "SeriesDescription": "Liver portal venous",
    }
    assert "Doe" not in str(list_series(tmp_path)[0])


def test_int16_is_enough_for_hounsfield_units(tmp_path):
    write_ramp(tmp_path, [0, 5, 10], t0028_1052="-24")
    image = read_series(tmp_path)
    assert image.GetPixelID() == sitk.sitkInt16


@pytest.mark.parametrize(
    ("description", "phase"),
    [
        ("ABD portal venous 70s", "portal venous"),
        ("Liver_art_1.5", "arterial"),
        ("non-contrast", "native"),
        ("5 min DELAYED", "delayed"),
        ("Abdomen 5.0 B30f", ""),
    ],
)
def test_the_phase_is_guessed_from_the_description(tmp_path, description, phase):
    write_ramp(tmp_path, [0, 5, 10], t0008_103e=description)
    assert list_series(tmp_path)[0].phase == phase


def test_two_series_need_a_choice_which_the_error_lists(tmp_path):
    write_ramp(tmp_path / "a", [0, 5, 10], uid="1.2.840.1.77")
    write_ramp(tmp_path / "b" / "deep", [0, 2, 4, 6], uid="1.2.840.2.88")
    with pytest.raises(SeriesChoiceError, match=r"several") as caught:
        read_series(tmp_path)
    first, *listed = str(caught.value).splitlines()
    assert "wanted" in first
    assert len(listed) == 2
    assert "12×10×3, 2×2×5 mm" in listed[0]
    assert read_series(tmp_path, "1.2.840.2.88").GetSize() == (12, 10, 4)
    assert read_series(tmp_path, "1.2.840.1").GetSize() == (12, 10, 3)
    assert read_series(tmp_path, "88").GetSize() == (12, 10, 4)
    with pytest.raises(SeriesChoiceError, match="fits several"):
        read_series(tmp_path, "1.2.840")
    with pytest.raises(ImageError, match=r"got 9\.9"):
        read_series(tmp_path, "9.9")


def test_a_file_stands_for_its_series(tmp_path):
    write_ramp(tmp_path, [0, 5, 10], uid="1.2.77")
    write_ramp(tmp_path, [0, 2, 4, 6], uid="1.2.88")
    assert read_image(tmp_path / "07_1.2.88.dcm").GetSize() == (12, 10, 4)


def test_junk_localisers_and_other_objects_are_passed_over(tmp_path):
    write_ramp(tmp_path, [0, 5, 10])
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM junk")
    (tmp_path / "junk.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"junk" * 50)
    (tmp_path / "notes.txt").write_text("not DICOM")
    (tmp_path / "empty").touch()
    write_ramp(tmp_path / "scout", [0, 50, 90], uid="1.2.9", t0008_0008="ORIGINAL\\PRIMARY\\LOCALIZER")
    write_ramp(tmp_path / "pet", [0, 5, 10], uid="1.2.10", t0008_0060="PT")
    write_ramp(tmp_path / "short", [0, 5], uid="1.2.11")
    assert [series.uid for series in list_series(tmp_path)] == ["1.2.3"]
    with pytest.raises(ImageError, match=r"at least 3 slices in a DICOM folder, got 1 × CT series of 2 slices"):
        read_series(tmp_path / "short")
    with pytest.raises(ImageError, match="3 × PT object"):
        read_series(tmp_path / "pet")


def test_one_file_that_cannot_be_read_is_left_out_with_a_warning(tmp_path):
    write_ramp(tmp_path, [0, 5, 10])
    unreadable(tmp_path / "broken")
    with pytest.warns(LiverTumorSegWarning, match="1 files of the folder cannot be read and were left out"):
        assert read_series(tmp_path).GetSize() == (12, 10, 3)
    (tmp_path / "alone").mkdir()
    unreadable(tmp_path / "alone" / "broken")
    with pytest.raises(ImageError, match="got 1 × file that cannot be read"):
        read_series(tmp_path / "alone")


def test_a_folder_without_dicom_and_a_missing_folder_are_named(tmp_path):
    with pytest.raises(ImageError, match="no DICOM file"):
        read_series(tmp_path)
    with pytest.raises(ImageError, match="wanted a DICOM folder, got nowhere"):
        list_series(tmp_path / "nowhere")


def test_a_slice_of_another_size_is_left_out_with_a_warning(tmp_path):
    write_ramp(tmp_path, [0, 5, 10])
    write_slice(tmp_path / "odd.dcm", np.zeros((8, 8)), (0, 0, 15), instance=9)
    with pytest.warns(LiverTumorSegWarning, match="1 images of another size"):
        assert read_series(tmp_path).GetSize() == (12, 10, 3)


def test_of_two_slices_at_one_position_the_first_instance_stays(tmp_path):
    write_ramp(tmp_path, [0, 5, 10])
    write_slice(tmp_path / "00_again.dcm", np.full((10, 12), 999), (-12, -10, 5), instance=44)
    with pytest.warns(LiverTumorSegWarning, match="1 slices were left out"):
        image = read_series(tmp_path)
    assert sitk.GetArrayFromImage(image)[:, 5, 5].tolist() == [-500, -450, -400]


def test_a_missing_slice_is_interpolated_so_that_heights_stay_true(tmp_path):
    write_ramp(tmp_path, [0, 5, 10, 20, 25])
    with pytest.warns(LiverTumorSegWarning, match=r"5.00 to 10.00 mm apart .* 6 slices every 5.00 mm"):
        image = read_series(tmp_path)
    assert image.GetSpacing() == pytest.approx((2, 2, 5))
    assert sitk.GetArrayFromImage(image)[:, 5, 5].tolist() == [-500, -450, -400, -350, -300, -250]


def test_mixed_spacing_is_brought_to_the_finer(tmp_path):
    write_ramp(tmp_path, [0, 2, 4, 6, 8, 10, 15, 20, 25, 30])
    with pytest.warns(LiverTumorSegWarning, match="spacing mixed"):
        image = read_series(tmp_path)
    assert image.GetSpacing()[2] == pytest.approx(2)
    heights = 2.0 * np.arange(16)
    assert sitk.GetArrayFromImage(image)[:, 5, 5].tolist() == (10 * heights - 500).tolist()


def test_interleaved_slices_a_hair_apart_do_not_fill_the_memory(tmp_path):
    write_ramp(tmp_path, [0, 0.02, 5, 5.02, 10, 10.02])
    with pytest.warns(LiverTumorSegWarning, match="0.02 to 4.98 mm apart"):
        assert read_series(tmp_path).GetSize() == (12, 10, 24)


def test_of_two_acquisitions_a_hair_apart_the_first_one_is_taken(tmp_path):
    """A tenth of the 5 mm between its slices is 0.5 mm: so near to it, the second acquisition has nothing to add."""
    write_ramp(tmp_path / "b", [-0.02, 4.98, 10.02, 15.02], t0020_0012="2")
    write_ramp(tmp_path / "a", [0, 5, 10, 15], t0020_0012="1")
    with pytest.warns(LiverTumorSegWarning, match="4 slices were left out"):
        image = read_series(tmp_path)
    assert image.GetSize() == (12, 10, 4)
    assert image.GetSpacing() == pytest.approx((2, 2, 5))
    assert sitk.GetArrayFromImage(image)[:, 5, 5].tolist() == [-500, -450, -400, -350]


BETWEEN = "2 acquisitions whose slices lie between each other"


def test_acquisitions_half_a_slice_apart_are_told_of(tmp_path):
    write_ramp(tmp_path / "a", [0, 5, 10, 15], t0020_0012="1")
    write_ramp(tmp_path / "b", [2.5, 7.5, 12.5, 17.5], t0020_0012="2")
    with pytest.warns(LiverTumorSegWarning, match=BETWEEN):
        assert read_series(tmp_path).GetSize() == (12, 10, 8)


@pytest.mark.parametrize(
    ("first", "second", "modality"),
    [
        ([0, 5, 10, 15], [20, 25, 30, 35], "CT"),  # one goes on where the other ends
        ([0, 5, 10, 15, 20, 25, 30], [2.5, 7.5], "CT"),  # two slices are no scan of their own
        ([0, 5, 10, 15], [2.5, 7.5, 12.5, 17.5], "MR"),  # there slices are often acquired so
    ],
)
def test_acquisitions_that_make_one_scan_are_not_told_of(tmp_path, first, second, modality):
    write_ramp(tmp_path / "a", first, t0020_0012="1", t0008_0060=modality)
    write_ramp(tmp_path / "b", second, t0020_0012="2", t0008_0060=modality)
    with recorded_warnings() as texts:
        read_series(tmp_path)
    assert not any(BETWEEN in text for text in texts)


def test_positions_rounded_to_a_tenth_of_a_millimetre_are_regular(tmp_path):
    write_ramp(tmp_path, [round(0.625 * k, 1) for k in range(9)])
    with recorded_warnings() as texts:
        image = read_series(tmp_path)
    assert texts == []
    assert image.GetSpacing()[2] == pytest.approx(0.625, abs=0.01)


def test_gantry_tilt_is_sheared_back(tmp_path):
    """A rod along z: with slices that drift 1 mm in y per 5 mm it appears to lean, and must stand again."""
    tilt = math.atan2(1, 5)
    for k in range(11):
        y0 = -20 + 1.0 * k  # LPS y of the first row
        y = y0 + 2 * np.arange(30)
        rod = np.maximum(0, 1000 - 100 * np.abs(y - 10))  # piecewise linear, peak at y = 10 mm
        write_slice(tmp_path / f"{k}.dcm", np.repeat(rod[:, None], 12, axis=1), (0, y0, 5.0 * k), instance=k + 1)
    with pytest.warns(LiverTumorSegWarning, match=f"tilt of {math.degrees(tilt):.1f} degrees"):
        image = read_series(tmp_path)
    assert image.GetSize() == (12, 35, 11)
    assert image.GetOrigin() == pytest.approx((0, -20, 0))
    array = sitk.GetArrayFromImage(image).astype(float)
    heights = -20 + 2 * np.arange(35)
    centres = (array[:, :, 6] * heights).sum(axis=1) / array[:, :, 6].sum(axis=1)
    assert centres == pytest.approx(np.full(11, 10.0), abs=0.01)
    peak = image.TransformPhysicalPointToIndex((12.0, 10.0, 50.0))
    assert array[peak[2], peak[1], peak[0]] == 1000


@pytest.mark.parametrize("drift", [-1.0, 1.0])
def test_a_tilted_voxel_keeps_its_place_in_the_patient(tmp_path, drift):
    for k in range(5):
        array = np.zeros((10, 12))
        array[4, 6] = 100 + k
        write_slice(tmp_path / f"{k}.dcm", array, (0, 2 * drift * k, 5.0 * k), instance=k + 1)
    with pytest.warns(LiverTumorSegWarning, match="tilt"):
        image = read_series(tmp_path)
    for k in range(5):
        assert image[image.TransformPhysicalPointToIndex((12.0, 8 + 2 * drift * k, 5.0 * k))] == 100 + k


def test_oblique_slices_without_tilt_stay_as_they_are(tmp_path, oblique):
    frame = np.array(oblique).reshape(3, 3)
    for k in range(4):
        write_slice(
            tmp_path / f"{k}.dcm", np.full((10, 12), k), np.array((5, 6, 7)) + 3.0 * k * frame[:, 2],
            orientation=(frame[:, 0], frame[:, 1]), instance=9 - k,
        )  # fmt: skip
    with recorded_warnings() as texts:
        image = read_series(tmp_path)
    assert texts == []
    assert image.GetDirection() == pytest.approx(oblique, abs=1e-6)
    assert image.GetOrigin() == pytest.approx((5, 6, 7), abs=1e-5)
    assert image.GetSpacing() == pytest.approx((2, 2, 3), abs=1e-5)
    assert sitk.GetArrayFromImage(image)[:, 0, 0].tolist() == [0, 1, 2, 3]


def test_a_slice_cut_short_is_left_out_with_a_warning(tmp_path):
    write_ramp(tmp_path, [0, 5, 10, 15, 20])
    last = tmp_path / "28_1.2.3.dcm"
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.warns(LiverTumorSegWarning, match="1 DICOM files in the folder are damaged or cut short"):
        assert read_series(tmp_path).GetSize() == (12, 10, 4)
    with pytest.raises(ImageError, match=r"got 28_1.2.3.dcm: damaged") as caught:
        read_image(last)
    assert "\n" not in str(caught.value)


def test_a_slope_that_differs_between_slices_keeps_its_fractions(tmp_path):
    for k in range(3):
        write_slice(tmp_path / f"{k}.dcm", np.full((10, 12), 3), (0, 0, 5 * k), instance=k + 1)
    middle = tmp_path / "1.dcm"
    slope = b"\x28\x00\x53\x10\x02\x00\x00\x00"  # the writer itself takes whole slopes only
    middle.write_bytes(middle.read_bytes().replace(slope + b"1 ", slope + b".5"))
    assert sitk.GetArrayFromImage(read_series(tmp_path))[:, 4, 4].tolist() == [3, 1.5, 3]


@pytest.mark.real
def test_a_real_portal_venous_ct_is_read_in_hounsfield_units(real_data):
    series = list_series(real_data / "crlm_1004" / "DICOM")
    assert [one.size for one in series] == [(512, 512, 41)]
    assert series[0].spacing_mm == pytest.approx((0.796875, 0.796875, 5.0))
    image = read_image(real_data / "crlm_1004" / "DICOM")
    array = sitk.GetArrayFromImage(image)
    assert image.GetPixelID() == sitk.sitkInt16
    assert array.min() == -1024
    assert 0 < np.median(array[20, 200:300, 150:200]) < 200


@pytest.mark.real
def test_three_real_slices_are_a_series_and_agree_with_their_nifti(real_data):
    image = read_image(real_data / "dcmqi_ct3slice" / "DICOM")
    nifti = read_image(real_data / "dcmqi_ct3slice" / "ct.nii.gz")
    assert image.GetSize() == (512, 512, 3)
    there = sitk.GetArrayFromImage(sitk.Resample(nifti, image, sitk.Transform(), sitk.sitkNearestNeighbor, -1024))
    assert np.mean(there == sitk.GetArrayFromImage(image)) > 0.99
