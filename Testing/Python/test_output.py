"""The files of one result: what is in them, that Slicer reads them, and that they come all together or not at all."""

from __future__ import annotations

import csv
import errno
import gzip
import json
import os
import struct
import subprocess
import sys
import types
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from LiverTumorSegLib import output
from LiverTumorSegLib.errors import LiverTumorSegWarning, OutputError
from LiverTumorSegLib.output import FILES, check_writable, write_results, write_seg_nrrd
from LiverTumorSegLib.segmentation import SEGMENTS, Provenance, Segmentation

LEFT_HANDED = (-1, 0, 0, 0, 1, 0, 0, 0, 1)
WITHOUT_PAGE = [name for name in FILES if name != "report.html"]


def make_segmentation(
    tumours: Sequence[int] = (4, 1), direction: Sequence[float] = (1, 0, 0, 0, 1, 0, 0, 0, 1)
) -> Segmentation:
    """Return a liver of 8 x 9 x 6 voxels of 2 x 3 x 4 mm holding rows of so many tumour voxels; a CT of 50 HU."""
    array = np.zeros((8, 12, 14), np.uint8)
    array[1:7, 1:10, 2:10] = 1
    for row, length in enumerate(tumours):
        array[2 + 2 * row, 4, 3 : 3 + length] = 2
    labels = sitk.GetImageFromArray(array)
    labels.SetSpacing((2.0, 3.0, 4.0))
    labels.SetOrigin((-11.5, 22.25, 7.0))
    labels.SetDirection([float(d) for d in direction])
    image = sitk.Cast(labels, sitk.sitkInt16) * 0 + 50
    labels.SetMetaData("0010|0010", "Doe^Jane")
    bundle = {"bundle": "tiny", "bundle_version": "1", "bundle_sha256": "0" * 64}
    recipe = {"recipe": "one stage", "variant": "repaired", "modality": "CT"}
    engine = {"device": "cpu", "engine": "none", "precision": "f32"}
    grid = {"size_voxels": labels.GetSize(), "spacing_mm": labels.GetSpacing()}
    warnings = ("the scan is µ-small",)
    provenance = Provenance("LiverTumorSeg 9.9", **bundle, **recipe, **engine, **grid, warnings=warnings)
    return Segmentation(labels, image, provenance)


@pytest.fixture
def segmentation() -> Segmentation:
    return make_segmentation()


@pytest.fixture
def report_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the report writer a stand-in that writes a line: the page has its own tests."""
    stand_in = types.ModuleType("LiverTumorSegLib.report")
    stand_in.write_html = lambda segmentation, path: path.write_text("<html>")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "LiverTumorSegLib.report", stand_in)
    monkeypatch.setattr(output, "find_spec", lambda name: True)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def header_of(path: Path) -> dict[str, str]:
    lines = path.read_bytes().split(b"\n\n", 1)[0].decode().splitlines()
    return dict(line.split(":=" if ":=" in line else ": ", 1) for line in lines if ":" in line and line[0] != "#")


def test_a_result_is_five_files(segmentation: Segmentation, tmp_path: Path, report_page: None) -> None:
    files = write_results(segmentation, tmp_path / "case" / "one")
    assert files == [tmp_path / "case" / "one" / name for name in FILES]
    assert sorted(contents(tmp_path / "case" / "one")) == sorted(FILES)


def test_without_html_it_is_four(segmentation: Segmentation, tmp_path: Path) -> None:
    assert [path.name for path in write_results(segmentation, tmp_path, html=False)] == WITHOUT_PAGE
    assert sorted(contents(tmp_path)) == sorted(WITHOUT_PAGE)


@pytest.mark.parametrize(("missing", "name"), [("jinja2", "Jinja2"), ("PIL", "Pillow")])
def test_a_missing_extra_costs_the_page_and_names_the_remedy(
    missing: str, name: str, segmentation: Segmentation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "find_spec", lambda module: None if module == missing else True)
    with pytest.warns(LiverTumorSegWarning, match=rf"{name} not installed; pip install 'LiverTumorSegLib\[report\]'"):
        files = write_results(segmentation, tmp_path)
    assert [path.name for path in files] == WITHOUT_PAGE


@pytest.mark.parametrize("name", ["segmentation.seg.nrrd", "segmentation.nii.gz"])
@pytest.mark.parametrize("lie", ["straight", "left-handed", "oblique"])
def test_the_label_maps_keep_labels_and_geometry(
    name: str, lie: str, tmp_path: Path, oblique: tuple[float, ...]
) -> None:
    direction = {"straight": (1, 0, 0, 0, 1, 0, 0, 0, 1), "left-handed": LEFT_HANDED, "oblique": oblique}[lie]
    written = make_segmentation(direction=direction)
    write_results(written, tmp_path, html=False)
    read = sitk.ReadImage(str(tmp_path / name))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read), sitk.GetArrayFromImage(written.labels))
    assert read.GetPixelID() == sitk.sitkUInt8
    for get in ("GetOrigin", "GetSpacing", "GetDirection"):
        # NIfTI holds 32-bit numbers.
        assert getattr(read, get)() == pytest.approx(getattr(written.labels, get)(), abs=1e-5)


def test_the_table_has_a_row_for_each_lesion_and_units_in_its_header(
    segmentation: Segmentation, tmp_path: Path
) -> None:
    write_results(segmentation, tmp_path, html=False)
    text = (tmp_path / "lesions.csv").read_bytes().decode()
    assert "\r" not in text
    rows = list(csv.DictReader(text.splitlines()))
    assert list(rows[0]) == [
        *("id", "voxels", "volume_ml", "long_axis_mm", "axial_long_axis_mm", "axial_perpendicular_mm", "axial_slice"),
        *("centroid_r_mm", "centroid_a_mm", "centroid_s_mm", "mean_intensity", "mean_probability"),
    ]
    assert [(row["id"], row["voxels"], row["volume_ml"], row["axial_slice"]) for row in rows] == [
        ("1", "4", "0.096", "2"),
        ("2", "1", "0.024", "4"),
    ]
    # 4 voxels of 2 mm from i = 3: the middle lies at -11.5 + 2 * 4.5 = -2.5 in L, so 2.5 in R.
    assert (rows[0]["long_axis_mm"], rows[0]["centroid_r_mm"]) == ("8.0", "2.5")
    assert (rows[0]["mean_intensity"], rows[0]["mean_probability"]) == ("50.0", "")


def test_a_case_without_lesions_has_a_table_with_only_a_header(tmp_path: Path) -> None:
    write_results(make_segmentation(tumours=()), tmp_path, html=False)
    assert (tmp_path / "lesions.csv").read_text(encoding="utf-8").count("\n") == 1
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["lesions"] == []


def test_the_report_has_measurements_and_provenance(segmentation: Segmentation, tmp_path: Path) -> None:
    write_results(segmentation, tmp_path, html=False)
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["schema_version"] == 1
    # 432 voxels of 0.024 ml are liver, tumours included; 5 are tumour.
    assert report["liver_ml"] == pytest.approx(432 * 0.024)
    assert report["tumour_ml"] == pytest.approx(5 * 0.024)
    assert report["burden_percent"] == pytest.approx(500 / 432)
    assert report["sensitivity"] == 1.0
    assert [lesion["voxels"] for lesion in report["lesions"]] == [4, 1]
    assert report["provenance"]["bundle_sha256"] == "0" * 64
    assert report["provenance"]["warnings"] == ["the scan is µ-small"]


def test_no_metadata_of_the_image_reaches_a_file(segmentation: Segmentation, tmp_path: Path) -> None:
    write_results(segmentation, tmp_path, html=False)
    assert "Doe" not in " ".join(header_of(tmp_path / "segmentation.seg.nrrd").values())
    assert segmentation.labels.GetMetaData("0010|0010") == "Doe^Jane"


def test_earlier_results_are_replaced_and_other_files_left_alone(
    segmentation: Segmentation, tmp_path: Path, report_page: None
) -> None:
    write_results(make_segmentation(tumours=()), tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    write_results(segmentation, tmp_path, html=False)
    after = contents(tmp_path)
    # The earlier page tells of the earlier result, so it goes.
    assert sorted(after) == sorted([*WITHOUT_PAGE, "notes.txt"])
    assert after["notes.txt"] == b"mine"
    assert after["lesions.csv"].count(b"\n") == 3


FAILURES = [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), RuntimeError("a bug")]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
@pytest.mark.parametrize("step", ["_write_table", "_write_compressed", "report_json"])
def test_a_failure_while_writing_leaves_everything_as_it_was(
    step: str, failure: BaseException, segmentation: Segmentation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_results(make_segmentation(tumours=()), tmp_path / "old", html=False)
    before = contents(tmp_path / "old")
    monkeypatch.setattr(output, step, raising(failure))
    expected = OutputError if isinstance(failure, OSError) else type(failure)
    for folder in (tmp_path / "old", tmp_path / "new" / "er"):
        with pytest.raises(expected):
            write_results(segmentation, folder, html=False)
    assert contents(tmp_path / "old") == before
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("moves", range(9))
def test_a_failure_between_the_moves_brings_the_earlier_files_back(
    moves: int, segmentation: Segmentation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report_page: None
) -> None:
    write_results(make_segmentation(tumours=()), tmp_path)
    before = contents(tmp_path)
    left = [moves]
    move = os.replace

    def fail_once(source: Path, target: Path) -> None:
        left[0] -= 1
        if left[0] == -1:
            raise KeyboardInterrupt
        move(source, target)

    monkeypatch.setattr(os, "replace", fail_once)
    with pytest.raises(KeyboardInterrupt):
        write_results(segmentation, tmp_path, html=False)
    assert contents(tmp_path) == before


def raising(failure: BaseException) -> Callable[..., None]:
    def fail(*arguments: object) -> None:
        raise failure

    return fail


def test_a_full_disk_is_named_as_such(
    segmentation: Segmentation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "_write_table", raising(FAILURES[0]))
    with pytest.raises(OutputError, match="wanted to write the results, got: the disk is full"):
        write_results(segmentation, tmp_path)


def test_a_label_map_that_the_disk_cut_off_is_noticed(
    segmentation: Segmentation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = sitk.WriteImage

    def write_part(image: sitk.Image, path: str, **options: object) -> None:
        write(image, path, **options)
        os.truncate(path, os.path.getsize(path) - 20)

    monkeypatch.setattr(sitk, "WriteImage", write_part)
    with pytest.raises(OutputError, match="got a cut-off file; is the disk full"):
        write_results(segmentation, tmp_path / "out", html=False)
    assert not (tmp_path / "out").exists()


def test_a_file_where_the_folder_should_be_is_an_error_before_and_while_writing(
    segmentation: Segmentation, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("mine")
    for folder in (tmp_path / "taken", tmp_path / "taken" / "below"):
        with pytest.raises(OutputError, match=r"wanted a folder for the results, got a file at .*taken"):
            check_writable(folder)
        with pytest.raises(OutputError, match="got a file"):
            write_results(segmentation, folder)
    assert (tmp_path / "taken").read_text(encoding="utf-8") == "mine"


def test_a_folder_where_a_file_should_be_is_not_swept_away(segmentation: Segmentation, tmp_path: Path) -> None:
    (tmp_path / "report.json").mkdir()
    with pytest.raises(OutputError, match=r"report\.json: wanted to write a file there, got a folder"):
        write_results(segmentation, tmp_path)


def test_a_folder_without_permission_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The permission is denied here rather than taken away, for root may write anywhere.
    denied = PermissionError(errno.EACCES, "Permission denied")
    monkeypatch.setattr(output.tempfile, "TemporaryFile", lambda **options: raising(denied)())
    with pytest.raises(OutputError, match="wanted a folder that can be written to, got: Permission denied"):
        check_writable(tmp_path / "out")


def test_asking_whether_one_can_write_leaves_no_trace(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b")
    check_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_labels_of_another_type_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="wanted 8-bit unsigned integers, got 16-bit signed integer"):
        write_seg_nrrd(sitk.Image(2, 2, 2, sitk.sitkInt16), tmp_path / "x.seg.nrrd")


def test_the_segmentation_file_says_what_slicer_asks_for(segmentation: Segmentation, tmp_path: Path) -> None:
    write_seg_nrrd(segmentation.labels, tmp_path / "x.seg.nrrd", algorithm_name="one|two")
    header = header_of(tmp_path / "x.seg.nrrd")
    assert header["space"] == "left-posterior-superior"
    assert header["encoding"] == "gzip"
    assert header["Segmentation_ContainedRepresentationNames"] == "Binary labelmap|"
    assert header["Segmentation_MasterRepresentation"] == "Binary labelmap"
    assert header["Segmentation_ReferenceImageExtentOffset"] == "0 0 0"
    assert header["Segmentation_ConversionParameters"] == ""
    for number, segment in enumerate(SEGMENTS):
        of_segment = {
            key.split("_", 1)[1]: value for key, value in header.items() if key.startswith(f"Segment{number}_")
        }
        tags = of_segment.pop("Tags")
        assert of_segment == {
            "ID": segment.name,
            "Name": segment.name,
            "NameAutoGenerated": "0",
            "Color": " ".join(str(part) for part in segment.colour),
            "ColorAutoGenerated": "0",
            "Extent": "0 13 0 11 0 7",
            "LabelValue": str(segment.label),
            "Layer": "0",
        }
        assert dict(tag.split(":", 1) for tag in tags.split("|") if tag) == {
            "DICOM.SegmentAlgorithmName": "one two",
            "DICOM.SegmentAlgorithmType": "AUTOMATIC",
            "Segmentation.Status": "notstarted",
            "TerminologyEntry": segment.terminology,
        }


def test_nifti_holds_the_same_place_in_ras(segmentation: Segmentation, tmp_path: Path) -> None:
    write_results(segmentation, tmp_path, html=False)
    header = gzip.decompress((tmp_path / "segmentation.nii.gz").read_bytes())[:352]
    assert struct.unpack("<f", header[108:112])[0] == 352.0
    # NIfTI is RAS: LPS' first axis and origin change sign.
    assert struct.unpack("<4f", header[280:296]) == pytest.approx((-2, 0, 0, 11.5))


# Runs apart: slicer-core brings its own ITK and VTK, and takes 1.5 s to load.
READ_IN_SLICER = """
import json, sys
import slicer, vtk

def tag(segment, key):
    value = vtk.reference("")
    segment.GetTag(key, value)
    return str(value)

def describe(segmentation, number):
    segment = segmentation.GetNthSegment(number)
    layer = segment.GetRepresentation("Binary labelmap")
    in_segment = vtk.vtkImageAccumulate()
    in_segment.SetInputData(layer)
    in_segment.SetComponentExtent(0, 255, 0, 0, 0, 0)
    in_segment.Update()
    counts = in_segment.GetOutput().GetPointData().GetScalars()
    matrix = vtk.vtkMatrix4x4()
    layer.GetImageToWorldMatrix(matrix)
    return {
        "id": segmentation.GetNthSegmentID(number),
        "name": segment.GetName(),
        "colour": segment.GetColor(),
        "voxels": counts.GetTuple1(segment.GetLabelValue()),
        "matrix": [[matrix.GetElement(row, column) for column in range(4)] for row in range(4)],
        "terminology": tag(segment, "TerminologyEntry"),
        "status": tag(segment, "Segmentation.Status"),
        "type": tag(segment, "DICOM.SegmentAlgorithmType"),
        "algorithm": tag(segment, "DICOM.SegmentAlgorithmName"),
    }

def read(path):
    scene = slicer.vtkMRMLScene()
    storage = slicer.vtkMRMLSegmentationStorageNode()
    node = slicer.vtkMRMLSegmentationNode()
    scene.AddNode(storage)
    scene.AddNode(node)
    storage.SetFileName(path)
    success = storage.ReadData(node)
    segmentation = node.GetSegmentation()
    return {
        "success": success,
        "layers": segmentation.GetNumberOfLayers("Binary labelmap"),
        "source": segmentation.GetSourceRepresentationName(),
        "segments": [describe(segmentation, number) for number in range(segmentation.GetNumberOfSegments())],
    }

print(json.dumps([read(path) for path in sys.argv[1:]]))
"""


@pytest.mark.skipif(find_spec("slicer") is None, reason="needs slicer-core: pip install 'LiverTumorSegLib[slicer]'")
def test_slicer_reads_back_segments_and_geometry(tmp_path: Path, oblique: tuple[float, ...]) -> None:
    cases = [make_segmentation(), make_segmentation((), LEFT_HANDED), make_segmentation((4, 1), oblique)]
    files = [write_results(each, tmp_path / str(n), html=False)[0] for n, each in enumerate(cases)]
    result = subprocess.run([sys.executable, "-c", READ_IN_SLICER, *files], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    for written, read in zip(cases, json.loads(result.stdout.splitlines()[-1]), strict=True):
        assert (read["success"], read["layers"], read["source"]) == (1, 1, "Binary labelmap")
        tumour_voxels = sum(lesion.voxels for lesion in written.lesions)
        assert [segment["voxels"] for segment in read["segments"]] == [432 - tumour_voxels, tumour_voxels]
        for style, segment in zip(SEGMENTS, read["segments"], strict=True):
            assert (segment["id"], segment["name"]) == (style.name, style.name)
            assert segment["terminology"] == style.terminology
            assert segment["colour"] == pytest.approx(style.colour, abs=1e-6)
            assert (segment["status"], segment["type"]) == ("notstarted", "AUTOMATIC")
            assert segment["algorithm"] == "LiverTumorSeg 9.9 (tiny 1)"
            np.testing.assert_allclose(segment["matrix"], ijk_to_ras(written.labels), atol=1e-9)


def ijk_to_ras(image: sitk.Image) -> np.ndarray:
    lps_to_ras = np.diag((-1.0, -1.0, 1.0))
    matrix = np.eye(4)
    matrix[:3, :3] = lps_to_ras @ np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    matrix[:3, 3] = lps_to_ras @ image.GetOrigin()
    return matrix
