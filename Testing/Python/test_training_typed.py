"""S3's training patches: studies with phases and types, four shuffling schemes, and the first network's mistakes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from LiverTumorSegLib.errors import RecipeError
from LiverTumorSegLib.networks import build_network
from LiverTumorSegLib.networks.weights import save_weights
from LiverTumorSegLib.recipe import Axis, Grid, Phase, Recipe, Stage, Training, Typing
from LiverTumorSegLib.training.shuffling import SCHEMES, Scene, scene_of, shuffled_patch
from LiverTumorSegLib.training.synthesis.anatomy import Anatomy, Tissue
from LiverTumorSegLib.training.synthesis.generator import Field
from LiverTumorSegLib.training.synthesis.library import INDEX, AnatomyLibrary
from LiverTumorSegLib.training.synthesis.phases import PATTERNS, PHASES
from LiverTumorSegLib.training.synthesis.typed import typed_study
from LiverTumorSegLib.training.typed import PATCHES_PER_STUDY, SHUFFLED_PER_STUDY, TypedSource

NAMES = ("background", "hcc", "metastasis", "cyst", "liver", "spleen")
LIVER = NAMES.index("liver")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> AnatomyLibrary:
    """Return two bodies: a block of liver beside a block of spleen, in fat."""
    folder = tmp_path_factory.mktemp("bodies")
    tissues = np.full((60, 70, 90), Tissue.VISCERAL_FAT, np.uint8)
    tissues[8:52, 10:60, 10:60] = Tissue.LIVER
    tissues[8:52, 10:60, 66:84] = Tissue.SPLEEN
    for name in ("a.npy", "b.npy"):
        np.save(folder / name, tissues)
    (folder / INDEX).write_text("{}", encoding="utf-8")
    return AnatomyLibrary(folder, ("a.npy",), ("b.npy",))


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    grid = Grid(axes=(Axis(spacing_mm=4, multiple_of=4), Axis(spacing_mm=4, multiple_of=4), Axis(spacing_mm=5)))
    small = {
        "in_channels": 3,
        "filters": [4, 8, 12],
        "kernels": [3, 3, 3],
        "strides": [[1, 1, 1], [2, 2, 1], [2, 2, 1]],
    }
    classes = (NAMES, NAMES[:-1])
    stages = tuple(
        Stage(
            name=name,
            network="dynunet",
            arguments={**small, "out_channels": len(own)},
            grid=grid,
            window=(16, 16, 8),
            classes=own,
            region=region,
        )
        for name, own, region in (("whole", classes[0], "whole"), ("patch", classes[1], "lesion"))
    )
    return Recipe(
        "typed",
        "repaired",
        "a test",
        stages,
        training=(Training(patch=(16, 16, 8), augmentation="s3"), Training(patch=(16, 16, 8))),
        phases=(Phase("arterial"), Phase("venous", required=True)),
        system="typing",
        label_names=NAMES,
        typing=Typing(lesion_types=NAMES[1:4], malignant=NAMES[1:3], in_liver=()),
    )


def test_types_differ_by_their_pattern_over_the_phases() -> None:
    anatomy = Anatomy(np.full((50, 50, 50), Tissue.LIVER, np.uint8), "liver")
    names = ("background", "liver", *PATTERNS)
    told: dict[str, list[np.ndarray]] = {}
    for seed in range(24):
        rng = np.random.default_rng(seed)
        study = typed_study(anatomy, Field((24, 24, 24), 4.0, "liver", cut=0), [*PHASES], names, rng)
        levels = np.median(study.volumes[:, study.labels == 1], axis=1)
        for value, name in enumerate(names[2:], 2):
            if (study.labels == value).sum() > 50:
                inside = np.median(study.volumes[:, study.labels == value], axis=1)
                told.setdefault(name, []).append(inside - levels)
    usual = {name: np.median(values, axis=0) for name, values in told.items()}
    # Plain, arterial, venous, delayed: HCC lights up and washes out, a metastasis stays dark.
    assert usual["hcc"][1] > 10
    assert usual["hcc"][1] > usual["hcc"][2] + 10
    assert max(usual["metastasis"][1:]) < -5


def test_a_name_that_cannot_be_drawn_is_refused() -> None:
    anatomy = Anatomy(np.full((20, 20, 20), Tissue.LIVER, np.uint8), "liver")
    with pytest.raises(RecipeError, match=r"wanted a label among hcc, .*got 'kidney'"):
        typed_study(anatomy, Field((8, 8, 8), 4.0), ["plain"], ("background", "kidney"), np.random.default_rng(0))
    with pytest.raises(RecipeError, match=r"wanted a phase among plain, .*got 'late'"):
        typed_study(anatomy, Field((8, 8, 8), 4.0), ["late"], ("background", "liver"), np.random.default_rng(0))


@pytest.mark.parametrize("stage", [0, 1])
def test_patch_n_is_the_same_whenever_it_is_asked_for(library: AnatomyLibrary, recipe: Recipe, stage: int) -> None:
    source = TypedSource(library, recipe, seed=3)
    whole, late = source.patches(stage, 0, 28), source.patches(stage, 25, 3)
    k, j, i = recipe.training[stage].patch[::-1]
    for n in (25, 27):
        (volume, labels), (again, same) = whole[n], late[n - 25]
        assert volume.shape == (3, k, j, i)
        assert (labels.shape, labels.dtype) == ((1, k, j, i), torch.uint8)
        assert torch.equal(volume, again)
        assert torch.equal(labels, same)
    assert (PATCHES_PER_STUDY, SHUFFLED_PER_STUDY) == (8, 24)  # so that neither is of the first study
    with pytest.raises(IndexError):
        whole[28]


def test_an_optional_phase_is_sometimes_missing_in_training_and_never_in_validation(
    library: AnatomyLibrary, recipe: Recipe
) -> None:
    source = TypedSource(library, recipe, seed=1)
    drawn = source.patches(0, 0, 16)
    training = [drawn[n][0] for n in range(16)]
    dropped = [sum(not volume[channel].any() for volume in training) for channel in range(3)]
    assert dropped[0] == dropped[2] == 0  # the scan, and the phase that is required
    assert 1 <= dropped[1] <= 10
    validation = source.patches(0, 0, 2, validation=True)
    assert all(validation[n][0][channel].any() for n in range(2) for channel in range(3))


def scene(false: bool = False) -> Scene:
    """One HCC of 3 x 4 x 4 voxels in a liver; with `false`, the first network sees something else instead."""
    recipe_names = NAMES[:-1]
    labels = np.zeros((12, 32, 32), np.uint8)
    labels[1:11, 2:30, 2:30] = recipe_names.index("liver")
    labels[4:7, 6:10, 6:10] = recipe_names.index("hcc")
    volume = np.random.default_rng(0).normal(1, 0.01, (2, *labels.shape)).astype(np.float32)
    volume[:, labels == 1] += 1
    seen = None
    if false:
        seen = np.zeros(labels.shape, bool)
        seen[3:5, 20:24, 20:24] = True
        volume[:, seen] += 2
    stage = Stage("s", "dynunet", Grid(spacing_mm=2.0), {"out_channels": 5}, classes=recipe_names)
    typing = Typing(lesion_types=NAMES[1:4], malignant=(), in_liver=())
    made = Recipe("r", "repaired", "", (stage,), system="typing", label_names=recipe_names, typing=typing)
    return scene_of(volume, labels, made, seen)


def test_the_four_schemes_show_the_lesion_or_none_here_or_elsewhere() -> None:
    own = scene()
    assert len(own.lesions) == 1
    home = (own.volume[0] > 1.5).sum()
    for number, scheme in enumerate(SCHEMES):
        for seed in range(4):
            patch, labels = shuffled_patch(own, number, (8, 16, 16), np.random.default_rng(seed))
            assert patch.shape == (2, 8, 16, 16)
            lesion = labels == 1
            assert np.array_equal(patch[0] > 1.5, lesion), scheme
            assert np.array_equal(labels == 0, patch[0] == 0)
            if "positive" in scheme:
                assert 0.9 * home <= lesion.sum() <= 2 * home  # the one that was there may be in sight, too
            else:
                assert not lesion.any()


def test_what_the_first_network_took_for_a_lesion_is_shown_as_liver_and_what_it_missed_as_a_lesion() -> None:
    own = scene(false=True)
    assert (len(own.missed), len(own.false)) == (1, 1)
    bright = []
    for seed in range(20):
        patch, labels = shuffled_patch(own, 1 + 2 * (seed % 2), (8, 16, 16), np.random.default_rng(seed))
        assert set(np.unique(labels)) <= {0, LIVER}
        bright.append(bool((patch[0] > 2.5).any()))
    assert 5 <= sum(bright) <= 18


def test_the_second_stage_learns_from_the_first_ones_weights_once_they_are_there(
    library: AnatomyLibrary, recipe: Recipe, tmp_path: Path
) -> None:
    weights = tmp_path / "whole.best.safetensors"
    source = TypedSource(library, dataclasses.replace(recipe), seed=2, first_weights=weights)
    before = source.patches(1, 1, 1)[0][1]
    torch.manual_seed(0)
    network = build_network("dynunet", recipe.stages[0].arguments)
    with torch.no_grad():
        network.output_block.conv.conv.bias[NAMES.index("hcc")] += 50  # sees nothing but lesions
    save_weights(network, weights, half=False)
    patches = source.patches(1, 0, 8)
    scene_with_mistakes = patches._study(0)[2]
    assert scene_with_mistakes is not None
    assert not scene_with_mistakes.missed
    assert before.shape == patches[1][1].shape
