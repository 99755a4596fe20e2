"""Every network: its size and shapes, what it refuses, how its weights are stored, and where it can run."""

from __future__ import annotations

import inspect
import json
import os
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from LiverTumorSegLib.errors import BundleError, DeviceError, RecipeError
from LiverTumorSegLib.networks import DETECTORS, NETWORKS, build_network, devices
from LiverTumorSegLib.networks.devices import resolve_device
from LiverTumorSegLib.networks.engines import OpenVINOEngine, TorchEngine
from LiverTumorSegLib.networks.export import export_openvino
from LiverTumorSegLib.networks.weights import check_weights, load_weights, save_weights
from LiverTumorSegLib.recipe import Grid, Stage

SMALL: dict[str, dict[str, Any]] = {
    "csr_unet": {"widths": [4, 8]},
    "dense_multiscale": {"widths": [4, 6, 8], "growth": 2, "layers": 2},
    "dynunet": {"filters": [4, 8, 16], "kernels": [3, 3, 3], "strides": [1, 2, 2]},
    "elanres_msca_unet": {"features": [4, 8]},
    "highresnet": {},
    "segresnet": {"blocks_down": [1, 1], "blocks_up": [1]},
    "unet": {"channels": [4, 8], "strides": [2], "num_res_units": 1},
    "unet2d": {"widths": [4, 8]},
    "vnet": {},
}


DEEPENED = {"channels": [8, 16, 24], "strides": [2, 2], "num_res_units": 1, "head": "linear", "blocks": 1}


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("name", "arguments", "parameters"),
    [
        ("highresnet", {"final_activation": True}, 809_030),
        # The plain head: 80 x 3 weights and 3 biases, in place of 80 x 3 weights, 3 scales and 3 shifts.
        ("highresnet", {"final_activation": False}, 809_027),
        ("segresnet", {}, 1_176_195),
        ("unet", {}, 4_807_482),
        ("vnet", {}, 45_601_906),
    ],
)
def test_the_networks_of_the_paper_have_its_numbers_of_parameters(
    name: str, arguments: dict[str, Any], parameters: int
) -> None:
    assert count(build_network(name, arguments)) == parameters


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_gives_three_classes_on_the_grid_of_its_one_channel_input(name: str) -> None:
    parameters = inspect.signature(NETWORKS[name]).parameters
    assert (parameters["in_channels"].default, parameters["out_channels"].default) == (1, 3)
    network = build_network(name, SMALL[name]).eval()
    with torch.inference_mode():
        logits = network(torch.zeros(1, 1, 16, 32, 48))
    assert logits.shape == (1, 3, 16, 32, 48)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_takes_two_channels_and_gives_five_classes(name: str) -> None:
    network = build_network(name, {**SMALL[name], "in_channels": 2, "out_channels": 5}).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 2, 16, 16, 16)).shape == (1, 5, 16, 16, 16)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_every_network_can_be_normalised_by_instance_or_by_batch(name: str, norm: str) -> None:
    kinds = {type(module).__name__ for module in build_network(name, {**SMALL[name], "norm": norm}).modules()}
    norms = {kind.removesuffix("2d").removesuffix("3d") for kind in kinds if "Norm" in kind}
    assert norms == {f"{norm.capitalize()}Norm"}


@pytest.mark.parametrize("head", ["monai", "linear"])
@pytest.mark.parametrize("units", [0, 1])
def test_blocks_change_nothing_in_a_trained_u_net_until_they_are_trained(head: str, units: int) -> None:
    arguments = {**DEEPENED, "head": head, "num_res_units": units}
    deep, plain = build_network("unet", arguments), build_network("unet", {**arguments, "blocks": 0})
    state = plain.state_dict()
    missing, unexpected = deep.load_state_dict(state, strict=False)
    assert not unexpected
    assert missing
    assert all(".blocks.0." in name for name in missing)
    # Encoder, decoder and head have 8 channels, encoder and decoder below 16, the bottom 24; two convolutions each.
    assert count(deep) - count(plain) == sum(
        2 * (27 * n * n + 2 * n) for n in ([8, 8, 16, 24] + ([8] if head == "linear" else []))
    )
    volume = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        assert torch.equal(deep.eval()(volume), plain.eval()(volume))
        for name, each in deep.named_parameters():
            if name.endswith("blocks.0.conv2.conv.weight"):
                each.add_(0.1)
                assert not torch.equal(deep(volume), plain(volume)), name
                each.sub_(0.1)


def test_each_level_of_a_u_net_can_have_blocks_of_its_own_number() -> None:
    deep, uneven = (build_network("unet", {**DEEPENED, "blocks": blocks}) for blocks in (1, [1, 2, 0]))
    # One more for the 16 channels of the second level's encoder; the bottom's 24 have none.
    assert count(uneven) - count(deep) == 2 * (27 * 16 * 16 + 2 * 16) - 2 * (27 * 24 * 24 + 2 * 24)
    assert uneven.eval()(torch.zeros(1, 1, 16, 16, 16)).shape == (1, 3, 16, 16, 16)


def test_highresnet_keeps_any_odd_size() -> None:
    with torch.inference_mode():
        logits = build_network("highresnet").eval()(torch.zeros(1, 1, 9, 11, 13))
    assert logits.shape == (1, 3, 9, 11, 13)


def test_only_the_printed_head_of_highresnet_can_give_no_negative_output() -> None:
    torch.manual_seed(0)
    scan = torch.randn(1, 1, 8, 8, 8)
    with torch.inference_mode():
        printed = build_network("highresnet", {"final_activation": True}).eval()(scan)
        repaired = build_network("highresnet", {"final_activation": False}).eval()(scan)
    assert printed.min() >= 0
    assert repaired.min() < 0


def test_an_unknown_network_is_refused_with_the_known_ones() -> None:
    known = ", ".join(sorted({**NETWORKS, **DETECTORS}))
    with pytest.raises(RecipeError, match=f"wanted one of {known}, got 'resnet'"):
        build_network("resnet")


@pytest.mark.parametrize("name", NETWORKS)
def test_an_unknown_argument_is_refused_with_the_allowed_ones(name: str) -> None:
    allowed = ", ".join(inspect.signature(NETWORKS[name]).parameters)
    with pytest.raises(RecipeError, match=rf"network {name}: unknown argument 'depth'; allowed: {allowed}$"):
        build_network(name, {"depth": 3})


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("unet", {"strides": [2, 2]}, "strides: wanted 4 for 5 channels, got 2"),
        ("unet", {"norm": "group"}, "norm: wanted 'instance' or 'batch', got 'group'"),
        ("unet", {"blocks": -1}, "blocks: wanted 0 or more, or that for 5 levels, got -1"),
        ("unet", {"blocks": [1, 1]}, "blocks: wanted 0 or more, or that for 5 levels, got (1, 1)"),
        ("unet", {"blocks": 1, "channels": [8, 12], "strides": [2]}, "wanted multiples of 8 with blocks, got (8, 12)"),
        ("segresnet", {"init_filters": 6}, "wanted arguments that build it, got {'init_filters': 6}"),
        ("segresnet", {"blocks_up": [1]}, "blocks_up: wanted 3 for 4 blocks_down, got 1"),
        ("vnet", {"in_channels": 5}, "wanted arguments that build it, got {'in_channels': 5}"),
        ("highresnet", {"final_activation": 1}, "final_activation: wanted true or false, got 1"),
    ],
)
def test_an_argument_that_builds_nothing_is_refused(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=f"network {name}: ") as caught:
        build_network(name, arguments)
    assert message in str(caught.value)


def test_a_computer_without_monai_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "monai.networks.nets", None)
    with pytest.raises(DeviceError, match=r"network unet: wanted torch and monai \(pip install torch monai\)"):
        build_network("unet")


@pytest.mark.parametrize("name", NETWORKS)
def test_stored_weights_come_back_exactly_in_single_precision(name: str, tmp_path: Path) -> None:
    first, second = (build_network(name, SMALL[name]) for _ in range(2))
    save_weights(first, tmp_path / "w.safetensors", half=False)
    load_weights(second, tmp_path / "w.safetensors")
    for key, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[key]), key
    assert list(tmp_path.iterdir()) == [tmp_path / "w.safetensors"]


def test_stored_weights_come_back_to_eleven_bits_in_half_precision(tmp_path: Path) -> None:
    first, second = (build_network("unet", SMALL["unet"]) for _ in range(2))
    save_weights(first, tmp_path / "w.safetensors")
    load_weights(second, tmp_path / "w.safetensors")
    for key, tensor in first.state_dict().items():
        assert second.state_dict()[key].dtype == tensor.dtype
        np.testing.assert_allclose(second.state_dict()[key], tensor, rtol=2**-11, atol=2**-25)


def test_weights_that_are_not_finite_are_not_stored(tmp_path: Path) -> None:
    network = build_network("unet", SMALL["unet"])
    with torch.no_grad():
        next(network.parameters()).fill_(1e5)  # float16 ends at 65504
    with pytest.raises(BundleError, match=r"wanted finite numbers in torch\.float16"):
        save_weights(network, tmp_path / "w.safetensors")
    assert not list(tmp_path.iterdir())


def test_weights_of_another_width_are_refused_with_both_shapes(tmp_path: Path) -> None:
    save_weights(build_network("unet", SMALL["unet"]), tmp_path / "w.safetensors")
    wider = build_network("unet", {**SMALL["unet"], "channels": [6, 8]})
    with pytest.raises(BundleError, match=r"wanted shape \(6, 1, 3, 3, 3\), got \(4, 1, 3, 3, 3\)"):
        load_weights(wider, tmp_path / "w.safetensors")


def test_weights_of_another_network_are_refused_with_a_missing_tensor(tmp_path: Path) -> None:
    save_weights(build_network("unet", SMALL["unet"]), tmp_path / "w.safetensors")
    with pytest.raises(BundleError, match="it is missing"):
        load_weights(build_network("highresnet"), tmp_path / "w.safetensors")


def test_a_tensor_that_has_no_place_is_refused(tmp_path: Path) -> None:
    save_weights(torch.nn.Linear(2, 2), tmp_path / "w.safetensors")
    with pytest.raises(BundleError, match=r"tensor bias .* has no place in the network"):
        load_weights(torch.nn.Linear(2, 2, bias=False), tmp_path / "w.safetensors")


def written(path: Path, header: object, tensors: bytes) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + tensors)
    return path


def test_a_whole_file_is_known_by_its_header(tmp_path: Path) -> None:
    header = {"a": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}, "__metadata__": {"by": "hand"}}
    assert check_weights(written(tmp_path / "w", header, bytes(12))) == {"a": (2, 3)}


@pytest.mark.parametrize(
    ("header", "size"),
    [
        ({"a": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}}, 11),
        ({"a": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}}, 13),
        ({"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 12]}}, 12),
        ({"a": {"dtype": "OBJECT", "shape": [2, 3], "data_offsets": [0, 12]}}, 12),
        ({"a": {"dtype": "F16"}}, 12),
        ({}, 0),
        ([], 0),
    ],
)
def test_a_file_that_does_not_fit_its_header_is_refused(header: object, size: int, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="wanted"):
        check_weights(written(tmp_path / "w", header, bytes(size)))


@pytest.mark.parametrize("content", [b"", b"abc", b"\xff" * 100, struct.pack("<Q", 50) + b"{"])
def test_bytes_that_are_no_safetensors_file_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(BundleError, match="wanted a safetensors file"):
        check_weights(tmp_path / "w")


def noise(*size: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(1, 1, *size)).astype(np.float32)


@pytest.mark.parametrize(
    ("network", "arguments"),
    [
        ("segresnet", {"blocks_down": [1, 1], "blocks_up": [1]}),
        ("unet", DEEPENED),
        pytest.param("highresnet", {}, marks=pytest.mark.slow),
        pytest.param("vnet", {}, marks=pytest.mark.slow),
    ],
)
def test_openvino_says_what_torch_says_of_every_network(
    network: str, arguments: dict[str, object], tmp_path: Path
) -> None:
    stage = Stage("whole", network, Grid(spacing_mm=4.0), arguments)
    module = build_network(network, arguments)
    for each in module.parameters():  # blocks begin as nothing
        torch.nn.init.normal_(each, std=0.1) if not each.any() else each
    assert module.training
    save_weights(module, tmp_path / "whole.safetensors", half=False)
    export_openvino(module, tmp_path / "whole.xml")
    assert module.training
    array = noise(16, 16, 32)
    expected = TorchEngine(tmp_path / "whole.safetensors", stage)(array)
    got = OpenVINOEngine(tmp_path / "whole.xml", stage, "f32")(array)
    # The file holds float16 weights: 11 bits, through some twenty layers.
    assert np.sqrt(np.mean((got - expected) ** 2)) < 4e-3 * expected.std()


def test_group_normalisation_runs_in_torchs_plain_layout(tmp_path: Path) -> None:
    import torch

    layouts = {}
    for name in ("segresnet", "unet"):
        save_weights(build_network(name), tmp_path / "w.safetensors")
        engine = TorchEngine(tmp_path / "w.safetensors", Stage("whole", name, Grid(spacing_mm=4.0)))
        layouts[name] = engine._layout
    assert layouts == {"segresnet": torch.contiguous_format, "unet": torch.channels_last_3d}


def test_without_a_driver_auto_is_the_cpu_and_cuda_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_has_nvidia_driver", lambda: False)
    monkeypatch.setattr(devices, "_count_cuda", lambda: pytest.fail("torch was asked"))
    assert (resolve_device("auto"), resolve_device("cpu")) == ("cpu", "cpu")
    with pytest.raises(DeviceError, match="wanted cuda, got 0 CUDA devices"):
        resolve_device("cuda")


def test_with_two_gpus_auto_is_the_first_and_a_third_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_has_nvidia_driver", lambda: True)
    monkeypatch.setattr(devices, "_count_cuda", lambda: 2)
    assert [resolve_device(name) for name in ("auto", "cpu", "cuda", "cuda:1")] == ["cuda:0", "cpu", "cuda:0", "cuda:1"]
    with pytest.raises(DeviceError, match="wanted cuda:2, got 2 CUDA devices"):
        resolve_device("cuda:2")


def test_a_driver_without_a_usable_gpu_leaves_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_has_nvidia_driver", lambda: True)
    monkeypatch.setattr(devices, "_count_cuda", lambda: 0)
    assert resolve_device("auto") == "cpu"


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac may have it")
def test_mps_is_refused_where_there_is_no_apple_gpu() -> None:
    with pytest.raises(DeviceError, match="wanted mps, got a computer without an Apple GPU"):
        resolve_device("mps")


def test_at_least_one_core_is_available_and_no_more_than_there_are() -> None:
    assert 1 <= devices.available_cores() <= (os.cpu_count() or 1)
