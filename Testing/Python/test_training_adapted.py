"""`livertumorseg train --adapt`: patch, batch and learning rate from the cases that train, by hand, and kept."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np
import pytest

from LiverTumorSegLib.__main__ import main
from LiverTumorSegLib.bundle import Bundle
from LiverTumorSegLib.errors import RecipeError
from LiverTumorSegLib.recipe import Grid, Recipe, Stage, Training, load_recipe, recipe_to_json
from LiverTumorSegLib.resources import resource_path
from LiverTumorSegLib.systems import check_recipe
from LiverTumorSegLib.training import adapting
from LiverTumorSegLib.training.adapting import adapted
from LiverTumorSegLib.training.jobs import Job, Outcome, train_fold
from test_datasets import LABELS, image_of, scan_of, write, write_nifti
from test_fingerprint import FOUND
from training_cases import RECIPE, SMALL, UNIT

pytestmark = pytest.mark.usefixtures("one_thread")

SHIPPED = sorted(path.stem for path in resource_path("Recipes").glob("*.json"))
OWN = Training("dice", epochs=1, iterations_per_epoch=1, patch=(8, 8, 4), batch_size=4, bf16=False)
STAGES = (
    Stage("whole", "unet", Grid(spacing_mm=4.0, multiple_of=2), SMALL, UNIT, window=(8, 8, 4)),
    Stage("crop", "unet", Grid(spacing_mm=2.0, multiple_of=2), SMALL, UNIT, window=(12, 8, 4), region="liver"),
)
GIVEN = dataclasses.replace(
    RECIPE, stages=STAGES, training=(OWN, dataclasses.replace(OWN, optimiser="sgd", hand_over=False))
)


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    """Three patients: the scan of the first has voxels of 4 x 4 x 5 mm, those of the others of 2 x 2 x 5 mm."""
    folder = tmp_path / "cases"
    write_nifti(folder)
    for image, name in ((scan_of(0), "case_0"), (image_of(LABELS), "case_0_labels")):
        image.SetSpacing((4.0, 4.0, 5.0))
        write(image, folder / f"{name}.nii.gz")
    patients = {f"case_{number}": f"case_{number}" for number in range(3)}
    folds = [{"train": [], "val": ["case_0"]}, {"train": [], "val": ["case_1", "case_2"]}]
    split = {"schema_version": 1, "seed": 0, "patients": patients, "folds": folds}
    (folder / "splits.json").write_text(json.dumps(split), encoding="utf-8")
    return folder


@pytest.fixture
def ask(tmp_path: Path, cases: Path) -> Callable[..., int]:
    """Call the command; what it printed is for `capsys`."""

    def called(*arguments: str, recipe: Recipe = GIVEN) -> int:
        (tmp_path / "given.json").write_text(recipe_to_json(recipe), encoding="utf-8")
        common = ["train", str(tmp_path / "given.json"), "-o", str(tmp_path / "run"), "--data", str(cases)]
        return main([*common, "--workers", "0", "--device", "cpu", "--json", "--validation-patches", "1", *arguments])

    return called


def events(capsys: pytest.CaptureFixture[str], kind: str) -> list[dict]:
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [line for line in lines if line["event"] == kind]


def notes(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line["text"] for line in events(capsys, "note")]


def test_patch_batch_rate_and_windows_follow_the_training_cases_and_are_kept(ask, tmp_path, capsys) -> None:
    """The recipe's four patches of 8 x 8 x 4 are 1024 voxels.

    The scans of 24 x 20 x 40 mm are 6 x 6 x 10 voxels of 4 mm, all of which fit. The livers with their margins are
    32 x 32 x 50 mm, 16 x 16 x 26 voxels of 2 mm; along k, then i, then j the longest axis gives way: 10 x 10 x 10. A
    batch is a twentieth of two cases at most, so one patch: rate x sqrt(1/4) with Adam, x 1/4 with SGD.
    """
    assert ask("--fold", "0", "--adapt") == 0
    told = [text for text in notes(capsys) if text.startswith("stage ")]
    assert told == [
        "stage whole: patch 8×8×4 → 6×6×10, batch 4 → 1, learning rate 0.001 → 0.0005, window 8×8×4 → 6×6×10",
        "stage crop: patch 8×8×4 → 10×10×10, batch 4 → 1, learning rate 0.001 → 0.00025, window 12×8×4 → 12×10×10",
    ]
    kept = load_recipe(tmp_path / "run" / "recipe.json")
    assert [(each.patch, each.batch_size) for each in kept.training] == [((6, 6, 10), 1), ((10, 10, 10), 1)]
    assert [each.learning_rate for each in kept.training] == pytest.approx([0.0005, 0.00025])
    assert [stage.window for stage in kept.stages] == [(6, 6, 10), (12, 10, 10)]
    bundle = Bundle.load(tmp_path / "run" / "bundle")
    assert bundle.recipe == kept
    assert "patch, batch and learning rate fitted to them" in (bundle.path / "model_card.md").read_text("utf-8")


def test_only_the_cases_of_the_training_side_count(ask, tmp_path) -> None:
    """Fold 1 trains on the first case alone: 48 x 40 x 40 mm, 12 x 10 x 10 voxels, of which 10 x 10 x 10 fit."""
    assert ask("--fold", "1", "--adapt", "--stage", "whole") == 0
    assert load_recipe(tmp_path / "run" / "recipe.json").training[0].patch == (10, 10, 10)


def test_a_run_goes_on_with_the_recipe_that_it_has_and_looks_at_no_case_again(ask, tmp_path, capsys, monkeypatch):
    assert ask("--fold", "0", "--adapt", "--stage", "whole") == 0
    first = notes(capsys)
    monkeypatch.setattr(adapting, "check_cases", None)
    longer = dataclasses.replace(
        GIVEN, training=tuple(dataclasses.replace(each, epochs=2, patience=9) for each in GIVEN.training)
    )
    assert ask("--fold", "0", "--adapt", "--stage", "whole", recipe=longer) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["text"] for line in lines if line["event"] == "note"] == first
    assert [line["epoch"] for line in lines if line["event"] == "epoch"] == [2]
    assert load_recipe(tmp_path / "run" / "recipe.json").training[0].patch == (6, 6, 10)


def refused(capsys) -> str:
    error = capsys.readouterr().err
    assert error.startswith("livertumorseg: error: ")
    assert error.count("\n") == 1
    return error


def test_another_adaptation_is_refused_in_one_line(ask, tmp_path, capsys) -> None:
    adapt = ("--fold", "0", "--adapt", "--stage", "whole")
    assert ask(*adapt) == 0
    capsys.readouterr()
    assert ask(*adapt, "--memory", "2") == 2
    assert "wanted to go on with --memory 2, the run was begun with 1; train into another folder" in refused(capsys)
    other = dataclasses.replace(GIVEN, training=(dataclasses.replace(OWN, loss="dice_ce"), GIVEN.training[1]))
    assert ask(*adapt, recipe=other) == 2
    assert "got another recipe.training[0].loss; train into another folder" in refused(capsys)
    assert ask("--fold", "0", "--stage", "whole") == 2
    assert "wanted to go on with --adapt, as the run was begun, got none" in refused(capsys)
    (tmp_path / "run" / "adapted.json").write_text("{}", encoding="utf-8")
    assert ask(*adapt) == 2
    assert "adapted.json: wanted what the run was adapted from, got no 'memory'" in refused(capsys)


def test_a_run_that_was_begun_without_is_not_adapted_later(ask, tmp_path, capsys) -> None:
    assert ask("--fold", "0", "--stage", "whole") == 0
    capsys.readouterr()
    assert ask("--fold", "0", "--stage", "whole", "--adapt") == 2
    assert "wanted a run that was begun with --adapt, got one begun without" in refused(capsys)
    assert not (tmp_path / "run" / "adapted.json").exists()


def test_every_fold_is_adapted_for_itself(ask, tmp_path, capsys) -> None:
    assert ask("--all-folds", "--adapt", "--stage", "whole") == 0
    told = [text.split(",")[:2] for text in notes(capsys) if "stage whole" in text]
    assert told == [
        ["fold 0", " stage whole: patch 8×8×4 → 6×6×10"],
        ["fold 1", " stage whole: patch 8×8×4 → 10×10×10"],
    ]
    patches = [load_recipe(tmp_path / "run" / f"fold_{fold}" / "recipe.json").training[0].patch for fold in (0, 1)]
    assert patches == [(6, 6, 10), (10, 10, 10)]


def test_folds_that_are_trained_side_by_side_tell_it_when_they_are_done(ask, capsys, monkeypatch) -> None:
    def one_by_one(folds: dict[int, Job], _: object) -> Generator[tuple[int, Outcome, str], None, None]:
        for fold, job in folds.items():
            yield fold, train_fold(job), ""

    monkeypatch.setattr("LiverTumorSegLib.cluster.train_on_ray", one_by_one)
    assert ask("--all-folds", "--ray", "--adapt", "--stage", "whole") == 0
    told = [text for text in notes(capsys) if text.startswith("fold 1, stage whole: patch 8×8×4 → 10×10×10")]
    assert len(told) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "x", "--fold", "0", "--memory", "2"], "--memory: wanted it with --adapt, got no --adapt"),
        (["--adapt"], "--adapt: wanted it with --data, got no --data"),
        (["--memory", "2"], "--memory: wanted it with --data, got no --data"),
        (["--cache-limit", "2"], "--cache-limit: wanted it with --data, got no --data"),
    ],
)
def test_options_that_need_another_one_say_so(arguments, message, tmp_path, capsys) -> None:
    (tmp_path / "given.json").write_text(recipe_to_json(GIVEN), encoding="utf-8")
    assert main(["train", str(tmp_path / "given.json"), "-o", str(tmp_path / "run"), *arguments]) == 2
    assert message in refused(capsys)
    assert not (tmp_path / "run").exists()


def test_cases_with_a_fault_do_not_count_and_none_at_all_is_told(ask, cases, capsys) -> None:
    write(image_of(LABELS * np.uint8(0)), cases / "case_1_labels.nii.gz")
    assert ask("--fold", "0", "--adapt", "--stage", "whole") == 0
    assert "case_1 does not count for --adapt: labels: wanted a liver, got an empty label map" in notes(capsys)
    write(image_of(LABELS * np.uint8(0)), cases / "case_0_labels.nii.gz")
    assert ask("--fold", "1", "--adapt", "-o", str(cases.parent / "other")) == 2
    assert "--adapt: wanted training cases without a fault, got none of 1" in refused(capsys)


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("memory", [0.25, 1.0, 6.0])
def test_every_recipe_that_ships_is_adapted_to_one_that_its_system_works_with(name: str, memory: float) -> None:
    recipe = load_recipe(resource_path("Recipes", f"{name}.json"))
    used = adapted(recipe, FOUND, memory)
    check_recipe(used)
    for stage, before, after in zip(recipe.stages, recipe.training, used.training, strict=True):
        multiples = stage.grid.multiples
        assert all(side % m == 0 for side, m in zip(after.patch[:2], multiples[:2], strict=True))
        assert after.patch[2] == 1 if before.patch[2] == 1 else after.patch[2] % multiples[2] == 0
        changed = ("patch", "batch_size", "learning_rate")
        assert dataclasses.replace(after, **{key: getattr(before, key) for key in changed}) == before


def test_what_systems_cut_out_follows_the_patch_where_the_recipe_has_both_alike() -> None:
    """Lesions of 15 mm are looked at in 45 mm: 50 voxels of 0.9 mm, in sixteens 64; of 60 mm in 180 mm: 200, 208."""
    s0 = load_recipe(resource_path("Recipes", "s0_csr_unet_repaired.json"))
    large = dataclasses.replace(FOUND, lesion_diameter_mm=(4.0, 60.0, 90.0))
    used = adapted(s0, large)
    fine = next(n for n, stage in enumerate(s0.stages) if stage.region == "lesion")
    assert used.training[fine].patch == (208, 208, 1)
    assert used.stages[fine].window == (208, 208, 32)
    assert used.coarse_to_fine is not None
    assert used.coarse_to_fine.box == (208, 208, 5)
    s4 = load_recipe(resource_path("Recipes", "s4_multiscale_repaired.json"))
    assert s4.slices is not None
    used = adapted(s4, FOUND)
    assert used.slices is not None
    i, j, k = used.training[1].patch
    assert used.slices.tile == max(i, j) != s4.slices.tile
    assert used.stages[1].window == (i, j, k)
    assert used.stages[0].window == s4.stages[0].window  # larger than the patch, by the recipe's own choice


def test_a_recipe_cannot_be_adapted_to_what_training_cannot_do() -> None:
    wide = dataclasses.replace(FOUND, size_voxels=((1, 5000, 9),) * 3, spacing_mm=((1, 2, 3),) * 3)
    stage = Stage("whole", "unet", Grid(spacing_mm=1.0, multiple_of=1), SMALL)
    recipe = Recipe("r", "repaired", "a test", (stage,), training=(OWN,))
    with pytest.raises(RecipeError, match=r"training\.patch: wanted at most 2048 voxels a side"):
        adapted(recipe, wide, 1e9)
