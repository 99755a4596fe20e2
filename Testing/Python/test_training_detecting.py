"""The task "detect": what a Retina U-Net is trained for, and that it learns."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from LiverTumorSegLib.errors import RecipeError
from LiverTumorSegLib.networks import build_network
from LiverTumorSegLib.recipe import Axis, CoarseToFine, Grid, Intensity, Recipe, Stage, Training
from LiverTumorSegLib.training.detecting import Detecting
from LiverTumorSegLib.training.tasks import TASKS
from LiverTumorSegLib.training.trainer import Run, train
from training_cases import ball_run

NARROW: dict[str, Any] = {"out_channels": 9, "widths": [4, 4, 4, 8], "channels": 8, "anchors": [[4, 4, 4], [6, 6, 6]]}


def recipe(**changes: Any) -> Recipe:
    """A liver network that nobody trains here, and a detector on voxels of 1 mm."""
    unit = Intensity(scale="unit")
    liver = Stage(
        "liver", "unet", Grid(spacing_mm=8.0), {"out_channels": 1}, unit, classes=("liver",), activation="sigmoid"
    )
    detector = Stage(
        "detector",
        "retina_unet",
        Grid(spacing_mm=1.0, multiple_of=8),
        NARROW,
        unit,
        classes=("background", "tumour"),
        region="liver",
        task="detect",
    )
    training = Training("bce", epochs=3, iterations_per_epoch=3, patch=(16, 16, 16), batch_size=2, bf16=False)
    return Recipe(
        "detects",
        "repaired",
        "test",
        (liver, dataclasses.replace(detector, **changes)),
        training=(training, training),
        system="coarse_to_fine",
        coarse_to_fine=CoarseToFine(small_lesion_mm=10.0),
    )


def labels_with(*lesions: tuple[slice, slice, slice]) -> torch.Tensor:
    """One patch of 24 voxels a side, liver with these lesions."""
    labels = torch.ones(1, 1, 24, 24, 24, dtype=torch.uint8)
    for box in lesions:
        labels[0, 0][box] = 2
    return labels


SMALL = (slice(4, 8), slice(4, 8), slice(4, 8))
LARGE = (slice(10, 24), slice(10, 24), slice(10, 24))


def settled(task: Any, labels: torch.Tensor) -> float:
    """The loss of a network that says the same everywhere, with the same hard negatives each time."""
    torch.manual_seed(0)
    network = build_network("retina_unet", NARROW)
    for each in network.parameters():
        torch.nn.init.zeros_(each)
    torch.manual_seed(0)
    return float(task.loss(network, torch.zeros(labels.shape), labels, epoch=0).detach())


def test_the_loss_of_a_network_that_knows_nothing_is_that_of_even_odds() -> None:
    task = TASKS["detect"](recipe(), 1, "cpu")
    # ln 2 for the anchors and ln 2 for the voxels; without a lesion no box is wrong.
    assert settled(task, labels_with()) == pytest.approx(2 * np.log(2), rel=1e-5)
    assert settled(task, labels_with(SMALL)) > 2 * np.log(2) + 0.01


def test_lesions_over_the_limit_count_as_liver() -> None:
    task = TASKS["detect"](recipe(), 1, "cpu")
    assert settled(task, labels_with(LARGE)) == pytest.approx(settled(task, labels_with()))
    assert settled(task, labels_with(SMALL, LARGE)) == pytest.approx(settled(task, labels_with(SMALL)))


def test_validation_counts_what_was_found_what_was_there_and_what_was_false() -> None:
    task = Detecting(recipe(), 1, "cpu")

    class Proposes(torch.nn.Module):
        """One box of 4 voxels around voxel (6, 6, 6), and one of 4 around (16, 16, 16)."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = build_network("retina_unet", NARROW)

        def forward(self, volume: torch.Tensor) -> Any:
            if self.training:
                return self.inner(volume)
            dense = torch.full((len(volume), 9, *volume.shape[2:]), -9.0)
            dense[:, 3:] = 2.0
            dense[:, 2, 6, 6, 6] = dense[:, 2, 16, 16, 16] = 5.0
            return dense

    labels = torch.cat([labels_with(SMALL), labels_with()])
    judged = task.judge(Proposes().eval(), torch.zeros(labels.shape), labels)
    assert judged.counts.tolist() == [1, 1, 3, 2]
    assert task.scores(judged.counts) == {"recall": 1.0, "false_positives": 1.5}
    assert np.isnan(task.scores(torch.zeros(4))["recall"])
    reference, boxes = task.picture(Proposes().eval(), torch.zeros(labels.shape), labels)
    assert reference.sum() == 4**3
    assert boxes.sum() == 2 * 4**3


def test_in_half_precision_losses_and_boxes_are_computed_in_single() -> None:
    used = recipe()
    half = dataclasses.replace(used.training[1], bf16=True)
    task = Detecting(dataclasses.replace(used, training=(used.training[0], half)), 1, "cpu")
    network = build_network("retina_unet", NARROW)
    assert task.loss(network, torch.zeros(1, 1, 24, 24, 24), labels_with(SMALL), 0).dtype == torch.float32
    for name in ("weight", "bias"):
        torch.nn.init.zeros_(getattr(network.regression_head.bbox_reg, name))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        dense = network.eval()(torch.zeros(1, 1, 8, 8, 320))
    assert dense.dtype == torch.float32
    # With no step every box is its anchor, whose middle is that of a cell of 2, 4 or 8 voxels, so its sides are at
    # whole or half voxels; eight binary digits would not tell the halves above 256.
    sides = 2 * dense[0, 3:]
    np.testing.assert_array_equal(sides, sides.round())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "unet"}, "network: wanted one of retina_unet for the task 'detect', got 'unet'"),
        (
            {"grid": Grid(axes=(Axis(spacing_mm=1.0), Axis(spacing_mm=1.0), Axis(times_own=1.0)))},
            "grid: wanted spacing_mm on every axis for the task 'detect', got others",
        ),
    ],
)
def test_a_detector_needs_a_network_that_finds_and_voxels_of_one_size(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Detecting(recipe(**changes), 1, "cpu")


def test_a_detector_is_trained_as_any_stage_is(tmp_path: Path) -> None:
    lines: list[Any] = []
    run = ball_run(tmp_path, recipe(), on_epoch=lambda name, line: lines.append((name, line)))
    (weights,) = train(run, stages=(1,))
    assert weights.name == "detector.best.safetensors"
    assert [name for name, _ in lines] == ["detector"] * 3
    assert set(lines[0][1].scores) == {"recall", "false_positives"}
    assert lines[-1][1].validation_loss < lines[0][1].validation_loss


@dataclass(frozen=True)
class Spots(Dataset[Any]):
    """Patches of noise with one to three brighter ellipsoids of 5 to 12 voxels; patch n follows from (seed, n)."""

    seed: int
    start: int
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng([self.seed, self.start + index])
        grid = np.stack(np.meshgrid(*[np.arange(32)] * 3, indexing="ij"))
        labels = np.ones((32, 32, 32), np.uint8)
        for _ in range(int(rng.integers(1, 4))):
            centre, radii = rng.uniform(7, 25, 3), rng.uniform(2.5, 6, 3)
            labels[(((grid - centre[:, None, None, None]) / radii[:, None, None, None]) ** 2).sum(0) < 1] = 2
        volume = 0.3 + 0.4 * (labels == 2) + rng.normal(0, 0.1, labels.shape)
        return torch.from_numpy(volume[None].astype(np.float32)), torch.from_numpy(labels[None])


@dataclass(frozen=True)
class SpotSource:
    """A source of `Spots`."""

    def patches(self, stage: int, start: int, count: int, validation: bool = False) -> Dataset[Any]:
        return Spots(100 + validation, start, count)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_detector_learns_to_find_ellipsoids_it_never_saw(tmp_path: Path, one_thread: None) -> None:
    wide = {"out_channels": 9, "widths": [8, 8, 16, 16], "channels": 16, "anchors": [[4, 4, 4], [6, 6, 6], [8, 8, 8]]}
    used = recipe(arguments=wide)
    training = dataclasses.replace(used.training[1], epochs=6, iterations_per_epoch=30, learning_rate=2e-3)
    used = dataclasses.replace(
        used, training=(training, training), coarse_to_fine=CoarseToFine(small_lesion_mm=30.0, detector_score=0.5)
    )
    lines: list[Any] = []
    given = {"seed": 1, "workers": 0, "validation_patches": 12}
    train(Run(used, SpotSource(), tmp_path, on_epoch=lambda _, line: lines.append(line.scores), **given), stages=(1,))
    assert lines[-1]["recall"] > 0.9
    assert lines[-1]["false_positives"] < 0.5
