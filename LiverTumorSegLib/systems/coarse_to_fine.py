"""S0 (section 2.2.1, figure 3): coarse lesions, a detector for the small ones, a fine network in the box of each.

liver network, five slices at a time -> region of the liver -> coarse network -> lesions ----------------+-> fused, in
                                                            -> detector -> boxes 64 x 64 x 5 -> fine ----+   the liver
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..detection import Detection, proposed_findings, scaled_vote, seg2det, smaller_than
from ..errors import RecipeError, warn
from ..geometry import Box, GridGeometry, fit_grid, whole_box
from ..postprocessing import Evidence, filled, large_components
from ..recipe import CoarseToFine, Postprocessing, Recipe
from . import Outcome
from .evidence import nested_evidence, within
from .maps import NEVER, in_half_precision, on_grid
from .refinement import carried_over, refined_lesions
from .stages import Networks, StageOutput, Study


def run(study: Study, networks: Networks) -> Outcome:
    """Liver, coarse lesions, small lesions found and refined, fusion; without a liver the whole scan is searched."""
    roles = find_roles(networks.recipe)
    options = networks.recipe.coarse_to_fine or CoarseToFine()
    liver = networks.run(study, roles.liver, whole_box(study.scan), in_half_precision)
    box, organ = _liver_region(study, networks, liver)
    coarse = networks.run(study, roles.coarse, box, filled_up=True)
    with study.step("small lesions"):
        geometry, found = _detect(study, networks, roles, options, box, coarse)
        small = smaller_than(found, options.small_lesion_mm)
    fine = fit_grid(study.scan, box, networks.stage(roles.fine).grid)
    boxes = [each for one in small if (each := carried_over(one, geometry, fine)) is not None]
    refined = refined_lesions(study, networks, roles.fine, box, fine, boxes, options)
    with study.step("fuse"):
        evidence = fuse(
            liver=on_grid(np.where(organ, liver.logits[0], np.minimum(liver.logits[0], 0)), liver.geometry, fine),
            coarse=on_grid(coarse.logits[0], coarse.geometry, fine),
            refined=refined,
            geometry=fine,
            rules=networks.recipe.postprocessing,
            reach_mm=options.liver_reach_mm,
        )
    return Outcome(evidence, details={"detections": len(found), "refined": len(boxes)})


def check(recipe: Recipe) -> None:
    """Say what is wrong with a recipe that no rule of its own refuses; see `find_roles`."""
    find_roles(recipe)


@dataclass(frozen=True)
class Roles:
    """Names of the stages by what they do; `detector` is None where the coarse network's lesions are the detections."""

    liver: str
    coarse: str
    fine: str
    detector: str | None


def find_roles(recipe: Recipe) -> Roles:
    """Which stage is which: they are told by their region and task.

    Raises:
        RecipeError: not one of each, a detector that there is not, another kind of answer than one yes or no, or a
            fine network that sees another number of slices than its box has.
    """
    options = recipe.coarse_to_fine or CoarseToFine()
    wanted = {"liver": ("whole", "segment"), "coarse": ("liver", "segment"), "fine": ("lesion", "segment")}
    if options.detector == "retina":
        wanted["detector"] = ("liver", "detect")
    names: dict[str, str] = {}
    for role, (region, task) in wanted.items():
        stages = [each for each in recipe.stages if (each.region, each.task) == (region, task)]
        if len(stages) != 1:
            raise RecipeError(
                f"recipe.stages: wanted one with region {region!r} and task {task!r} as S0's {role}, got {len(stages)}"
            )
        (stage,) = stages
        answer = ("liver" if role == "liver" else "tumour",)
        if task == "segment" and (stage.activation, stage.classes) != ("sigmoid", answer):
            got = f"{stage.activation} of {', '.join(stage.classes)}"
            raise RecipeError(f"recipe.stages: wanted sigmoid of {answer[0]} from {stage.name}, got {got}")
        if role == "fine" and stage.context_slices != options.box[2]:
            slices = stage.context_slices
            raise RecipeError(f"recipe.stages: wanted {options.box[2]} context_slices in {stage.name}, got {slices}")
        multiples = stage.grid.multiples[:2]
        if role == "fine" and any(side % each for side, each in zip(options.box, multiples, strict=False)):
            got = f"{options.box[0]} × {options.box[1]}"
            raise RecipeError(f"coarse_to_fine.box: wanted multiples of {multiples} as {stage.name} does, got {got}")
        names[role] = stage.name
    return Roles(names["liver"], names["coarse"], names["fine"], names.get("detector"))


def fuse(
    liver: np.ndarray,
    coarse: np.ndarray,
    refined: np.ndarray,
    geometry: GridGeometry,
    rules: Postprocessing,
    reach_mm: float,
) -> Evidence:
    """Coarse lesions and refined small ones together, as far as they lie in or at the liver.

    The liver may lack its lesions, so holes count as liver and lesions may stick out of it; without this, lesions
    under the capsule would be masked away. Where there is no liver at all, lesions are kept wherever they are.

    Args:
        liver, coarse, refined: (k, j, i) logits of a yes, on one grid.
        geometry: that grid.
        rules: what is made of the evidence.
        reach_mm: how far outside the liver a lesion may lie.
    """
    tumour = np.maximum(coarse, refined)
    organ = filled(liver > 0)
    if organ.any():
        tumour = np.where(organ | within(organ, geometry, reach_mm), tumour, NEVER)
    return nested_evidence(np.maximum(liver, tumour), tumour, geometry, rules, reach_mm=0.0)


def _liver_region(study: Study, networks: Networks, liver: StageOutput) -> tuple[Box, np.ndarray]:
    """The scan's box around the large parts of the liver, and those parts on the network's grid."""
    organ = large_components(liver.logits[0] > 0, networks.recipe.postprocessing.keep_liver_above)
    if not organ.any():
        warn("the first stage found no liver; the others searched the whole scan")
        return whole_box(study.scan), organ
    study.learn_liver_levels(liver.volumes, organ)
    return study.box_around(organ, liver.geometry, networks.recipe.crop), organ


def _detect(
    study: Study, networks: Networks, roles: Roles, options: CoarseToFine, box: Box, coarse: StageOutput
) -> tuple[GridGeometry, list[Detection]]:
    """Findings of the recipe's detector, and the grid that they are told on."""
    if roles.detector is not None:
        output = networks.run(study, roles.detector, box, filled_up=True)
        proposals = output.logits[len(networks.stage(roles.detector).classes) :]
        spacing = output.geometry.spacing_mm[::-1]
        score, overlap = options.detector_score, options.detector_overlap
        return output.geometry, proposed_findings(proposals, spacing, score, overlap)
    logit = coarse.logits[0]
    probability = 1 / (1 + np.exp(-np.clip(logit, -50, 50)))
    vote = scaled_vote(logit, options.detector_factor)
    return coarse.geometry, seg2det(vote, probability, coarse.geometry.spacing_mm[::-1])
