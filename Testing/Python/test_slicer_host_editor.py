"""The host's segment editor really paints; its table, its 3D button and the views show what is in the segmentation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs slicer-core: pip install 'LiverTumorSeg[slicer]'")

import slicer

pytestmark = pytest.mark.usefixtures("slicer_app")

SHAPE = (12, 10, 8)  # voxels along i, j, k


@pytest.fixture
def segmentation():
    """A scan with a liver of 6 x 6 x 4 voxels, 2 x 2 x 2 of which are a tumour."""
    scan = slicer.util.addVolumeFromArray(np.zeros(SHAPE[::-1], np.int16), name="CT")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "CT segmentation")
    node.SetReferenceImageGeometryParameterFromVolumeNode(scan)
    labels = np.zeros(SHAPE[::-1], np.uint8)
    labels[2:6, 2:8, 3:9] = 1
    labels[3:5, 4:6, 5:7] = 2
    for label, name in enumerate(("liver", "tumour"), 1):
        node.GetSegmentation().AddEmptySegment(name, name)
        slicer.util.updateSegmentBinaryLabelmapFromArray((labels == label).astype(np.uint8), node, name, scan)
    node.CreateDefaultDisplayNodes()
    return node


@pytest.fixture
def editor(segmentation):
    made = slicer.qMRMLSegmentEditorWidget()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
    made.setMRMLSegmentEditorNode(node)
    made.setMRMLScene(slicer.mrmlScene)
    made.setSegmentationNode(segmentation)
    return made


def counts(node) -> tuple[int, int]:
    """Voxels of liver and of tumour."""
    arrays = (slicer.util.arrayFromSegmentBinaryLabelmap(node, name) for name in ("liver", "tumour"))
    return tuple(int(np.count_nonzero(array)) for array in arrays)


# One voxel of the tumour, one of the liver, and one of neither.
THREE = np.array([[5, 4, 3], [3, 2, 2], [0, 0, 0]])


def test_painting_takes_from_other_segments_and_is_undone(editor, segmentation):
    assert counts(segmentation) == (136, 8)
    editor.setCurrentSegmentID("tumour")
    editor.setActiveEffectByName("Paint")
    editor.paint(THREE)
    assert counts(segmentation) == (135, 10)
    editor.undo()
    assert counts(segmentation) == (136, 8)
    editor.redo()
    assert counts(segmentation) == (135, 10)


def test_erasing_leaves_a_hole_as_it_does_in_slicer(editor, segmentation):
    editor.setCurrentSegmentID("tumour")
    editor.setActiveEffectByName("Erase")
    editor.paint(THREE)
    assert counts(segmentation) == (136, 7)


def test_the_mask_and_the_overwrite_mode_of_the_editors_node_hold(editor, segmentation):
    node = editor.mrmlSegmentEditorNode()
    editor.setCurrentSegmentID("tumour")
    editor.setActiveEffectByName("Paint")
    node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedInsideSingleSegment)
    node.SetMaskSegmentID("liver")
    editor.paint(THREE)
    assert counts(segmentation) == (135, 9)
    editor.undo()
    node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere)
    node.SetOverwriteMode(node.OverwriteNone)
    editor.paint(THREE)
    assert counts(segmentation) == (136, 10)


def test_a_state_saved_by_the_program_is_undone_too(editor, segmentation):
    editor.saveStateForUndo()
    segmentation.GetSegmentation().RemoveSegment("tumour")
    editor.undo()
    assert list(segmentation.GetSegmentation().GetSegmentIDs()) == ["liver", "tumour"]


def test_the_editor_shows_and_takes_its_state_from_its_node(editor, segmentation):
    told = []
    editor.connect("currentSegmentIDChanged(QString)", told.append)
    assert (editor.currentSegmentID(), editor.segmentationNodeID()) == ("liver", segmentation.GetID())
    assert editor.sourceVolumeNode().GetName() == "CT"
    editor.setCurrentSegmentID("tumour")
    assert told == ["tumour"]
    editor.setActiveEffectByName("Paint")
    effect = editor.activeEffect()
    effect.setParameter("BrushSphere", 1)
    assert (effect.name, effect.parameter("BrushSphere"), effect.parameter("absent")) == ("Paint", "1", "")
    assert editor.mrmlSegmentEditorNode().GetActiveEffectName() == "Paint"
    editor.setActiveEffect(None)
    assert editor.activeEffect() is None
    assert editor.effectByName("no such effect") is None
    assert "Erase" in editor.availableEffectNames()


def test_the_editor_follows_what_others_do_to_its_node(editor, segmentation):
    node = editor.mrmlSegmentEditorNode()
    node.SetActiveEffectName("Erase")
    node.SetSelectedSegmentID("tumour")
    assert (editor.activeEffect().name, editor.currentSegmentID()) == ("Erase", "tumour")
    assert editor._table.selectedSegmentIDs() == ["tumour"]
    slicer.mrmlScene.RemoveNode(segmentation)
    assert editor.segmentationNode() is None


def test_the_editor_can_be_given_nothing_and_refuses_strokes_without_an_effect(editor):
    with pytest.raises(RuntimeError, match="Paint or Erase"):
        editor.paint(THREE)
    editor.setActiveEffectByName("Scissors")
    with pytest.raises(RuntimeError, match="Scissors"):
        editor.paint(THREE)
    told = []
    editor.connect("segmentationNodeChanged(vtkMRMLSegmentationNode*)", told.append)
    editor.setSegmentationNode(None)
    assert (editor.segmentationNode(), editor.activeEffect(), told) == (None, None, [None])


def test_the_editor_remembers_its_limit_of_undo_states_and_its_shortcuts(editor):
    editor.maximumNumberOfUndoStates = 7
    editor.installKeyboardShortcuts()
    editor.setupViewObservations()
    assert (editor.maximumNumberOfUndoStates, editor.shortcuts_installed, editor.views_observed) == (7, True, True)
    editor.uninstallKeyboardShortcuts()
    editor.removeViewObservations()
    assert (editor.shortcuts_installed, editor.views_observed) == (False, False)


def test_a_table_of_segments_follows_the_segmentation(segmentation):
    table = slicer.qMRMLSegmentsTableView()
    table.setSegmentationNode(segmentation)
    table.setSelectedSegmentIDs(["tumour"])
    segmentation.GetSegmentation().AddEmptySegment("cyst", "cyst")
    assert table._table.rowCount == 3
    assert table.selectedSegmentIDs() == ["tumour"]
    segmentation.GetSegmentation().RemoveSegment("tumour")
    assert (table._table.rowCount, table.selectedSegmentIDs()) == (2, [])


def test_the_button_makes_surfaces_and_takes_them_away(segmentation):
    button = slicer.qMRMLSegmentationShow3DButton()
    assert button.enabled is False
    button.setSegmentationNode(segmentation)
    assert (button.enabled, button.checked) == (True, False)
    button.click()
    assert segmentation.GetSegmentation().ContainsRepresentation("Closed surface")
    button.click()
    assert not segmentation.GetSegmentation().ContainsRepresentation("Closed surface")
    segmentation.CreateClosedSurfaceRepresentation()
    assert button.checked is True


def pixels(path: Path) -> np.ndarray:
    """(height, width, 3) colours."""
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[..., :3].astype(int)


def test_a_picture_of_a_widget_is_as_wide_as_asked_and_shows_it(tmp_path):
    import qt

    from slicer_host.pictures import grab

    label = qt.QLabel("text")
    label.styleSheet = "background: rgb(200, 30, 40)"
    grab(label, tmp_path / "label.png", 50, 20)
    picture = pixels(tmp_path / "label.png")
    assert picture.shape == (40, 100, 3)
    assert np.median(picture.reshape(-1, 3), 0).tolist() == [200, 30, 40]


def test_pictures_of_the_views_show_the_segments_in_their_colours(segmentation, slicer_app, tmp_path):
    from slicer_host.pictures import opengl_window, picture_3d, picture_slice

    if opengl_window() is None:
        pytest.skip("needs OpenGL without a screen (EGL or OSMesa)")
    for name, colour in (("liver", (0, 1, 0)), ("tumour", (1, 0, 0))):
        segmentation.GetSegmentation().GetSegment(name).SetColor(colour)
    segmentation.GetSegmentation().SetConversionParameter("Smoothing factor", "0")  # 8 voxels would vanish
    segmentation.CreateClosedSurfaceRepresentation()
    segmentation.GetDisplayNode().SetSegmentOpacity3D("liver", 0.3)
    red = slicer_app.layoutManager().sliceWidget("Red")
    red.sliceLogic().GetSliceCompositeNode().SetBackgroundVolumeID(slicer.util.getNode("CT").GetID())
    slicer_app.layoutManager().resetSliceViews()
    picture_slice(tmp_path / "slice.png", "Red", (200, 200))
    picture_3d(tmp_path / "space.png", (200, 200))
    for name in ("slice.png", "space.png"):
        picture = pixels(tmp_path / name)
        assert picture.shape == (200, 200, 3)
        tumour, liver, outside = picture[100, 100], picture[100, 60], picture[5, 5]
        assert tumour[0] > liver[0] + 20, "redder than the liver"
        assert liver.argmax() == 1
        assert outside.argmax() != 1
