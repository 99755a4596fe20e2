"""A study's report, made from a simulated study whose every number is known by hand."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path

import pytest

from LiverTumorSegLib.correction import page
from LiverTumorSegLib.correction.charts import Scale, dice_bars, round_step, scale_from_zero
from LiverTumorSegLib.correction.page import page_of, write_study_report
from LiverTumorSegLib.correction.paired import association, mean_and_sd, paired_difference, slope
from LiverTumorSegLib.correction.study import Study
from LiverTumorSegLib.errors import OutputError
from simulated_study import abdomen, clock_on_day, make_study, read_next

pytest.importorskip("jinja2", reason="needs the extra `report`")
pytest.importorskip("scipy", reason="needs the extra `report`")

# One lesion; two lesions; none.
TRUTHS = {
    "c1": [((12, 20, 24), 3)],
    "c2": [((10, 18, 20), 2), ((14, 22, 30), 2)],
    "c3": [],
}
# The model draws the first as it is, misses the second of c2 and invents one in c3.
STARTS = {"c1": TRUTHS["c1"], "c2": TRUTHS["c2"][:1], "c3": [((12, 20, 24), 1)]}
# Seconds of editing (liver, tumour) by reader and arm; 10 s of looking come before.
SECONDS = {
    ("R1", "manual"): (470, 120), ("R1", "correct"): (200, 90),
    ("R2", "manual"): (890, 300), ("R2", "correct"): (380, 210),
}  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("study")
    starts = {code: abdomen(lesions) for code, lesions in STARTS.items()}
    more = {"washout_days": 7, "notice": "Simulated <readers>"}
    study = make_study(folder, TRUTHS, starts, ["R1", "R2"], **more)
    for reader in ("R1", "R2"):
        for number in range(6):
            clock = clock_on_day(number % 3 + 30 * (number // 3))
            reading = study.next(reader, clock).reading
            read_next(study, reader, clock, abdomen(TRUTHS[reading.case]), *SECONDS[reader, reading.arm])
    return study


@pytest.fixture(scope="module")
def report(study: Study) -> tuple[dict, Path]:
    write_study_report(study, study.folder / "report")
    text = (study.folder / "report" / "report.json").read_text(encoding="utf-8")
    return json.loads(text), study.folder / "report"


def test_times_are_minutes_of_work_by_arm_and_segment(report) -> None:
    times = report[0]["times"]
    # Sessions of 10 and 20 minutes from scratch, of 5 and 10 minutes correcting; three cases each.
    assert times["manual"]["total"] == {
        "sessions": 6, "median": 15.0, "low": 10.0, "high": 20.0, "mean": 15.0,
        "sd": pytest.approx(math.sqrt(6 * 25 / 5)),
    }  # fmt: skip
    assert [times["correct"][part]["median"] for part in ("total", "liver", "tumour", "no_segment", "idle")] == [
        pytest.approx(value) for value in (7.5, (200 + 380) / 120, (90 + 210) / 120, 10 / 60, 0)
    ]


def test_time_saved_is_paired_by_case_with_readers_averaged(report) -> None:
    (saved,) = report[0]["saved"]
    assert (saved["baseline"], saved["arm"], saved["readings"]) == ("manual", "correct", 6)
    assert [row["saved"] for row in saved["cases"]] == [7.5, 7.5, 7.5]
    assert saved["difference"]["median"] == 7.5
    assert saved["difference"]["low"] is None  # three cases give no interval
    assert saved["difference"]["p_value"] == pytest.approx(0.25)  # 2 of the 8 ways to put signs
    assert saved["median_percent"] == 50


def test_accuracy_is_the_start_against_the_corrected_over_volumes(report) -> None:
    table = report[0]["accuracy"]["correct"]
    assert table["liver"]["dice"] == {"volumes": 3, "mean": 1.0, "sd": 0.0}
    # A ball of radius 2 has 33 voxels: c2's Dice is 2 * 33 / (66 + 33). c1: 1; c3: nothing right of what was drawn: 0.
    assert table["tumour"]["dice"]["mean"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert table["tumour"]["sensitivity"] == {"volumes": 2, "mean": 0.75, "sd": pytest.approx(0.5 / math.sqrt(2))}
    assert table["tumour"]["precision"] == {"volumes": 3, "mean": pytest.approx(2 / 3), "sd": pytest.approx(3**-0.5)}
    assert report[0]["dice_by_case"]["correct"]["c2"] == {"liver": 1.0, "tumour": pytest.approx(2 / 3)}
    assert "manual" not in report[0]["accuracy"]


def test_lesions_are_counted_under_three_rules(report) -> None:
    wanted = {"found": 4, "missed": 2, "false_positive": 2, "split": 0, "merged": 0}  # two readers
    assert report[0]["lesions"]["correct"] == {"half": wanted, "overlap": wanted, "iou": wanted}


def test_time_against_burden_has_a_point_a_case(report) -> None:
    burden = report[0]["burden"]["correct"]
    assert burden["lesions"]["points"] == [["c1", 1.0, 7.5], ["c2", 2.0, 7.5], ["c3", 0.0, 7.5]]
    assert burden["lesions"]["rho"] is None  # every case took the same time
    # A ball of radius 3 in voxels of 2 x 2 x 3 mm: seven voxels along the longest axis.
    assert burden["largest_mm"]["points"][0][1] == pytest.approx(7 * 3)


def test_readers_agree_and_learn_as_they_were_made_to(report) -> None:
    agreement = report[0]["agreement"]["manual"]
    assert [row["readers"] for row in agreement["pairs"]] == [["R1", "R2"]] * 3
    assert agreement["tumour_dice"] == {"volumes": 3, "mean": 1.0, "sd": 0.0}
    learning = report[0]["learning"]
    assert [point["order"] for point in learning["R1"]["points"]] == [1, 2, 3, 4, 5, 6]
    assert all(point["share"] == pytest.approx(2 / 3) for point in learning["R1"]["points"])
    assert learning["R2"]["percent_a_session"] == pytest.approx(0)


def test_the_tables_hold_the_same_numbers(report) -> None:
    _, folder = report
    with (folder / "times.csv").open(encoding="utf-8", newline="") as file:
        rows = {(row["arm"], row["part"]): row for row in csv.DictReader(file)}
    assert rows["manual", "total"]["median"] == "15.0"
    with (folder / "sessions.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == 12
    assert {path.name for path in folder.iterdir()} == {
        "report.html", "report.json", "sessions.csv", "accuracy.csv", "times.csv", "lesions.csv",
        "time_saved.csv", "agreement.csv", "learning.csv", "left_out.csv",
    }  # fmt: skip


def test_the_page_stands_alone_and_shows_the_numbers(report) -> None:
    text = (report[1] / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"<script|<link|<img|src=|https?:", text)
    assert "Simulated &lt;readers&gt;" in text
    for words in ("12 of 12 readings finished", "7.5", "c3", "Nothing: every planned reading is finished", "p 0.250"):
        assert words in text
    # Figures: pairs, stacked minutes, Dice of every case, two scatters, learning.
    assert text.count("<svg ") == 6
    assert text.count('class="bar liver"') == 2 + 3
    assert text.count('<circle class="dot r0"') == 6


def test_what_is_left_out_is_listed_with_its_reason(study: Study) -> None:
    reads = list(study.reads())
    folder = study.session_folder(reads[3].reading)
    journal = (folder / "journal.jsonl").read_bytes()
    (folder / "journal.jsonl").write_bytes(journal.replace(b'"voxels_added":50', b'"voxels_added":51', 1))
    try:
        files, summary = write_study_report(study, study.folder / "second")
    finally:
        (folder / "journal.jsonl").write_bytes(journal)
    (left_out,) = summary["left_out"]
    assert (left_out["reader"], left_out["position"], left_out["why"]) == ("R1", 4, "unsound")
    assert "line 3: wanted the line as it was written" in left_out["detail"]
    assert summary["finished"] == 11
    assert "line 3: wanted the line as it was written" in files[0].read_text(encoding="utf-8")
    assert "R1,c" in (study.folder / "second" / "left_out.csv").read_text(encoding="utf-8")


def test_a_study_that_nobody_read_has_a_report_too(tmp_path: Path) -> None:
    study = make_study(tmp_path, {"c1": []}, {"c1": abdomen([])}, ["R1"])
    files, summary = write_study_report(study, tmp_path / "report")
    text = files[0].read_text(encoding="utf-8")
    assert "No reading has been finished yet" in text
    assert [each["why"] for each in summary["left_out"]] == ["not read", "not read"]
    clock = clock_on_day(0)
    read_next(study, "R1", clock, abdomen([]), 30, 30)
    assert "<svg " in page_of(write_study_report(study, tmp_path / "report")[1])


def test_without_jinja_the_report_says_what_to_install(report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    with pytest.raises(OutputError, match="needs jinja2: install it with: pip install"):
        page.page_of(report[0])


def test_paired_differences_have_their_exact_interval() -> None:
    # 1 to 8: Walsh averages 1, 1.5, 2, 2, ...; 95 % take the 4th smallest and largest (tables of the signed-rank test).
    found = paired_difference([1, 2, 3, 4, 5, 6, 7, 8])
    averages = sorted((a + b) / 2 for a in range(1, 9) for b in range(a, 9))
    assert (found.median, found.low, found.high) == (4.5, averages[3], averages[-4])
    assert found.p_value == pytest.approx(2 / 2**8)
    assert paired_difference([0.0, 0.0]).p_value is None
    with pytest.raises(ValueError, match="wanted at least one, got none"):
        paired_difference([])


def test_small_statistics_are_as_by_hand() -> None:
    assert mean_and_sd([1.0, 3.0, None, math.nan]) == (2, 2.0, pytest.approx(math.sqrt(2)))
    assert mean_and_sd([]) == (0, None, None)
    assert mean_and_sd([5.0]) == (1, 5.0, None)
    assert association([1, 2, 3, 4], [1, 3, 2, 4]).rho == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert association([1, 2], [1, 2]).rho is None
    assert slope([1, 2, 3], [1, 2, 9]) == 4  # slopes 1, 7 and 4
    assert slope([1, 1], [1, 2]) is None


def test_axes_have_round_ticks_and_bars_the_height_of_their_value() -> None:
    assert [round_step(rough) for rough in (0.011, 0.2, 3, 5, 51)] == [0.02, 0.2, 5, 5, 100]
    assert [tick.text for tick in Scale(0, 1, 100, 0).ticks()] == ["0", "0.2", "0.4", "0.6", "0.8", "1"]
    assert scale_from_zero([7.0, 23.0], 0, 100).high == 25
    figure = dice_bars({"c1": {"liver": 1.0, "tumour": 0.5}, "c2": {"liver": 0.75, "tumour": None}})
    top, bottom = figure.plot[1], figure.plot[3]
    shares = [bar.height / (bottom - top) for bar in figure.bars]
    assert shares == [pytest.approx(share, abs=1e-3) for share in (1, 0.5, 0.75)]
