"""Segments on other grids than the scan's: by "Specify geometry" of the Segment Editor, or copied from elsewhere."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("slicer", reason="needs slicer-core: pip install 'LiverTumorSeg[slicer]'")

import slicer

from LiverTumorSegLib.scene import (
    LiverKeeper,
    add_volume,
    export_segmentation,
    is_edited,
    lesions_in,
    reject_lesion,
    restore_lesion,
    summary_of,
)
from LiverTumorSegLib.scene.segments import TUMOUR_STYLE
from LiverTumorSegLib.scene.voxels import Block
from slicer_host.nodes import (
    Editor,
    copy_tumour,
    labels_in,
    oblique_scan,
    result_of,
    specify_geometry,
    three_lesions,
    voxels_of,
    written_as,
)

pytestmark = pytest.mark.usefixtures("slicer_started")

FIRST = np.s_[3:5, 4:7, 5:8]
BEYOND = np.s_[0:2, 4:7, 5:8]  # half of it is outside the liver, which begins at k = 1
BESIDE = np.s_[5:7, 1:3, 5:8]  # likewise, at j = 2
COPIED = np.s_[6:8, 3:5, 3:5]  # in the liver, away from the three lesions
THICK, COARSE, FINE = (1.0, 1.0, 2.0), (2.0, 2.0, 2.0), (0.5, 0.5, 0.5)
FLAT, FINER = (2.0, 1.0, 2.0), (0.4, 0.4, 0.4)  # no voxel halfway between two of the scan's


class Watched:
    """Three lesions in a liver, an editor, and a keeper that tells what changed."""

    def __init__(self, application, separate: bool = True) -> None:
        self.scan, self.scene = oblique_scan(), slicer.vtkMRMLScene()  # nodes do not keep their scene
        self.volume, self.node = written_as(result_of(self.scan, three_lesions(self.scan)), self.scene, separate)
        self.editor = Editor(application, self.node, self.volume)
        self.told: list[object] = []
        self.watch()

    def watch(self) -> None:
        """Let a keeper begin with what is there now."""
        self.keeper = LiverKeeper(self.node, self.told.append)

    def held(self) -> dict[str, list[list[int]]]:
        return {each: voxels_of(self.node, each).tolist() for each in self.node.GetSegmentation().GetSegmentIDs()}

    def copy_tumour(self, factor: float = 0.5) -> None:
        copy_tumour(self.node, self.volume, COPIED, factor)


@pytest.fixture(params=[False, True], ids=["one segment", "one each"])
def watched(request, slicer_started):
    made = Watched(slicer_started, request.param)
    yield made
    made.keeper.stop()


@pytest.mark.parametrize("factors", [THICK, COARSE, FINE, (1.0, 1.0, 0.5)])
@pytest.mark.parametrize("layers", [1, 2])
def test_specifying_another_geometry_gives_what_slicer_gives_and_is_no_edit(slicer_started, factors, layers):
    alone, watched = Watched(slicer_started), Watched(slicer_started)
    for each in (alone, watched):
        each.keeper.stop()
        if layers == 2:
            each.node.GetSegmentation().SeparateSegmentLabelmap("tumour_1")
    watched.watch()
    for each in (alone, watched):
        specify_geometry(each.node, each.volume, factors)
    assert watched.held() == alone.held()
    assert watched.told == []
    assert not is_edited(watched.node)


def test_after_another_geometry_what_is_erased_from_a_tumour_is_liver_again(watched):
    specify_geometry(watched.node, watched.volume, COARSE)
    organ = summary_of(watched.node, watched.volume).liver_ml
    assert summary_of(watched.node, watched.volume).tumour_ml > 0
    for each in watched.held():
        if each != "liver":
            watched.editor.erase(each, np.s_[0:4, 0:6, 0:7])
    after = summary_of(watched.node, watched.volume)
    assert (after.liver_ml, after.tumour_ml) == (pytest.approx(organ), 0)
    assert all(change.how == "edited" for change in watched.told)


@pytest.mark.parametrize(("factors", "there"), [(FLAT, np.s_[2:4, 1:3, 2:5]), (FINER, np.s_[11:18, 1:7, 11:20])])
def test_a_stroke_beyond_the_liver_leaves_nothing_when_it_is_erased_on_another_grid(slicer_started, factors, there):
    alone, watched = Watched(slicer_started), Watched(slicer_started)
    watched.editor.paint("tumour_1", BESIDE)
    for each in (alone, watched):
        specify_geometry(each.node, each.volume, factors)
    assert watched.held() != alone.held()
    watched.editor.erase("tumour_1", there)
    assert watched.held() == alone.held()


def test_a_stroke_beyond_the_liver_leaves_nothing_when_it_is_erased_after_undo_of_another_geometry(watched):
    before, tumour = watched.held(), "tumour_1" if "tumour_1" in watched.held() else "tumour"
    watched.editor.paint(tumour, BEYOND)
    assert watched.editor.logic.SaveStateForUndo()
    specify_geometry(watched.node, watched.volume, FINE)
    watched.editor.undo()
    specify_geometry(watched.node, watched.volume, (1, 1, 1))  # the scan's, for the strokes
    watched.editor.erase(tumour, BEYOND)
    assert watched.held() == before


def test_undo_brings_back_the_geometry_before_and_is_no_edit_of_anything(watched):
    before, tumour = watched.held(), "tumour_1" if "tumour_1" in watched.held() else "tumour"
    assert watched.editor.logic.SaveStateForUndo()
    specify_geometry(watched.node, watched.volume, FINE)
    watched.editor.undo()
    assert watched.held() == before
    assert watched.told == []
    assert not is_edited(watched.node)
    specify_geometry(watched.node, watched.volume, (1, 1, 1))  # the scan's, for the strokes
    labels = labels_in(watched.node, watched.volume)
    watched.editor.erase(tumour, FIRST)
    labels[FIRST] = 1
    assert np.array_equal(labels_in(watched.node, watched.volume), labels)


def test_a_lesion_of_before_another_geometry_is_restored_where_it_was(watched):
    rejected = reject_lesion(watched.node, watched.volume, lesions_in(watched.node, watched.volume)[0])
    specify_geometry(watched.node, watched.volume, FINE)
    restore_lesion(watched.node, rejected)
    assert np.array_equal(labels_in(watched.node, watched.volume), three_lesions(watched.scan))


@pytest.mark.parametrize("factor", [0.5, 0.7])
def test_a_tumour_copied_from_another_segmentation_is_a_lesion(watched, factor):
    watched.copy_tumour(factor=factor)
    found = lesions_in(watched.node, watched.volume)
    assert [each.segment_id for each in found].count("copied") == 1
    copied = next(each for each in found if each.segment_id == "copied")
    assert copied.lesion.voxels == 8
    assert len(found) == 4


def test_a_copied_tumour_is_rejected_and_restored(watched):
    before = labels_in(watched.node, watched.volume)
    watched.copy_tumour()
    with_copy = labels_in(watched.node, watched.volume)
    found = next(each for each in lesions_in(watched.node, watched.volume) if each.segment_id == "copied")
    rejected = reject_lesion(watched.node, watched.volume, found)
    assert np.array_equal(labels_in(watched.node, watched.volume), before)
    assert len(voxels_of(watched.node, "copied")) == 0
    restore_lesion(watched.node, rejected)
    assert np.array_equal(labels_in(watched.node, watched.volume), with_copy)


def test_what_is_erased_from_a_copied_tumour_is_liver_again(watched):
    watched.keeper.stop()
    watched.editor.erase("liver", COPIED)
    watched.copy_tumour()
    before = labels_in(watched.node, watched.volume)
    assert (before[COPIED] == 2).all()
    watched.watch()
    watched.editor.erase("copied", np.s_[6:7, 3:5, 3:5])
    before[6, 3:5, 3:5] = 1
    assert np.array_equal(labels_in(watched.node, watched.volume), before)
    (change,) = watched.told
    assert (change.added, change.removed) == ({"liver": 4}, {"copied": 4})


def test_a_tumour_that_comes_from_elsewhere_is_told_by_itself_and_not_with_the_next_stroke(watched):
    watched.copy_tumour()
    watched.editor.erase("copied", np.s_[6:7, 3:5, 3:5])
    came, stroke = watched.told
    assert (came.how, came.added, came.removed) == ("brought", {"copied": 8}, {})
    assert (stroke.how, stroke.added, stroke.removed) == ("edited", {}, {"copied": 4})


def test_a_segment_that_is_called_a_tumour_later_is_told_by_itself(watched):
    watched.keeper.stop()
    watched.copy_tumour()
    segment = watched.node.GetSegmentation().GetSegment("copied")
    segment.SetTag("TerminologyEntry", "")
    watched.watch()
    segment.SetTag("TerminologyEntry", TUMOUR_STYLE.terminology)
    (came,) = watched.told
    assert (came.how, came.added, came.removed) == ("brought", {"copied": 8}, {})


def test_segments_that_are_restored_one_after_the_other_are_nobodys_edit(watched):
    history = slicer.vtkSegmentationHistory()
    history.SetSegmentation(watched.node.GetSegmentation())
    history.SaveState()
    tumour = "tumour" if "tumour" in watched.held() else "tumour_1"
    watched.editor.paint(tumour, COPIED)
    assert watched.told[-1].added[tumour] == 8
    watched.told.clear()
    assert history.RestorePreviousState()
    assert watched.told
    assert {change.how for change in watched.told} == {"replaced"}


def test_undo_of_the_first_stroke_on_a_copied_tumour_brings_its_voxels_back(watched):
    watched.copy_tumour()
    watched.keeper.stop()
    watched.watch()
    labels, copied = labels_in(watched.node, watched.volume), len(voxels_of(watched.node, "copied"))
    watched.editor.erase("copied", np.s_[6:7, 3:5, 3:5])
    watched.editor.undo()
    assert np.array_equal(labels_in(watched.node, watched.volume), labels)
    assert len(voxels_of(watched.node, "copied")) == copied == 64
    watched.editor.erase("copied", COPIED)
    assert np.array_equal(labels_in(watched.node, watched.volume), three_lesions(watched.scan))


@settings(max_examples=20, deadline=None)
@given(
    factor=st.sampled_from([0.4, 0.5, 0.8, 1.0, 1.5, 2.0]),
    angle=st.sampled_from([0.0, 0.3, np.pi / 2]),
    shift=st.tuples(*[st.floats(-3, 3)] * 3),
)
def test_values_on_another_grid_are_those_of_the_nearest_voxels(factor, angle, shift):
    """Against ITK, but for places that lie on the border between two voxels."""
    values = np.arange(1, 61, dtype=np.uint8).reshape(3, 4, 5)
    c, s = np.cos(angle), np.sin(angle)
    matrix = np.array([[c, -s, 0, shift[0]], [s, c, 0, shift[1]], [0, 0, 1, shift[2]], [0, 0, 0, 1]])
    own, other = Block(values, (2, -1, 0), matrix), Block(np.zeros((6, 9, 8), bool), (-1, 0, 1), np.eye(4) * factor)
    other.matrix[3, 3] = 1
    got = own.under(other)
    k, j, i = np.indices(other.array.shape)
    places = np.stack([(i - 1) * factor, j * factor, (k + 1) * factor, np.ones(i.shape)])
    indices = np.einsum("rc,ckji->rkji", np.linalg.inv(matrix), places)[:3] - np.reshape(own.start, (3, 1, 1, 1))
    clear = (np.abs(indices % 1 - 0.5) > 1e-4).all(0)
    ii, jj, kk = np.round(indices).astype(int)
    inside = (ii >= 0) & (ii < 5) & (jj >= 0) & (jj < 4) & (kk >= 0) & (kk < 3)
    wanted = np.where(inside, values[kk.clip(0, 2), jj.clip(0, 3), ii.clip(0, 4)], 0)
    assert np.array_equal(got[clear], wanted[clear])


def test_a_lesion_outside_the_scan_has_no_mean_intensity(scene, tmp_path):
    scan = oblique_scan()
    _, node = written_as(result_of(scan, three_lesions(scan)), scene)
    scan.SetOrigin((900.0, 0.0, 0.0))
    far = add_volume(scan, scene, "far")
    assert [each.lesion.mean_intensity for each in lesions_in(node, far)] == [None] * 3
    (table,) = export_segmentation(node, far, tmp_path, ["csv"])
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    assert [row["mean_intensity"] for row in rows] == [""] * 3


def test_a_mean_intensity_counts_only_voxels_within_the_scan(scene):
    """A scan of 100 everywhere, moved by 4.3 voxels: five of the lesion's seven lie in it."""
    scan = sitk.Image(14, 12, 9, sitk.sitkInt16) + 100
    labels = np.ones((9, 12, 14), np.uint8)
    labels[2:9, 4, 5] = 2
    _, node = written_as(result_of(scan, labels), scene)
    scan.SetOrigin((0.0, 0.0, 4.3))
    moved = add_volume(scan, scene, "moved")
    (found,) = lesions_in(node, moved)
    assert (found.lesion.voxels, found.lesion.mean_intensity) == (7, 100.0)
