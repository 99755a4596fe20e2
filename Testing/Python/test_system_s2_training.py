"""S2's two networks from training to a bundle that segments; tiny, and what the comparison in small prints."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from conftest import EllipsoidScan
from LiverTumorSegLib.bundle import Bundle
from LiverTumorSegLib.networks.engines import TorchEngine
from LiverTumorSegLib.networks.weights import check_weights
from LiverTumorSegLib.recipe import Axis, Grid, Recipe, load_recipe
from LiverTumorSegLib.resources import resource_path
from LiverTumorSegLib.segmenter import Segmenter
from LiverTumorSegLib.training.export import export_bundle
from LiverTumorSegLib.training.trainer import train
from training_cases import ball_run

GRID = Grid(axes=(Axis(spacing_mm=6.0, multiple_of=4),) * 3)


def tiny_recipe(variant: str) -> Recipe:
    """Return the shipped recipe with two levels of 4 and 8 features and two epochs of two steps."""
    shipped = load_recipe(resource_path("Recipes", f"s2_elanres_msca_{variant}.json"))
    stages = tuple(
        dataclasses.replace(stage, arguments={**stage.arguments, "features": [4, 8]}, grid=GRID, window=(16, 16, 8))
        for stage in shipped.stages
    )
    quick = {"epochs": 2, "iterations_per_epoch": 2, "patch": (16, 16, 8), "learning_rate": 1e-3}
    training = tuple(dataclasses.replace(each, **quick) for each in shipped.training)  # type: ignore[arg-type]
    return dataclasses.replace(shipped, stages=stages, training=training)


@pytest.fixture(scope="module", params=["as_printed", "repaired"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return a bundle that was trained for no more than four steps a network."""
    recipe, folder = tiny_recipe(request.param), tmp_path_factory.mktemp("s2")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # for networks as small as these, sharing the work is most of the work
    weights = train(ball_run(folder, recipe))
    torch.set_num_threads(threads)
    return export_bundle(recipe, weights, folder / "bundle", "balls", "none")


def test_both_networks_are_trained_each_from_its_own_beginning(bundle: Bundle) -> None:
    lines = [(bundle.path.parent / f"{stage.name}.csv").read_text(encoding="utf-8") for stage in bundle.recipe.stages]
    assert [len(text.splitlines()) for text in lines] == [3, 3]  # the heading and two epochs
    heads = [next(iter(text.splitlines())) for text in lines]
    assert "liver_dice" in heads[0]
    assert "tumour_dice" in heads[1]
    liver, tumour = (bundle.weights_path(stage.name) for stage in bundle.recipe.stages)
    assert check_weights(liver) == check_weights(tumour)
    assert liver.read_bytes() != tumour.read_bytes()


@pytest.mark.filterwarnings("ignore:no liver was found")  # hardly trained, it may well find none
@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_the_bundle_segments_scans_of_any_spacing_on_their_own_grid(
    modality: str, bundle: Bundle, oblique: tuple[float, ...], ellipsoid_scan: EllipsoidScan
) -> None:
    scan, _ = ellipsoid_scan((40, 36, 14), (5.5, 6.0, 9.0), oblique)
    image = scan if modality == "CT" else sitk.Maximum(scan + 200, 0)
    result = Segmenter(bundle, device="cpu")(image, modality=modality)
    assert result.labels.GetSize() == scan.GetSize()
    assert result.labels.GetDirection() == scan.GetDirection()
    assert set(np.unique(sitk.GetArrayViewFromImage(result.labels))) <= {0, 1, 2}
    assert result.provenance.details["body_size_voxels"]


def test_the_bundle_s_openvino_networks_are_its_torch_ones_fused(bundle: Bundle) -> None:
    stage = bundle.recipe.stages[0]
    array = np.random.default_rng(0).normal(size=(1, 1, 8, 16, 16)).astype(np.float32)
    expected = TorchEngine(bundle.weights_path(stage.name), stage)(array)
    got = Segmenter(bundle, device="cpu").engines[0](array)
    # The file holds float16 weights.
    assert np.sqrt(np.mean((got - expected) ** 2)) < 4e-3 * expected.std()


@pytest.mark.slow
def test_the_comparison_of_losses_and_modules_runs_from_end_to_end(tmp_path: Path, repository: Path) -> None:
    command = [sys.executable, str(repository / "Testing/Systems/s2.py"), str(tmp_path), "--steps", "2"]
    command += ["--cases", "2", "1", "2", "--only", "U-Net", "loss: BCE"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for name, folder in (("U-Net", "U_Net"), ("loss: BCE", "loss__BCE")):
        assert f"| {name} |" in printed
        rows = json.loads((tmp_path / folder / "figures.json").read_text(encoding="utf-8"))
        assert rows
        assert all(0 <= row["liver_dice"] <= 1 and 0 <= row["tumour_dice"] <= 1 for row in rows)
