"""What a data set's fingerprint proposes for a recipe, by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from LiverTumorSegLib import __main__
from LiverTumorSegLib.datasets.check import Fingerprint
from LiverTumorSegLib.recipe import Axis, Crop, Grid, Recipe, Stage, Training, load_recipe, recipe_to_json
from LiverTumorSegLib.resources import resource_path
from LiverTumorSegLib.training.fingerprint import Proposal, propose
from test_datasets import write_nifti


def middle(*values: float) -> tuple[tuple[float, float, float], ...]:
    return tuple((value / 2, value, value * 2) for value in values)


# 100 CTs of 400 x 320 x 500 mm with livers of 200 x 180 x 160 mm.
FOUND = Fingerprint(
    100, 90, {"CT": 100}, {}, middle(0.8, 0.8, 2.5), middle(500, 400, 200), {}, 100.0, 20.0, (1000, 1500, 2000),
    middle(200, 180, 160), 300, (0, 3, 20), (4, 15, 90), {}, 10,
)  # fmt: skip
WHOLE = Stage("whole", "unet", Grid(spacing_mm=4.0, multiple_of=16))
LIVER = Stage("crop", "unet", Grid(spacing_mm=2.0, multiple_of=8), region="liver")


def recipe(*stages: Stage, training: Training) -> Recipe:
    return Recipe("r", "repaired", "a test", stages, Crop(margin_mm=10.0), training=(training,) * len(stages))


def test_a_patch_shrinks_along_its_longest_axis_until_the_recipe_s_voxels_hold_it() -> None:
    """The body has 100 x 80 x 125 voxels of 4 mm, in sixteens 112 x 80 x 128, 1,146,880 in all.

    The recipe's 96 x 96 x 96 are 884,736. Along k: 112 gives 1,003,520; then i and k are equal and the first
    is taken: 96 x 80 x 112 are 860,160.
    """
    training = Training(patch=(96, 96, 96), learning_rate=1e-3)
    assert propose(recipe(WHOLE, training=training), 0, FOUND) == Proposal(
        "whole", (4.0, 4.0, 4.0), (112, 80, 128), (96, 80, 112), 1, 1e-3
    )


def test_the_liver_s_region_has_its_margin_and_what_memory_is_left_makes_the_batch() -> None:
    """220 x 200 x 180 mm at 2 mm are 110 x 100 x 90, in eights 112 x 104 x 96: 1,118,208 voxels.

    Eight times 96 x 96 x 96 x 2 are 14,155,776: 12 patches. From 2 to 12 the rate grows by 6, or by its root.
    """
    training = Training(patch=(96, 96, 96), batch_size=2, learning_rate=0.01)
    both = recipe(WHOLE, LIVER, training=training)
    many = dataclasses.replace(FOUND, cases=400)
    found = propose(both, 1, many, memory=8.0)
    assert (found.size_voxels, found.patch, found.batch_size) == ((112, 104, 96), (112, 104, 96), 12)
    assert found.learning_rate == pytest.approx(0.01 * 6**0.5)
    steep = recipe(WHOLE, LIVER, training=dataclasses.replace(training, optimiser="sgd"))
    assert propose(steep, 1, many, memory=8.0).learning_rate == pytest.approx(0.06)


def test_a_batch_is_no_more_than_a_twentieth_of_the_data() -> None:
    training = Training(patch=(96, 96, 96), batch_size=2)
    few = dataclasses.replace(FOUND, cases=40)  # a twentieth of 40 whole livers are 2
    assert propose(recipe(WHOLE, LIVER, training=training), 1, few, memory=8.0).batch_size == 2


def test_networks_of_single_slices_keep_their_slices_and_axes_follow_the_scans() -> None:
    """S0's grid: 512 voxels across, the scan's own slices; the body's 400 mm are then 0.78 mm a voxel."""
    axes = (Axis(voxels=512, multiple_of=16), Axis(voxels=512, multiple_of=16), Axis(times_own=1.0))
    stage = Stage("slices", "unet", Grid(axes=axes), arguments={"in_channels": 5}, context_slices=5)
    found = propose(recipe(stage, training=Training(patch=(512, 512, 1), batch_size=16)), 0, FOUND)
    assert found.spacing_mm == pytest.approx((400 / 512, 320 / 512, 2.5))
    assert (found.size_voxels, found.patch, found.batch_size) == ((512, 512, 200), (512, 512, 1), 16)


def test_a_fixed_shape_stays_and_has_the_spacing_at_which_the_region_fits() -> None:
    stage = dataclasses.replace(WHOLE, grid=Grid(shape=(128, 128, 92), multiple_of=4))
    found = propose(recipe(stage, training=Training(patch=(128, 128, 92))), 0, FOUND)
    assert found.spacing_mm == pytest.approx((500 / 92,) * 3)
    assert found.patch == (128, 128, 92)


def test_a_patch_for_single_lesions_holds_the_largest_that_is_shown_in_one() -> None:
    """S3 scores lesions of up to 64 ml: a ball of 49.6 mm, with half of that around it 74.4 mm.

    At 0.78 x 0.78 x 5 mm these are 96 x 96 x 16 voxels in the grid's multiples of 32 and 4; the median lesion's 45 mm
    would be 64 x 64 x 12. Two of 128 x 128 x 16 are 524,288 voxels: three patches.
    """
    found = propose(load_recipe(resource_path("Recipes", "s3_multiphase_repaired.json")), 1, FOUND)
    assert (found.patch, found.batch_size) == ((96, 96, 16), 3)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([0, 1]), st.floats(0.01, 50), st.tuples(*[st.integers(8, 128)] * 3), st.integers(1, 8))
def test_a_proposal_fits_the_memory_and_the_grid(stage, memory, patch, batch) -> None:
    training = Training(patch=patch, batch_size=batch)
    each = propose(recipe(WHOLE, LIVER, training=training), stage, FOUND, memory)
    multiple = (16, 8)[stage]
    assert all(
        side % multiple == 0 and 0 < side <= size for side, size in zip(each.patch, each.size_voxels, strict=True)
    )
    voxels = each.patch[0] * each.patch[1] * each.patch[2] * each.batch_size
    smallest = each.patch == (multiple,) * 3
    assert voxels <= memory * patch[0] * patch[1] * patch[2] * batch + 1e-6 or (smallest and each.batch_size == 1)


def test_the_command_prints_the_proposal_for_a_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_nifti(tmp_path / "in")
    path = tmp_path / "recipe.json"
    path.write_text(recipe_to_json(recipe(WHOLE, LIVER, training=Training())), encoding="utf-8")
    assert __main__.main(["dataset", "check", str(tmp_path / "in"), "--recipe", str(path), "--memory", "2"]) == 0
    shown = capsys.readouterr().out
    assert "Proposal for r" in shown
    assert "for 2 times the memory" in shown
    assert __main__.main(["dataset", "check", str(tmp_path / "in"), "--recipe", str(tmp_path / "none.json")]) == 2
