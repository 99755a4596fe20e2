"""Reading scans: headers are written by hand where the libraries would not write them wrong."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import unreadable
from LiverTumorSegLib import nifti
from LiverTumorSegLib.errors import ImageError, LiverTumorSegWarning
from LiverTumorSegLib.images import calibrate_ct, check_image, modality_of, read_image

SIDE = 24


def volume(array=None, spacing=(1.0, 1.0, 2.0)):
    if array is None:
        array = np.arange(SIDE**3).reshape(SIDE, SIDE, SIDE) % 700
        array = array.astype(np.int16)
    image = sitk.GetImageFromArray(np.asarray(array))
    image.SetSpacing(spacing)
    return image


def body(air, fat, tissue, spread=0.0, dtype=np.int16, seed=0):
    """A round body of fat around tissue in air, 40 % of the field of view."""
    k, j, i = np.mgrid[:32, :32, :32] - 15.5
    radius = np.sqrt(i**2 + j**2 + 0 * k)
    array = np.where(radius < 9, tissue, np.where(radius < 11.5, fat, air)).astype(float)
    array += np.random.default_rng(seed).normal(0, 1, array.shape) * spread * (radius < 11.5)
    return volume(array.astype(dtype))


def write_nifti(path, sizes=(SIDE, SIDE, SIDE), spacing=(1.0, 1.0, 2.0), sform=None, voxels=None, order="<"):
    """Write NIfTI-1 by hand (nifti1.h), so that the header may lie."""
    header = bytearray(352)
    struct.pack_into(order + "i", header, 0, 348)
    struct.pack_into(order + "8h", header, 40, len(sizes), *sizes, *[1] * (7 - len(sizes)))
    struct.pack_into(order + "hh", header, 70, 4, 16)  # int16
    struct.pack_into(order + "4f", header, 76, 1, *spacing)
    struct.pack_into(order + "3f", header, 108, 352, 1, 0)  # offset, slope, intercept
    struct.pack_into(order + "hh", header, 252, 0 if sform else 1, 1 if sform else 0)
    if sform:
        struct.pack_into(order + "12f", header, 280, *sform)
    header[344:348] = b"n+1\0"
    if voxels is None:
        voxels = (np.arange(np.prod(sizes)) % 700).astype(order + "i2").tobytes()
    content = bytes(header) + voxels
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.nhdr", "a.mha", "a.mhd", "A.NII.GZ"])
def test_every_format_comes_back_with_its_geometry_and_type(tmp_path, oblique, name):
    image = volume()
    image.SetOrigin((-7, 3, 11))
    image.SetDirection(oblique)
    written = tmp_path / name.lower()
    sitk.WriteImage(image, str(written), useCompression=True)
    path = written.rename(tmp_path / name)
    got = read_image(path)
    assert got.GetPixelID() == sitk.sitkInt16
    assert got.GetSpacing() == pytest.approx(image.GetSpacing())
    assert got.GetOrigin() == pytest.approx(image.GetOrigin(), abs=1e-4)
    assert got.GetDirection() == pytest.approx(oblique, abs=1e-6)
    assert (sitk.GetArrayFromImage(got) == sitk.GetArrayFromImage(image)).all()


def test_a_left_handed_volume_stays_left_handed(tmp_path):
    image = volume()
    image.SetDirection((1, 0, 0, 0, 1, 0, 0, 0, -1))
    sitk.WriteImage(image, str(tmp_path / "a.nii.gz"))
    assert read_image(tmp_path / "a.nii.gz").GetDirection() == pytest.approx(image.GetDirection())


def test_only_the_modality_stays_of_the_metadata(tmp_path):
    image = volume()
    image.SetMetaData("Modality", "MR")
    image.SetMetaData("PatientName", "Doe")
    sitk.WriteImage(image, str(tmp_path / "a.nrrd"))
    assert read_image(tmp_path / "a.nrrd").GetMetaDataKeys() == ("Modality",)


def test_what_is_missing_or_of_no_known_kind_is_named_without_its_folder(tmp_path):
    with pytest.raises(ImageError, match=r"got nowhere\.nii, which does not exist") as caught:
        read_image(tmp_path / "nowhere.nii")
    assert str(tmp_path) not in str(caught.value)
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8" + b"x" * 500)
    with pytest.raises(ImageError, match=r"one of \.nii, .* got photo\.jpg"):
        read_image(tmp_path / "photo.jpg")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="no DICOM file"):
        read_image(tmp_path / "empty")
    with pytest.raises(ImageError, match=r"wanted a DICOM folder to choose series 1\.2 from"):
        read_image(write_nifti(tmp_path / "a.nii"), "1.2")


@pytest.mark.parametrize("name", ["scan", "scan.nii", "scan.nii.gz", "scan.nrrd"])
def test_a_file_that_cannot_be_read_is_refused_in_one_line(tmp_path, name):
    with pytest.raises(ImageError, match=rf"got {name}: ") as caught:
        read_image(unreadable(tmp_path / name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha"])
@pytest.mark.parametrize("content", [b"", b"junk" * 500])
def test_junk_under_a_good_name_is_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=f"got {name}: damaged") as caught:
        read_image(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert "itk" not in str(caught.value).lower()


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.999])
def test_a_file_cut_short_is_refused_in_one_line(tmp_path, name, kept):
    noise = np.random.default_rng(0).integers(-1000, 1000, (40, 64, 64)).astype(np.int16)
    path = tmp_path / name
    sitk.WriteImage(volume(noise), str(path), useCompression=True)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ImageError, match=f"got {name}: .*(damaged|cut short)") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)
    assert "0x" not in str(caught.value)


def test_one_damaged_bit_in_a_compressed_file_is_noticed(tmp_path):
    noise = np.random.default_rng(0).integers(-1000, 1000, (40, 64, 64)).astype(np.int16)
    path = tmp_path / "a.nii.gz"
    sitk.WriteImage(volume(noise), str(path))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(ImageError, match="damaged"):
        read_image(path)


@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "f4", "f8"])
@pytest.mark.parametrize("slices", [3, 8, 21])
def test_a_packed_scan_is_what_itk_reads(tmp_path, kind, slices):
    array = np.random.default_rng(slices).integers(0, 100, (slices, 10, 13)).astype(kind)
    image = volume(array, (0.7, 0.9, 8.0))
    image.SetOrigin((1.5, -20.25, 3.0))
    image.SetDirection((0, 0, 1, -1, 0, 0, 0, 1, 0))
    sitk.WriteImage(image, str(tmp_path / "a.nii.gz"))
    ours, itks = nifti.read_nifti(tmp_path / "a.nii.gz"), sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    assert ours.GetPixelID() == itks.GetPixelID()
    assert (sitk.GetArrayFromImage(ours) == array).all()
    for place in ("GetOrigin", "GetSpacing", "GetDirection"):
        assert getattr(ours, place)() == getattr(itks, place)()


def test_packed_voxels_with_a_slope_are_rescaled(tmp_path):
    path = write_nifti(tmp_path / "a.nii.gz")
    content = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into("<2f", content, 112, 2.0, -7.0)
    path.write_bytes(gzip.compress(bytes(content)))
    expected = 2.0 * (np.arange(SIDE**3) % 700) - 7.0
    assert (sitk.GetArrayFromImage(read_image(path)).ravel() == expected).all()


def test_whole_files_whose_checksum_says_nothing_are_read(tmp_path):
    """Big-endian voxels, gzip members one after the other, bytes after the voxels, plain NIfTI called .nii.gz."""
    expected = sitk.GetArrayFromImage(read_image(write_nifti(tmp_path / "plain.nii")))
    content = (tmp_path / "plain.nii").read_bytes()
    write_nifti(tmp_path / "big.nii.gz", order=">")
    (tmp_path / "members.nii.gz").write_bytes(gzip.compress(content[:1000]) + gzip.compress(content[1000:]))
    (tmp_path / "longer.nii.gz").write_bytes(gzip.compress(content + b"and more"))
    (tmp_path / "misnamed.nii.gz").write_bytes(content)
    for name in ("big", "members", "longer", "misnamed"):
        assert (sitk.GetArrayFromImage(read_image(tmp_path / f"{name}.nii.gz")) == expected).all(), name


def test_without_isal_files_are_checked_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "isal", None)
    path = write_nifti(tmp_path / "a.nii.gz")
    assert read_image(path).GetSize() == (SIDE,) * 3
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ImageError, match="damaged"):
        read_image(path)


@pytest.mark.parametrize("wrong", [0.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_spacing_that_itk_would_silently_make_one_is_refused(tmp_path, name, wrong):
    with pytest.raises(ImageError, match="spacing above zero, got 1×1×"):
        read_image(write_nifti(tmp_path / name, spacing=(1, 1, wrong)))


@pytest.mark.parametrize("wrong", [0.001, 60.0])
def test_a_spacing_that_no_scanner_makes_is_refused(tmp_path, wrong):
    with pytest.raises(ImageError, match=r"a\.nii: wanted a spacing of 0\.05 to 50 mm, got 1×1×"):
        read_image(write_nifti(tmp_path / "a.nii", spacing=(1, 1, wrong)))


def test_a_scan_longer_than_any_patient_is_refused():
    with pytest.raises(ImageError, match="extent of at most 3000 mm"):
        check_image(volume(np.arange(4 * 4 * 100).reshape(100, 4, 4).astype(np.int16), (1, 1, 40)))


def test_three_slices_are_enough_and_called_thin_but_two_are_not():
    array = np.arange(3 * 32 * 32).reshape(3, 32, 32).astype(np.int16)
    with pytest.warns(LiverTumorSegWarning, match="very thin: 32×32×6 mm"):
        assert check_image(volume(array)).GetSize() == (32, 32, 3)
    with pytest.raises(ImageError, match="at least 3 voxels along each axis, got 32×32×2"):
        check_image(volume(array[:2]))


def test_axes_a_rounding_error_off_the_right_angle_are_read_and_sheared_ones_are_not(tmp_path):
    nearly = (1, 0.001, 0, 0, 0, 1, 0, 0, 0, 0, 2, 0)
    direction = np.array(read_image(write_nifti(tmp_path / "a.nii", sform=nearly)).GetDirection()).reshape(3, 3)
    assert direction == pytest.approx(np.diag([-1, -1, 1]), abs=0.002)
    sheared = (1, 0.2, 0, 0, 0, 1, 0, 0, 0, 0, 2, 0)
    with pytest.raises(ImageError, match="right angles"):
        read_image(write_nifti(tmp_path / "b.nii", sform=sheared))


def test_a_sheared_direction_matrix_in_memory_is_refused():
    image = volume()
    image.SetDirection((1, 0.3, 0, 0, 1, 0, 0, 0, 1))
    with pytest.raises(ImageError, match="right angles"):
        check_image(image)


def test_one_time_point_is_a_volume_and_two_are_not(tmp_path):
    frame = sitk.Cast(volume(), sitk.sitkInt16)
    assert check_image(sitk.JoinSeries([frame])).GetSize() == (SIDE,) * 3
    with pytest.raises(ImageError, match="wanted a 3D volume, got 4D of 24×24×24×2"):
        check_image(sitk.JoinSeries([frame, frame]))
    with pytest.raises(ImageError, match="got 2D of 24×24"):
        check_image(frame[:, :, 0])
    assert read_image(write_nifti(tmp_path / "a.nii.gz", sizes=(SIDE, SIDE, SIDE, 1))).GetDimension() == 3


def test_a_volume_taken_out_of_four_dimensions_keeps_its_modality():
    four = sitk.JoinSeries([volume()])
    four.SetMetaData("Modality", "MR")
    assert check_image(four).GetMetaData("Modality") == "MR"


def test_colour_and_complex_are_refused():
    grey = sitk.Cast(volume(), sitk.sitkUInt8)
    with pytest.raises(ImageError, match=r"grey values.* got vector of 8-bit"):
        check_image(sitk.Compose(grey, grey, grey))
    real = sitk.Cast(grey, sitk.sitkFloat32)
    with pytest.raises(ImageError, match="got complex"):
        check_image(sitk.RealAndImaginaryToComplex(real, real))


def test_one_value_throughout_is_refused():
    with pytest.raises(ImageError, match="got 7 in every voxel"):
        check_image(volume(np.full((SIDE,) * 3, 7, np.int16)))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_few_voxels_that_are_no_number_become_the_smallest_and_many_are_refused(wrong):
    array = np.linspace(-5, 100, SIDE**3, dtype=np.float32).reshape((SIDE,) * 3)
    array[3, 4, 5:8] = wrong
    with pytest.warns(LiverTumorSegWarning, match="3 voxels were NaN or infinite"):
        mended = check_image(volume(array))
    assert sitk.GetArrayFromImage(mended)[3, 4, 4:9].min() == -5
    assert mended.GetSpacing() == (1, 1, 2)
    array[:5] = wrong
    with pytest.raises(ImageError, match=r"got 20\.\d% of the voxels NaN or infinite"):
        check_image(volume(array))


@pytest.mark.parametrize("kept", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.float32])
def test_an_image_in_order_is_returned_itself(kept):
    image = volume((np.arange(SIDE**3) % 100).reshape((SIDE,) * 3).astype(kept))
    assert check_image(image) is image


@pytest.mark.parametrize(
    ("wide", "largest", "narrow"),
    [
        (np.float64, 5.5, sitk.sitkFloat32),
        (np.int64, 70000, sitk.sitkInt32),
        (np.int64, 2**40, sitk.sitkFloat32),
        (np.uint32, 2**32 - 1, sitk.sitkFloat32),
    ],
)
def test_wide_types_become_32_bits_without_wrapping(wide, largest, narrow):
    array = np.zeros((SIDE,) * 3, wide)
    array[1, 1, 1] = largest
    image = volume(array)
    image.SetMetaData("Modality", "MR")
    checked = check_image(image)
    assert checked.GetPixelID() == narrow
    assert checked[1, 1, 1] == pytest.approx(largest)
    assert checked.GetMetaData("Modality") == "MR"


def test_the_tag_decides_the_modality():
    image = body(-1000, -100, 60)
    image.SetMetaData("0008|0060", "MR")
    assert modality_of(image) == "MR"
    image.SetMetaData("Modality", "OT")  # says nothing
    image.EraseMetaData("0008|0060")
    assert modality_of(image) == "CT"


@pytest.mark.parametrize(
    ("scan", "modality"),
    [
        (body(-1000, -100, 60, 15), "CT"),
        (body(-3024, -100, 60, 15), "CT"),
        (body(-120, -100, 110, 15), "CT"),  # a crop: fat, no air
        (body(0, 924, 1084, 15, np.uint16), "CT"),  # lost intercept
        (body(0, 900, 300, 40), "MR"),
        (body(0, 250, 1050, 200, np.uint16), "MR"),
        (body(-0.8, 2.5, 1.0, 0.2, np.float32), "MR"),  # standardised
        (body(5, 90, 200, 10, np.uint8), "MR"),
    ],
)
def test_without_a_tag_the_intensities_decide(scan, modality):
    assert modality_of(scan) == modality


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32, np.float32])
def test_a_ct_that_starts_at_zero_is_moved_to_hounsfield_units(dtype):
    raw = body(0, 924, 1084, dtype=dtype)
    with pytest.warns(LiverTumorSegWarning, match="1024 was subtracted"):
        calibrated = calibrate_ct(raw)
    assert set(np.unique(sitk.GetArrayFromImage(calibrated))) == {-1024, -100, 60}
    assert calibrated.GetSpacing() == raw.GetSpacing()
    assert calibrate_ct(calibrated) is calibrated


def test_padding_that_would_wrap_around_ends_at_air():
    array = sitk.GetArrayFromImage(body(0, 924, 1084))
    array[:, :4] = -32768
    with pytest.warns(LiverTumorSegWarning, match="start at zero"):
        calibrated = calibrate_ct(volume(array))
    assert sitk.GetArrayFromImage(calibrated).min() == -1024


def test_padding_below_air_is_raised_and_the_tag_kept():
    padded = body(-3024, -100, 60)
    padded.SetMetaData("Modality", "CT")
    calibrated = calibrate_ct(padded)
    assert set(np.unique(sitk.GetArrayFromImage(calibrated))) == {-1024, -100, 60}
    assert calibrated.GetMetaData("Modality") == "CT"


def test_a_calibrated_ct_is_returned_itself():
    for image in (body(-1000, -100, 60, 15), body(-120, -100, 110), body(0, 0, 60), body(0, 30, 60, 2, np.uint8)):
        assert calibrate_ct(image) is image


def test_reading_calibrates_ct_and_leaves_mr_alone(tmp_path):
    sitk.WriteImage(body(-2000, -100, 60, 5), str(tmp_path / "ct.nii.gz"))
    assert sitk.GetArrayFromImage(read_image(tmp_path / "ct.nii.gz")).min() == -1024
    mr = body(0, 900, 300, 40)
    sitk.WriteImage(mr, str(tmp_path / "mr.nii.gz"))
    assert (sitk.GetArrayFromImage(read_image(tmp_path / "mr.nii.gz")) == sitk.GetArrayFromImage(mr)).all()


def test_the_modality_that_is_said_decides_what_is_calibrated(tmp_path):
    low = body(-2000, -100, 60, 5)  # by its intensities CT
    sitk.WriteImage(low, str(tmp_path / "low.nii.gz"))
    as_mr = read_image(tmp_path / "low.nii.gz", modality="MR")
    assert (sitk.GetArrayFromImage(as_mr) == sitk.GetArrayFromImage(low)).all()
    tagged = body(-2000, -100, 60, 5)
    tagged.SetMetaData("Modality", "MR")
    sitk.WriteImage(tagged, str(tmp_path / "tagged.nrrd"))
    assert sitk.GetArrayFromImage(read_image(tmp_path / "tagged.nrrd")).min() == -2000
    assert sitk.GetArrayFromImage(read_image(tmp_path / "tagged.nrrd", modality="CT")).min() == -1024
    with pytest.raises(ImageError, match="modality: wanted CT, MR or none, got 'PET'"):
        read_image(tmp_path / "low.nii.gz", modality="PET")


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(0.5, 20), fat=st.floats(0.7, 3), spread=st.floats(0.05, 0.3), seed=st.integers(0, 99))
def test_however_an_mr_is_scaled_it_passes_for_ct_only_if_its_body_is_as_uniform(scale, fat, spread, seed):
    mr = body(0, 100 * fat * scale, 50 * scale, 50 * spread * scale, np.float32, seed)
    values = sitk.GetArrayFromImage(mr)
    is_uniform = np.mean(abs(values[values > 300] - 1050) <= 200) > 0.7 if values.max() > 300 else False
    assert modality_of(mr) == "MR" or is_uniform


@pytest.mark.real
def test_real_scans_are_told_apart_with_and_without_their_intercept(real_data):
    for path in ("ircad17/ct.nii.gz", "chaos_ct03/ct.nii.gz", "ts_example_ct/example_ct.nii.gz"):
        scan = read_image(real_data / path)
        assert modality_of(scan) == "CT", path
        assert modality_of(sitk.Maximum(sitk.Cast(scan, sitk.sitkInt16), -1024) + 1024) == "CT", path
    scans = [*sorted((real_data / "chaos_mr_t2spir").glob("mr_??.nii.gz"))]
    for path in (*scans, real_data / "ts_example_mr" / "example_mr_sm.nii.gz"):
        scan = sitk.Cast(read_image(path), sitk.sitkFloat32)
        assert [modality_of(scan * factor) for factor in (1, 2, 4, 8)] == ["MR"] * 4, path.name
