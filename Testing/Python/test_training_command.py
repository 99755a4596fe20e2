"""`livertumorseg train` on a small data set: one fold, all of them, and requests that cannot be met."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import SimpleITK as sitk

from LiverTumorSegLib.__main__ import main
from LiverTumorSegLib.bundle import Bundle
from LiverTumorSegLib.errors import TrainingError
from LiverTumorSegLib.recipe import recipe_to_json
from LiverTumorSegLib.training import jobs
from training_cases import trained

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = trained(epochs=1, iterations_per_epoch=1)


@pytest.fixture(scope="module")
def cases(tmp_path_factory, ellipsoid_scan) -> Path:
    """Four patients in the plain layout, dealt into two folds."""
    folder = tmp_path_factory.mktemp("cases")
    for part in ("images", "labels"):
        (folder / part).mkdir()
    for number in range(4):
        lesion = ((5.0 * number, 0.0, 0.0), 12.0)
        for image, part in zip(ellipsoid_scan(lesions=[lesion], noise_hu=5.0), ("images", "labels"), strict=True):
            sitk.WriteImage(image, str(folder / part / f"case{number}.nii.gz"))
    patients = {f"case{number}": f"case{number}" for number in range(4)}
    folds = [
        {"train": ["case0", "case1"], "val": ["case2", "case3"]},
        {"train": ["case2", "case3"], "val": ["case0", "case1"]},
    ]
    split = {"schema_version": 1, "seed": 0, "patients": patients, "folds": folds}
    (folder / "splits.json").write_text(json.dumps(split), encoding="utf-8")
    return folder


@pytest.fixture
def ask(tmp_path):
    """Call the command with a tiny recipe; what it printed is for `capsys`."""
    recipe = tmp_path / "recipe.json"
    recipe.write_text(recipe_to_json(RECIPE), encoding="utf-8")

    def called(*arguments: object) -> int:
        common = ["train", recipe, "-o", tmp_path / "run", "--workers", "0", "--device", "cpu", "--json"]
        return main([str(each) for each in (*common, *arguments)])

    return called


def events(capsys, kind: str) -> list[dict]:
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [line for line in lines if line["event"] == kind]


def test_a_fold_of_measured_cases_becomes_a_bundle_that_says_so(ask, cases, tmp_path, capsys):
    assert ask("--data", cases, "--fold", "0") == 0
    assert [(line["stage"], line["epoch"]) for line in events(capsys, "epoch")] == [("whole", 1), ("crop", 1)]
    bundle = Bundle.load(tmp_path / "run" / "bundle")
    assert bundle.metadata["data_type"] == "measured"
    assert "on measured cases, all but fold 0 of a split by patient" in (bundle.path / "model_card.md").read_text(
        "utf-8"
    )
    # The same again finds everything done.
    assert ask("--data", cases, "--fold", "0") == 0
    assert events(capsys, "epoch") == []


def test_stages_one_by_one_end_in_a_bundle_too(ask, cases, tmp_path, capsys):
    assert ask("--data", cases, "--fold", "1", "--stage", "whole") == 0
    assert not (tmp_path / "run" / "bundle").exists()
    told = [line["text"] for line in events(capsys, "note")]
    assert "no bundle yet: it wants the weights of all stages, there are none of crop" in told
    assert ask("--data", cases, "--fold", "1", "--stage", "crop") == 0
    assert len(events(capsys, "bundle")) == 1


def test_all_folds_are_trained_one_after_the_other(ask, cases, tmp_path, capsys):
    assert ask("--data", cases, "--all-folds", "--stage", "whole") == 0
    assert [line["fold"] for line in events(capsys, "epoch")] == [0, 1]
    with (tmp_path / "run" / "folds.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["fold"], row["stage"]) for row in rows] == [("0", "whole"), ("1", "whole")]
    assert all(0 <= float(row["liver_dice"]) <= 1 for row in rows)
    assert (tmp_path / "run" / "fold_1" / "whole.best.safetensors").exists()


def test_another_fold_does_not_go_on_with_weights_that_have_seen_its_patients(ask, cases, capsys):
    assert ask("--data", cases, "--fold", "0", "--stage", "whole") == 0
    assert ask("--data", cases, "--fold", "1", "--stage", "whole") == 2
    assert "wanted to go on with origin.fold 1, the run was begun with 0" in capsys.readouterr().err


@pytest.mark.parametrize("error", [TrainingError, RuntimeError, MemoryError])
def test_a_fold_that_fails_is_told_and_the_others_are_trained(ask, cases, tmp_path, capsys, monkeypatch, error):
    real = jobs.train_fold

    def failing(job, *rest):
        if job.patients.fold == 0:
            raise error("training loss: wanted a finite number,\n  got nan")
        return real(job, *rest)

    monkeypatch.setattr(jobs, "train_fold", failing)
    assert ask("--data", cases, "--all-folds", "--stage", "whole") == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    notes = [line["text"] for line in lines if line["event"] == "note"]
    assert "fold 0 is left out: training loss: wanted a finite number, got nan" in notes
    assert lines[-1] == {"event": "folds", "trained": [1], "of": 2}


def test_in_a_team_a_fold_that_fails_ends_the_run_as_the_other_processes_are_still_in_it(ask, cases, monkeypatch):
    folds = []

    def failing(job, *_):
        folds.append(job.patients.fold)
        raise TrainingError("training loss: wanted a finite number, got nan")

    monkeypatch.setattr(jobs, "train_fold", failing)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert ask("--data", cases, "--all-folds", "--stage", "whole") == 2
    assert folds == [0]


def test_an_interrupted_run_says_how_it_goes_on(ask, capsys, monkeypatch):
    def interrupted_at_once(*_: object) -> None:
        raise KeyboardInterrupt

    def interrupted(job, *_):
        job.folder.mkdir(parents=True, exist_ok=True)
        (job.folder / "whole.checkpoint.safetensors").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "train_fold", interrupted_at_once)
    assert ask() == 130
    assert (
        "interrupted before the first checkpoint; the same command begins the training anew" in capsys.readouterr().out
    )
    monkeypatch.setattr(jobs, "train_fold", interrupted)
    assert ask() == 130
    assert "interrupted; the same command goes on from the checkpoint in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--fold", "1"), "--fold: wanted it with --data, got no --data"),
        (("--fold", "0"), "--fold: wanted it with --data, got no --data"),
        (("--all-folds",), "--all-folds: wanted it with --data, got no --data"),
        (("--data", "{cases}"), "train: wanted either --fold or --all-folds with --data, got neither"),
        (("--data", "{cases}", "--fold", "0", "--all-folds"), "--fold or --all-folds with --data, got both"),
        (("--data", "{cases}", "--fold", "0", "--labelmaps", "."), "wanted either --data or --labelmaps, got both"),
        (("--data", "{cases}", "--fold", "2"), "fold: wanted 0 to 1, got 2"),
        (("--data", "{cases}/nowhere", "--fold", "0"), "nowhere"),
        (("--data", "{cases}", "--fold", "0", "--splits", "{cases}/none.json"), "none.json: wanted a split"),
        (("--stage", "third"), "--stage: wanted one of whole, crop, got 'third'"),
        (("--init", "no_such_bundle"), "no_such_bundle"),
        (("--device", "cuda:77"), "device: wanted cuda:77, got"),
    ],
)
def test_a_request_that_cannot_be_met_is_one_line(ask, cases, capsys, arguments, complaint):
    assert ask(*(each.format(cases=cases) for each in arguments)) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.startswith("livertumorseg: error: ")
    assert error.count("\n") == 1


@pytest.mark.slow
def test_torchrun_trains_in_several_processes_of_which_one_speaks_and_writes(ask, cases, tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = ["-m", "LiverTumorSegLib", "train", "recipe.json", "-o", "run", "--data", str(cases), "--fold", "0"]
    options = ["--workers", "0", "--device", "cpu", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [*launch, *command, *options], cwd=tmp_path, capture_output=True, text=True, env=environment, timeout=280
    )
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["stage"] for line in lines if line["event"] == "epoch"] == ["whole", "crop"]
    assert Bundle.load(tmp_path / "run" / "bundle").recipe == RECIPE
