"""Further phases of a study: which of the scans at hand they are, and whether they fit the main one.

All phases are taken to lie in one frame of reference: a place in millimetres is the same place of the patient in each,
as in the series of one DICOM study. Grids may differ. What is left of breathing between them is for the
system that asks for phases to align, see `registration`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import SimpleITK as sitk

from .errors import ImageError, recorded_warnings, warn
from .geometry import box_within, whole_box
from .images import calibrate_ct, check_image, modality_of
from .recipe import Phase


def prepared_phases(
    declared: Sequence[Phase],
    given: Mapping[str, sitk.Image],
    scan: sitk.Image,
    modality: str,
    *,
    modality_is_sure: bool,
) -> dict[str, sitk.Image | None]:
    """The phases of a recipe, checked and CT in HU.

    Args:
        declared: what the recipe wants.
        given: phase name -> 3D image, in one frame of reference with the scan, on a grid of its own.
        scan: the main scan.
        modality: "CT" or "MR", the main scan's.
        modality_is_sure: the user has said so, for all phases; else each must look like it.

    Returns:
        Phase name -> image, in the order of the recipe; None for a missing one.

    Raises:
        ImageError: a required phase is missing, a name is not the recipe's, or a phase cannot be used; names it.
    """
    names = [phase.name for phase in declared]
    for name in given:
        if name not in names:
            raise ImageError(f"phase: wanted {' or '.join(names) or 'none, as the recipe has none'}, got {name!r}")
    for phase in declared:
        if phase.required and phase.name not in given:
            raise ImageError(f"phase {phase.name}: wanted a scan, as the recipe requires it, got none")
    return {
        name: _prepared(name, given[name], scan, modality, modality_is_sure) if name in given else None
        for name in names
    }


def _prepared(name: str, image: sitk.Image, scan: sitk.Image, modality: str, modality_is_sure: bool) -> sitk.Image:
    with recorded_warnings() as texts:
        try:
            image = check_image(image)
        except ImageError as error:
            raise ImageError(f"phase {name}: {error}") from None
        found = modality if modality_is_sure else modality_of(image)
        if found != modality:
            raise ImageError(f"phase {name}: wanted {modality} as the scan is, got {found}; if it is not, say which")
        if box_within(scan, whole_box(scan), image) is None:
            raise ImageError(f"phase {name}: wanted a scan of the same place, got one that does not overlap the scan")
        if modality == "CT":
            image = calibrate_ct(image)
    for text in texts:
        warn(f"phase {name}: {text}")
    return image


@dataclass(frozen=True)
class Candidate:
    """A scan that may be a phase.

    Attributes:
        scan: whatever stands for it.
        names: what it is called: a volume's name, a DICOM series description.
        same_study: whether it is known to be of the main scan's study.
    """

    scan: Any
    names: tuple[str, ...]
    same_study: bool = False


def match_phases(
    declared: Sequence[Phase], candidates: Sequence[Candidate], scan_names: Sequence[str]
) -> dict[str, Any]:
    """Which scan is which phase, by their names; each scan is one phase at most.

    A phase's words must be in a name, whole and in a row; case, digits beside letters and punctuation do not matter.
    Scans of the main one's study come first, then those with more of the phase's words, then those with fewer words
    that are neither the phase's nor in the main scan's names, then the earlier ones.

    Args:
        declared: what the recipe wants.
        candidates: the scans at hand, without the main one.
        scan_names: what the main scan is called.

    Returns:
        Phase name -> `Candidate.scan`, for those that were found.
    """
    expected = {word for name in scan_names for word in _words(name)}
    pairs = []
    for phase in declared:
        for order, candidate in enumerate(candidates):
            likeness = _likeness(phase, candidate.names, expected)
            if likeness is not None:
                found, strange = likeness
                pairs.append((not candidate.same_study, -found, strange, order, phase.name))
    matched: dict[str, int] = {}
    for *_, order, name in sorted(pairs):
        if name not in matched and order not in matched.values():
            matched[name] = order
    return {name: candidates[order].scan for name, order in matched.items()}


def _likeness(phase: Phase, names: Sequence[str], expected: set[str]) -> tuple[int, int] | None:
    """How many of the phase's words are in a name, and how many strange words beside them; None if it is not there."""
    best: tuple[int, int] | None = None
    for wanted in map(_words, (phase.name, *phase.match)):
        for words in map(_words, names):
            starts = range(len(words) - len(wanted) + 1)
            if any(words[n : n + len(wanted)] == wanted for n in starts):
                likeness = len(wanted), len(set(words) - set(wanted) - expected)
                best = likeness if best is None else max(best, likeness, key=lambda each: (each[0], -each[1]))
    return best


def _words(text: str) -> list[str]:
    """Letters and digits apart: "3: LateArterial_1.5" is late, arterial and three numbers."""
    return re.findall(r"[^\W\d_]+|\d+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).casefold())
