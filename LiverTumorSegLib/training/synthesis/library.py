"""A folder of completed bodies, drawn once and used by every training run.

Drawing the body around a label map takes seconds, sampling it a tenth of one; so bodies are drawn
ahead, a few variants of every label map, and kept as plain arrays.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from ...errors import TrainingError, warn
from ...networks.weights import write_durably
from .anatomy import Anatomy, Tissue, labelmap_files, organs_from_labelmap
from .body import complete_body
from .procedural import procedural_organs

INDEX = "index.json"
DRAWING = 3
"""One more when bodies of the same label map and seed, or scans of them, become others."""


@dataclass(frozen=True)
class AnatomyLibrary:
    """Bodies on disk, split by patient.

    Attributes:
        folder: where the arrays lie.
        training, validation: file names; all variants of one label map are on the same side.
        sources: tells the label maps from others; "" without, and where an older version drew the bodies.
    """

    folder: Path
    training: tuple[str, ...]
    validation: tuple[str, ...]
    sources: str = ""

    @property
    def tuning(self) -> tuple[str, ...]:
        """Those for validation that epochs, rules and temperatures are chosen on: of two fifths of the sources."""
        return self._sides[0]

    @property
    def deciding(self) -> tuple[str, ...]:
        """Those for validation that nothing was chosen on: of the other sources, or the same where there is one."""
        return self._sides[1]

    @cached_property
    def _sides(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        sources = sorted({_source(name) for name in self.validation})
        if len(sources) < 2:
            return self.validation, self.validation
        first = set(sources[: max(1, 2 * len(sources) // 5)])
        tuning = tuple(name for name in self.validation if _source(name) in first)
        return tuning, tuple(name for name in self.validation if name not in tuning)

    def load(self, name: str) -> Anatomy:
        """One body, memory-mapped; the last ones that were asked for are kept, with what they have on devices."""
        path = self.folder / name
        return _loaded(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=128)
def _loaded(path: Path, written_ns: int) -> Anatomy:
    """The body of a file; one that was written again is another."""
    return Anatomy(np.load(path, mmap_mode="c", allow_pickle=False), path.name)


def _source(name: str) -> str:
    """The number of the source that a body was drawn from; see `_draw`."""
    return name.split("_")[0]


def open_library(folder: Path) -> AnatomyLibrary:
    """The library that `build_library` left in `folder`; one of another `DRAWING` with a warning."""
    index = json.loads((Path(folder) / INDEX).read_text(encoding="utf-8"))
    sources, drawing = index["settings"].get("sources", ""), index["settings"].get("drawing")
    if drawing != DRAWING:
        got = "none" if drawing is None else drawing
        warn(f"{folder}: wanted bodies of drawing {DRAWING}, got {got}; figures from others do not compare with them")
    return AnatomyLibrary(Path(folder), tuple(index["training"]), tuple(index["validation"]), sources)


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
    library with the same settings is opened instead of drawn again; one that was broken off is not finished.

    Raises:
        ImageError: there is no label map, or one cannot be read.
        TrainingError: there are no more sources than are held out.
        OutputError: the index cannot be written.
    """
    folder = Path(folder)
    sources = labelmap_files(labelmaps) if labelmaps is not None else [None] * procedural
    if len(sources) <= held_out:
        what = "bodies" if labelmaps is None else "label maps"
        raise TrainingError(f"{what}: wanted more than the {held_out} held out for validation, got {len(sources)}")
    settings: dict[str, object] = {
        "labelmaps": labelmaps is not None,
        "variants": variants,
        "held_out": held_out,
        "drawing": DRAWING,
        "seed": seed,
    }
    if labelmaps is None:
        settings["procedural"] = procedural
    else:
        settings["sources"] = _digest([path for path, _ in filter(None, sources)], labelmaps)
    if _is_finished(folder, settings):
        return open_library(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INDEX).unlink(missing_ok=True)
    names: list[list[str]] = []
    for number, source in enumerate(sources):
        names.append(_draw(folder, number, source, variants, seed))
        if progress is not None:
            progress(number + 1, len(sources))
    training = [name for mine in names[:-held_out] for name in mine]
    validation = [name for mine in names[-held_out:] for name in mine]
    index = {"settings": settings, "training": training, "validation": validation}
    write_durably(folder / INDEX, json.dumps(index, indent=1).encode())
    return open_library(folder)


def _draw(
    folder: Path, number: int, source: tuple[Path, Mapping[int, Tissue]] | None, variants: int, seed: int
) -> list[str]:
    """Draw and write the bodies of one source; their file names."""
    rng = np.random.default_rng([seed, number])
    organs = organs_from_labelmap(*source) if source is not None else None
    names = [f"{number:03d}_{variant}.npy" for variant in range(variants)]
    for name in names:
        body = complete_body(organs if organs is not None else procedural_organs(rng), rng)
        np.save(folder / name, body.tissues, allow_pickle=False)
    return names


def _digest(files: Iterable[Path], folder: Path) -> str:
    """Tells files from others by their names below a folder and their sizes, wherever that folder is."""
    told = [(path.relative_to(folder).as_posix(), path.stat().st_size) for path in files]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _is_finished(folder: Path, settings: Mapping[str, object]) -> bool:
    """Whether a library of these settings is there; a damaged index is none, and an older one tells no sources."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return False
    found = index.get("settings") if isinstance(index, dict) else None
    if not isinstance(found, dict):
        return False
    known = {key: value for key, value in settings.items() if key in found or key != "sources"}
    return found == known
