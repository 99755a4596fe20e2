"""What of a segmentation survives saving: segment files, scene files with the lesion table, exports."""

from __future__ import annotations

import csv
import math
import re

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("slicer", reason="needs slicer-core: pip install 'LiverTumorSeg[slicer]'")

import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from LiverTumorSegLib.errors import OutputError
from LiverTumorSegLib.scene import (
    FORMATS,
    LesionRow,
    add_segmentation,
    add_volume,
    export_segmentation,
    image_from_volume,
    lesion_table_of,
    lesions_in,
    read_lesion_table,
    reject_lesion,
    restore_lesion,
    write_lesion_table,
    write_segmentation,
)
from slicer_host.nodes import (
    LPS_TO_RAS,
    QUARTER_TURN,
    expected_places,
    labels_in,
    moved_by,
    oblique_scan,
    places_of,
    read_seg_nrrd,
    result_for,
    result_of,
    same_segments,
    three_lesions,
    voxels_of,
    written,
    written_as,
)

pytestmark = pytest.mark.usefixtures("slicer_started")


@pytest.fixture
def scan() -> sitk.Image:
    return oblique_scan()


@pytest.fixture
def saved_scene(slicer_started):
    """The application's scene, which can be written and read; empty before and after."""
    slicer_started.scene.Clear(0)
    yield slicer_started.scene
    slicer_started.scene.Clear(0)


def decided(node, volume) -> list[LesionRow]:
    """The first lesion accepted, the second rejected, the third as it was proposed."""
    first, second, third = lesions_in(node, volume)
    return [
        LesionRow(first, "accepted"),
        LesionRow(second, "rejected", reject_lesion(node, volume, second)),
        LesionRow(third),
    ]


def columns_of(table) -> dict[str, list]:
    rows = range(table.GetNumberOfRows())
    columns = [table.GetTable().GetColumn(n) for n in range(table.GetNumberOfColumns())]
    return {column.GetName(): [column.GetValue(n) for n in rows] for column in columns}


def test_an_empty_result_has_both_segments_and_can_be_saved(scan, scene, tmp_path):
    _, node = written(scan, scene, liver=False, tumour=False)
    back = read_seg_nrrd(node, tmp_path / "empty.seg.nrrd")
    assert [back.GetSegmentation().GetNthSegment(n).GetName() for n in (0, 1)] == ["liver", "tumour"]


@pytest.mark.parametrize("separate", [False, True])
def test_a_segmentation_file_keeps_segments_and_provenance(separate, scan, scene, tmp_path):
    _, node = written_as(result_of(scan, three_lesions(scan)), scene, separate)
    same_segments(read_seg_nrrd(node, tmp_path / "a.seg.nrrd"), node)


def test_a_scene_file_keeps_everything(scan, saved_scene, tmp_path):
    _, node = written(scan, saved_scene)
    assert saved_scene.WriteToMRB(str(tmp_path / "a.mrb"))
    kept = slicer.vtkMRMLSegmentationNode()
    kept.GetSegmentation().DeepCopy(node.GetSegmentation())
    attributes = {name: node.GetAttribute(name) for name in node.GetAttributeNames()}
    saved_scene.Clear(False)
    assert saved_scene.ReadFromMRB(str(tmp_path / "a.mrb"))
    back = saved_scene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    same_segments(back, kept)
    assert {name: back.GetAttribute(name) for name in back.GetAttributeNames()} == attributes
    assert back.GetNodeReference("referenceImageGeometryRef").GetName() == "CT"
    assert back.GetDisplayNode().GetSegmentOpacity3D("liver") == pytest.approx(0.35)
    # Slicer turns the slices of a left-handed volume round when it reads them; the next result follows.
    volume = saved_scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
    result = result_for(image_from_volume(volume))
    write_segmentation(result, back, volume)
    np.testing.assert_allclose(places_of(back, "tumour"), expected_places(result.labels, 2), atol=1e-4)


def test_the_lesion_table_shows_what_was_measured_and_decided(scan, scene):
    volume, node = written_as(result_of(scan, three_lesions(scan)), scene)
    share = sitk.GetImageFromArray(np.full((9, 12, 14), 0.75, np.float32))
    share.CopyInformation(scan)
    rows = [LesionRow(placed) for placed in lesions_in(node, volume, share)]
    table = write_lesion_table(scene, node, rows)
    told = columns_of(table)
    assert told["number"] == [1, 2, 3]
    assert told["volume (ml)"] == pytest.approx([18 * 0.003, 8 * 0.003, 2 * 0.003])
    assert told["probability"] == pytest.approx([0.75] * 3)
    assert told["decision"] == ["proposed"] * 3
    lesion = rows[1].lesion.lesion
    assert [told[name][1] for name in ("long axis (mm)", "perpendicular (mm)", "mean intensity")] == pytest.approx(
        [lesion.axial_long_axis_mm, lesion.axial_perpendicular_mm, lesion.mean_intensity]
    )
    centre = scan.TransformContinuousIndexToPhysicalPoint((9.5, 7.5, 5.5)) @ LPS_TO_RAS
    assert [told[name][1] for name in ("R (mm)", "A (mm)", "S (mm)")] == pytest.approx(centre.tolist())


def test_what_was_not_measured_is_not_a_number_in_the_table(scan, scene):
    volume, node = written_as(result_of(scan, three_lesions(scan)), scene)
    table = write_lesion_table(scene, node, [LesionRow(placed) for placed in lesions_in(node, volume)])
    assert all(math.isnan(each) for each in columns_of(table)["probability"])


def test_a_segmentation_has_one_lesion_table(scan, scene):
    volume, node = written_as(result_of(scan, three_lesions(scan)), scene)
    assert lesion_table_of(node) is None
    assert read_lesion_table(node) == []
    rows = decided(node, volume)
    table = write_lesion_table(scene, node, rows)
    assert write_lesion_table(scene, node, rows[:2]) is table is lesion_table_of(node)
    assert table.GetName() == "CT segmentation lesions"
    assert columns_of(table)["decision"] == ["accepted", "rejected"]
    assert scene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 1
    assert scene.GetFirstNodeByClass("vtkMRMLTextNode").GetHideFromEditors()
    with pytest.raises(OutputError, match="wanted a segmentation of this scene"):
        write_lesion_table(slicer.vtkMRMLScene(), node, rows)


@pytest.mark.parametrize("separate", [False, True])
def test_decisions_come_back_with_the_scene_and_rejected_lesions_can_be_restored(separate, scan, saved_scene, tmp_path):
    labels = three_lesions(scan)
    volume, node = written_as(result_of(scan, labels), saved_scene, separate)
    rows = decided(node, volume)
    write_lesion_table(saved_scene, node, rows)
    ids = node.GetSegmentation().GetSegmentIDs()
    assert saved_scene.WriteToMRB(str(tmp_path / "a.mrb"))
    saved_scene.Clear(False)
    assert saved_scene.ReadFromMRB(str(tmp_path / "a.mrb"))
    node = saved_scene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    volume = saved_scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
    assert columns_of(lesion_table_of(node))["decision"] == ["accepted", "rejected", "proposed"]
    back = read_lesion_table(node)
    assert [row.decision for row in back] == ["accepted", "rejected", "proposed"]
    assert [row.lesion.lesion for row in back] == [row.lesion.lesion for row in rows]
    assert [row.lesion.segment_id for row in back] == [row.lesion.segment_id for row in rows]
    assert [row.rejected is None for row in back] == [True, False, True]
    assert [placed.lesion.voxels for placed in lesions_in(node, volume)] == [18, 2]
    restore_lesion(node, back[1].rejected)
    assert np.array_equal(labels_in(node, volume), labels[::-1])  # the volume is left-handed, see above
    assert [len(voxels_of(node, each)) for each in ids] == ([532, 18, 8, 2] if separate else [532, 28])
    # A lesion that was found before saving can be rejected after it.
    reject_lesion(node, volume, back[0].lesion)
    assert [placed.lesion.voxels for placed in lesions_in(node, volume)] == [8, 2]


@pytest.mark.parametrize("text", ["", "[1]", '[{"decision": "proposed"}]', "{"])
def test_a_record_that_something_else_wrote_is_refused(text, scan, scene):
    volume, node = written_as(result_of(scan, three_lesions(scan)), scene)
    write_lesion_table(scene, node, decided(node, volume))
    scene.GetFirstNodeByClass("vtkMRMLTextNode").SetText(text)
    with pytest.raises(OutputError, match="wanted the record of a lesion table"):
        read_lesion_table(node)


@pytest.fixture(params=[False, True], ids=["as it is", "moved"])
def exported(request, scan, scene):
    """Volume and segmentation, with and without a transform above them; and their scan in the world."""
    volume = add_volume(scan, scene, "CT")
    if request.param:
        moved_by(QUARTER_TURN, volume)
    image, node = image_from_volume(volume), add_segmentation(volume)
    write_segmentation(result_of(image, three_lesions(image)), node, volume, separate_lesions=True)
    return volume, node, image


def test_an_export_has_every_file_that_was_asked_for(exported, tmp_path):
    volume, node, _ = exported
    files = export_segmentation(node, volume, tmp_path / "new" / "folder")
    stem = "CT segmentation"
    assert sorted(path.name for path in files) == sorted(
        [f"{stem}{end}" for end in (".seg.nrrd", ".nii.gz", ".obj", ".mtl", "_lesions.csv")]
        + [f"{stem}_{name}.stl" for name in ("liver", "tumour 1", "tumour 2", "tumour 3")]
    )
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == sorted(path.name for path in files)


def test_exported_labels_lie_where_the_views_show_them(exported, tmp_path):
    volume, node, image = exported
    nifti, segments = export_segmentation(node, volume, tmp_path, ["nii.gz", "seg.nrrd"])
    labels = sitk.ReadImage(str(nifti))
    assert np.array_equal(sitk.GetArrayFromImage(labels), three_lesions(image))
    np.testing.assert_allclose(labels.GetOrigin(), image.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(labels.GetDirection(), image.GetDirection(), atol=1e-5)
    other = slicer.vtkMRMLScene()
    storage = other.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(segments))
    back = other.AddNewNodeByClass("vtkMRMLSegmentationNode")
    assert storage.ReadData(back)
    assert back.GetSegmentation().GetSegmentIDs() == ("liver", "tumour_1", "tumour_2", "tumour_3")
    np.testing.assert_allclose(places_of(back, "tumour_2"), places_of(node, "tumour_2"), atol=1e-4)


@pytest.mark.parametrize("kind", ["stl", "obj"])
def test_exported_surfaces_are_in_lps_where_the_views_show_them(kind, exported, tmp_path):
    volume, node, _ = exported
    files = export_segmentation(node, volume, tmp_path, [kind])
    path = next(path for path in files if path.name.endswith(f"tumour 1.{kind}" if kind == "stl" else ".obj"))
    reader = vtk.vtkSTLReader() if kind == "stl" else vtk.vtkOBJReader()
    reader.SetFileName(str(path))
    reader.Update()
    points = vtk_to_numpy(reader.GetOutput().GetPoints().GetData()) @ LPS_TO_RAS
    places = places_of(node, "tumour_1" if kind == "stl" else "liver")
    np.testing.assert_allclose(points.max(0) + points.min(0), places.max(0) + places.min(0), atol=1.0)
    assert "SPACE=LPS" in path.read_bytes()[:200].decode("ascii", "replace")


def test_surfaces_are_exported_where_none_are_shown_and_then_are_not_shown(scan, scene, tmp_path):
    volume, node = written(scan, scene)
    node.RemoveClosedSurfaceRepresentation()
    assert [path.name for path in export_segmentation(node, volume, tmp_path, ["stl"])] == [
        "CT segmentation_liver.stl",
        "CT segmentation_tumour.stl",
    ]
    assert not node.GetSegmentation().ContainsRepresentation("Closed surface")


def test_the_exported_table_lists_the_lesions_as_they_are_now(scan, scene, tmp_path):
    volume, node = written_as(result_of(scan, three_lesions(scan)), scene)
    reject_lesion(node, volume, lesions_in(node, volume)[1])
    (path,) = export_segmentation(node, volume, tmp_path, ["csv"])
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], row["voxels"], row["volume_ml"]) for row in rows] == [("1", "18", "0.054"), ("2", "2", "0.006")]
    assert list(rows[0])[:4] == ["id", "voxels", "volume_ml", "long_axis_mm"]


def test_an_export_replaces_its_own_files_and_no_others(scan, scene, tmp_path):
    volume, node = written(scan, scene)
    (tmp_path / "notes.txt").write_text("keep", encoding="utf-8")
    first = export_segmentation(node, volume, tmp_path, FORMATS)
    assert export_segmentation(node, volume, tmp_path, FORMATS) == first
    assert len(list(tmp_path.iterdir())) == len(first) + 1


def test_an_export_that_fails_leaves_the_folder_as_it_was(scan, scene, tmp_path):
    volume, node = written(scan, scene)
    (tmp_path / "CT segmentation.nii.gz").write_text("earlier", encoding="utf-8")
    (tmp_path / "CT segmentation_lesions.csv").mkdir()  # in the way of a file
    with pytest.raises(OutputError, match=r"got: a folder CT segmentation_lesions\.csv stands where a file is to go"):
        export_segmentation(node, volume, tmp_path, ["nii.gz", "csv"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["CT segmentation.nii.gz", "CT segmentation_lesions.csv"]
    assert (tmp_path / "CT segmentation.nii.gz").read_text(encoding="utf-8") == "earlier"
    with pytest.raises(OutputError, match="wanted to write the segmentation there, got"):
        export_segmentation(node, volume, tmp_path / "CT segmentation.nii.gz" / "below", ["csv"])


def test_an_unknown_format_is_refused_before_anything_is_written(scan, scene, tmp_path):
    volume, node = written(scan, scene)
    for formats, told in ((["stl", "docx"], "docx"), ([], "nothing")):
        with pytest.raises(OutputError, match=f"wanted some of .*, got {told}"):
            export_segmentation(node, volume, tmp_path / "new", formats)
    assert not (tmp_path / "new").exists()


def test_a_name_that_is_no_file_s_is_made_one(scan, scene, tmp_path):
    volume, node = written(scan, scene)
    node.SetName("../a/b: c?")
    assert [path.name for path in export_segmentation(node, volume, tmp_path, ["nii.gz"])] == ["ab c.nii.gz"]


@pytest.mark.parametrize("names", [("检查一", "检查二"), ("हिं", "हां"), ("CT 🙂", "CT 🙃"), ("Müller", "Moller")])
def test_scans_with_other_names_have_other_files_in_any_script(names, scan, scene, tmp_path):
    volume, node = written(scan, scene)
    kinds = ("seg.nrrd", "nii.gz", "stl", "obj", "csv")
    files = []
    for name in names:
        node.SetName(f"{name} segmentation")
        files += export_segmentation(node, volume, tmp_path, kinds)
        assert node.GetName() == f"{name} segmentation"
    assert len(list(tmp_path.iterdir())) == len(files) == 14


def test_files_keep_the_letters_of_any_script_and_surfaces_an_ascii_name(scan, scene, tmp_path):
    volume, node = written(scan, scene)
    node.SetName("检查一/Scho\u0308n 2")  # an o, and a mark above it
    nifti, *surfaces = export_segmentation(node, volume, tmp_path, ["nii.gz", "stl", "obj"])[::-1]
    assert nifti.name == "检查一Schön 2.nii.gz"
    (stem,) = {path.name.partition("_")[0].partition(".")[0] for path in surfaces}
    assert re.fullmatch(r"Schn 2 [0-9a-f]{8}", stem)
    assert sorted(path.name for path in surfaces) == [
        f"{stem}.mtl",
        f"{stem}.obj",
        f"{stem}_liver.stl",
        f"{stem}_tumour.stl",
    ]


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("con", "_con"),
        ("LPT1.x", "_LPT1.x"),
        ("nul .", "_nul"),
        ("console", "console"),
        ("com1 a", "com1 a"),
        ("..", "segmentation"),
    ],
)
def test_no_file_has_a_name_that_windows_keeps_for_itself(name, stem, scan, scene, tmp_path):
    volume, node = written(scan, scene)
    node.SetName(name)
    assert [path.name for path in export_segmentation(node, volume, tmp_path, ["nii.gz"])] == [f"{stem}.nii.gz"]
    assert export_segmentation(node, volume, tmp_path, ["stl"])[0].name == f"{stem}_liver.stl"


@pytest.mark.parametrize("name", ["liver/left", "tumour", "x" * 300])
def test_a_surface_that_slicer_would_leave_out_silently_is_told(scan, scene, tmp_path, name):
    volume, node = written(scan, scene)
    node.GetSegmentation().GetSegment("liver").SetName(name)
    with pytest.raises(OutputError, match="1 of 2 STL files: two segments have one name, or one that no file may have"):
        export_segmentation(node, volume, tmp_path / "out", ["stl"])
    assert not (tmp_path / "out").exists()
