"""The voxels of a node's segments, as arrays; and single voxels given from one segment to another.

A label block is read on the segments' own grid, which is the volume's when Slicer has not turned the volume
round (as it does with left-handed volumes of a scene file) and the user has not chosen another geometry. Segments of
one node may lie on several grids, too; `Block.under` is where voxels of one grid are found on another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from typing import Any

import numpy as np
import SimpleITK as sitk
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from ..errors import OutputError
from ..segmentation import LIVER
from .segments import LABELMAP, LIVER_STYLE, kinds_of, segment_ids
from .volumes import image_from_volume, parent_matrix, placed, voxels_of_volume, world_matrix

_Logic = slicer.vtkSlicerSegmentationsModuleLogic


@dataclass(frozen=True, eq=False)
class Block:
    """A box of voxels on a grid of a scene.

    Attributes:
        array: (k, j, i).
        start: index (i, j, k) of its first voxel on the grid.
        matrix: 4 x 4, indices on the grid -> RAS mm in the node's frame, without its parent transform.
    """

    array: np.ndarray
    start: tuple[int, int, int]
    matrix: np.ndarray

    @property
    def extent(self) -> tuple[int, ...]:
        """First and last index along i, j and k, as VTK has it."""
        return tuple(n for a, size in zip(self.start, self.array.shape[::-1], strict=True) for n in (a, a + size - 1))

    def image(self, node: Any) -> sitk.Image:
        """The block in LPS, under the parent transform of a node."""
        shift = np.eye(4)
        shift[:3, 3] = self.start
        return placed(self.array, parent_matrix(node) @ self.matrix @ shift, node)

    def cut(self, box: tuple[slice, ...]) -> Block:
        """A part of it; `box` are slices along k, j, i."""
        i, j, k = (a + (part.start or 0) for a, part in zip(self.start, box[::-1], strict=True))
        return Block(self.array[box], (i, j, k), self.matrix)

    def same_grid(self, other: Block) -> bool:
        """Whether the indices of two blocks mean the same places, as far as a file keeps the digits."""
        if np.array_equal(self.matrix, other.matrix):  # nearly always, and told in a tenth of the time
            return True
        return bool(np.allclose(self.matrix, other.matrix, rtol=1e-5, atol=1e-3))

    def equals(self, other: Block) -> bool:
        """Whether it has the same voxels as another block, and the same values there."""
        return self.same_grid(other) and self.start == other.start and np.array_equal(self.array, other.array)

    def under(self, other: Block) -> np.ndarray:
        """Its values on the voxels of another block, 0 beyond its own; on another grid those that are nearest."""
        if not self.same_grid(other):
            return self._nearest_under(other)
        values = np.zeros(other.array.shape, self.array.dtype)
        shift = np.subtract(other.start, self.start)[::-1]
        ends = zip(shift, other.array.shape, self.array.shape, strict=True)
        here = [slice(min(max(a, 0), n), max(0, min(a + size, n))) for a, size, n in ends]
        there = tuple(slice(part.start - a, part.stop - a) for part, a in zip(here, shift, strict=True))
        if all(part.start < part.stop for part in here):
            values[there] = self.array[tuple(here)]
        return values

    def on(self, other: Block) -> Block:
        """What it holds on the grid of another block."""
        if self.same_grid(other):
            return self
        frame = _empty(*self._ends_on(other), other.matrix)
        return Block(self.under(frame), frame.start, frame.matrix)

    def joined(self, other: Block) -> Block:
        """An empty block over its voxels and another's, on its own grid."""
        (low, high), (other_low, other_high) = self._ends_on(self), other._ends_on(self)
        return _empty(np.minimum(low, other_low), np.maximum(high, other_high), self.matrix)

    def holds(self, other: Block) -> bool:
        """Whether another block is of the same grid and lies within it."""
        (low, high), (other_low, other_high) = self._ends_on(self), other._ends_on(self)
        return self.same_grid(other) and bool((low <= other_low).all() and (other_high <= high).all())

    def window(self, other: Block) -> np.ndarray:
        """Its values on the voxels of a block that it holds, sharing memory."""
        shift = np.subtract(other.start, self.start)[::-1]
        return self.array[tuple(slice(a, a + size) for a, size in zip(shift, other.array.shape, strict=True))]

    def oriented(self) -> Any:
        """The block as Slicer keeps labels: a vtkOrientedImageData of bytes or 16-bit integers."""
        layer = slicer.vtkOrientedImageData()
        layer.SetImageToWorldMatrix(slicer.util.vtkMatrixFromArray(self.matrix))
        kind = vtk.VTK_UNSIGNED_CHAR if self.array.dtype.itemsize == 1 else vtk.VTK_UNSIGNED_SHORT
        if self.array.size == 0:
            layer.AllocateScalars(kind, 1)  # of no voxel: a segment without it cannot be saved
            return layer
        layer.SetExtent(self.extent)
        layer.GetPointData().SetScalars(numpy_to_vtk(self.array.ravel(), deep=True, array_type=kind))
        return layer

    def _ends_on(self, other: Block) -> tuple[np.ndarray, np.ndarray]:
        """First index (i, j, k) and the one after the last of the box on another block's grid that holds its voxels."""
        low, high = np.array(self.start), np.add(self.start, self.array.shape[::-1])
        if self.same_grid(other):
            return low, high
        corners = np.array([[*corner, 1.0] for corner in product(*zip(low - 0.5, high - 0.5, strict=True))])
        places = (corners @ np.linalg.solve(other.matrix, self.matrix).T)[:, :3].round(6) + 0.5
        return np.floor(places.min(0)).astype(int), np.ceil(places.max(0)).astype(int)

    def _nearest_under(self, other: Block) -> np.ndarray:
        """`under`, on another grid; a voxel gets the same value in whichever box it is asked for."""
        values, to_own = np.zeros(other.array.shape, self.array.dtype), np.linalg.solve(self.matrix, other.matrix)
        low, high = (np.clip(ends, *other._ends_on(other)) for ends in self._ends_on(other))
        box = tuple(slice(a, b) for a, b in zip(low - other.start, high - other.start, strict=True))[::-1]
        i, j = np.arange(low[0], high[0])[None, :], np.arange(low[1], high[1])[:, None]
        for k, part in enumerate(values[box], low[2]):
            inside: np.ndarray = np.array(True)
            places = []
            for row, first, size in zip(to_own[:3], self.start, self.array.shape[::-1], strict=True):
                # Along parallel axes a place depends on one index only; tiny shares of the others come from rounding.
                shares = (share * n for share, n in zip(row[:3], (i, j, k), strict=True) if abs(share) > 1e-9)
                place = np.floor((sum(shares) + row[3]).round(6) + 0.5).astype(int) - first
                inside = inside & (place >= 0) & (place < size)
                places.append(place.clip(0, size - 1))
            np.copyto(part, self.array[tuple(places[::-1])], where=inside)
        return values


def _empty(low: np.ndarray, high: np.ndarray, matrix: np.ndarray) -> Block:
    i, j, k = (int(n) for n in low)
    return Block(np.zeros((high - low)[::-1], bool), (i, j, k), matrix)


def block_of(layer: Any) -> Block | None:
    """A labelmap of a segment as a block that shares its memory; None for one of no voxel."""
    scalars = layer.GetPointData().GetScalars() if layer is not None else None
    if scalars is None or layer.GetNumberOfPoints() == 0:
        return None
    matrix = vtk.vtkMatrix4x4()
    layer.GetImageToWorldMatrix(matrix)
    i, _, j, _, k, _ = layer.GetExtent()
    array = vtk_to_numpy(scalars).reshape(layer.GetDimensions()[::-1])
    return Block(array, (i, j, k), np.asarray(slicer.util.arrayFromVTKMatrix(matrix)))


def layers_of(segmentation_node: Any, ids: Sequence[str]) -> dict[Any, dict[str, int]]:
    """The labelmaps of some segments, each with the segments in it and their label values there."""
    layers: dict[Any, dict[str, int]] = {}
    for each in ids:
        segment = segmentation_node.GetSegmentation().GetSegment(each)
        layer = segment.GetRepresentation(LABELMAP)
        if layer is not None:
            layers.setdefault(layer, {})[each] = segment.GetLabelValue()
    return layers


def labels_of_segments(segmentation_node: Any) -> Block | None:
    """Liver and tumours, as they are now, cut to where there is something.

    They are on the grid of the first of their labelmaps that has voxels; what lies on another one, as a segment copied
    from elsewhere may, is brought there by its nearest voxels.

    Returns:
        uint8: 0 background, 1 liver, 2 tumour (which wins where a person made them overlap); None for nothing.
    """
    kinds = kinds_of(segmentation_node)
    parts: list[Block] = []
    for layer, values in layers_of(segmentation_node, [*kinds]).items():
        block = block_of(layer)
        if block is not None:
            lookup = np.zeros(max(int(block.array.max()), *values.values()) + 1, np.uint8)
            for each, value in values.items():
                lookup[value] = kinds[each]
            parts.append(Block(lookup[block.array], block.start, block.matrix))
    return _merged(parts)


def labels_from_segmentation(
    segmentation_node: slicer.vtkMRMLSegmentationNode, volume_node: slicer.vtkMRMLScalarVolumeNode
) -> sitk.Image:
    """Liver and tumour segments, as they are now, as a label map on the volume's voxels.

    All tumours become one label, whether they are one segment, one each, or added by a person; see `segments`
    for what counts as liver and as tumour.

    Returns:
        uint8 image on the grid of `image_from_volume`: 0 background, 1 liver, 2 tumour (which wins
        where a person made them overlap).

    Raises:
        OutputError: there is no liver segment, or the two nodes lie under different transforms.
    """
    block = checked_labels(segmentation_node, volume_node)
    labels = np.zeros(voxels_of_volume(volume_node).shape, np.uint8)
    matrix = world_matrix(volume_node)
    if block is None:
        return placed(labels, matrix, volume_node)
    view = _view_like(labels, block, matrix, parent_matrix(volume_node))
    if view is not None:
        inside, part = view
        part[...] = block.array[inside]
        return placed(labels, matrix, volume_node)
    grid, nearest = placed(labels, matrix, volume_node), sitk.sitkNearestNeighbor
    return sitk.Resample(block.image(segmentation_node), grid, sitk.Transform(), nearest, 0, sitk.sitkUInt8)


def checked_labels(segmentation_node: Any, volume_node: Any) -> Block | None:
    """`labels_of_segments` of a node that belongs to a volume.

    Raises:
        OutputError: there is no liver segment, or the two nodes lie under different transforms.
    """
    name = segmentation_node.GetName()
    if not segment_ids(segmentation_node, LIVER):
        raise OutputError(f"{name}: wanted a segment {LIVER_STYLE.name}, got none")
    if segmentation_node.GetTransformNodeID() != volume_node.GetTransformNodeID():
        raise OutputError(f"{name}: wanted {volume_node.GetName()}'s transform, got another")
    return labels_of_segments(segmentation_node)


def scan_under(block: Block, volume_node: Any) -> tuple[Block, sitk.Image]:
    """The part of a block that lies in the volume, and the scan on the same voxels.

    On another grid than the volume's, the scan is interpolated linearly, and NaN beyond the volume.
    """
    voxels, matrix = voxels_of_volume(volume_node), world_matrix(volume_node)
    view = _view_like(voxels, block, matrix, parent_matrix(volume_node))
    if view is not None:
        inside, part = view
        block = block.cut(inside)
        scan = Block(part, block.start, block.matrix)
        return block, scan.image(volume_node)
    grid = block.image(volume_node)
    image, linear = image_from_volume(volume_node), sitk.sitkLinear
    return block, sitk.Resample(image, grid, sitk.Transform(), linear, float("nan"), sitk.sitkFloat32)


def give(segmentation_node: Any, segment_id: str, block: Block, taken_from: Sequence[str]) -> None:
    """Make the True voxels of a block part of a segment, and of no other in `taken_from`; surfaces follow.

    Args:
        segmentation_node: of the segment.
        segment_id: which is to have them.
        block: bool, on the segments' grid.
        taken_from: other segments, which lose them; any other segment keeps its own.
    """
    own = segmentation_node.GetSegmentation().GetSegment(segment_id).GetRepresentation(LABELMAP)
    elsewhere = [layer for layer in layers_of(segmentation_node, taken_from).items() if layer[0] is not own]
    kept = Block((~block.array).astype(np.uint8), block.start, block.matrix).oriented()
    for _, segments in elsewhere:
        for each in segments:
            _Logic.SetBinaryLabelmapToSegment(
                kept, segmentation_node, each, _Logic.MODE_MERGE_MIN, block.extent, False, [*taken_from, segment_id]
            )
    voxels = Block(block.array.astype(np.uint8), block.start, block.matrix).oriented()
    _Logic.SetBinaryLabelmapToSegment(
        voxels, segmentation_node, segment_id, _Logic.MODE_MERGE_MASK, block.extent, False, list(taken_from)
    )


def _merged(parts: Sequence[Block]) -> Block | None:
    if len(parts) <= 1:
        return parts[0] if parts else None
    frame = reduce(Block.joined, parts)
    values = reduce(np.maximum, (part.under(frame) for part in parts))
    return Block(values, frame.start, frame.matrix)


def _view_like(
    array: np.ndarray, block: Block, matrix: np.ndarray, parent: np.ndarray
) -> tuple[tuple[slice, ...], np.ndarray] | None:
    """The voxels of a volume that a block covers, in the block's order of axes, sharing the volume's memory.

    Args:
        array: (k, j, i) voxels of the volume.
        block: any box.
        matrix: 4 x 4, the volume's indices -> world.
        parent: 4 x 4, the block's frame -> world.

    Returns:
        Slices of the block that lie in the volume, and the view; None where the two grids do not coincide.
    """
    to_volume = np.linalg.solve(matrix, parent @ block.matrix)
    size = np.array(block.array.shape[::-1])
    corners = np.array([[*(block.start + np.array(end) * (size - 1)), 1.0] for end in product((0, 1), repeat=3)])
    places = (corners @ to_volume.T)[:, :3]
    axes = np.abs(to_volume[:3, :3]).argmax(0)  # the volume's axis along each of the block's
    if sorted(axes) != [0, 1, 2] or np.abs(places - places.round()).max() > 0.1:
        return None
    exact = np.zeros((3, 3))
    exact[axes, range(3)] = np.sign(to_volume[axes, range(3)])
    if np.abs(to_volume[:3, :3] - exact).max() > 0.01:
        return None
    first = places[0].round().astype(int)  # of the block's first voxel, along the volume's axes
    inside, where = [slice(0, 0)] * 3, [slice(0, 0)] * 3
    for axis in range(3):
        sign, a, limit = int(exact[axes[axis], axis]), int(first[axes[axis]]), array.shape[2 - axes[axis]]
        indices = a + sign * np.arange(size[axis])
        good = np.flatnonzero((indices >= 0) & (indices < limit))
        if good.size == 0:
            return tuple([slice(0, 0)] * 3), array[:0, :0, :0]
        inside[2 - axis] = slice(int(good[0]), int(good[-1]) + 1)
        ends = indices[good[0]], indices[good[-1]]
        stop = int(ends[1]) + sign
        where[2 - axes[axis]] = slice(int(ends[0]), stop if stop >= 0 else None, sign)
    view = array[tuple(where)].transpose([2 - axes[axis] for axis in (2, 1, 0)])
    return tuple(inside), view
