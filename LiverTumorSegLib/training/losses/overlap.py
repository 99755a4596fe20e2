"""Losses of overlap: Dice and Tversky, each class's sums taken over the whole batch."""

from __future__ import annotations

from monai.losses import DiceLoss, TverskyLoss

from .activations import Activation, Loss, full_precision


def dice(activation: Activation) -> Loss:
    """1 - 2 sum(g p) / (sum(g) + sum(p)), mean of the classes without the background (S2, table 1).

    A class that the batch does not hold costs 1 unless nothing at all is called it.
    """
    return full_precision(_monai_dice(activation, squared=False, over_batch=True))


def squared_dice(activation: Activation, over_batch: bool) -> Loss:
    """1 - 2 sum(g p) / (sum(g^2) + sum(p^2)), mean of the classes without the background (S1, equation 3).

    Args:
        activation: of the stage.
        over_batch: take the sums over the batch, not over each patch by itself.
    """
    return full_precision(_monai_dice(activation, squared=True, over_batch=over_batch))


def tversky(activation: Activation) -> Loss:
    """1 - TP / (TP + 0.3 FP + 0.7 FN), mean of the classes without the background (S2, table 1; Salehi et al. 2017).

    TP = sum(g p), FP = sum((1 - g) p), FN = sum(g (1 - p)).
    """
    return full_precision(monai_tversky(activation, smooth=1e-5))


def monai_tversky(activation: Activation, smooth: float, reduction: str = "mean") -> TverskyLoss:
    """MONAI's Tversky loss with the weights of S0 and S2; `smooth` is added to numerator and denominator."""
    return TverskyLoss(
        include_background=activation == "sigmoid",
        sigmoid=activation == "sigmoid",
        softmax=activation == "softmax",
        alpha=0.3,
        beta=0.7,
        smooth_nr=smooth,
        smooth_dr=smooth,
        batch=True,
        reduction=reduction,
    )


def _monai_dice(activation: Activation, squared: bool, over_batch: bool) -> DiceLoss:
    return DiceLoss(
        include_background=activation == "sigmoid",
        sigmoid=activation == "sigmoid",
        softmax=activation == "softmax",
        squared_pred=squared,
        batch=over_batch,
    )
