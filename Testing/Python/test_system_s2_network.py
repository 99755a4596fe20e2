"""S2's network: its numbers of parameters, the fusion of its branches, its attention to slices, its heads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from LiverTumorSegLib.errors import RecipeError
from LiverTumorSegLib.networks import build_network
from LiverTumorSegLib.networks.elanres_msca_blocks import ELANResMSCAUNet, MSCABlock, RepConv
from LiverTumorSegLib.networks.engines import OpenVINOEngine
from LiverTumorSegLib.networks.export import export_openvino
from LiverTumorSegLib.recipe import Grid, Stage

NAME = "elanres_msca_unet"
SMALL = {"features": [4, 8, 16], "out_channels": 1}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """For networks and inputs as small as these, sharing the work is most of the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def used(**arguments: Any) -> ELANResMSCAUNet:
    """Build a network in evaluation mode whose weights and statistics are those of no particular training."""
    torch.manual_seed(0)
    network = build_network(NAME, {**SMALL, **arguments}).eval()
    assert isinstance(network, ELANResMSCAUNet)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            assert module.running_mean is not None
            assert module.running_var is not None
            torch.nn.init.normal_(module.running_mean)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
            torch.nn.init.normal_(module.weight, 1, 0.2)
            torch.nn.init.normal_(module.bias)
    for name, parameter in network.named_parameters():
        if ".scales." in name:  # which begin so small that nothing would be seen of the attention
            torch.nn.init.ones_(parameter)
    return network


def test_it_has_4790584_parameters_and_3258648_once_it_is_fused() -> None:
    network = build_network(NAME, {"out_channels": 2})
    assert isinstance(network, ELANResMSCAUNet)
    assert count(network) == 4_790_584
    assert count(network.fuse()) == 3_258_648


@pytest.mark.parametrize(("half", "saved"), [(8, 56 * 64 + 14 * 8), (16, 56 * 256 + 14 * 16)])
def test_fusion_saves_28_kernel_entries_and_7_more_numbers_a_channel_in_each_convolution(half: int, saved: int) -> None:
    # Two 3x3x3 and one 1x1x1 kernel become one 3x3x3: 27 + 1; four normalisations of two numbers become one bias.
    before = RepConv(half, "batch")
    parameters = count(before)
    before.fuse()
    assert 2 * (parameters - count(before)) == saved


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_fusing_leaves_the_output_as_it_was(norm: str) -> None:
    network = used(norm=norm).double()
    scan = torch.randn(1, 1, 8, 16, 12, dtype=torch.float64)
    with torch.inference_mode():
        before = network(scan)
        after = network.fuse()(scan)
    assert before.std() > 0.01
    torch.testing.assert_close(after, before, rtol=0, atol=1e-6)


def test_fusing_in_single_precision_changes_the_output_by_its_rounding_alone() -> None:
    network = used()
    scan = torch.randn(1, 1, 8, 16, 12)
    with torch.inference_mode():
        before = network(scan)
        after = network.fuse()(scan)
        again = network.fuse()(scan)
    assert (after - before).abs().max() < 1e-5 * before.abs().max()
    assert torch.equal(again, after)


def test_the_whole_network_fused_agrees_to_a_millionth() -> None:
    network = used(features=[16, 32, 64, 128, 256]).double()
    scan = torch.randn(1, 1, 16, 16, 16, dtype=torch.float64)
    with torch.inference_mode():
        before = network(scan)
        torch.testing.assert_close(network.fuse()(scan), before, rtol=0, atol=1e-6)


def test_the_attention_sees_its_own_slice_and_12_voxels_around() -> None:
    torch.manual_seed(0)
    block = MSCABlock(4, "batch").eval().requires_grad_(False)
    for scale in block.scales:
        torch.nn.init.ones_(scale)
    block.parts[1] = torch.nn.Identity()  # the perceptron sees one voxel more in each direction
    volume = torch.randn(1, 4, 3, 41, 41)
    moved = volume.clone()
    moved[:, :, 1, 20, 20] += 1
    changed = ((block(moved) - block(volume)).abs() > 0).any(1)[0]
    assert not changed[0].any()
    assert not changed[2].any()
    places = torch.argwhere(changed[1])
    # The 5x5 window reaches 2 voxels, the longest strip, 21, 10 more.
    assert places.amin(0).tolist() == [8, 8]
    assert places.amax(0).tolist() == [32, 32]


def test_in_training_each_decoder_level_gives_logits_at_full_resolution_the_finest_last() -> None:
    network = build_network(NAME, {"features": [4, 6, 8, 10, 12], "out_channels": 2})
    outputs = network(torch.randn(2, 1, 16, 16, 32))
    assert [tuple(each.shape) for each in outputs] == [(2, 2, 16, 16, 32)] * 4
    # The coarsest of four heads has one value every 8 voxels: between them it is linear.
    coarse = outputs[0][0, 0, 8, 8, 4:12]
    np.testing.assert_allclose(torch.diff(coarse, 2).detach(), 0, atol=1e-6)
    network.eval()
    assert network(torch.randn(1, 1, 16, 16, 32)).shape == (1, 2, 16, 16, 32)


def test_every_parameter_learns_from_the_deeply_supervised_loss() -> None:
    network = build_network(NAME, SMALL)
    sum(each.square().mean() for each in network(torch.randn(1, 1, 8, 8, 8))).backward()
    assert [name for name, each in network.named_parameters() if each.grad is None] == []


@pytest.mark.parametrize(
    ("elanres", "msca", "parameters"),
    [(False, False, 5_646_856), (False, True, 6_688_456), (True, False, 3_748_984), (True, True, 4_790_584)],
)
def test_the_papers_ablation_can_leave_out_either_module(elanres: bool, msca: bool, parameters: int) -> None:
    # The attention is the same 1,041,600 wherever it stands.
    assert count(build_network(NAME, {"out_channels": 2, "elanres": elanres, "msca": msca})) == parameters


def test_openvino_runs_the_fused_network_as_torch_runs_the_other(tmp_path: Path) -> None:
    network = used(features=[4, 8, 12])
    scan = torch.randn(1, 1, 16, 24, 16)
    with torch.inference_mode():
        expected = network(scan).numpy()
    export_openvino(network.fuse(), tmp_path / "w.xml")
    stage = Stage("w", NAME, Grid(spacing_mm=2.0), {"out_channels": 1}, classes=("liver",), activation="sigmoid")
    got = OpenVINOEngine(tmp_path / "w.xml", stage, "f32")(scan.numpy())
    assert np.sqrt(np.mean((got - expected) ** 2)) < 4e-3 * expected.std()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norm": "group"}, "norm: wanted 'instance' or 'batch', got 'group'"),
        ({"features": [16]}, "features: wanted two or more even numbers, got .16,."),
        ({"features": [16, 33]}, "features: wanted two or more even numbers, got .16, 33."),
    ],
)
def test_what_it_cannot_be_built_of_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=f"network {NAME}: {message}"):
        build_network(NAME, arguments)
