"""S1's cascade (section 3.2.2): a network for the whole field, then one for the liver's box that it found.

The first one may leave tumours to the second and call them liver. A last network may follow that S1 does not have: it
is shown the organ that was found, and says what of it is tumour.
"""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np

from ..errors import RecipeError, warn
from ..geometry import Box, GridGeometry, whole_box
from ..lesions import label_components
from ..postprocessing import Evidence, filled, large_components
from ..recipe import Recipe, Stage
from . import Outcome
from .evidence import evidence_of, nested_evidence, softmax_evidence
from .maps import NEVER, on_grid
from .stages import Networks, StageOutput, Study

_SURELY = 2.0  # the logit of what the organ encloses, whatever it looks like
_HALF = 0.5  # of a mask that was interpolated


def run(study: Study, networks: Networks) -> Outcome:
    """Stage after stage, each on the box of the liver that the one before found; the last one has the last word."""
    output, evidence = _look(study, networks, 0, whole_box(study.scan))
    for number in range(1, len(networks.recipe.stages)):
        found = _organ(evidence, networks.recipe.postprocessing.keep_liver_above)
        if networks.stage(number).in_organ:
            evidence = _look_inside(study, networks, number, output, evidence, found)
        else:
            before = evidence.geometry
            output, evidence = _look(study, networks, number, _liver_box(study, networks, output, evidence, found))
            evidence = _seen_before(evidence, found, before)
    return Outcome(evidence)


def check(recipe: Recipe) -> None:
    """Say what is wrong with a recipe that no rule of its own refuses.

    Raises:
        RecipeError: a stage that does not tell background and liver from each other, or a last one that does not tell
            tumour, too, but for one that says yes or no to tumour in the organ.
    """
    for number, stage in enumerate(recipe.stages):
        if stage.in_organ:
            _check_inside(recipe, number, stage)
            continue
        wanted = ("background", "liver", "tumour")[: 3 if number + 1 == len(recipe.stages) else 2]
        if not set(wanted) <= set(stage.classes) or stage.activation != "softmax":
            got = f"{stage.activation} of {', '.join(stage.classes)}"
            raise RecipeError(f"recipe.stages[{number}]: wanted softmax of {', '.join(wanted)}, got {got}")


def _check_inside(recipe: Recipe, number: int, stage: Stage) -> None:
    if number + 1 < len(recipe.stages):
        raise RecipeError(f"recipe.stages[{number}].in_organ: wanted it for the last stage alone, got more after it")
    if (stage.activation, stage.classes) != ("sigmoid", ("tumour",)):
        got = f"{stage.activation} of {', '.join(stage.classes)}"
        raise RecipeError(f"recipe.stages[{number}]: wanted sigmoid of tumour in the organ, got {got}")


def _look(study: Study, networks: Networks, number: int, box: Box) -> tuple[StageOutput, Evidence]:
    output = networks.run(study, number, box)
    classes, rules = networks.stage(number).classes, networks.recipe.postprocessing
    if "tumour" in classes:
        return output, softmax_evidence(output.logits, classes, output.geometry, rules)
    liver = output.logits[classes.index("liver")] - output.logits[classes.index("background")]
    return output, evidence_of(liver, np.full_like(liver, NEVER), output.geometry, rules)


def _organ(evidence: Evidence, share: float) -> np.ndarray:
    """The large parts of liver and tumours together, (k, j, i); empty where nothing was found."""
    organ = (evidence.liver > 0) | (evidence.tumour > 0)
    return large_components(organ, share) if organ.any() else organ


def _liver_box(study: Study, networks: Networks, output: StageOutput, evidence: Evidence, organ: np.ndarray) -> Box:
    """The box around what a stage found, whose grey values are then known."""
    if not organ.any():
        warn("the first stage found no liver; the second one searched the whole scan")
        return whole_box(study.scan)
    study.learn_liver_levels(output.volumes, organ & (evidence.liver > evidence.tumour.clip(0)))
    return study.box_around(organ, evidence.geometry, networks.recipe.crop)


def _seen_before(evidence: Evidence, found: np.ndarray, before: GridGeometry) -> Evidence:
    """Without those parts of the liver of which the stage before, on its grid, had found too little, or nothing."""
    share = evidence.rules.min_seen_before
    if share <= 0 or not found.any():
        return evidence
    parts, count = label_components((evidence.liver > 0) | (evidence.tumour > 0))
    if count <= 1:
        return evidence
    seen = on_grid(found.astype(np.float32), before, evidence.geometry) > _HALF
    sizes = np.bincount(parts.ravel())
    dropped = np.bincount(parts[seen], minlength=count + 1) < share * sizes
    dropped[[0, 1 + int(np.argmax(sizes[1:]))]] = False
    gone = dropped[parts]
    liver, tumour = (np.where(gone, np.float16(NEVER), each) for each in (evidence.liver, evidence.tumour))
    return dataclasses.replace(evidence, liver=liver, tumour=tumour)


def _look_inside(
    study: Study, networks: Networks, number: int, output: StageOutput, evidence: Evidence, organ: np.ndarray
) -> Evidence:
    """Which part of the organ is tumour, as a network says that is shown the organ; without an organ nothing is."""
    if not organ.any():
        return evidence
    solid = filled(organ)
    liver = np.logaddexp(evidence.liver.astype(np.float32), evidence.tumour.astype(np.float32))
    liver = np.where(solid & ~organ, np.maximum(liver, _SURELY), np.where(solid | (liver <= 0), liver, NEVER))

    @cache
    def liver_on(geometry: GridGeometry) -> np.ndarray:
        return on_grid(liver, evidence.geometry, geometry)

    box = _liver_box(study, networks, output, evidence, organ)
    found = networks.run(study, number, box, organ_on=lambda geometry: liver_on(geometry) > 0)
    here = liver_on(found.geometry)
    tumour = np.where(here > 0, found.logits[0], NEVER)
    return nested_evidence(here, tumour, found.geometry, networks.recipe.postprocessing, reach_mm=0)
