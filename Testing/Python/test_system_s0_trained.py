"""S0 in small, with networks trained by `Testing/Systems/s0.py`: what the fusion adds, and its way to the tables."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import SimpleITK as sitk

from conftest import REPOSITORY
from LiverTumorSegLib.__main__ import main
from LiverTumorSegLib.bundle import Bundle
from LiverTumorSegLib.recipe import recipe_to_json
from LiverTumorSegLib.segmenter import segment

BUNDLE = REPOSITORY / "Testing" / "Data" / "s0_small"
CASES = 6

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def s0(monkeypatch_module: pytest.MonkeyPatch) -> ModuleType:
    """Return the script that trains and judges S0 in small."""
    monkeypatch_module.syspath_prepend(str(REPOSITORY / "Testing" / "Systems"))
    import s0 as script

    yield script
    for name in ("s0", "s0_scans"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def monkeypatch_module() -> pytest.MonkeyPatch:
    """Return a `monkeypatch` that lasts for the file."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def held_out(s0: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of scans that no network was trained or stopped on."""
    return s0.s0_scans.write(tmp_path_factory.mktemp("held_out"), 3000, CASES)


@pytest.fixture(scope="module")
def judged(s0: ModuleType, held_out: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    """Return the figures of the coarse network alone and of S0, and the folder of what both predicted."""
    bundle, folder = Bundle.load(BUNDLE), tmp_path_factory.mktemp("predictions")
    methods = {
        "coarse": s0.method(bundle, engine="torch", detector_factor=s0.NO_DETECTION),
        "S0": s0.method(bundle, engine="torch"),
    }
    return s0.judge(methods, held_out, folder), folder


def test_s0_finds_more_lesions_under_30_mm_than_its_coarse_network_alone(judged: tuple[dict, Path]) -> None:
    figures, _ = judged
    found = {name: sum(row["found"][:2]) for name, row in figures.items()}
    assert found["S0"] > found["coarse"]
    assert np.mean(figures["S0"]["dice"]) > np.mean(figures["coarse"]["dice"])


def test_its_predictions_become_the_papers_tables(
    judged: tuple[dict, Path], held_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, predictions = judged
    arguments = [
        str(predictions / "S0"),
        str(held_out),
        "--layout",
        "synthetic",
        "-o",
        str(tmp_path / "out"),
        "--as",
        "S0",
    ]
    assert main(["evaluate", *arguments, "--no-html"]) in (0, 1)
    printed = capsys.readouterr().out
    assert "S0, table 1" in printed
    assert "S0, table 3" in printed
    for size in ("5–10 mm", "10–30 mm", "> 30 mm"):
        assert size in printed


def test_the_bundle_runs_from_file_to_labels(held_out: Path) -> None:
    scan = sitk.ReadImage(str(held_out / "case_3000.nii.gz"))
    made = segment(scan, BUNDLE)
    labels = sitk.GetArrayFromImage(made.labels)
    assert {1, 2} <= set(np.unique(labels))
    assert made.provenance.system == "coarse_to_fine"
    assert made.provenance.details["refined"] >= 1


def test_every_stage_trains_from_the_command_line(s0: ModuleType, tmp_path: Path) -> None:
    cases = s0.s0_scans.write(tmp_path / "cases", 4000, 5)
    recipe = s0.small_recipe("as_printed")
    short = tuple(
        dataclasses.replace(
            each, epochs=1, iterations_per_epoch=1, batch_size=1, patch=(16, 16, min(each.patch[2], 16))
        )
        for each in recipe.training
    )
    (tmp_path / "recipe.json").write_text(recipe_to_json(dataclasses.replace(recipe, training=short)), encoding="utf-8")
    data = ["--data", str(cases), "--layout", "synthetic", "--fold", "0", "--device", "cpu", "--workers", "0"]
    assert main(["train", str(tmp_path / "recipe.json"), *data, "-o", str(tmp_path / "run"), "-q"]) == 0
    assert [each.name for each in Bundle.load(tmp_path / "run" / "bundle").recipe.stages] == [
        "liver",
        "coarse",
        "detector",
        "fine",
    ]
