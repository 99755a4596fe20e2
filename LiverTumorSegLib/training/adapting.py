"""A recipe fitted to the cases that train it, by S0's "adaptive network parameters" (section 2.2.3), and kept.

A run's folder then holds `recipe.json`, the recipe that is trained, which counts from then on, and `adapted.json`, what
it was made from and for how much memory.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from ..datasets.cases import DatasetCase, DatasetError
from ..datasets.check import Fingerprint, check_cases, fingerprint
from ..errors import TrainingError, warn
from ..networks.weights import write_durably
from ..recipe import Recipe, Stage, Training, Triple, load_recipe, recipe_to_json
from ..recipe.reading import build
from .fingerprint import propose

RECIPE, ORIGIN = "recipe.json", "adapted.json"

_LATER = ("epochs", "patience")  # what a run may be given more of when it goes on


def adapted(recipe: Recipe, found: Fingerprint, memory: float = 1.0) -> Recipe:
    """A recipe with the patch, batch and learning rate that `fingerprint.propose` says for each stage.

    What inference shows a network at once follows the patch along each axis on which the recipe has both alike: a
    stage's window, the box that S0's fine network looks at, S4's tile. Grids and networks stay as they are.
    """
    proposals = [propose(recipe, number, found, memory) for number in range(len(recipe.stages))]
    training = tuple(
        dataclasses.replace(own, patch=each.patch, batch_size=each.batch_size, learning_rate=each.learning_rate)
        for own, each in zip(recipe.training, proposals, strict=True)
    )
    stages = tuple(
        dataclasses.replace(stage, window=_followed(stage.window, before.patch, after.patch))
        for stage, before, after in zip(recipe.stages, recipe.training, training, strict=True)
    )
    changed = dataclasses.replace(recipe, stages=stages, training=training)
    for stage, before, after in zip(stages, recipe.training, training, strict=True):
        changed = _with_its_box(changed, stage, before.patch, after.patch)
    return changed


def changes(given: Recipe, used: Recipe) -> list[str]:
    """What adapting changed, a line for each stage."""
    return [
        f"stage {stage.name}: {_changed(stage, own, later, trained)}"
        for stage, own, later, trained in zip(given.stages, given.training, used.stages, used.training, strict=True)
    ]


def training_fingerprint(cases: Sequence[DatasetCase], progress: Callable[[str, float], None] | None) -> Fingerprint:
    """What cases are like; those with a fault are left out, with a warning.

    Raises:
        DatasetError: all of them are.
    """

    def told(_: str, share: float) -> None:
        if progress is not None:
            progress("looking at the training cases", share)

    checked = check_cases(cases, told)
    for case in checked:
        for fault in case.faults:
            warn(f"{case.name} does not count for --adapt: {fault}")
    found = fingerprint(checked)
    if found is None:
        raise DatasetError(f"--adapt: wanted training cases without a fault, got none of {len(cases)}")
    return found


def run_recipe(folder: Path, given: Recipe, memory: float, look: Callable[[], Fingerprint]) -> Recipe:
    """The adapted recipe of a run: the one in its folder if it was begun, else a new one, which is kept there.

    Args:
        folder: of the run.
        given: what is adapted; in a run that goes on it may want other epochs and patience than before.
        memory: see `fingerprint.propose`.
        look: gives the training cases' fingerprint, which takes reading them all.

    Raises:
        TrainingError: the run was begun without adapting, or adapted from another recipe or for other memory.
        RecipeError: the recipe in the folder was damaged, or adapting makes one that cannot be.
    """
    if not ((folder / ORIGIN).exists() and (folder / RECIPE).exists()):
        if any(folder.glob("*.checkpoint.safetensors")):
            raise TrainingError(
                f"{folder}: wanted a run that was begun with --adapt, got one begun without; train into another folder"
            )
        used = adapted(given, look(), memory)
        folder.mkdir(parents=True, exist_ok=True)
        origin = {"memory": memory, "recipe": json.loads(recipe_to_json(given))}
        write_durably(folder / ORIGIN, (json.dumps(origin, indent=2) + "\n").encode())
        write_durably(folder / RECIPE, recipe_to_json(used).encode())
        return used
    _check_origin(folder, given, memory)
    kept = load_recipe(folder / RECIPE)
    return dataclasses.replace(kept, training=_with_later(kept, given))


def check_not_adapted(folder: Path) -> None:
    """Make sure that a run without adapting does not go on in the folder of one with it.

    Raises:
        TrainingError: it would.
    """
    if (folder / ORIGIN).exists():
        raise TrainingError(
            f"{folder}: wanted to go on with --adapt, as the run was begun, got none; train into another folder"
        )


def _check_origin(folder: Path, given: Recipe, memory: float) -> None:
    try:
        origin = json.loads((folder / ORIGIN).read_text(encoding="utf-8"))
        before, begun = float(origin["memory"]), cast(Recipe, build(Recipe, origin["recipe"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise TrainingError(
            f"{folder / ORIGIN}: wanted what the run was adapted from, got {reason}; train into another folder"
        ) from None
    if before != memory:
        raise TrainingError(
            f"{folder}: wanted to go on with --memory {memory:g}, the run was begun with {before:g}; "
            "train into another folder"
        )
    begun = dataclasses.replace(begun, training=_with_later(begun, given))
    key = _first_difference(*(json.loads(recipe_to_json(each)) for each in (begun, given)))
    if key is not None:
        raise TrainingError(
            f"{folder}: wanted to go on with the recipe that the run was adapted from, got another {key}; "
            "train into another folder"
        )


def _with_later(recipe: Recipe, given: Recipe) -> tuple[Training, ...]:
    """A recipe's training, with what a run that goes on may be given anew."""
    if len(recipe.training) != len(given.training):
        return recipe.training
    return tuple(
        dataclasses.replace(own, **{name: getattr(new, name) for name in _LATER})
        for own, new in zip(recipe.training, given.training, strict=True)
    )


def _first_difference(one: Any, other: Any, where: str = "recipe") -> str | None:
    """The first place at which two recipes, as JSON has them, differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        pairs = [(f"{where}.{key}", one.get(key), other.get(key)) for key in {**one, **other}]
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = [(f"{where}[{number}]", a, b) for number, (a, b) in enumerate(zip(one, other, strict=True))]
    else:
        return None if one == other else where
    return next((found for place, a, b in pairs if (found := _first_difference(a, b, place)) is not None), None)


def _with_its_box(recipe: Recipe, stage: Stage, before: Triple, after: Triple) -> Recipe:
    """Of the systems that cut out what a stage looks at, the size of that, where it was the patch's."""
    fine, slices = recipe.coarse_to_fine, recipe.slices
    if fine is not None and stage.region == "lesion" and fine.box[:2] == before[:2]:
        return dataclasses.replace(recipe, coarse_to_fine=dataclasses.replace(fine, box=(*after[:2], fine.box[2])))
    if slices is not None and stage.region == "liver" and (slices.tile, slices.tile) == before[:2]:
        return dataclasses.replace(recipe, slices=dataclasses.replace(slices, tile=max(after[:2])))
    return recipe


def _followed(window: Triple | None, before: Triple, after: Triple) -> Triple | None:
    if window is None:
        return None
    i, j, k = (new if side == old else side for side, old, new in zip(window, before, after, strict=True))
    return i, j, k


def _changed(stage: Stage, own: Training, later: Stage, trained: Training) -> str:
    pairs = (
        ("patch", _times(own.patch), _times(trained.patch)),
        ("batch", str(own.batch_size), str(trained.batch_size)),
        ("learning rate", f"{own.learning_rate:.3g}", f"{trained.learning_rate:.3g}"),
        ("window", _times(stage.window), _times(later.window)),
    )
    told = [f"{name} {before} → {after}" for name, before, after in pairs if before != after]
    return ", ".join(told) or "trained as the recipe has it"


def _times(sides: Triple | None) -> str:
    return "×".join(map(str, sides or ()))
