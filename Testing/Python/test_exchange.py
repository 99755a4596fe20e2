"""Segmentations and scans through a folder of files: whole and exact, or one clear error."""

from __future__ import annotations

import dataclasses
import json
import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from LiverTumorSegLib.errors import ImageError, OutputError
from LiverTumorSegLib.exchange import load_segmentation, read_volume, save_segmentation, write_volume
from LiverTumorSegLib.geometry import GridGeometry
from LiverTumorSegLib.postprocessing import Evidence
from LiverTumorSegLib.recipe import Postprocessing
from LiverTumorSegLib.segmentation import Provenance, Segmentation

PROVENANCE = Provenance(
    software="LiverTumorSeg 0",
    bundle="tiny",
    bundle_version="1",
    bundle_sha256="0" * 64,
    recipe="tiny",
    variant="repaired",
    modality="CT",
    device="cpu",
    engine="openvino",
    precision="f32",
    size_voxels=(7, 6, 5),
    spacing_mm=(0.1, 2.0, 3.0),
    versions={"numpy": "2"},
    stages={"whole": {"spacing_mm": 10.0, "size_voxels": (4, 4, 2)}},
    seconds={"labels": 0.125},
    peak_memory_mb=12.5,
    warnings=("Käse, 肝",),
)
TYPES = (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.float32, np.float64)


def scan_of(size=(7, 6, 5), direction=(1, 0, 0, 0, 1, 0, 0, 0, 1), seed=0, spacing=(1.0, 1.0, 1.0)) -> sitk.Image:
    image = sitk.GetImageFromArray(np.random.default_rng(seed).integers(-1000, 1000, size[::-1]).astype(np.int16))
    image.SetDirection([float(d) for d in direction])
    image.SetSpacing([float(s) for s in spacing])
    image.SetOrigin((-50.1, 20.2, 7.3))
    return image


def segmentation_of(scan: sitk.Image, evidence: bool = True, seed: int = 0) -> Segmentation:
    """Whatever numbers the seed draws: labels that nobody postprocessed, and evidence on a grid of 10 mm."""
    draw = np.random.default_rng(seed)
    labels = sitk.GetImageFromArray(draw.integers(0, 3, scan.GetSize()[::-1]).astype(np.uint8))
    labels.CopyInformation(scan)
    field = None
    if evidence:
        axial = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
        geometry = GridGeometry(scan.GetOrigin(), (0.7, 0.8, 2.5), axial, (8, 6, 4))
        liver, tumour = draw.normal(0, 9, (2, 4, 6, 8)).clip(-100, 100).astype(np.float16)
        field = Evidence(liver, tumour, geometry, Postprocessing(min_lesion_ml=0.001), base_factor=4.0)
    return Segmentation(labels, scan, PROVENANCE, field, 1.5)


def same_image(a: sitk.Image, b: sitk.Image) -> bool:
    parts = [(i.GetPixelID(), i.GetSize(), i.GetSpacing(), i.GetOrigin(), i.GetDirection()) for i in (a, b)]
    return parts[0] == parts[1] and np.array_equal(sitk.GetArrayViewFromImage(a), sitk.GetArrayViewFromImage(b))


@pytest.fixture
def saved(tmp_path) -> tuple[Path, sitk.Image]:
    """Return a folder with a segmentation, and its scan."""
    scan = scan_of()
    save_segmentation(segmentation_of(scan), tmp_path, scan)
    return tmp_path, scan


@pytest.mark.parametrize("kind", TYPES)
def test_a_volume_keeps_its_pixel_type_and_extreme_values(kind, tmp_path):
    limits = np.finfo(kind) if np.issubdtype(kind, np.floating) else np.iinfo(kind)
    array = np.zeros((3, 4, 5), kind)
    array[0, 0, 0], array[-1, -1, -1] = limits.min, limits.max
    image = sitk.GetImageFromArray(array)
    write_volume(image, tmp_path / "scan.nrrd")
    assert same_image(read_volume(tmp_path / "scan.nrrd"), image)


angle = st.floats(-180, 180)


@settings(max_examples=40, deadline=None)
@given(
    turns=st.tuples(angle, angle, angle),
    mirrored=st.booleans(),
    spacing=st.tuples(*[st.floats(0.05, 50)] * 3),
    origin=st.tuples(*[st.floats(-5000, 5000)] * 3),
)
def test_a_volume_keeps_every_bit_of_its_geometry_turned_or_mirrored(turns, mirrored, spacing, origin):
    turn = sitk.Euler3DTransform((0, 0, 0), *map(math.radians, turns))
    direction = np.array(turn.GetMatrix()).reshape(3, 3)
    if mirrored:
        direction[:, 0] *= -1
    image = scan_of((3, 4, 5))
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction.ravel())
    with tempfile.TemporaryDirectory() as name:
        write_volume(image, Path(name) / "scan.nrrd")
        assert same_image(read_volume(Path(name) / "scan.nrrd"), image)


def test_of_the_metadata_only_the_modality_is_written_and_the_image_keeps_its_own(tmp_path):
    image = scan_of()
    image.SetMetaData("0010|0010", "Doe^Jane")
    image.SetMetaData("0008|0060", "MR ")
    write_volume(image, tmp_path / "scan.nrrd")
    assert b"Doe" not in (tmp_path / "scan.nrrd").read_bytes()
    back = read_volume(tmp_path / "scan.nrrd")
    assert {key: back.GetMetaData(key) for key in back.GetMetaDataKeys()} == {"Modality": "MR"}
    assert set(image.GetMetaDataKeys()) == {"0010|0010", "0008|0060"}


def test_a_volume_of_another_program_is_read_as_it_is(tmp_path):
    image = scan_of(spacing=(0.5, 2, 3))
    sitk.WriteImage(image, str(tmp_path / "theirs.nrrd"))
    assert same_image(read_volume(tmp_path / "theirs.nrrd"), image)


def test_a_volume_whose_two_geometries_differ_is_refused(tmp_path):
    path = tmp_path / "scan.nrrd"
    write_volume(scan_of(spacing=(2, 2, 2)), path)
    path.write_bytes(path.read_bytes().replace(b"[[2.0, 2.0, 2.0]", b"[[2.0, 2.0, 9.0]"))
    with pytest.raises(ImageError, match=r"^scan.nrrd: wanted the geometry .* got the note"):
        read_volume(path)


def test_a_volume_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(OutputError, match=r"^scan.nrrd: wanted to write the scan") as told:
        write_volume(scan_of(), tmp_path / "missing" / "scan.nrrd")
    assert "\n" not in str(told.value)


@settings(max_examples=25, deadline=None)
@given(
    size=st.tuples(*[st.integers(1, 9)] * 3),
    seed=st.integers(0, 1000),
    evidence=st.booleans(),
    factor=st.floats(0.1, 9),
)
def test_a_segmentation_comes_back_equal_and_its_slider_gives_the_same_labels(size, seed, evidence, factor):
    scan = scan_of(size, seed=seed, direction=(0, 0, 1, 1, 0, 0, 0, -1, 0))
    before = segmentation_of(scan, evidence, seed)
    with tempfile.TemporaryDirectory() as name:
        save_segmentation(before, Path(name), scan)
        assert not (Path(name) / "scan.nrrd").exists()
        after = load_segmentation(Path(name), scan)
    assert same_image(after.labels, before.labels)
    assert after.image is scan
    assert after.provenance == before.provenance
    assert after.sensitivity == before.sensitivity
    if evidence:
        assert after.evidence.geometry == before.evidence.geometry
        assert after.evidence.rules == before.evidence.rules
        assert after.evidence.base_factor == before.evidence.base_factor
        assert same_image(after.with_sensitivity(factor).labels, before.with_sensitivity(factor).labels)
    else:
        assert after.evidence is None


def test_a_scan_that_the_segmenter_changed_travels_along(tmp_path):
    given_scan, used_scan = scan_of(), scan_of(seed=1)
    save_segmentation(segmentation_of(used_scan), tmp_path, given_scan)
    after = load_segmentation(tmp_path, given_scan)
    assert same_image(after.image, used_scan)
    assert same_image(after.labels, segmentation_of(used_scan).labels)


@pytest.mark.parametrize("name", ["labels.raw", "liver.raw", "tumour.raw", "result.json"])
def test_a_file_that_is_cut_short_or_missing_is_named(name, saved):
    folder, scan = saved
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:-1])
    with pytest.raises(OutputError, match=name if name.endswith("raw") else "got: "):
        load_segmentation(folder, scan)
    (folder / name).unlink()
    with pytest.raises(OutputError, match="No such file"):
        load_segmentation(folder, scan)
    (folder / name).write_bytes(whole)
    load_segmentation(folder, scan)


def test_a_segmentation_of_another_scan_is_refused(saved):
    folder, _ = saved
    with pytest.raises(OutputError, match=r"labels.raw: wanted 24 bytes for \(2, 3, 4\) voxels, got 210"):
        load_segmentation(folder, scan_of((2, 3, 4)))


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("format",), 2),
        (("sensitivity",), -1.0),
        (("sensitivity",), "1"),
        (("provenance",), None),
        (("provenance", "device"), 3),
        (("provenance", "warnings"), [1]),
        (("provenance", "size_voxels"), ["7"]),
        (("geometry",), None),
        (("geometry", "size"), [8, 6]),
        (("geometry", "size"), [8, 6, 4000000000]),
        (("geometry", "size"), [-8, -6, 4]),
        (("geometry", "spacing_mm"), 0.0),
        (("geometry", "origin"), [1.0]),
        (("rules", "keep_liver_above"), 7.0),
        (("rules", "another"), 1),
        (("base_factor",), 0.0),
        (("own_scan",), True),
    ],
)
def test_a_record_that_does_not_fit_is_refused_in_one_line(keys, value, saved):
    folder, scan = saved
    record = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    inner = record
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    (folder / "result.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(OutputError, match=r"^result: wanted the whole of what was written.*, got: ") as told:
        load_segmentation(folder, scan)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"format": NaN}', "\udcff"])
def test_a_record_that_is_no_record_is_refused(text, saved):
    folder, scan = saved
    (folder / "result.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(OutputError, match=r"^result: "):
        load_segmentation(folder, scan)


def test_labels_and_evidence_with_impossible_values_are_refused(saved):
    folder, scan = saved
    labels = (folder / "labels.raw").read_bytes()
    (folder / "labels.raw").write_bytes(b"\3" + labels[1:])
    with pytest.raises(OutputError, match=r"labels.raw: wanted labels up to 2, got 3"):
        load_segmentation(folder, scan)
    (folder / "labels.raw").write_bytes(labels)
    np.full(8 * 6 * 4, np.nan, "<f2").tofile(folder / "tumour.raw")
    with pytest.raises(OutputError, match=r"tumour.raw: wanted finite numbers"):
        load_segmentation(folder, scan)


def test_nothing_is_written_into_a_folder_that_is_not_there(tmp_path):
    scan = scan_of()
    with pytest.raises(OutputError, match=r"^result: wanted to write it for the panel, got: No such file"):
        save_segmentation(segmentation_of(scan), tmp_path / "missing", scan)


def test_the_evidence_of_a_big_endian_computer_is_written_the_same(tmp_path):
    scan = scan_of()
    before = segmentation_of(scan)
    swapped = dataclasses.replace(before.evidence, liver=before.evidence.liver.astype(">f2"))
    save_segmentation(dataclasses.replace(before, evidence=swapped), tmp_path, scan)
    assert np.array_equal(load_segmentation(tmp_path, scan).evidence.liver, before.evidence.liver)
