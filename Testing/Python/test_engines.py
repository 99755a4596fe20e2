"""Where memory runs out and where processes meet: smaller windows, one clear error, one export."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from LiverTumorSegLib.bundle import Bundle, seal_bundle
from LiverTumorSegLib.errors import LiverTumorSegWarning, OutputError
from LiverTumorSegLib.inference import open_engine, run_network
from LiverTumorSegLib.networks import build_network
from LiverTumorSegLib.networks.export import export_openvino, import_openvino
from LiverTumorSegLib.recipe import Grid, Recipe, Stage
from LiverTumorSegLib.segmenter import Segmenter
from LiverTumorSegLib.systems.stages import Networks
from test_inference import Scarce, noise


@pytest.mark.filterwarnings("ignore:not enough memory")
def test_halved_windows_are_what_the_network_can_divide() -> None:
    engine, array = Scarce(64 * 96 * 96), noise(96, 160, 160)
    run_network(engine, array, multiples=(32, 32, 4))
    assert set(engine.sizes) == {(48, 96, 96)}  # half of 160 is 80, and 96 the next multiple of 32; 48 is one of 4


@pytest.mark.filterwarnings("ignore:not enough memory")
def test_a_stage_s_windows_are_halved_to_multiples_of_its_grid() -> None:
    stage = Stage("whole", "unet", Grid(spacing_mm=2.0, multiple_of=32))
    engine = Scarce(64**3)
    Networks(Recipe("s", "repaired", "a test", (stage,)), {"whole": engine}).run_array("whole", noise(96, 96, 96))
    assert set(engine.sizes) == {(64, 64, 64)}  # the half, 48, is no multiple of 32


@pytest.mark.filterwarnings("ignore:not enough memory")
def test_a_window_without_a_smaller_one_that_the_network_can_divide_stays() -> None:
    engine, array = Scarce(1000), noise(48, 64, 64)
    with pytest.warns(LiverTumorSegWarning, match="the CPU goes on"):
        run_network(engine, array, multiples=(32, 32, 4))
    assert engine.sizes == [(48, 64, 64)]


@pytest.mark.parametrize("other", ["whole", "damaged"])
def test_of_two_processes_that_export_one_network_at_once_the_first_keeps_its_place(
    other: str, unexported_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While this process exports, another one puts its folder where this one's shall be."""

    def overtaken(network: object, path: Path, channels: int, multiple: int) -> None:
        export_openvino(network, path, channels, multiple)
        folder = path.parents[2] / path.parent.name
        shutil.copytree(path.parent, folder)
        (folder / "made by").write_text("another process", encoding="utf-8")
        if other == "whole":
            seal_bundle(folder)

    monkeypatch.setattr("LiverTumorSegLib.inference.export_openvino", overtaken)
    assert open_engine(unexported_bundle, "whole")(noise(16, 16, 16)[None]).shape == (1, 3, 16, 16, 16)
    assert len(list((tmp_path / "home").rglob("made by"))) == (1 if other == "whole" else 0)
    assert len(list((tmp_path / "home").rglob("network.xml"))) == 1


@pytest.mark.parametrize("other", ["whole", "nothing"])
def test_a_folder_that_cannot_be_put_in_its_place_is_one_line_unless_another_process_was_faster(
    other: str, unexported_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(source: Path, target: Path) -> None:
        if other == "whole" and Path(target).parent.name == "openvino":
            shutil.copytree(source, target)
        if Path(source).is_dir():
            raise OSError(39, "Directory not empty")
        replace_file(source, target)

    replace_file = os.replace
    monkeypatch.setattr(os, "replace", refused)
    if other == "whole":
        assert open_engine(unexported_bundle, "whole").name == "openvino"
    else:
        with pytest.raises(OutputError, match="wanted to keep the network for OpenVINO, got: Directory not empty"):
            open_engine(unexported_bundle, "whole")


class Memoryless:
    """A compiled network, or its maker, that says what OpenVINO says when the memory is gone."""

    def __init__(self, message: str) -> None:
        self.message = message

    def infer(self, *arguments: object, **more: object) -> None:
        raise RuntimeError(self.message)

    compile_model = infer


@pytest.mark.parametrize("message", ["Failed to allocate 4096 bytes", "std::bad_alloc", "plugin.cpp:54:\ncan't alloc"])
@pytest.mark.parametrize("when", ["compiling", "inferring"])
def test_openvino_without_memory_is_a_memory_error_and_lets_go_of_what_it_holds(
    when: str, message: str, small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, array = open_engine(small_bundle, "whole"), noise(16, 16, 16)[None]
    engine(noise(8, 8, 8)[None])
    if when == "compiling":
        monkeypatch.setattr(engine, "_core", Memoryless(message))
    else:
        monkeypatch.setattr(engine, "_compile", lambda shape: Memoryless(message))
    with pytest.raises(MemoryError, match=r"cpu: not enough memory for \(1, 1, 16, 16, 16\)"):
        engine(array)
    assert not engine._requests
    monkeypatch.undo()
    assert engine(array).shape == (1, 3, 16, 16, 16)


def test_what_else_goes_wrong_in_openvino_is_no_memory_error(
    small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(small_bundle, "whole")
    monkeypatch.setattr(engine, "_compile", lambda shape: Memoryless("wrong shape"))
    with pytest.raises(RuntimeError, match="wrong shape"):
        engine(noise(16, 16, 16)[None])


def counted(engine: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Return the shapes that an engine compiles from now on, as a list that grows."""
    shapes, compiled = [], engine._compile

    def compile_and_count(shape: tuple[int, ...]) -> object:
        shapes.append(shape)
        return compiled(shape)

    monkeypatch.setattr(engine, "_compile", compile_and_count)
    return shapes


def test_what_an_engine_got_ready_for_is_compiled_once_and_gives_the_same_numbers(
    small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, array = open_engine(small_bundle, "whole", engine="openvino"), noise(16, 24, 16)[None]
    expected = engine(array)
    prepared = open_engine(small_bundle, "whole", engine="openvino")
    shapes = counted(prepared, monkeypatch)
    for _ in range(2):
        prepared.get_ready(array.shape)
    np.testing.assert_array_equal(prepared(array), expected)
    prepared.get_ready(array.shape)
    assert shapes == [(1, 1, 16, 24, 16)]
    np.testing.assert_array_equal(prepared(array[..., :8]), engine(array[..., :8]))  # another shape comes as ever
    prepared.get_ready((1, 1, 32, 32, 32))
    prepared(array[..., :16, :8])
    assert not prepared._coming  # a scan that is smaller than expected lets go of what was for a larger one
    torch = open_engine(small_bundle, "whole", engine="torch")
    torch.get_ready(array.shape)
    np.testing.assert_allclose(torch(array), expected, atol=1e-3)


def test_what_went_wrong_while_an_engine_got_ready_is_told_by_the_call_and_the_next_one_tries_again(
    small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, array = open_engine(small_bundle, "whole", engine="openvino"), noise(16, 16, 16)[None]
    monkeypatch.setattr(engine, "_core", Memoryless("std::bad_alloc"))
    engine.get_ready(array.shape)
    with pytest.raises(MemoryError, match=r"cpu: not enough memory for \(1, 1, 16, 16, 16\)"):
        engine(array)
    monkeypatch.undo()
    assert engine(array).shape == (1, 3, 16, 16, 16)


def test_a_segmenter_gets_its_networks_ready_for_whole_windows(
    small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = small_bundle.recipe.stages
    stages = replace(first, window=(16, 24, 32)), replace(second, window=None)
    bundle = replace(small_bundle, recipe=replace(small_bundle.recipe, stages=stages))
    segmenter = Segmenter(bundle, device="cpu")
    shapes = [counted(engine, monkeypatch) for engine in segmenter.engines]
    segmenter.get_ready()
    segmenter.engines[0](noise(32, 24, 16)[None])
    assert shapes == [[(1, 1, 32, 24, 16)], []]  # (i, j, k) of the recipe is (k, j, i) of arrays


@pytest.mark.parametrize("message", ["CUDA out of memory. Tried to allocate 2 GiB", "can't allocate memory: 64 bytes"])
def test_torch_without_memory_is_a_memory_error(
    message: str, small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise RuntimeError(message)

    engine = open_engine(small_bundle, "whole", engine="torch")
    monkeypatch.setattr(engine._network, "forward", full)
    with pytest.raises(MemoryError, match=r"cpu: not enough memory for \(1, 1, 16, 16, 16\)"):
        engine(noise(16, 16, 16)[None])
    monkeypatch.setattr(engine._network, "to", full)
    with pytest.raises(MemoryError, match="cpu: not enough memory for the network"):
        engine.move_to_cpu()


def test_a_network_of_seven_levels_is_exported_for_the_multiples_that_it_needs(tmp_path: Path) -> None:
    stage = Stage("deep", "unet", Grid(spacing_mm=2.0, multiple_of=64), {"channels": [2] * 7, "strides": [2] * 6})
    network = build_network(stage.network, stage.arguments).eval()
    export_openvino(network, tmp_path / "deep.xml", multiple=64)
    compiled = import_openvino().Core().compile_model(tmp_path / "deep.xml", "CPU")
    assert compiled(noise(64, 64, 128)[None])[0].shape == (1, 3, 64, 64, 128)
