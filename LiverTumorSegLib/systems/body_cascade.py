"""S2 (section 2.1, figure 1): the body, the liver in it, and the tumours in the liver.

body mask -> crop -> liver network -> largest component -> crop -> tumour network, confined to the liver -> merge
"""

from __future__ import annotations

import numpy as np

from ..body import body_box
from ..errors import RecipeError, warn
from ..geometry import Box, whole_box
from ..postprocessing import large_components
from ..recipe import BodyCrop, Recipe
from . import Outcome
from .evidence import nested_evidence
from .maps import NEVER, on_grid
from .stages import Networks, StageOutput, Study

CLASSES = ("liver", "tumour")
"""What the two stages say yes or no to, in their order."""

LIVER_STAGE, TUMOUR_STAGE = range(len(CLASSES))


def run(study: Study, networks: Networks) -> Outcome:
    """Both stages; without a liver there is nothing to confine tumours to, and the second does not run."""
    check(networks.recipe)
    rules = networks.recipe.postprocessing
    body = _find_body(study, networks.recipe.body_cascade or BodyCrop())
    found, organ = _find_liver(study, networks, body)
    details = {"body_start_voxels": list(body.start), "body_size_voxels": list(body.size)}
    liver = np.where((found.logits[0] > 0) & ~organ, NEVER, found.logits[0])
    if not organ.any():
        nothing = np.full(liver.shape, NEVER, np.float32)
        return Outcome(nested_evidence(liver, nothing, found.geometry, rules), details=details)
    study.learn_liver_levels(found.volumes, organ)
    tumour = networks.run(study, TUMOUR_STAGE, study.box_around(organ, found.geometry, networks.recipe.crop))
    with study.step("merge"):
        liver = on_grid(liver, found.geometry, tumour.geometry)
        evidence = nested_evidence(liver, tumour.logits[0], tumour.geometry, rules)
    return Outcome(evidence, details=details)


def _find_body(study: Study, rules: BodyCrop) -> Box:
    with study.step("body"):
        box = body_box(study.scan, study.modality, rules)
    if box is None:
        warn("no body was found in this scan; the liver was searched in all of it")
        return whole_box(study.scan)
    return box


def _find_liver(study: Study, networks: Networks, body: Box) -> tuple[StageOutput, np.ndarray]:
    """What the liver network says of the body's box, or else of the whole scan, and the large parts of its liver."""
    share = networks.recipe.postprocessing.keep_liver_above
    found = networks.run(study, LIVER_STAGE, body)
    if not (found.logits[0] > 0).any() and body != whole_box(study.scan):
        warn("no liver was found in the body's box; the whole scan was searched")
        found = networks.run(study, LIVER_STAGE, whole_box(study.scan))
    return found, large_components(found.logits[0] > 0, share)


def check(recipe: Recipe) -> None:
    """Say what is wrong with a recipe that no rule of its own refuses.

    Raises:
        RecipeError: other stages than one for the liver and one for tumours, each with one yes or no.
    """
    got = [(stage.activation, stage.classes) for stage in recipe.stages]
    if got != [("sigmoid", (name,)) for name in CLASSES]:
        classes = "; ".join(f"{activation} of {', '.join(names)}" for activation, names in got)
        raise RecipeError(
            f"recipe.stages: wanted sigmoid of liver; sigmoid of tumour for a body cascade, got {classes}"
        )
