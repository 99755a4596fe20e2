"""S3's four kinds of patches of one study, in turn (section IV.B.1, figure 4), and its hard cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..lesions import Slices, iterate_components
from ..recipe import LIVER, Recipe, Typing
from ..systems.lesion_typing.shuffle import Graft, cut_out, healed, liver_patch, transplanted, window_holding
from ..windows import Window, cut, window_around

SCHEMES = ("original positive", "original negative", "shuffled positive", "shuffled negative")

_HARD = 0.5  # of the patches of a study that has hard cases show one
_TRIES = 20


@dataclass(frozen=True)
class Finding:
    """A lesion, or what was taken for one.

    Attributes:
        box: where it lies.
        mask: (k, j, i) of the box.
        value: its label value; the liver's for a false positive.
    """

    box: Slices
    mask: np.ndarray
    value: int


@dataclass(frozen=True)
class Scene:
    """What the patches of one study are made of.

    Attributes:
        volume: (channels, k, j, i), scaled.
        labels: uint8 (k, j, i): background, liver (with what lies in it) and lesion types.
        healthy: (k, j, i), liver without any lesion.
        liver_value: the liver's label value.
        lesions: the study's.
        missed: those of them that the first network did not see.
        false: what it took for lesions and is liver.
    """

    volume: np.ndarray
    labels: np.ndarray
    healthy: np.ndarray
    liver_value: int
    lesions: tuple[Finding, ...]
    missed: tuple[Finding, ...] = ()
    false: tuple[Finding, ...] = ()


def scene_of(volume: np.ndarray, labels: np.ndarray, recipe: Recipe, seen: np.ndarray | None = None) -> Scene:
    """What a labelled study gives.

    Args:
        volume: (channels, k, j, i), scaled.
        labels: (k, j, i) values of `Recipe.label_names`.
        recipe: whose names.
        seen: (k, j, i), what the first network takes for lesions; None where there is none.
    """
    options, names = recipe.typing or Typing(), recipe.label_names
    liver_value = names.index(LIVER)
    inner = [names.index(name) for name in (LIVER, *options.in_liver) if name in names]
    kinds = [names.index(name) for name in options.lesion_types]
    healthy = np.isin(labels, inner)
    kept = np.where(healthy, liver_value, np.where(np.isin(labels, kinds), labels, 0)).astype(np.uint8)
    lesions = tuple(
        Finding(box, mask, value) for value in kinds for box, mask in iterate_components(np.asarray(labels == value))
    )
    if seen is None:
        return Scene(volume, kept, healthy, liver_value, lesions)
    missed = tuple(each for each in lesions if not (seen[each.box] & each.mask).any())
    wrong = iterate_components(seen & healthy)
    false = tuple(Finding(box, mask, liver_value) for box, mask in wrong if not _touches(kept, box, mask, kinds))
    return Scene(volume, kept, healthy, liver_value, lesions, missed, false)


def shuffled_patch(
    scene: Scene, number: int, size: Sequence[int], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """One patch by scheme `number` modulo four; what a study has no lesion or no room for becomes a negative one.

    Args:
        scene: of the study.
        number: of the patch.
        size: (k, j, i).
        rng: source of all chance.

    Returns:
        (channels, *size) with 0 outside the liver, and label values (*size).
    """
    scheme = number % len(SCHEMES)
    positive = scheme in (0, 2)
    finding = _chosen(scene, positive, rng)
    if finding is None or (scheme == 1 and finding.value != scene.liver_value):
        return _negative(scene, size, rng)
    own = cut_out(scene.volume, finding.box, finding.mask)
    graft: Graft | None = own
    if (positive and scheme == 2) or (finding.value == scene.liver_value and scheme == 3):
        graft = transplanted(own, scene.healthy, rng)
    elif scheme == 3:
        graft = healed(scene.volume, finding.box, finding.mask, scene.healthy, rng)
    if graft is None:
        return _negative(scene, size, rng)
    window = window_holding(graft.box, scene.labels.shape, size, rng)
    patch, inside = liver_patch(scene.volume, scene.labels > 0, window, graft)
    labels = cut(scene.labels, window)
    labels[inside] = finding.value if positive else scene.liver_value
    return patch, labels


def _chosen(scene: Scene, positive: bool, rng: np.random.Generator) -> Finding | None:
    """A lesion for a positive patch, a false positive or a lesion for a negative one; hard ones half of the time."""
    hard = scene.missed if positive else scene.false
    pool = hard if hard and rng.random() < _HARD else scene.lesions
    return pool[int(rng.integers(len(pool)))] if pool else None


def _negative(scene: Scene, size: Sequence[int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A window of the liver without a lesion; where lesions are everywhere, they are left out like other organs."""
    places = np.flatnonzero(scene.healthy if scene.healthy.any() else np.ones_like(scene.healthy))
    window = Window((0, 0, 0), tuple(size))
    for place in rng.choice(places, _TRIES):
        centre = [float(n) for n in np.unravel_index(place, scene.labels.shape)]
        window = window_around(centre, size)
        inside = window.inside(scene.labels.shape)
        if scene.healthy[inside].sum() == (scene.labels[inside] > 0).sum():
            break
    patch, _ = liver_patch(scene.volume, scene.healthy, window)
    return patch, cut(np.where(scene.healthy, scene.labels, 0).astype(np.uint8), window)


def _touches(labels: np.ndarray, box: Slices, mask: np.ndarray, kinds: Sequence[int]) -> bool:
    """Whether a component or its neighbours are lesion: then it is that lesion's ragged edge, no false positive."""
    wider = tuple(slice(max(0, s.start - 1), s.stop + 1) for s in box)
    return bool(np.isin(labels[wider], kinds).any())
