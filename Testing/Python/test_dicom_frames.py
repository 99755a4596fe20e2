"""Enhanced DICOM files of many frames, written by GDCM; the frames' positions are then changed in the bytes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from LiverTumorSegLib.dicom import list_series, read_series
from LiverTumorSegLib.errors import ImageError, LiverTumorSegWarning, recorded_warnings
from test_dicom import CT_STORAGE


def write_enhanced(path: Path, heights: Sequence[str] = ("0", "3", "6", "9", "12"), explicit: bool = False) -> None:
    """Write five frames of 12×10 pixels of 2 mm, the first at (0, 0, heights[0]) mm, and so on."""
    image = sitk.GetImageFromArray(np.arange(600, dtype=np.int16).reshape(5, 10, 12))
    image.SetSpacing((2, 2, 3))
    for key, value in {"0008|0016": CT_STORAGE + ".1", "0008|0060": "CT", "0020|000e": "1.2.5"}.items():
        image.SetMetaData(key, value)
    # Packed frames make GDCM write the elements' types, too.
    sitk.WriteImage(image, str(path), useCompression=explicit, imageIO="GDCMImageIO")
    given = iter(heights)

    def moved(found: re.Match[bytes]) -> bytes:
        text = f"0\\0\\{next(given)}".encode()
        text += b" " * (len(text) % 2)
        length = b"DS" + len(text).to_bytes(2, "little") if explicit else len(text).to_bytes(4, "little")
        return b"\x20\x00\x32\x00" + length + text

    written = rb"\x20\x00\x32\x00(?:DS..|..\0\0)0\\0\\\d+ ?(?=\xfe\xff)"
    content, count = re.subn(written, moved, path.read_bytes(), flags=re.DOTALL)
    assert count == 5
    path.write_bytes(content)


@pytest.mark.parametrize("explicit", [False, True])
def test_an_enhanced_multi_frame_file_is_a_series_of_its_own(tmp_path, explicit):
    write_enhanced(tmp_path / "enhanced.dcm", explicit=explicit)
    series = list_series(tmp_path)
    assert [one.size for one in series] == [(12, 10, 5)]
    assert series[0].spacing_mm == pytest.approx((2, 2, 3))
    with recorded_warnings() as texts:
        image = read_series(tmp_path)
    assert texts == []
    assert sitk.GetArrayFromImage(image)[:, 0, 0].tolist() == [0, 120, 240, 360, 480]
    assert image.GetSpacing() == pytest.approx((2, 2, 3))


@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize(
    ("heights", "words"),
    [
        (("0", "6", "3", "9", "12"), "-3.00 to 6.00 mm apart"),  # not in the order of the file
        (("0", "3", "0", "3", "0"), "-3.00 to 3.00 mm apart"),  # two phases in turn
        (("0", "3", "6", "9", "15"), "3.00 to 6.00 mm apart"),  # one is missing
    ],
)
def test_frames_that_are_no_regular_stack_are_refused(tmp_path, heights, words, explicit):
    write_enhanced(tmp_path / "enhanced.dcm", heights, explicit)
    with pytest.raises(ImageError, match=f"wanted one regular stack of frames, got frames {words}"):
        read_series(tmp_path)


@pytest.mark.parametrize(
    ("heights", "step"),
    [
        (("1", "4.1", "7.2", "10.2", "13.4"), 3.1),
        (("1", "2", "3.02", "4", "5"), 1.0),
    ],
)
def test_frames_whose_positions_are_rounded_have_their_spacing(tmp_path, heights, step):
    """GDCM takes such frames for voxels of 1 mm."""
    write_enhanced(tmp_path / "enhanced.dcm", heights)
    image = read_series(tmp_path)
    assert image.GetSpacing() == pytest.approx((2, 2, step))
    assert image.GetOrigin() == pytest.approx((0, 0, 1))
    assert list_series(tmp_path)[0].spacing_mm == pytest.approx((2, 2, step))


@pytest.mark.parametrize("heights", [("9", "6", "3", "0", "-3"), ("9", "6", "3.1", "0", "-3")])
def test_frames_from_head_to_feet_stay_where_they_are(tmp_path, heights):
    write_enhanced(tmp_path / "enhanced.dcm", heights)
    image = read_series(tmp_path)
    for k, height in enumerate((9, 6, 3, 0, -3)):
        assert image.TransformIndexToPhysicalPoint((0, 0, k)) == pytest.approx((0, 0, height))
        assert image[0, 0, k] == 120 * k


def test_frames_without_positions_are_taken_in_the_order_of_the_file_with_a_warning(tmp_path):
    write_enhanced(tmp_path / "enhanced.dcm")
    content = (tmp_path / "enhanced.dcm").read_bytes()
    plane_position, unknown = b"\x20\x00\x13\x91", b"\x21\x00\x13\x91"
    (tmp_path / "enhanced.dcm").write_bytes(content.replace(plane_position, unknown))
    with pytest.warns(LiverTumorSegWarning, match="positions of the frames were not found"):
        assert read_series(tmp_path).GetSize() == (12, 10, 5)
