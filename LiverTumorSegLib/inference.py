"""Run one network on one grid: engine, precision, windows, memory.

On a CPU the engine is OpenVINO and torch is never imported, unless a bundle comes without its
OpenVINO files; on a GPU the engine is torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np

from .bundle import Bundle, check_sums, seal_bundle
from .errors import BundleError, DeviceError, OutputError, warn
from .networks import build_network
from .networks.devices import resolve_device
from .networks.engines import Engine, OpenVINOEngine, TorchEngine
from .networks.export import export_openvino, import_openvino
from .networks.weights import load_weights
from .recipe import Stage, Triple
from .resources import user_path
from .windows import sliding_starts

__all__ = ["Engine", "export_openvino", "open_engine", "resolve_device", "run_network"]

Reduce = Callable[[np.ndarray], np.ndarray]
"""Logits (classes, k, j, i) of some slices -> what is kept of them, (anything, k, j, i); it must not change them."""

PRECISIONS = ("auto", "f32", "bf16", "f16")
ENGINES = ("auto", "openvino", "torch")
_SMALLEST_WINDOW = 48  # voxels a side; smaller ones see too little to be worth it


def open_engine(
    bundle: Bundle, stage: Stage | str, device: str = "cpu", precision: str = "auto", engine: str = "auto"
) -> Engine:
    """Make one stage of a bundle ready to run.

    Args:
        bundle: where the weights are.
        stage: the stage or its name.
        device: what `resolve_device` takes.
        precision: "auto" is f32. bf16 (on a CPU all but the first and last convolutions) is 1.3 times as fast for small
            networks and twice for large ones; its masks agree with those of f32 to a Dice of 0.9994 and better for
            livers, but only of 0.9986 for tumours of a few ml, as measured on twelve synthetic CT and MR scans.
        engine: "auto" is OpenVINO on a CPU and torch elsewhere.

    Raises:
        DeviceError: device, precision or engine is not to be had.
        BundleError: the weights do not fit the recipe's network.
    """
    device = resolve_device(device)
    stage = bundle.stage(stage) if isinstance(stage, str) else stage
    if precision not in PRECISIONS:
        raise DeviceError(f"precision: wanted one of {', '.join(PRECISIONS)}, got {precision!r}")
    if engine not in ENGINES:
        raise DeviceError(f"engine: wanted one of {', '.join(ENGINES)}, got {engine!r}")
    if engine == "openvino" and device != "cpu":
        raise DeviceError(f"engine: wanted openvino on the cpu, got device {device}")
    if device == "cpu" and engine != "torch":
        try:
            import_openvino()
        except ImportError as error:
            if engine == "openvino":
                raise DeviceError("engine: wanted openvino, which is not installed (pip install openvino)") from error
            warn("OpenVINO is not installed (pip install openvino): torch runs the networks, more slowly")
        else:
            return OpenVINOEngine(_intermediate(bundle, stage), stage, precision)
    return TorchEngine(bundle.weights_path(stage.name), stage, device, precision)


def run_network(
    engine: Engine,
    array: np.ndarray,
    window: Triple | None = None,
    overlap: float = 0.25,
    progress: Callable[[float], None] | None = None,
    reduce: Reduce | None = None,
    *,
    temperature: float = 1.0,
    multiples: Triple = (16, 16, 16),
) -> np.ndarray:
    """Run a network over a region, whole or in overlapping windows of one size.

    Where windows overlap, the result is their mean, weighted by a Gaussian around each window's
    centre. When memory runs out the windows are halved, and on a GPU the CPU takes over at last.

    Args:
        engine: the network.
        array: float32 input (channels, k, j, i).
        window: (i, j, k) size above which the region is tiled, or None to run it whole.
        overlap: share of a window that neighbours have in common, at least.
        progress: told the share that is done, from above 0 up to 1.
        reduce: what to keep of the logits, applied to slabs of slices as they are finished, so that many classes of a
            large region need not be held at once. Each slice must be reduced for itself.
        temperature: what the logits are divided by, slab by slab before they are reduced; see `Stage.temperature`.
        multiples: what the sides (i, j, k) of halved windows must be multiples of; see `Grid.multiples`.

    Returns:
        float32 logits (classes, k, j, i), or whatever `reduce` makes of them.
    """
    size = array.shape[1:]
    wanted = size if window is None else tuple(min(a, b) for a, b in zip(size, window[::-1], strict=True))
    tile = wanted
    while True:
        try:
            return _run_tiles(engine, array, tile, overlap, progress, _finish(reduce, temperature))
        except MemoryError as error:
            smaller = tuple(_halved(side, multiple) for side, multiple in zip(tile, multiples[::-1], strict=True))
            if smaller != tile:
                warn(f"not enough memory on {engine.device} for windows of {tile[::-1]} voxels: using {smaller[::-1]}")
                tile = smaller
            elif engine.device != "cpu":
                warn(f"not enough memory on {engine.device}: the CPU goes on ({error})")
                engine.move_to_cpu()
                tile = wanted
            else:
                raise


def _finish(reduce: Reduce | None, temperature: float) -> Reduce | None:
    """What is done to finished logits: divided in place, for they are nobody else's, then reduced."""
    if temperature == 1:
        return reduce

    def divided(logits: np.ndarray) -> np.ndarray:
        np.divide(logits, np.float32(temperature), out=logits)
        return reduce(logits) if reduce else logits

    return divided


def _run_tiles(
    engine: Engine,
    array: np.ndarray,
    tile: tuple[int, ...],
    overlap: float,
    progress: Callable[[float], None] | None,
    reduce: Reduce | None,
) -> np.ndarray:
    starts = [sliding_starts(size, side, overlap) for size, side in zip(array.shape[1:], tile, strict=True)]
    count = math.prod(map(len, starts))
    if count == 1:
        logits = engine(array[None])[0]
        if progress:
            progress(1.0)
        return reduce(logits) if reduce else logits
    slab = _Slab(tile, array.shape[1:])
    result: np.ndarray | None = None
    corners = list(product(*starts[1:]))
    for row, (first, following) in enumerate(zip(starts[0], [*starts[0][1:], array.shape[1]], strict=True)):
        for done, corner in enumerate(corners, 1):
            region = tuple(slice(start, start + side) for start, side in zip((first, *corner), tile, strict=True))
            slab.add(engine(array[(slice(None), *region)][None])[0], region[1:])
            if progress:
                progress((row * len(corners) + done) / count)
        finished = slab.finished(following - first)
        kept = reduce(finished) if reduce else finished
        if following - first == array.shape[1]:
            return kept
        if result is None:
            result = np.empty((len(kept), *array.shape[1:]), kept.dtype)
        result[:, first:following] = kept
        slab.move_on(following - first)
    assert result is not None
    return result


class _Slab:
    """The weighted mean of the windows in the slices under way, as many as a window has."""

    def __init__(self, tile: tuple[int, ...], size: tuple[int, ...]) -> None:
        self._weight = _gaussian(tile)
        self._total = np.zeros((tile[0], *size[1:]), np.float32)
        self._mean: np.ndarray | None = None

    def add(self, logits: np.ndarray, region: tuple[slice, ...]) -> None:
        """Take in the logits of a window, whose place in the slices is `region`."""
        if self._mean is None:
            self._mean = np.zeros((len(logits), *self._total.shape), np.float32)
            self._change = np.empty(logits.shape, np.float32)
        # A running mean stays exact where all windows agree, and needs no division at the end.
        total, part = self._total[(slice(None), *region)], self._mean[(slice(None), slice(None), *region)]
        total += self._weight
        np.subtract(logits, part, out=self._change)
        self._change *= self._weight / total
        part += self._change

    def finished(self, slices: int) -> np.ndarray:
        """The mean of the first slices, of which no further window comes."""
        assert self._mean is not None
        return self._mean[:, :slices]

    def move_on(self, slices: int) -> None:
        """Forget the first slices; the next windows begin so many further on."""
        assert self._mean is not None
        for field in (self._total, *self._mean):
            field[: len(field) - slices] = field[slices:].copy()
            field[len(field) - slices :] = 0


def _gaussian(tile: tuple[int, ...]) -> np.ndarray:
    """Weights of a window's voxels, above 0 everywhere; sigma is an eighth of each side."""
    weight = np.ones((), np.float32)
    for side in tile:
        distance = (np.arange(side) - (side - 1) / 2) / (side / 8)
        weight = np.multiply.outer(weight, np.exp(-0.5 * distance**2).astype(np.float32))
    return weight


def _halved(side: int, multiple: int) -> int:
    """Half a side, but not below the smallest window, rounded up to what the network can divide; never more."""
    return min(side, math.ceil(max(_SMALLEST_WINDOW, side / 2) / multiple) * multiple)


def _intermediate(bundle: Bundle, stage: Stage) -> Path:
    """The stage's OpenVINO file: the bundle's own, else exported once into the user's cache."""
    own = bundle.openvino_path(stage.name)
    if own is not None:
        return own
    weights = bundle.weights_path(stage.name)
    identity = [hashlib.sha256(weights.read_bytes()).hexdigest(), stage.network, stage.arguments]
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]
    folder = user_path("Cache", "openvino", key)
    if not _is_whole(folder):  # absent or damaged: made anew
        network = build_network(stage.network, stage.arguments)
        load_weights(network, weights)
        with _all_or_nothing(folder) as scratch:
            channels, multiple = stage.arguments.get("in_channels", 1), max(stage.grid.multiples)
            export_openvino(network, scratch / "network.xml", channels, multiple)
            seal_bundle(scratch)
    return folder / "network.xml"


def _is_whole(folder: Path) -> bool:
    try:
        check_sums(folder)
    except (BundleError, OSError):  # the latter where another process clears it away
        return False
    return True


@contextlib.contextmanager
def _all_or_nothing(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, which takes `folder`'s place when the block ends well.

    A whole one that another process put there meanwhile stays, for it may be read already.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=folder.parent) as parent:
            scratch = Path(parent) / folder.name
            scratch.mkdir()
            yield scratch
            if not _is_whole(folder):
                if folder.exists():
                    os.replace(folder, Path(parent) / "damaged")
                os.replace(scratch, folder)
    except OSError as error:
        if not _is_whole(folder):
            reason = error.strerror or error
            raise OutputError(f"{folder}: wanted to keep the network for OpenVINO, got: {reason}") from error
