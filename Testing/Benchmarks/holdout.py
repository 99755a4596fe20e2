"""The score of a segmentation against a synthetic scan's truth."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import SimpleITK as sitk

from LiverTumorSegLib import find_lesions, match_lesions
from LiverTumorSegLib.evaluation.metrics import dice
from LiverTumorSegLib.training.synthesis.holdout import Case, held_out

__all__ = ["SIZES_MM", "Case", "Score", "held_out"]

SIZES_MM = ((0, 5), (5, 10), (10, 20), (20, 30), (30, 1000))


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
        hits, total = self._from(from_mm)
        return hits / total if total else float("nan")

    def lesions(self, from_mm: float) -> int:
        """How many lesions of at least that size there are."""
        return self._from(from_mm)[1]

    def _from(self, from_mm: float) -> tuple[int, int]:
        chosen = [row for row, (low, _) in enumerate(SIZES_MM) if low >= from_mm]
        hits, total = self.found[chosen].sum(0)
        return int(hits), int(total)

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
