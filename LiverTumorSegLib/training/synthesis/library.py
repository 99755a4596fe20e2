"""A folder of completed bodies, drawn once and used by every training run.

Drawing the body around a label map takes seconds, sampling it a tenth of one; so bodies are drawn
ahead, a few variants of every label map, and kept as plain arrays.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from .anatomy import Anatomy, labelmap_files, organs_from_labelmap
from .body import complete_body
from .procedural import procedural_organs

INDEX = "index.json"


@dataclass(frozen=True)
class AnatomyLibrary:
    """Bodies on disk, split by patient.

    Attributes:
        folder: where the arrays lie.
        training, validation: file names; all variants of one label map are on the same side.
    """

    folder: Path
    training: tuple[str, ...]
    validation: tuple[str, ...]

    def load(self, name: str) -> Anatomy:
        """One body, memory-mapped; the last ones that were asked for are kept, with what they have on devices."""
        path = self.folder / name
        return _loaded(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=128)
def _loaded(path: Path, written_ns: int) -> Anatomy:
    """The body of a file; one that was written again is another."""
    return Anatomy(np.load(path, mmap_mode="c", allow_pickle=False), path.name)


def open_library(folder: Path) -> AnatomyLibrary:
    """The library that `build_library` left in `folder`."""
    index = json.loads((Path(folder) / INDEX).read_text(encoding="utf-8"))
    return AnatomyLibrary(Path(folder), tuple(index["training"]), tuple(index["validation"]))


def build_library(
    folder: Path,
    labelmaps: Path | None,
    variants: int = 3,
    held_out: int = 5,
    procedural: int = 40,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> AnatomyLibrary:
    """Draw `variants` bodies for every label map under `labelmaps`, or procedural ones when it is None.

    `procedural` is how many to draw in the latter case. The last `held_out` sources are for validation. A finished
    library with the same settings is opened instead of drawn again.
    """
    folder = Path(folder)
    settings = {"labelmaps": labelmaps is not None, "variants": variants, "held_out": held_out, "seed": seed}
    if labelmaps is None:
        settings["procedural"] = procedural
    if (folder / INDEX).exists() and json.loads((folder / INDEX).read_text(encoding="utf-8"))["settings"] == settings:
        return open_library(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sources = labelmap_files(labelmaps) if labelmaps is not None else [None] * procedural
    names: list[list[str]] = []
    for number, source in enumerate(sources):
        rng = np.random.default_rng([seed, number])
        organs = organs_from_labelmap(*source) if source is not None else None
        mine = []
        for variant in range(variants):
            body = complete_body(organs if organs is not None else procedural_organs(rng), rng)
            mine.append(f"{number:03d}_{variant}.npy")
            np.save(folder / mine[-1], body.tissues, allow_pickle=False)
        names.append(mine)
        if progress is not None:
            progress(number + 1, len(sources))
    training = [name for mine in names[:-held_out] for name in mine]
    validation = [name for mine in names[-held_out:] for name in mine]
    index = {"settings": settings, "training": training, "validation": validation}
    (folder / INDEX).write_text(json.dumps(index, indent=1), encoding="utf-8")
    return open_library(folder)
