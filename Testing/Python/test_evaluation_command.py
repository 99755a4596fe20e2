"""`livertumorseg evaluate` as a user meets it: files, exit codes, and what it says of faulty cases."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from LiverTumorSegLib.__main__ import main
from LiverTumorSegLib.datasets.layouts import find_cases
from LiverTumorSegLib.evaluation import files
from LiverTumorSegLib.evaluation.pictures import pictures
from LiverTumorSegLib.evaluation.run import Pair, evaluate_folders, score_pairs

FILES = {"evaluation.html", "evaluation.json", "cases.csv", "lesions.csv", "summary.csv"}
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def evaluate(capsys, tmp_path) -> Run:
    """Return a function that runs `evaluate` on the folders of `tmp_path`: exit code, output, error output."""

    def run(*more: str) -> tuple[int, str, str]:
        folders = [str(tmp_path / name) for name in ("predictions", "references")]
        code = main(["evaluate", *folders, "-o", str(tmp_path / "out"), "--workers", "1", *more])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def case(tmp_path, ellipsoid_scan) -> Callable[..., None]:
    """Return a function that writes one case: two lesions in the reference, those `found` in the prediction."""
    lesions = (((0, 0, 0), 14.0), ((-25, 10, 10), 9.0))

    def write(name: str, found: int = 2, changed: Callable[[sitk.Image], sitk.Image] = lambda labels: labels) -> None:
        scan, labels = ellipsoid_scan(lesions=lesions, noise_hu=10)
        prediction = ellipsoid_scan(lesions=lesions[:found])[1]
        for folder in ("references", "predictions"):
            (tmp_path / folder).mkdir(exist_ok=True)
        sitk.WriteImage(scan, str(tmp_path / "references" / f"{name}.nii.gz"))
        sitk.WriteImage(labels, str(tmp_path / "references" / f"{name}_labels.nii.gz"))
        sitk.WriteImage(changed(prediction), str(tmp_path / "predictions" / f"{name}.nii.gz"))

    return write


def report(folder: Path) -> dict:
    return json.loads((folder / "out" / "evaluation.json").read_text(encoding="utf-8"))


def with_spacing(labels: sitk.Image) -> sitk.Image:
    labels.SetSpacing((3, 3, 6))
    return labels


def test_a_case_that_is_its_own_reference_scores_one_and_exits_with_zero(evaluate, case, tmp_path) -> None:
    case("a")
    code, out, err = evaluate("--no-html")
    assert (code, err) == (0, "")
    assert "2 of 2" in out
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES - {"evaluation.html"}
    summary = report(tmp_path)["summary"]
    assert summary["global_dice"]["tumour"]["value"] == 1
    assert report(tmp_path)["cases"][0]["name"] == "a"


def test_faulty_cases_are_named_with_what_was_wanted_and_the_others_are_evaluated(evaluate, case, tmp_path) -> None:
    case("good", found=1)
    case("missing")
    case("grid", changed=with_spacing)
    case("labels", changed=lambda labels: labels * 3)
    case("empty", changed=lambda labels: labels * 0)
    case("broken")
    broken = tmp_path / "predictions" / "broken.nii.gz"
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    (tmp_path / "predictions" / "missing.nii.gz").rename(tmp_path / "predictions" / "extra.nii.gz")
    code, _, err = evaluate("--no-html")
    assert code == 1
    remarks = {remark["case"]: remark for remark in report(tmp_path)["remarks"]}
    assert set(remarks) == {"missing", "extra", "grid", "labels", "empty", "broken"}
    assert remarks["missing"]["text"] == "wanted a prediction, got none"
    assert remarks["extra"]["text"] == "wanted a reference, got none"
    assert "got spacing (3, 3, 6) for the reference's (3, 3, 5)" in remarks["grid"]["text"]
    assert "wanted labels 0, 1 and 2, got 3, 6 in labels.nii.gz" in remarks["labels"]["text"]
    assert "broken.nii.gz" in remarks["broken"]["text"]
    assert [name for name, remark in remarks.items() if remark["evaluated"]] == ["empty"]
    assert {each["name"] for each in report(tmp_path)["cases"]} == {"good", "empty"}
    assert all(f"warning: {name}: " in err for name in remarks)
    with (tmp_path / "out" / "cases.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    assert {name for name, row in rows.items() if row["evaluated"] == "0"} == set(remarks) - {"empty"}
    assert (rows["good"]["lesions"], rows["good"]["found_half"]) == ("2", "1")


def test_references_that_are_empty_and_lesions_of_one_voxel_are_remarked_on(evaluate, case, tmp_path) -> None:
    case("none")
    path = tmp_path / "references" / "none_labels.nii.gz"
    sitk.WriteImage(sitk.ReadImage(str(path)) * 0, str(path))
    case("dot", changed=with_dot)
    assert evaluate("--no-html")[0] == 1
    remarks = {remark["case"]: remark["text"] for remark in report(tmp_path)["remarks"]}
    assert remarks["none"] == "reference: wanted a liver, got an empty label map"
    assert remarks["dot"] == "prediction: 1 of 3 lesions is a single voxel"


def with_dot(labels: sitk.Image) -> sitk.Image:
    labels[2, 2, 2] = 2
    return labels


def test_nothing_to_evaluate_still_makes_a_report_that_says_why(evaluate, case, tmp_path) -> None:
    case("grid", changed=with_spacing)
    code, _, _ = evaluate()
    page = (tmp_path / "out" / "evaluation.html").read_text(encoding="utf-8")
    assert code == 1
    assert "No case could be evaluated" in page
    assert report(tmp_path)["summary"] is None


def test_the_page_has_figures_pictures_tables_and_fetches_nothing(evaluate, case, tmp_path) -> None:
    pytest.importorskip("matplotlib")
    case("worse", found=1)
    case("better")
    code, _, _ = evaluate("--as", "S1", "lits")
    assert code == 0
    page = (tmp_path / "out" / "evaluation.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|<script|<link|@import|url\((?!#)", page)
    assert page.count("<figcaption>") == 4 + 1  # four figures; the slice of the missed lesion
    assert "var(--tumour)" in page
    assert "S1, tables 1 and 2" in page
    assert page.index("<b>worse</b>") < page.index("Cases, worst first") < page.index("<td>worse</td>")
    assert page.index("<td>worse</td>") < page.index("<td>better</td>")
    assert len(page) < 1_000_000


def test_two_predictions_are_compared_case_by_case(evaluate, case, tmp_path) -> None:
    pytest.importorskip("scipy")
    for name in "abc":
        case(name, found=1)
    (tmp_path / "predictions").rename(tmp_path / "earlier")
    for name in "abc":
        case(name)
    code, _, _ = evaluate("--no-html", "--against", str(tmp_path / "earlier"))
    assert code == 0
    recall = next(each for each in report(tmp_path)["comparison"] if each["measure"] == "recall, half of the lesion")
    assert (recall["first"], recall["second"]) == (0.5, 1)
    assert report(tmp_path)["against"] == "earlier"


def test_labels_stored_as_floating_point_are_read_and_fractions_are_refused(evaluate, case, tmp_path) -> None:
    case("float", changed=lambda labels: sitk.Cast(labels, sitk.sitkFloat64))
    assert evaluate("--no-html")[0] == 0
    case("half", changed=lambda labels: sitk.Cast(labels, sitk.sitkFloat32) * 0.5)
    assert evaluate("--no-html")[0] == 1
    assert "got 0.5 in half.nii.gz" in report(tmp_path)["remarks"][0]["text"]


def test_folders_as_segment_writes_them_are_predictions_too(evaluate, case, tmp_path) -> None:
    case("a")
    folder = tmp_path / "predictions" / "a"
    folder.mkdir()
    (tmp_path / "predictions" / "a.nii.gz").rename(folder / "segmentation.nii.gz")
    assert evaluate("--no-html")[0] == 0


def test_several_processes_give_the_same_numbers_in_the_same_order(case, tmp_path) -> None:
    for name in ("b", "a"):
        case(name, found=1)
    folders = tmp_path / "predictions", tmp_path / "references"
    alone, together = (evaluate_folders(*folders, workers=count) for count in (1, 2))
    assert alone.cases == together.cases
    assert [each.name for each in alone.cases] == ["a", "b"]
    assert score_pairs([]) == ((), ())


def test_wrong_folders_are_one_line_and_nothing_is_written(capsys, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    for folder, said in (("nowhere", "wanted a folder of cases, got nothing"), ("empty", "wanted cases in the layout")):
        code = main(["evaluate", str(tmp_path / folder), str(tmp_path / folder), "-o", str(tmp_path / "out")])
        error = capsys.readouterr().err
        assert (code, error.count("\n")) == (2, 1)
        assert said in error
        assert not (tmp_path / "out").exists()
    assert main(["evaluate", "-o", str(tmp_path / "out"), "--bundle", "default"]) == 2
    assert "wanted --data DIR" in capsys.readouterr().err


def test_what_an_earlier_evaluation_left_stays_when_the_new_one_fails(evaluate, case, tmp_path, monkeypatch) -> None:
    case("a")
    evaluate("--no-html")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def fail(*arguments: object) -> str:
        raise OSError(28, "No space left on device")

    case("b")
    monkeypatch.setattr(files, "report_json", fail)
    code, _, err = evaluate("--no-html")
    assert code == 2
    assert "No space left" in err
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_a_bundle_segments_a_data_set_and_is_judged_with_its_froc_curve(capsys, case, tiny_bundle, tmp_path) -> None:
    case("a")
    out = tmp_path / "out"
    arguments = ["--bundle", str(tiny_bundle), "--data", str(tmp_path / "references"), "--device", "cpu"]
    code = main(["evaluate", "-o", str(out), "--no-html", "--as", "S2", *arguments])
    assert code in (0, 1)  # the tiny networks were never trained and may find no liver, which is remarked on
    written = report(tmp_path)
    assert [each["name"] for each in written["cases"]] == ["a"]
    assert {(each["factor"], each["rule"]) for each in written["froc"]} >= {(0.125, "half"), (8.0, "iou")}
    assert written["provenance"]["bundle"] == "tiny"
    labels = sitk.ReadImage(str(out / "predictions" / "a.nii.gz"))
    assert labels.GetSize() == sitk.ReadImage(str(tmp_path / "references" / "a.nii.gz")).GetSize()
    costs = written["summary"]["costs"]
    assert (costs["device"], costs["seconds"]["count"]) == ("cpu", 1)
    printed = capsys.readouterr().out
    with (out / "summary.csv").open(encoding="utf-8", newline="") as file:
        figures = {row["figure"]: row["value"] for row in csv.DictReader(file) if row["of"] == "bundle"}
    assert int(figures["parameters"]) == costs["parameters"] > 0
    assert float(figures["seconds"]) == pytest.approx(costs["seconds"]["value"], abs=1e-6)
    cells = ["ours", f"{costs['parameters']:,}", f"{costs['fused']:,}", "–", f"{costs['seconds']['value']:.2f}"]
    assert cells in [line.split() for line in printed.splitlines()]
    voxels = int(np.count_nonzero(sitk.GetArrayFromImage(labels) == 2))
    assert written["cases"][0]["tumour"]["predicted_voxels"] == voxels
    again = main(
        ["evaluate", str(out / "predictions"), str(tmp_path / "references"), "-o", str(tmp_path / "b"), "--no-html"]
    )
    assert again == code
    assert json.loads((tmp_path / "b" / "evaluation.json").read_text(encoding="utf-8"))["cases"] == written["cases"]


@pytest.mark.parametrize("factor", ["0", "-1", "nan", "inf"])
def test_a_sensitivity_that_is_none_is_refused_and_an_earlier_report_stays(factor, capsys, case, tiny_bundle, tmp_path):
    case("a")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "evaluation.json").write_text("earlier", encoding="utf-8")
    data = ["--bundle", str(tiny_bundle), "--data", str(tmp_path / "references")]
    with pytest.raises(SystemExit) as caught:
        main(["evaluate", "-o", str(tmp_path / "out"), "--no-html", *data, "--sensitivity", factor])
    assert caught.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"--sensitivity: wanted a number above 0, got '{factor}'")
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == {"evaluation.json": "earlier"}


def test_label_maps_without_scans_have_pictures_too(evaluate, case, tmp_path) -> None:
    case("a", found=1)
    (tmp_path / "references" / "a.nii.gz").unlink()
    (tmp_path / "references" / "a_labels.nii.gz").rename(tmp_path / "references" / "a.nii.gz")
    assert evaluate()[0] == 0
    assert "data:image/jpeg" in (tmp_path / "out" / "evaluation.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_patients_right_is_on_the_left_of_a_picture_however_the_scan_lies(
    tmp_path, ellipsoid_scan, mirrored
) -> None:
    direction = (-1, 0, 0, 0, 1, 0, 0, 0, 1) if mirrored else (1, 0, 0, 0, 1, 0, 0, 0, 1)
    towards_right = (30.0 if mirrored else -30.0, 0, 0)  # LPS: the patient's right is at negative x
    labels = ellipsoid_scan(direction=direction, lesions=((towards_right, 9.0),))[1]
    sitk.WriteImage(labels, str(tmp_path / "a.nii.gz"))
    sitk.WriteImage(labels > 0, str(tmp_path / "b.nii.gz"))
    (reference,) = find_cases(tmp_path, "nifti")[:1]
    (picture,) = pictures(Pair(reference, tmp_path / "b.nii.gz"))
    numbers = [float(n) for n in re.findall(r"[\d.]+", picture.curves["reference-tumour"])]
    across, down = numbers[::2], numbers[1::2]
    assert max(across) < picture.size_mm[0] / 2
    assert (min(down) + max(down)) / 2 == pytest.approx(picture.size_mm[1] / 2, abs=4)
    assert picture.curves["prediction-tumour"] == ""


def test_a_bundle_and_a_folder_of_predictions_are_not_asked_for_at_once(evaluate, case) -> None:
    case("a")
    code, _, err = evaluate("--bundle", "default")
    assert code == 2
    assert "wanted either PRED_DIR and REF_DIR or --bundle and --data, got both" in err


def test_a_case_may_be_called_like_a_formula_that_is_none(evaluate, case, tmp_path) -> None:
    case("$a_{b$")
    code, _, error = evaluate()
    assert (code, error) == (0, "")
    assert "$a_{b$" in (tmp_path / "out" / "evaluation.html").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="asks for a process group")
def test_processes_of_a_killed_evaluation_end_too(case, tmp_path) -> None:
    for number in range(12):
        case(f"c{number}")
    folders = [str(tmp_path / name) for name in ("predictions", "references")]
    command = [sys.executable, "-m", "LiverTumorSegLib", "evaluate", *folders, "-o", str(tmp_path / "out")]
    child = subprocess.Popen([*command, "--workers", "2", "--json"], stdout=subprocess.PIPE, start_new_session=True)
    child.stdout.readline()  # the first case is done: its processes are there
    child.kill()
    child.wait()
    until = time.monotonic() + 20
    while (left := group_is_alive(child.pid)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not left


def group_is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
