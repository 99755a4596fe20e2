"""Segments back to labels: what counts as liver and tumour, on whatever grid the volume has now."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("slicer", reason="needs slicer-core: pip install 'LiverTumorSeg[slicer]'")

import slicer
import vtk

from LiverTumorSegLib.errors import OutputError
from LiverTumorSegLib.scene import (
    add_segmentation,
    add_volume,
    image_from_volume,
    labels_from_segmentation,
    write_segmentation,
)
from slicer_host.nodes import (
    labels_in,
    layer_of,
    moved_by,
    oblique_scan,
    result_for,
    result_of,
    written,
    written_as,
)

pytestmark = pytest.mark.usefixtures("slicer_started")

SPACING = (0.8, 1.5, 2.5)


@pytest.fixture
def scan() -> sitk.Image:
    return oblique_scan()


@pytest.mark.parametrize("parts", [{}, {"tumour": False}, {"liver": False}, {"liver": False, "tumour": False}])
def test_labels_come_back_from_the_scene_as_they_were(parts, scan, scene):
    volume = add_volume(scan, scene, "CT")
    moved_by([[0, -1, 0, 5], [1, 0, 0, 0], [0, 0, 1, -30], [0, 0, 0, 1]], volume)
    result, node = result_for(image_from_volume(volume), **parts), add_segmentation(volume)
    write_segmentation(result, node, volume)
    labels = labels_from_segmentation(node, volume)
    assert np.array_equal(sitk.GetArrayFromImage(labels), sitk.GetArrayFromImage(result.labels))
    for got, wanted in ((labels.GetOrigin(), result.labels.GetOrigin()), (labels.GetSpacing(), SPACING)):
        np.testing.assert_allclose(got, wanted, atol=1e-9)


def test_where_a_person_made_segments_overlap_the_label_is_tumour(scan, scene):
    volume, node = written(scan, scene)
    everywhere = slicer.vtkOrientedImageData()
    everywhere.DeepCopy(layer_of(node, "liver"))
    everywhere.GetPointData().GetScalars().Fill(1)
    node.GetSegmentation().GetSegment("liver").AddRepresentation("Binary labelmap", everywhere)
    assert np.array_equal(labels_in(node, volume), sitk.GetArrayFromImage(result_for(scan).labels))


def test_labels_are_read_from_liver_and_tumour_only(scan, scene):
    volume, node = written(scan, scene)
    wanted = sitk.GetArrayFromImage(result_for(scan).labels)
    node.GetSegmentation().AddEmptySegment("vessels", "vessels")
    assert np.array_equal(labels_in(node, volume), wanted)
    moved_by(np.eye(4), node)
    with pytest.raises(OutputError, match="wanted CT's transform, got another"):
        labels_from_segmentation(node, volume)
    node.GetSegmentation().RemoveSegment("liver")
    with pytest.raises(OutputError, match="wanted a segment liver, got none"):
        labels_from_segmentation(node, volume)


TERMINOLOGY = "c~SCT^49755003^Morphologically Altered Structure~SCT^{}~^^~c~SCT^{}~^^"


@pytest.mark.parametrize(
    ("what", "where", "counts"),
    [
        ("108369006^Neoplasm", "10200004^Liver", True),
        ("14799000^Neoplasm, Secondary", "", True),
        ("86049000^Neoplasm, Primary", "64033007^Kidney", False),
        ("12402003^Scar", "10200004^Liver", False),
    ],
)
def test_a_segment_that_a_person_added_counts_by_its_terminology(what, where, counts, scan, scene):
    volume, node = written(scan, scene)
    added = slicer.vtkSegment()
    added.SetTag("TerminologyEntry", TERMINOLOGY.format(what, where))
    corner = np.zeros((9, 12, 14), np.uint8)
    corner[0, 0, :3] = 1
    added.AddRepresentation("Binary labelmap", layer_of(written_as(result_of(scan, corner), scene)[1], "liver"))
    node.GetSegmentation().AddSegment(added, "Segment_1")
    assert np.array_equal(np.argwhere(labels_in(node, volume)[0, 0] == 2).ravel(), [0, 1, 2] if counts else [])


def test_a_tumour_that_a_person_calls_a_cyst_is_none(scan, scene):
    volume, node = written(scan, scene)
    node.GetSegmentation().GetSegment("tumour").SetTag(
        "TerminologyEntry", TERMINOLOGY.format("103552005^Cyst", "10200004^Liver")
    )
    assert set(np.unique(labels_in(node, volume))) == {0, 1}


def test_labels_of_a_volume_that_was_turned_round_meanwhile(scan, scene):
    """Slicer does so with left-handed volumes of a scene file: the voxels keep their places, but not their order."""
    volume, node = written(scan, scene)
    wanted = labels_in(node, volume)
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    turn = np.diag((1.0, 1.0, -1.0, 1.0))
    turn[2, 3] = 8
    volume.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(slicer.util.arrayFromVTKMatrix(matrix) @ turn))
    assert np.array_equal(labels_in(node, volume), wanted[::-1])


def test_labels_on_a_finer_volume_are_the_nearest_ones(scan, scene):
    volume, node = written(scan, scene)
    wanted = labels_in(node, volume)
    fine = sitk.Expand(scan, (2, 1, 1), sitk.sitkNearestNeighbor)
    found = labels_in(node, add_volume(fine, scene, "fine"))
    assert np.array_equal(found, wanted.repeat(2, axis=2))
