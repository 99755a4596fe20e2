"""What only one of the systems needs to know; `Recipe.system` says which system it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import RecipeError
from .grids import LARGEST, Triple


@dataclass(frozen=True)
class CoarseToFine:
    """S0: coarse lesions, a detector for small ones, and a fine network in each of its boxes.

    Attributes:
        detector: "seg2det" takes the components of the coarse network's tumours, their odds multiplied; "retina"
            runs the stage whose task is "detect".
        detector_factor: what "seg2det" multiplies the tumour's odds by.
        detector_score: probability that a finding of "retina" needs.
        detector_overlap: of two such boxes with a larger intersection over union the less sure one goes.
        small_lesion_mm: longest diameter of what the detector looks for (S0: lesions under 30 mm).
        box: (i, j, k) voxels of the fine network's box around each detection (S0: 64 x 64 x 5); its k are the slices
            that the network sees at once, the one in question in the middle.
        empty_slices: what stands where the fine network leaves a slice of a detection empty: all of the detection's
            box, as the authors' code does, or the ellipsoid in it, which is as sure as the detection is.
        slices_beyond: so many slices above and below a detection are refined, too.
        liver_reach_mm: lesions may lie this far outside the liver.
    """

    detector: Literal["seg2det", "retina"] = "seg2det"
    detector_factor: float = 4.0
    detector_score: float = 0.5
    detector_overlap: float = 0.22
    small_lesion_mm: float = 30.0
    box: Triple = (64, 64, 5)
    empty_slices: Literal["ellipsoid", "box"] = "ellipsoid"
    slices_beyond: int = 1
    liver_reach_mm: float = 5.0

    def __post_init__(self) -> None:
        _check_positive("coarse_to_fine", self, "detector_factor", "small_lesion_mm")
        _check_not_negative("coarse_to_fine", self, "slices_beyond", "liver_reach_mm")
        _check_at_most("coarse_to_fine", self, detector_factor=1_000_000, small_lesion_mm=1000, slices_beyond=1000)
        _check_at_most("coarse_to_fine", self, liver_reach_mm=1000)
        for name in ("detector_score", "detector_overlap"):
            if not 0 < getattr(self, name) < 1:
                raise RecipeError(f"coarse_to_fine.{name}: wanted above 0 and below 1, got {getattr(self, name)}")
        if min(self.box) < 1:
            raise RecipeError(f"coarse_to_fine.box: wanted at least 1 voxel a side, got {self.box}")
        if max(self.box) > 2048:
            raise RecipeError(f"coarse_to_fine.box: wanted at most 2048 voxels a side, got {self.box}")


@dataclass(frozen=True)
class BodyCrop:
    """S2: the box of the body, by threshold and morphology, in which its first network looks.

    Attributes:
        threshold_hu: the body is brighter than this, the table and the air darker or smaller.
        opening_mm: radius of the opening that takes the table and tubes from the body.
        closing_mm: radius of the closing that fills what the opening left ragged.
        margin_mm: added to the body's box on every side.
    """

    threshold_hu: float = -400.0
    opening_mm: float = 6.0
    closing_mm: float = 6.0
    margin_mm: float = 10.0

    def __post_init__(self) -> None:
        _check_not_negative("body_cascade", self, "opening_mm", "closing_mm", "margin_mm")
        _check_at_most("body_cascade", self, opening_mm=100, closing_mm=100, margin_mm=1000)


@dataclass(frozen=True)
class Typing:
    """S3: lesions with a type each, and a second network that says which are none.

    Attributes:
        factor_base, factor_high: what the lesion classes' scores are multiplied by in the two runs whose answers are
            compared (S3, section III.B: 1 and 4).
        patches: how many patches of a lesion the second network scores (S3: 10).
        largest_ml: larger lesions are not scored again (S3: 64 cubic centimetres).
        smallest_ml: a lesion whose mean scored volume is smaller is dropped (S3: 0.5).
        smallest_share: nor need that volume be larger than this share of the lesion's own: the smaller of both
            counts. None as printed: no lesion under `smallest_ml` can then survive.
        lesion_types: names of `Recipe.label_names` that are lesions; in the order in which a patient's class is
            chosen (S3: HCC > ICC > metastasis > haemangioma > other > cyst).
        malignant: which of them are.
        scan: which phase the main scan is, for studies that are drawn; the further ones are called what they are.
        in_liver: names of `Recipe.label_names` that lie in the liver and are no lesions, as its vessels.
        reach_mm: how far outside the liver lesions may lie, at its surface.
        register: how the phases are brought onto the scan first; "none" for phases that lie on each other already.
    """

    factor_base: float = 1.0
    factor_high: float = 4.0
    patches: int = 10
    largest_ml: float = 64.0
    smallest_ml: float = 0.5
    smallest_share: float | None = 0.5
    lesion_types: tuple[str, ...] = ("hcc", "icc", "metastasis", "haemangioma", "other", "cyst")
    malignant: tuple[str, ...] = ("hcc", "icc", "metastasis")
    scan: str = "plain"
    in_liver: tuple[str, ...] = ("hepatic_vessels",)
    reach_mm: float = 5.0
    register: Literal["none", "affine", "deformable"] = "deformable"

    def __post_init__(self) -> None:
        _check_positive("typing", self, "factor_base", "factor_high", "patches", "largest_ml")
        _check_not_negative("typing", self, "smallest_ml", "reach_mm")
        _check_at_most("typing", self, factor_base=1_000_000, factor_high=1_000_000, patches=1000, reach_mm=1000)
        if self.smallest_share is not None and not 0 <= self.smallest_share <= 1:
            raise RecipeError(f"typing.smallest_share: wanted 0 up to 1, got {self.smallest_share}")
        types = ", ".join(self.lesion_types) or "none"
        if not self.lesion_types or len(set(self.lesion_types)) < len(self.lesion_types):
            raise RecipeError(f"typing.lesion_types: wanted names that differ, got {types}")
        if not set(self.malignant) <= set(self.lesion_types):
            raise RecipeError(f"typing.malignant: wanted names among {types}, got {', '.join(self.malignant)}")


@dataclass(frozen=True)
class Slices:
    """S4: a 2D network for whole slices, and a second one for the part of them around the tumours it found.

    Attributes:
        tile: edge of that part in voxels (S4: 256); it is more where the tumours' extent does not fit, and then looked
            at in the fine stage's windows.
        centre: of the tumours' extent in the whole volume, or else the liver's centroid; or in each slice for itself,
            where a slice without a tumour is not looked at (S4, section 2.2, as printed).
    """

    tile: int = 256
    centre: Literal["volume", "slice"] = "volume"

    def __post_init__(self) -> None:
        _check_positive("slices", self, "tile")
        _check_at_most("slices", self, tile=LARGEST)


def _check_positive(where: str, options: object, *names: str) -> None:
    for name in names:
        if not getattr(options, name) > 0:
            raise RecipeError(f"{where}.{name}: wanted above 0, got {getattr(options, name)}")


def _check_not_negative(where: str, options: object, *names: str) -> None:
    for name in names:
        if not getattr(options, name) >= 0:
            raise RecipeError(f"{where}.{name}: wanted 0 or more, got {getattr(options, name)}")


def _check_at_most(where: str, options: object, **most: int) -> None:
    for name, limit in most.items():
        if not getattr(options, name) <= limit:
            raise RecipeError(f"{where}.{name}: wanted at most {limit}, got {getattr(options, name)}")
