"""NIfTI headers that lie: what ITK would read wrongly, or ask for memory for, is refused or told."""

from __future__ import annotations

import gzip
import struct

import pytest

from LiverTumorSegLib.errors import ImageError, LiverTumorSegWarning
from LiverTumorSegLib.images import read_image
from test_images import write_nifti


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_negative_spacing_at_which_itk_mirrors_is_refused(tmp_path, name):
    with pytest.raises(ImageError, match="spacing above zero, got -1×1×2"):
        read_image(write_nifti(tmp_path / name, spacing=(-1, 1, 2)))


@pytest.mark.parametrize("offset", [0.0, -5.0, 348.0, 1e30, float("nan")])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_voxels_that_would_start_inside_the_header_are_refused(tmp_path, name, offset):
    content = bytearray(write_nifti(tmp_path / "whole.nii").read_bytes())
    struct.pack_into("<f", content, 108, offset)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(ImageError, match="wanted voxels from byte 352 on, got the offset"):
        read_image(tmp_path / name)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_header_that_promises_more_than_the_file_can_hold_costs_no_memory(tmp_path, name):
    """70 terabytes, of which 100 bytes are there."""
    path = write_nifti(tmp_path / name, sizes=(32767, 32767, 32767), voxels=bytes(100))
    with pytest.raises(ImageError, match=f"got {name}: cut short, .* for 70362301923678"):
        read_image(path)


def test_two_spacings_in_one_header_are_told(tmp_path):
    """ITK, and with it Slicer, takes pixdim; volumes by the sform would be eight times as large."""
    sform = (2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 4, 0)
    path = write_nifti(tmp_path / "a.nii", spacing=(1.0, 1.0, 2.0), sform=sform)
    with pytest.warns(LiverTumorSegWarning, match="pixdim says voxels of 1×1×2 mm, its sform 2×2×4 mm"):
        assert read_image(path).GetSpacing() == (1.0, 1.0, 2.0)


@pytest.mark.parametrize("order", "<>")
def test_nifti_2_is_named_as_what_it_is(tmp_path, order):
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(struct.pack(order + "i", 540) + b"n+2\0" + bytes(3000)))
    with pytest.raises(ImageError, match=r"wanted NIfTI-1, got NIfTI-2 in a\.nii\.gz"):
        read_image(tmp_path / "a.nii.gz")


def test_what_itk_says_of_a_file_names_no_folder(tmp_path):
    with pytest.raises(ImageError, match=r"got a\.nii") as caught:
        read_image(write_nifti(tmp_path / "a.nii", sizes=()))
    assert str(tmp_path) not in str(caught.value)
