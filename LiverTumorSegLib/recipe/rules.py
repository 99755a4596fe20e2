"""How network output becomes the final labels."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import RecipeError


@dataclass(frozen=True)
class Postprocessing:
    """The rules that the evidence for liver and tumour goes through before it is labels.

    Attributes:
        keep_liver_above: keep liver components at least this share of the largest; 1.0 keeps only
            the largest (S1 as printed), 0.1 also keeps the parts of a resected or bilobed liver.
        min_seen_before: of every part of the liver but the largest, at least this share must have been liver to the
            stage before; else it becomes background, as a spleen that only the closer look takes for liver. For a
            "cascade" alone; 0 asks for none.
        fill_holes: close cavities of the liver, tumours included.
        tumour_reach_mm: keep tumours that touch the liver dilated by this much, so that
            subcapsular ones are not lost.
        min_liver_contact: of the voxels around a tumour, at least this share must be liver; else it
            lies beside the liver, not in it, and becomes background. 0 asks for none.
        opening_radius_voxels: opening of the tumour mask with a digital ball on the scan's grid
            (S1, section 3.2.1: 2, which deletes lesions under 33 voxels); 0 for none.
        min_lesion_ml: drop tumour components smaller than this.
        min_lesion_probability: drop tumour components whose mean probability is lower; a sensitivity
            factor f lowers the odds of this threshold by f. It is about probabilities as `Stage.temperature`
            leaves them: one that was chosen on others drops other lesions when a temperature is set, more of them
            above 1. `livertumorseg bundle calibrate` therefore sets it anew, to keep as many of its scans' lesions.
        tumour_odds: factor on the odds of tumour wherever labels are made, before any factor of the user's, and so on
            the threshold of `min_lesion_probability`, too; reported probabilities stay as the network has them.
    """

    keep_liver_above: float = 0.1
    min_seen_before: float = 0.0
    fill_holes: bool = True
    tumour_reach_mm: float = 5.0
    min_liver_contact: float = 0.0
    opening_radius_voxels: int = 0
    min_lesion_ml: float = 0.0
    min_lesion_probability: float = 0.0
    tumour_odds: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.keep_liver_above <= 1:
            raise RecipeError(f"postprocessing.keep_liver_above: wanted above 0 up to 1, got {self.keep_liver_above}")
        limits = {
            "min_seen_before": 1,
            "min_liver_contact": 1,
            "min_lesion_probability": 1,
            "opening_radius_voxels": 50,
            "tumour_reach_mm": 1000,
            "min_lesion_ml": 1_000_000,
        }
        if not 1e-6 <= self.tumour_odds <= 1e6:
            raise RecipeError(f"postprocessing.tumour_odds: wanted 0.000001 to 1000000, got {self.tumour_odds}")
        for name, most in limits.items():
            if not 0 <= getattr(self, name) <= most:
                raise RecipeError(f"postprocessing.{name}: wanted 0 up to {most}, got {getattr(self, name)}")
