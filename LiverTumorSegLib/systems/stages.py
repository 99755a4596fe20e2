"""What every system is made of: a study under way, and the networks that look at parts of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import SimpleITK as sitk

from ..errors import RecipeError, warn
from ..geometry import Box, GridGeometry, box_of_mask, box_within, fit_grid, resample_to_grid, widened
from ..inference import Engine, Reduce, run_network
from ..preprocessing import confined, liver_level, padding_value, scale_intensity, with_context
from ..recipe import Crop, Recipe, Stage
from ..windows import Window, cut, shifted_inside

Progress = Callable[[str, float], None]
"""Told the name of the step under way and the share of it that is done, 0 to 1."""

Volumes = list[np.ndarray | None]
"""Grey values (k, j, i) of the scan and of each phase on one grid; None where there are none."""


OrganOn = Callable[[GridGeometry], np.ndarray]
"""The organ that a stage found, as a (k, j, i) mask of another grid."""


def silent(step: str, share: float) -> None:
    """A `Progress` that tells nobody."""


@dataclass
class Study:
    """One study under way.

    Attributes:
        scan: the main scan, CT in HU.
        phases: the other ones in the recipe's order, None where one is missing.
        modality: "CT" or "MR", of all of them.
        progress: told what is going on.
        liver_levels: the liver's median grey value in the scan and each phase, once a stage has found it.
        seconds: step -> wall time so far.
        stages: for the report, what grid each stage had.
    """

    scan: sitk.Image
    phases: dict[str, sitk.Image | None]
    modality: str
    progress: Progress = silent
    liver_levels: list[float | None] = field(init=False)
    seconds: dict[str, float] = field(default_factory=dict)
    stages: dict[str, dict[str, object]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.liver_levels = [None] * (1 + len(self.phases))

    def volumes(self, box: Box, geometry: GridGeometry) -> Volumes:
        """What the scan and each phase show in a box of the scan, on a grid; None where one shows nothing there."""
        volumes: Volumes = [self._on_grid(self.scan, box, geometry)]
        for name, phase in self.phases.items():
            own = box_within(self.scan, box, phase) if phase is not None else None
            if phase is not None and own is None:
                warn(f"phase {name}: it does not reach the region of the liver and counts as missing there")
            volumes.append(self._on_grid(phase, own, geometry) if phase is not None and own is not None else None)
        return volumes

    def learn_liver_levels(self, volumes: Volumes, liver: np.ndarray) -> None:
        """Note the liver's grey values for stages that scale by them; `liver` is what is surely liver, (k, j, i)."""
        self.liver_levels = [None if each is None else liver_level(each, liver) for each in volumes]

    def box_around(self, mask: np.ndarray, geometry: GridGeometry, crop: Crop) -> Box:
        """The scan's box around a mask of a grid, with the margin of a recipe.

        Raises:
            ValueError: the mask is empty.
        """
        return widened(box_of_mask(mask, geometry, self.scan), self.scan, crop.margin_mm, crop.margin_voxels)

    def _on_grid(self, scan: sitk.Image, box: Box, geometry: GridGeometry) -> np.ndarray:
        return resample_to_grid(scan, box, geometry, padding_value(scan, self.modality))

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step and tell of its start and end."""
        self.progress(name, 0.0)
        began = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began
        self.progress(name, 1.0)


@dataclass(frozen=True)
class StageOutput:
    """What a stage's network says of a box of the scan.

    Attributes:
        logits: float32 (classes, k, j, i), in the order of `Stage.classes`; or whatever a reduction made of them.
        geometry: their grid.
        volumes: the grey values that the network was asked about, before scaling.
    """

    logits: np.ndarray
    geometry: GridGeometry
    volumes: Volumes


class Networks:
    """A recipe's stages with their networks, ready to run; a stage goes by its name or its number."""

    def __init__(self, recipe: Recipe, engines: Mapping[str, Engine]) -> None:
        """Args: recipe: whose stages. engines: stage's name -> its network."""
        self.recipe = recipe
        self._engines = dict(engines)

    def stage(self, key: str | int) -> Stage:
        """The recipe's entry for a stage.

        Raises:
            RecipeError: there is none of that name.
        """
        if isinstance(key, int):
            return self.recipe.stages[key]
        for stage in self.recipe.stages:
            if stage.name == key:
                return stage
        raise RecipeError(f"stage: wanted one of {', '.join(self._engines)}, got {key!r}")

    def engine(self, key: str | int) -> Engine:
        """The network itself, for a system that feeds it in a way of its own."""
        return self._engines[self.stage(key).name]

    def run(
        self,
        study: Study,
        key: str | int,
        box: Box,
        reduce: Reduce | None = None,
        filled_up: bool = False,
        organ_on: OrganOn | None = None,
    ) -> StageOutput:
        """Show a box of the scan to a stage's network, on the stage's grid.

        Args:
            study: whose scan and phases.
            key: the stage.
            box: of the scan's voxels; what lies around it on the grid is padding.
            reduce: see `inference.run_network`.
            filled_up: see `run_array`.
            organ_on: what a stage that is `in_organ` sees, and that no other may be given.
        """
        stage = self.stage(key)
        with study.step(f"{stage.name}: prepare"):
            geometry = fit_grid(study.scan, box, stage.grid)
            volumes = study.volumes(box, geometry)
            array = self.input_of(study, key, volumes)
            if organ_on is not None:
                array = confined(array, organ_on(geometry))
        spacing = tuple(round(edge, 4) for edge in geometry.spacing_mm)
        study.stages[stage.name] = {"spacing_mm": spacing, "size_voxels": geometry.size}
        name = f"{stage.name}: network"
        with study.step(name):
            logits = self.run_array(key, array, reduce, lambda share: study.progress(name, share), filled_up)
        return StageOutput(logits, geometry, volumes)

    def input_of(self, study: Study, key: str | int, volumes: Volumes) -> np.ndarray:
        """Grey values as a stage's network wants them: scaled, with neighbouring slices as channels.

        Args:
            study: for its modality and what is known of the liver's grey values.
            key: the stage.
            volumes: of the scan and each phase, at least one of them there; a missing one is 0 everywhere.

        Returns:
            float32 (channels, k, j, i); it may be read-only.
        """
        stage = self.stage(key)
        shape = next(volume.shape for volume in volumes if volume is not None)
        channels = np.zeros((len(volumes), *shape), np.float32)
        for channel, volume, level in zip(channels, volumes, study.liver_levels, strict=True):
            if volume is not None:
                channel[:] = scale_intensity(volume, stage.intensity, study.modality, level)
        return with_context(channels, stage.context_slices)

    def run_array(
        self,
        key: str | int,
        array: np.ndarray,
        reduce: Reduce | None = None,
        progress: Callable[[float], None] | None = None,
        filled_up: bool = False,
    ) -> np.ndarray:
        """Run a stage's network on an input that is ready: in the stage's windows where it is larger than they are.

        Args:
            key: the stage.
            array: float32 (channels, k, j, i), as `input_of` gives it; each side a multiple of the grid's `multiples`.
            reduce: see `inference.run_network`.
            progress: told the share that is done.
            filled_up: where it is smaller than they are, it stands in the middle of one, as in training; for networks
                whose answer depends on all that a window shows, by channel weights or instance normalisation.

        Returns:
            float32 logits (classes, k, j, i), by the stage's temperature, or what `reduce` makes of them.
        """
        stage, shape = self.stage(key), array.shape[1:]
        size = tuple(map(max, shape, stage.window[::-1])) if filled_up and stage.window else shape
        seen = shifted_inside(Window((0, 0, 0), size), shape)
        if size != shape:
            array = cut(array, seen, float(array.min()))
        logits = run_network(
            self.engine(key),
            array,
            stage.window,
            stage.overlap,
            progress,
            reduce,
            temperature=stage.temperature,
            multiples=stage.grid.multiples,
        )
        return logits[(slice(None), *seen.covered(shape))]
