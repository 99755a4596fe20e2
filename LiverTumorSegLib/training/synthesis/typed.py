"""Synthetic studies of several phases with lesions of several types (for S3).

One body, one set of lesions, and a CT of it at several times after the contrast medium.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ...errors import RecipeError
from .anatomy import LIVER_TISSUES, VESSELS_OF_LIVER, Anatomy, Tissue
from .appearance import Look, draw_look, paint
from .generator import Field, sampled_tissues
from .mimics import draw_mimics
from .phases import CYST, CYST_FREQUENCY, PATTERNS, PHASES, pattern_values, phase_palettes
from .settings import TRAINING, Settings
from .shapes import draw_ball, in_one_piece, tissue_mask, voxel_of

ORGANS = {
    "liver": LIVER_TISSUES,
    "hepatic_vessels": VESSELS_OF_LIVER,
    "portal_vein": (Tissue.PORTAL_VEIN,),
    "gallbladder": (Tissue.GALLBLADDER,),
    "spleen": (Tissue.SPLEEN,),
    "pancreas": (Tissue.PANCREAS,),
    "stomach": (Tissue.STOMACH, Tissue.STOMACH_CONTENT),
}
"""S3's seven organs and vessels -> what they are made of here; the portal vein is drawn with the splenic one. What of
the liver has a name of its own among those asked for goes by that."""

_NO_LESION, _KINDRED = 0.2, 0.65
_LEAST_SHARE = 0.4  # of a lesion must lie in the liver, or it is not drawn
_APART_MM = 1.0  # standard deviation of what is left between phases after registration
_MIMIC_UNITS_HU = 70.0


@dataclass(frozen=True)
class TypedStudy:
    """One study on an isotropic grid.

    Attributes:
        volumes: float32 (phases, k, j, i), HU.
        labels: uint8 (k, j, i), values of the names that were asked for.
        spacing_mm: edge of a voxel.
        types: of the lesions as drawn, one each; not of cysts that are there by the way.
    """

    volumes: np.ndarray
    labels: np.ndarray
    spacing_mm: float
    types: tuple[str, ...]


def typed_study(
    anatomy: Anatomy,
    field: Field,
    phases: Sequence[str],
    names: Sequence[str],
    rng: np.random.Generator,
    settings: Settings = TRAINING,
) -> TypedStudy:
    """Draw one study.

    Args:
        anatomy: whose body.
        field: which part of it, on what grid.
        phases: keys of `PHASES`, in the order of the channels.
        names: of the label values; lesion types of `PATTERNS` and "cyst", and organs of `ORGANS`.
        rng: source of all chance.
        settings: of the drawing.

    Raises:
        RecipeError: a phase or a name that cannot be drawn.
    """
    _check(phases, names)
    tissues = sampled_tissues(anatomy, field, rng, settings.bend)
    columns = [float(np.clip(PHASES[name] + rng.normal(0, 0.1), 0, 3)) for name in phases]
    look = draw_look(rng, "CT", settings)
    mimics = draw_mimics(tissues, field.spacing_mm, rng, settings.mimics, settings.unusual)
    kinds = torch.zeros(tissues.shape, dtype=torch.uint8, device=tissues.device)
    differences = torch.zeros(len(phases), *tissues.shape, device=tissues.device)
    types = _draw_lesions(tissues, kinds, differences, columns, names, field.spacing_mm, rng, settings)
    volumes = _painted(tissues, differences, mimics, columns, look, field, rng)
    labels = _labels(tissues, kinds, names)
    return TypedStudy(volumes.numpy(), labels, field.spacing_mm, types)


def _check(phases: Sequence[str], names: Sequence[str]) -> None:
    for kind, given, known in (("phase", phases, [*PHASES]), ("label", names[1:], [*PATTERNS, CYST, *ORGANS])):
        for name in given:
            if name not in known:
                raise RecipeError(f"synthetic studies: wanted a {kind} among {', '.join(known)}, got {name!r}")


def _draw_lesions(
    tissues: torch.Tensor,
    kinds: torch.Tensor,
    differences: torch.Tensor,
    columns: Sequence[float],
    names: Sequence[str],
    spacing_mm: float,
    rng: np.random.Generator,
    settings: Settings,
) -> tuple[str, ...]:
    """Lesions into `tissues`, their label values into `kinds` and their HU into `differences`; gives their types."""
    frequency = {name: each.frequency for name, each in PATTERNS.items() if name in names}
    if CYST in names:
        frequency[CYST] = CYST_FREQUENCY
    liver = torch.nonzero(tissue_mask(tissues, LIVER_TISSUES))
    if not frequency or len(liver) < 200 or rng.random() < _NO_LESION:
        return ()
    shares = np.array([*frequency.values()]) / sum(frequency.values())
    kindred, drawn = str(rng.choice([*frequency], p=shares)), []
    for _ in range(int(min(8, rng.geometric(0.35)))):
        name = kindred if rng.random() < _KINDRED else str(rng.choice([*frequency], p=shares))
        diameter = float(np.exp(rng.uniform(np.log(9), np.log(45 if name != CYST else 25))))
        centre = voxel_of(liver, rng) + rng.uniform(-0.5, 0.5, 3)
        ball = draw_ball(
            tuple(tissues.shape), centre, diameter / 2 / spacing_mm, rng.uniform(0, 0.2), rng, tissues.device
        )
        if ball is None:
            continue
        free = tissue_mask(tissues[ball.box], LIVER_TISSUES) & (kinds[ball.box] == 0)
        inside = (ball.level < 1) & free
        if float(inside.sum()) < _LEAST_SHARE * 4 / 3 * np.pi * (diameter / 2 / spacing_mm) ** 3:
            continue
        inside = in_one_piece(inside)
        tissues[ball.box][inside] = Tissue.CYST if name == CYST else Tissue.LESION
        kinds[ball.box][inside] = names.index(name)
        if name != CYST:
            strength = settings.contrast * rng.uniform(0.45, 1.15)
            for phase, column in enumerate(columns):
                values = pattern_values(PATTERNS[name], ball.level, column, strength)
                differences[phase][ball.box][inside] = values[inside]
        drawn.append(name)
    return tuple(drawn)


def _painted(
    tissues: torch.Tensor,
    differences: torch.Tensor,
    mimics: torch.Tensor,
    columns: Sequence[float],
    look: Look,
    field: Field,
    rng: np.random.Generator,
) -> torch.Tensor:
    """Each phase as CT; what is left of breathing between them moves all but the first a little."""
    volumes = []
    for number, palette in enumerate(phase_palettes(list(columns), rng)):
        contrast = mimics * float(rng.uniform(0.2, 1.2)) * _MIMIC_UNITS_HU / palette.lesion_unit
        lesion = tissues == Tissue.LESION
        contrast = torch.where(lesion, differences[number] / palette.lesion_unit, contrast)
        volume = paint(tissues, contrast, field.spacing_mm, replace(look, palette=palette), rng)
        shift = rng.normal(0, _APART_MM / field.spacing_mm, 3) if number else np.zeros(3)
        volumes.append(torch.roll(volume, [int(n) for n in np.round(shift)], (0, 1, 2)))
    return torch.stack(volumes)


def _labels(tissues: torch.Tensor, kinds: torch.Tensor, names: Sequence[str]) -> np.ndarray:
    labels = torch.zeros(tissues.shape, dtype=torch.uint8, device=tissues.device)
    for name in ORGANS:  # the liver first
        if name in names:
            labels[tissue_mask(tissues, ORGANS[name])] = names.index(name)
    if CYST in names:
        labels[tissues == Tissue.CYST] = names.index(CYST)
    labels[kinds > 0] = kinds[kinds > 0]
    return labels.numpy()
