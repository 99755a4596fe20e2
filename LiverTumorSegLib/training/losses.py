"""Loss functions: one builder each, with its formula and source. All take logits and integer labels."""

from __future__ import annotations

from collections.abc import Callable

import cc3d
import torch
from monai.losses import DiceLoss
from torch.nn import functional

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def dice_focal() -> Loss:
    """DiceFocal of liver and tumour as S1 prints it (section 3.2.1, equations 3 to 5).

    Dice: 1 - 2 sum(g s) / (sum(g^2) + sum(s^2)); focal: -mean((1 - s)^2 g log s); background left out of
    both, mean of the two classes. Arguments: logits (batch, 3, k, j, i), labels (batch, 1, k, j, i).
    """
    return _dice_focal(focal_background=False)


def dice_focal_all() -> Loss:
    """The same with the background in the focal term, and Dice summed over the batch.

    As printed nothing but Dice speaks against false tumours, and in a patch without tumour Dice is
    flat; here every voxel has a say.
    """
    return _dice_focal(focal_background=True)


def dice_focal_rare() -> Loss:
    """Dice summed over the batch, and the focal term of all voxels weighted by 1 / sqrt(share of their class).

    A lesion of a few hundred among a million voxels hardly moves a plain mean, and Dice hardly moves
    where the probability is still near 0; with this weight small lesions are learnt from the start.
    """
    dice = _dice(over_batch=True)

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        logits = logits.float()
        counts = torch.bincount(labels.flatten().long(), minlength=logits.shape[1]).clamp_min(1)
        weight = (labels.numel() / counts).sqrt()[labels.long()]
        terms = focal_terms(logits, labels)
        return torch.as_tensor(dice(logits, labels) + (weight * terms).sum() / weight.sum())

    return loss


def dice_focal_lesions() -> Loss:
    """`dice_focal_rare` and half the mean of every lesion's own Dice loss: a small one counts as much as a large one.

    The idea is blob loss (Kofler et al., IPMI 2023); here a lesion is scored in its box and a few voxels
    around, so that what is called tumour elsewhere is left to the other terms.
    """
    whole = dice_focal_rare()

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        logits = logits.float()
        return whole(logits, labels) + 0.5 * lesion_dice_loss(logits, labels)

    return loss


def lesion_dice_loss(logits: torch.Tensor, labels: torch.Tensor, margin: int = 4) -> torch.Tensor:
    """Mean over all lesions of 1 - 2 sum(p) in the lesion / (its voxels + sum(p) in its box); 0 without lesions.

    p is the tumour's softmax probability. The box is `margin` voxels wider than the lesion; the other
    lesions in it do not count. Shapes: logits (batch, 3, k, j, i), labels (batch, 1, k, j, i).
    """
    probability = logits.softmax(dim=1)[:, 2]
    losses = []
    for p, volume in zip(probability, labels[:, 0], strict=True):
        components, count = cc3d.connected_components((volume == 2).cpu().numpy(), connectivity=6, return_N=True)
        boxes = cc3d.statistics(components)["bounding_boxes"][1:] if count else []
        for number, box in enumerate(boxes, 1):
            wider = tuple(slice(max(0, side.start - margin), side.stop + margin) for side in box)
            numbers = torch.as_tensor(components[wider].astype("int64"), device=p.device)
            own, free = numbers == number, (numbers == 0) | (numbers == number)
            losses.append(1 - 2 * (p[wider] * own).sum() / (own.sum() + (p[wider] * free).sum()))
    return torch.stack(losses).mean() if losses else probability.sum() * 0


def _dice_focal(focal_background: bool) -> Loss:
    dice = _dice(over_batch=focal_background)

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        # Sums over a whole volume lose small lesions in bf16.
        logits = logits.float()
        terms = focal_terms(logits, labels)
        if focal_background:
            focal = terms.mean() / logits.shape[1]
        else:
            focal = (terms * (labels > 0)).mean() / (logits.shape[1] - 1)
        return torch.as_tensor(dice(logits, labels) + focal)

    return loss


def _dice(over_batch: bool) -> DiceLoss:
    return DiceLoss(include_background=False, to_onehot_y=True, softmax=True, squared_pred=True, batch=over_batch)


def focal_terms(logits: torch.Tensor, labels: torch.Tensor, gamma: float = 2.0) -> torch.Tensor:
    """-(1 - s)^gamma log s of every voxel (S1, equation 5), s the softmax share of the voxel's own class.

    Shapes: logits (batch, classes, k, j, i), labels and result (batch, 1, k, j, i). MONAI's FocalLoss
    takes the softmax over what is left when the background is left out, so that a background voxel's
    share is never seen; hence our own.
    """
    share = torch.gather(functional.log_softmax(logits, dim=1), 1, labels.long())
    return (1 - share.exp()) ** gamma * -share


LOSSES: dict[str, Callable[[], Loss]] = {
    "dice_focal": dice_focal,
    "dice_focal_all": dice_focal_all,
    "dice_focal_lesions": dice_focal_lesions,
    "dice_focal_rare": dice_focal_rare,
}
