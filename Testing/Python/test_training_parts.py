"""What the trainer is made of: targets, schedules, averages, the time left, pictures, and who takes which patch."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from LiverTumorSegLib.errors import TrainingError
from LiverTumorSegLib.recipe import Grid, Phase, Recipe, Stage, Training, Typing, load_recipe
from LiverTumorSegLib.training import precision
from LiverTumorSegLib.training.augmentation import AUGMENTATIONS
from LiverTumorSegLib.training.averaging import running_average
from LiverTumorSegLib.training.logs import Epoch, Pace, append_line, duration, keep_lines
from LiverTumorSegLib.training.pictures import side_by_side
from LiverTumorSegLib.training.precision import forward_precision
from LiverTumorSegLib.training.schedules import build_optimiser, learning_rate, set_rate
from LiverTumorSegLib.training.targets import class_table, class_targets, nested_table
from LiverTumorSegLib.training.tasks import TASKS, Segmenting
from LiverTumorSegLib.training.team import Team
from training_cases import RECIPE, UNIT

REPOSITORY = Path(__file__).resolve().parents[2]


def stage(*classes: str, activation: str = "softmax", **given) -> Stage:
    arguments = {"out_channels": len(classes)}
    return Stage("net", "unet", Grid(spacing_mm=4.0), arguments, UNIT, classes=classes, activation=activation, **given)


def recipe_of(one: Stage, labels=("background", "liver", "tumour"), types: tuple[str, ...] = ()) -> Recipe:
    if not types:
        return Recipe("r", "repaired", "test", (one,), label_names=labels)
    typing = Typing(lesion_types=types, malignant=types[:1])
    return Recipe("r", "repaired", "test", (one,), label_names=labels, system="typing", typing=typing)


def targets(one: Stage, values: list[int], **given) -> dict[str, list[int]]:
    """What each class's channel says of the labels."""
    table = class_table(recipe_of(one, **given), one)
    channels = class_targets(torch.tensor(values, dtype=torch.uint8).reshape(1, 1, 1, 1, -1), table)
    assert channels.dtype == torch.float32
    return {name: channels[0, n].flatten().int().tolist() for n, name in enumerate(one.classes)}


TYPED = {"labels": ("background", "liver", "hcc", "cyst", "spleen"), "types": ("hcc", "cyst")}


def test_with_softmax_every_voxel_has_one_class():
    assert targets(stage("background", "liver", "tumour"), [0, 1, 2]) == {
        "background": [1, 0, 0],
        "liver": [0, 1, 0],
        "tumour": [0, 0, 1],
    }


def test_a_network_without_tumour_learns_lesions_as_liver():
    assert targets(stage("background", "liver"), [0, 1, 2]) == {"background": [1, 0, 0], "liver": [0, 1, 1]}


def test_a_network_without_liver_learns_liver_as_background():
    assert targets(stage("background", "tumour"), [0, 1, 2]) == {"background": [1, 1, 0], "tumour": [0, 0, 1]}


def test_with_sigmoid_lesions_are_liver_too():
    assert targets(stage("liver", "tumour", activation="sigmoid"), [0, 1, 2]) == {
        "liver": [0, 1, 1],
        "tumour": [0, 0, 1],
    }
    assert targets(stage("tumour", activation="sigmoid"), [0, 1, 2]) == {"tumour": [0, 0, 1]}


def test_lesions_of_all_types_are_tumour_where_the_types_are_no_classes():
    assert targets(stage("background", "liver", "tumour"), [0, 1, 2, 3, 4], **TYPED) == {
        "background": [1, 0, 0, 0, 1],  # and so is the spleen
        "liver": [0, 1, 0, 0, 0],
        "tumour": [0, 0, 1, 1, 0],
    }
    sigmoid = targets(stage("liver", "tumour", "spleen", activation="sigmoid"), [0, 1, 2, 3, 4], **TYPED)
    assert sigmoid == {"liver": [0, 1, 1, 1, 0], "tumour": [0, 0, 1, 1, 0], "spleen": [0, 0, 0, 0, 1]}


def test_a_type_that_is_a_class_is_itself_and_another_is_liver():
    assert targets(stage("background", "liver", "hcc"), [0, 1, 2, 3, 4], **TYPED) == {
        "background": [1, 0, 0, 0, 1],
        "liver": [0, 1, 0, 1, 0],
        "hcc": [0, 0, 1, 0, 0],
    }


@given(st.lists(st.integers(0, 4), min_size=1, max_size=20))
def test_softmax_targets_add_up_to_one(values):
    found = targets(stage("background", "liver", "tumour", "hcc"), values, **TYPED)
    assert [sum(voxel) for voxel in zip(*found.values(), strict=True)] == [1] * len(values)


def test_a_label_without_a_name_is_refused():
    with pytest.raises(TrainingError, match="labels: wanted 0 to 2, as the recipe's label_names say, got 3"):
        targets(stage("background", "liver", "tumour"), [0, 3])


def test_in_scores_lesions_count_as_liver():
    one = stage("background", "liver", "tumour")
    assert nested_table(recipe_of(one), one).tolist() == [[0, 0], [1, 0], [1, 1]]


class Fixed(torch.nn.Module):
    """A network with one answer."""

    def __init__(self, logits: torch.Tensor):
        super().__init__()
        self.logits = logits

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        return self.logits


def test_validation_scores_are_dice_over_all_voxels_together():
    task = Segmenting(RECIPE, 0, "cpu")
    labels = torch.tensor([0, 1, 2, 2]).reshape(1, 1, 1, 1, 4)
    answer = torch.nn.functional.one_hot(torch.tensor([1, 1, 1, 2]), 3).T.reshape(1, 3, 1, 1, 4) * 9.0
    judged = task.judge(Fixed(answer), torch.zeros(1, 1, 1, 1, 4), labels)
    # Liver with tumours: 3 of 3 found and 1 too many. Tumour: 1 of 2 found.
    assert task.scores(judged.counts) == pytest.approx({"liver_dice": 6 / 7, "tumour_dice": 2 / 3})
    # Twice the same is the same, and a batch where nothing is and nothing is found changes nothing.
    nothing = task.judge(Fixed(answer[:, [1, 0, 2]]), torch.zeros(1, 1, 1, 1, 4), torch.zeros_like(labels))
    assert task.scores(2 * judged.counts) == task.scores(judged.counts)
    assert task.scores(nothing.counts)["tumour_dice"] == 0
    assert task.scores(torch.zeros(2, 2)) == {"liver_dice": 1, "tumour_dice": 1}


def test_a_picture_shows_the_highest_structure_of_each_voxel():
    task = Segmenting(RECIPE, 0, "cpu")
    labels = torch.tensor([0, 1, 2]).reshape(1, 1, 1, 1, 3)
    answer = torch.nn.functional.one_hot(torch.tensor([2, 1, 0]), 3).T.reshape(1, 3, 1, 1, 3) * 9.0
    reference, predicted = task.picture(Fixed(answer), torch.zeros(1, 1, 1, 1, 3), labels)
    assert reference.tolist() == [[[0, 1, 2]]]
    assert predicted.tolist() == [[[2, 1, 0]]]


def test_the_picture_beside_is_of_the_slice_with_most_tumour():
    volume = np.zeros((3, 4, 5))
    volume[1] = 1
    volume[1, 0, 0] = 3
    reference = np.zeros((3, 4, 5), np.uint8)
    reference[0], reference[1, 2, 2] = 1, 2
    picture = side_by_side(volume, reference, np.zeros_like(reference))
    assert picture.shape == (4, 15, 3)
    assert picture.dtype == np.uint8
    plain, painted, predicted = picture[:, :5], picture[:, 5:10], picture[:, 10:]
    assert (plain[0, 0] == 255).all()
    assert (plain == predicted).all()
    assert [tuple(spot) for spot in np.argwhere((plain != painted).any(-1))] == [(2, 2)]


def test_poly_cosine_step_and_constant_rates():
    poly = Training(schedule="poly", schedule_power=0.9, learning_rate=1e-5, epochs=100)
    assert [learning_rate(poly, e) for e in (0, 50, 99)] == pytest.approx([1e-5, 1e-5 * 0.5**0.9, 1e-5 * 0.01**0.9])
    cosine = Training(schedule="cosine", learning_rate=1e-3, epochs=300)
    assert [learning_rate(cosine, e) for e in (0, 100, 150)] == pytest.approx([1e-3, 0.75e-3, 0.5e-3])
    step = Training(schedule="step", learning_rate=1e-4, schedule_epochs=30, schedule_factor=0.8, epochs=90)
    assert [learning_rate(step, e) for e in (0, 29, 30, 60)] == pytest.approx([1e-4, 1e-4, 0.8e-4, 0.64e-4])
    constant = Training(schedule="constant", learning_rate=2e-4, epochs=9)
    assert [learning_rate(constant, e) for e in (0, 8)] == [2e-4, 2e-4]


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)]
)
def test_optimisers_get_the_recipe_s_rate_and_decay(name, kind):
    training = Training(optimiser=name, learning_rate=0.01, weight_decay=3e-5)
    optimiser = build_optimiser(training, torch.nn.Linear(1, 1).parameters())
    assert type(optimiser) is kind
    assert (optimiser.param_groups[0]["lr"], optimiser.param_groups[0]["weight_decay"]) == (0.01, 3e-5)
    set_rate(optimiser, 0.5)
    assert optimiser.param_groups[0]["lr"] == 0.5
    if name == "sgd":
        assert (optimiser.param_groups[0]["momentum"], optimiser.param_groups[0]["nesterov"]) == (0.99, True)


def test_the_weights_average_follows_fast_at_first_and_slowly_later():
    network = torch.nn.Linear(1, 1, bias=False)
    average = running_average(network, 0.15)
    values = []
    for weight in (1.0, 2.0, 2.0, 2.0):
        torch.nn.init.constant_(network.weight, weight)
        average.update_parameters(network)
        values.append(average.module.weight.item())
    # The first is copied; then 1/10 of the old average stays, then 0.15, as 2/11 and 3/12 are more.
    assert values == pytest.approx([1.0, 1.9, 2 - 0.1 * 0.15, 2 - 0.1 * 0.15**2])


def test_the_time_left_comes_from_the_steps_of_this_process():
    seconds, told = [0.0], []
    # Resumed after 10 of 20 epochs of 10 steps; 2 s a step.
    pace = Pace("liver", 20, 10, 100, lambda text, share: told.append((text, share)), clock=lambda: seconds[0])
    for step in range(1, 4):
        seconds[0] += 2
        pace.step(10, step)
    assert told[-1] == ("liver: epoch 11 of 20, at most 3 min left", 103 / 200)
    seconds[0] += 0.5
    pace.step(10, 4)
    assert len(told) == 3  # at most once a second


def test_durations_are_for_people():
    assert [duration(s) for s in (0, 59, 61, 3000, 3660, 86400)] == [
        "0 s",
        "59 s",
        "1 min",
        "50 min",
        "1 h 01 min",
        "24 h 00 min",
    ]


def test_the_log_keeps_as_many_lines_as_epochs_are_done(tmp_path):
    path = tmp_path / "log.csv"
    keep_lines(path, 3)
    assert not path.exists()
    for epoch in (1, 2, 3):
        append_line(path, Epoch(epoch, 0.1, 0.5, 0.4, {"liver_dice": 0.9}, 1.0))
    keep_lines(path, 1)
    text = path.read_text(encoding="utf-8").splitlines()
    assert text == ["epoch,learning_rate,training_loss,validation_loss,liver_dice,seconds", "1,0.1,0.5,0.4,0.9,1.0"]


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 5))
def test_a_team_shares_the_batches_that_one_process_would_take(size, batch, steps):
    count = steps * batch * size
    shares = [Team(number, size).share(count, batch) for number in range(size)]
    for step in range(steps):
        together = [n for share in shares for n in share[step * batch : (step + 1) * batch]]
        assert together == list(range(step * batch * size, (step + 1) * batch * size))


def test_a_task_takes_phases_as_channels_and_judges_in_half_precision():
    one = stage("background", "liver", "tumour")
    one = Stage(**{**vars(one), "arguments": {"out_channels": 3, "in_channels": 2}})
    recipe = Recipe("r", "repaired", "test", (one,), phases=(Phase("arterial"),))
    task = Segmenting(recipe, 0, "cpu")
    answer = Fixed(torch.zeros(1, 3, 2, 2, 2, dtype=torch.bfloat16))
    loss = task.loss(answer, torch.zeros(1, 2, 2, 2, 2), torch.ones(1, 1, 2, 2, 2, dtype=torch.uint8), 0)
    # A third on the right class of 8 voxels; S1's Dice and focal terms of liver and tumour.
    dice = ((1 - 2 * 8 / 3 / (8 + 8 / 9)) + 1) / 2
    assert float(loss) == pytest.approx(dice + (2 / 3) ** 2 * math.log(3) / 2, abs=1e-4)


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "Resources" / "Recipes").glob("*.json")), ids=lambda path: path.stem
)
def test_every_shipped_recipe_can_be_trained(path):
    recipe = load_recipe(path)
    for number, (one, training) in enumerate(zip(recipe.stages, recipe.training, strict=True)):
        assert TASKS[one.task](recipe, number, "cpu") is not None
        assert training.augmentation in AUGMENTATIONS
        assert class_table(recipe, one).any(0).all(), "a class that no label belongs to is never learnt"


def test_on_a_cpu_nothing_is_computed_in_bf16_and_on_a_gpu_only_what_is_asked():
    with forward_precision("cpu", bf16=True):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # there may be no GPU
        asked = [forward_precision("cuda:0", bf16=bf16) for bf16 in (True, False)]
    assert all(each.device == "cuda" and each.fast_dtype == torch.bfloat16 for each in asked)
    assert asked[1]._enabled is False


def test_a_network_with_flat_and_solid_convolutions_can_be_laid_out_for_a_gpu(monkeypatch):
    monkeypatch.setattr(precision, "memory_layout", lambda device: torch.channels_last_3d)
    network = torch.nn.Sequential(torch.nn.Conv3d(2, 4, 3), torch.nn.Conv2d(4, 4, 3))
    solid = precision.laid_out(network, "cpu")[0].weight
    assert solid.is_contiguous(memory_format=torch.channels_last_3d)
    assert not solid.is_contiguous()
