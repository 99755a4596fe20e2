"""How one stage is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import RecipeError
from .grids import Crop, Triple


@dataclass(frozen=True)
class Sampling:
    """Where training patches are centred; the shares that are left lie anywhere in the stage's region.

    Attributes:
        lesion: share of patches centred in a lesion.
        liver_without_lesion: share centred in the liver with no lesion in the patch, where there is such a place.
        inverse_size: draw a study's lesions with a chance that falls with their diameter, so that small ones are seen
            more often than large ones; else each voxel of a lesion is as likely as any other.
        windows_overlap: patches begin only where sliding windows with this share in common do (S0's sliding
            augmentation: 0.5; S4's tiles: 0); None lets them begin at any voxel.
        crop: the box around the liver that measured cases are cut to in training, where it is another than the
            recipe's (S1: 10 voxels more in training, 20 fewer in inference).
        jitter_mm: how far each side of that box lies off at most, as the stage before is inexact.
    """

    lesion: float = 0.5
    liver_without_lesion: float = 0.25
    inverse_size: bool = True
    windows_overlap: float | None = None
    crop: Crop | None = None
    jitter_mm: float = 5.0

    def __post_init__(self) -> None:
        if self.windows_overlap is not None and not 0 <= self.windows_overlap < 1:
            raise RecipeError(f"sampling.windows_overlap: wanted 0 to below 1, got {self.windows_overlap}")
        if not 0 <= self.jitter_mm <= 1000:
            raise RecipeError(f"sampling.jitter_mm: wanted 0 up to 1000, got {self.jitter_mm}")
        shares = (self.lesion, self.liver_without_lesion)
        if min(shares) < 0 or sum(shares) > 1:
            raise RecipeError(f"sampling: wanted shares of 0 or more with a sum up to 1, got {shares}")


@dataclass(frozen=True)
class Training:
    """How one stage is trained (defaults: S1, section 3.2.1, repaired where the text is silent).

    Attributes:
        loss: a key of `training.losses.LOSSES`.
        deep_supervision: what the heads before the last one weigh: last + this * sum(others) (S2, section 3.3: 0.4);
            0 trains the last head alone.
        deep_supervision_decay: factor on that weight every `schedule_epochs` (S2: 0.8).
        optimiser: Adam, AdamW, or SGD with Nesterov's momentum of 0.99.
        learning_rate: the initial one.
        weight_decay: of the optimiser.
        schedule: how the rate goes over the epochs e of Ne: "poly" (1 - e / Ne) ** schedule_power (S1, equation 6),
            "cosine" to 0 (S0), "step" schedule_factor ** (e // schedule_epochs) (S2), "constant".
        schedule_power, schedule_epochs, schedule_factor: as `schedule` uses them.
        epochs: how many.
        iterations_per_epoch: steps between two validations.
        patience: stop after this many epochs without a better validation loss.
        batch_size: patches in a step.
        patch: (i, j, k) voxels of a training patch on the stage's grid.
        hand_over: begin from the weights of the stage before where they fit; the first stage has none before it.
        weight_average: share of the running average of the weights that a step leaves as it was; the average is
            what is validated and kept. 0 keeps the last step's weights, as S1 does.
        clip_gradient: largest norm of a step's gradient.
        bf16: compute forward passes in bfloat16 on a GPU; the loss stays in float32, and on a CPU everything does but
            where `train --bf16-on-cpu` was asked for.
        augmentation: a key of `training.augmentation.AUGMENTATIONS`; "none" for what is drawn varied already.
        sampling: where patches are centred.
    """

    loss: str = "dice_focal"
    deep_supervision: float = 0.0
    deep_supervision_decay: float = 1.0
    optimiser: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    schedule: Literal["poly", "cosine", "step", "constant"] = "poly"
    schedule_power: float = 0.9
    schedule_epochs: int = 30
    schedule_factor: float = 0.8
    epochs: int = 100
    iterations_per_epoch: int = 50
    patience: int = 20
    batch_size: int = 1
    patch: Triple = (96, 96, 64)
    hand_over: bool = True
    weight_average: float = 0.0
    clip_gradient: float = 12.0
    bf16: bool = True
    augmentation: str = "none"
    sampling: Sampling = Sampling()

    def __post_init__(self) -> None:
        for name in ("schedule_epochs", "epochs", "iterations_per_epoch", "patience", "batch_size"):
            if getattr(self, name) < 1:
                raise RecipeError(f"training.{name}: wanted at least 1, got {getattr(self, name)}")
            if getattr(self, name) > 1_000_000:
                raise RecipeError(f"training.{name}: wanted at most 1000000, got {getattr(self, name)}")
        for name in ("deep_supervision", "learning_rate", "weight_decay", "schedule_power"):
            if getattr(self, name) > 1000:
                raise RecipeError(f"training.{name}: wanted at most 1000, got {getattr(self, name)}")
        for name in ("deep_supervision", "learning_rate", "weight_decay", "schedule_power"):
            if getattr(self, name) < 0:
                raise RecipeError(f"training.{name}: wanted 0 or more, got {getattr(self, name)}")
        for name in ("deep_supervision_decay", "schedule_factor"):
            if not 0 < getattr(self, name) <= 1:
                raise RecipeError(f"training.{name}: wanted above 0 up to 1, got {getattr(self, name)}")
        if min(self.patch) < 1:
            raise RecipeError(f"training.patch: wanted at least 1 voxel a side, got {self.patch}")
        if max(self.patch) > 2048:
            raise RecipeError(f"training.patch: wanted at most 2048 voxels a side, got {self.patch}")
        if not 0 <= self.weight_average < 1:
            raise RecipeError(f"training.weight_average: wanted 0 to below 1, got {self.weight_average}")
        if self.clip_gradient <= 0:
            raise RecipeError(f"training.clip_gradient: wanted above 0, got {self.clip_gradient}")
