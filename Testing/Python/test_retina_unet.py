"""S0's detector: its size, its dense answer against MONAI's own detector, its loss, and where it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.apps.detection.networks import retinanet_detector

from LiverTumorSegLib.detection import kept_boxes, proposed_findings
from LiverTumorSegLib.errors import RecipeError
from LiverTumorSegLib.networks import build_network
from LiverTumorSegLib.networks.engines import OpenVINOEngine
from LiverTumorSegLib.networks.export import export_openvino
from LiverTumorSegLib.networks.retina import Answer, detector_of
from LiverTumorSegLib.recipe import Grid, Stage

NARROW: dict[str, Any] = {"widths": [4, 4, 8, 8], "channels": 8, "anchors": [[4, 6, 8], [8, 8, 8]]}


def restless(network: torch.nn.Module) -> torch.nn.Module:
    """Return the network with heads that say something else at every place, as trained ones do."""
    torch.manual_seed(0)
    for head in (network.classification_head.cls_logits, network.regression_head.bbox_reg):
        torch.nn.init.normal_(head.weight, std=0.05)
    return network


def test_retina_unet_has_577959_parameters() -> None:
    assert sum(each.numel() for each in build_network("retina_unet").parameters()) == 577_959


def test_its_answer_in_training_has_heads_at_strides_2_4_and_8() -> None:
    answer = build_network("retina_unet", NARROW)(torch.zeros(1, 1, 16, 24, 32))
    assert isinstance(answer, Answer)
    assert answer.segmentation.shape == (1, 2, 16, 24, 32)
    sizes = [(8, 12, 16), (4, 6, 8), (2, 3, 4)]
    assert [tuple(each.shape) for each in answer.heads["classification"]] == [(1, 2, *size) for size in sizes]
    assert [tuple(each.shape) for each in answer.heads["box_regression"]] == [(1, 12, *size) for size in sizes]


def test_its_dense_answer_holds_the_likeliest_box_of_monais_anchors_and_coder() -> None:
    network = restless(build_network("retina_unet", NARROW))
    volume = torch.randn(1, 1, 16, 24, 32)
    with torch.no_grad():
        heads = network(volume).heads
        detector = detector_of(network.anchors)
        detector.generate_anchors(volume, heads)
        logits, steps = (detector._reshape_maps(heads[key])[0] for key in ("classification", "box_regression"))
        likeliest = int(logits.argmax())
        box = detector.box_coder.decode_single(steps, detector.anchors[0])[likeliest].numpy()
        dense = network.eval()(volume)[0, 2:].numpy()
    place = np.unravel_index(dense[0].argmax(), dense.shape[1:])
    centre = np.array(place) + 0.5
    assert dense[(0, *place)] == pytest.approx(float(logits[likeliest]))
    np.testing.assert_allclose(centre - dense[(slice(1, 4), *place)], box[:3], atol=1e-4)
    np.testing.assert_allclose(centre + dense[(slice(4, 7), *place)], box[3:], atol=1e-4)


def test_findings_come_surest_first_and_none_twice() -> None:
    dense = np.full((7, 16, 16, 16), -5.0)
    dense[1:] = 3.0  # every voxel proposes a box of 6 voxels around itself
    dense[0, 4, 4, 4], dense[0, 4, 4, 6], dense[0, 12, 12, 12] = 2.0, 1.0, 3.0
    first, second = proposed_findings(dense, (2.0, 1.0, 1.0), score=0.5)
    assert first.box == (slice(10, 16), slice(10, 16), slice(10, 16))  # of 9.5 to 15.5 voxels, rounded up at halves
    assert first.score == pytest.approx(1 / (1 + np.exp(-3.0)))
    assert first.centre == (12.0, 12.0, 12.0)
    assert second.centre == (4.0, 4.0, 4.0)
    assert second.long_axis_mm == pytest.approx(12.0)
    assert second.volume_ml == pytest.approx(np.pi / 6 * 12 * 6 * 6 / 1000)


def test_of_boxes_that_share_more_than_allowed_the_first_stays() -> None:
    low = np.array([[0, 0, 0], [0, 0, 1], [0, 0, 3], [5, 5, 5]], float)
    high = low + np.array([2, 2, 4])
    # The second shares 3 of 5 columns with the first; the third 1 of 7.
    assert kept_boxes(low, high, overlap=0.22) == [0, 2, 3]
    assert kept_boxes(low, high, overlap=0.7) == [0, 1, 2, 3]
    assert kept_boxes(low, low, overlap=0.22) == []


def test_without_torchvision_monais_two_names_have_stand_ins_and_with_it_they_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    anchors = build_network("retina_unet", NARROW).anchors
    detector_of(anchors)
    assert isinstance(retinanet_detector.Matcher, type)

    class Theirs:
        pass

    monkeypatch.setattr(retinanet_detector, "Matcher", Theirs)
    detector_of(anchors)
    assert retinanet_detector.Matcher is Theirs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"widths": [4, 8]}, r"widths: wanted 4, one for each stride, got \(4, 8\)"),
        ({"channels": 12}, "channels: wanted a multiple of 8, got 12"),
        ({"anchors": []}, r"anchors: wanted triples of 2 or more voxels, got \(\)"),
        ({"out_channels": 7}, "out_channels: wanted the classes and 7 more, got 7"),
    ],
)
def test_retina_unet_says_what_it_wants(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=f"network retina_unet: {message}"):
        build_network("retina_unet", arguments)


def test_a_stage_that_detects_has_seven_channels_more_than_classes() -> None:
    classes = ("background", "tumour")
    Stage("detector", "retina_unet", Grid(spacing_mm=1), {"out_channels": 9}, classes=classes, task="detect")
    with pytest.raises(RecipeError, match="wanted 9, one for each of background, tumour and 7 for findings, got 2"):
        Stage("detector", "retina_unet", Grid(spacing_mm=1), {"out_channels": 2}, classes=classes, task="detect")


def test_openvino_proposes_the_same_findings_as_torch_at_another_size(tmp_path: Path) -> None:
    network = restless(build_network("retina_unet", NARROW)).eval()
    export_openvino(network, tmp_path / "network.xml")
    stage = Stage(
        "any",
        "retina_unet",
        Grid(spacing_mm=1),
        {"out_channels": 9},
        classes=("background", "tumour"),
        task="detect",
    )
    volume = torch.randn(1, 1, 16, 24, 40)
    with torch.inference_mode():
        expected = network(volume).numpy()
    found = OpenVINOEngine(tmp_path / "network.xml", stage)(volume.numpy())
    assert found.shape == (1, 9, 16, 24, 40)
    np.testing.assert_allclose(found[:, :3], expected[:, :3], atol=0.02)
    # Weights in half precision: where two anchors are equally likely the other one may win.
    assert np.mean(np.abs(found - expected).max(axis=1) < 0.2) > 0.97
