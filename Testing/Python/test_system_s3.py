"""S3's algorithms by hand: votes at two sensitivities, shuffled patches, the second network's verdict, the patient."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from LiverTumorSegLib.detection import Detection, seg2det
from LiverTumorSegLib.errors import RecipeError
from LiverTumorSegLib.networks import build_network
from LiverTumorSegLib.recipe import Typing
from LiverTumorSegLib.systems.lesion_typing.patients import agreed, classify_patient, match
from LiverTumorSegLib.systems.lesion_typing.reclassification import Tissue, least_ml, reclassified, shown
from LiverTumorSegLib.systems.lesion_typing.shuffle import (
    cut_out,
    healed,
    liver_patch,
    room_for,
    transplanted,
    window_holding,
)
from LiverTumorSegLib.systems.lesion_typing.votes import Ballot, Proposal, Votes, propose
from LiverTumorSegLib.windows import Window

OPTIONS = Typing()
CLASSES = ("background", *OPTIONS.lesion_types, "liver", "hepatic_vessels", "spleen")
BALLOT = Ballot.of(CLASSES, OPTIONS.lesion_types, OPTIONS.in_liver)
RNG = np.random.default_rng


def levels(filters: list[int], kernels: list[int], halvings: list[int], phases: int, classes: int) -> int:
    """Count a DynUNet's parameters: two convolutions and two normalisations a level, up again the same, one head."""
    block = lambda a, b, k: (a + b) * b * k + 4 * b  # noqa: E731
    down = sum(block(a, b, k) for a, b, k in zip([phases, *filters], filters, kernels, strict=False))
    pairs = list(zip(filters, filters[1:], kernels[1:], halvings[1:], strict=False))
    up = sum(b * a * h + block(2 * a, a, k) for a, b, k, h in pairs)
    return down + up + filters[0] * classes + classes


@pytest.mark.parametrize("phases", [1, 2, 3, 4])
def test_the_networks_take_one_to_four_phases_and_give_the_papers_classes(phases: int) -> None:
    with torch.device("meta"):  # the count needs no numbers
        whole = build_network("dynunet", {"in_channels": phases, "out_channels": 14})
    count = sum(parameter.numel() for parameter in whole.parameters())
    filters, kernels, halvings = [32, 64, 128, 256, 320, 320], [9, 9, 27, 27, 27, 27], [1, 4, 4, 8, 8, 4]
    assert count == levels(filters, kernels, halvings, phases, 14)
    if phases == 4:
        assert count == 30_555_214


def test_the_patch_network_keeps_sixteen_slices_of_128_and_trains_with_heads_the_answer_last() -> None:
    small = {"in_channels": 4, "out_channels": 8, "filters": [2] * 6, "deep_supervision": 3}
    network = build_network("dynunet", small)
    volume = torch.rand(1, 4, 16, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        heads = network.train()(volume)
        answer = network.eval()(volume)
    assert [tuple(head.shape) for head in heads] == [(1, 8, 16, 128, 128)] * 4
    assert torch.allclose(heads[-1], answer, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernels": [3, 3]}, "wanted 6, one for each of filters, got 2"),
        ({"norm": "group"}, "wanted 'instance' or 'batch', got 'group'"),
        ({"deep_supervision": 4}, "wanted 0 to 3 heads, got 4"),
    ],
)
def test_a_dynunet_that_cannot_be_built_says_why(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build_network("dynunet", arguments)


@given(seed=st.integers(0, 10_000), factor=st.sampled_from([0.5, 1.0, 4.0, 10.0]))
def test_the_vote_is_argmax_over_probabilities_of_which_the_lesions_count_f_times(seed: int, factor: float) -> None:
    logits = RNG(seed).normal(0, 3, (len(CLASSES), 3, 4, 5)).astype(np.float32)
    scaled = np.exp(logits) / np.exp(logits).sum(0)
    scaled[list(BALLOT.lesions)] *= factor
    best = scaled.argmax(0)
    # Where the two highest are nearly equal, half precision may decide otherwise.
    ordered = np.sort(np.log(scaled), axis=0)
    clear = ordered[-1] - ordered[-2] > 0.05
    votes = Votes.counted(BALLOT.count(logits), (1, 1, 1))
    lesions = votes.lesions(factor)
    assert np.array_equal(lesions[clear], np.isin(best, BALLOT.lesions)[clear])
    assert np.array_equal(votes.organ(factor)[clear], np.isin(best, (*BALLOT.lesions, *BALLOT.liver))[clear])
    sure = clear & lesions
    assert np.array_equal(np.array(BALLOT.lesions)[votes.kind[sure]], best[sure])


def test_a_factor_of_four_finds_what_has_a_fifth_of_the_probability_and_the_background_is_not_scaled() -> None:
    # Lesion 0.21, background 0.79: 4 x 0.21 = 0.84 wins; at 0.19, 0.76 loses against 0.81.
    votes = _votes(lesion=np.log([[[0.21 / 0.79, 0.19 / 0.81]]]), liver=np.full((1, 1, 2), -9.0))
    assert votes.lesions(1.0).tolist() == [[[False, False]]]
    assert votes.lesions(4.0).tolist() == [[[True, False]]]


def test_what_was_scaled_is_never_read_as_a_probability() -> None:
    votes = _votes(lesion=np.log([[[0.4 / 0.6]]]), liver=np.full((1, 1, 1), -9.0))
    (found,) = propose(votes, 4.0, np.ones((1, 1, 1), bool))
    # 4 x 0.4 would be 1.6: the score is the plain probability.
    assert found.score == pytest.approx(0.4, abs=1e-3)
    (same,) = propose(votes, 400.0, np.ones((1, 1, 1), bool))
    assert same.score == found.score


def test_slabs_are_counted_one_by_one_as_the_whole_is() -> None:
    logits = RNG(1).normal(0, 2, (len(CLASSES), 6, 3, 3)).astype(np.float32)
    slabs = np.concatenate([BALLOT.count(logits[:, k : k + 2]) for k in (0, 2, 4)], axis=1)
    assert np.array_equal(slabs, BALLOT.count(logits))
    # Three half-precision numbers a voxel in place of ten single-precision ones.
    assert slabs.nbytes * 10 * 4 == logits.nbytes * 3 * 2


def test_hepatic_vessels_count_as_liver_and_a_stage_without_a_type_is_refused() -> None:
    logits = np.zeros((len(CLASSES), 1, 1, 1), np.float32)
    logits[CLASSES.index("hepatic_vessels")] = 3
    assert BALLOT.count(logits)[0, 0, 0, 0] == 3
    with pytest.raises(RecipeError, match="wanted cyst among them"):
        Ballot.of(CLASSES[:6] + CLASSES[7:], OPTIONS.lesion_types, ())


def test_each_proposal_has_the_type_of_most_of_its_voxels() -> None:
    lesion = np.full((1, 1, 7), -9.0)
    lesion[0, 0, [0, 1, 2, 5]] = 5
    kind = np.array([[[2, 1, 2, 0, 0, 3, 0]]], np.uint8)
    votes = dataclasses.replace(_votes(lesion, np.full(lesion.shape, -9.0)), kind=kind)
    assert [(each.kind, each.found.box[2]) for each in propose(votes, 1.0, np.ones(lesion.shape, bool))] == [
        (2, slice(0, 3)),
        (3, slice(5, 6)),
    ]


def _votes(lesion: np.ndarray, liver: np.ndarray) -> Votes:
    half = [np.asarray(each, np.float16) for each in (liver, lesion)]
    return Votes(half[0], half[1], np.zeros(lesion.shape, np.uint8), (5.0, 1.0, 1.0))


def liver_with_a_lesion() -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[slice, ...]]:
    """Give a liver of numbered voxels in two channels, a lesion of 2 x 3 x 3 in it, and where that lies."""
    volume = np.arange(8 * 16 * 16, dtype=np.float32).reshape(1, 8, 16, 16)
    volume = np.concatenate([volume, -volume])
    liver = np.zeros((8, 16, 16), bool)
    liver[1:7, 2:14, 2:14] = True
    box = (slice(2, 4), slice(3, 6), slice(3, 6))
    mask = np.ones((2, 3, 3), bool)
    mask[0, 0, 0] = False
    return volume, liver, mask, box


@given(seed=st.integers(0, 1000))
def test_a_transplanted_lesion_lies_in_healthy_liver_with_its_own_voxels_and_nothing_else_changes(seed: int) -> None:
    volume, liver, mask, box = liver_with_a_lesion()
    healthy = liver.copy()
    healthy[box] &= ~mask
    graft = transplanted(cut_out(volume, box, mask), healthy, RNG(seed))
    assert graft is not None
    assert healthy[graft.box][graft.mask].all()
    assert np.count_nonzero(graft.mask) >= 0.9 * np.count_nonzero(mask)
    window = window_holding(graft.box, liver.shape, (6, 8, 8), RNG(seed))
    patch, own = liver_patch(volume, liver, window, graft)
    assert np.count_nonzero(own) == np.count_nonzero(graft.mask)
    assert np.array_equal(patch[:, own], volume[(slice(None), *box)][:, graft.mask])
    there = tuple(slice(a, a + n) for a, n in zip(window.start, window.size, strict=True))
    plain = volume[(slice(None), *there)] * liver[there]
    assert np.array_equal(patch[:, ~own], plain[:, ~own])


@given(seed=st.integers(0, 1000))
def test_a_healed_lesion_shows_voxels_of_healthy_liver_only(seed: int) -> None:
    volume, liver, mask, box = liver_with_a_lesion()
    healthy = liver.copy()
    healthy[box] &= ~mask
    graft = healed(volume, box, mask, healthy, RNG(seed))
    assert graft is not None
    assert graft.box == box
    assert np.isin(graft.values[0][mask], volume[0][healthy]).all()
    assert np.array_equal(graft.values[1][mask], -graft.values[0][mask])


def test_outside_the_liver_a_patch_is_zero_also_over_the_border_of_the_scan() -> None:
    volume, liver, _, _ = liver_with_a_lesion()
    patch, own = liver_patch(volume + 1, liver, Window((-2, -2, -2), (6, 8, 8)))
    assert patch.shape == (2, 6, 8, 8)
    assert not own.any()
    assert (patch != 0).sum() == 2 * 3 * 4 * 4  # what of the liver begins at (1, 2, 2) lies in the window's far corner


def test_there_is_no_room_for_a_lesion_larger_than_the_healthy_liver() -> None:
    free = np.zeros((4, 4, 4), bool)
    free[1:3, 1:3, 1:3] = True
    assert room_for(np.ones((3, 3, 3), bool), free, RNG(0)) is None
    assert room_for(np.ones((2, 2, 2), bool), free, RNG(0)) is not None


@given(seed=st.integers(0, 1000), low=st.integers(0, 20), length=st.integers(1, 12))
def test_a_window_holds_the_lesion_and_stays_on_the_scan(seed: int, low: int, length: int) -> None:
    box = (slice(low, low + length),) * 3
    window = window_holding(box, (32, 32, 32), (16, 16, 16), RNG(seed))
    for start in window.start:
        assert 0 <= start <= low
        assert low + length <= start + 16 <= 32


def proposal_of(volume: np.ndarray, mask: np.ndarray, box: tuple[slice, ...], ml: float) -> Proposal:
    whole = np.zeros(volume.shape[1:], bool)
    whole[box] = mask
    (found,) = seg2det(whole, whole.astype(float), (1.0, 1.0, 1.0))
    return Proposal(dataclasses.replace(found, volume_ml=ml), 0)


def test_half_of_ten_patches_show_the_lesion_where_it_is_and_half_elsewhere() -> None:
    volume, liver, mask, box = liver_with_a_lesion()
    healthy = liver.copy()
    healthy[box] = False
    tissue = Tissue(volume, liver, healthy)
    found = proposal_of(volume, mask, box, 1.0).found
    own = set(volume[0][box][mask])
    places = []
    for patch, inside in shown(found, mask, tissue, (6, 8, 8), 10):
        assert patch.shape == (2, 6, 8, 8)
        assert set(patch[0][inside]) <= own
        # Where it lies in its own place, its neighbours are its own too: the voxel before its first one.
        k, j, i = np.argwhere(inside)[0]
        places.append(bool(i > 0 and patch[0, k, j, i - 1] == patch[0, k, j, i] - 1))
    assert places[0::2] == [True] * 5
    assert sum(places[1::2]) == 0


@pytest.mark.parametrize(
    ("confirmed", "kept"),
    # Of 1 ml: 0.5 ml are wanted. The second network confirms a share of the lesion's voxels in every patch.
    [(0.0, False), (0.4, False), (0.6, True), (1.0, True)],
)
def test_a_lesion_of_one_millilitre_stays_when_half_of_it_is_confirmed(confirmed: float, kept: bool) -> None:
    volume, liver, mask, box = liver_with_a_lesion()
    tissue = Tissue(volume, liver, liver & False)

    def classify(patch: np.ndarray) -> np.ndarray:
        kinds = np.full(patch.shape[1:], -1)
        lesion = np.isin(patch[0], volume[0][box][mask]) & (patch[0] != 0)
        places = np.argwhere(lesion)[: round(confirmed * lesion.sum())]
        kinds[tuple(places.T)] = 3
        return kinds

    found = reclassified([proposal_of(volume, mask, box, 1.0)], tissue, classify, (6, 8, 8), OPTIONS)
    assert bool(found) == kept
    if kept:
        assert found[0].kind == 3
        assert found[0].score == pytest.approx(confirmed, abs=0.05)


def test_as_printed_nothing_under_half_a_millilitre_survives_and_repaired_its_own_half_is_enough() -> None:
    printed, repaired = Typing(smallest_share=None), Typing(smallest_share=0.5)
    assert [least_ml(ml, printed) for ml in (0.2, 0.4, 3.0)] == [0.5, 0.5, 0.5]
    assert [least_ml(ml, repaired) for ml in (0.2, 0.4, 3.0)] == [0.1, 0.2, 0.5]


def test_most_of_the_confirmed_volume_names_the_lesion_and_large_ones_are_not_asked_about() -> None:
    volume, liver, mask, box = liver_with_a_lesion()
    tissue = Tissue(volume, liver, liver & False)
    answers = iter([np.full((6, 8, 8), 1)] * 4 + [np.full((6, 8, 8), 5)] * 6)
    (found,) = reclassified(
        [proposal_of(volume, mask, box, 2.0)], tissue, lambda patch: next(answers), (6, 8, 8), OPTIONS
    )
    assert (found.kind, found.scored_ml) == (5, pytest.approx(2.0))
    large = proposal_of(volume, mask, box, 64.5)
    assert reclassified([large], tissue, lambda patch: pytest.fail("was asked"), (6, 8, 8), OPTIONS) == [large]


@given(st.lists(st.sampled_from(OPTIONS.lesion_types)))
def test_the_patient_has_the_worst_class_of_all_lesions(types: list[str]) -> None:
    expected = min(types, key=OPTIONS.lesion_types.index) if types else "normal"
    assert classify_patient(types, OPTIONS) == expected


def test_both_runs_must_say_the_same_of_the_patient() -> None:
    assert agreed("hcc", "hcc") == "hcc"
    assert agreed("normal", "cyst") == "uncertain"


def test_lesions_of_two_runs_match_where_they_share_a_voxel() -> None:
    def lesion(kind: int, first: int, end: int) -> Proposal:
        whole = np.zeros((1, 1, 20), bool)
        whole[0, 0, first:end] = True
        (found,) = seg2det(whole, whole.astype(float), (1.0, 1.0, 1.0))
        return Proposal(found, kind)

    high = [lesion(0, 0, 5), lesion(1, 7, 9), lesion(2, 12, 15)]
    base = [lesion(0, 4, 6), lesion(0, 8, 10), lesion(2, 15, 17)]
    assert match(high, base) == ["same", "other type", "none"]
    assert match([], base) == []


def test_a_detection_without_a_mask_is_no_proposal() -> None:
    box = (slice(0, 1),) * 3
    with pytest.raises(AssertionError):
        _ = Proposal(Detection(box, (0.0, 0.0, 0.0), 1.0, 1.0, 0.5), 0).mask
