"""S1's cascade (section 3.2.2): a network for the whole field, then one for the liver's box that it found."""

from __future__ import annotations

from ..errors import RecipeError, warn
from ..geometry import Box, whole_box
from ..postprocessing import Evidence, large_components
from ..recipe import Recipe
from . import Outcome
from .evidence import softmax_evidence
from .stages import Networks, StageOutput, Study


def run(study: Study, networks: Networks) -> Outcome:
    """Stage after stage, each on the box of the liver that the one before found; the last one has the last word."""
    output, evidence = _look(study, networks, 0, whole_box(study.scan))
    for number in range(1, len(networks.recipe.stages)):
        box = _liver_box(study, networks, output, evidence)
        output, evidence = _look(study, networks, number, box)
    return Outcome(evidence)


def check(recipe: Recipe) -> None:
    """Say what is wrong with a recipe that no rule of its own refuses.

    Raises:
        RecipeError: a stage that does not tell background, liver and tumour from each other.
    """
    for number, stage in enumerate(recipe.stages):
        missing = {"background", "liver", "tumour"} - set(stage.classes)
        if missing or stage.activation != "softmax":
            got = f"{stage.activation} of {', '.join(stage.classes)}"
            raise RecipeError(f"recipe.stages[{number}]: wanted softmax of background, liver, tumour, got {got}")


def _look(study: Study, networks: Networks, number: int, box: Box) -> tuple[StageOutput, Evidence]:
    output = networks.run(study, number, box)
    classes, rules = networks.stage(number).classes, networks.recipe.postprocessing
    return output, softmax_evidence(output.logits, classes, output.geometry, rules)


def _liver_box(study: Study, networks: Networks, output: StageOutput, evidence: Evidence) -> Box:
    """The box around the large parts of what a stage found, whose grey values are then known."""
    recipe = networks.recipe
    organ = (evidence.liver > 0) | (evidence.tumour > 0)
    if not organ.any():
        warn("the first stage found no liver; the second one searched the whole scan")
        return whole_box(study.scan)
    kept = large_components(organ, recipe.postprocessing.keep_liver_above)
    study.learn_liver_levels(output.volumes, kept & (evidence.liver > evidence.tumour.clip(0)))
    return study.box_around(kept, evidence.geometry, recipe.crop)
