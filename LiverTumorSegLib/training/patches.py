"""Training patches from a stream of synthetic scans, the same for the same seed and number."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import Dataset, get_worker_info

from ..errors import TrainingError
from ..preprocessing import liver_level, scale_intensity, with_context
from ..recipe import Axis, Recipe
from .augmentation import AUGMENTATIONS, View
from .organ import confine
from .sampling import Aim, draw_aim, draw_window, find_places
from .scaling import liver_level_on_device, scaled_on_device, with_context_on_device
from .synthesis.generator import DrawnScan, Field, drawn_scan
from .synthesis.lesions import Aim as LesionAim
from .synthesis.library import AnatomyLibrary
from .synthesis.settings import TRAINING, Settings

Patch = tuple[torch.Tensor, torch.Tensor]
"""Network input (channels, k, j, i) float32 after preprocessing, augmentation and context, and the values of
`Recipe.label_names` (1, k, j, i) uint8; in a batch one dimension more."""

Size = tuple[int, int, int]

# Where a recipe gives its grid's shape, the spacing follows from the scan at hand; these are the
# spacings that a 128-voxel grid has over a liver (False) and over a body (True).
_TYPICAL_SPACING_MM = {True: 3.0, False: 2.0}

_LESIONS: dict[Aim, LesionAim] = {"lesion": "middle", "liver": "none", "anywhere": "any"}

_FINEST_MM = 1.0  # bodies have voxels of 2 mm: drawing them finer than this only takes time
_AROUND_LESIONS_MM = 80.0
_OFF_CENTRE = 0.35  # of the patches for the liver's box


@dataclass(frozen=True)
class TypicalScan:
    """What grids that follow the scan's own spacing or extent are taken to follow, along (i, j, k)."""

    spacing_mm: tuple[float, float, float] = (0.8, 0.8, 2.5)
    extent_mm: tuple[float, float, float] = (400.0, 400.0, 260.0)

    def spacing(self, axes: tuple[Axis, Axis, Axis]) -> tuple[float, float, float]:
        """Of the grid's voxels along (i, j, k), in mm."""
        i, j, k = (
            axis.spacing_mm or (own * axis.times_own if axis.times_own else extent / (axis.voxels or 1))
            for axis, own, extent in zip(axes, self.spacing_mm, self.extent_mm, strict=True)
        )
        return i, j, k


@dataclass(frozen=True)
class SyntheticPatches(Dataset[Patch]):
    """Patch number n is drawn from (seed, stage, n) alone, so that a resumed run sees what an unbroken one would.

    Attributes:
        library: bodies to draw from.
        names: which of them.
        recipe: grids, scaling and patch sizes.
        stage: index of the stage to train.
        seed: of the whole stream.
        start, count: the numbers of the patches.
        settings: of the drawing.
        typical: stands for the scan that a grid follows.
        augmented: whether the stage's augmentation is applied.
        device: where scans are drawn and patches stay; on another than the CPU, only in the process that trains.
    """

    library: AnatomyLibrary
    names: tuple[str, ...]
    recipe: Recipe
    stage: int
    seed: int
    start: int
    count: int
    settings: Settings = TRAINING
    typical: TypicalScan = field(default_factory=TypicalScan)
    augmented: bool = True
    device: str = "cpu"

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Patch:
        """Network input (channels, k, j, i) float32 and labels (1, k, j, i) uint8."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        if self._on_device and get_worker_info() is not None:
            raise TrainingError(f"patches on {self.device}: wanted them made in the training process, got a worker's")
        rng = np.random.default_rng([self.seed, self.stage, self.start + index])
        anatomy = self.library.load(self.names[rng.integers(len(self.names))])
        aim = draw_aim(rng, self.recipe.training[self.stage].sampling)
        field, lesions = self.drawn_field(), _LESIONS[aim]
        scan = drawn_scan(anatomy, field, rng, settings=self.settings, aim=lesions, device=self.device)
        volume, labels = self._on_grid(scan, rng, aim)
        if self._on_device and not self._needs_arrays:
            return self._finished_on_device(volume, labels, scan.modality, rng)
        arrays = volume.cpu().numpy(), labels.cpu().numpy()
        channels, values = self._finished(*arrays, scan.modality, rng)
        return channels.to(self.device), values.to(self.device)

    @property
    def _on_device(self) -> bool:
        return torch.device(self.device).type != "cpu"

    @property
    def _needs_arrays(self) -> bool:
        """Whether a filter, an augmentation or the organ is wanted, which are made of arrays."""
        intensity, training = self.recipe.stages[self.stage].intensity, self.recipe.training[self.stage]
        if self.recipe.stages[self.stage].in_organ:
            return True
        filters = intensity.denoise_voxels or intensity.smooth_voxels or intensity.contrast
        return bool(filters) or (self.augmented and training.augmentation != "none")

    def _finished(self, volume: np.ndarray, labels: np.ndarray, modality: str, rng: np.random.Generator) -> Patch:
        """A patch scaled, augmented, and with its neighbouring slices as channels."""
        stage, training = self.recipe.stages[self.stage], self.recipe.training[self.stage]
        level = _inexact(liver_level(volume, labels == 1), modality, rng)
        channels = scale_intensity(volume, stage.intensity, modality, level)[None]
        if self.augmented:
            view = View(stage.region == "whole", self.spacing_mm, flat=training.patch[2] == 1)
            channels, labels = AUGMENTATIONS[training.augmentation](channels, labels, rng, view)
        if stage.in_organ:
            channels, labels = confine(channels, labels, min(self.spacing_mm), rng)
        ends = self._ends(labels)
        channels = with_context(channels, stage.context_slices)[:, ends]
        return torch.from_numpy(np.array(channels)), torch.from_numpy(np.array(labels[None, ends]))

    def _finished_on_device(
        self, volume: torch.Tensor, labels: torch.Tensor, modality: str, rng: np.random.Generator
    ) -> Patch:
        """The same without leaving the device."""
        stage = self.recipe.stages[self.stage]
        level = _inexact(liver_level_on_device(volume, labels == 1), modality, rng)
        channels = scaled_on_device(volume, stage.intensity, modality, level)[None]
        ends = self._ends(labels)
        channels = with_context_on_device(channels, stage.context_slices)[:, ends]
        return channels.contiguous(), labels[None, ends].contiguous()

    def _ends(self, labels: np.ndarray | torch.Tensor) -> slice:
        """The slices that are more than context."""
        reach = self.recipe.stages[self.stage].context_slices // 2
        return slice(reach, len(labels) - reach)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Of the stage's voxels along (i, j, k)."""
        stage = self.recipe.stages[self.stage]
        if stage.grid.axes is not None:
            return self.typical.spacing(stage.grid.axes)
        return (stage.grid.spacing_mm or _TYPICAL_SPACING_MM[stage.region == "whole"],) * 3

    @property
    def shape(self) -> Size:
        """(k, j, i) voxels of the stage's grid that a patch shows, with the slices that are context only."""
        i, j, k = self.recipe.training[self.stage].patch
        return k + self.recipe.stages[self.stage].context_slices - 1, j, i

    def drawn_field(self) -> Field:
        """The part of a body that is drawn: the patch, and where a lesion is looked for, also what lies around it."""
        region = self.recipe.stages[self.stage].region
        spacing, shape = self.spacing_mm, self.shape
        edge = max(min(spacing), _FINEST_MM) if len(set(spacing)) > 1 else spacing[0]
        around = _AROUND_LESIONS_MM if region == "lesion" else 0.0
        k, j, i = (
            n if around == 0 and mm == edge else max(math.ceil((n * mm + around) / edge), 8)
            for n, mm in zip(shape, spacing[::-1], strict=True)
        )
        if region == "whole":
            return Field((k, j, i), edge, "body", cut=0.4)
        return Field((k, j, i), edge, "liver", cut=0.15, off_centre=_OFF_CENTRE if region == "liver" else 0.0)

    def _on_grid(self, scan: DrawnScan, rng: np.random.Generator, aim: Aim) -> tuple[torch.Tensor, torch.Tensor]:
        """The patch on the stage's grid, cut from what was drawn."""
        spacing = self.spacing_mm[::-1]
        if tuple(scan.volume.shape) == self.shape and spacing == (scan.spacing_mm,) * 3:
            return scan.volume, scan.labels
        size = [max(1, round(n * mm / scan.spacing_mm)) for n, mm in zip(self.shape, spacing, strict=True)]
        if self.recipe.stages[self.stage].region == "lesion":
            k, j, i = size
            starts = self._start_of_lesion(scan.labels.cpu().numpy(), (k, j, i), rng, aim)
        else:
            starts = tuple((whole - n) // 2 for whole, n in zip(scan.labels.shape, size, strict=True))
        box = tuple(slice(start, start + n) for start, n in zip(starts, size, strict=True))
        volume = _resized(scan.volume[box][None], self.shape)[0]
        shares = _resized(torch.stack([scan.labels[box] == value for value in range(3)]).float(), self.shape)
        return volume, shares.argmax(0).to(torch.uint8)

    def _start_of_lesion(self, labels: np.ndarray, size: Size, rng: np.random.Generator, aim: Aim) -> tuple[int, ...]:
        """Where a patch for single lesions begins in what was drawn: what it is of lies in its middle."""
        sampling, reached = self.recipe.training[self.stage].sampling, np.zeros_like(labels)
        middles = tuple(slice(n // 2, whole - n // 2) for n, whole in zip(size, labels.shape, strict=True))
        reached[middles] = labels[middles]
        places = find_places(reached, 1, (2,))
        return draw_window(rng, aim, places, labels, (2,), sampling, size).start


def resized(channels: np.ndarray, shape: Size) -> np.ndarray:
    """(channels, k, j, i) on as many voxels as `shape` has: means where they get larger, else linear."""
    return np.asarray(_resized(torch.from_numpy(np.asarray(channels, np.float32)), shape).numpy())


def _resized(channels: torch.Tensor, shape: Size) -> torch.Tensor:
    k, j, i = (min(old, new) for old, new in zip(channels.shape[1:], shape, strict=True))
    tensor = functional.adaptive_avg_pool3d(channels[None], (k, j, i))
    if (k, j, i) != shape:
        tensor = functional.interpolate(tensor, size=shape, mode="trilinear", align_corners=False)
    return tensor[0]


def _inexact(level: float | None, modality: str, rng: np.random.Generator) -> float | None:
    """A liver's level as inexact as the stage before will tell it."""
    if level is None:
        return None
    return level + rng.normal(0, 8) if modality == "CT" else level * float(np.exp(rng.normal(0, 0.08)))
