"""Segment a data set with a bundle, and judge each case while its networks' output is at hand."""

from __future__ import annotations

import dataclasses
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..datasets.cases import DatasetCase
from ..errors import LiverTumorSegError, OutputError, recorded_warnings
from ..images import read_image
from ..matching import RULES, Matching, Rule, match_by_every_rule
from ..output import write_nifti
from ..phases import Candidate, match_phases
from ..recipe import Phase, Typing
from ..segmentation import TUMOUR, Segmentation, check_sensitivity
from ..segmenter import Segmenter
from .census import typed_lesions
from .costs import Costs, count_parameters
from .froc import FACTORS, FrocPoint, froc_point
from .metrics import dice
from .run import Evaluation, Pair, Progress, Remark, compared_with, score_images
from .scores import CaseScore
from .statistics import mean
from .typed_cases import match_segmentation, read_reference


@dataclass
class Predictions:
    """What a bundle made of a data set, as far as it got.

    Attributes:
        cases: those that could be judged.
        remarks: what is odd, or why a case could not be judged.
        pairs: where the files are.
        matchings: sensitivity factor -> one matching a rule, for each case.
        dices: sensitivity factor -> the tumour's Dice of each case.
        seconds: to segment each case that could be, with its patient.
    """

    cases: list[CaseScore] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    matchings: dict[float, list[dict[Rule, Matching]]] = field(default_factory=dict)
    dices: dict[float, list[float]] = field(default_factory=dict)
    seconds: list[tuple[float, str]] = field(default_factory=list)

    def froc(self) -> tuple[FrocPoint, ...]:
        """One point a factor and rule."""
        return tuple(
            froc_point(factor, rule, [matching[rule] for matching in matchings], self.dices[factor])
            for factor, matchings in sorted(self.matchings.items())
            for rule in RULES
            if matchings
        )


def evaluate_bundle(
    segmenter: Segmenter,
    cases: Sequence[DatasetCase],
    folder: Path,
    layout: str = "nifti",
    against: Segmenter | None = None,
    *,
    sensitivity: float = 1.0,
    factors: Sequence[float] = FACTORS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Segment a data set and judge the result.

    Args:
        segmenter: a bundle, loaded.
        cases: of the data set.
        folder: for the label maps; those of `against` go into a folder beside it.
        layout: of the data set.
        against: another bundle to compare with.
        sensitivity: factor of the label maps that are written and judged.
        factors: of the FROC curve.
        seed: of the bootstrap.
        progress: told the case that is done and the share of all.

    Raises:
        LiverTumorSegError: the sensitivity is no finite number above 0.
        OutputError: a label map cannot be written.
    """
    check_sensitivity(sensitivity)
    done = predict_cases(cases, segmenter, folder, sensitivity, factors, progress)
    bundle = segmenter.bundle
    evaluation = Evaluation(
        f"{bundle.name} {bundle.version}",
        layout,
        seed,
        tuple(done.cases),
        tuple(done.remarks),
        {pair.case.name: pair for pair in done.pairs},
        done.froc(),
        provenance={"bundle": bundle.name, "sha256": bundle.sha256, "sensitivity": sensitivity},
        types=bundle.recipe.typing,
        costs=_costs(segmenter, done),
    )
    if against is None:
        return evaluation
    other = predict_cases(cases, against, folder.with_name(f"{folder.name}_against"), sensitivity, (), progress)
    name = f"{against.bundle.name} {against.bundle.version}"
    return compared_with(evaluation, name, other.cases, other.remarks)


def predict_cases(
    cases: Sequence[DatasetCase],
    segmenter: Segmenter,
    folder: Path,
    sensitivity: float = 1.0,
    factors: Sequence[float] = (),
    progress: Progress | None = None,
) -> Predictions:
    """Segment and judge case after case; a case that goes wrong is remarked on and does not stop the others.

    Args:
        cases: of a data set.
        segmenter: a bundle, loaded.
        folder: for the label maps, `CASE.nii.gz`; made where it does not exist. Each is there whole or not at all.
        sensitivity: factor of the label maps that are written and judged.
        factors: of the FROC curve.
        progress: told the case that is done and the share of all.

    Raises:
        OutputError: a label map cannot be written.
    """
    done = Predictions(matchings={f: [] for f in factors}, dices={f: [] for f in factors})
    for number, case in enumerate(cases, 1):
        try:
            with recorded_warnings() as texts:
                phases = read_phases(case, segmenter.bundle.recipe.phases)
                scan = case.read_scan()
                began = time.perf_counter()
                segmentation = segmenter(scan, phases=phases, sensitivity=sensitivity)
        except LiverTumorSegError as error:
            done.remarks.append(Remark(case.name, f"scan: {error}", False))
            done.pairs.append(Pair(case, None))
            continue
        done.seconds.append((time.perf_counter() - began, case.patient))
        done.remarks += [Remark(case.name, f"prediction: {text}", True) for text in texts]
        path = folder / f"{case.name}.nii.gz"
        _write(segmentation.labels, path)
        done.pairs.append(Pair(case, path))
        _judge(case, segmentation, factors, done, segmenter.bundle.recipe.typing)
        if progress:
            progress(case.name, number / len(cases))
    return done


def read_phases(case: DatasetCase, declared: Sequence[Phase]) -> dict[str, sitk.Image]:
    """Those further phases of a case that a recipe has use for, by the recipe's names.

    Raises:
        ImageError: one cannot be read.
    """
    candidates = [Candidate(path, (name,)) for name, path in case.phases.items()]
    return {name: read_image(path) for name, path in match_phases(declared, candidates, [case.name]).items()}


def _judge(
    case: DatasetCase, segmentation: Segmentation, factors: Sequence[float], done: Predictions, options: Typing | None
) -> None:
    try:
        reference, typed = read_reference(case, options or Typing())
    except LiverTumorSegError as error:
        done.remarks.append(Remark(case.name, f"reference: {error}", False))
        return
    score, remarks = score_images(reference, segmentation.labels, case.name, case.patient)
    done.remarks += remarks
    if score is None:
        return
    if typed is not None:
        score = dataclasses.replace(score, typed_lesions=typed_lesions(typed, reference, options or Typing()))
        if options is not None:
            score = dataclasses.replace(score, typed=match_segmentation(typed, segmentation, options))
    done.cases.append(score)
    wanted = sitk.GetArrayFromImage(reference) == TUMOUR
    for factor in factors:
        got = sitk.GetArrayFromImage(segmentation.with_sensitivity(factor).labels) == TUMOUR
        done.matchings[factor].append(match_by_every_rule(wanted, got))
        done.dices[factor].append(dice(wanted, got) if wanted.any() or got.any() else float(np.nan))


def _costs(segmenter: Segmenter, done: Predictions) -> Costs:
    seconds = mean([each for each, _ in done.seconds], [patient for _, patient in done.seconds])
    parameters, fused = count_parameters(segmenter.bundle.recipe)
    return Costs(parameters, fused, segmenter.opening_seconds, seconds, segmenter.engines[-1].device)


def _write(labels: sitk.Image, path: Path) -> None:
    """Write a label map, whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".livertumorseg-", dir=path.parent) as aside:
            fresh = Path(aside) / path.name
            write_nifti(labels, fresh)
            os.replace(fresh, path)
    except OSError as error:
        raise OutputError(f"{path}: wanted to write the labels, got: {error.strerror or error}") from None
