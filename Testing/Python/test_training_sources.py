"""Patches of synthetic scans: the same for the same number, on the stage's own grid, and around what it looks at."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from LiverTumorSegLib.errors import LiverTumorSegWarning, RecipeError, TrainingError
from LiverTumorSegLib.recipe import Axis, Grid, Phase, Recipe, Sampling
from LiverTumorSegLib.training.patches import TypicalScan
from LiverTumorSegLib.training.sources import SyntheticSource
from LiverTumorSegLib.training.synthesis import library as bodies
from LiverTumorSegLib.training.synthesis.anatomy import LIVER_TISSUES, Anatomy
from LiverTumorSegLib.training.synthesis.body import complete_body
from LiverTumorSegLib.training.synthesis.generator import Field, sampled_tissues
from LiverTumorSegLib.training.synthesis.holdout import held_out
from LiverTumorSegLib.training.synthesis.library import AnatomyLibrary, build_library, open_library
from LiverTumorSegLib.training.synthesis.shapes import tissue_mask
from LiverTumorSegLib.training.trainer import Run, train
from training_cases import RECIPE, trained

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> AnatomyLibrary:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bodies, "complete_body", functools.partial(complete_body, tall=False))
        return build_library(tmp_path_factory.mktemp("bodies"), None, variants=1, held_out=1, procedural=2, seed=1)


def with_stage(patch=(16, 16, 8), augmentation: str = "none", **changes) -> Recipe:
    """The recipe with another second stage."""
    recipe = trained(patch=patch, augmentation=augmentation)
    channels = changes.get("context_slices", 1)
    arguments = {**recipe.stages[1].arguments, "in_channels": channels}
    stage = dataclasses.replace(recipe.stages[1], arguments=arguments, **changes)
    return dataclasses.replace(recipe, stages=(recipe.stages[0], stage))


def axes(i: Axis, j: Axis, k: Axis) -> Grid:
    return Grid(axes=(i, j, k))


def test_no_body_is_in_training_and_validation(library):
    sources = [{name.split("_")[0] for name in names} for names in (library.training, library.validation)]
    assert sources[0].isdisjoint(sources[1])
    assert all(sources)


def test_what_decides_is_of_other_sources_than_what_is_chosen_on(quick, tmp_path):
    library = build_library(tmp_path, None, variants=2, held_out=5, procedural=7)
    assert library.tuning == ("002_0.npy", "002_1.npy", "003_0.npy", "003_1.npy")
    assert library.deciding == tuple(f"00{n}_{variant}.npy" for n in (4, 5, 6) for variant in (0, 1))
    assert {*library.tuning, *library.deciding} == {*library.validation}


def test_networks_are_judged_on_the_tuning_side_and_whole_scans_are_of_the_side_that_is_asked_for(
    quick, tmp_path, monkeypatch
):
    library, loaded = build_library(tmp_path, None, variants=2, held_out=5, procedural=7), []
    patches = SyntheticSource(library, RECIPE).patches
    assert patches(0, 0, 4, validation=True).names == library.tuning
    assert patches(0, 0, 4).names == library.training

    def load(self, name):
        loaded.append(name)
        raise KeyboardInterrupt

    monkeypatch.setattr(AnatomyLibrary, "load", load)
    for deciding, names in ((False, library.tuning), (True, library.deciding)):
        loaded.clear()
        for number in range(60):
            with pytest.raises(KeyboardInterrupt):
                held_out(number, tmp_path, deciding)
        assert {*loaded[::2]} == {*loaded[1::2]} == {*names}  # CT and MR of all of them


def test_with_one_source_for_validation_everything_is_chosen_and_decided_on_it(library):
    assert library.tuning == library.deciding == library.validation


def test_a_library_is_not_drawn_twice(library):
    before = {path: path.stat().st_mtime_ns for path in library.folder.iterdir()}
    again = build_library(library.folder, None, variants=1, held_out=1, procedural=2, seed=1)
    assert again == library
    assert {path: path.stat().st_mtime_ns for path in library.folder.iterdir()} == before


@pytest.fixture
def quick(monkeypatch) -> None:
    """Draw bodies of eight voxels of one value that follows from the seed."""

    def drawn(organs, rng):
        return Anatomy(np.full((2, 2, 2), rng.integers(256), np.uint8), "drawn")

    monkeypatch.setattr(bodies, "procedural_organs", lambda rng: None)
    monkeypatch.setattr(bodies, "complete_body", drawn)


def voxels(library: AnatomyLibrary) -> list[int]:
    names = (*library.training, *library.validation)
    return [int(np.load(library.folder / name)[0, 0, 0]) for name in names]


def test_a_redraw_that_is_broken_off_leaves_no_library_of_two_seeds(quick, tmp_path):
    def broken_off(done, count):
        raise KeyboardInterrupt

    draw = functools.partial(build_library, tmp_path / "mine", None, variants=1, held_out=1, procedural=3)
    first = voxels(draw(seed=1))
    assert first == voxels(draw(seed=1)) != voxels(build_library(tmp_path / "other", None, 1, 1, 3, seed=2))
    with pytest.raises(KeyboardInterrupt):
        draw(seed=2, progress=broken_off)
    assert voxels(draw(seed=1)) == first


def test_bodies_are_drawn_again_where_the_index_is_damaged(quick, tmp_path):
    draw = functools.partial(build_library, tmp_path, None, variants=1, held_out=1, procedural=2)
    library = draw()
    for damage in (b'{"settings": {"la', b"\xff", b"[]"):
        (tmp_path / bodies.INDEX).write_bytes(damage)
        assert draw() == library


def write_label_maps(folder: Path, *sizes: int) -> Path:
    (folder / "labelmaps_btcv").mkdir(parents=True)
    for number, size in enumerate(sizes):
        labels = sitk.GetImageFromArray(np.full((2, 2, size), 6, np.uint8))
        sitk.WriteImage(labels, str(folder / "labelmaps_btcv" / f"{number}.nii"))
    return folder


def test_bodies_are_of_the_label_maps_that_are_named(quick, tmp_path):
    one, copy = (write_label_maps(tmp_path / name, 2, 2) for name in ("one", "copy"))
    other = write_label_maps(tmp_path / "other", 2, 3)
    draws = []
    draw = functools.partial(
        build_library, tmp_path / "out", variants=1, held_out=1, progress=lambda *done: draws.append(done)
    )
    first = draw(labelmaps=one)
    assert len(draws) == 2
    assert draw(labelmaps=copy) == first
    assert len(draws) == 2
    index = json.loads((tmp_path / "out" / bodies.INDEX).read_text(encoding="utf-8"))
    assert index["settings"].pop("sources") == first.sources != draw(labelmaps=other).sources
    assert len(draws) == 4
    # An index of an older version does not say what was drawn from.
    (tmp_path / "out" / bodies.INDEX).write_text(json.dumps(index), encoding="utf-8")
    assert draw(labelmaps=one).sources == ""
    assert len(draws) == 4


def test_bodies_of_an_older_drawing_are_opened_with_a_warning(quick, tmp_path, recwarn):
    library = build_library(tmp_path, None, variants=1, held_out=1, procedural=2)
    assert open_library(tmp_path) == library
    assert not recwarn.list
    index = json.loads((tmp_path / bodies.INDEX).read_text(encoding="utf-8"))
    for told, got in ((bodies.DRAWING - 1, bodies.DRAWING - 1), (None, "none")):
        index["settings"]["drawing"] = told
        (tmp_path / bodies.INDEX).write_text(json.dumps(index), encoding="utf-8")
        with pytest.warns(LiverTumorSegWarning, match=f"wanted bodies of drawing {bodies.DRAWING}, got {got}"):
            assert open_library(tmp_path) == library


def test_label_maps_that_leave_none_to_train_on_are_refused_before_anything_is_drawn(quick, tmp_path):
    maps = write_label_maps(tmp_path, 2, 2, 2, 2, 2)
    with pytest.raises(TrainingError, match="label maps: wanted more than the 5 held out for validation, got 5"):
        build_library(tmp_path / "out", maps)
    assert not (tmp_path / "out").exists()


def test_a_field_off_the_centre_shows_the_livers_border_more_often(library):
    anatomy = library.load(library.training[0])

    def middles_in_liver(off_centre: float) -> int:
        field = Field((9, 9, 9), 10.0, "liver", cut=0.0, off_centre=off_centre)
        chances = (np.random.default_rng(seed) for seed in range(60))
        scans = (sampled_tissues(anatomy, field, rng, bend=0.0) for rng in chances)
        return sum(int(tissue_mask(scan, LIVER_TISSUES)[4, 4, 4]) for scan in scans)

    # Some 15 mm along each axis beside a point of the liver, or some 45 mm.
    assert middles_in_liver(0.0) > 36 > 30 > middles_in_liver(1.0) > 6


@pytest.mark.parametrize("augmentation", ["none", "s0"])
def test_a_patch_depends_on_its_number_and_not_on_where_the_stream_began(library, augmentation):
    source = SyntheticSource(library, with_stage(augmentation=augmentation), seed=9)
    stream, later = source.patches(1, 0, 6), source.patches(1, 4, 2)
    for one, two in zip(stream[5], later[1], strict=True):
        assert torch.equal(one, two)
    assert not torch.equal(stream[0][0], stream[1][0])
    assert stream[0][0].shape == stream[0][1].shape == (1, 8, 16, 16)
    assert (stream[0][0].dtype, stream[0][1].dtype) == (torch.float32, torch.uint8)


def test_validation_patches_are_others_and_are_not_augmented(library):
    plain, augmented = (SyntheticSource(library, with_stage(augmentation=name)) for name in ("none", "s0"))
    one, two = (each.patches(1, 0, 1, validation=True)[0] for each in (plain, augmented))
    assert torch.equal(one[0], two[0])
    assert not torch.equal(one[0], plain.patches(1, 0, 1)[0][0])
    assert not torch.equal(plain.patches(1, 0, 1)[0][0], augmented.patches(1, 0, 1)[0][0])


def test_an_anisotropic_grid_follows_the_typical_scan(library):
    grid = axes(Axis(times_own=2.0), Axis(voxels=100), Axis(spacing_mm=5.0))
    typical = TypicalScan(spacing_mm=(0.75, 0.8, 2.5), extent_mm=(400.0, 350.0, 260.0))
    patches = SyntheticSource(library, with_stage((20, 24, 6), grid=grid), typical=typical).patches(1, 0, 1)
    assert patches.spacing_mm == (1.5, 3.5, 5.0)
    field = patches.drawn_field()
    # Drawn with voxels of 1.5 mm: 6 slices of 5 mm are 30 mm, 24 rows of 3.5 mm are 84 mm.
    assert (field.shape, field.spacing_mm) == ((20, 56, 20), 1.5)
    volume, labels = patches[0]
    assert volume.shape == labels.shape == (1, 6, 24, 20)
    assert set(labels.unique().tolist()) <= {0, 1, 2}


def test_a_slice_s_context_is_drawn_and_not_repeated(library):
    source = SyntheticSource(library, with_stage((16, 16, 2), context_slices=5))
    volume, labels = source.patches(1, 0, 1)[0]
    assert volume.shape == (5, 2, 16, 16)
    assert labels.shape == (1, 2, 16, 16)
    # The second slice's neighbours below are the first slice and those of it.
    assert torch.equal(volume[:4, 1], volume[1:, 0])
    assert len({volume[n, 0].sum().item() for n in range(5)}) == 5


def lesion_source(library, sampling):
    grid = axes(Axis(spacing_mm=2.0), Axis(spacing_mm=2.0), Axis(spacing_mm=3.0))
    recipe = with_stage((16, 16, 4), grid=grid, region="lesion")
    training = tuple(dataclasses.replace(each, sampling=sampling) for each in recipe.training)
    return SyntheticSource(library, dataclasses.replace(recipe, training=training))


def sampled_source(library, lesion, liver_without_lesion):
    recipe = trained(patch=(24, 24, 16), sampling=Sampling(lesion, liver_without_lesion))
    return SyntheticSource(library, recipe, seed=4)


def middle_half(labels: torch.Tensor) -> torch.Tensor:
    k, j, i = labels.shape
    return labels[k // 4 : k - k // 4, j // 4 : j - j // 4, i // 4 : i - i // 4]


@pytest.mark.parametrize("stage", [0, 1])
def test_a_stage_that_is_to_see_lesions_has_one_in_the_middle_of_nearly_every_patch_with_liver_there(library, stage):
    stream = sampled_source(library, 1.0, 0.0).patches(stage, 0, 24)
    middles = [middle_half(stream[n][1][0]) for n in range(24)]
    with_liver = [each for each in middles if (each > 0).sum() > 30]
    assert len(with_liver) >= 8
    assert np.mean([bool((each == 2).any()) for each in with_liver]) >= 0.8


@pytest.mark.parametrize("stage", [0, 1])
def test_a_stage_that_is_to_see_livers_without_lesions_sees_none_anywhere(library, stage):
    stream = sampled_source(library, 0.0, 1.0).patches(stage, 0, 12)
    labels = [stream[n][1] for n in range(12)]
    assert not any((each == 2).any() for each in labels)
    assert sum(bool((each == 1).any()) for each in labels) >= 6


def test_what_the_sampling_leaves_open_is_left_to_chance(library):
    stream = sampled_source(library, 0.0, 0.0).patches(1, 0, 24)
    shown = [bool((stream[n][1] == 2).any()) for n in range(24)]
    assert 0.2 < np.mean(shown) < 0.95  # a fifth of livers have none; a lesion may lie beside the patch


def test_every_aim_gives_the_same_patch_for_the_same_number(library):
    source = SyntheticSource(library, trained(sampling=Sampling(0.4, 0.3)), seed=2)
    stream, later = source.patches(1, 0, 9), source.patches(1, 3, 6)
    for number in range(6):  # with these shares all three aims are among them
        for one, two in zip(stream[3 + number], later[number], strict=True):
            assert torch.equal(one, two)


def test_a_stage_for_lesions_sees_the_liver_without_one_as_often_as_its_sampling_says(library):
    source = lesion_source(library, Sampling(lesion=0.0, liver_without_lesion=1.0))
    labels = [source.patches(1, n, 1)[0][1] for n in range(8)]
    assert not any((each == 2).any() for each in labels)
    assert all((each == 1).any() for each in labels)


def test_a_stage_for_lesions_sees_one_in_its_middle(library):
    source = lesion_source(library, Sampling(lesion=1.0, liver_without_lesion=0.0))
    labels = [source.patches(1, n, 1)[0][1][0] for n in range(8)]
    assert all(each.shape == (4, 16, 16) for each in labels)
    centred = [bool((each[1:3, 6:10, 6:10] == 2).any()) for each in labels]
    assert sum(centred) >= 4  # a liver may have no lesion
    assert centred == [bool((each == 2).any()) for each in labels]


def test_a_patch_on_an_isotropic_grid_is_drawn_there_at_once(library):
    field = SyntheticSource(library, RECIPE).patches(0, 0, 1).drawn_field()
    assert (field.shape, field.spacing_mm, field.centre) == ((8, 16, 16), 12.0, "body")


def test_what_synthetic_scans_do_not_have_is_refused(library):
    channels = {**RECIPE.stages[0].arguments, "in_channels": 2}
    stages = tuple(dataclasses.replace(stage, arguments=channels) for stage in RECIPE.stages)
    with pytest.raises(RecipeError, match="wanted a recipe of one phase, as they are, got 1 more"):
        SyntheticSource(library, dataclasses.replace(RECIPE, stages=stages, phases=(Phase("arterial"),)))
    more = dataclasses.replace(RECIPE, label_names=(*RECIPE.label_names, "spleen"))
    with pytest.raises(RecipeError, match=r"wanted the labels background, liver, tumour, as they have, got .*spleen"):
        SyntheticSource(library, more)
    with pytest.raises(RecipeError, match=r"training\[0\].augmentation: wanted one of none, .*, got 'wild'"):
        SyntheticSource(library, trained(augmentation="wild"))


def test_a_run_on_synthetic_scans_with_a_worker_is_the_run_without(tmp_path, library):
    recipe, files = trained(epochs=1), []
    for workers in (0, 1):
        run = Run(recipe, SyntheticSource(library, recipe), tmp_path / str(workers), workers=workers)
        files.append(train(dataclasses.replace(run, validation_patches=2), stages=(0,))[0].read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize(("head", "keeps"), [("monai", False), ("linear", True)])
def test_only_a_linear_head_keeps_how_sure_the_features_before_it_are(head, keeps):
    # MONAI's head normalises every class over the window: features ten times as faint give the same logits.
    from LiverTumorSegLib.networks import build_network

    torch.manual_seed(0)
    network = build_network("unet", {**RECIPE.stages[0].arguments, "head": head}).eval()
    last = network.model[2][-1] if head == "linear" else network.model[2]
    features = torch.randn(1, 4 if head == "linear" else 12, 8, 8, 8)
    with torch.no_grad():
        faint, clear = (last(features * size) - last(features * 0) for size in (0.1, 1.0))
    assert float(faint.std() / clear.std()) == pytest.approx(0.1 if keeps else 1.0, rel=0.05)
    assert np.isfinite(clear.numpy()).all()
