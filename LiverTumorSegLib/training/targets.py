"""Label maps -> what a network shall answer: one channel of 0 and 1 for each of a stage's classes."""

from __future__ import annotations

import torch

from ..errors import TrainingError
from ..recipe import Recipe, Stage


def class_table(recipe: Recipe, stage: Stage) -> torch.Tensor:
    """Which labels belong to which classes.

    A class is the label of its name, and besides

    - with "sigmoid", "tumour" is every lesion, and "liver" is the liver and every lesion;
    - with "softmax", a lesion that is no class by itself is "tumour", where there is no such class "liver"; any other
      label that is no class is "background".

    Returns:
        (labels, classes) of 0 and 1 in float32.
    """
    lesions = recipe.lesion_names
    if stage.activation == "softmax":
        owner = {name: _softmax_class(name, stage.classes, lesions) for name in recipe.label_names}
        rows = [[float(owner[name] == each) for each in stage.classes] for name in recipe.label_names]
    else:
        rows = [[float(_holds(each, name, lesions)) for each in stage.classes] for name in recipe.label_names]
    return torch.tensor(rows)


def nested_table(recipe: Recipe, stage: Stage) -> torch.Tensor:
    """Which classes of the network's answer belong to which structures when it is scored; lesions are liver, too.

    Returns:
        (classes, structures) of 0 and 1 in float32; structures are the classes without the background.
    """
    structures = [each for each in stage.classes if each != "background"]
    rows = [[float(_holds(each, name, recipe.lesion_names)) for each in structures] for name in stage.classes]
    return torch.tensor(rows)


def class_targets(labels: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """The target of every class.

    Args:
        labels: (batch, 1, k, j, i) whole numbers.
        table: of `class_table`, on the same device.

    Returns:
        (batch, classes, k, j, i) of 0 and 1 in float32.

    Raises:
        TrainingError: a label has no name in the recipe.
    """
    highest = int(labels.max())
    if highest >= len(table):
        raise TrainingError(f"labels: wanted 0 to {len(table) - 1}, as the recipe's label_names say, got {highest}")
    return table[labels[:, 0].long()].movedim(-1, 1)


def _softmax_class(name: str, classes: tuple[str, ...], lesions: tuple[str, ...]) -> str:
    wanted = (name, "tumour", "liver") if name in lesions else (name,)
    return next((each for each in wanted if each in classes), "background")


def _holds(structure: str, name: str, lesions: tuple[str, ...]) -> bool:
    """Whether voxels called `name` are part of a structure; "tumour" as a name is a lesion in every recipe."""
    return structure == name or (structure in ("tumour", "liver") and name in (*lesions, "tumour"))
