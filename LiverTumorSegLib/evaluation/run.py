"""A folder of predictions judged by a folder of references, case by case; what cannot be judged is said.

Nothing is resampled: where two grids differ, the case is named with both and left out. A case that goes wrong never
stops the others.
"""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from ..datasets.cases import DatasetCase, read_labels, stem
from ..datasets.layouts import find_cases
from ..errors import ImageError, LiverTumorSegError
from ..recipe import Typing
from .census import typed_lesions
from .comparison import compare_cases
from .costs import Costs
from .froc import FrocPoint
from .scores import CaseScore, grid_difference, score_case
from .statistics import Comparison
from .summary import Summary, summarise
from .typed_cases import match_case, read_patient_class, read_reference, read_types

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Remark:
    """Something about one case that its figures do not tell.

    Attributes:
        case: its name.
        text: what was wanted and what was found.
        evaluated: whether the case is in the figures all the same.
    """

    case: str
    text: str
    evaluated: bool


@dataclass(frozen=True)
class Pair:
    """A case with the file that holds its prediction; either may be missing."""

    case: DatasetCase
    prediction: Path | None


@dataclass(frozen=True)
class Evaluation:
    """Everything that the report shows.

    Attributes:
        title: what was judged.
        dataset: layout of the references, a key of `datasets.layouts.LAYOUTS`.
        seed: of the bootstrap.
        cases: those that could be judged, by name.
        remarks: by case.
        pairs: case name -> where its files are, for the pictures.
        froc: one point a sensitivity factor; empty where only label maps were judged.
        comparison: structure and measure -> this result against another; empty without another.
        against: what the comparison is with.
        provenance: how the predictions were made, where that is known.
        types: which types of lesions the predictions have, where they have any.
        costs: of the bundle that made them, where one did.
    """

    title: str
    dataset: str
    seed: int
    cases: tuple[CaseScore, ...]
    remarks: tuple[Remark, ...]
    pairs: dict[str, Pair] = field(default_factory=dict)
    froc: tuple[FrocPoint, ...] = ()
    comparison: dict[tuple[str, str], Comparison] = field(default_factory=dict)
    against: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)
    types: Typing | None = None
    costs: Costs | None = None

    @cached_property
    def summary(self) -> Summary:
        """All cases together; see `summary.summarise`."""
        return summarise(self.cases, self.seed, self.types, self.costs)


def evaluate_folders(
    predictions: Path,
    references: Path,
    layout: str = "nifti",
    against: Path | None = None,
    *,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Judge a folder of label maps.

    Args:
        predictions: label maps, or folders as `livertumorseg segment` writes them.
        references: a data set; its scans, where it has them, are used for pictures only.
        layout: of the references, a key of `datasets.layouts.LAYOUTS`.
        against: other predictions of the same cases, to compare with.
        seed: of the bootstrap.
        workers: processes; by default one a core.
        progress: told the case that is done and the share of all.

    Raises:
        DatasetError: a folder is not there or holds no case.
    """
    pairs = pair_folders(predictions, references, layout)
    others = pair_folders(against, references, layout) if against else []
    cases, remarks = score_pairs(pairs, workers, progress)
    evaluation = Evaluation(predictions.name, layout, seed, cases, remarks, {pair.case.name: pair for pair in pairs})
    if against is None:
        return evaluation
    return compared_with(evaluation, against.name, *score_pairs(others, workers, progress))


def compared_with(
    evaluation: Evaluation, name: str, cases: Sequence[CaseScore], remarks: Sequence[Remark]
) -> Evaluation:
    """The evaluation beside another result of the same cases, whose own remarks join it."""
    return dataclasses.replace(
        evaluation,
        against=name,
        comparison=compare_cases(cases, evaluation.cases, evaluation.seed),
        remarks=(*evaluation.remarks, *(Remark(r.case, f"{name}: {r.text}", r.evaluated) for r in remarks)),
    )


def pair_folders(predictions: Path, references: Path, layout: str = "nifti") -> list[Pair]:
    """Put predictions beside references by the cases' names.

    A prediction may bear the case's name or that of the reference's or scan's file.

    Args:
        predictions: label maps, or folders as `livertumorseg segment` writes them.
        references: a data set.
        layout: of the references.

    Raises:
        DatasetError: a folder is not there or holds no case.
    """
    found = {case.name: case.labels or case.scan for case in find_cases(predictions)}
    pairs = []
    for case in find_cases(references, layout):
        names = [case.name, *(stem(path) for path in (case.labels, case.scan) if path is not None)]
        name = next((name for name in names if name in found), None)
        pairs.append(Pair(case, found.pop(name) if name else None))
    nobody = (DatasetCase(name, name, None, None, read_labels) for name in found)
    return pairs + [Pair(case, found[case.name]) for case in nobody]


def score_pairs(
    pairs: Sequence[Pair], workers: int | None = None, progress: Progress | None = None
) -> tuple[tuple[CaseScore, ...], tuple[Remark, ...]]:
    """Judge every pair that can be judged.

    Args:
        pairs: from `pair_folders`.
        workers: processes; by default one a core, and none besides this one for a single pair.
        progress: told the case that is done and the share of all.
    """
    cases: list[CaseScore] = []
    remarks: list[Remark] = []
    with _scores(pairs, workers) as answers:
        for number, (score, texts) in enumerate(answers, 1):
            if score is not None:
                cases.append(score)
            remarks += texts
            if progress:
                progress(pairs[number - 1].case.name, number / len(pairs))
    return tuple(cases), tuple(remarks)


def score_pair(pair: Pair) -> tuple[CaseScore | None, list[Remark]]:
    """Judge one pair, or say why not."""
    name = pair.case.name
    for path, what in ((pair.case.labels, "reference"), (pair.prediction, "prediction")):
        if path is None:
            return None, [Remark(name, f"wanted a {what}, got none", False)]
    options = Typing()
    try:
        reference, typed = read_reference(pair.case, options)
    except LiverTumorSegError as error:
        return None, [Remark(name, f"reference: {error}", False)]
    try:
        path = Path(str(pair.prediction))
        prediction = read_labels(path)
        types = read_types(path) if typed is not None else None
        patient_class = read_patient_class(path) if types is not None else ""
    except LiverTumorSegError as error:
        return None, [Remark(name, f"prediction: {error}", False)]
    score, remarks = score_images(reference, prediction, name, pair.case.patient)
    if score is None or typed is None:
        return score, remarks
    score = dataclasses.replace(score, typed_lesions=typed_lesions(typed, reference, options))
    if types is None:
        return score, remarks
    try:
        matching = match_case(typed, prediction, types, options, patient_class)
    except ImageError as error:
        return score, [*remarks, Remark(name, f"prediction: {error}", True)]
    return dataclasses.replace(score, typed=matching), remarks


def score_images(
    reference: sitk.Image, prediction: sitk.Image, name: str, patient: str
) -> tuple[CaseScore | None, list[Remark]]:
    """Judge one label map by another, or say why not; what is odd about them is remarked on."""
    if difference := grid_difference(reference, prediction):
        return None, [Remark(name, f"prediction: wanted the reference's grid, got {difference}", False)]
    score = score_case(reference, prediction, name, patient)
    return score, [Remark(name, text, True) for text in _oddities(score)]


def _oddities(score: CaseScore) -> Iterator[str]:
    if score.liver.reference_voxels == 0:
        yield "reference: wanted a liver, got an empty label map"
    if score.liver.predicted_voxels == 0:
        yield "prediction: wanted a liver, got an empty label map"
    for what, lesions in (
        ("reference", [s.lesion for s in score.lesions]),
        ("prediction", [s.lesion for s in score.predicted]),
    ):
        single = sum(lesion.voxels == 1 for lesion in lesions)
        if single:
            yield f"{what}: {single} of {len(lesions)} lesions {'is' if single == 1 else 'are'} a single voxel"


def _end_with_parent() -> None:
    """End this process when the one that waits for it is gone, however it went; the pool's own wait for ever."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _scores(pairs: Sequence[Pair], workers: int | None) -> Iterator[Iterable[tuple[CaseScore | None, list[Remark]]]]:
    """`score_pair` of each, in their order, from this process or from several."""
    count = min(workers or os.cpu_count() or 1, len(pairs))
    if count <= 1:
        yield map(score_pair, pairs)
        return
    try:
        with ProcessPoolExecutor(count, get_context("spawn"), _end_with_parent) as pool:
            yield pool.map(score_pair, pairs)
    except BrokenProcessPool:
        reason = "wanted it to run to its end, got it ended by the system (short of memory?)"
        raise LiverTumorSegError(f"one of {count} processes: {reason}; fewer workers need less") from None
