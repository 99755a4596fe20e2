"""The Slicer module: opening it, what its panel is wired to, and its logic on a real scene."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import inspect
import re
import subprocess
import sys
import types
import xml.etree.ElementTree
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("slicer", reason="needs slicer-core: pip install 'LiverTumorSeg[slicer]'")

import slicer

import LiverTumorSegLib.segmenter
import test_segmenter
from LiverTumorSegLib.errors import OutputError
from LiverTumorSegLib.scene import add_volume
from LiverTumorSegLib.segmentation import Segmentation
from LiverTumorSegLib.training.synthesis import cases
from slicer_host.application import start
from slicer_host.nodes import LPS_TO_RAS, places_of, result_for, voxels_of
from slicer_host.scripted_module import MODULE_FOLDER

MODULE = MODULE_FOLDER / "LiverTumorSeg.py"
PANEL = MODULE_FOLDER / "Resources" / "UI" / "LiverTumorSeg.ui"
BLOCKED = ("torch", "monai", "openvino", "cc3d", "edt", "fill_voids", "safetensors", "isal", "qt", "ctk")


@pytest.fixture(scope="module", autouse=True)
def application(tmp_path_factory):
    return start(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def module(application):
    """The module, opened as Slicer does: with nothing but its own folder on the path."""
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


def test_the_module_opens_from_a_checkout_with_no_network_library_installed(tmp_path):
    program = f"""
import sys
from pathlib import Path
sys.path[:] = [p for p in sys.path if p and Path(p) != Path({str(MODULE_FOLDER.parent)!r})]
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in repr(f).lower()]
sys.path.append({str(Path(__file__).parent)!r})
sys.modules.update(dict.fromkeys({BLOCKED}))
from slicer_host import scripted_module
sys.modules["slicer.ScriptedLoadableModule"] = scripted_module
sys.path.append({str(MODULE_FOLDER)!r})
import LiverTumorSeg
from LiverTumorSegLib import scene
parent = type("Parent", (), {{}})()
LiverTumorSeg.LiverTumorSeg(parent)
print(parent.title, parent.categories, parent.contributors, "research" in parent.helpText)
"""
    result = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "LiverTumorSeg ['Segmentation'] ['LiverTumorSeg developers'] True"


def test_at_file_scope_the_module_imports_only_what_slicer_ships():
    tree = ast.parse(MODULE.read_text(encoding="utf-8"))
    names = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in tree.body if isinstance(node, ast.ImportFrom)}
    roots = {name.partition(".")[0] for name in names}
    assert roots - sys.stdlib_module_names <= {"slicer", "vtk", "numpy", "SimpleITK"}


def test_every_widget_that_the_code_uses_is_in_the_panel():
    panel = xml.etree.ElementTree.parse(PANEL)
    widgets = {widget.get("name"): widget.get("class") for widget in panel.iter("widget")}
    used = set(re.findall(r"\bself\.ui\.(\w+)", MODULE.read_text(encoding="utf-8")))
    assert used == {"volumeSelector", "bundleLineEdit", "applyButton", "statusLabel"}
    assert used <= widgets.keys()
    assert len(widgets) == len(list(panel.iter("widget"))), "each name is used once"
    declared = {each.findtext("class") for each in panel.iter("customwidget")}
    assert {kind for kind in widgets.values() if kind and not kind.startswith("Q")} == declared
    ends = [each.findtext(end) for each in panel.iter("connection") for end in ("sender", "receiver")]
    assert ends == ["LiverTumorSeg", "volumeSelector"]  # the selector learns of the scene


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


class Packages:
    """Stands in for the PyTorch extension and for `slicer.packaging`; notes in which order they are asked."""

    def __init__(self, monkeypatch, installed: bool, agreed: bool = True) -> None:
        self.asked: list[object] = []
        torch_logic = MagicMock()
        torch_logic.torchInstalled.return_value = installed
        torch_logic.installTorch.side_effect = lambda **how: self.asked.append(("torch", how)) or (agreed or None)
        extension = types.SimpleNamespace(PyTorchUtilsLogic=lambda: torch_logic)
        packaging = types.ModuleType("slicer.packaging")
        packaging.load_requirements = lambda path: Path(path).read_text(encoding="utf-8").splitlines()
        packaging.pip_ensure = lambda wanted, requester: self.asked.append((requester, wanted[1]))
        monkeypatch.setitem(sys.modules, "PyTorchUtils", extension)
        monkeypatch.setitem(sys.modules, "slicer.packaging", packaging)
        monkeypatch.setattr(slicer, "packaging", packaging, raising=False)


REQUIREMENTS = str(MODULE_FOLDER / "Resources" / "requirements.txt")


@pytest.mark.parametrize("installed", [False, True])
def test_torch_is_installed_before_what_would_bring_another_torch(installed, module, monkeypatch):
    packages = Packages(monkeypatch, installed)
    module.LiverTumorSegLogic.installRequirements(REQUIREMENTS)
    first = [] if installed else [("torch", {"askConfirmation": True})]
    assert packages.asked == [*first, ("LiverTumorSeg", "connected-components-3d>=3.12")]


def test_without_torch_nothing_else_is_installed(module, monkeypatch):
    packages = Packages(monkeypatch, installed=False, agreed=False)
    with pytest.raises(RuntimeError, match="declined"):
        module.LiverTumorSegLogic.installRequirements(REQUIREMENTS)
    assert [name for name, _ in packages.asked] == ["torch"]
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    with pytest.raises(RuntimeError, match="PyTorch extension is needed"):
        module.LiverTumorSegLogic.installRequirements(REQUIREMENTS)


@pytest.fixture
def widget(module, monkeypatch):
    """The panel's code with stand-ins for its four widgets, and packages that are there."""
    monkeypatch.setitem(sys.modules, "qt", MagicMock())
    Packages(monkeypatch, installed=True)
    panel = module.LiverTumorSegWidget()
    panel.logic = module.LiverTumorSegLogic()
    panel.ui = MagicMock()
    panel.ui.bundleLineEdit.text = " "
    return panel


def test_apply_segments_the_selected_volume_and_says_so(widget, scene, monkeypatch, ellipsoid_scan):
    scan, _ = ellipsoid_scan()
    volume = add_volume(scan, scene, "CT")
    widget.ui.volumeSelector.currentNode.return_value = volume
    asked, shown = [], []

    def segment(image, bundle, *, device, sensitivity, progress):
        asked.append((image.GetSize(), bundle, device, sensitivity, widget.ui.applyButton.enabled))
        progress("crop: network", 0.25)
        shown.append(widget.ui.statusLabel.text)
        return result_for(image)

    monkeypatch.setattr(LiverTumorSegLib, "segment", segment, raising=False)
    widget.onApply()
    assert asked == [(scan.GetSize(), "default", "auto", 1.0, False)]
    assert shown == ["crop: network: 25%. Slicer does not respond until this is done."]
    assert widget.ui.statusLabel.text == "Done: CT segmentation.\none\ntwo: 50% of it; a|b"
    assert widget.ui.applyButton.enabled is True
    assert len(voxels_of(scene.GetFirstNodeByClass("vtkMRMLSegmentationNode"), "tumour")) == 18


def test_a_run_that_fails_says_so_and_can_be_repeated(widget, scene, ellipsoid_scan):
    widget.ui.volumeSelector.currentNode.return_value = add_volume(ellipsoid_scan()[0], scene, "CT")
    widget.ui.bundleLineEdit.text = "no such bundle"
    with pytest.raises(ValueError, match="no such bundle"):
        widget.onApply()
    assert widget.ui.statusLabel.text == "Nothing was segmented."
    assert widget.ui.applyButton.enabled is True


def test_apply_needs_a_volume(widget):
    widget.ui.volumeSelector.currentNode.return_value = None
    widget.updateApplyButton()
    assert widget.ui.applyButton.enabled is False


@pytest.mark.parametrize("right", [True, False])
def test_the_self_test_passes_with_the_right_answer_only(right, module, monkeypatch, application, ellipsoid_scan):
    scan, truth = ellipsoid_scan()
    asked_for = inspect.signature(cases.write_case)

    def write_case(*arguments) -> list[Path]:
        folder = asked_for.bind(*arguments).arguments["folder"]
        paths = [folder / "scan.nii.gz", folder / "truth.nii.gz"]
        for image, path in zip((scan, truth), paths, strict=True):
            sitk.WriteImage(image, str(path))
        return paths

    def segment(image, *arguments, **more) -> Segmentation:
        nothing = sitk.Image(truth.GetSize(), sitk.sitkUInt8)
        nothing.CopyInformation(truth)
        return dataclasses.replace(result_for(image), labels=truth if right else nothing)

    monkeypatch.setattr(cases, "write_case", write_case)
    monkeypatch.setattr(LiverTumorSegLib, "segment", segment, raising=False)
    application.scene.AddNewNodeByClass("vtkMRMLTextNode")
    with contextlib.nullcontext() if right else pytest.raises(AssertionError):
        module.LiverTumorSegTest().runTest()
    assert application.scene.GetFirstNodeByClass("vtkMRMLTextNode") is None
    assert application.scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 1
