"""What a command would not look at is refused in one line, before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from LiverTumorSegLib.__main__ import main

RECIPE = str(Path(__file__).resolve().parents[2] / "Resources" / "Recipes" / "default.json")


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("evaluate found truth --sensitivity 1", "--sensitivity: wanted it with --bundle, got no --bundle"),
        ("evaluate found truth --device cuda:7", "--device: wanted it with --bundle, got no --bundle"),
        ("evaluate found truth --precision bf16", "--precision: wanted it with --bundle, got no --bundle"),
        ("evaluate found truth --data cases", "--data: wanted it with --bundle, got no --bundle"),
        ("evaluate found truth --same-data", "--same-data: wanted it with --as, got no --as"),
        ("evaluate --bundle default --data cases --workers 2", "--workers: wanted it with PRED_DIR, got no PRED_DIR"),
        ("segment scan.nii.gz --threads 2", "--threads: wanted it with --cohort, got no --cohort"),
        ("segment scan.nii.gz --ray", "--ray: wanted it with --cohort, got no --cohort"),
        ("segment --cohort scans --threads 2", "--threads: wanted it with --ray, got no --ray"),
        (f"train {RECIPE} --threads 2", "--threads: wanted it with --data, got no --data"),
        (f"train {RECIPE} --data cases --fold 0 --threads 2", "--threads: wanted it with --ray, got no --ray"),
        ("dataset check cases --memory 1", "--memory: wanted it with --recipe, got no --recipe"),
    ],
)
def test_an_option_that_nothing_would_look_at_is_refused(
    line: str, wanted: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*line.split(), "-o", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.splitlines() == [f"livertumorseg: error: {wanted}"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("line", ["evaluate found truth --workers -3", "segment --cohort scans --ray --threads 0"])
def test_a_number_of_processes_is_at_least_1(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*line.split(), "-o", "out"])
    assert "wanted" in capsys.readouterr().err
