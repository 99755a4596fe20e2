"""Loss functions: one builder each, with its formula and source. All take logits and integer labels."""

from __future__ import annotations

from collections.abc import Callable

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


def _dice_focal(focal_background: bool) -> Loss:
    dice = DiceLoss(include_background=False, to_onehot_y=True, softmax=True, squared_pred=True, batch=focal_background)

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        # Sums over a whole volume lose small lesions in bf16.
        logits = logits.float()
        return torch.as_tensor(dice(logits, labels) + focal(logits, labels, background=focal_background))

    return loss


def focal(logits: torch.Tensor, labels: torch.Tensor, gamma: float = 2.0, background: bool = False) -> torch.Tensor:
    """-mean((1 - s)^gamma g log s) over voxels and classes (S1, equation 5), s the softmax over all classes.

    MONAI's FocalLoss takes the softmax over what is left when the background is left out, which
    would let a background voxel's probability vanish from sight; hence our own.
    """
    log_share = functional.log_softmax(logits, dim=1)
    own = torch.gather(log_share, 1, labels.long())
    terms = (1 - own.exp()) ** gamma * -own
    if background:
        return terms.mean() / logits.shape[1]
    return (terms * (labels > 0)).mean() / (logits.shape[1] - 1)


LOSSES: dict[str, Callable[[], Loss]] = {"dice_focal": dice_focal, "dice_focal_all": dice_focal_all}
