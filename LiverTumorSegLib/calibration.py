"""Whether probabilities can be believed, and the temperature at which they can (Guo et al., ICML 2017).

A network that is too sure says 0.9 where it is right in half of the cases. Dividing its logits by one number T, fitted
on scans that it was not trained on, mends most of that and leaves every voxel's vote as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import SimpleITK as sitk

from .errors import LiverTumorSegError
from .lesions import iterate_components
from .recipe import TEMPERATURES
from .segmentation import TUMOUR, Segmentation

BINS = 10
_TRIED = 17  # temperatures, a third apart
_STEPS = 18  # of the search between two of them, to a part in ten thousand
_BLOCK = 1 << 20  # voxels at a time
_NEVER = 1000.0  # logits below the others at any temperature


@dataclass(frozen=True)
class Voxels:
    """What a system said of voxels, and what they are.

    Attributes:
        logits: float32 (classes, n), of classes of which a voxel has one; any number may be added to all of a voxel.
        labels: (n,), the number of each voxel's true class.
    """

    logits: np.ndarray
    labels: np.ndarray

    def probability(self, label: int, temperature: float = 1.0) -> np.ndarray:
        """(n,) of being a class, once the logits are divided by a temperature."""
        return np.concatenate([_softmax(part / temperature)[label] for part, _ in self.blocks()])

    def thinned(self, every: int) -> Voxels:
        """Every n-th one."""
        return Voxels(self.logits[:, ::every], self.labels[::every])

    def joined(self, others: Sequence[Voxels]) -> Voxels:
        """These and others as one."""
        every = (self, *others)
        return Voxels(
            np.concatenate([each.logits for each in every], axis=1), np.concatenate([each.labels for each in every])
        )

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Logits and labels of some voxels after the other."""
        for start in range(0, self.labels.size, _BLOCK):
            block = slice(start, start + _BLOCK)
            yield self.logits[:, block], self.labels[block]


def judged_voxels(result: Segmentation, truth: sitk.Image, in_organ: bool = False) -> Voxels:
    """The voxels of the last stage's grid that ended as liver or tumour: background, liver and tumour in this order.

    Args:
        result: with its evidence.
        truth: 0, 1 liver, 2 tumour, in the scan's frame.
        in_organ: what a last stage said that was asked about the organ alone (`Stage.in_organ`), the organ being sure:
            its logit of tumour is the difference to liver, and background is out of the question.

    Raises:
        LiverTumorSegError: the result carries no network output.
    """
    evidence = result.evidence
    if evidence is None:
        raise LiverTumorSegError("calibration: wanted a segmentation made by segment(), got one without network output")
    grid = evidence.geometry.image(np.zeros(evidence.liver.shape, np.uint8))
    labels, found = (
        sitk.GetArrayFromImage(sitk.Resample(each, grid, sitk.Transform(), sitk.sitkNearestNeighbor))
        for each in (truth, result.labels)
    )
    chosen = found > 0
    liver, tumour = (each[chosen].astype(np.float32) for each in (evidence.liver, evidence.tumour))
    return Voxels(_stacked(liver, tumour, in_organ), labels[chosen])


def voted_lesions(result: Segmentation, in_organ: bool = False) -> list[Voxels]:
    """The tumour's components on the last stage's grid before `min_lesion_probability` is asked of them.

    Args:
        result: with its evidence, at the plain sensitivity.
        in_organ: see `judged_voxels`.

    Returns:
        For each one its voxels, of background, liver and tumour, all labelled tumour as they were voted.
    """
    evidence = result.evidence
    assert evidence is not None
    least = evidence.rules.min_lesion_ml / evidence.geometry.voxel_ml
    lesions = []
    voted = evidence.tumour + np.float32(np.log(evidence.base_factor)) > np.maximum(evidence.liver, 0)
    for box, mask in iterate_components(voted):
        if np.count_nonzero(mask) >= least:
            liver, tumour = (each[box][mask].astype(np.float32) for each in (evidence.liver, evidence.tumour))
            lesions.append(Voxels(_stacked(liver, tumour, in_organ), np.full(liver.size, TUMOUR)))
    return lesions


def fit_temperature(voxels: Voxels, label: int | None = None) -> float:
    """The temperature at which what the voxels are is likeliest.

    For the true classes, the negative log likelihood is convex in 1 / T. For a class against all others it need not
    be, so that temperatures all over the range are tried before the search closes in around the best of them.

    Args:
        voxels: of scans that the network was not trained on.
        label: the class whose probability is to be believed, against all others; by default every voxel's true class.

    Returns:
        Within `TEMPERATURES`: one of these limits where the best one lies beyond.

    Raises:
        LiverTumorSegError: there are no voxels.
    """
    if voxels.labels.size == 0:
        raise LiverTumorSegError("calibration: wanted voxels found as liver or tumour, got none")

    def loss(logarithm: float) -> float:
        return negative_log_likelihood(voxels, float(np.exp(logarithm)), label)

    tried = [float(each) for each in np.log(np.geomspace(TEMPERATURES[0], TEMPERATURES[1], _TRIED))]
    best = int(np.argmin([loss(each) for each in tried]))
    if best in (0, _TRIED - 1):
        return TEMPERATURES[best > 0]
    return float(np.exp(_lowest(loss, tried[best - 1], tried[best + 1])))


def negative_log_likelihood(voxels: Voxels, temperature: float = 1.0, label: int | None = None) -> float:
    """Mean over the voxels of -log p(what it is), once their logits are divided by a temperature.

    Args:
        voxels: at least one.
        temperature: above 0.
        label: see `fit_temperature`.
    """
    total = 0.0
    for logits, labels in voxels.blocks():
        scaled = logits.astype(np.float64) / temperature
        if label is None:
            likely = scaled[labels, np.arange(labels.size)]
        else:
            others = _log_sum(np.delete(scaled, label, axis=0))
            likely = np.where(labels == label, scaled[label], others)
        total += float((_log_sum(scaled) - likely).sum())
    return total / voxels.labels.size


def matched_threshold(threshold: float, lesions: Sequence[Voxels], ratio: float) -> float:
    """What to ask of lesions' calibrated mean probability, so that as many are kept as before.

    Args:
        threshold: on the mean probability before, 0 to 1.
        lesions: see `voted_lesions`; where the threshold kept all of them or none, it is `carried_over`.
        ratio: the new temperature over the old one.
    """
    before, after = (
        sorted((float(each.probability(TUMOUR, times).mean()) for each in lesions), reverse=True)
        for times in (1.0, ratio)
    )
    kept = sum(mean >= threshold for mean in before)
    if kept in (0, len(lesions)) or threshold in (0.0, 1.0):
        return carried_over(threshold, ratio)
    return (after[kept - 1] + after[kept]) / 2


def carried_over(probability: float, ratio: float) -> float:
    """The probability of a voxel at another temperature: odds ** (1 / ratio), if only tumour or liver are in question.

    Args:
        probability: 0 to 1.
        ratio: the new temperature over the old one.
    """
    if probability in (0.0, 1.0):
        return probability
    odds = (probability / (1 - probability)) ** (1 / ratio)
    return float(odds / (1 + odds))


@dataclass
class Reliability:
    """How often voxels that are tumour with some probability are tumour, in `BINS` steps.

    Attributes:
        counts, probability, truth: (BINS,) voxels, their probabilities' sum, and how many are tumour.
    """

    counts: np.ndarray = field(default_factory=lambda: np.zeros(BINS))
    probability: np.ndarray = field(default_factory=lambda: np.zeros(BINS))
    truth: np.ndarray = field(default_factory=lambda: np.zeros(BINS))

    def add(self, voxels: Voxels, temperature: float = 1.0) -> None:
        """Count voxels, whose logits are divided by a temperature."""
        p = voxels.probability(TUMOUR, temperature) if voxels.labels.size else np.zeros(0)
        index = np.minimum((p * BINS).astype(int), BINS - 1)
        self.counts += np.bincount(index, minlength=BINS)
        self.probability += np.bincount(index, weights=p, minlength=BINS)
        self.truth += np.bincount(index, weights=voxels.labels == TUMOUR, minlength=BINS)

    def expected_error(self) -> float:
        """Mean distance of probability and truth, weighted by the voxels above the lowest step.

        Nearly all voxels are in that step and surely no tumour: with them, the error is small whatever the others say.
        """
        rows = (self.counts > 0) & (np.arange(BINS) > 0)
        gap = np.abs(self.probability[rows] - self.truth[rows])
        return float(gap.sum() / self.counts[rows].sum()) if rows.any() else float("nan")

    def points(self) -> list[tuple[float, float, int]]:
        """For each step with voxels: the probability said, the share that is tumour, how many voxels."""
        rows = zip(self.counts, self.probability, self.truth, strict=True)
        return [(float(p / n), float(t / n), int(n)) for n, p, t in rows if n]

    def lines(self) -> list[str]:
        """The curve as text: what was said, what was true, how many voxels."""
        return [f"said {said:.2f}  true {true:.2f}  voxels {count}" for said, true, count in self.points()]


def _lowest(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function that falls and then rises between two numbers is lowest, by the golden section."""
    share = (5**0.5 - 1) / 2
    inner = [high - share * (high - low), low + share * (high - low)]
    values = [function(each) for each in inner]
    for _ in range(_STEPS):
        if values[0] < values[1]:
            high, inner[1], values[1] = inner[1], inner[0], values[0]
            inner[0] = high - share * (high - low)
            values[0] = function(inner[0])
        else:
            low, inner[0], values[0] = inner[0], inner[1], values[1]
            inner[1] = low + share * (high - low)
            values[1] = function(inner[1])
    return (low + high) / 2


def _log_sum(logits: np.ndarray) -> np.ndarray:
    """Logarithm of the summed exponentials along the first axis."""
    highest = logits.max(0)
    return np.asarray(highest + np.log(np.exp(logits - highest).sum(0)))


def _stacked(liver: np.ndarray, tumour: np.ndarray, in_organ: bool) -> np.ndarray:
    """Logits of background, liver and tumour, (3, n)."""
    nothing = np.zeros_like(liver)
    return np.stack([nothing - _NEVER, nothing, tumour - liver] if in_organ else [nothing, liver, tumour])


def _softmax(logits: np.ndarray) -> np.ndarray:
    part = np.exp(logits - logits.max(0))
    return np.asarray(part / part.sum(0))
