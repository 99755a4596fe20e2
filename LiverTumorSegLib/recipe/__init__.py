"""What a system is: frozen dataclasses read from JSON, with no code in them.

A recipe says everything that turns a scan into labels, except the weights: the grids, the
intensity scaling, the networks, the crop, the postprocessing and how each stage is trained. Inference
and training read the same recipe. Behaviour follows these fields, never the name of a file or network.

All spatial triples here are in (i, j, k) order, as SimpleITK gives sizes; lengths are millimetres
unless the name says voxels.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from ..errors import RecipeError
from .grids import LARGEST_GRID, Axis, Crop, Grid, Triple
from .reading import build
from .rules import Postprocessing
from .stages import BACKGROUND, FINDING_CHANNELS, TEMPERATURES, Intensity, Phase, Stage
from .systems import BodyCrop, CoarseToFine, Slices, Typing
from .training import Sampling, Training

__all__ = [
    "BACKGROUND", "FINDING_CHANNELS", "LARGEST_GRID", "TEMPERATURES", "Axis", "BodyCrop", "CoarseToFine", "Crop",
    "Grid", "Intensity", "Phase", "Postprocessing", "Recipe", "Sampling", "Slices", "Stage", "Training", "Triple",
    "Typing", "load_recipe", "recipe_to_json",
]  # fmt: skip

LIVER, TUMOUR = "liver", "tumour"
OPTIONS = ("coarse_to_fine", "body_cascade", "typing", "slices")


@dataclass(frozen=True)
class Recipe:
    """A whole system: one to four stages and how they go together.

    Attributes:
        name: what the recipe is called in reports.
        variant: "as_printed" (what the paper says) or "repaired" (what it must have meant).
        source: the paper and its sections.
        stages: in the order in which they run.
        crop: the box around the liver that stages with the region "liver" see.
        postprocessing: how network output becomes labels.
        training: one entry for each stage; left out, the defaults for each.
        phases: further scans of the same study; the networks' channels are the main scan and these, in this order.
        system: how the stages go together: which function of `systems` runs them.
        label_names: the names of the values 0, 1, 2 ... in the label maps of the training cases.
        coarse_to_fine, body_cascade, typing, slices: what only the system of that name needs, and there only.
    """

    name: str
    variant: Literal["as_printed", "repaired"]
    source: str
    stages: tuple[Stage, ...]
    crop: Crop = field(default_factory=lambda: Crop(margin_mm=10.0))
    postprocessing: Postprocessing = field(default_factory=Postprocessing)
    training: tuple[Training, ...] = ()
    phases: tuple[Phase, ...] = ()
    system: Literal["cascade", "coarse_to_fine", "body_cascade", "typing", "slices"] = "cascade"
    label_names: tuple[str, ...] = (BACKGROUND, LIVER, TUMOUR)
    coarse_to_fine: CoarseToFine | None = None
    body_cascade: BodyCrop | None = None
    typing: Typing | None = None
    slices: Slices | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.stages) <= 4:
            raise RecipeError(f"recipe.stages: wanted 1 to 4 stages, got {len(self.stages)}")
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise RecipeError(f"recipe.stages: wanted names that differ, got {', '.join(names)}")
        if not self.training:
            object.__setattr__(self, "training", (Training(),) * len(self.stages))
        if len(self.training) != len(self.stages):
            wanted, got = len(self.stages), len(self.training)
            raise RecipeError(f"recipe.training: wanted one entry for each of {wanted} stages, got {got}")
        self._check_options()
        self._check_labels()
        self._check_order()
        self._check_channels()

    @property
    def lesion_names(self) -> tuple[str, ...]:
        """Which of `label_names` are lesions."""
        return self.typing.lesion_types if self.typing is not None else (TUMOUR,)

    def _check_options(self) -> None:
        for name in OPTIONS:
            given = getattr(self, name) is not None
            if given and name != self.system:
                raise RecipeError(f"recipe.{name}: wanted it only in a system {name!r}, got a system {self.system!r}")
            if name == self.system and not given:
                raise RecipeError(f"recipe.{name}: wanted the options of the system {name!r}, got none")

        if (share := self.postprocessing.min_seen_before) and self.system != "cascade":
            where = "recipe.postprocessing.min_seen_before"
            raise RecipeError(f"{where}: wanted it only in a system 'cascade', got {share} in a system {self.system!r}")

    def _check_labels(self) -> None:
        got = ", ".join(self.label_names) or "none"
        if self.label_names[:1] != (BACKGROUND,) or len(set(self.label_names)) < len(self.label_names):
            raise RecipeError(f"recipe.label_names: wanted background and others that differ, got {got}")
        missing = [name for name in self.lesion_names if name not in self.label_names]
        if missing:
            raise RecipeError(f"recipe.label_names: wanted {', '.join(missing)} among them, got {got}")
        for number, stage in enumerate(self.stages):
            unknown = [name for name in stage.classes if name not in (*self.label_names, LIVER, TUMOUR)]
            if unknown:
                where = f"recipe.stages[{number}].classes"
                raise RecipeError(f"{where}: wanted liver, tumour or names of label_names, got {', '.join(unknown)}")

    def _check_order(self) -> None:
        """Nothing may look at, or scale by, what no stage before it found."""
        for number, stage in enumerate(self.stages):
            if stage.in_organ and self.system != "cascade":
                wanted = f"false in a system {self.system!r}, which has no place for it"
                raise RecipeError(f"recipe.stages[{number}].in_organ: wanted {wanted}, got true")
            if any(LIVER in before.classes for before in self.stages[:number]):
                continue
            where = f"recipe.stages[{number}]"
            if stage.intensity.scale == LIVER:
                wanted = "unit, symmetric or zscore"
                raise RecipeError(f"{where}.intensity.scale: wanted {wanted}, got 'liver': no stage found it yet")
            if stage.region != "whole":
                raise RecipeError(f"{where}.region: wanted whole, got {stage.region!r}: no stage found the liver yet")

    def _check_channels(self) -> None:
        names = [phase.name.casefold() for phase in self.phases]
        if len(set(names)) < len(names):
            raise RecipeError(f"recipe.phases: wanted names that differ, got {', '.join(names)}")
        for number, stage in enumerate(self.stages):
            wanted = (1 + len(names)) * stage.context_slices
            if stage.in_organ:
                wanted = 2 * wanted + 1
            got = stage.arguments.get("in_channels", 1)
            if got != wanted:
                each = "one for the scan and one for each phase"
                times = f", times {stage.context_slices} slices" if stage.context_slices > 1 else ""
                times += ", twice, and one for the organ" if stage.in_organ else ""
                where = f"recipe.stages[{number}].arguments.in_channels"
                raise RecipeError(f"{where}: wanted {wanted}, {each}{times}, got {got!r}")


def load_recipe(path: Path) -> Recipe:
    """Read a recipe from a JSON file.

    Raises:
        RecipeError: names the file, the key and what is allowed there.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"), object_pairs_hook=_each_key_once)
    except OSError as error:
        raise RecipeError(f"{path}: cannot read the recipe: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{path}: wanted a recipe in JSON, got {error}") from error
    try:
        return cast(Recipe, build(Recipe, document))
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from None


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for n, (key, _) in enumerate(pairs) if key in dict(pairs[:n]))
        raise ValueError(f"the key {twice!r} twice")
    return found


def recipe_to_json(recipe: Recipe) -> str:
    """The recipe as JSON text; `load_recipe` gives the same recipe back."""
    return json.dumps(dataclasses.asdict(recipe), indent=2) + "\n"
