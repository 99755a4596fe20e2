"""Lesions with types judged by references with types: S3's table V by its own counts, and by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from LiverTumorSegLib.datasets.layouts import find_cases
from LiverTumorSegLib.evaluation.papers import paper_tables
from LiverTumorSegLib.evaluation.predict import evaluate_bundle
from LiverTumorSegLib.evaluation.run import evaluate_folders
from LiverTumorSegLib.evaluation.typed import TypedCounts, TypedMatching, TypedSummary, match_typed
from LiverTumorSegLib.recipe import Typing
from LiverTumorSegLib.segmenter import Segmenter

TYPES = Typing().lesion_types
NAMES = dict(enumerate(TYPES, 2))
HCC, ICC, METASTASIS, HAEMANGIOMA, OTHER, CYST = NAMES


@pytest.mark.parametrize(
    ("counts", "precision", "recall", "rough"),
    # Rows of S3's table V: TP, FL, FN, FP, and what follows from the printed shares for the labels that came in.
    [
        (TypedCounts(223, 13, 11, 6, 33), 85.1, 90.3, 95.5),
        (TypedCounts(130, 15, 13, 8, 14), 85.5, 82.3, 91.8),
        (TypedCounts(25, 24, 8, 6, 7), 65.8, 43.9, 86.0),
        (TypedCounts(448, 64, 38, 26, 64), 83.3, 81.5, 93.1),
        (TypedCounts(385, 9, 24, 15, 0), 96.3, 92.1, 94.3),
    ],
)
def test_the_formulas_give_the_shares_of_s3s_table_five(
    counts: TypedCounts, precision: float, recall: float, rough: float
) -> None:
    got = [100 * share for share in (counts.precision, counts.recall, counts.rough_recall)]
    assert got == pytest.approx([precision, recall, rough], abs=0.051)


def lesions(*boxes: tuple[int, int, int]) -> np.ndarray:
    """Draw rows of voxels: (value, first, end)."""
    labels = np.zeros((1, 1, 40), np.uint8)
    for value, first, end in boxes:
        labels[0, 0, first:end] = value
    return labels


def test_a_lesion_is_true_falsely_labelled_missed_or_false() -> None:
    reference = lesions((HCC, 0, 3), (ICC, 5, 8), (CYST, 10, 13))
    prediction = lesions((HCC, 1, 4), (METASTASIS, 6, 9), (OTHER, 20, 23))
    matching = match_typed(reference, prediction, NAMES, voxel_ml=1.0)
    assert matching == TypedMatching((("hcc", "hcc"), ("icc", "metastasis"), ("cyst", "")), ("other",), "hcc", "hcc")
    summary = TypedSummary(TYPES, Typing().malignant, (matching,))
    assert summary.of("icc") == TypedCounts(0, 1, 0, 0, 0)
    assert summary.of("metastasis") == TypedCounts(0, 0, 0, 0, 1)
    assert summary.all == TypedCounts(1, 1, 1, 1, 1)
    # As one class the malignant ones are right, even where mistaken for each other.
    assert summary.malign == TypedCounts(2, 0, 0, 0, 0)


def test_of_several_predicted_lesions_its_own_type_counts_and_else_the_larger_part() -> None:
    reference = lesions((HCC, 0, 6), (ICC, 10, 16))
    prediction = lesions((CYST, 0, 4), (HCC, 4, 5), (CYST, 10, 12), (OTHER, 12, 16))
    matching = match_typed(reference, prediction, NAMES, voxel_ml=1.0)
    assert matching.given == (("hcc", "hcc"), ("icc", "other"))
    assert matching.false == ()


def test_lesions_under_half_a_millilitre_count_on_neither_side() -> None:
    reference = lesions((HCC, 0, 4), (CYST, 10, 15))
    prediction = lesions((HCC, 0, 4), (OTHER, 20, 24), (CYST, 10, 11))
    # At 0.1 ml a voxel four voxels are 0.4 ml, five are 0.5 ml.
    matching = match_typed(reference, prediction, NAMES, voxel_ml=0.1)
    # The cyst is touched by a speck of 0.1 ml only.
    assert matching == TypedMatching((("cyst", ""),), (), "cyst", "normal")
    everything = match_typed(reference, prediction, NAMES, voxel_ml=0.1, smallest_ml=0)
    assert everything == TypedMatching((("hcc", "hcc"), ("cyst", "cyst")), ("other",), "hcc", "hcc")


def test_patients_left_undecided_do_not_count() -> None:
    def patient(reference: str, predicted: str) -> TypedMatching:
        return TypedMatching((), (), reference, predicted)

    told = [("hcc", "icc"), ("hcc", "cyst"), ("normal", "normal"), ("cyst", "hcc"), ("icc", "uncertain")]
    summary = TypedSummary(TYPES, Typing().malignant, tuple(patient(*each) for each in told))
    assert summary.patients() == (0.5, 0.5, 1)


def write_image(labels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(labels)
    image.SetSpacing((10.0, 10.0, 10.0))
    sitk.WriteImage(image, str(path))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Return predictions as `livertumorseg segment` writes them and references of an nnU-Net data set, one case."""
    names = {"background": 0, "liver": 1, "hcc": 2, "cyst": 3}
    description = {
        "channel_names": {"0": "CT"},
        "labels": names,
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    references, predictions = tmp_path / "Dataset001_Typed", tmp_path / "predictions"
    typed = np.ones((4, 4, 40), np.uint8)
    typed[1:3, 1:3, 2:6] = 2
    typed[1:3, 1:3, 10:13] = 3
    write_image(typed, references / "labelsTr" / "one.nii.gz")
    write_image(typed.astype(np.int16), references / "imagesTr" / "one_0000.nii.gz")
    (references / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    plain = np.minimum(typed, 2)
    plain[1:3, 1:3, 20:22] = 2
    write_image(plain, predictions / "one" / "segmentation.nii.gz")
    with (predictions / "one" / "lesions.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        # Largest first: 16, 12 and 8 voxels of 1 ml.
        table.writerows([("id", "type"), (1, "hcc"), (2, "metastasis"), (3, "icc")])
    return predictions, references


def test_a_folder_of_typed_results_is_judged_by_a_data_set_that_names_its_labels(folders: tuple[Path, Path]) -> None:
    evaluation = evaluate_folders(*folders, "nnunet", workers=1)
    assert not evaluation.remarks
    (case,) = evaluation.cases
    assert case.typed == TypedMatching((("hcc", "hcc"), ("cyst", "metastasis")), ("icc",), "hcc", "hcc")
    assert case.tumour.reference_voxels == 28
    first, second, fourth, fifth = paper_tables("S3", evaluation.summary, same_data=True)
    # 16 and 12 cm³.
    assert [row for row in first.rows[:8] if row[-1] == "1"] == [
        ("hcc", "0", "0", "0", "1", "0", "0", "1"),
        ("cyst", "0", "0", "0", "1", "0", "0", "1"),
        ("Malign", "0", "0", "0", "1", "0", "0", "1"),
    ]
    rows = {row[0]: row[1:] for row in fifth.rows}
    assert rows["All"] == ("0", "1", "1", "1", "33.3%", "50.0%", "100.0%")
    assert rows["hcc"] == ("0", "0", "0", "1", "100.0%", "100.0%", "100.0%")
    assert [row[0] for row in second.rows][6:9] == ["All", "Malign", "S3, Base, hcc"]
    assert fourth.rows[0] == ("ours", "100.0%", "–")


def test_without_types_the_table_is_by_volume(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    (predictions / "one" / "lesions.csv").unlink()
    evaluation = evaluate_folders(predictions, references, "nnunet", workers=1)
    assert evaluation.cases[0].typed is None
    tables = paper_tables("S3", evaluation.summary)
    assert [table.title for table in tables] == ["S3, table I", "S3, table II by volume", "S3, table IV"]
    # The references' types are known all the same: 12 and 16 cm³.
    assert {row[0]: row[4] for row in tables[0].rows} == {"hcc": "1", "cyst": "1", "All": "2"}


def test_a_bundle_that_tells_no_types_is_judged_by_references_that_do(
    folders: tuple[Path, Path], tiny_bundle: Path, tmp_path: Path
) -> None:
    cases = find_cases(folders[1], "nnunet")
    evaluation = evaluate_bundle(Segmenter(tiny_bundle, device="cpu"), cases, tmp_path / "out", factors=())
    (case,) = evaluation.cases
    assert case.typed is None
    assert case.tumour.reference_voxels == 28
    assert case.typed_lesions is not None
    assert [(each.type, each.voxels) for each in case.typed_lesions] == [("hcc", 16), ("cyst", 12)]


def test_a_prediction_without_lesions_missed_all_of_them(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    livers = np.ones((4, 4, 40), np.uint8)
    write_image(livers, predictions / "one" / "segmentation.nii.gz")
    (predictions / "one" / "lesions.csv").write_text("id,voxels\n", encoding="utf-8")
    evaluation = evaluate_folders(predictions, references, "nnunet", workers=1)
    assert not evaluation.remarks
    expected = TypedMatching((("hcc", ""), ("cyst", "")), (), "hcc", "normal")
    assert evaluation.cases[0].typed == expected
    assert evaluation.summary.typed == TypedSummary(TYPES, Typing().malignant, (expected,))


def test_what_a_report_says_of_the_patient_goes_before_its_worst_lesion(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    report = predictions / "one" / "report.json"
    for said, expected in (('{"patient_class": "uncertain"}', "uncertain"), ("{}", "hcc")):
        report.write_text(said, encoding="utf-8")
        (case,) = evaluate_folders(predictions, references, "nnunet", workers=1).cases
        assert case.typed is not None
        assert case.typed.predicted_class == expected
    for said, complaint in (("{", "report.json: wanted a report of a result"), ('{"patient_class": 1}', "got 1")):
        report.write_text(said, encoding="utf-8")
        (remark,) = evaluate_folders(predictions, references, "nnunet", workers=1).remarks
        assert complaint in remark.text


def test_vessels_of_the_liver_are_liver_in_a_reference_with_types(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    path = references / "labelsTr" / "one.nii.gz"
    typed = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    typed[0, 0, 30:35] = 4
    write_image(typed, path)
    description = json.loads((references / "dataset.json").read_text(encoding="utf-8"))
    description["labels"]["hepatic_vessels"] = 4
    (references / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    (case,) = evaluate_folders(predictions, references, "nnunet", workers=1).cases
    assert (case.liver.reference_voxels, case.liver.values["dice"]) == (4 * 4 * 40, 1)


def test_a_label_other_alone_is_no_lesion_type(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    description = json.loads((references / "dataset.json").read_text(encoding="utf-8"))
    description["labels"] = {"background": 0, "liver": 1, "tumour": 2, "other": 3}
    (references / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    (case,) = evaluate_folders(predictions, references, "nnunet", workers=1).cases
    assert (case.typed, case.tumour.reference_voxels) == (None, 16)


def test_a_table_of_other_lesions_is_remarked_on(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    (predictions / "one" / "lesions.csv").write_text("id,type\n1,hcc\n", encoding="utf-8")
    evaluation = evaluate_folders(predictions, references, "nnunet", workers=1)
    assert [remark.text for remark in evaluation.remarks] == [
        "prediction: lesions.csv: wanted the types of 3 lesions, got 1"
    ]
