"""Two processes that train together do what one does with batches of twice the size."""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from LiverTumorSegLib.networks import build_network
from LiverTumorSegLib.training import trainer
from LiverTumorSegLib.training.averaging import running_average
from LiverTumorSegLib.training.checkpoint import Progress
from LiverTumorSegLib.training.fitting import Fitting, fit_epoch
from LiverTumorSegLib.training.schedules import build_optimiser
from LiverTumorSegLib.training.tasks import Segmenting
from LiverTumorSegLib.training.team import Team, joined_team
from LiverTumorSegLib.training.trainer import train
from processes import ended, new_processes
from training_cases import DROPPING, RECIPE, Balls, ball_run, check_same, ending_before, trained

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork: a new Python takes seconds to begin"),
]

# S1's loss is taken of every patch by itself, so that the mean over processes is the mean over patches.
BY_PATCH = trained(loss="dice_focal", batch_size=2, clip_gradient=1e6, learning_rate=0.1, optimiser="sgd")


def in_two_processes(task: Callable[..., None], *arguments: object) -> None:
    """Run it in two processes that can meet, as `torchrun` starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with new_processes(*((in_team, (number, port, task, arguments)) for number in range(2))) as processes:
        assert [ended(process) for process in processes] == [0, 0]


def in_team(number: int, port: int, task: Callable[..., None], arguments: tuple[object, ...]) -> None:
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "RANK": str(number)}
    os.environ.update(place)
    torch.set_num_threads(1)
    task(*arguments)


def one_step(folder: Path, batch_size: int) -> None:
    """Leave the gradient of the first step, of every process."""
    with joined_team("cpu") as (team, device):
        torch.manual_seed(0)
        stage = RECIPE.stages[0]
        network = build_network(stage.network, stage.arguments)
        optimiser = build_optimiser(BY_PATCH.training[0], network.parameters())
        task, average = Segmenting(BY_PATCH, 0, device), running_average(network, 0.0)
        bad = folder / "bad_batch.safetensors"
        fitting = Fitting(network, team.wrapped(network), average, optimiser, task, team, device, 1e6, bad, (0, 0))
        patches = Balls(BY_PATCH).patches(0, 0, batch_size * team.size)
        mine = [patches[n] for n in team.share(batch_size * team.size, batch_size)]
        batch = tuple(torch.stack(parts) for parts in zip(*mine, strict=True))
        loss = fit_epoch(fitting, iter([batch]), 1, Progress(), lambda: None)
        found = {name: parameter.grad for name, parameter in network.named_parameters()}
        save_file({**found, "loss": torch.tensor(loss)}, folder / f"{team.size}_{team.number}.safetensors")


def test_two_processes_have_the_gradient_of_one_with_twice_the_batch(tmp_path):
    in_two_processes(one_step, tmp_path, 1)
    one_step(tmp_path, 2)
    alone = load_file(tmp_path / "1_0.safetensors")
    assert any(tensor.abs().max() > 1e-3 for tensor in alone.values())
    for number in range(2):
        together = load_file(tmp_path / f"2_{number}.safetensors")
        assert all(torch.allclose(together[name], alone[name], atol=1e-6, rtol=0) for name in alone)


def train_quietly(folder: Path, batch_size: int, epochs: int) -> None:
    recipe = dataclasses.replace(
        BY_PATCH,
        training=tuple(
            dataclasses.replace(t, batch_size=batch_size, epochs=epochs, schedule="constant", learning_rate=1e-3)
            for t in BY_PATCH.training
        ),
    )
    with joined_team("cpu") as (team, device):
        train(ball_run(folder, recipe, validation_patches=4, device=device), stages=(0,), team=team)


def test_a_team_s_run_is_that_of_one_process_with_twice_the_batch_also_when_it_is_resumed(tmp_path):
    in_two_processes(train_quietly, tmp_path / "team", 1, 1)
    in_two_processes(train_quietly, tmp_path / "team", 1, 2)
    train_quietly(tmp_path / "alone", 2, 2)
    team, alone = (load_file(tmp_path / name / "whole.best.safetensors") for name in ("team", "alone"))
    assert all(torch.allclose(team[name], alone[name], atol=1e-5) for name in alone)
    logs = [(tmp_path / name / "whole.csv").read_text(encoding="utf-8").splitlines() for name in ("team", "alone")]
    assert len(logs[0]) == len(logs[1]) == 3
    for mine, yours in zip(*(log[1:] for log in logs), strict=True):
        pairs = zip(mine.split(",")[:-1], yours.split(",")[:-1], strict=True)
        assert all(float(a) == pytest.approx(float(b), abs=1e-4) for a, b in pairs)


def train_until(folder: Path, last: int | None) -> None:
    """Train with a checkpoint at every step; end before a patch where one is named."""
    with joined_team("cpu") as (team, device):
        run = ball_run(folder, DROPPING, device=device, checkpoint_every_s=0.0)
        if last is None:
            train(run, stages=(0,), team=team)
            return
        with pytest.raises(KeyboardInterrupt):
            train(ending_before(run, last), stages=(0,), team=team)


def test_a_team_that_is_cut_off_within_an_epoch_ends_with_the_same_bits(tmp_path):
    in_two_processes(train_until, tmp_path / "whole", None)
    # A step takes two patches: the third step of the second epoch, then the first of the third.
    for last in (10, 12, None):
        in_two_processes(train_until, tmp_path / "cut", last)
    check_same(tmp_path / "whole", tmp_path / "cut")


def train_in_bf16(folder: Path) -> None:
    proved = trainer.prove_bf16

    def told(*arguments: Any) -> float:
        (folder / f"proved_by_{os.environ['RANK']}").touch()
        return proved(*arguments)

    trainer.prove_bf16 = told  # in a process of its own
    with joined_team("cpu") as (team, device):
        train(ball_run(folder, trained(epochs=1, bf16=True), device=device, bf16_on_cpu=True), stages=(0,), team=team)


def test_each_process_of_a_team_proves_bf16_and_they_train_in_it(tmp_path):
    in_two_processes(train_in_bf16, tmp_path)
    assert sorted(path.name for path in tmp_path.glob("proved_by_*")) == ["proved_by_0", "proved_by_1"]
    assert len((tmp_path / "whole.csv").read_text(encoding="utf-8").splitlines()) == 2


def test_a_process_alone_is_a_team_of_one(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined_team("cpu") as (team, device):
        assert (team, device) == (Team(0, 1), "cpu")
        network = torch.nn.Linear(1, 1)
        assert team.wrapped(network) is network
        assert team.summed(torch.tensor([2.0])).tolist() == [2.0]
        team.wait()
