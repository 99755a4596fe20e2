"""What S2 and S4 in small share: CT scans drawn from procedural anatomy, and the figures of one prediction."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from LiverTumorSegLib.evaluation.metrics import dice
from LiverTumorSegLib.matching import Rule, match_lesions
from LiverTumorSegLib.training.synthesis.cases import write_case


def draw(folder: Path, first: int, count: int, spacing_mm: float) -> Path:
    """CT scans with these seeds, and their labels; what is there stays."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(first, first + count):
        if not (folder / f"case_{seed:04d}_labels.nii.gz").exists():
            write_case(folder, f"case_{seed:04d}", seed, "CT", spacing_mm=spacing_mm)
    return folder


def figures_of(truth: np.ndarray, labels: np.ndarray, rule: Rule) -> dict[str, float]:
    """Dice, and lesions found by a rule, of label values 0/1/2 (k, j, i)."""
    matching = match_lesions(truth == 2, labels == 2, rule)
    return {
        "liver_dice": dice(truth > 0, labels > 0),
        "tumour_dice": dice(truth == 2, labels == 2),
        "found": len(matching.found),
        "missed": len(matching.missed),
        "false": len(matching.false_positives),
    }
