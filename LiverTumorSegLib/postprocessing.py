"""The networks' last word -> labels: components, holes, sizes, what lies in or at the liver.

All of it happens on the network's grid, where it is cheap; the scan's grid is touched once, at the
end. That makes the sensitivity factor re-applicable in a fraction of a second.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from .geometry import Box, GridGeometry, box_of_mask, clipped_box
from .lesions import bounding_slices, iterate_components, label_components
from .recipe import Postprocessing
from .restoring import THREADS, restore_labels

# Logit difference that decides a voxel against (or for) a class for good.
_NEVER, _SURELY = -20.0, 2.0


@dataclass(frozen=True)
class Evidence:
    """What the networks said of a region, before any vote.

    Attributes:
        liver, tumour: float16 (k, j, i) logit differences to the background on the last stage's grid.
        geometry: that grid.
        rules: what is made of them.
        base_factor: what the tumour's probability counts in the system's own vote, before any factor of the user's.
    """

    liver: np.ndarray
    tumour: np.ndarray
    geometry: GridGeometry
    rules: Postprocessing
    base_factor: float = 1.0

    def labels_like(self, image: sitk.Image, factor: float = 1.0) -> sitk.Image:
        """uint8 labels 0/1/2 on the scan's grid, the tumour's probability scaled by `base_factor` and `factor`."""
        labels = np.zeros(image.GetSize()[::-1], np.uint8)
        liver, tumour, found = gated(self, factor)
        if found is not None:
            box = _one_voxel_wider(box_of_mask(found, self.geometry, image), image)
            labels[box.slices] = restore_labels(liver, tumour, self.geometry, image, box)
            if self.rules.opening_radius_voxels:
                _open_tumours(labels[box.slices], self.rules.opening_radius_voxels)
        result = sitk.GetImageFromArray(labels)
        result.CopyInformation(image)
        return result

    def tumour_probability(self) -> sitk.Image:
        """The tumour's softmax probability, scaled by no factor, as an image on the network's grid."""
        probability = np.empty(self.liver.shape, np.float32)

        def one_slice(k: int) -> None:
            probability[k] = _tumour_softmax(self.liver[k].astype(np.float32), self.tumour[k].astype(np.float32))

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(one_slice, range(len(probability))))
        return self.geometry.image(probability)


def gated(evidence: Evidence, factor: float) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Both logit differences with everything that postprocessing rejects voted down.

    Args:
        evidence: of a region.
        factor: on the tumour's probability, on top of the evidence's own.

    Returns:
        liver and tumour differences (float32), and the mask of all that was kept, or None for nothing.
    """
    factor *= evidence.base_factor
    liver, tumour = (np.full(evidence.liver.shape, _NEVER, np.float32) for _ in range(2))
    organ = np.zeros(evidence.liver.shape, bool)
    # Nothing can come of voxels beyond those that are voted for, and of one more that the gates stand off.
    box = bounding_slices(_above(evidence.liver, 0.0) | _above(evidence.tumour, float(-np.log(factor))))
    if box is None:
        return liver, tumour, None
    around = tuple(slice(max(0, edge.start - 2), edge.stop + 2) for edge in box)
    liver[around], tumour[around], kept = _gated_box(
        evidence.liver[around].astype(np.float32), evidence.tumour[around].astype(np.float32), evidence, factor
    )
    if kept is None:
        return liver, tumour, None
    organ[around] = kept
    return liver, tumour, organ


def _above(field: np.ndarray, limit: float) -> np.ndarray:
    """Where a float16 field is above a limit, or nearer to it than it can tell.

    Compared as the integers that they are stored as, five times as fast: those of negative numbers are negative, too,
    and grow as the number falls.
    """
    near = np.float16(limit)
    if float(near) > limit:
        near = np.nextafter(near, np.float16(-np.inf))
    bits, stored = near.view(np.int16), field.view(np.int16)
    return np.asarray(stored > bits if bits >= 0 else (stored >= 0) | (stored < bits))


def _gated_box(
    liver: np.ndarray, tumour: np.ndarray, evidence: Evidence, factor: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """`gated` for a part of the grid, which it may change, with background around it."""
    rules, geometry = evidence.rules, evidence.geometry
    plain_tumour = tumour
    tumour = tumour + np.float32(np.log(factor))
    is_tumour = tumour > np.maximum(liver, 0)
    beside = _beside_liver(is_tumour, liver > 0, rules.min_liver_contact)
    is_tumour &= ~beside
    organ = large_components((is_tumour | (liver > 0)) & ~beside, rules.keep_liver_above)
    if not organ.any():
        return liver, tumour, None
    if rules.fill_holes:
        organ = filled(organ)
    probability = _tumour_softmax(liver[is_tumour], plain_tumour[is_tumour])
    lesions = _kept_lesions(is_tumour, probability, organ, rules, geometry, factor)
    organ |= lesions
    rejected = is_tumour & ~lesions
    liver[rejected & organ] = np.maximum(liver[rejected & organ], _SURELY)
    _close_to_background(liver, tumour, organ)
    # Interpolation between a kept voxel and its neighbour must stay as the network meant it, so the
    # gates stand one voxel off.
    liver[~_dilated(organ) | (beside & ~organ)] = _NEVER
    tumour[~_dilated(lesions) | rejected | beside] = _NEVER
    return liver, tumour, organ


def _close_to_background(liver: np.ndarray, tumour: np.ndarray, organ: np.ndarray) -> None:
    """Vote background down inside the organ, in place; what is liver and what is tumour there stays.

    Where the network is sure of a tumour it says that liver is as unlikely as background; without
    this, interpolation from such a tumour to the liver around it could pass through background.
    """
    inner = organ & ~_dilated(~organ) & (liver < _SURELY)
    tumour[inner] += _SURELY - np.maximum(liver[inner], 0)
    liver[inner] = _SURELY
    hollow = organ & (liver <= 0) & (tumour <= 0)
    liver[hollow] = _SURELY


def large_components(mask: np.ndarray, share: float) -> np.ndarray:
    """The 6-connected components with at least `share` of the largest one's voxels."""
    components, count = label_components(mask)
    if count <= 1:
        return mask.copy()
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    return np.asarray((sizes >= share * sizes.max())[components] & mask)


def _tumour_softmax(liver: np.ndarray, tumour: np.ndarray) -> np.ndarray:
    highest = np.maximum(np.maximum(liver, tumour), 0)
    tumour_part = np.exp(tumour - highest)
    return np.asarray(tumour_part / (tumour_part + np.exp(liver - highest) + np.exp(-highest)), np.float32)


def scaled_odds(probability: float, factor: float) -> float:
    """The probability whose odds are so many times as high; 0 and 1 stay."""
    if probability in (0.0, 1.0):
        return probability
    odds = probability / (1 - probability) * factor
    return float(odds / (1 + odds))


def _kept_lesions(
    is_tumour: np.ndarray,
    probability: np.ndarray,
    organ: np.ndarray,
    rules: Postprocessing,
    geometry: GridGeometry,
    factor: float,
) -> np.ndarray:
    """Tumour components at the liver that are large and probable enough; `probability` is that of the True voxels."""
    components, count = label_components(is_tumour)
    if count == 0:
        return is_tumour
    numbers = components[is_tumour]
    sizes = np.bincount(numbers, minlength=count + 1)
    means = np.bincount(numbers, probability, minlength=count + 1) / np.maximum(sizes, 1)
    # The factor divides the odds at which a lesion is called, as in the vote; the probabilities stay.
    threshold = scaled_odds(rules.min_lesion_probability, 1 / factor)
    touching = np.bincount(numbers, organ[is_tumour], minlength=count + 1) > 0
    if not touching[1:].all():
        import edt

        reach = edt.edt(~organ, anisotropy=geometry.spacing_mm[::-1]) <= rules.tumour_reach_mm
        touching = np.bincount(numbers, reach[is_tumour], minlength=count + 1) > 0
    keep = touching & (sizes * geometry.voxel_ml >= rules.min_lesion_ml) & (means >= threshold)
    keep[0] = False
    return np.asarray(keep[components])


def _beside_liver(is_tumour: np.ndarray, is_liver: np.ndarray, contact: float) -> np.ndarray:
    """Tumour components with less than this share of liver among the voxels around them."""
    beside = np.zeros_like(is_tumour)
    if contact <= 0:
        return beside
    for box, component in iterate_components(is_tumour):
        wider = tuple(slice(max(0, s.start - 1), s.stop + 1) for s in box)
        inner = tuple(slice(s.start - w.start, s.stop - w.start) for s, w in zip(box, wider, strict=True))
        mask = np.zeros(is_tumour[wider].shape, bool)
        mask[inner] = component
        around = _dilated(mask) & ~is_tumour[wider]
        if around.any() and is_liver[wider][around].mean() < contact:
            beside[wider] |= mask
    return beside


def filled(mask: np.ndarray) -> np.ndarray:
    """A (k, j, i) mask with its holes."""
    import fill_voids

    return np.asarray(fill_voids.fill(mask)).astype(bool)


def _dilated(mask: np.ndarray) -> np.ndarray:
    """Dilation by one voxel in all 26 directions."""
    for axis in range(3):
        grown = mask.copy()
        forward, backward = [slice(None)] * 3, [slice(None)] * 3
        forward[axis], backward[axis] = slice(1, None), slice(None, -1)
        grown[tuple(forward)] |= mask[tuple(backward)]
        grown[tuple(backward)] |= mask[tuple(forward)]
        mask = grown
    return mask


def _one_voxel_wider(box: Box, image: sitk.Image) -> Box:
    low = np.array(box.start) - 1
    return clipped_box(low, low + np.array(box.size) + 2, image)


def _open_tumours(labels: np.ndarray, radius: int) -> None:
    """Opening of the tumour with a digital ball on the scan's grid (S1); what it removes becomes liver."""
    places = np.argwhere(labels == 2)
    if len(places) == 0:
        return
    low = np.maximum(places.min(0) - radius, 0)
    high = places.max(0) + radius + 1
    region = labels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    tumour = region == 2
    opened = opening(tumour, radius)
    region[tumour & ~opened] = 1


def opening(mask: np.ndarray, radius: int) -> np.ndarray:
    """Morphological opening with the ball of voxels at most `radius` from the centre (33 voxels for 2)."""
    import edt

    padded = np.pad(mask, 1)  # what lies beyond the array is not in the mask
    eroded = edt.edt(padded, parallel=THREADS)[1:-1, 1:-1, 1:-1] > radius
    if not eroded.any():
        return eroded
    return np.asarray(edt.edt(~eroded, parallel=THREADS) <= radius)
