"""A bundle's temperature: a new bundle with the same weights, from the library and from the command line."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from conftest import draw_ellipsoids
from LiverTumorSegLib import segment
from LiverTumorSegLib.__main__ import main
from LiverTumorSegLib.bundle import Bundle, seal_bundle, write_variant
from LiverTumorSegLib.calibration import Voxels
from LiverTumorSegLib.errors import BundleError, LiverTumorSegError, LiverTumorSegWarning
from LiverTumorSegLib.recipe import Grid, Recipe, Stage
from LiverTumorSegLib.training.calibrating import calibrated_recipe, fitted, next_version, write_calibrated
from LiverTumorSegLib.training.export import export_bundle
from LiverTumorSegLib.training.synthesis.holdout import Case


@pytest.fixture
def ruled(tiny_bundle: Path, tmp_path: Path) -> Bundle:
    """Return a bundle whose recipe asks for a probability of 0.9, and that ships a picture."""
    old = Bundle.load(tiny_bundle)
    rules = dataclasses.replace(old.recipe.postprocessing, min_lesion_probability=0.9)
    recipe = dataclasses.replace(old.recipe, postprocessing=rules)
    metadata = {**old.metadata, "version": "0.1.9"}
    new = write_variant(old, tmp_path / "ruled", recipe, metadata, "# ruled\n\n## Limits\nMany.\n")
    (new.path / "reliability.png").write_bytes(b"\x89PNG")
    seal_bundle(new.path)
    return Bundle.load(new.path)


def test_a_calibrated_bundle_is_a_new_one_with_the_same_weights(ruled: Bundle, tmp_path: Path) -> None:
    files = {path.relative_to(ruled.path): path.read_bytes() for path in ruled.path.rglob("*") if path.is_file()}
    # Logits of 4 with four of five right: T = 4 / ln 4, and odds of 9 become 9 ** (ln 4 / 4).
    three = Voxels(np.array([[-60.0] * 5, [0.0] * 5, [4.0] * 5], np.float32), np.array([2, 2, 2, 2, 1]))
    found = fitted(ruled.recipe, [three], range(1000, 1001))
    new = write_calibrated(ruled, found, tmp_path / "new", None)
    assert new.recipe.stages[1].temperature == pytest.approx(4 / np.log(4), abs=1e-3)
    assert new.recipe.stages[0].temperature == 1
    odds = 9 ** (np.log(4) / 4)
    assert new.recipe.postprocessing.min_lesion_probability == pytest.approx(odds / (1 + odds), abs=1e-4)
    assert new.metadata["version"] == "0.1.10"
    assert "temperature 2.88" in next(iter(new.metadata["changelog"].values()))
    card = (new.path / "model_card.md").read_text(encoding="utf-8")
    assert card.startswith("# ruled\n\n## Limits\nMany.\n\n## Calibration\n")
    assert "divided by 2.89 (before: 1)" in card
    for name, content in files.items():
        if name.suffix in (".safetensors", ".bin", ".xml", ".png"):
            assert (new.path / name).read_bytes() == content
        assert (ruled.path / name).read_bytes() == content  # the old one is as it was
    again = write_calibrated(new, fitted(new.recipe, [three], range(5)), tmp_path / "again", None)
    text = (again.path / "model_card.md").read_text(encoding="utf-8")
    assert text.count("## Calibration") == 1


def test_the_odds_of_tumour_go_with_the_temperature_so_that_the_same_voxels_are_tumour(ruled: Bundle) -> None:
    rules = dataclasses.replace(ruled.recipe.postprocessing, tumour_odds=16.0)
    recipe = dataclasses.replace(ruled.recipe, postprocessing=rules)
    # T = 4 / ln 4, as above. Odds of 9 / 16 for a lesion become (9 / 16) ** (ln 4 / 4), and 16 ** (ln 4 / 4) times it.
    found = fitted(recipe, [_three(4.0)], range(1))
    after = calibrated_recipe(recipe, found).postprocessing
    assert after.tumour_odds == pytest.approx(16 ** (np.log(4) / 4), abs=1e-3)
    odds = 9 ** (np.log(4) / 4)
    assert after.min_lesion_probability == pytest.approx(odds / (1 + odds), abs=1e-3)


def test_calibrating_a_calibrated_bundle_starts_from_its_temperature(ruled: Bundle) -> None:
    first = fitted(ruled.recipe, [_three(4.0)], range(1))
    after = calibrated_recipe(ruled.recipe, first)
    # What the calibrated system says of the same voxels fits already.
    second = fitted(after, [_three(4.0 / first.temperature[1])], range(1))
    assert second.temperature[1] == pytest.approx(first.temperature[1], rel=1e-3)
    assert second.min_lesion_probability[1] == pytest.approx(first.min_lesion_probability[1], abs=1e-3)


def _three(logit: float) -> Voxels:
    logits = np.array([[-60.0] * 5, [0.0] * 5, [logit] * 5], np.float32)
    return Voxels(logits, np.array([2, 2, 2, 2, 1]))


def test_no_bundle_is_made_of_a_temperature_at_the_limit() -> None:
    recipe = Recipe("small", "repaired", "a test", (Stage("whole", "unet", Grid(spacing_mm=4.0)),))
    for label in (2, 0):
        voxels = Voxels(np.array([[0.0], [1.0], [2.0]], np.float32), np.array([label]))
        with pytest.raises(LiverTumorSegError, match=r"^calibrate: wanted a best temperature between 0\.1 and 10, got"):
            fitted(recipe, [voxels], range(1))


@pytest.mark.parametrize(
    ("version", "wanted"), [("0.1.1", "0.1.2"), ("2", "3"), ("0.9", "0.10"), ("beta", "beta.1"), ("", ".1")]
)
def test_the_last_number_of_a_version_counts_on(version: str, wanted: str) -> None:
    assert next_version(version) == wanted


def test_a_folder_that_is_there_is_never_written_into(ruled: Bundle, tmp_path: Path) -> None:
    for folder in (ruled.path, tmp_path):
        with pytest.raises(BundleError, match="wanted a new folder, got"):
            write_variant(ruled, folder, ruled.recipe, ruled.metadata, "")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BundleError, match=r"the bundle cannot be written"):
        write_variant(ruled, tmp_path / "file" / "new", ruled.recipe, ruled.metadata, "")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".new-")]


def test_new_weights_take_no_temperature_of_old_ones(ruled: Bundle, tmp_path: Path) -> None:
    recipe = calibrated_recipe(ruled.recipe, fitted(ruled.recipe, [_three(4.0)], range(1)))
    weights = [ruled.weights_path(stage.name) for stage in recipe.stages]
    with pytest.warns(LiverTumorSegWarning, match=r"stage crop: temperature 2\.88.* was fitted to other weights"):
        new = export_bundle(recipe, weights, tmp_path / "trained", "nothing", "none")
    assert [stage.temperature for stage in new.recipe.stages] == [1, 1]


def test_only_a_cascade_is_calibrated(tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(tiny_bundle, tmp_path / "other")
    recipe = json.loads((tmp_path / "other" / "recipe.json").read_text(encoding="utf-8"))
    recipe["system"], recipe["slices"] = "slices", {}
    (tmp_path / "other" / "recipe.json").write_text(json.dumps(recipe), encoding="utf-8")
    seal_bundle(tmp_path / "other")
    assert main(["bundle", "calibrate", str(tmp_path / "other"), "-o", str(tmp_path / "new")]) == 2
    assert "calibrate: wanted a bundle whose system is a cascade, got slices" in capsys.readouterr().err


def test_what_the_command_cannot_do_is_said_before_it_begins(
    ruled: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*arguments: str) -> str:
        assert main(["bundle", "calibrate", str(ruled.path), *arguments]) == 2
        return capsys.readouterr().err

    assert "wanted a new folder" in refused("-o", str(ruled.path))
    new = str(tmp_path / "new")
    assert "bodies: wanted the folder that a training run drew" in refused("-o", new, "--bodies", str(tmp_path))
    assert "wanted at least one scan, got none" in refused("-o", new, "--scans", "0")
    assert not (tmp_path / "new").exists()


def test_the_command_finds_the_temperature_at_which_the_truth_was_drawn(
    ruled: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scan, _ = draw_ellipsoids((64, 64, 40), (4.0, 4.0, 5.0))
    result = segment(scan, ruled, device="cpu")
    evidence = result.evidence
    assert evidence is not None
    odds = np.exp(np.stack([np.zeros(evidence.liver.shape), evidence.liver, evidence.tumour]).astype(float) / 0.4)
    chance = np.random.default_rng(0).random(evidence.liver.shape)
    truth = (chance > np.cumsum(odds / odds.sum(0), axis=0)[:-1]).sum(0).astype(np.uint8)
    case = Case(result.image, evidence.geometry.image(truth), "CT", 200)
    monkeypatch.setattr("LiverTumorSegLib.training.calibrating.held_out", lambda number, bodies: case)
    new = tmp_path / "new"
    arguments = ["bundle", "calibrate", str(ruled.path), "-o", str(new), "--scans", "2", "--device", "cpu", "--json"]
    assert main(arguments) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["event"], told["stage"], told["scans"]) == ("calibration", "crop", [1000, 1001])
    assert told["temperature"] == [1.0, pytest.approx(0.4, rel=0.1)]
    assert told["loss"][1] < told["loss"][0]
    assert told["expected_error"][1] < 0.3 * told["expected_error"][0]
    assert Bundle.load(new).recipe.stages[1].temperature == told["temperature"][1]
