"""Slices of a scan as a radiologist reads them: along the patient's axes, cropped to the liver, windowed.

Slices are shown as on a reading screen: the patient's right on the left of axial and coronal slices, the front or head
up. They follow the scan's own axes, so those of an oblique scan are as oblique as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import SimpleITK as sitk

from .geometry import axes_towards_lps
from .lesions import Lesion, bounding_slices
from .segmentation import Segmentation

Plane = Literal["axial", "coronal", "sagittal"]

CT_WINDOW_HU = (-100.0, 200.0)
MR_WINDOW_PERCENTILES = (1.0, 99.5)
KEY_SLICES = 6
MARGIN_MM = 20.0  # of the scan around the liver

# For each plane: the axis across it, those to the right and upwards on the screen, as places in
# (left, back, head), and the letters on the left, right, top and bottom.
_PLANES: dict[Plane, tuple[int, int, int, str]] = {
    "axial": (2, 0, 1, "RLAP"),
    "coronal": (1, 0, 2, "RLSI"),
    "sagittal": (0, 1, 2, "APSI"),
}
_ENDS = ("LR", "PA", "SI")  # letters of positive and negative LPS coordinates


@dataclass(frozen=True)
class PatientAxes:
    """A volume's own axes, reordered and flipped so that they run most to the left, back and head.

    Attributes:
        order: which of the image's axes (0 = i) runs most along x, y, z of LPS.
        signs: 1, or -1 where that axis runs the other way.
        origin: the LPS point of the first voxel after flipping, in mm.
        spacing_mm: along the axes in their new order.
        direction: 3 x 3, columns are the new axes in LPS; always right-handed or as skew as the scan.
        size: voxels in the new order.
    """

    order: tuple[int, int, int]
    signs: tuple[int, int, int]
    origin: np.ndarray
    spacing_mm: np.ndarray
    direction: np.ndarray
    size: tuple[int, int, int]

    @classmethod
    def of(cls, image: sitk.Image) -> PatientAxes:
        """The axes of an image; no voxel is moved."""
        order, signs = axes_towards_lps(image)
        own = np.array(image.GetDirection()).reshape(3, 3)
        first = [0, 0, 0]
        for axis, sign in zip(order, signs, strict=True):
            first[axis] = 0 if sign > 0 else image.GetSize()[axis] - 1
        return cls(
            order,
            signs,
            np.array(image.TransformIndexToPhysicalPoint(first)),
            np.array([image.GetSpacing()[axis] for axis in order]),
            np.stack([own[:, axis] * sign for axis, sign in zip(order, signs, strict=True)], axis=1),
            tuple(image.GetSize()[axis] for axis in order),
        )

    def view(self, array: np.ndarray) -> np.ndarray:
        """A (k, j, i) array of the image with axes towards (head, back, left), as a view."""
        turned = array.transpose([2 - axis for axis in self.order[::-1]])
        return turned[tuple(slice(None, None, sign) for sign in self.signs[::-1])]

    def point(self, index: Sequence[float] | np.ndarray) -> np.ndarray:
        """The LPS point in mm of a continuous (left, back, head) index."""
        return self.origin + self.direction @ (np.asarray(index) * self.spacing_mm)

    def index(self, point_lps_mm: Sequence[float] | np.ndarray) -> np.ndarray:
        """The continuous (left, back, head) index of a point; the way back of `point`."""
        return np.linalg.solve(self.direction, np.asarray(point_lps_mm) - self.origin) / self.spacing_mm


@dataclass(frozen=True)
class KeySlice:
    """One slice as it is shown.

    Attributes:
        plane: which way it lies.
        position: where, as "S 12.5 mm": RAS coordinate of its middle.
        grey: uint8 (rows, columns), windowed, with the letters' directions; pixels may be oblong.
        labels: the label map there, same shape.
        size_mm: width and height.
        letters: patient directions on the left, right, top and bottom.
        numbers: lesion ids with their places, as shares of the width and the height.
    """

    plane: Plane
    position: str
    grey: np.ndarray
    labels: np.ndarray
    size_mm: tuple[float, float]
    letters: str
    numbers: tuple[tuple[int, float, float], ...] = ()


class PatientView:
    """Cuts a scan and its labels along the patient's axes, all with the same crop and window."""

    def __init__(self, segmentation: Segmentation):
        """Find the liver's box and the grey window; no voxel is copied."""
        self.segmentation = segmentation  # keeps alive the images whose memory the arrays look at
        self.axes = PatientAxes.of(segmentation.labels)
        self.image = self.axes.view(sitk.GetArrayViewFromImage(segmentation.image))
        self.labels = self.axes.view(sitk.GetArrayViewFromImage(segmentation.labels))
        self.box = bounding_slices(self.labels)
        self.limits = self._window(segmentation.provenance.modality)

    def _window(self, modality: str) -> tuple[float, float]:
        if modality == "CT":
            return CT_WINDOW_HU
        sample = self.image[self.box or ...][::2, ::4, ::4]
        low, high = np.percentile(sample, MR_WINDOW_PERCENTILES)
        return float(low), float(max(high, low + 1e-6))

    def middle(self) -> tuple[int, int, int]:
        """The (left, back, head) index of the liver's centre of mass, or of the scan's middle."""
        if self.box is None:
            left, back, head = (n // 2 for n in self.axes.size)
            return left, back, head
        # Every fourth voxel tells the centre well enough, where there are many.
        steps = [max(1, (edge.stop - edge.start) // 64) for edge in self.box]
        coarse = self.labels[self.box][tuple(slice(None, None, n) for n in steps)]
        places = zip(np.nonzero(coarse), steps, self.box, strict=True)
        head, back, left = (edge.start + round(float(found.mean()) * n) for found, n, edge in places)
        return left, back, head

    def cut(self, plane: Plane, index: int, lesions: Sequence[Lesion] = ()) -> KeySlice:
        """One slice around the liver, or the whole slice where there is no liver.

        Args:
            plane: which way to cut.
            index: along the axis across the plane, towards the left, back or head.
            lesions: those to be numbered.
        """
        across, right, up, letters = _PLANES[plane]
        crop = self._crop(MARGIN_MM)
        crop[across] = slice(index, index + 1)
        flip = slice(None, None, 1 if plane == "axial" else -1)  # rows run backwards or headwards in the array
        place = tuple(crop[::-1])
        grey, labels = (np.squeeze(a[place], axis=2 - across)[flip] for a in (self.image, self.labels))
        low, high = self.limits
        shown = np.clip((grey.astype(np.float32) - low) * (255.0 / (high - low)), 0, 255).astype(np.uint8)
        width, height = (float(grey.shape[1 - n] * self.axes.spacing_mm[a]) for n, a in ((0, right), (1, up)))
        middle = self.axes.point([(edge.start + edge.stop - 1) / 2 for edge in crop])
        numbers = tuple(self._number(lesion, plane, crop, (width, height)) for lesion in lesions)
        return KeySlice(plane, position(middle, across), shown, labels, (width, height), letters, numbers)

    def _crop(self, margin_mm: float) -> list[slice]:
        """(left, back, head) ranges: the liver and a margin around it."""
        if self.box is None:
            return [slice(0, n) for n in self.axes.size]
        margins = np.round(margin_mm / self.axes.spacing_mm).astype(int)
        edges = zip(self.box[::-1], margins, self.axes.size, strict=True)
        return [slice(max(0, e.start - int(m)), min(n, e.stop + int(m))) for e, m, n in edges]

    def _number(
        self, lesion: Lesion, plane: Plane, crop: list[slice], size_mm: tuple[float, float]
    ) -> tuple[int, float, float]:
        """A lesion's id and where to write it: beside the lesion, not on it."""
        _, right, up, _ = _PLANES[plane]
        x, y, z = lesion.centroid_ras_mm
        index = self.axes.index((-x, -y, z))
        across, down = (
            float((index[axis] - crop[axis].start + 0.5) * self.axes.spacing_mm[axis] / extent)
            for axis, extent in ((right, size_mm[0]), (up, size_mm[1]))
        )
        reach = (lesion.axial_long_axis_mm / 2 + 3.0) / size_mm[0]
        beside = across + reach if across + reach < 0.94 else across - reach
        return lesion.id, beside, down if plane == "axial" else 1 - down

    def lesion_slices(self, lesions: Sequence[Lesion]) -> list[tuple[KeySlice, list[Lesion]]]:
        """Axial slices through the largest lesions, from the head down, with the lesions measured there."""
        shown: dict[int, list[Lesion]] = {}
        for lesion in lesions:
            index = lesion.axial_slice
            if self.axes.signs[2] < 0:
                index = self.axes.size[2] - 1 - index
            if index in shown or len(shown) < KEY_SLICES:
                shown.setdefault(index, []).append(lesion)
        return [(self.cut("axial", index, shown[index]), shown[index]) for index in sorted(shown, reverse=True)]


def position(point_lps_mm: np.ndarray, axis: int) -> str:
    """A coordinate as radiologists name it: "S 12.5 mm", "R 40.0 mm"."""
    value = float(point_lps_mm[axis])
    return f"{_ENDS[axis][value < 0]} {abs(value):.1f} mm"
