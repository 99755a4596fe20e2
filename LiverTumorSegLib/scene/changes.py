"""What changed in a segmentation's voxels between two looks at it: the box of a stroke, and who gained and lost there.

Slicer tells that a segment changed, not where. So the labelmaps are remembered and compared, once for everybody who
wants to know: a stroke in a liver of two million voxels costs some milliseconds.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

import numpy as np

from .segments import kinds_of
from .voxels import Block, block_of, layers_of

How = Literal["edited", "brought", "replaced"]


@dataclass(frozen=True, eq=False)
class Layer:
    """A labelmap as it was when it was last looked at.

    Attributes:
        image: the vtkOrientedImageData; Undo and new results bring other ones.
        values: its label values; None for no voxel.
        owners: label value -> segment.
        kinds: (65536,) label value -> background, liver or tumour.
    """

    image: Any
    values: Block | None
    owners: dict[int, str]
    kinds: np.ndarray

    def copy(self) -> Layer:
        """With voxels of its own, which Slicer does not change."""
        own = self.values and dataclasses.replace(self.values, array=self.values.array.copy())
        return dataclasses.replace(self, values=own)


@dataclass(frozen=True)
class Change:
    """What happened to liver and tumours at once.

    Attributes:
        how: "edited", by a stroke and what follows from it; "brought", by a segment that came with its voxels, copied
            from elsewhere; "replaced", all labelmaps by other ones, as Undo, Redo and a new result do.
        extent: first and last index along i, j and k of the box that holds all of it.
        added: segment -> voxels that it gained, where it did.
        removed: segment -> voxels that it lost.
    """

    how: How
    extent: tuple[int, ...]
    added: dict[str, int]
    removed: dict[str, int]

    def voxels_of(self, segment_id: str) -> int:
        """How many voxels of a segment came or went."""
        return self.added.get(segment_id, 0) + self.removed.get(segment_id, 0)

    def with_brought(self, other: Change) -> Change:
        """It and a "brought" one after it as one, as Undo takes both back; of segments that it did not remove."""
        ends = zip((min, max) * 3, self.extent, other.extent, strict=True)
        extent = tuple(end(own, its) for end, own, its in ends)
        return dataclasses.replace(self, extent=extent, added={**self.added, **other.added})

    def undoes(self, other: Change) -> bool:
        """Whether it takes the other one back, as far as counts can tell."""
        return (self.extent, self.added, self.removed) == (other.extent, other.removed, other.added)

    def repeats(self, other: Change) -> bool:
        """Whether it is the other one again, as far as counts can tell."""
        return (self.extent, self.added, self.removed) == (other.extent, other.added, other.removed)


def change_between(how: How, before: list[Layer], after: list[Layer], changed: Block | None) -> Change | None:
    """Count what changed.

    Args:
        how: see `Change`; "edited" also for what may turn out to be "brought".
        before: layers as they were.
        after: layers as they are.
        changed: the box, from `difference`; None for nothing.

    Returns:
        None where no segment gained or lost a voxel.
    """
    if changed is None:
        return None
    olds, news = (_members(layers, changed) for layers in (before, after))
    nobody = np.zeros(int(np.count_nonzero(changed.array)), bool)
    added: dict[str, int] = {}
    removed: dict[str, int] = {}
    for each in {**olds, **news}:
        old, new = olds.get(each, nobody), news.get(each, nobody)
        for counts, mask in ((added, new & ~old), (removed, old & ~new)):
            if mask.any():
                counts[each] = int(np.count_nonzero(mask))
    if how == "edited" and not removed and added.keys() <= segments_in(after) - segments_in(before):
        how = "brought"
    return Change(how, changed.extent, added, removed) if added or removed else None


def current_layers(segmentation_node: Any) -> list[Layer] | None:
    """The labelmaps of liver and tumours; None while one is missing, as in the middle of Undo."""
    kinds = kinds_of(segmentation_node)
    labelmaps = layers_of(segmentation_node, [*kinds])
    if sum(map(len, labelmaps.values())) < len(kinds):
        return None
    layers = []
    for image, values in labelmaps.items():
        lookup = np.zeros(1 << 16, np.uint8)
        for each, value in values.items():
            lookup[value] = kinds[each]
        layers.append(Layer(image, block_of(image), {value: each for each, value in values.items()}, lookup))
    return layers


def segments_in(layers: list[Layer]) -> set[str]:
    """The segments that have a place in some layers, with voxels or without."""
    return {owner for layer in layers for owner in layer.owners.values()}


def on_other_grids(before: list[Layer], after: list[Layer]) -> bool:
    """Whether the segmentation was put on another grid, as by the Segment Editor's "Specify geometry".

    Which voxels came and went cannot be told then. A single segment that Slicer puts on the grid of the others, as it
    does with the first stroke on a segment copied from elsewhere, is compared with the voxels nearest to its own.
    """
    olds, news = ([layer.values for layer in layers if layer.values is not None] for layers in (before, after))
    return bool(olds and news) and not olds[0].same_grid(news[0])


def images(layers: list[Layer]) -> set[Any]:
    """Their labelmaps, by which they are known again."""
    return {layer.image for layer in layers}


def only_more(before: list[Layer], after: list[Layer]) -> bool:
    """Whether labelmaps came in addition, and all others are still there with the same segments."""
    owners = {layer.image: layer.owners for layer in after}
    return len(after) > len(before) and all(owners.get(layer.image) == layer.owners for layer in before)


def frame_of(layers: list[Layer]) -> Block | None:
    """An empty block over all voxels of some layers, on the grid of the first one."""
    blocks = [layer.values for layer in layers if layer.values is not None]
    return reduce(Block.joined, blocks[1:], blocks[0].joined(blocks[0])) if blocks else None


def kinds_in(layers: list[Layer], box: Block) -> np.ndarray:
    """Background, liver or tumour of each voxel of a box."""
    kinds = np.zeros(box.array.shape, np.uint8)
    for layer in layers:
        if layer.values is not None:
            np.maximum(kinds, layer.kinds[layer.values.under(box)], out=kinds)
    return kinds


def owners_in(layers: list[Layer], box: Block) -> set[str]:
    """The segments that have voxels among the True ones of a box."""
    owners = set()
    for layer in layers:
        if layer.values is not None:
            values = np.unique(layer.values.under(box)[box.array])
            owners |= {layer.owners[value] for value in values.tolist() if value in layer.owners}
    return owners


def difference(before: list[Layer], after: list[Layer]) -> Block | None:
    """The box in which something changed, True where it did; None for nothing."""
    frame = frame_of([*before, *after])
    if frame is None:
        return None
    olds = {layer.image: layer.values for layer in before}
    news = {layer.image: layer.values for layer in after}
    places = [np.zeros(0, np.int64)]
    for image in {**olds, **news}:
        old, new = (layers.get(image) for layers in (olds, news))
        if old is not None and new is not None and not new.same_grid(frame) and old.equals(new):
            continue  # to find a large segment's voxels on the others' grid takes longer than a stroke may
        places.append(np.flatnonzero(_values_in(old, frame) != _values_in(new, frame)))  # few, after a stroke
    return _box_around(np.concatenate(places), frame)


def replacement(before: list[Layer], after: list[Layer]) -> Block | None:
    """As `difference`, where all labelmaps are other ones and only the segments say what is the same."""
    frame = frame_of([*before, *after])
    if frame is None:
        return None
    owners = sorted(segments_in([*before, *after]))
    # Sums of large random numbers tell any set of segments from any other, in whichever layers they are.
    numbers = dict(zip(owners, np.random.default_rng(0).integers(1, 1 << 62, len(owners)), strict=True))
    old, new = (_codes_in(layers, frame, numbers) for layers in (before, after))
    return _box_around(np.flatnonzero(old != new), frame)


def _codes_in(layers: list[Layer], frame: Block, numbers: dict[str, int]) -> np.ndarray:
    codes = np.zeros(frame.array.shape, np.int64)
    for layer in layers:
        lookup = np.zeros(1 << 16, np.int64)
        for value, owner in layer.owners.items():
            lookup[value] = numbers[owner]
        codes += lookup[_values_in(layer.values, frame)]
    return codes


def _box_around(places: np.ndarray, frame: Block) -> Block | None:
    """The box around some voxels of a frame, by their numbers in its array, True where they are."""
    if places.size == 0:
        return None
    indices = np.unravel_index(places, frame.array.shape)
    box = tuple(slice(int(each.min()), int(each.max()) + 1) for each in indices)
    part = frame.cut(box)
    part.array[tuple(each - edge.start for each, edge in zip(indices, box, strict=True))] = True
    return part


def _values_in(values: Block | None, frame: Block) -> np.ndarray:
    if values is None:
        return np.zeros(frame.array.shape, np.uint8)
    whole = values.array.shape == frame.array.shape and values.same_grid(frame)
    return values.array if whole else values.under(frame)


def _members(layers: list[Layer], box: Block) -> dict[str, np.ndarray]:
    """Segment -> which of the True voxels of a box it has, in their order."""
    members: dict[str, np.ndarray] = {}
    for layer in layers:
        if layer.values is not None:
            values = layer.values.under(box)[box.array]
            for value in np.unique(values).tolist():
                if value in layer.owners:
                    own = members.get(layer.owners[value])
                    members[layer.owners[value]] = values == value if own is None else own | (values == value)
    return members
