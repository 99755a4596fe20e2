"""Every loss by hand on a few voxels, with both activations, with nothing in the patch, and in bfloat16."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import TverskyLoss
from torch.nn import functional

from LiverTumorSegLib.training.losses import LOSSES
from LiverTumorSegLib.training.losses.activations import one_against_rest
from LiverTumorSegLib.training.losses.deep_supervision import supervised_loss, supervision_weight
from LiverTumorSegLib.training.losses.lesions import lesion_dice_loss

# Two voxels: one liver (probability .5), one tumour (probability .8).
SOFTMAX = [[0.25, 0.5, 0.25], [0.1, 0.1, 0.8]]
SOFTMAX_LABELS = [1, 2]
# Two voxels: liver (.8, wrongly tumour .4), and tumour in liver (.6 and .5).
SIGMOID = [[0.8, 0.4], [0.6, 0.5]]
SIGMOID_TARGET = [[1, 0], [1, 1]]


def logits_for(probabilities: list[list[float]]) -> torch.Tensor:
    """(1, classes, 1, 1, n) logits whose softmax is given, one row a voxel."""
    return torch.tensor(probabilities).T.log().reshape(1, -1, 1, 1, len(probabilities))


def one_hot(labels: list[int], classes: int = 3) -> torch.Tensor:
    return functional.one_hot(torch.tensor(labels), classes).T.reshape(1, classes, 1, 1, -1).float()


def rows(values: list[list[float]]) -> torch.Tensor:
    """(1, classes, 1, 1, n) from one row a voxel."""
    return torch.tensor(values).float().T.reshape(1, -1, 1, 1, len(values))


def softmax_loss(name: str, probabilities=SOFTMAX, labels=SOFTMAX_LABELS) -> float:
    return float(LOSSES[name]("softmax")(logits_for(probabilities), one_hot(labels)))


def sigmoid_loss(name: str, probabilities=SIGMOID, target=SIGMOID_TARGET) -> float:
    return float(LOSSES[name]("sigmoid")(rows(probabilities).logit(), rows(target)))


def cross(*shares: float) -> float:
    """Mean of -log of the shares of the right answers."""
    return -sum(map(math.log, shares)) / len(shares)


DICE = ((1 - 2 * 0.5 / (1 + 0.6)) + (1 - 2 * 0.8 / (1 + 1.05))) / 2
DICE_SIGMOID = ((1 - 2 * 1.4 / (2 + 1.4)) + (1 - 2 * 0.5 / (1 + 0.9))) / 2
BCE = cross(0.5, 0.9, 0.75, 0.8)  # liver: yes, no; tumour: no, yes
BCE_SIGMOID = cross(0.8, 0.6, 0.6, 0.5)


def tversky_index(tp: float, fp: float, fn: float, smooth: float = 0.0) -> float:
    return (tp + smooth) / (tp + 0.3 * fp + 0.7 * fn + smooth)


def test_dice_by_hand():
    assert softmax_loss("dice") == pytest.approx(DICE, abs=1e-4)
    assert sigmoid_loss("dice") == pytest.approx(DICE_SIGMOID, abs=1e-4)


def test_bce_by_hand_with_softmax_each_class_against_the_rest():
    assert softmax_loss("bce") == pytest.approx(BCE, abs=1e-5)
    assert sigmoid_loss("bce") == pytest.approx(BCE_SIGMOID, abs=1e-5)


def test_hybrid_1_is_dice_and_bce():
    assert softmax_loss("dice_bce") == pytest.approx(DICE + BCE, abs=1e-4)
    assert sigmoid_loss("dice_bce") == pytest.approx(DICE_SIGMOID + BCE_SIGMOID, abs=1e-4)


def test_dice_ce_takes_each_voxel_s_own_class():
    assert softmax_loss("dice_ce") == pytest.approx(DICE + cross(0.5, 0.8), abs=1e-4)
    assert sigmoid_loss("dice_ce") == pytest.approx(DICE_SIGMOID + BCE_SIGMOID, abs=1e-4)


def test_tversky_and_hybrid_2_by_hand():
    softmax = 1 - (tversky_index(0.5, 0.1, 0.5) + tversky_index(0.8, 0.25, 0.2)) / 2
    sigmoid = 1 - (tversky_index(1.4, 0, 0.6) + tversky_index(0.5, 0.4, 0.5)) / 2
    assert softmax_loss("tversky") == pytest.approx(softmax, abs=1e-4)
    assert sigmoid_loss("tversky") == pytest.approx(sigmoid, abs=1e-4)
    assert softmax_loss("tversky_bce") == pytest.approx(softmax + BCE, abs=1e-4)
    assert sigmoid_loss("tversky_bce") == pytest.approx(sigmoid + BCE_SIGMOID, abs=1e-4)


def test_focal_tversky_by_hand():
    indices = tversky_index(0.5, 0.1, 0.5, 1), tversky_index(0.8, 0.25, 0.2, 1)
    focal = sum((1 - index) ** 0.75 for index in indices) / 2
    assert softmax_loss("focal_tversky") == pytest.approx(focal + BCE, abs=1e-5)
    indices = tversky_index(1.4, 0, 0.6, 1), tversky_index(0.5, 0.4, 0.5, 1)
    focal = sum((1 - index) ** 0.75 for index in indices) / 2
    assert sigmoid_loss("focal_tversky") == pytest.approx(focal + BCE_SIGMOID, abs=1e-5)


def test_focal_tversky_of_one_class_is_monai_s_to_the_power_and_bce():
    torch.manual_seed(0)
    logits, target = torch.randn(2, 1, 4, 4, 4), (torch.rand(2, 1, 4, 4, 4) > 0.7).float()
    monai = TverskyLoss(sigmoid=True, alpha=0.3, beta=0.7, smooth_nr=1, smooth_dr=1, batch=True)(logits, target)
    expected = monai**0.75 + functional.binary_cross_entropy_with_logits(logits, target)
    assert float(LOSSES["focal_tversky"]("sigmoid")(logits, target)) == pytest.approx(float(expected), abs=1e-6)


def test_focal_tversky_has_a_finite_slope_where_the_network_is_right_and_sure():
    target = torch.ones(1, 1, 1, 1, 3)
    logits = (200 * target).requires_grad_()
    LOSSES["focal_tversky"]("sigmoid")(logits, target).backward()
    assert torch.isfinite(logits.grad).all()


def test_dice_focal_as_printed_by_hand():
    liver = 1 - 2 * 0.5 / (1 + 0.5**2 + 0.1**2)
    tumour = 1 - 2 * 0.8 / (1 + 0.25**2 + 0.8**2)
    focal = (-(0.5**2) * math.log(0.5) - 0.2**2 * math.log(0.8)) / 4  # over two classes and two voxels
    assert softmax_loss("dice_focal") == pytest.approx((liver + tumour) / 2 + focal, abs=1e-4)


def test_dice_focal_with_yes_and_no_for_every_class():
    liver = 1 - 2 * 1.4 / (2 + 0.8**2 + 0.6**2)
    tumour = 1 - 2 * 0.5 / (1 + 0.4**2 + 0.5**2)
    focal = sum(-((1 - right) ** 2) * math.log(right) for right in (0.8, 0.6, 0.6, 0.5)) / 4
    for name in ("dice_focal", "dice_focal_all"):
        assert sigmoid_loss(name) == pytest.approx((liver + tumour) / 2 + focal, abs=1e-4)


def test_as_printed_nothing_speaks_against_a_false_tumour_but_dice_and_repaired_the_focal_term_does():
    timid, bold, nothing = [[0.9, 0.05, 0.05]] * 4, [[0.1, 0.05, 0.85]] * 4, [0] * 4
    printed, repaired = (
        softmax_loss(name, bold, nothing) - softmax_loss(name, timid, nothing)
        for name in ("dice_focal", "dice_focal_all")
    )
    assert printed < 1e-3
    assert repaired > 0.3


def test_rare_classes_weigh_by_the_inverse_root_of_their_share():
    # Three background voxels and one tumour voxel, all with half of the probability on their own class.
    even, labels = [[0.5, 0.25, 0.25]] * 3 + [[0.25, 0.25, 0.5]], [0, 0, 0, 2]
    each = -(0.5**2) * math.log(0.5)  # the same focal term for every voxel: any weighted mean is this
    difference = softmax_loss("dice_focal_rare", even, labels) - softmax_loss("dice_focal_all", even, labels)
    assert difference == pytest.approx(each - each / 3, abs=1e-5)
    surer = [[0.9, 0.05, 0.05]] * 3 + [[0.25, 0.25, 0.5]]
    terms = [-(0.1**2) * math.log(0.9)] * 3 + [each]
    weights = [(4 / 3) ** 0.5] * 3 + [4**0.5]
    focal = sum(w * t for w, t in zip(weights, terms, strict=True)) / sum(weights)
    difference = softmax_loss("dice_focal_rare", surer, labels) - softmax_loss("dice_focal_all", surer, labels)
    assert difference == pytest.approx(focal - sum(terms) / 4 / 3, abs=1e-5)


def test_with_yes_and_no_the_rarer_answer_weighs_more():
    # One class, three voxels no (probability of yes .1), one yes (.5).
    probabilities, target = [[0.1]] * 3 + [[0.5]], [[0]] * 3 + [[1]]
    terms = [-(0.1**2) * math.log(0.9)] * 3 + [-(0.5**2) * math.log(0.5)]
    weights = [(4 / 3) ** 0.5] * 3 + [4**0.5]
    focal = sum(w * t for w, t in zip(weights, terms, strict=True)) / sum(weights)
    dice = 1 - 2 * 0.5 / (1 + 3 * 0.1**2 + 0.5**2)
    assert sigmoid_loss("dice_focal_rare", probabilities, target) == pytest.approx(dice + focal, abs=1e-4)


def test_a_small_lesion_s_own_dice_weighs_as_much_as_a_large_one_s():
    # A line of 12 voxels with a lesion of 1 voxel (probability .5) and one of 2 (.8 each), .1 elsewhere. Their boxes, 4
    # voxels wider, hold 4 other voxels each, and the two do not meet.
    tumour = [0.5] + [0.1] * 9 + [0.8] * 2
    probabilities, labels = [[0.05, 0.95 - p, p] for p in tumour], [2] + [1] * 9 + [2] * 2
    one = 1 - 2 * 0.5 / (1 + 0.5 + 4 * 0.1)
    other = 1 - 2 * 1.6 / (2 + 1.6 + 4 * 0.1)
    difference = softmax_loss("dice_focal_lesions", probabilities, labels) - softmax_loss(
        "dice_focal_rare", probabilities, labels
    )
    assert difference == pytest.approx((one + other) / 4, abs=1e-5)
    yes_no, target = [[p] for p in tumour], [[float(label == 2)] for label in labels]
    difference = sigmoid_loss("dice_focal_lesions", yes_no, target) - sigmoid_loss("dice_focal_rare", yes_no, target)
    assert difference == pytest.approx((one + other) / 4, abs=1e-5)


def test_a_neighbouring_lesion_does_not_count_against_a_lesion_and_no_lesion_costs_nothing():
    # Two lesions of one voxel two apart: each box holds the other, which is left out.
    probability, lesions = torch.tensor([[[[0.7, 0.1, 0.7]]]]), torch.tensor([[[[1, 0, 1]]]])
    assert float(lesion_dice_loss(probability, lesions)) == pytest.approx(1 - 2 * 0.7 / (1 + 0.7 + 0.1), abs=1e-5)
    assert float(lesion_dice_loss(probability, torch.zeros_like(lesions))) == 0


def test_blob_loss_scores_each_lesion_in_the_patch_without_the_other_lesions():
    # Lesions of 1 voxel (.5) and of 2 voxels (.8 each); .1 on each of 9 other voxels, which count against both.
    tumour = [0.5] + [0.1] * 9 + [0.8] * 2
    probabilities, target = [[p] for p in tumour], [[1]] + [[0]] * 9 + [[1]] * 2
    whole = 1 - 2 * 2.1 / (3 + 3.0)
    one = 1 - 2 * 0.5 / (1 + 0.5 + 0.9)
    other = 1 - 2 * 1.6 / (2 + 1.6 + 0.9)
    assert sigmoid_loss("blob_dice", probabilities, target) == pytest.approx(2 * whole + (one + other) / 2, abs=1e-4)
    softmax = [[0.95 - p, 0.05, p] for p in tumour]
    labels = [2] + [0] * 9 + [2] * 2
    lesions_only = softmax_loss("blob_dice", softmax, labels) - 2 * softmax_loss("dice", softmax, labels)
    assert lesions_only == pytest.approx((one + other) / 2, abs=1e-4)


def test_blob_loss_without_lesions_is_twice_dice_and_has_a_gradient():
    logits = logits_for([[0.6, 0.3, 0.1]] * 3).requires_grad_()
    target = one_hot([0, 1, 1])
    loss = LOSSES["blob_dice"]("softmax")(logits, target)
    assert float(loss.detach()) == pytest.approx(2 * float(LOSSES["dice"]("softmax")(logits, target).detach()))
    loss.backward()
    assert torch.isfinite(logits.grad).all()


def test_the_mean_over_lesions_is_taken_patch_by_patch():
    # Kofler et al. average the lesions of an image, then the images: three in one patch weigh as one in another.
    three, one = [0.9, 0.0, 0.9, 0.0, 0.9], [0.2, 0.0, 0.0, 0.0, 0.0]
    probabilities = torch.tensor([three, one]).reshape(2, 1, 1, 1, 5)
    target = (probabilities > 0).float()
    loss = LOSSES["blob_dice"]("sigmoid")(probabilities.clamp(1e-7).logit(), target)
    whole = 1 - 2 * (2.7 + 0.2) / (4 + 2.9)
    each, lone = 1 - 2 * 0.9 / 1.9, 1 - 2 * 0.2 / 1.2
    assert float(loss) == pytest.approx(2 * whole + (each + lone) / 2, abs=1e-4)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("name", sorted(LOSSES))
class TestEveryLoss:
    def test_a_perfect_prediction_costs_next_to_nothing(self, name, activation):
        target = one_hot([0, 1, 2, 1]) if activation == "softmax" else rows([[0, 0], [1, 0], [1, 1], [1, 0]])
        assert float(LOSSES[name](activation)((2 * target - 1) * 20, target)) == pytest.approx(0, abs=2e-4)

    def test_where_nothing_is_to_be_found_it_is_finite_and_so_is_its_gradient(self, name, activation):
        target = one_hot([0] * 8) if activation == "softmax" else torch.zeros(1, 2, 1, 1, 8)
        logits = torch.linspace(-200, 200, target.numel()).reshape(target.shape).requires_grad_()
        loss = LOSSES[name](activation)(logits, target)
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(logits.grad).all()

    def test_bf16_logits_are_summed_in_float32(self, name, activation):
        torch.manual_seed(1)
        target = one_hot([0] * 3000 + [1] * 3000 + [2]) if activation == "softmax" else torch.zeros(1, 2, 1, 1, 6001)
        half = torch.randn(target.shape).bfloat16()
        loss = LOSSES[name](activation)
        assert loss(half, target).dtype == torch.float32
        assert torch.equal(loss(half, target), loss(half.float(), target))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.floats(-30, 30), min_size=4, max_size=4), min_size=1, max_size=5))
def test_one_class_against_the_rest_has_the_softmax_for_its_sigmoid(values):
    logits = rows(values).double()
    assert torch.allclose(one_against_rest(logits).sigmoid(), logits.softmax(1), atol=1e-12)


def test_deep_supervision_adds_the_other_heads_at_their_weight():
    loss = LOSSES["bce"]("sigmoid")
    target = rows([[1.0], [1.0]])
    heads = [torch.full((1, 1, 1, 1, 2), torch.tensor(p).logit()) for p in (0.3, 0.4, 0.5)]
    assert float(supervised_loss(loss, heads, target, 0.4)) == pytest.approx(
        cross(0.5) + 0.4 * (cross(0.3) + cross(0.4))
    )
    assert float(supervised_loss(loss, heads, target, 1.0)) == pytest.approx(cross(0.5) + cross(0.3) + cross(0.4))
    assert float(supervised_loss(loss, heads, target, 0.0)) == pytest.approx(cross(0.5))
    assert float(supervised_loss(loss, heads[-1], target, 0.4)) == pytest.approx(cross(0.5))


def test_a_coarser_head_is_enlarged_to_the_target():
    target = torch.ones(1, 1, 4, 4, 4)
    heads = [torch.zeros(1, 1, 2, 2, 2), torch.zeros(1, 1, 4, 4, 4)]
    assert float(supervised_loss(LOSSES["bce"]("sigmoid"), heads, target, 0.5)) == pytest.approx(1.5 * math.log(2))


def test_the_weight_of_deep_supervision_falls_in_steps():
    weights = [supervision_weight(0.4, 0.8, 30, epoch) for epoch in (0, 29, 30, 59, 60)]
    assert weights == pytest.approx([0.4, 0.4, 0.32, 0.32, 0.256])
