"""What a network is trained for: how its answer is judged in a step and in validation. `TASKS` is a plain dict."""

from __future__ import annotations

from functools import partial
from typing import Protocol

import numpy as np
import torch

from ..errors import RecipeError
from ..recipe import Recipe
from .detecting import Detecting
from .judgement import Judgement
from .losses import LOSSES
from .losses.deep_supervision import supervised_loss, supervision_weight
from .precision import forward_precision
from .targets import class_table, class_targets, nested_table


class Task(Protocol):
    """One kind of training. Volumes are (batch, channels, k, j, i) float32, labels (batch, 1, k, j, i) uint8."""

    def loss(self, network: torch.nn.Module, volume: torch.Tensor, labels: torch.Tensor, epoch: int) -> torch.Tensor:
        """What a step makes smaller, in float32; the network is in training mode. Epochs count from 0."""

    def judge(self, network: torch.nn.Module, volume: torch.Tensor, labels: torch.Tensor) -> Judgement:
        """Of a validation batch; the network is in evaluation mode and no gradient is wanted."""

    def scores(self, counts: torch.Tensor) -> dict[str, float]:
        """Names and values for the log, from the sum of all batches' counts; the same names every time."""

    def picture(
        self, network: torch.nn.Module, volume: torch.Tensor, labels: torch.Tensor
    ) -> tuple[np.ndarray, np.ndarray]:
        """The reference and the answer for the batch's first patch: uint8 (k, j, i), 0 for nothing."""


class Segmenting:
    """Every voxel gets its classes; scores are Dice over all validation voxels together."""

    def __init__(self, recipe: Recipe, stage: int, device: str, bf16_on_cpu: bool = False):
        """Judge the answers of the recipe's stage number `stage`, on a torch device; see `forward_precision`."""
        self._stage, self._training = recipe.stages[stage], recipe.training[stage]
        if self._training.loss not in LOSSES:
            known = ", ".join(sorted(LOSSES))
            raise RecipeError(f"recipe.training[{stage}].loss: wanted one of {known}, got {self._training.loss!r}")
        self._loss = LOSSES[self._training.loss](self._stage.activation)
        self._precision = partial(forward_precision, device, self._training.bf16, bf16_on_cpu)
        self._targets = class_table(recipe, self._stage).to(device)
        self._nested = nested_table(recipe, self._stage).to(device)

    def loss(self, network: torch.nn.Module, volume: torch.Tensor, labels: torch.Tensor, epoch: int) -> torch.Tensor:
        """The recipe's loss, with the weight of deep supervision that the epoch has."""
        weight = supervision_weight(
            self._training.deep_supervision,
            self._training.deep_supervision_decay,
            self._training.schedule_epochs,
            epoch,
        )
        return supervised_loss(self._loss, self._answer(network, volume), class_targets(labels, self._targets), weight)

    def judge(self, network: torch.nn.Module, volume: torch.Tensor, labels: torch.Tensor) -> Judgement:
        """The loss of the last head; counts are overlap and size of every structure, (2, structures)."""
        logits, target = self._answer(network, volume), class_targets(labels, self._targets)
        predicted, reference = self._structures(self._voted(logits)), self._structures(target)
        places = [0, 2, 3, 4]
        overlap = (predicted & reference).sum(places)
        size = predicted.sum(places) + reference.sum(places)
        return Judgement(float(self._loss(logits, target)), torch.stack([overlap, size]).cpu())

    def scores(self, counts: torch.Tensor) -> dict[str, float]:
        """Dice of every class but the background; lesions count as liver, too. Both empty is 1."""
        names = [f"{name}_dice" for name in self._stage.classes if name != "background"]
        overlap, size = counts
        dice = torch.where(size > 0, 2 * overlap / size.clamp_min(1), torch.ones_like(size))
        return dict(zip(names, dice.tolist(), strict=True))

    def picture(
        self, network: torch.nn.Module, volume: torch.Tensor, labels: torch.Tensor
    ) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the structures, from 1; of several in a voxel the last."""
        pair = class_targets(labels[:1], self._targets), self._voted(self._answer(network, volume[:1]))
        reference, predicted = (_numbered(self._structures(each))[0].cpu().numpy() for each in pair)
        return reference, predicted

    def _answer(self, network: torch.nn.Module, volume: torch.Tensor) -> torch.Tensor:
        with self._precision():
            answer: torch.Tensor = network(volume)
        return answer

    def _voted(self, logits: torch.Tensor) -> torch.Tensor:
        """0 or 1 for each class: the highest with "softmax", those above one half with "sigmoid"."""
        if self._stage.activation == "sigmoid":
            return (logits > 0).float()
        return torch.zeros_like(logits, dtype=torch.float32).scatter_(1, logits.argmax(1, keepdim=True), 1)

    def _structures(self, classes: torch.Tensor) -> torch.Tensor:
        """(batch, classes, k, j, i) of 0 and 1 -> yes or no for the structures, into which classes are nested."""
        return torch.einsum("bckji,cs->bskji", classes, self._nested) > 0


def _numbered(structures: torch.Tensor) -> torch.Tensor:
    numbers = torch.arange(1, structures.shape[1] + 1, device=structures.device).reshape(1, -1, 1, 1, 1)
    return (structures * numbers).amax(1).to(torch.uint8)


class MakesTask(Protocol):
    """Makes the task of a recipe's stage on a torch device."""

    def __call__(self, recipe: Recipe, stage: int, device: str, bf16_on_cpu: bool = False) -> Task:
        """See `forward_precision` for `bf16_on_cpu`."""


TASKS: dict[str, MakesTask] = {"segment": Segmenting, "detect": Detecting}
"""By the name that a stage's `task` has."""
