"""S4's networks of single slices: their sizes, their shapes, and that slices are seen one by one."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from LiverTumorSegLib.errors import RecipeError
from LiverTumorSegLib.networks import build_network
from LiverTumorSegLib.networks.engines import OpenVINOEngine
from LiverTumorSegLib.networks.export import export_openvino
from LiverTumorSegLib.networks.slices import DenseBlock, FuseScales
from LiverTumorSegLib.recipe import Grid, Stage

pytestmark = pytest.mark.usefixtures("one_thread")

NARROW = {
    "unet2d": {"widths": [4, 6, 8, 8, 8], "norm": "batch"},
    "dense_multiscale": {"widths": [4, 6, 8, 8, 8], "growth": 2, "layers": 2, "norm": "batch"},
}

SHALLOW = {
    "unet2d": {"widths": [4, 6], "norm": "batch"},
    "dense_multiscale": {"widths": [4, 6, 8], "growth": 2, "layers": 1, "norm": "batch"},
}


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_unet_of_slices_has_as_many_parameters_as_its_layers_written_down() -> None:
    # Two 3x3 convolutions a level, two numbers of normalisation a kernel; 2x2 transposed convolutions with bias.
    widths = (64, 128, 256, 512, 512)
    down = sum(9 * (a * b + b * b) + 4 * b for a, b in zip((1, *widths), widths, strict=False))
    up = sum(4 * a * b + b + 9 * (2 * b * b + b * b) + 4 * b for b, a in pairwise(widths))
    head = 64 * 2 + 2
    network = build_network("unet2d", {"out_channels": 2})
    assert count(network) == down + up + head == 20_548_738


def dense(before: int, width: int) -> int:
    """Four 3x3 layers of 32, a 1x1 fusion, and a 1x1 shortcut where the width changes."""
    layers = sum(9 * (before + 32 * n) * 32 + 2 * 32 for n in range(4))
    return layers + (before + 128) * width + 2 * width + (before * width if before != width else 0)


def test_the_multiscale_network_has_as_many_parameters_as_its_layers_written_down() -> None:
    levels = (128, 256, 512, 512)
    down = 49 * 64 + 2 * 64 + sum(dense(a, b) for a, b in zip((64, *levels), levels, strict=False))
    fusions = sum(sum(levels) * width + 2 * width for width in levels)
    up = sum(4 * a * b + b + dense(2 * b, b) for b, a in pairwise(levels))
    network = build_network("dense_multiscale", {"out_channels": 1})
    assert count(network) == down + fusions + up + 128 + 1 == 9_534_657


@pytest.mark.parametrize(("name", "poolings"), [("unet2d", 4), ("dense_multiscale", 3)])
def test_the_first_network_halves_a_slice_four_times_and_the_second_three_times(name: str, poolings: int) -> None:
    network = build_network(name, NARROW[name]).eval()
    smallest = 2**poolings
    with torch.inference_mode():
        assert network(torch.zeros(1, 1, 3, smallest, 2 * smallest)).shape == (1, 3, 3, smallest, 2 * smallest)
        with pytest.raises(RuntimeError):
            network(torch.zeros(1, 1, 3, smallest // 2, smallest // 2))


@pytest.mark.parametrize("name", NARROW)
def test_each_slice_is_seen_by_itself(name: str) -> None:
    torch.manual_seed(0)
    network = build_network(name, NARROW[name]).eval()
    volume = torch.randn(2, 1, 3, 16, 16)
    with torch.inference_mode():
        together = network(volume)
        alone = torch.stack([torch.cat([network(one[None, :, k : k + 1]) for k in range(3)], 2)[0] for one in volume])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_fusing_the_scales_is_a_convolution_of_their_concatenation(level: int) -> None:
    torch.manual_seed(0)
    widths = (3, 4, 5)
    scales = [torch.randn(2, width, 16 >> n, 16 >> n) for n, width in enumerate(widths)]
    fuse = FuseScales(widths, level, "batch").eval()

    def resized(features: torch.Tensor, steps: int) -> torch.Tensor:
        if steps >= 0:
            return functional.max_pool2d(features, 1 << steps)
        return features.repeat_interleave(1 << -steps, 2).repeat_interleave(1 << -steps, 3)

    together = torch.cat([resized(each, level - number) for number, each in enumerate(scales)], 1)
    weight = torch.cat([part.weight for part in fuse.parts], 1)
    with torch.inference_mode():
        wanted = fuse.after(functional.conv2d(together, weight))
        torch.testing.assert_close(fuse(scales), wanted, rtol=1e-4, atol=1e-5)


def test_a_dense_block_that_adds_nothing_gives_back_its_input() -> None:
    block = DenseBlock(4, 4, growth=2, layers=3, norm="batch").eval()
    torch.nn.init.zeros_(block.squeeze[0].weight)
    features = torch.randn(1, 4, 8, 8)
    with torch.inference_mode():
        assert torch.equal(block(features), features)


@pytest.mark.parametrize("name", SHALLOW)
def test_openvino_says_what_torch_says_for_any_number_of_slices(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_network(name, SHALLOW[name]).eval()
    export_openvino(network, tmp_path / "n.xml")
    engine = OpenVINOEngine(tmp_path / "n.xml", Stage("n", name, Grid(spacing_mm=1.0), dict(SHALLOW[name])))
    for size in ((1, 16, 24), (3, 24, 16)):
        volume = torch.randn(1, 1, *size)
        with torch.inference_mode():
            wanted = network(volume).numpy()
        assert np.sqrt(np.mean((engine(volume.numpy()) - wanted) ** 2)) < 4e-3 * wanted.std()


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("unet2d", {"norm": "group"}, "norm: wanted 'instance' or 'batch', got 'group'"),
        ("unet2d", {"widths": [8]}, r"widths: wanted two or more, got \(8,\)"),
        ("dense_multiscale", {"norm": 1}, "norm: wanted 'instance' or 'batch', got 1"),
        ("dense_multiscale", {"widths": [8, 8]}, r"widths: wanted three or more, got \(8, 8\)"),
    ],
)
def test_arguments_that_build_nothing_are_refused(name: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=f"network {name}: {message}"):
        build_network(name, arguments)
