"""2D networks over the slices of volumes, and networks made ready for inference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from LiverTumorSegLib.inference import run_network
from LiverTumorSegLib.networks import NETWORKS
from LiverTumorSegLib.networks.engines import OpenVINOEngine, TorchEngine
from LiverTumorSegLib.networks.export import export_openvino, prepare_for_inference
from LiverTumorSegLib.networks.folding import FoldSlices
from LiverTumorSegLib.networks.weights import save_weights
from LiverTumorSegLib.recipe import Grid, Stage


class Edges(nn.Module):
    """Each voxel's right neighbour and the one below it; it notes how many slices it is given at once."""

    def __init__(self) -> None:
        super().__init__()
        self.slices: list[int] = []

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        self.slices.append(len(slices))
        return torch.cat([slices.roll(-1, 3), slices.roll(-1, 2)], 1)


def build_slices(in_channels: int = 1, out_channels: int = 3) -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(in_channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, out_channels, 1)
    return FoldSlices(nn.Sequential(*layers))


def test_a_2d_network_sees_the_slices_of_a_volume_and_never_across_them() -> None:
    volume = torch.arange(2 * 3 * 4 * 5, dtype=torch.float32).reshape(2, 1, 3, 4, 5)
    found = FoldSlices(Edges())(volume)
    assert found.shape == (2, 2, 3, 4, 5)
    assert torch.equal(found[:, :1], volume.roll(-1, 4))
    assert torch.equal(found[:, 1:], volume.roll(-1, 3))


def test_many_slices_are_taken_a_few_at_a_time_for_inference_and_all_at_once_in_training() -> None:
    network = FoldSlices(Edges()).eval()
    found = network(torch.rand(1, 1, 19, 4, 4))
    assert found.shape == (1, 2, 19, 4, 4)
    assert network.network.slices == [8, 8, 3]
    network.train()(torch.rand(2, 1, 19, 4, 4))
    assert network.network.slices[3:] == [38]


def test_each_of_several_outputs_in_training_is_a_volume_again() -> None:
    class Supervised(nn.Module):
        def forward(self, slices: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return slices, slices[:, :1]

    first, last = FoldSlices(Supervised())(torch.rand(2, 3, 4, 5, 6))
    assert (first.shape, last.shape) == ((2, 3, 4, 5, 6), (2, 1, 4, 5, 6))


def test_a_folded_network_runs_in_both_engines_on_any_number_of_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(NETWORKS, "slices", build_slices)
    stage = Stage("flat", "slices", Grid(spacing_mm=2.0))
    network = build_slices().eval()
    save_weights(network, tmp_path / "flat.safetensors", half=False)
    export_openvino(network, tmp_path / "flat.xml")
    engines = OpenVINOEngine(tmp_path / "flat.xml", stage), TorchEngine(tmp_path / "flat.safetensors", stage)
    for slices in (1, 3, 40):
        array = np.random.default_rng(slices).normal(size=(1, 1, slices, 16, 24)).astype(np.float32)
        with torch.inference_mode():
            wanted = network(torch.from_numpy(array)).numpy()
        for engine in engines:
            # Windows of few whole slices: no voxel sees less than in the whole.
            assert engine(array) == pytest.approx(wanted, abs=5e-3)
            assert run_network(engine, array[0], (24, 16, 2), 0.0) == pytest.approx(wanted[0], abs=5e-3)


class Foldable(nn.Module):
    """x, and after `fuse` 2 * x, so that it shows which of them ran."""

    def __init__(self) -> None:
        super().__init__()
        self.fused = 0

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        return 2 * volume if self.fused else volume

    def fuse(self) -> None:
        self.fused += 1


def test_whatever_can_be_folded_is_folded_for_inference_and_a_layer_that_is_called_fuse_is_left_alone() -> None:
    network = nn.Sequential(Foldable(), nn.Sequential(Foldable()))
    network[1].fuse = nn.Conv3d(1, 1, 1)
    assert prepare_for_inference(network.train()) is network
    assert not network.training
    assert [network[0].fused, network[1][0].fused] == [1, 1]


def test_exporting_folds_a_copy_and_leaves_the_network_as_it_was(tmp_path: Path) -> None:
    last = nn.Conv3d(1, 3, 1, bias=False)
    nn.init.ones_(last.weight)
    network = nn.Sequential(Foldable(), last).train()
    export_openvino(network, tmp_path / "folded.xml")
    assert network.training
    assert network[0].fused == 0
    engine = OpenVINOEngine(tmp_path / "folded.xml", Stage("folded", "unet", Grid(spacing_mm=2.0)))
    assert engine(np.full((1, 1, 4, 4, 4), 3.0, np.float32)) == pytest.approx(6.0)
