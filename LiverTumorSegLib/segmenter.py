"""segment(): the cascade, in reading order (S1, section 3.2.2).

read -> whole field -> network 1 -> liver's box -> crop -> network 2 -> labels on the scan's grid.
"""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from . import __version__
from .bundle import Bundle
from .errors import recorded_warnings, warn
from .geometry import Box, GridGeometry, box_of_mask, box_within, fit_grid, resample_to_grid, whole_box, widened
from .images import calibrate_ct, check_image, modality_of
from .inference import Engine, open_engine, resolve_device, run_network
from .phases import prepared_phases
from .postprocessing import Evidence, large_components
from .preprocessing import liver_level, padding_value, scale_intensity
from .segmentation import Provenance, Segmentation, check_sensitivity

Progress = Callable[[str, float], None]
"""Told the name of the step under way and the share of it that is done, 0 to 1."""


def segment(
    image: sitk.Image,
    bundle: Bundle | str | Path = "default",
    *,
    phases: Mapping[str, sitk.Image] | None = None,
    device: str = "auto",
    precision: str = "auto",
    modality: str | None = None,
    sensitivity: float = 1.0,
    progress: Progress | None = None,
) -> Segmentation:
    """Find the liver and its tumours in one scan.

    Args:
        image: 3D CT (HU) or MR scan of any orientation and spacing.
        bundle: a loaded bundle, or the name or folder of one.
        phases: further scans of the same study by the names that the bundle's recipe gives them, on grids of their
            own. They are taken to lie in one frame of reference with the scan: nothing is registered. Optional ones
            may be missing and are then 0 in every voxel of the network's input.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        precision: "auto", "f32", "bf16" or "f16".
        modality: "CT" or "MR"; by default from the DICOM tag or the intensities.
        sensitivity: factor on the tumour's probability, see `Segmentation.with_sensitivity`.
        progress: told what is going on.

    Returns:
        Labels on exactly the scan's grid. No liver found is a valid, empty result with a warning.

    Raises:
        ImageError, BundleError, RecipeError, DeviceError: one line with wanted and got.
    """
    segmenter = Segmenter(bundle, device=device, precision=precision)
    return segmenter(image, phases=phases, modality=modality, sensitivity=sensitivity, progress=progress)


class Segmenter:
    """A bundle with its networks loaded, ready for scan after scan."""

    def __init__(self, bundle: Bundle | str | Path = "default", *, device: str = "auto", precision: str = "auto"):
        """Load the bundle and open its networks on a device; see `segment` for the arguments."""
        began = time.perf_counter()
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
        self.device = resolve_device(device)
        self.engines: list[Engine] = [
            open_engine(self.bundle, stage, device=self.device, precision=precision)
            for stage in self.bundle.recipe.stages
        ]
        self.opening_seconds = time.perf_counter() - began

    def __call__(
        self,
        image: sitk.Image,
        *,
        phases: Mapping[str, sitk.Image] | None = None,
        modality: str | None = None,
        sensitivity: float = 1.0,
        progress: Progress | None = None,
    ) -> Segmentation:
        """Segment one scan; arguments and result as in `segment`."""
        check_sensitivity(sensitivity)
        with recorded_warnings() as texts:
            image = check_image(image)
            kind = modality or modality_of(image)
            declared, sure = self.bundle.recipe.phases, modality is not None
            others = prepared_phases(declared, phases or {}, image, kind, modality_is_sure=sure)
            case = _Case(calibrate_ct(image) if kind == "CT" else image, others, kind, progress or _silent)
            evidence = self._cascade(case)
            with case.step("labels"):
                labels = evidence.labels_like(case.image, sensitivity)
            if not _any(labels):
                warn("no liver was found in this scan; the segmentation is empty")
        for text in texts:
            warn(text)
        return Segmentation(labels, case.image, self._provenance(case, texts), evidence, sensitivity)

    def _cascade(self, case: _Case) -> Evidence:
        """Stage after stage, each on the box that the one before left it."""
        recipe = self.bundle.recipe
        box = whole_box(case.image)
        evidence, volumes = self._run_stage(case, 0, box)
        for stage in range(1, len(recipe.stages)):
            organ = (evidence.liver > 0) | (evidence.tumour > 0)
            if organ.any():
                kept = large_components(organ, recipe.postprocessing.keep_liver_above)
                sure = kept & (evidence.liver > np.maximum(evidence.tumour, 0))
                case.liver_levels = [None if each is None else liver_level(each, sure) for each in volumes]
                found = box_of_mask(kept, evidence.geometry, case.image)
                box = widened(found, case.image, recipe.crop.margin_mm, recipe.crop.margin_voxels)
            else:
                warn("the first stage found no liver; the second one searched the whole scan")
                box = whole_box(case.image)
            evidence, volumes = self._run_stage(case, stage, box)
        return evidence

    def _run_stage(self, case: _Case, number: int, box: Box) -> tuple[Evidence, list[np.ndarray | None]]:
        """What the stage's network says, and the grey values of each scan that it was asked about."""
        stage, engine = self.bundle.recipe.stages[number], self.engines[number]
        with case.step(f"{stage.name}: prepare"):
            geometry = fit_grid(case.image, box, stage.grid)
            volumes = case.resampled(box, geometry)
            channels = np.zeros((len(volumes), *geometry.size[::-1]), np.float32)
            for channel, volume, level in zip(channels, volumes, case.liver_levels, strict=True):
                if volume is not None:
                    channel[:] = scale_intensity(volume, stage.intensity, case.modality, level)
        with case.step(f"{stage.name}: network"):
            logits = run_network(
                engine,
                channels,
                stage.window,
                stage.overlap,
                lambda share: case.progress(f"{stage.name}: network", share),
            )
        case.stages[stage.name] = {"spacing_mm": round(geometry.spacing_mm, 4), "size_voxels": geometry.size}
        liver, tumour = (np.clip(logits[c] - logits[0], -100, 100).astype(np.float16) for c in (1, 2))
        return Evidence(liver, tumour, geometry, self.bundle.recipe.postprocessing), volumes

    def _provenance(self, case: _Case, warnings: list[str]) -> Provenance:
        recipe, engine = self.bundle.recipe, self.engines[-1]
        return Provenance(
            software=f"LiverTumorSeg {__version__}",
            bundle=self.bundle.name,
            bundle_version=self.bundle.version,
            bundle_sha256=self.bundle.sha256,
            recipe=recipe.name,
            variant=recipe.variant,
            modality=case.modality,
            device=engine.device,
            engine=engine.name,
            precision=engine.precision,
            size_voxels=case.image.GetSize(),
            spacing_mm=case.image.GetSpacing(),
            versions=_versions(),
            stages=case.stages,
            seconds={name: round(value, 3) for name, value in case.seconds.items()},
            peak_memory_mb=peak_memory_mb(),
            warnings=tuple(warnings),
            phases=tuple(name for name, scan in case.phases.items() if scan is not None),
        )


@dataclass
class _Case:
    """One study under way.

    Attributes:
        image: the main scan.
        phases: the other ones, None where one is missing.
        liver_levels: the liver's median grey value in the scan and each phase, once a stage has found it.
    """

    image: sitk.Image
    phases: dict[str, sitk.Image | None]
    modality: str
    progress: Progress
    liver_levels: list[float | None] = field(init=False)
    seconds: dict[str, float] = field(default_factory=dict)
    stages: dict[str, dict[str, object]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.liver_levels = [None] * (1 + len(self.phases))

    def resampled(self, box: Box, geometry: GridGeometry) -> list[np.ndarray | None]:
        """What the scan and each phase show in a box of the scan, on a grid; None where one shows nothing there."""
        volumes: list[np.ndarray | None] = [self._on_grid(self.image, box, geometry)]
        for name, phase in self.phases.items():
            own = box_within(self.image, box, phase) if phase is not None else None
            if phase is not None and own is None:
                warn(f"phase {name}: it does not reach the region of the liver and counts as missing there")
            volumes.append(self._on_grid(phase, own, geometry) if phase is not None and own is not None else None)
        return volumes

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


def peak_memory_mb() -> float:
    """Highest resident memory of this process so far in MB; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)


def _versions() -> dict[str, str]:
    """Python and whatever of the computing packages is loaded."""
    names = {"numpy": "numpy", "SimpleITK": "simpleitk", "openvino": "openvino", "torch": "torch", "monai": "monai"}
    loaded = {name: metadata.version(package) for name, package in names.items() if name in sys.modules}
    return {"python": platform.python_version(), **loaded}


def _any(labels: sitk.Image) -> bool:
    return bool(sitk.GetArrayViewFromImage(labels).max() > 0)


def _silent(step: str, share: float) -> None:
    pass
