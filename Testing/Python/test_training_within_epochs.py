"""A run keeps its state within epochs, too, and goes on from any step with the numbers of an unbroken one."""

from __future__ import annotations

import csv
import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.utils.data import Dataset

from LiverTumorSegLib.training import trainer
from LiverTumorSegLib.training.trainer import train
from training_cases import DROPPING, Balls, ball_run, check_same, ending_before, progress_of, trained

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS = 5
LONG = dataclasses.replace(
    DROPPING, training=tuple(dataclasses.replace(t, epochs=3, iterations_per_epoch=STEPS) for t in DROPPING.training)
)


def cut_off(folder: Path, recipe, *patches: int, every_s: float = 0.0) -> None:
    """Begin a run, or go on with it, and have it interrupted before each of the patches."""
    for patch in patches:
        with pytest.raises(KeyboardInterrupt):
            train(ending_before(ball_run(folder, recipe, checkpoint_every_s=every_s), patch), stages=(0,))


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_a_run_that_is_cut_off_within_epochs_ends_with_the_same_bits(tmp_path, optimiser):
    recipe = dataclasses.replace(
        LONG, training=tuple(dataclasses.replace(t, optimiser=optimiser) for t in LONG.training)
    )
    train(ball_run(tmp_path / "whole", recipe), stages=(0,))
    # In the first epoch, twice in the second, and before the last step of all.
    cut_off(tmp_path / "cut", recipe, 3, STEPS + 1, STEPS + 4, 3 * STEPS - 1)
    train(ball_run(tmp_path / "cut", recipe), stages=(0,))
    check_same(tmp_path / "whole", tmp_path / "cut")


def test_batches_of_several_patches_go_on_with_the_next_batch(tmp_path):
    recipe = trained(epochs=2, iterations_per_epoch=3, batch_size=2)
    train(ball_run(tmp_path / "whole", recipe), stages=(0,))
    cut_off(tmp_path / "cut", recipe, 4)
    assert progress_of(tmp_path / "cut")["step"] == 2
    asked = []

    class Asked(Balls):
        def patches(self, stage: int, start: int, count: int, validation: bool = False) -> Dataset[Any]:
            asked.append((start, count, validation))
            return super().patches(stage, start, count, validation)

    train(dataclasses.replace(ball_run(tmp_path / "cut", recipe), source=Asked(recipe)), stages=(0,))
    assert [(start, count) for start, count, validation in asked if not validation] == [(4, 8)]
    check_same(tmp_path / "whole", tmp_path / "cut")


def test_a_step_after_the_last_checkpoint_is_done_again(tmp_path):
    train(ball_run(tmp_path / "whole", LONG), stages=(0,))
    cut_off(tmp_path / "cut", LONG, STEPS + 2)
    cut_off(tmp_path / "cut", LONG, STEPS + 4, every_s=60.0)
    assert (progress_of(tmp_path / "cut")["epoch"], progress_of(tmp_path / "cut")["step"]) == (1, 2)
    train(ball_run(tmp_path / "cut", LONG), stages=(0,))
    check_same(tmp_path / "whole", tmp_path / "cut")


def test_best_weights_and_a_line_of_an_epoch_whose_checkpoint_is_missing_are_made_again(tmp_path, monkeypatch):
    train(ball_run(tmp_path / "whole", LONG), stages=(0,))
    real = trainer.save_checkpoint

    def only_within_epochs(path, state, plan) -> None:
        if state.progress.step == 0:
            raise KeyboardInterrupt
        real(path, state, plan)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "save_checkpoint", only_within_epochs)
        with pytest.raises(KeyboardInterrupt):
            train(ball_run(tmp_path / "cut", LONG, checkpoint_every_s=0.0), stages=(0,))
    assert len((tmp_path / "cut" / "whole.csv").read_text(encoding="utf-8").splitlines()) == 2
    assert progress_of(tmp_path / "cut")["step"] == STEPS - 1
    train(ball_run(tmp_path / "cut", LONG), stages=(0,))
    check_same(tmp_path / "whole", tmp_path / "cut")


@dataclass(frozen=True)
class SlowBalls(Balls):
    """Each training patch takes 25 seconds of a clock that only it moves."""

    now: list[float] = field(default_factory=lambda: [1000.0])

    def patches(self, stage: int, start: int, count: int, validation: bool = False) -> Dataset[Any]:
        patches = super().patches(stage, start, count, validation)
        return patches if validation else _Slow(patches, self.now)


@dataclass(frozen=True)
class _Slow(Dataset[Any]):
    patches: Dataset[Any]
    now: list[float]

    def __len__(self) -> int:
        return len(self.patches)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        self.now[0] += 25.0
        return self.patches[index]


def test_a_checkpoint_is_written_whenever_a_minute_has_passed(tmp_path, monkeypatch):
    recipe = trained(epochs=2, iterations_per_epoch=8)
    source, saved, real = SlowBalls(recipe), [], trainer.save_checkpoint

    def noted(path, state, plan) -> None:
        saved.append((state.progress.epoch, state.progress.step, state.progress.seconds))
        real(path, state, plan)

    monkeypatch.setattr(trainer, "time", SimpleNamespace(monotonic=lambda: source.now[0]))
    monkeypatch.setattr(trainer, "save_checkpoint", noted)
    train(dataclasses.replace(ball_run(tmp_path, recipe), source=source), stages=(0,))
    # 75 s after the last one; after an epoch's end, at 200 s, it is a minute again.
    first = [(0, 3, 75.0), (0, 6, 150.0), (1, 0, 0.0)]
    assert saved == [*first, (1, 3, 75.0), (1, 6, 150.0), (2, 0, 0.0)]


def test_the_seconds_of_an_epoch_that_was_cut_off_are_those_of_both_parts(tmp_path, monkeypatch):
    recipe = trained(epochs=1, iterations_per_epoch=8)
    source = SlowBalls(recipe)
    monkeypatch.setattr(trainer, "time", SimpleNamespace(monotonic=lambda: source.now[0]))

    def interrupted(text: str, share: float) -> None:
        raise KeyboardInterrupt

    run = dataclasses.replace(ball_run(tmp_path, recipe, checkpoint_every_s=0.0), source=source)
    with pytest.raises(KeyboardInterrupt):
        train(dataclasses.replace(run, progress=interrupted), stages=(0,))
    source.now[0] += 1e6  # nobody was at work
    train(run, stages=(0,))
    with (tmp_path / "whole.csv").open(newline="", encoding="utf-8") as file:
        assert [float(line["seconds"]) for line in csv.DictReader(file)] == [8 * 25.0]


def test_the_time_left_and_the_share_go_on_from_the_step(tmp_path):
    cut_off(tmp_path, LONG, STEPS + 2)
    told = []
    train(ball_run(tmp_path, LONG, progress=lambda text, share: told.append((text, share))), stages=(0,))
    text, share = told[0]
    assert text.startswith("whole: epoch 2 of 3, at most ")
    assert share == pytest.approx((STEPS + 3) / (3 * STEPS))


def test_tensorboard_s_curves_go_on_after_the_last_whole_epoch(tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    cut_off(tmp_path, LONG, STEPS + 2)
    train(ball_run(tmp_path, LONG), stages=(0,))
    read = events.EventAccumulator(str(tmp_path / "tensorboard" / "whole")).Reload()
    assert [event.step for event in read.Scalars("training_loss")] == [1, 2, 3]


def test_a_checkpoint_of_a_version_that_knew_epochs_only_goes_on(tmp_path):
    train(ball_run(tmp_path / "whole", LONG), stages=(0,))
    cut_off(tmp_path / "cut", LONG, STEPS + 1, every_s=60.0)
    path = tmp_path / "cut" / "whole.checkpoint.safetensors"
    with safe_open(path, framework="pt") as file:
        about = dict(file.metadata())
    known = {key: value for key, value in json.loads(about["progress"]).items() if "best" in key or key == "epoch"}
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    save_file(tensors, path, {**about, "progress": json.dumps(known)})
    assert set(progress_of(tmp_path / "cut")) == {"epoch", "best_loss", "best_epoch"}
    train(ball_run(tmp_path / "cut", LONG), stages=(0,))
    check_same(tmp_path / "whole", tmp_path / "cut")


def test_dropout_differs_from_step_to_step(tmp_path):
    drawn = []
    real = torch.manual_seed
    recipe = trained(epochs=2, iterations_per_epoch=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "manual_seed", lambda seed: drawn.append(seed) or real(seed))
        train(ball_run(tmp_path, recipe), stages=(0,))
    assert len(set(drawn[-6:])) == 6
