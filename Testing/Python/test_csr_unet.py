"""S0's network: its size in 2D, 2.5D and 3D, its heads at full resolution, and where it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from LiverTumorSegLib.errors import RecipeError
from LiverTumorSegLib.networks import build_network
from LiverTumorSegLib.networks.engines import OpenVINOEngine
from LiverTumorSegLib.networks.export import export_openvino
from LiverTumorSegLib.recipe import Grid, Stage

NARROW = {"out_channels": 1, "widths": [4, 8, 8, 16, 16]}


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("arguments", "parameters"),
    [
        ({}, 2_804_980),
        # Four more channels into 16 kernels of 3 x 3.
        ({"in_channels": 5}, 2_804_980 + 4 * 16 * 9),
        ({"in_channels": 5, "norm": "batch"}, 2_805_556),
        ({"dims": 3}, 8_173_588),
    ],
)
def test_csr_unet_has_as_many_parameters_as_the_released_one(arguments: dict[str, Any], parameters: int) -> None:
    assert count(build_network("csr_unet", {"out_channels": 1, **arguments})) == parameters


@pytest.mark.parametrize("dims", [2, 3])
def test_training_gives_four_answers_at_full_resolution_and_evaluation_the_last(dims: int) -> None:
    torch.manual_seed(0)
    network = build_network("csr_unet", {**NARROW, "dims": dims})
    volume = torch.randn(1, 1, 32 if dims == 3 else 2, 32, 32)
    answers = network(volume)
    assert [tuple(each.shape) for each in answers] == [tuple(volume.shape)] * 4
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(volume), answers[-1])


def test_every_answer_is_learnt_from() -> None:
    network = build_network("csr_unet", NARROW)
    sum(each.sum() for each in network(torch.randn(1, 1, 1, 32, 32))).backward()
    assert [name for name, each in network.named_parameters() if each.grad is None] == []


def test_in_2d_a_slice_is_answered_alike_whatever_lies_beside_it() -> None:
    torch.manual_seed(0)
    network = build_network("csr_unet", {**NARROW, "in_channels": 5}).eval()
    volume = torch.randn(1, 5, 4, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(network(volume)[:, :, 2:3], network(volume[:, :, 2:3]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dims": 4}, "dims: wanted 2 or 3, got 4"),
        ({"widths": [16]}, r"widths: wanted two or more, got \(16,\)"),
        ({"norm": "layer"}, "norm: wanted 'instance' or 'batch', got 'layer'"),
    ],
)
def test_csr_unet_says_what_it_wants(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=f"network csr_unet: {message}"):
        build_network("csr_unet", arguments)


@pytest.mark.parametrize("dims", [2, 3])
def test_openvino_answers_as_torch_does_at_another_size(dims: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    arguments = {"out_channels": 1, "widths": [4, 8, 8], "dims": dims, "in_channels": 1}
    network = build_network("csr_unet", arguments).eval()
    export_openvino(network, tmp_path / "network.xml")
    stage = Stage("any", "csr_unet", Grid(spacing_mm=1), arguments, classes=("tumour",), activation="sigmoid")
    volume = torch.randn(1, 1, 8, 16, 40)
    with torch.inference_mode():
        expected = network(volume).numpy()
    found = OpenVINOEngine(tmp_path / "network.xml", stage)(volume.numpy())
    np.testing.assert_allclose(found, expected, atol=0.02)  # the file's weights are in half precision
