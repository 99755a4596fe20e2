"""Where training patches come from: what the trainer asks for, and the synthetic source."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from torch.utils.data import Dataset

from ..errors import RecipeError
from ..recipe import Recipe
from .augmentation import check_augmentations
from .patches import Patch, SyntheticPatches, TypicalScan
from .synthesis.library import AnatomyLibrary
from .synthesis.settings import SHIFTED, TRAINING

_DRAWN = ("background", "liver", "tumour")


class PatchSource(Protocol):
    """A stream of training patches and one of validation patches for each stage."""

    def patches(self, stage: int, start: int, count: int, validation: bool = False) -> Dataset[Patch]:
        """Patches number `start` to `start + count`, excluded.

        Patch number n depends on the source's seed, the stage and n alone, so that a resumed run sees what an
        unbroken one would. Validation patches are of other patients than any training patch, and not augmented.
        """


@dataclass(frozen=True)
class SyntheticSource:
    """Synthetic scans of one phase, drawn as they are needed; validation scans are harder and of other bodies.

    Each patch is of a body of its own, drawn no larger than need be, with the lesions that `Training.sampling` asks
    for: one in the middle half of the patch and maybe others, none, or what chance wills. Where a stage looks at the
    liver, a point of the liver is near the patch's middle, in a third some centimetres beside it; where at the whole
    scan, the liver's height is in half.

    Attributes:
        library: bodies to draw from.
        recipe: grids, scaling and patch sizes.
        seed: of the whole stream.
        typical: the scans whose spacing and extent stand for those that a grid is fitted to.
        device: where scans are drawn. On another than the CPU patches are made there by the process that trains, with
            no workers, and stay there; a seed then gives other scans than on the CPU, and a stage with an
            augmentation or a filter takes its patches through the computer's memory.
    """

    library: AnatomyLibrary
    recipe: Recipe
    seed: int = 0
    typical: TypicalScan = field(default_factory=TypicalScan)
    device: str = "cpu"

    def __post_init__(self) -> None:
        check_drawable(self.recipe)
        check_augmentations(self.recipe)

    def patches(self, stage: int, start: int, count: int, validation: bool = False) -> SyntheticPatches:
        """See `PatchSource`."""
        return SyntheticPatches(
            self.library,
            self.library.tuning if validation else self.library.training,
            self.recipe,
            stage,
            self.seed + 10_000_019 if validation else self.seed,
            start,
            count,
            SHIFTED if validation else TRAINING,
            self.typical,
            augmented=not validation,
            device=self.device,
        )


def check_drawable(recipe: Recipe) -> None:
    """Make sure that synthetic scans can train a recipe's networks, before any body is drawn.

    Raises:
        RecipeError: it wants several phases, or other labels than are drawn.
    """
    if recipe.phases:
        more = len(recipe.phases)
        raise RecipeError(f"synthetic scans: wanted a recipe of one phase, as they are, got {more} more")
    if recipe.label_names != _DRAWN:
        got = ", ".join(recipe.label_names)
        raise RecipeError(f"synthetic scans: wanted the labels {', '.join(_DRAWN)}, as they have, got {got}")
