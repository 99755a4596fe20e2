"""The panel beside what else is in Slicer: its segment editor, other segmentations, views, pip, reloading."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest
import SimpleITK as sitk

pytest.importorskip("slicer", reason="needs slicer-core: pip install 'LiverTumorSeg[slicer]'")

import slicer

from LiverTumorSegLib.errors import PackageError
from LiverTumorSegLib.panel import sample
from LiverTumorSegLib.scene import add_labels, show_alone
from panel_host import done
from simulated_study import abdomen, make_study


def editor_node_of_slicer():
    """The node of the module Segment Editor."""
    node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
    node.UnRegister(None)
    node.SetSingletonTag("SegmentEditor")
    return slicer.mrmlScene.AddNode(node)


def shown_in_the_slices() -> set[str | None]:
    views = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    assert len(views) == 3
    return {view.GetBackgroundVolumeID() for view in views}


def test_slicers_own_segment_editor_keeps_its_segmentation_effect_and_masks(panel, two_lesions):
    own = editor_node_of_slicer()
    own.SetOverwriteMode(own.OverwriteNone)
    done(panel, two_lesions)
    panel.ui.segmentEditorWidget.setActiveEffectByName("Paint")
    assert own.GetSegmentationNode() is None
    assert not own.GetActiveEffectName()
    assert own.GetOverwriteMode() == own.OverwriteNone


def test_the_editor_stays_with_the_segmentation_of_the_panel(panel, two_lesions, tmp_path):
    _, earlier = done(panel, two_lesions, "A")
    slicer.util.saveScene(str(tmp_path / "a.mrb"))
    panel.parameters.segmentation = None
    _, node = done(panel, two_lesions, "B")
    slicer.util.loadScene(str(tmp_path / "a.mrb"))  # added to what is there
    shown = panel.ui.segmentEditorWidget.segmentationNode()
    assert shown is panel.parameters.segmentation is panel.results.node
    panel.parameters.segmentation = node
    panel.ui.segmentEditorWidget.setSegmentationNode(earlier)
    panel.widget.panel.show()
    assert panel.ui.segmentEditorWidget.segmentationNode() is node


def test_the_editor_of_a_panel_that_was_read_anew_lets_go(panel):
    before = panel.ui.segmentEditorWidget
    node = before.mrmlSegmentEditorNode()
    slicer.util.reloadScriptedModule("LiverTumorSeg")
    assert before.mrmlSegmentEditorNode() is None
    assert panel.ui.segmentEditorWidget.mrmlSegmentEditorNode() is node


@pytest.mark.parametrize("is_open", [True, False])
def test_a_panel_that_was_read_anew_is_open_if_it_was_before(panel, is_open):
    if not is_open:
        panel.place.exit()
    slicer.util.reloadScriptedModule("LiverTumorSeg")
    assert panel.ui.segmentEditorWidget.views_observed is is_open
    assert panel.ui.segmentEditorWidget.shortcuts_installed is is_open


def test_visits_add_nothing_that_observes_the_parameters(panel, monkeypatch):
    added, add_observer = [], type(panel.parameters).AddObserver
    monkeypatch.setattr(
        type(panel.parameters),
        "AddObserver",
        lambda pack, *how: added.append(add_observer(pack, *how)) or added[-1],
    )
    parameters = panel.parameters
    for _ in range(3):
        panel.place.exit()
        panel.place.enter()
    assert panel.parameters is parameters
    assert len(added) == 3
    observing = [parameters.parameterNode.GetCommand(tag) is not None for tag in added]
    assert observing == [False, False, True]
    panel.parameters.sensitivity = 2.0
    assert panel.ui.sensitivitySlider.value == 2.0


def test_the_slider_moves_in_small_steps_also_below_one(panel):
    slider = panel.ui.sensitivitySlider
    assert (slider.singleStep, slider.decimals) == (0.05, 2)
    assert (slider.minimum, slider.maximum) == (0.2, 5.0)


def test_a_case_is_shown_alone_and_the_views_fit_it(panel, two_lesions):
    _, earlier = done(panel, two_lesions)
    scan, labels = two_lesions
    moved = sitk.Image(scan)
    moved.SetOrigin([value + 1000 for value in scan.GetOrigin()])
    volume = panel.add(moved, "c02")
    labels.CopyInformation(moved)
    node = add_labels(labels, volume)
    show_alone(volume, node)
    assert shown_in_the_slices() == {volume.GetID()}
    bounds = [0.0] * 6
    volume.GetRASBounds(bounds)
    red = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode().GetSliceToRAS()
    assert all(bounds[2 * n] < red.GetElement(n, 3) < bounds[2 * n + 1] for n in range(3))
    assert not earlier.GetDisplayVisibility()
    assert node.GetDisplayVisibility()


def test_a_study_shows_its_case_and_nothing_of_the_one_before(panel, tmp_path):
    make_study(tmp_path, {"c01": []}, {"c01": abdomen([((10, 20, 24), 3)])}, ["R1"], washout_days=0)
    wanted = panel.parameters
    wanted.sessionFolder, wanted.readerCode = str(tmp_path / "study"), "R1"
    for _ in range(2):
        panel.ui.nextCaseButton.click()
    assert shown_in_the_slices() == {wanted.inputVolume.GetID()}
    shown = [node for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode") if node.GetDisplayVisibility()]
    assert shown == [wanted.segmentation]
    assert panel.at.centred == 2


def test_the_sample_scan_is_seen_when_it_was_drawn(panel, two_lesions, slicer_app, monkeypatch):
    def draw(folder: Path) -> tuple[Path, Path]:
        sitk.WriteImage(two_lesions[0], str(folder / "scan.nii.gz"))
        return folder / "scan.nii.gz", folder / "labels.nii.gz"

    monkeypatch.setattr(sample, "draw", draw)
    sys.modules["LiverTumorSeg"].registerSampleData()
    (node,) = slicer_app.samples.registered["SyntheticAbdomen"]["customDownloader"](None)
    assert shown_in_the_slices() == {node.GetID()}


def test_a_sample_whose_packages_are_declined_is_told_in_a_box_and_not_drawn(panel, slicer_app, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    slicer_app.packages.torch, slicer_app.packages.declined = False, True
    sys.modules["LiverTumorSeg"].registerSampleData()
    with pytest.raises(PackageError, match="declined"):
        slicer_app.samples.registered["SyntheticAbdomen"]["customDownloader"](None)
    told = "The sample scan was not drawn.\n\nPyTorch is needed, and installing it was declined."
    assert slicer_app.messages.texts[-1] == told
    assert slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") == []


@pytest.mark.parametrize("installed", [True, False])
def test_an_installation_that_fails_is_told_in_one_line(panel, slicer_app, monkeypatch, installed):
    if not installed:
        monkeypatch.setitem(sys.modules, "torch", None)
    slicer_app.packages.torch = installed
    slicer_app.packages.missing = {"monai"}
    slicer_app.packages.failure = subprocess.CalledProcessError(1, ["pip", "install", "monai"])
    packages = sys.modules["LiverTumorSeg"].Packages(panel.widget.resourcePath("requirements.txt"))
    with pytest.raises(RuntimeError, match=r"could not be installed.*Python console") as told:
        packages.ensure()
    assert "\n" not in str(told.value)


def test_nothing_is_installed_while_something_is_installed(panel, slicer_app, monkeypatch):
    packages = sys.modules["LiverTumorSeg"].Packages(panel.widget.resourcePath("requirements.txt"))
    told = []

    def events_run(*arguments, **more):
        with pytest.raises(RuntimeError, match="are being installed") as again:
            packages.ensure()
        told.append(str(again.value))

    monkeypatch.setattr(slicer.packaging, "pip_ensure", events_run)
    packages.ensure()
    packages.ensure()
    assert len(told) == 2


def test_what_slicer_brings_is_not_replaced(panel, slicer_app, monkeypatch):
    asked = []
    monkeypatch.setattr(
        slicer.packaging,
        "pip_ensure",
        lambda *arguments, constraints, **more: asked.extend(constraints.read_text(encoding="utf-8").split()),
    )
    sys.modules["LiverTumorSeg"].Packages(panel.widget.resourcePath("requirements.txt")).ensure()
    names = ("torch", "numpy", "SimpleITK")
    assert asked == [f"{name}=={importlib.metadata.version(name)}" for name in names]
