"""Lesions of types judged by references with types, and the patient's class (S3, sections III.A and IV.C, equation 6).

A lesion is a 6-connected component of one type. S3 leaves out what is smaller than 0.5 cm3; a prediction on such a
reference is no false positive. S3's printed formulas leave false labels out, but its table V follows those below.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

SMALLEST_ML = 0.5
ABSTAINED = "uncertain"
"""What a system says of a patient for whom it does not decide."""


@dataclass(frozen=True)
class TypedMatching:
    """The lesions of one case.

    Attributes:
        given: for each lesion of the reference, its type and the one it was given; "" where none was found. Of several
            predicted lesions on it, one of its own type counts, else the one that covers most of it.
        false: the types of predicted lesions that touch no lesion of the reference.
        reference_class: the patient's, "normal" without lesions.
        predicted_class: what was said of the patient.
    """

    given: tuple[tuple[str, str], ...]
    false: tuple[str, ...]
    reference_class: str
    predicted_class: str


@dataclass(frozen=True)
class TypedCounts:
    """Lesions of one type, or of several together, over all cases.

    Attributes:
        true: found, with the right type.
        false_label: found, with another type.
        missed: not found.
        false: predicted where there is none.
        labelled_in: of other types, but given this one.
    """

    true: int
    false_label: int
    missed: int
    false: int
    labelled_in: int

    @property
    def recall(self) -> float:
        """TP / (TP + FN + FL); NaN without lesions."""
        return _share(self.true, self.missed + self.false_label)

    @property
    def precision(self) -> float:
        """TP / (TP + FP + those of other types that were given this one); NaN where nothing was predicted."""
        return _share(self.true, self.false + self.labelled_in)

    @property
    def rough_recall(self) -> float:
        """(TP + FL) / (TP + FL + FN), whatever the type; NaN without lesions."""
        return _share(self.true + self.false_label, self.missed)


@dataclass(frozen=True)
class TypedSummary:
    """All cases of a data set with types.

    Attributes:
        types: of lesions, the worst first.
        malignant: which of them are.
        matchings: one a case.
    """

    types: tuple[str, ...]
    malignant: tuple[str, ...]
    matchings: tuple[TypedMatching, ...]

    def of(self, name: str) -> TypedCounts:
        """The lesions of one type."""
        return count_types(self.matchings, {name})

    @property
    def all(self) -> TypedCounts:
        """Every type for itself, added up; a lesion of another type's label is wrong on both sides."""
        each = [self.of(name) for name in self.types]
        fields = ("true", "false_label", "missed", "false", "labelled_in")
        return TypedCounts(*(sum(getattr(counts, name) for counts in each) for name in fields))

    @property
    def malign(self) -> TypedCounts:
        """All malignant types as one: mistaken for each other they are right.

        As S3's table V counts them, benign lesions that were called malignant do not lower the precision.
        """
        counts = count_types(self.matchings, set(self.malignant))
        return TypedCounts(counts.true, counts.false_label, counts.missed, counts.false, 0)

    def patients(self) -> tuple[float, float, int]:
        """Sensitivity and specificity of malignancy, and how many patients were left undecided (table IV)."""
        decided = [each for each in self.matchings if each.predicted_class != ABSTAINED]
        calls: dict[bool, list[bool]] = {True: [], False: []}
        for each in decided:
            calls[each.reference_class in self.malignant].append(each.predicted_class in self.malignant)
        found, spared = sum(calls[True]), calls[False].count(False)
        sensitivity = _share(found, len(calls[True]) - found)
        return sensitivity, _share(spared, len(calls[False]) - spared), len(self.matchings) - len(decided)


def match_typed(
    reference: np.ndarray,
    prediction: np.ndarray,
    names: Mapping[int, str],
    voxel_ml: float,
    predicted_class: str | None = None,
    smallest_ml: float = SMALLEST_ML,
) -> TypedMatching:
    """Compare the typed lesions of two label maps of one scan.

    Args:
        reference: (k, j, i) whole numbers.
        prediction: the same for what is judged.
        names: value -> lesion type, the worst first; other values are no lesions.
        voxel_ml: volume of a voxel.
        predicted_class: what was said of the patient; by default the worst type among the predicted lesions.
        smallest_ml: lesions below it do not count, on either side.

    Raises:
        ValueError: the two have not one shape.
    """
    if reference.shape != prediction.shape:
        raise ValueError(f"prediction: wanted the reference's shape {reference.shape}, got {prediction.shape}")
    (wanted, wanted_types, small), (got, got_types, got_small) = (
        _lesions(labels, names, smallest_ml / voxel_ml) for labels in (reference, prediction)
    )
    columns = len(got_types) + 1
    pairs = wanted.astype(np.int64) * columns + got
    overlap = np.bincount(pairs.ravel(), minlength=(len(wanted_types) + 1) * columns).reshape(-1, columns)
    given = []
    for number, name in enumerate(wanted_types, 1):
        if number in small:
            continue
        hits = {c: int(overlap[number, c]) for c in range(1, columns) if overlap[number, c] and c not in got_small}
        labels = {got_types[column - 1] for column in hits}
        best = max(hits, key=hits.__getitem__, default=0)
        given.append((name, name if name in labels else got_types[best - 1] if best else ""))
    touched = np.asarray(overlap[1:].any(axis=0))
    false = tuple(t for n, t in enumerate(got_types, 1) if not touched[n] and n not in got_small)
    own = [t for n, t in enumerate(wanted_types, 1) if n not in small]
    told = predicted_class or worst((t for n, t in enumerate(got_types, 1) if n not in got_small), [*names.values()])
    return TypedMatching(tuple(given), false, worst(own, [*names.values()]), told)


def count_types(matchings: Sequence[TypedMatching], group: Collection[str]) -> TypedCounts:
    """Count the lesions of some types as if they were one type."""
    given = [pair for each in matchings for pair in each.given]
    own = [told for name, told in given if name in group]
    return TypedCounts(
        true=sum(told in group for told in own),
        false_label=sum(bool(told) and told not in group for told in own),
        missed=sum(not told for told in own),
        false=sum(name in group for each in matchings for name in each.false),
        labelled_in=sum(told in group for name, told in given if name not in group),
    )


def worst(types: Iterable[str], order: Sequence[str]) -> str:
    """The first of `order` that is among the types, or "normal"."""
    found = set(types)
    return next((name for name in order if name in found), "normal")


def _lesions(
    labels: np.ndarray, names: Mapping[int, str], least_voxels: float
) -> tuple[np.ndarray, list[str], set[int]]:
    """Lesions numbered from 1, their types, and the numbers of those that are too small."""
    import cc3d

    known = np.where(np.isin(labels, [*names]), labels, 0).astype(np.uint8)
    numbers, count = cc3d.connected_components(known, connectivity=6, return_N=True)
    first = np.unique(numbers, return_index=True)[1]
    values = known.ravel()[first]
    types = [names[int(values[n])] for n in range(len(values)) if values[n]]
    sizes = np.bincount(numbers.ravel(), minlength=count + 1)
    # 1e-9: a lesion of exactly the limit counts, whatever the voxel's volume rounds to.
    small = {n for n in range(1, count + 1) if sizes[n] < least_voxels - 1e-9}
    return numbers, types, small


def _share(part: int, rest: int) -> float:
    return part / (part + rest) if part + rest else math.nan
