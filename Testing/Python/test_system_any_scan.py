"""Every published system, as its recipe is shipped but narrow and untrained, on scans that are hardly scans."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

import LiverTumorSegLib.segmenter
from conftest import OBLIQUE
from LiverTumorSegLib import Segmenter
from LiverTumorSegLib.bundle import Bundle
from LiverTumorSegLib.errors import LiverTumorSegWarning
from LiverTumorSegLib.networks import build_network
from LiverTumorSegLib.recipe import Axis, Grid, Recipe, Stage, load_recipe
from LiverTumorSegLib.resources import resource_path
from shapes import IDENTITY, LEFT_HANDED

RECIPES = (
    "s0_csr_unet_as_printed",
    "s0_csr_unet_repaired",
    "s2_elanres_msca_repaired",
    "s3_multiphase_repaired",
    "s4_multiscale_repaired",
)
NARROW: dict[str, dict[str, Any]] = {
    "csr_unet": {"widths": [8, 8, 8]},
    "retina_unet": {"widths": [4, 4, 4, 8], "channels": 8},
    "elanres_msca_unet": {"features": [4, 8]},
    "dynunet": {"filters": [4] * 6},
    "unet2d": {"widths": [4, 4, 4]},
    "dense_multiscale": {"widths": [4] * 5, "growth": 2, "layers": 1},
}
COARSER = 8

pytestmark = pytest.mark.slow


class Untrained:
    """A network with fresh weights, whose answers are spread so that it finds liver in half of the voxels."""

    name, device, precision = "untrained", "cpu", "f32"

    def __init__(self, stage: Stage) -> None:
        self._network = build_network(stage.network, stage.arguments).eval()
        rare = 4.0 if len(stage.classes) < 3 else 10.0  # of many types one is soon the likeliest
        self._less = [rare * (name not in ("background", "liver")) for name in stage.classes]

    def __call__(self, array: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            answer = self._network(torch.from_numpy(np.ascontiguousarray(array))).float().numpy()
        for channel, less in zip(answer[0], self._less, strict=False):
            channel -= channel.mean()
            channel *= 3 / (channel.std() + 1e-3)
            channel -= less
        return answer

    def move_to_cpu(self) -> None: ...


def coarser(grid: Grid) -> Grid:
    """Return the grid with voxels up to eight times as large, or a 16th as many of a whole slice's."""
    assert grid.axes is not None or grid.spacing_mm is not None
    axes = grid.axes or (Axis(spacing_mm=grid.spacing_mm, multiple_of=grid.multiple_of),) * 3
    i, j, k = (
        dataclasses.replace(
            axis,
            spacing_mm=axis.spacing_mm and min(axis.spacing_mm * COARSER, 20.0),
            voxels=axis.voxels and axis.voxels // 16,
            multiple_of=min(axis.multiple_of, 32),
        )
        for axis in axes
    )
    return Grid(axes=(i, j, k))


def narrow(recipe: Recipe) -> Recipe:
    stages = []
    for stage in recipe.stages:
        assert stage.window is not None
        i, j, k = (min(n, max(n // COARSER // 16 * 16, 32)) for n in stage.window)
        arguments = {**stage.arguments, **NARROW[stage.network]}
        stages.append(
            dataclasses.replace(stage, grid=coarser(stage.grid), window=(i, j, k), arguments=arguments, overlap=0.0)
        )
    options: dict[str, Any] = {}
    if recipe.coarse_to_fine is not None:
        options["coarse_to_fine"] = dataclasses.replace(recipe.coarse_to_fine, box=(16, 16, 5))
    if recipe.slices is not None:
        options["slices"] = dataclasses.replace(recipe.slices, tile=32)
    if recipe.typing is not None:
        options["typing"] = dataclasses.replace(recipe.typing, patches=1, register="affine")
    return dataclasses.replace(recipe, stages=tuple(stages), **options)


@cache
def segmenter(name: str) -> Segmenter:
    recipe = narrow(load_recipe(resource_path("Recipes", f"{name}.json")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LiverTumorSegLib.segmenter, "open_engine", lambda bundle, stage, **named: Untrained(stage))
        torch.manual_seed(0)
        return Segmenter(Bundle(Path(name), recipe, {"version": "0"}, "0" * 64))


def blocks(size: Sequence[int], spacing: Sequence[float], direction: Sequence[float], seed: int) -> sitk.Image:
    """Return a CT of blocks between air and bone, off the origin."""
    grey = np.random.default_rng(seed).uniform(-1000, 400, [-(-n // 9) for n in size[::-1]])
    k, j, i = (slice(0, n) for n in size[::-1])
    image = sitk.GetImageFromArray(np.kron(grey, np.ones((9, 9, 9)))[k, j, i].astype(np.int16))
    image.SetSpacing([float(each) for each in spacing])
    image.SetDirection([float(each) for each in direction])
    image.SetOrigin((-37.0, 12.0, 99.0))
    return image


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize(
    ("size", "spacing", "direction", "modality"),
    [
        ((11, 10, 3), (3.0, 3.0, 3.0), IDENTITY, "CT"),
        ((26, 31, 3), (9.0, 8.0, 12.0), OBLIQUE, "MR"),
        ((3, 30, 41), (14.0, 7.0, 6.0), LEFT_HANDED, "CT"),
        ((40, 40, 20), (0.3, 0.3, 0.4), IDENTITY, "MR"),
    ],
)
def test_a_scan_of_any_size_spacing_and_direction_gets_labels_on_its_own_grid(
    name: str,
    size: tuple[int, ...],
    spacing: tuple[float, ...],
    direction: tuple[float, ...],
    modality: str,
    one_thread: None,
) -> None:
    scan = blocks(size, spacing, direction, 0)
    run = segmenter(name)
    wanted = run.bundle.recipe.phases
    given = {phase.name: blocks(size, spacing, direction, 1) for phase in wanted[:1]}  # the others are missing
    if modality == "MR":
        scan, *others = (sitk.Cast(each + 1000, sitk.sitkFloat32) for each in (scan, *given.values()))
        given = dict(zip(given, others, strict=True))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = run(scan, phases=given, modality=modality)
    assert made.labels.GetSize() == scan.GetSize()
    assert made.labels.GetSpacing() == scan.GetSpacing()
    assert made.labels.GetDirection() == scan.GetDirection()
    found = np.unique(sitk.GetArrayViewFromImage(made.labels))
    assert set(found) <= {0, 1, 2}
    assert found.max() > 0 or any("no liver" in str(each.message) for each in caught)
    assert {each.category for each in caught} <= {LiverTumorSegWarning}
    assert made.with_sensitivity(4.0).labels.GetSize() == scan.GetSize()
