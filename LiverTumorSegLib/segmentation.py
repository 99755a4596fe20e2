"""The result of a run: a label map on the scan's grid, with its lesions and where it came from."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from .errors import LiverTumorSegError
from .lesions import Lesion, LesionKind, find_lesions

if TYPE_CHECKING:
    from .postprocessing import Evidence

BACKGROUND, LIVER, TUMOUR = 0, 1, 2


@dataclass(frozen=True)
class SegmentStyle:
    """How one label appears as a segment in Slicer.

    Attributes:
        label: its value in the label map.
        name: what the user reads.
        colour: red, green, blue in 0..1.
        terminology: Slicer's `Segmentation.TerminologyEntry` string (DICOM codes).
    """

    label: int
    name: str
    colour: tuple[float, float, float]
    terminology: str


SEGMENTS = (
    SegmentStyle(
        LIVER,
        "liver",
        (0.866, 0.509, 0.396),
        "Segmentation category and type - 3D Slicer General Anatomy list"
        "~SCT^123037004^Anatomical Structure~SCT^10200004^Liver~^^"
        "~Anatomic codes - DICOM master list~^^~^^",
    ),
    SegmentStyle(
        TUMOUR,
        "tumour",
        (0.961, 0.851, 0.196),
        "Segmentation category and type - DICOM master list"
        "~SCT^49755003^Morphologically Altered Structure~SCT^108369006^Neoplasm~^^"
        "~Anatomic codes - DICOM master list~SCT^10200004^Liver~^^",
    ),
)


@dataclass(frozen=True)
class Provenance:
    """Where a segmentation came from; everything here goes into `report.json`.

    Attributes:
        versions: package name -> version, for what took part.
        stages: one entry a stage: its grid's spacing in mm, its (i, j, k) size, the number of windows.
        seconds: step -> wall time.
        peak_memory_mb: highest resident memory of the process so far.
        warnings: what the user should know, one line each.
        modality_given: whether somebody said so; else it was told from the scan.
        phases: the names of the further phases that the networks saw.
        system: which system it was, as `Recipe.system` calls it.
        details: further facts that it told.
    """

    software: str
    bundle: str
    bundle_version: str
    bundle_sha256: str
    recipe: str
    variant: str
    modality: str
    device: str
    engine: str
    precision: str
    size_voxels: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    versions: dict[str, str] = field(default_factory=dict)
    stages: dict[str, dict[str, object]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    peak_memory_mb: float = 0.0
    warnings: tuple[str, ...] = ()
    modality_given: bool = False
    phases: tuple[str, ...] = ()
    system: str = "cascade"
    details: dict[str, object] = field(default_factory=dict)

    @property
    def algorithm(self) -> str:
        """What made the segments, as DICOM SEG wants to know it: software and bundle with their versions."""
        return f"{self.software} ({self.bundle} {self.bundle_version})"


@dataclass(frozen=True)
class Segmentation:
    """Liver and tumours of one scan, on exactly the scan's grid.

    Attributes:
        labels: uint8 image: 0 background, 1 liver, 2 tumour.
        image: the scan.
        provenance: how the labels were made.
        evidence: the networks' output on its own grid; what `with_sensitivity` needs.
        sensitivity: the factor on the tumour's probability that made these labels (S3, section
            on f-scaling; 1 is the networks' own vote).
        kinds: what sort of lesion each one is, where the system tells.
        patient_class: what it says of the patient, likewise.
    """

    labels: sitk.Image
    image: sitk.Image
    provenance: Provenance
    evidence: Evidence | None = None
    sensitivity: float = 1.0
    kinds: tuple[LesionKind, ...] = ()
    patient_class: str = ""

    @cached_property
    def lesions(self) -> list[Lesion]:
        """The tumour's 6-connected components, largest first."""
        probability = self.evidence.tumour_probability() if self.evidence is not None else None
        return find_lesions(self.labels, self.image, probability, self.kinds)

    @cached_property
    def liver_ml(self) -> float:
        """Volume of the liver in ml, tumours included."""
        return self._millilitres(LIVER) + self.tumour_ml

    @cached_property
    def tumour_ml(self) -> float:
        """Volume of all tumours in ml."""
        return self._millilitres(TUMOUR)

    @property
    def burden_percent(self) -> float:
        """Share of the liver taken by tumours, in percent; 0 where there is no liver."""
        return 100.0 * self.tumour_ml / self.liver_ml if self.liver_ml else 0.0

    def with_sensitivity(self, factor: float) -> Segmentation:
        """The same scan with lesions called more readily (factor > 1) or less (< 1).

        No network runs: the tumour's probability is multiplied by `factor` and the vote is
        taken again (S3's f; the background is not scaled), followed by the same postprocessing.

        Raises:
            LiverTumorSegError: factor not above 0, or this segmentation carries no network output.
        """
        check_sensitivity(factor)
        if self.evidence is None:
            raise LiverTumorSegError(
                "sensitivity: wanted a segmentation made by segment(), got one without network output"
            )
        return dataclasses.replace(self, labels=self.evidence.labels_like(self.image, factor), sensitivity=factor)

    def _millilitres(self, label: int) -> float:
        voxels = np.count_nonzero(sitk.GetArrayViewFromImage(self.labels) == label)
        return float(voxels * np.prod(self.labels.GetSpacing()) / 1000.0)


def check_sensitivity(factor: float) -> None:
    """Refuse what is no factor.

    Raises:
        LiverTumorSegError: not a number from 1e-6 to 1e6, beyond which rejected voxels would come back.
    """
    if not 1e-6 <= factor <= 1e6:  # a whole number of any length, too
        raise LiverTumorSegError(f"sensitivity: wanted a factor from 0.000001 to 1000000, got {factor}")
