"""Runs that are cut off, killed or resumed otherwise end with the numbers of an unbroken run, or say why not."""

from __future__ import annotations

import dataclasses
import os
import signal
import time

import numpy as np
import pytest
import torch

from LiverTumorSegLib.errors import LiverTumorSegWarning, OutputError, TrainingError
from LiverTumorSegLib.recipe import Crop
from LiverTumorSegLib.training import checkpoint
from LiverTumorSegLib.training.trainer import train
from processes import ended, new_processes
from training_cases import DROPPING, ball_run, check_same, lines_without_seconds, trained

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
@pytest.mark.parametrize("cut", [1, 2])
def test_an_interrupted_run_ends_with_the_same_numbers_as_an_unbroken_one(tmp_path, cut, optimiser):
    recipe = dataclasses.replace(
        DROPPING, training=tuple(dataclasses.replace(t, optimiser=optimiser) for t in DROPPING.training)
    )
    train(ball_run(tmp_path / "whole", recipe), stages=(0,))

    def stop(_: str, line) -> None:
        if line.epoch == cut:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(ball_run(tmp_path / "cut", recipe, on_epoch=stop), stages=(0,))
    assert len(lines_without_seconds(tmp_path / "cut")) == 1 + cut
    train(ball_run(tmp_path / "cut", recipe), stages=(0,))
    check_same(tmp_path / "whole", tmp_path / "cut")


def test_two_epochs_and_two_more_are_four(tmp_path):
    short, long = (trained(epochs=epochs, schedule="step", schedule_epochs=1) for epochs in (2, 4))
    train(ball_run(tmp_path / "whole", long), stages=(0,))
    train(ball_run(tmp_path / "halves", short), stages=(0,))
    train(ball_run(tmp_path / "halves", long), stages=(0,))
    check_same(tmp_path / "whole", tmp_path / "halves")


@pytest.mark.parametrize("moment", ["before the weights", "before the log", "before the checkpoint"])
def test_an_epoch_that_is_cut_off_while_it_is_saved_is_done_again(tmp_path, monkeypatch, moment):
    train(ball_run(tmp_path / "whole"), stages=(0,))
    name = {"weights": "save_weights", "log": "append_line", "checkpoint": "save_checkpoint"}[moment.split()[-1]]
    target = f"LiverTumorSegLib.training.trainer.{name}"
    with monkeypatch.context() as patch:
        patch.setattr(target, cut_off_the_second_time(target))
        with pytest.raises(KeyboardInterrupt):
            train(ball_run(tmp_path / "cut"), stages=(0,))
    train(ball_run(tmp_path / "cut"), stages=(0,))
    check_same(tmp_path / "whole", tmp_path / "cut")


def cut_off_the_second_time(target: str):
    from LiverTumorSegLib.training import trainer

    done, real = [], getattr(trainer, target.rsplit(".", 1)[1])

    def once(*arguments, **options):
        if done:
            raise KeyboardInterrupt
        done.append(1)
        return real(*arguments, **options)

    return once


def train_and_say_so(begun, run) -> None:
    torch.set_num_threads(1)
    begun.touch()
    train(run, (0,))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork: a new Python takes seconds for each of the deaths")
def test_a_run_killed_at_any_moment_ends_with_the_same_numbers(tmp_path):
    recipe = trained(epochs=10)
    train(ball_run(tmp_path / "whole", recipe), stages=(0,))
    rng, deaths, begun = np.random.default_rng(0), 0, tmp_path / "begun"
    for _ in range(60):
        begun.unlink(missing_ok=True)
        with new_processes(
            (train_and_say_so, (begun, ball_run(tmp_path / "killed", recipe, checkpoint_every_s=0.0)))
        ) as (child,):
            while deaths < 8 and not begun.exists() and child.is_alive():
                time.sleep(0.001)
            if deaths < 8:
                child.join(rng.uniform(0, 0.15))
                child.kill()
            code = ended(child)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        deaths += 1
    assert deaths > 0
    check_same(tmp_path / "whole", tmp_path / "killed")


def test_a_torn_line_at_the_end_of_the_log_is_forgotten(tmp_path):
    train(ball_run(tmp_path / "whole"), stages=(0,))
    torn = tmp_path / "torn"
    with pytest.raises(KeyboardInterrupt):
        train(ball_run(torn, on_epoch=stop_after_two), stages=(0,))
    with (torn / "whole.csv").open("a", encoding="utf-8") as file:
        file.write("3,0.0005,0.9")
    train(ball_run(torn), stages=(0,))
    check_same(tmp_path / "whole", torn)


def stop_after_two(_: str, line) -> None:
    if line.epoch == 2:
        raise KeyboardInterrupt


def test_a_full_disk_leaves_the_checkpoint_that_was_there(tmp_path, monkeypatch):
    train(ball_run(tmp_path, trained(epochs=1)), stages=(0,))
    before = (tmp_path / "whole.checkpoint.safetensors").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("LiverTumorSegLib.networks.weights.os.fsync", full)
    with pytest.raises(OutputError, match="wanted to write it, got: No space left on device"):
        train(ball_run(tmp_path, trained(epochs=2)), stages=(0,))
    assert (tmp_path / "whole.checkpoint.safetensors").read_bytes() == before


def test_a_run_does_not_go_on_with_another_recipe_or_seed(tmp_path):
    train(ball_run(tmp_path, trained(epochs=1)), stages=(0,))
    with pytest.raises(TrainingError, match=r"training.learning_rate 0.5, the run was begun with 0.001; train into an"):
        train(ball_run(tmp_path, trained(learning_rate=0.5)), stages=(0,))
    with pytest.raises(TrainingError, match="wanted to go on with seed 6, the run was begun with 5"):
        train(ball_run(tmp_path, trained(epochs=2), seed=6), stages=(0,))


def test_a_run_does_not_go_on_with_a_recipe_that_shows_the_network_something_else(tmp_path):
    train(ball_run(tmp_path, trained(epochs=1)), stages=(0,))
    other = dataclasses.replace(trained(epochs=2), crop=Crop(margin_mm=20.0))
    with pytest.raises(TrainingError, match=r"to go on with recipe.crop .*20.0.*, the run was begun with .*10.0"):
        train(ball_run(tmp_path, other), stages=(0,))


def test_a_run_does_not_go_on_with_other_patients(tmp_path):
    train(ball_run(tmp_path, trained(epochs=1), origin={"fold": 0}), stages=(0,))
    train(ball_run(tmp_path, trained(epochs=2), origin={"fold": 0}), stages=(0,))
    with pytest.raises(TrainingError, match=r"wanted to go on with origin.fold 1, the run was begun with 0"):
        train(ball_run(tmp_path, trained(epochs=3), origin={"fold": 1}), stages=(0,))


def test_a_run_of_an_older_version_whose_checkpoint_does_not_tell_everything_goes_on_and_says_so(tmp_path):
    train(ball_run(tmp_path, trained(epochs=1)), stages=(0,))
    with pytest.warns(LiverTumorSegWarning, match=r"does not tell origin.drawing, origin.fold: it goes on with 3, 0$"):
        train(ball_run(tmp_path, trained(epochs=2), origin={"fold": 0, "drawing": 3}), stages=(0,))
    assert len((tmp_path / "whole.csv").read_text(encoding="utf-8").splitlines()) == 3


def test_a_checkpoint_that_is_not_whole_is_refused(tmp_path):
    train(ball_run(tmp_path, trained(epochs=1)), stages=(0,))
    path = tmp_path / "whole.checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(TrainingError, match="delete it to train the stage from its beginning"):
        train(ball_run(tmp_path, trained(epochs=2)), stages=(0,))


def test_weights_in_the_place_of_a_checkpoint_are_refused(tmp_path):
    best = train(ball_run(tmp_path, trained(epochs=1)), stages=(0,))[0]
    (tmp_path / "whole.checkpoint.safetensors").write_bytes(best.read_bytes())
    with pytest.raises(TrainingError, match="wanted a checkpoint of this version, got none; delete it"):
        train(ball_run(tmp_path, trained(epochs=2)), stages=(0,))


def test_a_checkpoint_gives_back_the_optimiser_s_state(tmp_path):
    network = torch.nn.Linear(3, 2)
    states = []
    for _ in range(2):
        copy = torch.nn.Linear(3, 2)
        copy.load_state_dict(network.state_dict())
        average = torch.optim.swa_utils.AveragedModel(copy)
        states.append(checkpoint.State(copy, average, torch.optim.Adam(copy.parameters()), checkpoint.Progress()))
    one, two = states
    one.network(torch.ones(1, 3)).sum().backward()
    one.optimiser.step()
    one.progress.epoch, one.progress.best_loss = 7, 0.25
    checkpoint.save_checkpoint(tmp_path / "state.safetensors", one, {"seed": "1"})
    checkpoint.load_checkpoint(tmp_path / "state.safetensors", two, {"seed": "1"})
    assert two.progress == checkpoint.Progress(7, 0.25, 0)
    for mine, yours in zip(one.optimiser.state.values(), two.optimiser.state.values(), strict=True):
        assert all(torch.equal(mine[key], yours[key]) for key in ("step", "exp_avg", "exp_avg_sq"))
