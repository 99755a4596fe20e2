"""What a training run is not begun, or not gone on, with: one line that says so, before anything is lost."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from LiverTumorSegLib.__main__ import main
from LiverTumorSegLib.correction.lock import FileLock
from LiverTumorSegLib.datasets.cases import DatasetError
from LiverTumorSegLib.datasets.check import CheckedCase
from LiverTumorSegLib.datasets.splits import load_split, make_split
from LiverTumorSegLib.errors import BundleError, LiverTumorSegWarning, RecipeError, TrainingError
from LiverTumorSegLib.networks import build_network
from LiverTumorSegLib.networks.weights import check_weights, save_weights
from LiverTumorSegLib.recipe import Recipe, Typing, recipe_to_json
from LiverTumorSegLib.systems import SYSTEMS
from LiverTumorSegLib.training.jobs import Job, train_fold
from LiverTumorSegLib.training.trainer import train
from training_cases import SMALL, Balls, ball_run, trained

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = trained(epochs=1, iterations_per_epoch=1)


def second(recipe: Recipe, **changes: Any) -> Recipe:
    """The recipe with another second stage."""
    return dataclasses.replace(recipe, stages=(recipe.stages[0], dataclasses.replace(recipe.stages[1], **changes)))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.json"
    path.write_text(recipe_to_json(SHORT), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--seed", "9" * 30), "--seed: wanted a whole number of at most 12 digits, got 30"),
        (("--fold", "9" * 5000), "--fold: wanted a whole number of at most 12 digits, got 5000"),
        (("--workers", "100000"), "--workers: wanted at most"),
        (("--bodies", "0"), "--bodies: wanted at least 1, got 0"),
        (("--bodies", "-3"), "--bodies: wanted a whole number, not below 0, got '-3'"),
    ],
)
def test_numbers_beyond_all_measure_are_refused(
    arguments: tuple[str, ...], complaint: str, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["train", str(recipe), "-o", str(tmp_path / "run"), *arguments])
    assert caught.value.code == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_two_runs_in_one_folder_do_not_go_on_at_once(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    lock = FileLock(tmp_path / "run" / ".lock", "run")
    try:
        assert main(["train", str(recipe), "-o", str(tmp_path / "run"), "--device", "cpu"]) == 2
    finally:
        lock.release()
    assert "wanted to be its only writer, got process" in capsys.readouterr().err


def test_an_error_that_quotes_a_name_of_two_lines_is_one_line(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(recipe), "-o", str(tmp_path / "run"), "--init", "a\nb"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "no_such"}, "network: wanted one of"),
        ({"arguments": {**SMALL, "channels": [-4, 8]}}, "network unet: wanted arguments that build it, got"),
        ({"arguments": {**SMALL, "strides": [[]]}}, "network unet: wanted arguments that build it, got"),
    ],
)
def test_a_second_stage_that_cannot_be_trained_is_refused_before_the_first_one_is(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        train(ball_run(tmp_path, second(SHORT, **changes)))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "whole.csv").exists()


def test_an_unknown_loss_of_the_second_stage_is_refused_before_the_first_one_is_trained(tmp_path: Path) -> None:
    other = (SHORT.training[0], dataclasses.replace(SHORT.training[1], loss="no_such"))
    with pytest.raises(RecipeError, match=r"recipe.training\[1\].loss: wanted one of"):
        train(ball_run(tmp_path, dataclasses.replace(SHORT, training=other)))
    assert not (tmp_path / "whole.csv").exists()


def test_weights_that_the_second_stage_lacks_are_missed_before_the_first_one_is_trained(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    save_weights(build_network("unet", SMALL), tmp_path / "weights" / "whole.safetensors")
    with pytest.raises(BundleError, match=r"crop.safetensors: wanted weights to begin with, there is no such file"):
        train(ball_run(tmp_path / "run", SHORT, initial=tmp_path / "weights"))
    assert not (tmp_path / "run" / "whole.csv").exists()


def test_weights_of_which_a_part_fits_are_begun_with_and_told_of(tmp_path: Path) -> None:
    save_weights(build_network("unet", {**SMALL, "channels": [4, 6]}), tmp_path / "whole.safetensors")
    with pytest.warns(LiverTumorSegWarning, match=r"stage whole: \d+ of \d+ tensors begin from the given weights"):
        train(ball_run(tmp_path / "run", SHORT, initial=tmp_path), stages=(0,))


def test_patches_that_do_not_fit_the_network_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"stage whole: wanted steps of 1 patches of \(7, 3, 1\) voxels") as caught:
        train(ball_run(tmp_path, trained(patch=(7, 3, 1))), stages=(0,))
    assert "\n" not in str(caught.value)


def test_a_finished_stage_whose_weights_are_gone_is_told(tmp_path: Path) -> None:
    (best,) = train(ball_run(tmp_path, SHORT), stages=(0,))
    best.unlink()
    with pytest.raises(TrainingError, match=r"wanted the weights of a finished stage, got none; delete whole"):
        train(ball_run(tmp_path, SHORT), stages=(0,))


def test_a_folder_in_the_place_of_weights_is_told(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="wanted a safetensors file, it cannot be read"):
        check_weights(tmp_path)


def test_a_folder_in_the_place_of_the_log_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("LiverTumorSegLib.training.jobs._source", lambda *_: Balls(SHORT))
    (tmp_path / "whole.csv").mkdir(parents=True)
    with pytest.raises(TrainingError, match=r"whole.csv: wanted to read or write it, got: "):
        train_fold(Job(SHORT, tmp_path, (0,), device="cpu", workers=0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"folds": [], "patients": {}, "seed": 0}', "wanted a split of at least 2 folds, got 0"),
        ('{"folds": [{"val": []}], "patients": {}, "seed": 0}', "wanted a split of at least 2 folds, got 1"),
        ('{"folds": [], "patients": {}, "seed": 1e999}', "wanted a split, got: "),
        ("[" * 100_000, "wanted a split, got: "),
    ],
)
def test_a_damaged_split_is_told(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "splits.json").write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match=rf"splits.json: {message}"):
        load_split(tmp_path / "splits.json")


def test_one_patient_cannot_be_dealt_into_folds() -> None:
    with pytest.raises(DatasetError, match="folds: wanted at least 2 patients with a scan and labels, got 1"):
        make_split([CheckedCase("a", "a", "")], 2)


def test_when_no_fold_can_be_trained_nothing_is_written(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise TrainingError("training loss: wanted a finite number, got nan")

    monkeypatch.setattr("LiverTumorSegLib.training.jobs.count_folds", lambda _: 2)
    monkeypatch.setattr("LiverTumorSegLib.training.jobs.train_fold", failing)
    command = ["train", str(recipe), "-o", str(tmp_path / "run"), "--data", str(tmp_path), "--all-folds", "--json"]
    assert main(command) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"event": "folds", "trained": [], "of": 2}
    assert not (tmp_path / "run" / "folds.csv").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_that_python_loses_is_heard_at_the_next_progress(
    number: signal.Signals, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGINT)

    def forking(_: Job, __: object, progress: Callable[[str, float], None], ___: object) -> None:
        with contextlib.suppress(KeyboardInterrupt):  # as in a callback after a fork
            signal.raise_signal(number)
        progress("whole", 0.5)

    monkeypatch.setattr("LiverTumorSegLib.training.jobs.train_fold", forking)
    assert main(["train", str(recipe), "-o", str(tmp_path / "run")]) == 130
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.parametrize("system", sorted(set(SYSTEMS) - {"cascade"}))
def test_stages_that_a_recipes_system_cannot_work_with_are_not_trained(system, tmp_path, capsys):
    document = json.loads(recipe_to_json(SHORT))
    document |= {"system": system, system: {}}
    if system == "typing":
        document["label_names"] = ["background", "liver", *Typing().lesion_types]
    (tmp_path / "recipe.json").write_text(json.dumps(document), encoding="utf-8")
    assert main(["train", str(tmp_path / "recipe.json"), "-o", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert "recipe.stages" in told[0]
    assert "wanted" in told[0]
    assert not (tmp_path / "run").exists()


def test_a_cascade_of_stages_without_tumours_is_not_trained(tmp_path, capsys):
    without = {"classes": ("background", "liver"), "arguments": {**SHORT.stages[1].arguments, "out_channels": 2}}
    (tmp_path / "recipe.json").write_text(recipe_to_json(second(SHORT, **without)), encoding="utf-8")
    assert main(["train", str(tmp_path / "recipe.json"), "-o", str(tmp_path / "run")]) == 2
    wanted = "recipe.stages[1]: wanted softmax of background, liver, tumour, got softmax of background, liver"
    assert wanted in capsys.readouterr().err
