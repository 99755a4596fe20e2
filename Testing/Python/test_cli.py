"""The command line as a user meets it: what it writes, what it says, and what it refuses in one line."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from LiverTumorSegLib.__main__ import main
from LiverTumorSegLib.bundle import seal_bundle
from LiverTumorSegLib.commands.segment import _read
from LiverTumorSegLib.console import BarConsole, JsonConsole

FILES = {"segmentation.seg.nrrd", "segmentation.nii.gz", "lesions.csv", "report.json"}
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capsys, tiny_bundle) -> Run:
    """Return a function that runs `segment` on a scan with the tiny bundle: exit code, output, error output."""

    def run(scan: Path | str, out: Path, *more: str) -> tuple[int, str, str]:
        arguments = ["segment", str(scan), "-o", str(out), "--device", "cpu", "--no-html"]
        code = main([*arguments, *(() if "--bundle" in more else ("--bundle", str(tiny_bundle))), *more])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def scan_file(tmp_path, ellipsoid_scan) -> Path:
    path = tmp_path / "scan.nii.gz"
    sitk.WriteImage(ellipsoid_scan(noise_hu=10)[0], str(path))
    return path


def write(array: np.ndarray, path: Path, spacing=(3.0, 3.0, 5.0), vector: bool = False) -> Path:
    image = sitk.GetImageFromArray(array, isVector=vector)
    image.SetSpacing(spacing[: image.GetDimension()] + (1.0,) * (image.GetDimension() - 3))
    sitk.WriteImage(image, str(path))
    return path


def refused(result: tuple[int, str, str], *words: str) -> None:
    """Exit code 2, one line on the error stream with these words, nothing on the output."""
    code, out, err = result
    assert code == 2, err
    lines = [line for line in err.splitlines() if not line.startswith("warning:")]
    assert len(lines) == 1, err
    assert lines[0].startswith("livertumorseg: error: ")
    for word in words:
        assert word in lines[0]
    assert "Traceback" not in err
    assert out == ""


def test_a_scan_becomes_files_on_exactly_its_grid(cli, scan_file, tmp_path):
    code, out, _ = cli(scan_file, tmp_path / "out")
    assert code == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    scan = sitk.ReadImage(str(scan_file))
    for name in ("segmentation.nii.gz", "segmentation.seg.nrrd"):
        labels = sitk.ReadImage(str(tmp_path / "out" / name))
        assert labels.GetSize() == scan.GetSize()
        assert np.allclose(labels.GetOrigin(), scan.GetOrigin())
        assert np.allclose(labels.GetSpacing(), scan.GetSpacing())
        assert np.allclose(labels.GetDirection(), scan.GetDirection())
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["provenance"]["recipe"] == "tiny"
    assert report["provenance"]["seconds"]["read"] >= 0
    assert "segmentation.seg.nrrd" in out
    rows = list(csv.DictReader((tmp_path / "out" / "lesions.csv").open()))
    assert len(rows) == len(report["lesions"])


def test_json_lines_tell_the_steps_and_the_result(cli, scan_file, tmp_path):
    code, out, _ = cli(scan_file, tmp_path / "out", "--json")
    assert code == 0
    events = [json.loads(line) for line in out.splitlines()]
    steps = [event["step"] for event in events if event["event"] == "progress"]
    assert {"reading the scan", "whole: network", "crop: network", "writing"} <= set(steps)
    assert events[-1]["event"] == "result"
    assert {Path(name).name for name in events[-1]["files"]} == FILES


def test_the_quiet_mode_says_nothing(cli, scan_file, tmp_path):
    assert cli(scan_file, tmp_path / "out", "-q", "--modality", "CT")[1] == ""


def test_the_same_scan_gives_the_same_labels(cli, scan_file, tmp_path):
    cli(scan_file, tmp_path / "one")
    cli(scan_file, tmp_path / "two")
    one, two = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / n / "segmentation.nii.gz"))) for n in ("one", "two")
    )
    assert np.array_equal(one, two)


def test_no_patient_s_name_or_folder_reaches_the_report(cli, tmp_path, ellipsoid_scan):
    folder = tmp_path / "Doe^Jane"
    folder.mkdir()
    sitk.WriteImage(ellipsoid_scan(noise_hu=10)[0], str(folder / "doe.nrrd"))
    cli(folder / "doe.nrrd", tmp_path / "out")
    for path in (tmp_path / "out").iterdir():
        content = path.read_bytes().lower()
        assert b"doe" not in content, path.name


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("missing.nii.gz", lambda path: None, ("missing.nii.gz",)),
        ("empty_folder", lambda path: path.mkdir(), ("DICOM",)),
        ("notes.txt", lambda path: path.write_text("hello"), ("notes.txt", "wanted")),
        ("cut.nii.gz", lambda path: path.write_bytes(b"\x1f\x8b\x08\x00garbage"), ("cut.nii.gz",)),
        ("flat.nii.gz", lambda path: write(np.zeros((20, 20), np.int16), path), ("wanted", "2")),
        ("series.nii.gz", lambda path: write(np.zeros((3, 8, 8, 8), np.int16), path), ("wanted", "4")),
        ("colour.nrrd", lambda path: write(np.zeros((8, 8, 8, 3), np.uint8), path, vector=True), ("wanted",)),
        ("constant.nii.gz", lambda path: write(np.full((9, 9, 9), 5, np.int16), path), ("5",)),
        ("nan.nii.gz", lambda path: write(np.full((9, 9, 9), np.nan, np.float32), path), ("wanted",)),
        (
            "absurd.nrrd",
            lambda path: write(np.arange(729, dtype=np.int16).reshape(9, 9, 9), path, (1e-4, 1.0, 1.0)),
            ("spacing", "wanted"),
        ),
        (
            "thin.nrrd",
            lambda path: write(np.arange(162, dtype=np.int16).reshape(2, 9, 9), path),
            ("wanted", "2"),
        ),
    ],
)
def test_a_scan_that_cannot_be_segmented_is_refused_in_one_line(name, make, words, cli, tmp_path):
    make(tmp_path / name)
    refused(cli(tmp_path / name, tmp_path / "out"), *words)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name != "posix", reason="elsewhere so long a name is only one that does not exist")
def test_a_scan_with_a_name_that_is_too_long_is_refused_in_one_line(cli, tmp_path):
    wanted = f"wanted an existing file or DICOM folder, got {'x' * 300}: File name too long"
    refused(cli("x" * 300, tmp_path / "out"), wanted)


def test_memory_that_runs_out_is_one_line(cli, scan_file, tmp_path, monkeypatch):
    def full(*arguments: object, **more: object) -> None:
        raise MemoryError("cpu: not enough memory for (1, 1, 64, 64, 64)")

    monkeypatch.setattr("LiverTumorSegLib.segmenter.Segmenter.__call__", full)
    refused(cli(scan_file, tmp_path / "out"), "not enough memory for (1, 1, 64, 64, 64)")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("modality", "lowest"), [("MR", -2000), ("CT", -1024)])
def test_the_modality_is_known_before_scan_and_phases_are_calibrated(modality, lowest, scan_file, tmp_path):
    scan = sitk.ReadImage(str(scan_file))
    scan[0, 0, 0] = -2000  # padding, which in CT is raised to air
    sitk.WriteImage(scan, str(scan_file))
    image, phases, _ = _read(scan_file, None, {"arterial": scan_file}, modality)
    assert sitk.GetArrayFromImage(image).min() == lowest
    assert sitk.GetArrayFromImage(phases["arterial"]).min() == lowest


def test_three_slices_are_enough(cli, tmp_path):
    array = np.random.default_rng(0).integers(-100, 200, (3, 40, 40)).astype(np.int16)
    write(array, tmp_path / "thin.nii.gz", (4.0, 4.0, 8.0))
    assert cli(tmp_path / "thin.nii.gz", tmp_path / "out")[0] == 0


def test_the_output_may_not_be_a_file(cli, scan_file, tmp_path):
    (tmp_path / "taken").write_text("mine")
    refused(cli(scan_file, tmp_path / "taken"), "wanted a folder")
    refused(cli(scan_file, tmp_path / "taken" / "deeper"), "wanted a folder")
    assert (tmp_path / "taken").read_text(encoding="utf-8") == "mine"


def test_a_device_that_is_not_there_is_refused(cli, scan_file, tmp_path):
    refused(cli(scan_file, tmp_path / "out", "--device", "cuda:97"), "cuda:97")
    refused(cli(scan_file, tmp_path / "out", "--device", "abacus"), "abacus")
    assert not (tmp_path / "out").exists()


def test_a_bundle_that_is_not_whole_is_refused(cli, scan_file, tmp_path, tiny_bundle):
    def copy(name: str) -> Path:
        return Path(shutil.copytree(tiny_bundle, tmp_path / name))

    changed = copy("changed") / "weights" / "crop.safetensors"
    changed.write_bytes(changed.read_bytes()[:-1] + b"\x01")
    refused(cli(scan_file, tmp_path / "out", "--bundle", str(tmp_path / "changed")), "crop.safetensors")

    (copy("missing") / "weights" / "whole.safetensors").unlink()
    refused(cli(scan_file, tmp_path / "out", "--bundle", str(tmp_path / "missing")), "whole.safetensors")

    odd = copy("odd")
    recipe = json.loads((odd / "recipe.json").read_text(encoding="utf-8"))
    recipe["stages"][0]["grid"]["colour"] = "red"
    (odd / "recipe.json").write_text(json.dumps(recipe))
    seal_bundle(odd)
    refused(cli(scan_file, tmp_path / "out", "--bundle", str(odd)), "recipe.json", "colour", "spacing_mm")

    refused(cli(scan_file, tmp_path / "out", "--bundle", "no-such-bundle"), "no-such-bundle")
    assert not (tmp_path / "out").exists()


def test_a_sensitivity_of_zero_is_refused(cli, scan_file, tmp_path):
    refused(cli(scan_file, tmp_path / "out", "--sensitivity", "0"), "sensitivity", "0")
    assert not (tmp_path / "out").exists()


def test_earlier_results_stay_when_a_later_run_fails(cli, scan_file, tmp_path):
    cli(scan_file, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    cli(tmp_path / "missing.nii", tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_a_demo_with_a_bundle_that_is_not_there_draws_nothing(tmp_path, capsys):
    assert main(["demo", "--bundle", "nope", "-o", str(tmp_path / "out")]) == 2
    assert "nope" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_help_names_every_command_and_imports_nothing_heavy():
    code = (
        "import sys; from LiverTumorSegLib.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'numpy', 'SimpleITK', 'torch', 'monai', 'openvino', 'vtk'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for command in ("segment", "demo", "synthesise", "train", "bundle"):
        assert command in done.stdout


def test_bundles_can_be_listed_shown_and_imported(capsys, tiny_bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("LIVERTUMORSEG_HOME", str(tmp_path / "home"))
    assert main(["bundle", "import", str(tiny_bundle), "--name", "mine"]) == 0
    assert main(["bundle", "list"]) == 0
    assert main(["bundle", "show", "mine"]) == 0
    out = capsys.readouterr().out
    assert "mine" in out
    assert "Not a medical device" in out
    for line in (
        "system cascade",
        "stage whole: unet; 10 mm; whole; background, liver, tumour by softmax",
        "stage crop: unet; 6 mm; liver + 10 mm; background, liver, tumour by softmax",
    ):
        assert line in out.splitlines()
    assert main(["bundle", "show", "mine", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [stage["grid"]["spacing_mm"] for stage in shown["recipe"]["stages"]] == [10.0, 6.0]


def test_synthetic_cases_are_the_same_for_the_same_seed(tmp_path, capsys):
    for name in ("one", "two"):
        arguments = ["synthesise", "-o", str(tmp_path / name), "--count", "1", "--seed", "3", "--spacing", "5"]
        assert main(arguments) == 0
    for file in ("case_0003.nii.gz", "case_0003_labels.nii.gz"):
        one, two = (sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / n / file))) for n in ("one", "two"))
        assert np.array_equal(one, two)


@pytest.mark.parametrize("preview", [[], ["--preview"]])
def test_fewer_than_one_synthetic_case_is_refused_in_one_line(preview, tmp_path, capsys):
    for count, complaint in (("0", "wanted at least 1, got 0"), ("-2", "wanted a whole number, not below 0, got '-2'")):
        with pytest.raises(SystemExit) as caught:
            main(["synthesise", "-o", str(tmp_path / "out"), "--count", count, *preview])
        assert caught.value.code == 2
        assert f"--count: {complaint}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_damaged_label_map_is_one_line(tmp_path, capsys):
    maps = tmp_path / "labelmaps_btcv"
    maps.mkdir()
    (maps / "a.nii.gz").write_bytes(b"no label map")
    assert main(["synthesise", "-o", str(tmp_path / "out"), "--labelmaps", str(maps)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("livertumorseg: error: ")
    assert "a.nii.gz" in line


def test_json_lines_have_null_for_what_is_no_finite_number(capsys):
    scores = {"tumour": float("nan"), "liver": 0.5, "list": [float("inf"), (1, -float("inf"))]}
    JsonConsole().result("epoch", scores, "")
    assert capsys.readouterr().out == '{"event": "epoch", "tumour": null, "liver": 0.5, "list": [null, [1, null]]}\n'


@pytest.mark.slow
def test_training_from_the_command_line_ends_in_a_bundle_that_segments(tmp_path, capsys, scan_file):
    recipe = {
        "name": "short",
        "variant": "repaired",
        "source": "test",
        "stages": [
            {
                "name": name,
                "network": "unet",
                "arguments": {"channels": [4, 8], "strides": [2], "num_res_units": 1},
                "grid": {"spacing_mm": spacing, "multiple_of": 2},
                "intensity": {"ct_clip_hu": [-200, 300], "mr_clip_percentiles": [0.5, 99.5], "scale": "unit"},
                "region": region,
            }
            for name, spacing, region in (("whole", 12.0, "whole"), ("crop", 8.0, "liver"))
        ],
        "training": [{"epochs": 1, "iterations_per_epoch": 2, "patch": [16, 16, 8]}] * 2,
    }
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    arguments = ["train", str(tmp_path / "recipe.json"), "-o", str(tmp_path / "run"), "--bodies", "1", "--workers", "0"]
    assert main(arguments) == 0
    bundle = ["--bundle", str(tmp_path / "run" / "bundle")]
    assert main(["segment", str(scan_file), "-o", str(tmp_path / "out"), "--no-html", *bundle]) == 0


@pytest.mark.parametrize("seed", ["-1", "x", "1.5"])
def test_a_seed_that_is_none_is_refused_in_one_line(seed, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["demo", "--seed", seed])
    assert caught.value.code == 2
    assert f"--seed: wanted a whole number, not below 0, got '{seed}'" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="asks for a full disk")
def test_output_that_nobody_can_take_is_one_line():
    command = [sys.executable, "-m", "LiverTumorSegLib", "bundle", "list"]
    with open("/dev/full", "w") as full:
        run = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert run.returncode == 2
    assert run.stderr.splitlines() == [
        "livertumorseg: error: standard output: wanted to print the result there, got: No space left on device"
    ]


def test_letters_that_a_terminal_cannot_show_are_spelt_out(capfdbinary, monkeypatch):
    with open(1, "w", encoding="ascii", closefd=False) as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        BarConsole().result("result", {}, "5 × 5")
    assert capfdbinary.readouterr().out == b"5 \\xd7 5\n"
