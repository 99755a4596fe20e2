"""Synthetic whole scans that no network was trained on, and the score of a segmentation against their truth."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from LiverTumorSegLib import find_lesions, match_lesions
from LiverTumorSegLib.evaluation.metrics import dice
from LiverTumorSegLib.segmentation import Segmentation
from LiverTumorSegLib.training.synthesis.body import complete_body
from LiverTumorSegLib.training.synthesis.generator import Field, synthetic_scan
from LiverTumorSegLib.training.synthesis.library import open_library
from LiverTumorSegLib.training.synthesis.procedural import procedural_organs
from LiverTumorSegLib.training.synthesis.settings import SHIFTED

SIZES_MM = ((0, 5), (5, 10), (10, 20), (20, 30), (30, 1000))
HEIGHTS_MM = (180, 260, 360, 480)
SPACING_MM = 2.0
BINS = 10


@dataclass(frozen=True)
class Case:
    """One scan with its truth: 0 background, 1 liver, 2 tumour, as an image on the scan's grid."""

    scan: sitk.Image
    truth: sitk.Image
    modality: str
    height_mm: int


def held_out(number: int, bodies: Path | None) -> Case:
    """Scan number n: CT and MR in turn, short to tall, harder than in training (`settings.SHIFTED`).

    Args:
        number: the scan follows from it alone.
        bodies: of a training run, whose validation side is drawn from; None for bodies from formulas.
    """
    rng = np.random.default_rng([771, number])
    if bodies is not None:
        library = open_library(bodies)
        body = library.load(library.validation[number % len(library.validation)])
    else:
        body = complete_body(procedural_organs(rng), rng)
    height = HEIGHTS_MM[number // 2 % len(HEIGHTS_MM)]
    shape = (round(height / SPACING_MM), 150, 200)
    scan = synthetic_scan(
        body, Field(shape, SPACING_MM, "organ", cut=0.0), rng, "CT" if number % 2 == 0 else "MR", SHIFTED
    )
    images = [sitk.GetImageFromArray(array) for array in (scan.volume, scan.labels)]
    for image in images:
        image.SetSpacing([SPACING_MM] * 3)
    return Case(images[0], images[1], scan.modality, height)


@dataclass
class Score:
    """What one bundle did on the scans so far, at one sensitivity.

    Attributes:
        rows: modality, liver Dice, tumour Dice (NaN without tumours), false lesions, one a scan.
        found: (sizes, 2) lesions found and all, by `SIZES_MM`.
    """

    rows: list[tuple[str, float, float, int]] = field(default_factory=list)
    found: np.ndarray = field(default_factory=lambda: np.zeros((len(SIZES_MM), 2), int))

    def add(self, case: Case, labels: sitk.Image) -> None:
        """Count one segmentation; a lesion is found when half of its voxels are (S1, section 3.3.1)."""
        truth, predicted = sitk.GetArrayFromImage(case.truth), sitk.GetArrayFromImage(labels)
        matching = match_lesions(truth == 2, predicted == 2, "half")
        for lesion in find_lesions(case.truth):
            for row, (low, high) in enumerate(SIZES_MM):
                if low <= lesion.long_axis_mm < high:
                    self.found[row] += (lesion.id in matching.found, 1)
        tumour = dice(truth == 2, predicted == 2) if (truth == 2).any() else float("nan")
        liver = dice(truth > 0, predicted > 0)
        self.rows.append((case.modality, liver, tumour, len(matching.false_positives)))

    def false_per_scan(self) -> float:
        """False lesions a scan, CT and MR together."""
        return float(np.mean([row[3] for row in self.rows]))

    def recall(self, from_mm: float) -> float:
        """Share found of the lesions of at least that size, which must be a limit of `SIZES_MM`."""
        chosen = [row for row, (low, _) in enumerate(SIZES_MM) if low >= from_mm]
        hits, total = self.found[chosen].sum(0)
        return float(hits / total) if total else float("nan")

    def lines(self) -> list[str]:
        """The figures as text."""
        texts = []
        for kind in ("CT", "MR"):
            rows = [row for row in self.rows if row[0] == kind]
            if rows:
                liver, tumour, false = (np.array([row[n] for row in rows], float) for n in (1, 2, 3))
                texts.append(
                    f"{kind}: {len(rows)} scans, liver Dice {liver.mean():.3f} (median {np.median(liver):.3f}, lowest "
                    f"{liver.min():.3f}), tumour Dice {np.nanmean(tumour):.3f}, false lesions a scan {false.mean():.2f}"
                )
        for (low, high), (hits, total) in zip(SIZES_MM, self.found, strict=True):
            share = f"{hits / total:.2f}" if total else "-"
            texts.append(f"lesions {low} to {high} mm: {hits} of {total} found ({share})")
        return texts


@dataclass
class Reliability:
    """How often voxels of the liver found, that are tumour with some probability, are tumour, in `BINS` steps.

    Attributes:
        counts, probability, truth: (BINS,) voxels, their probabilities' sum, and how many are tumour.
    """

    counts: np.ndarray = field(default_factory=lambda: np.zeros(BINS))
    probability: np.ndarray = field(default_factory=lambda: np.zeros(BINS))
    truth: np.ndarray = field(default_factory=lambda: np.zeros(BINS))

    def add(self, case: Case, result: Segmentation) -> None:
        """Count the voxels of the last stage's grid that ended as liver or tumour."""
        image = result.evidence.tumour_probability()
        truth, found = (
            sitk.GetArrayFromImage(sitk.Resample(labels, image, sitk.Transform(), sitk.sitkNearestNeighbor))
            for labels in (case.truth, result.labels)
        )
        p = sitk.GetArrayFromImage(image)[found > 0]
        tumour = truth[found > 0] == 2
        index = np.minimum((p * BINS).astype(int), BINS - 1)
        self.counts += np.bincount(index, minlength=BINS)
        self.probability += np.bincount(index, weights=p, minlength=BINS)
        self.truth += np.bincount(index, weights=tumour, minlength=BINS)

    def expected_error(self) -> float:
        """Mean distance of probability and truth, weighted by the voxels above the lowest step."""
        rows = (self.counts > 0) & (np.arange(BINS) > 0)
        gap = np.abs(self.probability[rows] - self.truth[rows]) / self.counts[rows]
        return float((gap * self.counts[rows]).sum() / self.counts[rows].sum()) if rows.any() else float("nan")

    def lines(self) -> list[str]:
        """The curve as text: what was said, what was true, how many voxels."""
        rows = zip(self.counts, self.probability, self.truth, strict=True)
        return [f"said {p / n:.2f}  true {t / n:.2f}  voxels {n:.0f}" for n, p, t in rows if n]
