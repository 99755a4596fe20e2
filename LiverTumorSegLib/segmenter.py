"""segment(): one study from the scan to labels on its grid, by whichever system the bundle's recipe names.

check -> phases -> study -> system -> labels and provenance.
"""

from __future__ import annotations

import dataclasses
import platform
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import SimpleITK as sitk

from . import __version__
from .bundle import Bundle
from .errors import recorded_warnings, warn
from .images import calibrate_ct, check_image, check_modality, modality_of
from .inference import Engine, open_engine, resolve_device
from .phases import prepared_phases
from .recipe import Recipe, Typing
from .segmentation import Provenance, Segmentation, check_sensitivity
from .systems import Outcome, check_recipe, system_named
from .systems.stages import Networks, Progress, Study, silent


def segment(
    image: sitk.Image,
    bundle: Bundle | str | Path = "default",
    *,
    phases: Mapping[str, sitk.Image] | None = None,
    device: str = "auto",
    precision: str = "auto",
    modality: str | None = None,
    sensitivity: float = 1.0,
    registration: bool = True,
    progress: Progress | None = None,
) -> Segmentation:
    """Find the liver and its tumours in one scan.

    Args:
        image: 3D CT (HU) or MR scan of any orientation and spacing.
        bundle: a loaded bundle, or the name or folder of one.
        phases: further scans of the same study by the names that the bundle's recipe gives them, on grids of their
            own. They must lie in one frame of reference with the scan. Optional ones may be missing and are then 0 in
            every voxel of the network's input.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        precision: "auto", "f32", "bf16" or "f16".
        modality: "CT" or "MR"; by default from the DICOM tag or the intensities.
        sensitivity: factor on the tumour's probability, see `Segmentation.with_sensitivity`.
        registration: whether phases are brought onto the scan where the recipe says so; False for phases that lie on
            it already.
        progress: told what is going on.

    Returns:
        Labels on exactly the scan's grid. No liver found is a valid, empty result with a warning.

    Raises:
        ImageError, BundleError, RecipeError, DeviceError: one line with wanted and got.
    """
    segmenter = Segmenter(bundle, device=device, precision=precision, registration=registration)
    return segmenter(image, phases=phases, modality=modality, sensitivity=sensitivity, progress=progress)


class Segmenter:
    """A bundle with its networks loaded, ready for scan after scan."""

    def __init__(
        self,
        bundle: Bundle | str | Path = "default",
        *,
        device: str = "auto",
        precision: str = "auto",
        registration: bool = True,
    ):
        """Load the bundle and open its networks on a device; see `segment` for the arguments."""
        began = time.perf_counter()
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
        check_recipe(self.bundle.recipe)
        self.device = resolve_device(device)
        self.engines: list[Engine] = [
            open_engine(self.bundle, stage, device=self.device, precision=precision)
            for stage in self.bundle.recipe.stages
        ]
        names = [stage.name for stage in self.bundle.recipe.stages]
        recipe = self.bundle.recipe if registration else _with_phases_as_they_lie(self.bundle.recipe)
        self._networks = Networks(recipe, dict(zip(names, self.engines, strict=True)))
        self._run = system_named(self.bundle.recipe.system)
        self.opening_seconds = time.perf_counter() - began

    def get_ready(self) -> None:
        """Prepare the networks, in the background, for windows of full size, which most scans need; returns at once.

        For whoever has a scan to read meanwhile.
        """
        for stage, engine in zip(self.bundle.recipe.stages, self.engines, strict=True):
            if stage.window is not None:
                engine.get_ready((1, stage.arguments.get("in_channels", 1), *stage.window[::-1]))

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
        check_modality(modality)
        with recorded_warnings() as texts:
            image = check_image(image)
            kind = modality or modality_of(image)
            declared, sure = self.bundle.recipe.phases, modality is not None
            others = prepared_phases(declared, phases or {}, image, kind, modality_is_sure=sure)
            study = Study(calibrate_ct(image) if kind == "CT" else image, others, kind, progress or silent)
            outcome = self._run(study, self._networks)
            with study.step("labels"):
                labels = outcome.evidence.labels_like(study.scan, sensitivity)
            if not _any(labels):
                warn("no liver was found in this scan; the segmentation is empty")
        for text in texts:
            warn(text)
        made = self._provenance(study, outcome, texts, modality is not None)
        return Segmentation(
            labels, study.scan, made, outcome.evidence, sensitivity, outcome.kinds, outcome.patient_class
        )

    def _provenance(self, study: Study, outcome: Outcome, warnings: list[str], modality_given: bool) -> Provenance:
        recipe, engine = self.bundle.recipe, self.engines[-1]
        return Provenance(
            software=f"LiverTumorSeg {__version__}",
            bundle=self.bundle.name,
            bundle_version=self.bundle.version,
            bundle_sha256=self.bundle.sha256,
            recipe=recipe.name,
            variant=recipe.variant,
            modality=study.modality,
            device=engine.device,
            engine=engine.name,
            precision=engine.precision,
            size_voxels=study.scan.GetSize(),
            spacing_mm=study.scan.GetSpacing(),
            versions=_versions(),
            stages=study.stages,
            seconds={name: round(value, 3) for name, value in study.seconds.items()},
            peak_memory_mb=peak_memory_mb(),
            warnings=tuple(warnings),
            modality_given=modality_given,
            phases=tuple(name for name, scan in study.phases.items() if scan is not None),
            system=recipe.system,
            details=outcome.details | ({} if self._networks.recipe is recipe else {"registration": "switched off"}),
        )


def _with_phases_as_they_lie(recipe: Recipe) -> Recipe:
    """The recipe without a registration of its phases; the same one where it has none."""
    options = recipe.typing or Typing()
    if recipe.system != "typing" or options.register == "none":
        return recipe
    return dataclasses.replace(recipe, typing=dataclasses.replace(options, register="none"))


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
