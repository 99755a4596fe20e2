"""Patches of measured cases: what inference would see, the labels beside it, and every small lesion."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from LiverTumorSegLib.datasets.cases import DatasetError, read_labels
from LiverTumorSegLib.datasets.layouts import find_cases
from LiverTumorSegLib.datasets.splits import Split, save_split
from LiverTumorSegLib.errors import ImageError, LiverTumorSegWarning, RecipeError
from LiverTumorSegLib.geometry import Box, GridGeometry, fit_grid, resample_to_grid, whole_box
from LiverTumorSegLib.lesions import label_components
from LiverTumorSegLib.preprocessing import scale_intensity, with_context
from LiverTumorSegLib.recipe import Axis, Crop, Grid, Intensity, Phase, Recipe, Sampling, Stage, Training, Typing
from LiverTumorSegLib.training.caching import Cache, Entry
from LiverTumorSegLib.training.measured import MeasuredSource, cut_with_context, inexact_level, open_measured
from LiverTumorSegLib.training.preparing import prepare
from LiverTumorSegLib.training.resampling import resample_labels
from LiverTumorSegLib.windows import Window
from test_datasets import LABELS, WRITERS, image_of, scan_of, write, write_nifti

ANYWHERE = Sampling(lesion=0, liver_without_lesion=0)
TRAINING = Training(patch=(8, 8, 4))
WHOLE = Stage("whole", "unet", Grid(spacing_mm=4.0, multiple_of=2), intensity=Intensity((-100.0, 200.0), scale="unit"))
LIVER = Stage("crop", "unet", Grid(spacing_mm=2.0, multiple_of=2), intensity=Intensity(scale="liver"), region="liver")
RECIPE = Recipe("tiny", "repaired", "a test", (WHOLE, LIVER), Crop(margin_mm=4.0), training=(TRAINING,) * 2)


def source(folder: Path, layout: str = "nifti", recipe: Recipe = RECIPE, seed: int = 3) -> MeasuredSource:
    cases = find_cases(folder, layout)
    return MeasuredSource(recipe, cases[:-1], cases[-1:], Cache(folder.parent / "cache"), seed)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_nifti(tmp_path / "in")
    return tmp_path / "in"


@pytest.mark.parametrize("layout", sorted(set(WRITERS) - {"synthetic"}))
def test_cases_of_every_layout_give_patches_for_every_stage(layout: str, tmp_path: Path) -> None:
    WRITERS[layout](tmp_path / "in")
    patches = source(tmp_path / "in", layout)
    for stage in (0, 1):
        for volume, labels in (patches.patches(stage, 0, 4)[n] for n in range(4)):
            assert (volume.shape, volume.dtype) == ((1, 4, 8, 8), torch.float32)
            assert (labels.shape, labels.dtype) == ((1, 4, 8, 8), torch.uint8)
            assert set(labels.unique().tolist()) <= {0, 1, 2}


def test_a_prepared_case_is_what_inference_shows_the_network(folder: Path) -> None:
    case = find_cases(folder)[0]
    entry = prepare(case, RECIPE, 0, 0)
    scan = case.read_scan()
    geometry = fit_grid(scan, whole_box(scan), WHOLE.grid)
    grey = resample_to_grid(scan, whole_box(scan), geometry, -1024)
    assert np.array_equal(entry.arrays["volume"][0], scale_intensity(grey, WHOLE.intensity, "CT"))
    assert entry.facts["scaled"]
    assert entry.facts["spacing_mm"] == geometry.spacing_mm
    # The scan of 24 x 20 x 40 mm has 6 x 5 x 10 voxels of 4 mm, in multiples of 2.
    assert entry.arrays["labels"].shape == (10, 6, 6)


def test_the_liver_s_box_has_the_training_margin_and_variants_are_off_by_the_jitter(folder: Path) -> None:
    """The liver is 6 x 6 x 6 voxels of 2 x 2 x 5 mm: 12 x 12 x 30 mm."""
    case = find_cases(folder)[0]
    assert prepare(case, RECIPE, 1, 0).arrays["labels"].shape == (20, 10, 10)  # 4 mm more: 2 voxels, 1 slice
    wide = dataclasses.replace(TRAINING, sampling=Sampling(crop=Crop(margin_voxels=1), jitter_mm=2.0))
    recipe = dataclasses.replace(RECIPE, training=(TRAINING, wide))
    assert prepare(case, recipe, 1, 0).arrays["labels"].shape == (20, 8, 8)  # 1 voxel more
    shapes = {prepare(case, recipe, 1, variant).arrays["labels"].shape for variant in range(1, 9)}
    assert len(shapes) > 1
    for k, j, i in shapes:
        assert k == 20  # 2 mm are no whole slice
        assert {j, i} <= {6, 8, 10}


def test_the_network_sees_the_liver_at_0_as_inexactly_as_stage_1_tells_it(folder: Path) -> None:
    still = dataclasses.replace(TRAINING, patch=(10, 10, 20), sampling=Sampling(jitter_mm=0.0))
    recipe = dataclasses.replace(RECIPE, training=(still, still))
    patches = source(folder, recipe=recipe).patches(1, 0, 60)
    levels = [float(volume[labels == 1].median()) for volume, labels in (patches[n] for n in range(60))]
    # A unit is 75 HU, the level's standard deviation 8 HU.
    assert np.mean(levels) == pytest.approx(0, abs=3 * 8 / 75 / np.sqrt(60))
    assert np.std(levels) == pytest.approx(8 / 75, rel=0.3)
    rng = np.random.default_rng(0)
    drawn = [[inexact_level(200.0, kind, rng) for _ in range(1000)] for kind in ("CT", "MR")]
    assert np.std(drawn[0]) == pytest.approx(8, rel=0.1)
    assert np.std(np.log(drawn[1])) == pytest.approx(0.08, rel=0.1)


def test_a_patch_follows_from_seed_stage_and_number_alone(folder: Path) -> None:
    """Whoever cuts it, from wherever the stream began, before or after the cache was lost."""
    varied = dataclasses.replace(TRAINING, augmentation="s0")
    recipe = dataclasses.replace(RECIPE, training=(varied, varied))
    first = source(folder, recipe=recipe)
    stream = [first.patches(1, 0, 6)[n] for n in range(6)]
    again = MeasuredSource(recipe, *first._cases.values(), Cache(folder.parent / "other"), 3)
    loader = DataLoader(again.patches(1, 2, 4), batch_size=None, num_workers=2)
    for (volume, labels), (wanted, truth) in zip(loader, stream[2:], strict=True):
        assert torch.equal(volume, wanted)
        assert torch.equal(labels, truth)
    assert not torch.equal(stream[0][0], stream[1][0])
    other = source(folder, recipe=recipe, seed=4).patches(1, 0, 1)[0]
    assert not torch.equal(other[0], stream[0][0])


def test_validation_takes_each_case_in_turn_and_is_not_augmented(folder: Path) -> None:
    varied = dataclasses.replace(TRAINING, augmentation="s0", patch=(6, 6, 10), sampling=ANYWHERE)
    recipe = dataclasses.replace(RECIPE, training=(varied, varied))
    cases = find_cases(folder)
    patches = MeasuredSource(recipe, cases[:1], cases[1:], Cache(folder.parent / "cache")).patches(0, 0, 4, True)
    for number in range(4):
        whole = prepare(cases[1 + number % 2], recipe, 0, 0)
        assert np.array_equal(patches[number][0].numpy(), whole.arrays["volume"])
        assert np.array_equal(patches[number][1].numpy()[0], whole.arrays["labels"])


def test_half_of_the_patches_show_a_lesion_in_their_middle(folder: Path) -> None:
    training = dataclasses.replace(TRAINING, patch=(2, 2, 2), sampling=Sampling(0.5, 0.5))
    recipe = dataclasses.replace(RECIPE, training=(training, training))
    patches = source(folder, recipe=recipe).patches(1, 0, 200)
    shows = sum(bool((patches[n][1] == 2).any()) for n in range(200))
    assert shows / 200 == pytest.approx(0.5, abs=3 * 0.5 / np.sqrt(200))


# --- small lesions


def ball(diameter_mm: float, spacing: tuple[float, float, float], offset_mm: tuple[float, float, float]) -> sitk.Image:
    """Return a block of liver with a ball of a lesion about its middle, on a grid of 60 x 60 x 60 mm."""
    i, j, k = (np.arange(round(60 / step)) * step - 30 + step / 2 for step in spacing)
    away = (
        (k[:, None, None] - offset_mm[2]) ** 2 + (j[:, None] - offset_mm[1]) ** 2 + (i[None] - offset_mm[0]) ** 2
    ) ** 0.5
    labels = np.where(away <= diameter_mm / 2, 2, 1).astype(np.uint8)
    image = sitk.GetImageFromArray(labels)
    image.SetSpacing(spacing)
    return image


FINE, THICK = (0.8, 0.8, 1.0), (0.75, 0.75, 5.0)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([FINE, THICK]),
    st.floats(5, 12),
    st.tuples(*[st.floats(-3, 3)] * 3),
    st.sampled_from([Grid(spacing_mm=1.5), Grid(spacing_mm=3.0), Grid(spacing_mm=5.0), Grid(shape=(12, 12, 12))]),
)
def test_no_lesion_of_5_mm_or_more_vanishes_on_any_grid(spacing, diameter, offset, grid) -> None:
    labels = ball(diameter, spacing, offset)
    before = label_components(sitk.GetArrayFromImage(labels) == 2)[1]
    geometry = fit_grid(labels, whole_box(labels), grid)
    after = resample_labels(labels, whole_box(labels), geometry, (2,))
    assert label_components(after == 2, 26)[1] >= min(before, 1)
    if grid.spacing_mm == 1.5 and spacing == FINE and diameter > 9:
        volume = np.count_nonzero(after == 2) * geometry.voxel_ml
        wanted = np.count_nonzero(sitk.GetArrayFromImage(labels) == 2) * np.prod(spacing) / 1000
        assert volume == pytest.approx(wanted, rel=0.25)


def test_a_5_mm_lesion_in_5_mm_slices_keeps_its_voxels_where_nearest_neighbours_lose_it() -> None:
    """Of twelve slices a grid of 15 mm has its middles on numbers 1, 4, 7 and 10; the lesion is on number 6 alone."""
    labels = ball(5.0, THICK, (0, 0, 2.5))
    assert np.argwhere(sitk.GetArrayFromImage(labels) == 2)[:, 0].tolist() == [6] * 32
    geometry = fit_grid(labels, whole_box(labels), Grid(axes=(Axis(times_own=1), Axis(times_own=1), Axis(15.0))))
    after = resample_labels(labels, whole_box(labels), geometry, (2,))
    assert label_components(after == 2)[1] == 1
    nearest = sitk.Resample(labels, geometry.image(after), sitk.Transform(), sitk.sitkNearestNeighbor)
    assert not (sitk.GetArrayFromImage(nearest) == 2).any()


def test_every_one_of_many_small_lesions_survives(tmp_path: Path) -> None:
    array = np.ones((12, 60, 60), np.uint8)
    array[2:11:3, 5:56:10, 5:56:10] = 2  # 3 x 6 x 6 lesions of one voxel, 0.75 x 0.75 x 5 mm
    labels = sitk.GetImageFromArray(array)
    labels.SetSpacing(THICK)
    geometry = fit_grid(labels, whole_box(labels), Grid(spacing_mm=3.0, multiple_of=1))
    after = resample_labels(labels, whole_box(labels), geometry, (2,))
    assert label_components(after == 2)[1] == 108


def test_labels_on_the_scan_s_own_grid_stay_what_they_are() -> None:
    geometry = GridGeometry((0.0, 0.0, 0.0), (2.0, 2.0, 5.0), (1.0, 0, 0, 0, 1, 0, 0, 0, 1), (12, 10, 8))
    image = image_of(LABELS)
    assert np.array_equal(resample_labels(image, whole_box(image), geometry, (2,)), LABELS)
    box = Box((0, 0, 0), (12, 5, 8))
    half = resample_labels(image, box, geometry, (2,))
    assert np.array_equal(half[:, :5], LABELS[:, :5])
    assert not half[:, 5:].any()


# --- neighbours, padding, phases, names


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 8), st.integers(-3, 6), st.sampled_from([1, 3, 5]))
def test_a_patch_s_neighbouring_slices_are_those_that_inference_shows(depth, side, start, slices) -> None:
    """The slices have the values 1, 2, 3 ...; padding is 0."""
    volume = np.broadcast_to(np.arange(1, depth + 1, dtype=np.float32)[:, None, None], (1, depth, 2, 2)).copy()
    entry = Entry({"volume": volume, "labels": volume[0].astype(np.uint8)}, {"padding": [0.0]})
    start = min(max(start, 0), depth - side) if side <= depth else (depth - side) // 2
    patch, labels = cut_with_context(entry, Window((start, 0, 0), (side, 2, 2)), slices)
    reach = slices // 2
    shown = with_context(patch, slices)[:, reach : reach + side]
    if side <= depth:
        assert np.array_equal(shown, with_context(volume, slices)[:, start : start + side])
    inside = labels[reach : reach + side, 0, 0].tolist()
    assert inside == [n + 1 if 0 <= n < depth else 0 for n in range(start, start + side)]


def test_a_patch_larger_than_the_case_is_padded_with_what_lies_around_it(folder: Path) -> None:
    training = dataclasses.replace(TRAINING, patch=(16, 16, 16), sampling=ANYWHERE)
    recipe = dataclasses.replace(RECIPE, training=(training, training))
    volume, labels = source(folder, recipe=recipe).patches(0, 0, 1)[0]
    assert volume.shape == (1, 16, 16, 16)
    assert float(volume[0, 0, 0, 0]) == 0  # as air
    assert int(labels.max()) > 0
    crop, labels = source(folder, recipe=recipe).patches(1, 0, 1)[0]
    assert float(crop[0, 15, 15, 15]) == -2  # as air, scaled by the liver's level and clipped


def multiphase(folder: Path) -> None:
    """nnU-Net's raw data with two phases, the second missing in one case, and two types of lesions."""
    types = LABELS.copy()
    types[3:5, 4:6, 5:7] = 3
    for name, count in (("a", 2), ("b", 1)):
        for channel in range(count):
            write(scan_of(channel), folder / "imagesTr" / f"{name}_{channel:04d}.nii.gz")
        write(image_of(types if name == "a" else LABELS), folder / "labelsTr" / f"{name}.nii.gz")
    text = (
        '{"channel_names": {"0": "portal", "1": "Arterial"}, "file_ending": ".nii.gz",'
        ' "labels": {"background": 0, "liver": 1, "HCC": 2, "hemangioma": 3}}'
    )
    (folder / "dataset.json").write_text(text, encoding="utf-8")


def test_further_phases_are_channels_and_a_missing_one_is_0_or_the_case_is_left_out(tmp_path: Path) -> None:
    multiphase(tmp_path / "in")
    arguments = {"in_channels": 2}
    stages = tuple(dataclasses.replace(stage, arguments=arguments) for stage in RECIPE.stages)
    recipe = dataclasses.replace(RECIPE, stages=stages, phases=(Phase("arterial"),))
    one, other = find_cases(tmp_path / "in", "nnunet")
    volumes = [prepare(case, recipe, 0, 0).arrays["volume"] for case in (one, other)]
    assert not np.array_equal(*volumes[0])
    assert (volumes[1][0].any(), volumes[1][1].any()) == (True, False)
    strict = dataclasses.replace(recipe, phases=(Phase("arterial", required=True),))
    patches = MeasuredSource(strict, [one, other], [], Cache(tmp_path / "cache"))
    with pytest.warns(LiverTumorSegWarning, match="b is left out: phase arterial: wanted a scan"):
        patches.patches(0, 0, 1)


def test_types_of_lesions_go_by_their_names_in_the_data_set(tmp_path: Path) -> None:
    multiphase(tmp_path / "in")
    one, other = find_cases(tmp_path / "in", "nnunet")
    names = ("background", "haemangioma", "liver", "hcc")
    assert np.unique(sitk.GetArrayFromImage(one.read_named(names))).tolist() == [0, 1, 2]
    assert np.unique(sitk.GetArrayFromImage(other.read_named(names))).tolist() == [0, 2, 3]
    # A name of the recipe that the data set does not have is in no voxel.
    more = ("background", "liver", "hcc", "cyst", "haemangioma", "spleen")
    assert np.unique(sitk.GetArrayFromImage(one.read_named(more))).tolist() == [0, 1, 4]
    write_nifti(tmp_path / "plain")
    plain = find_cases(tmp_path / "plain")[0]
    wider = plain.read_named(("background", "spleen", "liver", "tumour"))
    assert np.unique(sitk.GetArrayFromImage(wider)).tolist() == [0, 2, 3]
    with pytest.raises(ImageError, match="case_0: labels: wanted liver, hcc, got tumours of no such type"):
        plain.read_named(("background", "liver", "hcc"))


def test_s3_s_second_network_is_shown_its_four_schemes_of_measured_lesions(tmp_path: Path) -> None:
    """Outside the liver all is 0; of four patches two hold a lesion and two hold none."""
    multiphase(tmp_path / "in")
    types = Typing(lesion_types=("hcc", "haemangioma"), malignant=("hcc",), register="none")
    names = ("background", "liver", "hcc", "haemangioma")
    stages = tuple(
        dataclasses.replace(
            stage, arguments={"out_channels": 4}, classes=names, grid=Grid(spacing_mm=2.0, multiple_of=2)
        )
        for stage in RECIPE.stages
    )
    stages = (stages[0], dataclasses.replace(stages[1], region="lesion", intensity=WHOLE.intensity))
    recipe = dataclasses.replace(RECIPE, stages=stages, system="typing", typing=types, label_names=names)
    cases = find_cases(tmp_path / "in", "nnunet")
    patches = MeasuredSource(recipe, cases, [], Cache(tmp_path / "cache")).patches(1, 0, 16)
    for number in range(16):
        volume, labels = patches[number]
        assert volume.shape == (1, 4, 8, 8)
        assert not volume[:, labels[0] == 0].any()
        if number % 4 in (1, 3):
            assert int(labels.max()) < 2
    assert {int(patches[number][1].max()) for number in (0, 8)} <= {2, 3}
    again = MeasuredSource(recipe, cases, [], Cache(tmp_path / "cache")).patches(1, 9, 1)
    assert torch.equal(again[0][0], patches[9][0])


# --- folds and faults


def test_a_fold_of_a_split_is_what_is_validated_on(folder: Path, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    patients = {f"case_{n}": f"case_{n}" for n in range(3)}
    save_split(Split(0, patients, (("case_1",), ("case_0", "case_2"))), tmp_path / "mine.json")
    opened = open_measured(RECIPE, folder, "nifti", 1, cache, splits=tmp_path / "mine.json")
    assert [[case.name for case in opened._cases[use]] for use in (False, True)] == [["case_1"], ["case_0", "case_2"]]
    with pytest.warns(LiverTumorSegWarning, match=r"no splits\.json: 3 folds by chance; livertumorseg dataset check"):
        dealt = [open_measured(RECIPE, folder, "nifti", fold, cache)._cases for fold in range(3)]
    assert sorted(case.name for cases in dealt for case in cases[True]) == ["case_0", "case_1", "case_2"]
    for fold in (-1, 2):
        with pytest.raises(DatasetError, match=f"fold: wanted 0 to 1, got {fold}"):
            open_measured(RECIPE, folder, "nifti", fold, cache, splits=tmp_path / "mine.json")
    (folder / "case_2_labels.nii.gz").unlink()
    with (
        pytest.warns(LiverTumorSegWarning, match="1 of 3 cases have no scan or no labels"),
        pytest.raises(DatasetError, match="wanted the cases of the split, got no case_2"),
    ):
        open_measured(RECIPE, folder, "nifti", 1, cache, splits=tmp_path / "mine.json")


def test_a_patient_in_training_and_validation_is_refused(folder: Path, tmp_path: Path) -> None:
    cases = find_cases(folder)
    with pytest.raises(DatasetError, match="wanted no patient in training and validation, got case_0"):
        MeasuredSource(RECIPE, cases, cases[:1], Cache(tmp_path / "cache"))


def test_a_faulty_case_is_left_out_with_a_warning_and_none_left_is_an_error(folder: Path) -> None:
    write(image_of(LABELS * 0), folder / "case_0_labels.nii.gz")
    moved = image_of(LABELS)
    moved.SetOrigin((0, 0, 5))
    write(moved, folder / "case_1_labels.nii.gz")
    with pytest.warns(LiverTumorSegWarning) as told, pytest.raises(DatasetError, match="got none of 2"):
        source(folder).patches(0, 0, 1)
    assert [str(each.message) for each in told] == [
        "case_0 is left out: labels: wanted a liver, got an empty label map",
        "case_1 is left out: labels: wanted the scan's grid, got origin (0, 0, 5) for the scan's (0, 0, 0)",
    ]
    assert len(source(folder).patches(0, 0, 4, validation=True)) == 4


def test_an_unknown_augmentation_and_a_recipe_without_a_liver_are_one_line(folder: Path) -> None:
    odd = dataclasses.replace(RECIPE, training=(TRAINING, dataclasses.replace(TRAINING, augmentation="cutmix")))
    with pytest.raises(RecipeError, match=r"training\[1\]\.augmentation: wanted one of none, s0, .*, got 'cutmix'"):
        source(folder, recipe=odd)
    spleens = dataclasses.replace(
        RECIPE, stages=(dataclasses.replace(WHOLE, arguments={"out_channels": 2}, classes=("background", "tumour")),),
        training=(TRAINING,), label_names=("background", "spleen", "tumour"),
    )  # fmt: skip
    with pytest.raises(RecipeError, match="wanted liver among them, got background, spleen, tumour"):
        source(folder, recipe=spleens)


def test_the_data_set_s_reader_is_what_labels_are_read_with(folder: Path) -> None:
    assert find_cases(folder)[0].read is read_labels
