"""The Slicer module: opening it, its file of controls, its logic on a real scene, its sample and its self-test."""

from __future__ import annotations

import ast
import dataclasses
import io
import re
import subprocess
import sys
import unittest
import warnings
import xml.etree.ElementTree
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("slicer", reason="needs slicer-core: pip install 'LiverTumorSeg[slicer]'")

import slicer

import LiverTumorSegLib.segmenter
import test_segmenter
from LiverTumorSegLib.errors import LiverTumorSegError, OutputError
from LiverTumorSegLib.panel import sample
from LiverTumorSegLib.scene import add_segmentation, add_volume
from LiverTumorSegLib.training.synthesis import cases
from slicer_host.nodes import LPS_TO_RAS, moved_by, places_of, result_for, voxels_of
from slicer_host.scripted_module import MODULE_FOLDER

MODULE = MODULE_FOLDER / "LiverTumorSeg.py"
CONTROLS = MODULE_FOLDER / "Resources" / "UI" / "LiverTumorSeg.ui"
REQUIREMENTS = str(MODULE_FOLDER / "Resources" / "requirements.txt")
NETWORK_LIBRARIES = ("torch", "monai", "openvino", "cc3d", "edt", "fill_voids", "safetensors", "isal")


@pytest.fixture(scope="module")
def module(slicer_started):
    """The module's file, imported with nothing but its own folder on the path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(MODULE_FOLDER))
        patch.delitem(sys.modules, "LiverTumorSeg", raising=False)
        import LiverTumorSeg

        yield LiverTumorSeg
    sys.modules.pop("LiverTumorSeg", None)


@pytest.fixture
def scene():
    return slicer.vtkMRMLScene()


@pytest.fixture
def engines(monkeypatch):
    """Networks that vote by brightness, see test_segmenter."""
    monkeypatch.setattr(
        LiverTumorSegLib.segmenter, "open_engine", lambda *args, **kwargs: test_segmenter.VoteByBrightness()
    )


def bright_scan(ellipsoid_scan, oblique) -> tuple[sitk.Image, sitk.Image]:
    """An oblique, left-handed scan that `VoteByBrightness` can read, and its labels."""
    left_handed = [-value if n % 3 == 0 else value for n, value in enumerate(oblique)]
    scan, truth = ellipsoid_scan((60, 60, 40), (3, 3, 4), left_handed, lesions=[((20, 10, 5), 14.0)])
    return test_segmenter.bright_tumours(scan, truth), truth


def test_module_and_panel_open_from_a_checkout_with_no_network_library_installed(tmp_path):
    program = f"""
import sys
from pathlib import Path
sys.path[:] = [p for p in sys.path if p and Path(p) != Path({str(MODULE_FOLDER.parent)!r})]
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in repr(f).lower()]
sys.modules.update(dict.fromkeys({NETWORK_LIBRARIES}))
sys.path.append({str(Path(__file__).parent)!r})
from slicer_host.application import start
from slicer_host.modules import open_module
app = start(Path({str(tmp_path)!r}))
assert "LiverTumorSegLib" not in sys.modules
module = open_module(Path({str(MODULE)!r}))
print(module.title, module.categories, module.contributors, "research" in module.helpText)
import qt
ui = module.widgetRepresentation().self().ui
print(ui.applyButton.text, ui.applyButton.enabled, ui.bundleComboBox.currentText)
module.close()
"""
    result = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-2:] == [
        "LiverTumorSeg ['Segmentation'] ['LiverTumorSeg developers'] True",
        "Apply False default",
    ]


def test_at_file_scope_the_module_imports_only_what_slicer_ships():
    tree = ast.parse(MODULE.read_text(encoding="utf-8"))
    names = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in tree.body if isinstance(node, ast.ImportFrom)}
    roots = {name.partition(".")[0] for name in names}
    assert roots - sys.stdlib_module_names <= {"slicer", "vtk", "numpy", "SimpleITK"}


def test_the_panel_has_every_control_that_the_code_uses_and_none_twice():
    controls = xml.etree.ElementTree.parse(CONTROLS)
    widgets = {widget.get("name"): widget.get("class") for widget in controls.iter("widget")}
    files = [MODULE, *(MODULE_FOLDER.parent / "LiverTumorSegLib" / "panel").glob("*.py")]
    used = {name for file in files for name in re.findall(r"\bui\.(\w+)", file.read_text(encoding="utf-8"))}
    assert used <= widgets.keys()
    assert {"correctionPlace", "segmentEditorWidget", "applyButton"} <= widgets.keys()
    assert len(widgets) == len(list(controls.iter("widget")))
    declared = {each.findtext("class") for each in controls.iter("customwidget")}
    assert {kind for kind in widgets.values() if kind and not kind.startswith("Q")} == declared
    links = [[each.findtext(end) for end in ("sender", "receiver")] for each in controls.iter("connection")]
    # The selectors learn of the scene; the editor does not, as it needs its node before.
    assert links == [["LiverTumorSeg", "inputVolumeSelector"], ["LiverTumorSeg", "segmentationSelector"]]


def test_every_parameter_has_a_control_or_is_tied_to_one_in_the_code(module):
    controls = xml.etree.ElementTree.parse(CONTROLS)
    named = {each.findtext("string") for each in controls.iter("property") if each.get("name") == "SlicerParameterName"}
    in_the_code = {"modality", "bundle", "device", "batchSource"}  # combo boxes whose entries come and go
    assert named | in_the_code == set(module.LiverTumorSegParameters.allParameters)


def test_the_icons_are_128_pixels_wide_and_high(repository):
    icons = [
        MODULE_FOLDER / "Resources" / "Icons" / "LiverTumorSeg.png",
        repository / "Resources" / "LiverTumorSeg.png",
    ]
    assert [sitk.ReadImage(str(icon)).GetSize() for icon in icons] == [(128, 128)] * 2


def test_the_logic_segments_a_volume_of_any_scene(module, scene, engines, monkeypatch, ellipsoid_scan, oblique):
    monkeypatch.setattr(slicer, "mrmlScene", None)
    scan, truth = bright_scan(ellipsoid_scan, oblique)
    volume = add_volume(scan, scene, "CT")
    told = []
    node = module.LiverTumorSegLogic().segment(
        volume, bundle=test_segmenter.bundle(), sensitivity=2.0, progress=lambda step, share: told.append(step)
    )
    assert node.GetScene() is scene
    assert node.GetAttribute("LiverTumorSeg.Sensitivity") == "2"
    assert told[0] == "whole: prepare"
    assert told[-1] == "labels"
    wanted = sitk.GetArrayFromImage(truth)
    for segment_id, label in (("liver", 1), ("tumour", 2)):
        assert len(voxels_of(node, segment_id)) == pytest.approx((wanted == label).sum(), rel=0.2)
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.Execute(truth)
    np.testing.assert_allclose(places_of(node, "tumour").mean(0), LPS_TO_RAS @ shape.GetCentroid(2), atol=1.5)


def test_the_logic_writes_into_the_segmentation_that_it_is_given(module, scene, engines, ellipsoid_scan, oblique):
    volume = add_volume(bright_scan(ellipsoid_scan, oblique)[0], scene, "CT")
    logic = module.LiverTumorSegLogic()
    node = logic.segment(volume, bundle=test_segmenter.bundle())
    assert logic.segment(volume, node, bundle=test_segmenter.bundle()) is node
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 1


def test_a_segmentation_that_may_not_be_replaced_is_refused_before_the_networks_run(
    module, scene, engines, ellipsoid_scan, oblique
):
    volume = add_volume(bright_scan(ellipsoid_scan, oblique)[0], scene, "CT")
    logic, told = module.LiverTumorSegLogic(), []
    edited = logic.segment(volume, bundle=test_segmenter.bundle())
    edited.GetSegmentation().AddEmptySegment("vessels", "vessels")
    elsewhere = slicer.vtkMRMLScene().AddNewNodeByClass("vtkMRMLSegmentationNode")
    for node, wanted in ((edited, "a person has edited, added or removed vessels"), (elsewhere, "nodes of one scene")):
        with pytest.raises(OutputError, match=wanted):
            logic.segment(volume, node, bundle=test_segmenter.bundle(), progress=lambda *step: told.append(step))
    assert told == []


def test_a_result_that_could_not_be_written_is_kept(module, scene, engines, ellipsoid_scan, oblique):
    volume = add_volume(bright_scan(ellipsoid_scan, oblique)[0], scene, "CT")
    logic, node = module.LiverTumorSegLogic(), add_segmentation(volume)

    def edit(step: str, share: float) -> None:
        node.GetSegmentation().AddEmptySegment("vessels", "vessels")

    with pytest.raises(OutputError, match="a person has edited, added or removed vessels"):
        logic.segment(volume, node, bundle=test_segmenter.bundle(), progress=edit)
    node.GetSegmentation().RemoveAllSegments()
    logic.redraw(1.0)
    assert len(voxels_of(node, "liver"))


def test_a_result_is_drawn_at_another_sensitivity_where_its_scan_was_moved_to(
    module, scene, engines, ellipsoid_scan, oblique
):
    volume = add_volume(bright_scan(ellipsoid_scan, oblique)[0], scene, "CT")
    logic = module.LiverTumorSegLogic()
    node = logic.segment(volume, bundle=test_segmenter.bundle())
    before = places_of(node, "tumour")
    moved_by([[1, 0, 0, 3], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], volume)
    logic.redraw(1.0)
    np.testing.assert_allclose(places_of(node, "tumour"), np.add(before, (3, 0, 0)))
    assert node.GetTransformNodeID() == volume.GetTransformNodeID()
    volume.HardenTransform()
    slicer.util.arrayFromVolume(volume)[0, 0, 0] += 1
    with pytest.raises(OutputError, match="CT: wanted the scan that was segmented, got other voxels elsewhere"):
        logic.redraw(1.0)


def test_a_volume_deleted_during_the_run_leaves_no_segmentation(module, scene, engines, ellipsoid_scan, oblique):
    volume = add_volume(bright_scan(ellipsoid_scan, oblique)[0], scene, "CT")

    def delete(step: str, share: float) -> None:
        scene.RemoveNode(volume)

    with pytest.raises(OutputError, match="CT: wanted a volume in a scene"):
        module.LiverTumorSegLogic().segment(volume, bundle=test_segmenter.bundle(), progress=delete)
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


@pytest.mark.filterwarnings("ignore::LiverTumorSegLib.errors.LiverTumorSegWarning")
def test_the_logic_runs_real_networks_from_a_bundle(module, scene, tiny_bundle, ellipsoid_scan):
    volume = add_volume(ellipsoid_scan()[0], scene, "CT")
    node = module.LiverTumorSegLogic().segment(volume, bundle=str(tiny_bundle), device="cpu")
    assert list(node.GetSegmentation().GetSegmentIDs()) == ["liver", "tumour"]
    assert node.GetAttribute("LiverTumorSeg.Bundle") == "tiny"
    assert re.fullmatch("[0-9a-f]{64}", node.GetAttribute("LiverTumorSeg.BundleSHA256"))
    assert node.GetAttribute("LiverTumorSeg.Device") == "cpu"


def test_the_latest_result_can_be_drawn_at_another_sensitivity(module, scene, engines, ellipsoid_scan, oblique):
    logic = module.LiverTumorSegLogic()
    with pytest.raises(LiverTumorSegError, match="none yet"):
        logic.redraw(2.0)
    volume = add_volume(bright_scan(ellipsoid_scan, oblique)[0], scene, "CT")
    node = logic.segment(volume, bundle=test_segmenter.bundle(), separateLesions=True)
    logic.redraw(2.0)
    assert node.GetAttribute("LiverTumorSeg.Sensitivity") == "2"
    assert list(node.GetSegmentation().GetSegmentIDs()) == ["liver", "tumour_1"]


@pytest.mark.parametrize("installed", [False, True])
def test_torch_is_installed_before_what_would_bring_another_torch(installed, module, slicer_app, monkeypatch):
    slicer_app.packages.torch = installed
    if not installed:
        monkeypatch.setitem(sys.modules, "torch", None)
    slicer_app.packages.missing = {"monai"}
    module.LiverTumorSegLogic.installRequirements(REQUIREMENTS)
    assert [name for name, _ in slicer_app.packages.asked] == [
        *([] if installed else ["PyTorchUtils"]),
        "LiverTumorSeg",
    ]


def test_without_torch_nothing_else_is_installed(module, slicer_app, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    slicer_app.packages.torch, slicer_app.packages.declined = False, True
    with pytest.raises(RuntimeError, match="declined"):
        module.LiverTumorSegLogic.installRequirements(REQUIREMENTS)
    assert "LiverTumorSeg" not in [name for name, _ in slicer_app.packages.asked]
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    with pytest.raises(RuntimeError, match="PyTorch extension is needed"):
        module.LiverTumorSegLogic.installRequirements(REQUIREMENTS)


@pytest.mark.filterwarnings("ignore:the sample scan drawn on this computer differs")
def test_the_sample_scan_is_drawn_on_this_computer_without_a_network(module, slicer_app):
    module.registerSampleData()
    told = slicer_app.samples.registered["SyntheticAbdomen"]
    assert Path(told["thumbnailFileName"]).is_file()
    assert re.fullmatch("SHA256:[0-9a-f]{64}", told["checksums"])
    (node,) = told["customDownloader"](None)
    assert node.GetName() == "SyntheticAbdomen"
    assert node.GetImageData().GetDimensions() == (133, 100, 87)
    low, high = node.GetImageData().GetScalarRange()
    assert -1100 < low < -900 < 300 < high  # air with its noise, and bone


def test_a_sample_that_differs_is_told_but_can_be_used(tmp_path, monkeypatch, ellipsoid_scan):
    drawn = write_ellipsoids(tmp_path, ellipsoid_scan)
    monkeypatch.setattr(cases, "write_case", lambda *arguments: drawn)
    monkeypatch.setattr(sample, "CHECKSUM", sample.checksum_of(drawn[0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sample.draw(tmp_path) == drawn
    other = sitk.ReadImage(str(drawn[0]))
    other[3, 3, 3] += 1
    sitk.WriteImage(other, str(drawn[0]))
    with pytest.warns(match="the sample scan drawn on this computer differs"):
        assert sample.draw(tmp_path) == drawn


def write_ellipsoids(folder: Path, ellipsoid_scan) -> tuple[Path, Path]:
    """A scan and its labels in the place of the synthetic abdomen."""
    paths = folder / "scan.nii.gz", folder / "labels.nii.gz"
    for image, path in zip(ellipsoid_scan(), paths, strict=True):
        sitk.WriteImage(image, str(path))
    return paths


@pytest.mark.filterwarnings("ignore:the sample scan drawn on this computer differs")
def test_the_self_test_passes_under_ctest(module, slicer_app):
    slicer_app.scene.AddNewNodeByClass("vtkMRMLTextNode", "left over")
    result, told = as_ctest_does(module)
    assert "test_from_scan_to_saved_scene" in told
    assert (result.skipped, result.wasSuccessful()) == ([], True), told
    assert slicer_app.scene.GetFirstNodeByName("left over") is None
    assert slicer_app.scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 1


def test_the_self_test_is_skipped_where_there_is_no_torch(module, slicer_app, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    result, told = as_ctest_does(module)
    assert [why for _, why in result.skipped] == ["needs PyTorch, which the panel installs"], told
    assert result.wasSuccessful()


def as_ctest_does(module) -> tuple[unittest.TestResult, str]:
    """What `slicer.testing.runUnitTest` makes of a module, and what it says."""
    told = io.StringIO()
    suite = unittest.TestLoader().loadTestsFromModule(module)
    return unittest.TextTestRunner(told, verbosity=2).run(suite), told.getvalue()


def test_the_self_test_fails_with_a_wrong_answer(module, slicer_app, monkeypatch, ellipsoid_scan):
    def nothing(image, *arguments, **more):
        labels = sitk.Image(image.GetSize(), sitk.sitkUInt8)
        labels.CopyInformation(image)
        return dataclasses.replace(result_for(image), labels=labels)

    monkeypatch.setattr(LiverTumorSegLib, "segment", nothing, raising=False)
    monkeypatch.setattr(sample, "draw", lambda folder: write_ellipsoids(folder, ellipsoid_scan))
    with pytest.raises(AssertionError):
        module.LiverTumorSegTest().runTest()
