"""The papers' tables: ours by hand, and theirs as they are printed."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from LiverTumorSegLib.evaluation.census import LesionCount, count_lesions, typed_lesions
from LiverTumorSegLib.evaluation.costs import Costs, count_parameters
from LiverTumorSegLib.evaluation.papers import LAYOUTS, paper_tables
from LiverTumorSegLib.evaluation.scores import CaseScore, score_case
from LiverTumorSegLib.evaluation.statistics import Estimate, mean
from LiverTumorSegLib.evaluation.summary import Summary, summarise
from LiverTumorSegLib.evaluation.tables import Table
from LiverTumorSegLib.evaluation.typed import TypedMatching
from LiverTumorSegLib.networks import build_network
from LiverTumorSegLib.recipe import Recipe, Typing, load_recipe
from LiverTumorSegLib.resources import resource_path
from shapes import labels_of, volume_with

LONG = np.s_[5:6, 6:7, 2:10]  # 8 voxels
SHORT = np.s_[1:2, 1:2, 1:3]  # 2 voxels
THIN_MM = (2, 2, 2)  # LONG is 14 to 16 mm long, however its length is taken, and SHORT 2 to 4
CENTIMETRE = (10, 10, 10)  # a voxel is 1 cm³
TYPES = Typing().lesion_types


def case(reference: tuple, prediction: tuple, spacing: tuple = THIN_MM, name: str = "a") -> CaseScore:
    return score_case(*(labels_of(volume_with(*boxes), spacing) for boxes in (reference, prediction)), name=name)


def typed_case(**boxes: tuple) -> CaseScore:
    """Return a case whose reference has boxes of these types, voxels of 1 cm³, found with its types, "a" as "b"."""
    typed = np.ones((12, 14, 16), np.uint8)
    for name, box in boxes.items():
        typed[box] = 2 + TYPES.index(name)
    labels = labels_of(typed > 1, CENTIMETRE)
    lesions = typed_lesions(typed, labels, Typing())
    matching = TypedMatching(tuple((name, name) for name in boxes), (), "hcc", "hcc")
    return dataclasses.replace(score_case(labels, labels, name="typed"), typed_lesions=lesions, typed=matching)


def table(key: str, title: str, summary: Summary, same_data: bool = False) -> Table:
    tables = paper_tables(key, summary, same_data)
    return next(each for each in tables if each.title.partition(":")[0] == title)


def recipe(name: str) -> Recipe:
    return load_recipe(resource_path("Recipes", f"{name}.json"))


def test_s0_counts_lesions_under_five_millimetres_as_five_to_ten() -> None:
    summary = summarise([case((LONG, SHORT), (SHORT,))])
    rows = {row[1]: row[2:] for row in table("S0", "S0, table 3", summary).rows}
    assert rows == {
        "5–10 mm": ("1.000", "1.000", "1.000", "1.000"),
        # Missed, and nothing of that size predicted: no precision, so no F1.
        "10–30 mm": ("0.000", "0.000", "–", "0.000"),
        "> 30 mm": ("–", "–", "–", "–"),
    }
    counts = {row[0]: row[1:] for row in table("S0", "S0, table 2", summary).rows}
    assert counts["5–10 mm"] == ("–",) * 6 + ("1",)
    assert counts["10–30 mm"] == ("–",) * 6 + ("1",)
    assert "These references name no types." in table("S0", "S0, table 2", summary).notes


def test_lesions_that_touch_are_counted_apart_where_their_types_differ() -> None:
    halves = {"hcc": np.s_[5:6, 6:7, 2:6], "cyst": np.s_[5:6, 6:7, 6:10]}
    (whole,) = typed_case(**halves).lesions
    assert whole.lesion.voxels == 8
    lesions = typed_case(**halves).typed_lesions
    assert lesions is not None
    assert [(each.type, each.voxels) for each in lesions] == [("hcc", 4), ("cyst", 4)]


def test_s0s_second_table_and_s3s_first_count_lesions_by_size_and_type() -> None:
    # Of 8, 2 and 1 cm³, the first 70 to 80 mm long and the last 10 or less, however that is taken.
    cases = [typed_case(hcc=LONG, other=SHORT), typed_case(hcc=np.s_[0:1, 0:1, 0:1])]
    summary = summarise(cases)
    by_type = {row[0]: row[1:] for row in table("S3", "S3, table I", summary).rows}
    heads = table("S0", "S0, table 2", summary).columns[1:]
    long_ones = dict(zip(heads, table("S0", "S0, table 2", summary).rows[2][1:], strict=True))
    assert (long_ones["HCC"], long_ones["Other"], long_ones["All"]) == ("1", "0", "1")
    assert by_type["hcc"] == ("1", "0", "1", "0", "0", "0", "2")
    assert by_type["other"] == ("1", "0", "0", "0", "0", "0", "1")
    assert by_type["All"] == ("2", "0", "1", "0", "0", "0", "3")
    assert by_type["Malign"] == by_type["hcc"]


def test_without_types_in_one_reference_all_lesions_are_counted_without() -> None:
    counts = count_lesions([typed_case(hcc=LONG), case((LONG,), (), CENTIMETRE)])
    assert LesionCount("", "4–8 cm³", 2) in counts
    assert {each.type for each in counts} == {""}


def test_s1_prints_networks_lesions_and_seconds_with_loading() -> None:
    summary = summarise([case((LONG, SHORT), (SHORT,))])
    assert table("S1", "S1, figure 8", summary).rows == (("tumor", "1", "1"), ("no tumor", "0", "–"))
    subjects = {row[1]: row[2:] for row in table("S1", "S1, tables 1 and 2", summary).rows}
    assert subjects["Tumors"] == ("0.200", "1.000", "0.333")  # 2 of 10 voxels; one case has no SD
    assert table("S1", "S1, section 4", summary).rows == (("ours", "–"),)
    timed = dataclasses.replace(summary, costs=Costs(None, None, 1.5, mean([2.0, 4.0], ["p", "q"]), "cpu"))
    assert table("S1", "S1, section 4", timed).rows == (("ours", "4.50 ± 1.41"),)  # 1.5 + 3; the root of 2


def test_s2_prints_parameters_and_seconds_where_a_bundle_made_the_predictions() -> None:
    summary = summarise([case((LONG,), (LONG,))])
    alone = table("S2", "S2, tables 5 and 9", summary)
    assert alone.rows == (("ours", "–", "–", "–", "–"),)
    assert alone.notes == ("Known only where --bundle made the predictions.",)
    costs = Costs(4_790_584, 3_258_648, 1.0, Estimate(2.5, math.nan, math.nan, 1), "cpu")
    known = table("S2", "S2, tables 5 and 9", dataclasses.replace(summary, costs=costs))
    assert known.rows == (("ours", "4,790,584", "3,258,648", "–", "2.50"),)


def test_a_recipes_parameters_are_those_of_all_its_networks_with_branches_and_with_them_folded() -> None:
    pytest.importorskip("torch")
    chosen = recipe("s2_elanres_msca_as_printed")
    both = [build_network(stage.network, stage.arguments) for stage in chosen.stages]
    trained, fused = count_parameters(chosen)
    assert trained is not None
    assert fused is not None
    assert trained == sum(each.numel() for network in both for each in network.parameters())
    # What folding saves is the same for any number of classes: 4,790,584 become 3,258,648 with three.
    assert (len(both), trained - fused) == (2, 2 * (4_790_584 - 3_258_648))


@pytest.mark.parametrize("key", LAYOUTS)
def test_every_printed_row_fits_a_table_and_is_shown_only_for_the_same_data(key: str) -> None:
    summary = summarise([typed_case(hcc=LONG)])
    ours, both = paper_tables(key, summary), paper_tables(key, summary, same_data=True)
    printed = LAYOUTS[key].printed
    assert set(printed) <= {each.title for each in ours}
    for own, with_theirs in zip(ours, both, strict=True):
        assert with_theirs.rows == (*own.rows, *printed.get(own.title, ()))
        assert {len(row) for row in with_theirs.rows} == {len(own.columns)}
    assert "not shown" in ours[-1].notes[-1]
    assert ("not shown" in both[-1].notes[-1]) == (not printed)


@pytest.mark.parametrize(("title", "columns"), [("S3, table I", 8), ("S3, table II", 3), ("S3, table V", 5)])
def test_s3s_printed_types_add_up_to_its_printed_sums(title: str, columns: int) -> None:
    rows = LAYOUTS["S3"].printed[title]
    for start in range(0, len(rows), 8):
        group = np.array([[int(cell) for cell in row[1:columns]] for row in rows[start : start + 8]])
        *types, everything, malignant = group
        assert np.array_equal(np.sum(types, axis=0), everything)
        if columns != 5:  # in table V, mistaken for each other malignant ones are right
            assert np.array_equal(np.sum(types[:3], axis=0), malignant)
