"""The task "detect": a Retina U-Net learns the boxes of small lesions (S0, section 2.2.1), with MONAI's detector."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

from ..detection import Detection, proposed_findings, seg2det, smaller_than
from ..errors import RecipeError
from ..networks import DETECTORS, build_network
from ..networks.retina import Answer, detector_of
from ..recipe import CoarseToFine, Recipe, Stage
from .judgement import Judgement
from .losses import LOSSES
from .precision import forward_precision
from .targets import class_table, class_targets

_ALIKE = 0.1  # the intersection over union at which a finding counts as found, as nnDetection's lenient measure


class Detecting:
    """Lesions under the recipe's limit get boxes and are segmented; larger ones are left to other stages."""

    def __init__(self, recipe: Recipe, stage: int, device: str, bf16_on_cpu: bool = False):
        """Judge the answers of the recipe's stage number `stage`, on a torch device; see `forward_precision`.

        Raises:
            RecipeError: a network that finds nothing, a grid whose spacing depends on the scan, or an unknown loss.
        """
        self._stage, self._training = recipe.stages[stage], recipe.training[stage]
        where = f"recipe.stages[{stage}]"
        if self._stage.network not in DETECTORS:
            known, got = ", ".join(DETECTORS), self._stage.network
            raise RecipeError(f"{where}.network: wanted one of {known} for the task 'detect', got {got!r}")
        if self._training.loss not in LOSSES:
            known, got = ", ".join(sorted(LOSSES)), self._training.loss
            raise RecipeError(f"recipe.training[{stage}].loss: wanted one of {known}, got {got!r}")
        self._spacing = _fixed_spacing(self._stage, where)
        self._options = recipe.coarse_to_fine or CoarseToFine()
        self._lesions = [n for n, name in enumerate(recipe.label_names) if name in recipe.lesion_names]
        self._healthy = recipe.label_names.index("liver") if "liver" in recipe.label_names else 0
        self._precision = partial(forward_precision, device, self._training.bf16, bf16_on_cpu)
        self._table = class_table(recipe, self._stage).to(device)
        self._segmentation_loss = LOSSES[self._training.loss](self._stage.activation)
        network: Any = build_network(self._stage.network, self._stage.arguments)
        self._detector = detector_of(network.anchors).train()

    def loss(self, network: torch.nn.Module, volume: torch.Tensor, labels: torch.Tensor, epoch: int) -> torch.Tensor:
        """Binary cross-entropy of the anchors, smooth L1 of their boxes, and the segmentation's loss, added."""
        return self._loss(self._answer(network, volume), volume, labels)

    def judge(self, network: torch.nn.Module, volume: torch.Tensor, labels: torch.Tensor) -> Judgement:
        """The same loss, with the same hard negatives each time; counts are found, small lesions, false and patches."""
        network.train()  # nothing in a detector network but its answer depends on the mode
        answer = self._answer(network, volume)
        network.eval()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            loss = float(self._loss(answer, volume, labels).detach())
        counts = torch.zeros(4, dtype=torch.float64)
        for reference, found in zip(self._small(labels)[0], self._findings(network, volume), strict=True):
            alike = np.array([[_overlap(r, f) > _ALIKE for f in found] for r in reference], bool)
            alike = alike.reshape(len(reference), len(found))
            false = len(found) - np.count_nonzero(alike.any(axis=0))
            counts += torch.tensor([np.count_nonzero(alike.any(axis=1)), len(reference), false, 1], dtype=torch.float64)
        return Judgement(loss, counts)

    def scores(self, counts: torch.Tensor) -> dict[str, float]:
        """Share of small lesions found, NaN where there are none, and false findings a patch."""
        found, lesions, false, patches = counts.tolist()
        return {
            "recall": found / lesions if lesions else float("nan"),
            "false_positives": false / max(patches, 1.0),
        }

    def picture(
        self, network: torch.nn.Module, volume: torch.Tensor, labels: torch.Tensor
    ) -> tuple[np.ndarray, np.ndarray]:
        """The small lesions of the first patch, and the boxes found there."""
        lesions = torch.isin(self._small(labels[:1])[1], torch.tensor(self._lesions, device=labels.device))
        boxes = np.zeros(labels.shape[2:], np.uint8)
        for each in self._findings(network, volume[:1])[0]:
            boxes[each.box] = 1
        return lesions[0, 0].cpu().numpy().astype(np.uint8), boxes

    def _answer(self, network: torch.nn.Module, volume: torch.Tensor) -> Answer:
        with self._precision():
            answer: Answer = network(volume)
        # Steps to a box of a few voxels, and logits near 0, must not be rounded to three digits.
        heads = {name: [level.float() for level in levels] for name, levels in answer.heads.items()}
        return Answer(answer.segmentation.float(), heads)

    def _loss(self, answer: Answer, volume: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        lesions, kept = self._small(labels)
        targets = [{"boxes": _boxes(each, volume.device), "labels": _zeros(each, volume.device)} for each in lesions]
        given: Any = self._detector.network
        given.heads = answer.heads
        parts = self._detector(volume, targets)
        segmentation = self._segmentation_loss(answer.segmentation, class_targets(kept, self._table))
        return torch.as_tensor(sum(part.to(volume.device) for part in parts.values()) + segmentation)

    def _small(self, labels: torch.Tensor) -> tuple[list[list[Detection]], torch.Tensor]:
        """The small lesions of each patch, and the labels with healthy liver in place of the others."""
        kept, found = labels.clone(), []
        for number, patch in enumerate(labels[:, 0].cpu().numpy()):
            lesions = seg2det(np.isin(patch, self._lesions), np.ones_like(patch), self._spacing)
            for each in lesions:
                if each.long_axis_mm >= self._options.small_lesion_mm and each.mask is not None:
                    kept[number, 0][each.box][torch.from_numpy(each.mask).to(labels.device)] = self._healthy
            found.append(smaller_than(lesions, self._options.small_lesion_mm))
        return found, kept

    def _findings(self, network: torch.nn.Module, volume: torch.Tensor) -> list[list[Detection]]:
        with self._precision():
            dense = network(volume)[:, len(self._stage.classes) :].float().cpu().numpy()
        score, overlap = self._options.detector_score, self._options.detector_overlap
        return [proposed_findings(each, self._spacing, score, overlap) for each in dense]


def _fixed_spacing(stage: Stage, where: str) -> tuple[float, float, float]:
    """(k, j, i) edges of the stage's voxels, which must be the same for every scan: lesions are told by their size."""
    grid = stage.grid
    edges = [axis.spacing_mm for axis in grid.axes] if grid.axes is not None else [grid.spacing_mm] * 3
    i, j, k = (edge or 0.0 for edge in edges)
    if min(i, j, k) <= 0:
        raise RecipeError(f"{where}.grid: wanted spacing_mm on every axis for the task 'detect', got others")
    return (k, j, i)


def _overlap(first: Detection, second: Detection) -> float:
    """Intersection over union of two boxes of voxels."""
    sides = [min(a.stop, b.stop) - max(a.start, b.start) for a, b in zip(first.box, second.box, strict=True)]
    shared = float(np.prod(np.clip(sides, 0, None)))
    volumes = [np.prod([s.stop - s.start for s in each.box]) for each in (first, second)]
    return shared / float(sum(volumes) - shared)


def _boxes(lesions: list[Detection], device: torch.device) -> torch.Tensor:
    corners = [[s.start for s in each.box] + [s.stop for s in each.box] for each in lesions]
    return torch.tensor(corners, dtype=torch.float32, device=device).reshape(-1, 6)


def _zeros(lesions: list[Detection], device: torch.device) -> torch.Tensor:
    return torch.zeros(len(lesions), dtype=torch.int64, device=device)
