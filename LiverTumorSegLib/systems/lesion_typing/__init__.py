"""S3 (figures 1, 2 and 5): lesions of many types in several phases, at two sensitivities, each one shown again.

phases -> registration -> UNet_whole -> lesion classes x f -> argmax -> seg2det -> shuffled patches of each lesion
-> UNet_patch -> dropped, or given its type -> match of both sensitivities -> the patient's class.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import RecipeError, warn
from ...geometry import GridGeometry, whole_box
from ...lesions import LesionKind, Slices, bounding_slices
from ...postprocessing import Evidence, filled, large_components
from ...recipe import Recipe, Typing
from ...registration import register
from .. import Outcome
from ..evidence import evidence_of, within
from ..maps import NEVER, cropped, place_of
from ..stages import Networks, Study, Volumes
from .patients import agreed, classify_patient, match
from .reclassification import Tissue, reclassified
from .votes import Ballot, Proposal, Votes, propose

WHOLE, PATCH = 0, 1

_MARGIN_MM = 60.0  # around the liver: patches of lesions at its surface reach there
_SURELY = 2.0  # logit difference to the background


@dataclass(frozen=True)
class Region:
    """The liver's part of the scan on the first network's grid.

    Attributes:
        votes: what the first network said.
        organ: (k, j, i), the liver with its lesions.
        volumes: grey values of the scan and the phases.
        geometry: its grid.
    """

    votes: Votes
    organ: np.ndarray
    volumes: Volumes
    geometry: GridGeometry


def run(study: Study, networks: Networks) -> Outcome:
    """Both networks; the labels and types are those at the high sensitivity, the patient's class is both runs'."""
    options = networks.recipe.typing or Typing()
    check(networks.recipe)
    details = _align(study, options)
    region = segment_whole(study, networks, options)
    tissue = tissue_of(study, networks, region, options)
    found = {}
    for name, factor in (("base", options.factor_base), ("high", options.factor_high)):
        proposals = propose(region.votes, factor, in_reach(region, options))
        found[name] = reclassify(study, networks, proposals, tissue, options)
        details[f"lesions_{name}"] = {"proposed": len(proposals), "kept": len(found[name])}
    classes = {name: classify_patient(_types(kept, options), options) for name, kept in found.items()}
    details["patient_classes"] = classes
    details["lesions_agreed"] = match(found["high"], found["base"]).count("same")
    return Outcome(
        evidence=_evidence(region, found["high"], options.factor_high, networks),
        kinds=tuple(_lesion_kind(each, region.geometry, options) for each in found["high"]),
        patient_class=agreed(classes["base"], classes["high"]),
        details=details,
    )


def check(recipe: Recipe) -> None:
    """Say what is wrong with a recipe that no rule of its own refuses.

    Raises:
        RecipeError: not a stage for the whole scan and one for patches on the same grid, which both know all types.
    """
    stages, options = recipe.stages, recipe.typing or Typing()
    if len(stages) != 2 or stages[WHOLE].grid != stages[PATCH].grid:
        got = ", ".join(f"{stage.name} on {stage.grid}" for stage in stages)
        raise RecipeError(f"recipe.stages: wanted two with one grid for a system 'typing', got {got}")
    if stages[PATCH].window is None:
        raise RecipeError("recipe.stages[1].window: wanted the size of a lesion's patch, got none")
    for stage in stages:
        Ballot.of(stage.classes, options.lesion_types, options.in_liver)


def _align(study: Study, options: Typing) -> dict[str, object]:
    """Bring the phases onto the scan; how well that went, for the report."""
    quality: dict[str, object] = {}
    for name, phase in study.phases.items():
        if phase is not None and options.register != "none":
            with study.step(f"registration: {name}"):
                study.phases[name], told = register(
                    phase, study.scan, study.modality, f"phase {name}", options.register
                )
            quality[name] = dataclasses.asdict(told)
    return {"registration": quality} if quality else {}


def segment_whole(study: Study, networks: Networks, options: Typing) -> Region:
    """What UNet_whole says; of its classes only the votes are kept, of the scan only the liver's surroundings."""
    ballot = Ballot.of(networks.stage(WHOLE).classes, options.lesion_types, options.in_liver)
    output = networks.run(study, WHOLE, whole_box(study.scan), ballot.count, filled_up=True)
    geometry = output.geometry
    votes = Votes.counted(output.logits, geometry.spacing_mm[::-1])
    organ = large_components(votes.organ(options.factor_high), networks.recipe.postprocessing.keep_liver_above)
    study.learn_liver_levels(output.volumes, organ & (votes.liver > 0) & ~votes.lesions(options.factor_high))
    found = bounding_slices(organ)
    if found is None:
        warn("the whole-scan network found no liver, so no lesion was looked for")
        found = tuple(slice(n // 2, n // 2 + 1) for n in organ.shape)
    box = _widened(found, organ.shape, geometry.spacing_mm[::-1])
    volumes: Volumes = [None if each is None else each[box].copy() for each in output.volumes]
    return Region(votes.within(box), filled(organ[box]), volumes, cropped(geometry, box))


def tissue_of(study: Study, networks: Networks, region: Region, options: Typing) -> Tissue:
    """What the patches of UNet_patch are made of."""
    with study.step(f"{networks.stage(PATCH).name}: prepare"):
        volume = networks.input_of(study, PATCH, region.volumes)
        healthy = region.organ & (region.votes.liver > 0) & ~region.votes.lesions(options.factor_high)
        return Tissue(volume, region.organ, healthy)


def reclassify(
    study: Study, networks: Networks, proposals: Sequence[Proposal], tissue: Tissue, options: Typing
) -> list[Proposal]:
    """What UNet_patch confirms of the lesions, with its types."""
    stage = networks.stage(PATCH)
    assert stage.window is not None
    kinds = np.full(len(stage.classes), -1)
    for kind, name in enumerate(options.lesion_types):
        kinds[stage.classes.index(name)] = kind
    with study.step(f"{stage.name}: network"):
        return reclassified(
            proposals,
            tissue,
            lambda patch: kinds[networks.run_array(PATCH, patch).argmax(axis=0)],
            stage.window[::-1],
            options,
        )


def in_reach(region: Region, options: Typing) -> np.ndarray:
    """Where lesions may lie: in the liver and at its surface."""
    return region.organ | within(region.organ, region.geometry, options.reach_mm)


def _evidence(region: Region, kept: Sequence[Proposal], factor: float, networks: Networks) -> Evidence:
    """What the first network said, to be voted on at the high sensitivity; lesions that were dropped are liver."""
    votes = region.votes
    liver, lesion = votes.liver.astype(np.float32), votes.lesion.astype(np.float32)
    dropped = votes.lesions(factor)
    for each in kept:
        dropped[each.found.box] &= ~each.mask
    lesion[dropped] = NEVER
    inside = dropped & region.organ
    liver[inside] = np.maximum(liver[inside], _SURELY)
    evidence = evidence_of(liver, lesion, region.geometry, networks.recipe.postprocessing)
    return dataclasses.replace(evidence, base_factor=factor * evidence.base_factor)


def _lesion_kind(proposal: Proposal, geometry: GridGeometry, options: Typing) -> LesionKind:
    left, back, head = place_of(geometry, _inner_place(proposal))
    return LesionKind(options.lesion_types[proposal.kind], proposal.score, (-left, -back, head))


def _inner_place(proposal: Proposal) -> tuple[int, int, int]:
    """The voxel (i, j, k) deepest inside the lesion, which stays inside when the lesion's outline moves a little."""
    import edt

    depth = edt.edt(np.pad(proposal.mask, 1))
    k, j, i = np.unravel_index(int(depth.argmax()), depth.shape)
    low_k, low_j, low_i = (edge.start - 1 for edge in proposal.found.box)
    return int(i + low_i), int(j + low_j), int(k + low_k)


def _types(lesions: Sequence[Proposal], options: Typing) -> list[str]:
    return [options.lesion_types[each.kind] for each in lesions]


def _widened(box: Slices, shape: tuple[int, ...], spacing_mm: Sequence[float]) -> Slices:
    margins = [round(_MARGIN_MM / edge) for edge in spacing_mm]
    sides = zip(box, margins, shape, strict=True)
    return tuple(slice(max(0, s.start - m), min(n, s.stop + m)) for s, m, n in sides)
