"""bf16 on a CPU: only where it was asked for, and only after a network's gradients have proved right there."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable

import pytest
import torch

from LiverTumorSegLib.__main__ import main
from LiverTumorSegLib.errors import TrainingError
from LiverTumorSegLib.networks import build_network
from LiverTumorSegLib.recipe import recipe_to_json
from LiverTumorSegLib.training import jobs, precision
from LiverTumorSegLib.training.precision import check_bf16_on_cpu, forward_precision, prove_bf16
from LiverTumorSegLib.training.tasks import TASKS
from LiverTumorSegLib.training.trainer import train
from training_cases import Balls, ball_run, check_same, ending_before, trained

pytestmark = pytest.mark.usefixtures("one_thread")

BF16 = trained(epochs=2, bf16=True)


def test_on_a_cpu_bf16_holds_only_where_it_is_asked_for_twice():
    kinds = []
    for bf16, on_cpu in ((True, True), (True, False), (False, True)):
        with forward_precision("cpu", bf16, on_cpu):
            kinds.append((torch.ones(2, 2) @ torch.ones(2, 2)).dtype)
    assert kinds == [torch.bfloat16, torch.float32, torch.float32]


@pytest.fixture
def kinds(monkeypatch) -> list[torch.dtype]:
    """The kinds of numbers in which the network answered during the forward passes of tasks."""
    heard: list[torch.dtype] = []
    task = TASKS["segment"]
    real = task._answer  # type: ignore[attr-defined]

    def noted(self, network, volume):
        heard.append((answer := real(self, network, volume)).dtype)
        return answer

    monkeypatch.setattr(task, "_answer", noted)
    return heard


def test_a_run_is_in_bf16_after_a_float32_pass_and_three_more_have_proved_it(tmp_path, kinds):
    train(ball_run(tmp_path, BF16, bf16_on_cpu=True), stages=(0,))
    assert kinds[0] == torch.float32
    assert len(kinds) > 4 + 2 * 2
    assert set(kinds[1:]) == {torch.bfloat16}


def test_a_run_that_did_not_ask_is_in_float32(tmp_path, kinds):
    train(ball_run(tmp_path, BF16), stages=(0,))
    assert set(kinds) == {torch.float32}


def test_a_stage_whose_recipe_wants_no_bf16_stays_in_float32(tmp_path, kinds):
    first, second = BF16.training
    recipe = dataclasses.replace(BF16, training=(first, dataclasses.replace(second, bf16=False)))
    train(ball_run(tmp_path, recipe, bf16_on_cpu=True))
    half = len(kinds) - kinds[::-1].index(torch.bfloat16)
    assert len(kinds[half:]) >= 4
    assert set(kinds[half:]) == {torch.float32}


def test_the_proof_takes_no_patch_and_no_chance_from_the_run(tmp_path, monkeypatch):
    train(ball_run(tmp_path / "proved", BF16, bf16_on_cpu=True), stages=(0,))
    monkeypatch.setattr("LiverTumorSegLib.training.trainer.prove_bf16", lambda *_: 0.0)
    train(ball_run(tmp_path / "unproved", BF16, bf16_on_cpu=True), stages=(0,))
    check_same(tmp_path / "proved", tmp_path / "unproved")


def test_a_run_in_bf16_that_is_cut_off_within_an_epoch_ends_with_the_same_bits(tmp_path):
    train(ball_run(tmp_path / "whole", BF16, bf16_on_cpu=True), stages=(0,))
    run = ball_run(tmp_path / "cut", BF16, bf16_on_cpu=True, checkpoint_every_s=0.0)
    with pytest.raises(KeyboardInterrupt):
        train(ending_before(run, 3), stages=(0,))
    train(run, stages=(0,))
    check_same(tmp_path / "whole", tmp_path / "cut")


def test_a_run_in_bf16_does_not_go_on_in_float32(tmp_path):
    train(ball_run(tmp_path, trained(epochs=1, bf16=True), bf16_on_cpu=True), stages=(0,))
    with pytest.raises(TrainingError, match="wanted to go on with bf16_on_cpu false, the run was begun with true"):
        train(ball_run(tmp_path, BF16), stages=(0,))


Spoil = Callable[[torch.Tensor, torch.nn.Module, int], torch.Tensor]


def losses(spoil: Spoil = lambda loss, network, turn: loss):
    """A small network, its loss in float32, and that in bf16 with something done to it."""
    exact, rounded = (TASKS["segment"](BF16, 0, "cpu", on_cpu) for on_cpu in (False, True))
    volume, labels = (each[None] for each in Balls().patches(0, 0, 1)[0])
    turns = itertools.count()
    torch.manual_seed(0)
    stage = BF16.stages[0]
    return (
        build_network(stage.network, {**stage.arguments, "dropout": 0.5}),
        lambda network: exact.loss(network, volume, labels, 0),
        lambda network: spoil(rounded.loss(network, volume, labels, 0), network, next(turns)),
    )


def test_a_network_that_proves_right_stays_as_it_was():
    network, exact, rounded = losses()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert 0 < prove_bf16(network.eval(), exact, rounded) < 0.1
    assert not network.training
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def kernel(network: torch.nn.Module, number: int = 0) -> torch.nn.Parameter:
    return [parameter for parameter in network.parameters() if parameter.dim() > 1][number]


def with_nan_at_last(loss: torch.Tensor, network: torch.nn.Module, turn: int) -> torch.Tensor:
    return loss + (kernel(network).sum() * 0).sqrt() if turn == 2 else loss


def with_something_else_each_time(loss: torch.Tensor, network: torch.nn.Module, turn: int) -> torch.Tensor:
    return loss + turn * kernel(network).sum()


def a_fifth_too_large(loss: torch.Tensor, network: torch.nn.Module, turn: int) -> torch.Tensor:
    return 1.2 * loss


def with_one_missing(loss: torch.Tensor, network: torch.nn.Module, turn: int) -> torch.Tensor:
    kernel(network, 1).register_hook(torch.zeros_like)
    return loss


SPOILT = {
    "wanted finite gradients, got others in 1 of": with_nan_at_last,
    "wanted the same gradients every time, got others in 1 tensors": with_something_else_each_time,
    r"wanted gradients within 10% of float32's in the median, got (19|2\d)\.\d%": a_fifth_too_large,
    r"wanted all gradients within 50% of float32's, got 100\.0% in \S+weight": with_one_missing,
}


@pytest.mark.parametrize("complaint", SPOILT)
def test_gradients_that_are_not_right_are_refused_in_one_line(complaint):
    with pytest.raises(TrainingError, match=f"^bf16 on this CPU: {complaint}.*; train without --bf16-on-cpu$"):
        prove_bf16(*losses(SPOILT[complaint]))


def test_a_stage_that_cannot_be_trained_in_bf16_stops_before_its_first_step(tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "_MEDIAN_OFF", 0.0)
    with pytest.raises(TrainingError, match=r"^bf16 on this CPU: wanted gradients within 0% of float32's in the med"):
        train(ball_run(tmp_path, BF16, bf16_on_cpu=True), stages=(0,))
    assert not list(tmp_path.glob("whole.*"))


def test_it_is_refused_where_nothing_would_look_at_it(tmp_path):
    check_bf16_on_cpu("cpu", BF16.training)
    with pytest.raises(TrainingError, match=r"^--bf16-on-cpu: wanted it with a CPU, got cuda:0$"):
        check_bf16_on_cpu("cuda:0", BF16.training)
    with pytest.raises(TrainingError, match="wanted it with a recipe's bf16, got bf16 false in all stages to be train"):
        train(ball_run(tmp_path / "run", bf16_on_cpu=True))
    assert not (tmp_path / "run").exists()


def test_the_command_refuses_it_before_anything_is_written(tmp_path, capsys):
    recipe = tmp_path / "recipe.json"
    recipe.write_text(recipe_to_json(trained(bf16=False)), encoding="utf-8")
    line = ["train", str(recipe), "-o", str(tmp_path / "run"), "--device", "cpu", "--bf16-on-cpu"]
    assert main(line) == 2
    error = capsys.readouterr().err
    assert re.fullmatch("livertumorseg: error: --bf16-on-cpu: wanted it with a recipe's bf16, got .*\n", error)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("given", [True, False])
def test_the_command_hands_it_to_the_run(tmp_path, monkeypatch, given):
    runs = []

    def noted(run, *_: object) -> None:
        runs.append(run)
        raise TrainingError("that is enough")

    monkeypatch.setattr(jobs, "train", noted)
    monkeypatch.setattr(jobs, "_source", lambda *_: Balls(BF16))
    recipe = tmp_path / "recipe.json"
    recipe.write_text(recipe_to_json(BF16), encoding="utf-8")
    line = ["train", str(recipe), "-o", str(tmp_path / "run"), "--device", "cpu"]
    assert main([*line, "--bf16-on-cpu"] if given else line) == 2
    assert [run.bf16_on_cpu for run in runs] == [given]
