"""Runs of the trainer: what is kept, where a stage begins and stops, what it leaves to read, and the bundle."""

from __future__ import annotations

import csv
import dataclasses
import math

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from LiverTumorSegLib.bundle import Bundle
from LiverTumorSegLib.errors import BundleError, LiverTumorSegWarning, RecipeError, TrainingError
from LiverTumorSegLib.networks import build_network
from LiverTumorSegLib.networks.weights import save_weights
from LiverTumorSegLib.training.export import export_bundle
from LiverTumorSegLib.training.losses import LOSSES
from LiverTumorSegLib.training.trainer import train
from training_cases import RECIPE, SMALL, Balls, ball_run, trained

pytestmark = pytest.mark.usefixtures("one_thread")


def lines_of(path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_run_trains_both_stages_and_logs_every_epoch(tmp_path):
    told = []
    run = ball_run(tmp_path, on_epoch=lambda name, line: told.append((name, line.epoch)))
    files = train(run)
    assert [file.name for file in files] == ["whole.best.safetensors", "crop.best.safetensors"]
    lines = lines_of(tmp_path / "crop.csv")
    names = ["epoch", "learning_rate", "training_loss", "validation_loss", "liver_dice", "tumour_dice", "seconds"]
    assert list(lines[0]) == names
    assert [int(line["epoch"]) for line in lines] == [1, 2, 3, 4]
    assert all(math.isfinite(float(line["validation_loss"])) for line in lines)
    assert told == [(stage, epoch) for stage in ("whole", "crop") for epoch in (1, 2, 3, 4)]


@pytest.mark.parametrize("optimiser", ["adam", "adamw", "sgd"])
def test_a_network_learns_to_find_balls(tmp_path, optimiser):
    rate = 1e-2 if optimiser != "sgd" else 3e-3
    recipe = trained(epochs=8, iterations_per_epoch=10, learning_rate=rate, optimiser=optimiser, schedule="cosine")
    train(ball_run(tmp_path, recipe), stages=(0,))
    lines = lines_of(tmp_path / "whole.csv")
    assert float(lines[-1]["liver_dice"]) > 0.7
    assert float(lines[-1]["validation_loss"]) < float(lines[0]["validation_loss"])


def test_the_best_weights_are_those_of_the_lowest_validation_loss(tmp_path):
    # The rate is so high that the network gets worse again.
    run = ball_run(tmp_path, trained(epochs=6, learning_rate=0.2, schedule="constant", weight_average=0.0))
    kept = {}
    run = dataclasses.replace(
        run, on_epoch=lambda name, line: kept.update({line.epoch: load_file(tmp_path / "whole.best.safetensors")})
    )
    train(run, stages=(0,))
    losses = [float(line["validation_loss"]) for line in lines_of(tmp_path / "whole.csv")]
    best = losses.index(min(losses)) + 1
    final = load_file(tmp_path / "whole.best.safetensors")
    assert all(torch.equal(final[name], kept[best][name]) for name in final)


def test_what_is_kept_is_the_average_and_not_the_last_step_s_weights(tmp_path):
    recipes = {share: trained(epochs=1, iterations_per_epoch=4, weight_average=share) for share in (0.9, 0.0)}
    kept, last = (
        load_file(train(ball_run(tmp_path / str(share), recipe), (0,))[0]) for share, recipe in recipes.items()
    )
    assert any(not torch.equal(kept[name], last[name]) for name in last)
    checkpoint = load_file(tmp_path / "0.0" / "whole.checkpoint.safetensors")
    assert all(torch.equal(checkpoint[f"network.{name}"], last[name]) for name in last)


def test_the_second_stage_starts_from_the_first_one_s_weights(tmp_path):
    first, second = (load_file(path) for path in train(ball_run(tmp_path, trained(learning_rate=0.0, epochs=1))))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_without_hand_over_or_where_nothing_fits_a_stage_starts_anew(tmp_path):
    alone = trained(learning_rate=0.0, epochs=1, hand_over=False)
    other = dataclasses.replace(RECIPE.stages[1], network="segresnet", arguments={"init_filters": 8})
    unlike = dataclasses.replace(trained(learning_rate=0.0, epochs=1), stages=(RECIPE.stages[0], other))
    first, second = (load_file(path) for path in train(ball_run(tmp_path / "alone", alone)))
    fresh = build_seeded()
    assert all(torch.equal(second[name], fresh[name]) for name in second)
    assert len(train(ball_run(tmp_path / "unlike", unlike))) == 2
    assert set(first) == set(second)


def build_seeded() -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    return build_network("unet", SMALL).state_dict()


def test_a_run_begins_from_given_weights_where_they_fit_and_keeps_a_new_head(tmp_path):
    given = build_network("unet", SMALL)
    (tmp_path / "weights").mkdir()
    for name in ("whole", "crop"):
        save_weights(given, tmp_path / "weights" / f"{name}.safetensors", half=False)
    headed = tuple(dataclasses.replace(s, arguments={**SMALL, "head": "linear"}) for s in RECIPE.stages)
    recipe = dataclasses.replace(trained(learning_rate=0.0, epochs=1), stages=headed)
    old = given.state_dict()
    for path in train(ball_run(tmp_path / "run", recipe, initial=tmp_path / "weights")):
        new = load_file(path)
        assert set(new) != set(old)  # the head differs
        shared = [name for name in set(new) & set(old) if new[name].shape == old[name].shape]
        assert shared
        assert all(torch.equal(new[name], old[name]) for name in shared)


def test_weights_that_fit_nowhere_or_are_not_there_are_refused(tmp_path):
    save_weights(torch.nn.Linear(2, 2), tmp_path / "whole.safetensors")
    with pytest.raises(BundleError, match="wanted weights to begin with, got none that fits the network"):
        train(ball_run(tmp_path / "run", initial=tmp_path), stages=(0,))
    with pytest.raises(BundleError, match="wanted weights to begin with, there is no such file"):
        train(ball_run(tmp_path / "run", initial=tmp_path), stages=(1,))


def test_a_stage_stops_after_its_patience(tmp_path):
    train(ball_run(tmp_path, trained(patience=1, epochs=30, learning_rate=0.0)), stages=(0,))
    # With a rate of 0 nothing gets better after the first epoch.
    assert len(lines_of(tmp_path / "whole.csv")) == 2


def test_a_finished_stage_is_not_trained_again(tmp_path):
    first = train(ball_run(tmp_path), stages=(0,))[0]
    stamp = first.stat().st_mtime_ns
    train(ball_run(tmp_path), stages=(0,))
    assert first.stat().st_mtime_ns == stamp
    assert len(lines_of(tmp_path / "whole.csv")) == 4


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_the_batch(tmp_path, monkeypatch):
    monkeypatch.setitem(LOSSES, "dice_focal_all", lambda activation: lambda logits, target: logits.sum() * float("nan"))
    with pytest.raises(TrainingError, match="training loss: wanted a finite number, got nan in step 1 of epoch 1"):
        train(ball_run(tmp_path), stages=(0,))
    with safe_open(tmp_path / "whole.bad_batch.safetensors", framework="pt") as file:
        assert file.metadata() == {"epoch": "1", "step": "1", "loss": "nan"}
        volume, labels = (file.get_tensor(name) for name in ("volume", "labels"))
    expected = Balls().patches(0, 0, 1)[0]
    assert torch.equal(volume[0], expected[0])
    assert torch.equal(labels[0], expected[1])
    assert not (tmp_path / "whole.checkpoint.safetensors").exists()


def test_a_gradient_that_is_not_finite_stops_the_run_before_it_spoils_the_weights(tmp_path, monkeypatch):
    # The square root of 0 is finite, its slope is not.
    monkeypatch.setitem(LOSSES, "dice_focal_all", lambda activation: lambda logits, target: (logits * 0).sum().sqrt())
    with pytest.raises(TrainingError, match="training gradient: wanted a finite number, got nan in step 1 of epoch 1"):
        train(ball_run(tmp_path), stages=(0,))


def test_a_validation_loss_that_is_not_finite_stops_the_run(tmp_path, monkeypatch):
    def judged(loss):
        return lambda logits, target: loss(logits, target) if logits.requires_grad else logits.sum() * float("inf")

    real = LOSSES["dice_focal_all"]
    monkeypatch.setitem(LOSSES, "dice_focal_all", lambda activation: judged(real(activation)))
    with pytest.raises(TrainingError, match=r"validation loss: wanted a finite number, got (-?inf|nan) after epoch 1"):
        train(ball_run(tmp_path), stages=(0,))


def test_an_unknown_loss_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(RecipeError, match=r"recipe.training\[0\].loss: wanted one of bce, .*, got 'huber'"):
        train(ball_run(tmp_path, trained(loss="huber")), stages=(0,))


def test_labels_without_a_name_are_refused(tmp_path):
    recipe = dataclasses.replace(RECIPE, label_names=("background", "tumour"))
    with pytest.raises(TrainingError, match="labels: wanted 0 to 1, as the recipe's label_names say, got 2"):
        train(ball_run(tmp_path, recipe), stages=(0,))


def test_progress_tells_the_epoch_and_the_time_left(tmp_path):
    told = []
    train(ball_run(tmp_path, progress=lambda text, share: told.append((text, share))), stages=(0,))
    assert told[0][0].startswith("whole: epoch 1 of 4, at most ")
    assert told[0][1] == 1 / 8  # of four epochs with two steps each
    assert told[-1] == ("whole: epoch 4 of 4, at most 0 s left", 1.0)


def test_tensorboard_gets_the_numbers_of_the_log_and_a_picture(tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train(ball_run(tmp_path), stages=(0,))
    read = events.EventAccumulator(str(tmp_path / "tensorboard" / "whole")).Reload()
    logged = [float(line["validation_loss"]) for line in lines_of(tmp_path / "whole.csv")]
    curve = read.Scalars("validation_loss")
    assert [event.step for event in curve] == [1, 2, 3, 4]
    assert np.allclose([event.value for event in curve], logged, atol=1e-5)
    picture = read.Images("validation")[-1]
    assert (picture.width, picture.height) == (3 * 16, 16)


def test_without_tensorboard_one_line_says_so_and_training_goes_on(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.warns(LiverTumorSegWarning, match=r"no curves for TensorBoard: wanted .* extra \[train\]"):
        train(ball_run(tmp_path), stages=(0,))
    assert len(lines_of(tmp_path / "whole.csv")) == 4
    assert not (tmp_path / "tensorboard").exists()


def test_a_trained_run_becomes_a_bundle_that_loads(tmp_path):
    weights = train(ball_run(tmp_path))
    bundle = export_bundle(RECIPE, weights, tmp_path / "bundle", "procedural anatomy", "none")
    assert Bundle.load(tmp_path / "bundle").sha256 == bundle.sha256
    assert bundle.recipe == RECIPE
    assert "Not a medical device" in bundle.metadata["intended_use"]
    assert bundle.openvino_path("crop") is not None
    stored = load_file(bundle.weights_path("whole"))
    assert all(tensor.dtype == torch.float16 for tensor in stored.values())
