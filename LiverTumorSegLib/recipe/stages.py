"""One network of a system: its grid, its input, its output, and the further scans that it may see."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import RecipeError
from .grids import LARGEST, Grid, Triple

BACKGROUND = "background"

FINDING_CHANNELS = 7
"""What a detector network gives for each voxel after its classes: a logit, and six distances to the sides of a box."""

TEMPERATURES = (0.1, 10.0)
"""The lowest and the highest `Stage.temperature`."""


@dataclass(frozen=True)
class Intensity:
    """How grey values become network input: clip, then scale.

    Attributes:
        ct_clip_hu: limits in Hounsfield units for CT, or None for no clipping; not used by "liver".
        mr_clip_percentiles: limits as percentiles of the body's voxels for MR, or None; likewise.
        scale: "unit" maps the limits to 0..1, "symmetric" to -1..1 (S2: -200..200 HU by 200); "zscore" gives zero
            mean and unit deviation over the region; "liver" puts the liver's level, which a stage before found, to
            0, so that liver and lesions look alike in every modality and phase.
        liver_window: for "liver", what one unit of network input amounts to: Hounsfield units in
            CT, a share of the liver's level in MR. Clipped at 2 units below and above.
        denoise_voxels: radius of a median filter in each slice, after scaling; 0 for none.
        smooth_voxels: standard deviation of a Gaussian filter in each slice, after that; 0 for none.
        contrast: gain of a logistic curve at the middle grey of "unit", after that; 0 for a straight line. S4
            (section 2.1) does these three without a number.
    """

    ct_clip_hu: tuple[float, float] | None = None
    mr_clip_percentiles: tuple[float, float] | None = None
    scale: Literal["unit", "symmetric", "zscore", "liver"] = "zscore"
    liver_window: tuple[float, float] = (75.0, 0.5)
    denoise_voxels: int = 0
    smooth_voxels: float = 0.0
    contrast: float = 0.0

    def __post_init__(self) -> None:
        for name in ("ct_clip_hu", "mr_clip_percentiles"):
            limits = getattr(self, name)
            if limits is not None and not limits[0] < limits[1]:
                raise RecipeError(f"intensity.{name}: wanted low < high, got {limits}")
        for name, low, high in (("ct_clip_hu", -100_000, 100_000), ("mr_clip_percentiles", 0, 100)):
            limits = getattr(self, name)
            if limits is not None and not low <= limits[0] < limits[1] <= high:
                raise RecipeError(f"intensity.{name}: wanted {low} to {high}, got {limits}")
        if min(self.liver_window) <= 0:
            raise RecipeError(f"intensity.liver_window: wanted widths above 0, got {self.liver_window}")
        for name, most in (("denoise_voxels", 5), ("smooth_voxels", 5.0), ("contrast", 20.0)):
            if not 0 <= getattr(self, name) <= most:
                raise RecipeError(f"intensity.{name}: wanted 0 up to {most}, got {getattr(self, name)}")
        if self.contrast and self.scale != "unit":
            raise RecipeError(f"intensity.contrast: wanted 0 unless the scale is 'unit', got {self.contrast}")


@dataclass(frozen=True)
class Stage:
    """One network on one grid.

    Attributes:
        name: also the name of its weights: `weights/<name>.safetensors`.
        network: a key of `networks.NETWORKS`, or of `networks.DETECTORS` for the task "detect".
        arguments: keyword arguments of that network.
        grid: the grid it works on.
        intensity: the scaling of its input.
        window: (i, j, k) size above which the region is tiled with overlapping windows, or None
            to run it whole at any size.
        overlap: share of a window that neighbouring windows have in common.
        classes: what the channels of the network's output stand for, in their order: names of `Recipe.label_names`,
            "liver" or "tumour".
        activation: "softmax" for classes of which each voxel has one, "background" the first of them; "sigmoid" for
            one yes or no a class, and no background.
        region: what it looks at, in training and in inference: the whole scan, the liver's box, or one lesion's.
        context_slices: an odd number; so many neighbouring slices along k are input channels (S0's 2.5D: 5).
        task: whether it labels voxels, or finds lesions besides.
        in_organ: whether it is shown the organ that the stage before found, the liver with its lesions, too: after its
            other channels come the same with 0 beyond the organ, and one that is 1 in it. For lesions that are looked
            for in the liver, with `intensity.scale` "liver", where 0 is what the liver looks like.
        temperature: what the network's logits are divided by in inference (Guo et al., 2017), so that its probabilities
            are as often right as they say; above 1 they become less sure. The voxels' vote stays as it is where the
            classes of one stage decide it. All that is read from probabilities means these calibrated ones: a
            lesion's mean probability, `Postprocessing.min_lesion_probability`, and the odds that a sensitivity
            factor multiplies, so that factor f does what f ** temperature did before. Fitted to weights by
            `livertumorseg bundle calibrate`; nothing in training.
    """

    name: str
    network: str
    grid: Grid
    arguments: dict[str, Any] = field(default_factory=dict)
    intensity: Intensity = Intensity()
    window: Triple | None = None
    overlap: float = 0.25
    classes: tuple[str, ...] = (BACKGROUND, "liver", "tumour")
    activation: Literal["softmax", "sigmoid"] = "softmax"
    region: Literal["whole", "liver", "lesion"] = "whole"
    context_slices: int = 1
    task: Literal["segment", "detect"] = "segment"
    in_organ: bool = False
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise RecipeError(f"stage.name: wanted a plain word, got {self.name!r}")
        if not 0 <= self.overlap < 1:
            raise RecipeError(f"stage.overlap: wanted 0 up to 1, got {self.overlap}")
        if self.window is not None and min(self.window) < 1:
            raise RecipeError(f"stage.window: wanted at least 1 voxel a side, got {self.window}")
        if self.context_slices < 1 or self.context_slices % 2 == 0:
            raise RecipeError(f"stage.context_slices: wanted an odd number above 0, got {self.context_slices}")
        if self.window is not None and max(self.window) > LARGEST:
            raise RecipeError(f"stage.window: wanted at most {LARGEST} voxels a side, got {self.window}")
        if self.window is not None and any(side % n for side, n in zip(self.window, self.grid.multiples, strict=True)):
            raise RecipeError(f"stage.window: wanted multiples of {self.grid.multiples}, got {self.window}")
        if self.context_slices > 99:
            raise RecipeError(f"stage.context_slices: wanted at most 99, got {self.context_slices}")
        if self.in_organ and (self.region != "liver" or self.context_slices > 1 or self.task != "segment"):
            got = f"region {self.region!r}, {self.context_slices} slices, task {self.task!r}"
            raise RecipeError(
                f"stage.in_organ: wanted it to label voxels of the liver's box without context, got {got}"
            )
        self._check_temperature()
        self._check_classes()

    def _check_temperature(self) -> None:
        low, high = TEMPERATURES
        if not low <= self.temperature <= high:
            raise RecipeError(f"stage.temperature: wanted {low:g} to {high:g}, got {self.temperature}")
        if self.task == "detect" and self.temperature != 1:
            got = self.temperature
            raise RecipeError(f"stage.temperature: wanted 1 for a detector, which also gives distances, got {got}")

    def _check_classes(self) -> None:
        got = ", ".join(self.classes) or "none"
        if len(set(self.classes)) < len(self.classes):
            raise RecipeError(f"stage.classes: wanted names that differ, got {got}")
        if self.activation == "softmax" and (len(self.classes) < 2 or self.classes[0] != BACKGROUND):
            raise RecipeError(f"stage.classes: wanted background and others after it for softmax, got {got}")
        if self.activation == "sigmoid" and (not self.classes or BACKGROUND in self.classes):
            raise RecipeError(f"stage.classes: wanted names other than background for sigmoid, got {got}")
        channels = self.arguments.get("out_channels", 3)
        detects = self.task == "detect"
        wanted = len(self.classes) + (FINDING_CHANNELS if detects else 0)
        if channels != wanted:
            more = f" and {FINDING_CHANNELS} for findings" if detects else ""
            where = "stage.arguments.out_channels"
            raise RecipeError(f"{where}: wanted {wanted}, one for each of {got}{more}, got {channels!r}")


@dataclass(frozen=True)
class Phase:
    """A further scan of the same study, which the networks see beside the main one as a channel of its own.

    Attributes:
        name: a plain word, "arterial" for example; what the user and `segment(phases=...)` call it.
        match: what the names of volumes and DICOM series call it, beside its own name: "art", "late arterial".
        required: whether nothing is done without it. A missing one that is not required is 0 in every voxel after
            scaling, which is how training must show it (S3, as 1 to 4 phases may be there).
    """

    name: str
    match: tuple[str, ...] = ()
    required: bool = False

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise RecipeError(f"phase.name: wanted a plain word, got {self.name!r}")
        if not all(any(c.isalnum() for c in each) for each in self.match):
            raise RecipeError(f"phase.match: wanted words with letters or digits, got {list(self.match)}")
