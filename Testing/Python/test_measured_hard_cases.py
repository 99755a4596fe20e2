"""S3's second network on measured cases: what the first one takes for lesions there is found, kept and shown."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from LiverTumorSegLib.__main__ import main
from LiverTumorSegLib.datasets.layouts import find_cases
from LiverTumorSegLib.networks import build_network
from LiverTumorSegLib.networks.weights import save_weights
from LiverTumorSegLib.recipe import Crop, Grid, Intensity, Recipe, Stage, Training, Triple, Typing, recipe_to_json
from LiverTumorSegLib.training import hard_cases
from LiverTumorSegLib.training.caching import Cache
from LiverTumorSegLib.training.hard_cases import FirstLook, FirstNetwork
from LiverTumorSegLib.training.measured import MeasuredSource
from LiverTumorSegLib.training.preparing import prepare
from test_datasets import LABELS, image_of, scan_of, write
from training_cases import SMALL

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = ("background", "liver", "hcc", "cyst")
HU = Intensity((-100.0, 300.0), scale="unit")  # 0 is -100 HU, 1 is 300 HU
GRID = Grid(spacing_mm=2.0, multiple_of=2)
STAGES = tuple(
    Stage(name, "unet", GRID, {**SMALL, "out_channels": 4}, HU, window=(8, 8, 8), classes=NAMES, region=region)
    for name, region in (("whole", "whole"), ("patch", "lesion"))
)
TRAINING = Training(
    patch=(8, 8, 8), epochs=1, iterations_per_epoch=1, batch_size=2, loss="dice_ce", bf16=False, hand_over=False
)
RECIPE = Recipe(
    "typed", "repaired", "a test", STAGES, Crop(margin_mm=4.0), training=(TRAINING,) * 2, system="typing",
    label_names=NAMES, typing=Typing(lesion_types=NAMES[2:], malignant=("hcc",), in_liver=(), register="none"),
)  # fmt: skip
SPOT = (slice(5, 7), slice(6, 8), slice(3, 5))
"""(k, j, i) in the scan: a corner of the liver with 300 HU, which is no lesion."""


def write_typed(folder: Path, lesions: tuple[bool, ...] = (True, True, True)) -> None:
    """nnU-Net's raw data: a liver with a bright corner, and a lesion or none."""
    for number, lesion in enumerate(lesions):
        grey = sitk.GetArrayFromImage(scan_of(number))
        grey[SPOT] = 300
        labels = LABELS if lesion else LABELS.clip(max=1)
        write(image_of(grey), folder / "imagesTr" / f"case{number}_0000.nii.gz")
        write(image_of(labels), folder / "labelsTr" / f"case{number}.nii.gz")
    labels = {name: value for value, name in enumerate(NAMES)}
    described = {"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(described), encoding="utf-8")


BRIGHT = 0.75
"""As the networks see it: halfway between the liver's 100 HU and the corner's 300."""


class Bright(FirstNetwork):
    """Takes what is bright for lesions; asked how often."""

    asked = 0

    def __init__(self, *_: object) -> None:
        pass

    def lesions(self, volume: np.ndarray, window: Triple | None = None) -> np.ndarray:
        assert window == (8, 8, 8)
        Bright.asked += 1
        return np.asarray(volume[0] > BRIGHT)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file that stands for the first network's weights; what they would see is what is bright."""
    monkeypatch.setattr(hard_cases, "FirstNetwork", Bright)
    monkeypatch.setattr("LiverTumorSegLib.training.measured.FirstNetwork", Bright)
    monkeypatch.setattr(Bright, "asked", 0)
    path = tmp_path / "whole.best.safetensors"
    path.write_bytes(b"weights")
    return path


def source(folder: Path, weights: Path | None, recipe: Recipe = RECIPE) -> MeasuredSource:
    cases = find_cases(folder / "in", "nnunet")
    return MeasuredSource(recipe, cases[:-1], cases[-1:], Cache(folder / "cache"), seed=1, first_weights=weights)


def test_what_the_first_network_saw_lies_where_the_second_one_sees_it(tmp_path: Path, weights: Path) -> None:
    """In the liver's box, whose grid begins elsewhere, and in those that are off by some mm."""
    write_typed(tmp_path / "in")
    cache = Cache(tmp_path / "cache")
    (case, *_) = find_cases(tmp_path / "in", "nnunet")
    look = FirstLook.with_weights(RECIPE, weights, cache)
    starts = set()
    for variant in range(4):
        entry = prepare(case, RECIPE, 1, variant)
        bright = entry.arrays["volume"][0] > BRIGHT
        assert bright.sum() >= 4
        seen = look.on(case, entry)
        assert seen.shape == bright.shape
        assert (seen & bright).sum() >= 0.5 * max(seen.sum(), bright.sum())
        starts.add(tuple(entry.facts["origin"]))
    assert len(starts) > 1
    assert Bright.asked == 1


def bright_patches(patches: object, count: int) -> int:
    """How many of the patches for what is no lesion show the bright corner; it is liver in all of them."""
    found = 0
    for number in range(count):
        volume, labels = patches[number]  # type: ignore[index]
        assert not (volume[0][labels[0] == 0]).any()
        if number % 4 in (1, 3):
            assert (labels[0][volume[0] > BRIGHT] == 1).all()
            found += bool((volume[0] > BRIGHT).any())
    return found


def test_false_lesions_are_shown_as_liver_more_often_than_chance_shows_them(tmp_path: Path, weights: Path) -> None:
    write_typed(tmp_path / "in")
    small = dataclasses.replace(RECIPE, training=(TRAINING, dataclasses.replace(TRAINING, patch=(4, 4, 4))))
    with_mistakes = bright_patches(source(tmp_path, weights, small).patches(1, 0, 96), 96)
    assert Bright.asked == 2  # once a training case; then the cache has it
    without = bright_patches(source(tmp_path, None, small).patches(1, 0, 96), 96)
    assert with_mistakes > without + 10
    again = source(tmp_path, weights).patches(1, 90, 6)
    first = source(tmp_path, weights).patches(1, 0, 96)
    assert all(torch.equal(again[n][0], first[90 + n][0]) for n in range(6))
    assert Bright.asked == 2


def test_a_case_without_lesions_is_shown_once_it_is_known_what_is_taken_for_one(tmp_path: Path, weights: Path) -> None:
    write_typed(tmp_path / "in", (True, False, False))
    shown = {}
    for name, first in (("with", weights), ("without", None)):
        patches = source(tmp_path, first).patches(1, 0, 24 * 12)
        shown[name] = [int(patches[24 * turn][1].max()) < 2 for turn in range(12)]
    assert 1 <= sum(shown["with"]) < 12
    assert sum(shown["without"]) == 0


def test_in_validation_each_case_is_seen_by_the_four_schemes(tmp_path: Path, weights: Path) -> None:
    write_typed(tmp_path / "in")
    cases = find_cases(tmp_path / "in", "nnunet")
    source_of_two = MeasuredSource(RECIPE, cases[:1], cases[1:], Cache(tmp_path / "cache"), first_weights=weights)
    patches = source_of_two.patches(1, 0, 8, validation=True)
    patches[0]
    (first,) = patches._last.values()
    patches[3]
    assert next(iter(patches._last.values())) is first
    patches[4]
    assert next(iter(patches._last.values()))[0] is not first[0]


def test_other_weights_are_asked_anew(tmp_path: Path, weights: Path) -> None:
    write_typed(tmp_path / "in")
    source(tmp_path, weights).patches(1, 0, 1)
    weights.write_bytes(b"others")
    source(tmp_path, weights).patches(1, 0, 1)
    assert Bright.asked == 4


def test_the_network_itself_is_asked_in_its_windows_at_the_high_sensitivity(tmp_path: Path) -> None:
    """A network that gives a lesion a probability a little below the liver's: seen at a factor of 4, not of 1."""
    torch.manual_seed(0)
    network = build_network("unet", STAGES[0].arguments)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        last = [p for p in network.parameters() if p.shape == (4,)][-1]
        last.copy_(torch.tensor([0.0, 3.0, 2.0, 0.0]))
    save_weights(network, tmp_path / "w.safetensors", half=False)
    volume = np.zeros((1, 9, 11, 13), np.float32)
    assert FirstNetwork(RECIPE, tmp_path / "w.safetensors").lesions(volume, (8, 8, 8)).all()
    low = dataclasses.replace(RECIPE, typing=dataclasses.replace(RECIPE.typing, factor_high=2.0))  # e < 4, but not 2
    seen = FirstNetwork(low, tmp_path / "w.safetensors").lesions(volume)
    assert seen.shape == (9, 11, 13)
    assert not seen.any()


def test_the_command_trains_both_networks_and_says_when_the_first_one_s_mistakes_are_unknown(tmp_path, capsys) -> None:
    write_typed(tmp_path / "in")
    (tmp_path / "recipe.json").write_text(recipe_to_json(RECIPE), encoding="utf-8")
    command = ["train", tmp_path / "recipe.json", "--data", tmp_path / "in", "--layout", "nnunet", "--fold", "0"]
    command += [
        "--workers",
        "0",
        "--device",
        "cpu",
        "--json",
        "--validation-patches",
        "2",
        "--cache",
        tmp_path / "cache",
    ]
    assert main([str(each) for each in (*command, "-o", tmp_path / "both")]) == 0
    kept = list((tmp_path / "cache").glob("*/seen.npy"))
    assert len(kept) == 3  # two training cases, one for validation
    assert "wanted whole.best.safetensors" not in capsys.readouterr().out
    assert main([str(each) for each in (*command, "-o", tmp_path / "one", "--stage", "patch")]) == 0
    told = "stage patch: wanted whole.best.safetensors, whose mistakes it is shown; without it, it is shown none"
    assert told in capsys.readouterr().out
