"""Losses by hand, the schedule, checkpoints, and a run that goes on where it was cut."""

from __future__ import annotations

import csv
import dataclasses
import functools
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from LiverTumorSegLib.bundle import Bundle
from LiverTumorSegLib.errors import BundleError
from LiverTumorSegLib.networks import build_network
from LiverTumorSegLib.networks.weights import save_weights
from LiverTumorSegLib.recipe import Crop, Grid, Intensity, Recipe, Stage, Training
from LiverTumorSegLib.training import trainer
from LiverTumorSegLib.training.export import export_bundle
from LiverTumorSegLib.training.losses import LOSSES, lesion_dice_loss
from LiverTumorSegLib.training.patches import SyntheticPatches
from LiverTumorSegLib.training.synthesis import library as bodies
from LiverTumorSegLib.training.synthesis.body import complete_body
from LiverTumorSegLib.training.synthesis.library import AnatomyLibrary, build_library
from LiverTumorSegLib.training.trainer import Run, learning_rate, load_fitting_weights, running_average, train

UNIT = Intensity(ct_clip_hu=(-200, 300), mr_clip_percentiles=(0.5, 99.5), scale="unit")
SMALL = {"channels": [4, 8], "strides": [2], "num_res_units": 1}
RECIPE = Recipe(
    name="tiny",
    variant="repaired",
    source="test",
    stages=(
        Stage("whole", "unet", Grid(spacing_mm=12.0, multiple_of=2), SMALL, UNIT),
        Stage("crop", "unet", Grid(spacing_mm=8.0, multiple_of=2), SMALL, UNIT),
    ),
    crop=Crop(margin_mm=10.0),
    training=Training(
        loss=("dice_focal_all",),
        epochs=(3,),
        iterations_per_epoch=2,
        patch=((16, 16, 8), (16, 16, 8)),
        weight_average=0.9,
    ),
)


@pytest.fixture(autouse=True)
def small_work(monkeypatch):
    """Few validation patches, and one thread: on a busy computer two wait for each other after every tiny layer."""
    monkeypatch.setattr(trainer, "VALIDATION_PATCHES", 3)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> AnatomyLibrary:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bodies, "complete_body", functools.partial(complete_body, tall=False))
        return build_library(tmp_path_factory.mktemp("bodies"), None, variants=1, held_out=1, procedural=2, seed=1)


def run(folder: Path, library: AnatomyLibrary, recipe: Recipe = RECIPE, seed: int = 5) -> Run:
    return Run(recipe, library, folder, seed=seed, workers=0, bf16=False)


def logits_for(probabilities: list[list[float]]) -> torch.Tensor:
    """(1, 3, 1, 1, n) logits whose softmax is given, one triple a voxel."""
    return torch.tensor(probabilities).T.log().reshape(1, 3, 1, 1, -1)


def test_dice_focal_as_printed_by_hand():
    # Two voxels: one liver (probability .5), one tumour (probability .8).
    logits = logits_for([[0.25, 0.5, 0.25], [0.1, 0.1, 0.8]])
    labels = torch.tensor([1, 2]).reshape(1, 1, 1, 1, 2)
    liver = 1 - 2 * 0.5 / (1 + 0.5**2 + 0.1**2)
    tumour = 1 - 2 * 0.8 / (1 + 0.25**2 + 0.8**2)
    focal = (-(0.5**2) * math.log(0.5) - 0.2**2 * math.log(0.8)) / 4  # over two classes and two voxels
    assert float(LOSSES["dice_focal"]()(logits, labels)) == pytest.approx((liver + tumour) / 2 + focal, abs=1e-4)


def test_as_printed_nothing_speaks_against_a_false_tumour_but_dice_and_repaired_the_focal_term_does():
    labels = torch.zeros(1, 1, 1, 1, 4, dtype=torch.long)
    timid = logits_for([[0.9, 0.05, 0.05]] * 4)
    bold = logits_for([[0.1, 0.05, 0.85]] * 4)
    printed, repaired = LOSSES["dice_focal"](), LOSSES["dice_focal_all"]()
    assert float(printed(bold, labels) - printed(timid, labels)) < 1e-3
    assert float(repaired(bold, labels) - repaired(timid, labels)) > 0.3


def test_rare_classes_weigh_by_the_inverse_root_of_their_share():
    # Three background voxels and one tumour voxel, all with half of the probability on their own class.
    logits = logits_for([[0.5, 0.25, 0.25]] * 3 + [[0.25, 0.25, 0.5]])
    labels = torch.tensor([0, 0, 0, 2]).reshape(1, 1, 1, 1, 4)
    plain = LOSSES["dice_focal_all"]()(logits, labels)
    rare = LOSSES["dice_focal_rare"]()(logits, labels)
    each = -(0.5**2) * math.log(0.5)  # the same focal term for every voxel: any weighted mean is this
    assert float(rare - plain) == pytest.approx(each - each / 3, abs=1e-5)
    surer = logits_for([[0.9, 0.05, 0.05]] * 3 + [[0.25, 0.25, 0.5]])
    terms = [-(0.1**2) * math.log(0.9)] * 3 + [each]
    weights = [(4 / 3) ** 0.5] * 3 + [4**0.5]
    focal = sum(w * t for w, t in zip(weights, terms, strict=True)) / sum(weights)
    plain_focal = sum(terms) / 4 / 3
    difference = LOSSES["dice_focal_rare"]()(surer, labels) - LOSSES["dice_focal_all"]()(surer, labels)
    assert float(difference) == pytest.approx(focal - plain_focal, abs=1e-5)


def test_a_small_lesion_s_own_dice_weighs_as_much_as_a_large_one_s():
    # A line of 12 voxels with a lesion of 1 voxel (probability .5) and one of 2 (.8 each), .1 elsewhere. Their boxes, 4
    # voxels wider, hold 4 other voxels each, and the two do not meet.
    tumour = [0.5] + [0.1] * 9 + [0.8] * 2
    logits = logits_for([[0.05, 0.95 - p, p] for p in tumour])
    labels = torch.tensor([2] + [1] * 9 + [2] * 2).reshape(1, 1, 1, 1, 12)
    one = 1 - 2 * 0.5 / (1 + 0.5 + 4 * 0.1)
    other = 1 - 2 * 1.6 / (2 + 1.6 + 4 * 0.1)
    assert float(lesion_dice_loss(logits, labels)) == pytest.approx((one + other) / 2, abs=1e-5)
    rare, lesions = LOSSES["dice_focal_rare"](), LOSSES["dice_focal_lesions"]()
    assert float(lesions(logits, labels) - rare(logits, labels)) == pytest.approx((one + other) / 4, abs=1e-5)


def test_a_neighbouring_lesion_does_not_count_against_a_lesion_and_no_lesion_costs_nothing():
    # Two lesions of one voxel two apart: each box holds the other, which is left out.
    logits = logits_for([[0.1, 0.2, 0.7], [0.8, 0.1, 0.1], [0.1, 0.2, 0.7]])
    labels = torch.tensor([2, 1, 2]).reshape(1, 1, 1, 1, 3)
    assert float(lesion_dice_loss(logits, labels)) == pytest.approx(1 - 2 * 0.7 / (1 + 0.7 + 0.1), abs=1e-5)
    assert float(lesion_dice_loss(logits, torch.ones_like(labels))) == 0


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_perfect_prediction_costs_next_to_nothing(name):
    labels = torch.tensor([0, 1, 2, 1]).reshape(1, 1, 1, 1, 4)
    logits = torch.nn.functional.one_hot(labels[:, 0], 3).permute(0, 4, 1, 2, 3) * 30.0
    assert float(LOSSES[name]()(logits, labels)) == pytest.approx(0, abs=1e-4)


def test_the_schedule_is_the_paper_s_polynomial():
    assert learning_rate(1e-5, 0, 100, 0.9) == pytest.approx(1e-5)
    assert learning_rate(1e-5, 50, 100, 0.9) == pytest.approx(1e-5 * 0.5**0.9)
    assert learning_rate(1e-5, 99, 100, 0.9) == pytest.approx(1e-5 * 0.01**0.9)


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


def test_what_is_kept_is_the_average_and_not_the_last_step_s_weights(tmp_path, library):
    one_epoch = dataclasses.replace(RECIPE.training, epochs=(1,), iterations_per_epoch=4)
    kept, last = (
        load_file(train(run(tmp_path / str(share), library, dataclasses.replace(RECIPE, training=training)), (0,))[0])
        for share in (0.9, 0.0)
        for training in (dataclasses.replace(one_epoch, weight_average=share),)
    )
    assert any(not torch.equal(kept[name], last[name]) for name in last)
    checkpoint = load_file(tmp_path / "0.0" / "whole.checkpoint.safetensors")
    assert all(torch.equal(checkpoint[f"network.{name}"], last[name]) for name in last)


def test_no_body_is_in_training_and_validation(library):
    sources = [{name.split("_")[0] for name in names} for names in (library.training, library.validation)]
    assert sources[0].isdisjoint(sources[1])
    assert all(sources)


def test_a_library_is_not_drawn_twice(library):
    before = {path: path.stat().st_mtime_ns for path in library.folder.iterdir()}
    again = build_library(library.folder, None, variants=1, held_out=1, procedural=2, seed=1)
    assert again == library
    assert {path: path.stat().st_mtime_ns for path in library.folder.iterdir()} == before


def test_a_patch_depends_on_its_number_and_not_on_where_the_stream_began(library):
    stream = SyntheticPatches(library, library.training, RECIPE, 0, seed=9, start=0, count=6)
    later = SyntheticPatches(library, library.training, RECIPE, 0, seed=9, start=4, count=2)
    for one, two in zip(stream[5], later[1], strict=True):
        assert torch.equal(one, two)
    assert not torch.equal(stream[0][0], stream[1][0])
    assert stream[0][0].shape == stream[0][1].shape == (1, 8, 16, 16)


def test_a_run_trains_both_stages_and_hands_the_weights_over(tmp_path, library):
    files = train(run(tmp_path, library))
    assert [file.name for file in files] == ["whole.best.safetensors", "crop.best.safetensors"]
    lines = list(csv.DictReader((tmp_path / "crop.csv").open()))
    assert [int(line["epoch"]) for line in lines] == [1, 2, 3]
    assert all(math.isfinite(float(line["validation_loss"])) for line in lines)


def test_the_second_stage_starts_from_the_first_one_s_weights(tmp_path, library):
    still = dataclasses.replace(RECIPE, training=dataclasses.replace(RECIPE.training, learning_rate=0.0, epochs=(1,)))
    first, second = (load_file(path) for path in train(run(tmp_path / "handed", library, still)))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_begins_from_given_weights_where_they_fit_and_keeps_a_new_head(tmp_path, library):
    given = build_network("unet", SMALL)
    (tmp_path / "weights").mkdir()
    for name in ("whole", "crop"):
        save_weights(given, tmp_path / "weights" / f"{name}.safetensors", half=False)
    headed = tuple(dataclasses.replace(s, arguments={**SMALL, "head": "linear"}) for s in RECIPE.stages)
    still = dataclasses.replace(RECIPE.training, learning_rate=0.0, epochs=(1,))
    recipe = dataclasses.replace(RECIPE, stages=headed, training=still)
    begun = dataclasses.replace(run(tmp_path / "run", library, recipe), initial=tmp_path / "weights")
    old = given.state_dict()
    for path in train(begun):
        new = load_file(path)
        assert set(new) != set(old)  # the head differs
        for name in set(new) & set(old):
            if new[name].shape == old[name].shape:
                assert torch.equal(new[name], old[name])


def test_weights_that_fit_nowhere_are_refused(tmp_path):
    save_weights(torch.nn.Linear(2, 2), tmp_path / "other.safetensors")
    with pytest.raises(BundleError, match="wanted weights to begin with, got none that fits the network"):
        load_fitting_weights(build_network("unet", SMALL), tmp_path / "other.safetensors")


@pytest.mark.parametrize(("head", "keeps"), [("monai", False), ("linear", True)])
def test_only_a_linear_head_keeps_how_sure_the_features_before_it_are(head, keeps):
    # MONAI's head normalises every class over the window: features ten times as faint give the same logits.
    torch.manual_seed(0)
    network = build_network("unet", {**SMALL, "head": head}).eval()
    last = network.model[2][-1] if head == "linear" else network.model[2]
    features = torch.randn(1, 4 if head == "linear" else 12, 8, 8, 8)
    with torch.no_grad():
        faint, clear = (last(features * size) - last(features * 0) for size in (0.1, 1.0))
    assert float(faint.std() / clear.std()) == pytest.approx(0.1 if keeps else 1.0, rel=0.05)


@pytest.mark.parametrize("cut", [1, 2])
def test_an_interrupted_run_ends_with_the_same_numbers_as_an_unbroken_one(tmp_path, library, cut):
    whole = train(run(tmp_path / "whole", library), stages=(0,))[0]
    stopped: list[int] = []

    def stop(_: str, line) -> None:
        stopped.append(line.epoch)
        if line.epoch == cut:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(dataclasses.replace(run(tmp_path / "cut", library), on_epoch=stop), stages=(0,))
    resumed = train(run(tmp_path / "cut", library), stages=(0,))[0]
    assert stopped == list(range(1, cut + 1))
    one, two = load_file(whole), load_file(resumed)
    assert all(torch.equal(one[name], two[name]) for name in one)
    lines = [(tmp_path / folder / "whole.csv").read_text(encoding="utf-8").splitlines() for folder in ("whole", "cut")]
    assert [line.rsplit(",", 1)[0] for line in lines[0]] == [line.rsplit(",", 1)[0] for line in lines[1]]


def test_a_finished_stage_is_not_trained_again(tmp_path, library):
    first = train(run(tmp_path, library), stages=(0,))[0]
    stamp = first.stat().st_mtime_ns
    train(run(tmp_path, library), stages=(0,))
    assert first.stat().st_mtime_ns == stamp
    assert len((tmp_path / "whole.csv").read_text(encoding="utf-8").splitlines()) == 4


def test_a_stage_stops_after_its_patience(tmp_path, library):
    hasty = dataclasses.replace(RECIPE.training, patience=1, epochs=(30,), learning_rate=0.0)
    train(run(tmp_path, library, dataclasses.replace(RECIPE, training=hasty)), stages=(0,))
    # With a rate of 0 nothing gets better after the first epoch.
    assert len((tmp_path / "whole.csv").read_text(encoding="utf-8").splitlines()) == 1 + 2


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, library, monkeypatch):
    monkeypatch.setitem(LOSSES, "dice_focal_all", lambda: lambda logits, labels: logits.sum() * float("nan"))
    with pytest.raises(RuntimeError, match="training loss became nan at step 1"):
        train(run(tmp_path, library), stages=(0,))


def test_a_trained_run_becomes_a_bundle_that_loads(tmp_path, library):
    weights = train(run(tmp_path, library))
    bundle = export_bundle(RECIPE, weights, tmp_path / "bundle", "procedural anatomy", "none")
    assert Bundle.load(tmp_path / "bundle").sha256 == bundle.sha256
    assert bundle.recipe == RECIPE
    assert "Not a medical device" in bundle.metadata["intended_use"]
    assert bundle.openvino_path("crop") is not None
    stored = load_file(bundle.weights_path("whole"))
    assert all(tensor.dtype == torch.float16 for tensor in stored.values())
