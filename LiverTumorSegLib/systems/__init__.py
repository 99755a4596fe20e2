"""The systems that a recipe can name: each makes a study's evidence with the networks of a bundle.

To add one, write `systems/<name>.py` with `run(study, networks) -> Outcome`, which reads like the figure of its paper,
and `check(recipe)`, which refuses stages that it cannot work with, and add one line to `SYSTEMS`. A system asks the
recipe for everything and knows no file's or network's name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..lesions import LesionKind
from ..postprocessing import Evidence

if TYPE_CHECKING:
    from ..recipe import Recipe
    from .stages import Networks, Study

System = Callable[["Study", "Networks"], "Outcome"]

SYSTEMS = {
    "cascade": "cascade",
    "coarse_to_fine": "coarse_to_fine",
    "body_cascade": "body_cascade",
    "typing": "lesion_typing",
    "slices": "slices",
}
"""`Recipe.system` -> the module here that runs it; modules are imported when they are first used."""


@dataclass(frozen=True)
class Outcome:
    """What a system says of a study.

    Attributes:
        evidence: for liver and tumours, from which labels are made and made again at another sensitivity.
        kinds: what sort of lesion each one is, where the system tells.
        patient_class: what it says of the patient, likewise.
        details: further facts for `report.json`: JSON's types only, keys in snake_case.
    """

    evidence: Evidence
    kinds: tuple[LesionKind, ...] = ()
    patient_class: str = ""
    details: dict[str, Any] = field(default_factory=dict)


def check_recipe(recipe: Recipe) -> None:
    """Make sure that a recipe's stages are what its system works with, before anything is trained or loaded.

    Raises:
        RecipeError: they are not.
    """
    import_module(f".{SYSTEMS[recipe.system]}", __name__).check(recipe)


def system_named(name: str) -> System:
    """The function that runs a system; `Recipe` has checked the name."""
    run: System = import_module(f".{SYSTEMS[name]}", __name__).run
    return run
