"""The parts of Retina U-Net: encoder and top-down decoder of our own, heads and anchors of MONAI.

MONAI's detector names two classes of torchvision, `Matcher` and `BalancedPositiveNegativeSampler`, in `isinstance`
tests, also where ATSS and hard negatives are used, as here. Where torchvision is not to be had (its wheel for Linux on
PyPI is for CUDA and does not load beside torch for CPUs) plain stand-ins take the two names; nothing is ever an
instance of them. With torchvision installed MONAI's own imports are left as they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from monai.apps.detection.networks import retinanet_detector
from monai.apps.detection.networks.retinanet_network import RetinaNetClassificationHead, RetinaNetRegressionHead
from monai.apps.detection.utils.anchor_utils import AnchorGeneratorWithAnchorShape
from torch import nn
from torch.nn import functional

STRIDES = (2, 4, 8)
"""Of the levels that have heads."""

_LARGEST_STEP = math.log(1000 / 16)  # MONAI's BoxCoder clips there, too


@dataclass(frozen=True)
class Answer:
    """What the network says in training.

    Attributes:
        segmentation: (batch, classes, k, j, i) logits.
        heads: MONAI's "classification" and "box_regression": a map for each of `STRIDES`.
    """

    segmentation: torch.Tensor
    heads: dict[str, list[torch.Tensor]]


class RetinaUNet(nn.Module):
    """See `retina_unet.build_retina_unet`; `anchors` are (k, j, i) here."""

    def __init__(
        self,
        in_channels: int,
        classes: int,
        widths: tuple[int, ...],
        channels: int,
        anchors: tuple[tuple[int, int, int], ...],
    ) -> None:
        super().__init__()
        before = (in_channels, *widths[:-1])
        self.encoder = nn.ModuleList(
            nn.Sequential(*_convolution(b, w, stride=1 if n == 0 else 2), *_convolution(w, w))
            for n, (b, w) in enumerate(zip(before, widths, strict=True))
        )
        self.lateral = nn.ModuleList(nn.Conv3d(width, channels, kernel_size=1, bias=False) for width in widths)
        self.decoder = nn.ModuleList(nn.Sequential(*_convolution(2 * channels, channels)) for _ in widths[:-1])
        self.segmentation_head = nn.Conv3d(channels, classes, kernel_size=3, padding=1)
        self.classification_head = RetinaNetClassificationHead(channels, len(anchors), 1, spatial_dims=3)
        self.regression_head = RetinaNetRegressionHead(channels, len(anchors), spatial_dims=3)
        self.anchors = AnchorGeneratorWithAnchorShape([stride // STRIDES[0] for stride in STRIDES], anchors)

    def forward(self, x: torch.Tensor) -> torch.Tensor | Answer:
        """In training an `Answer`, in evaluation the dense map of classes and findings."""
        finest, *others = self._features(x)
        segmentation = self.segmentation_head(finest)
        heads = {"classification": self.classification_head(others), "box_regression": self.regression_head(others)}
        if self.training:
            return Answer(segmentation, heads)
        return torch.cat([segmentation.float(), self._dense(heads)], dim=1)

    def _features(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Of the decoder, from stride 1 to stride 8."""
        levels = []
        for block, lateral in zip(self.encoder, self.lateral, strict=True):
            x = block(x)
            levels.append(lateral(x))
        for n in range(len(self.decoder) - 1, -1, -1):
            from_above = functional.interpolate(levels[n + 1], scale_factor=2.0)
            levels[n] = self.decoder[n](torch.cat([from_above, levels[n]], dim=1))
        return levels

    def _dense(self, heads: dict[str, list[torch.Tensor]]) -> torch.Tensor:
        """(batch, 7, k, j, i): of all anchors of all levels over a voxel the likeliest one's logit and box.

        The box is told by the distances from the voxel's centre down to its low sides and up to its high sides.
        """
        best: torch.Tensor | None = None
        for n, stride in enumerate(STRIDES):
            logit, box = self._level(n, heads["classification"][n].float(), heads["box_regression"][n].float())
            found = functional.interpolate(torch.cat([logit, box], dim=1), scale_factor=float(stride))
            best = found if best is None else torch.where(found[:, :1] > best[:, :1], found, best)
        assert best is not None
        here = _places(best[:, :1])
        return torch.cat([best[:, :1], here - best[:, 1:4], best[:, 4:] - here], dim=1)

    def _level(self, n: int, logits: torch.Tensor, steps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The likeliest anchor of each place of a level: logit (batch, 1, ...), low and high corner (batch, 6, ...)."""
        centre = _places(logits[:, :1]) * STRIDES[n]
        logit, chosen = logits.max(dim=1, keepdim=True)
        boxes = []
        for number, anchor in enumerate(self.anchors.cell_anchors[n].to(logits)):
            size = (anchor[3:] - anchor[:3]).reshape(1, 3, 1, 1, 1)
            step = steps[:, 6 * number : 6 * number + 6]
            middle = centre + step[:, :3] * size
            half = step[:, 3:].clamp(max=_LARGEST_STEP).exp() * size / 2
            boxes.append(torch.cat([middle - half, middle + half], dim=1))
        box = boxes[0]
        for number, other in enumerate(boxes[1:], 1):
            box = torch.where(chosen == number, other, box)
        return logit, box


def detector_of(anchors: AnchorGeneratorWithAnchorShape) -> retinanet_detector.RetinaNetDetector:
    """MONAI's matching, sampling and losses, set as nnDetection has them; its network is a `Given` one.

    ATSS with 4 candidates; of 32 anchors an image a third positive, the others hard negatives from a pool 20 times as
    large; binary cross-entropy for the class and smooth L1 for the box.
    """
    if not isinstance(retinanet_detector.Matcher, type):
        retinanet_detector.Matcher = _Matcher
        retinanet_detector.BalancedPositiveNegativeSampler = _BalancedPositiveNegativeSampler
    detector = retinanet_detector.RetinaNetDetector(Given(), anchors, spatial_dims=3, num_classes=1)
    detector.set_atss_matcher(num_candidates=4)
    detector.set_hard_negative_sampler(batch_size_per_image=32, positive_fraction=0.33, pool_size=20)
    return detector


class Given(nn.Module):
    """Heads that are there already, so that one pass through the network serves them and the segmentation."""

    def __init__(self) -> None:
        super().__init__()
        self.heads: dict[str, list[torch.Tensor]] = {}

    def forward(self, _: torch.Tensor) -> dict[str, list[torch.Tensor]]:
        """The heads, in a dictionary that may be changed."""
        return dict(self.heads)


class _Matcher:
    """Holds torchvision's name in MONAI's `isinstance`."""


class _BalancedPositiveNegativeSampler:
    """Likewise."""


def _places(like: torch.Tensor) -> torch.Tensor:
    """(batch, 3, k, j, i): each voxel's centre in voxels, the first one's at 0.5; counted, so that any size exports."""
    one = torch.ones_like(like)
    return torch.cat([one.cumsum(axis) - 0.5 for axis in (2, 3, 4)], dim=1)


def _convolution(before: int, width: int, stride: int = 1) -> tuple[nn.Module, nn.Module, nn.Module]:
    convolution = nn.Conv3d(before, width, kernel_size=3, stride=stride, padding=1)
    return convolution, nn.InstanceNorm3d(width), nn.LeakyReLU(0.01)
