"""One slice of a validation patch beside its reference and the network's answer, for TensorBoard."""

from __future__ import annotations

import numpy as np

_COLOURS = np.array([[0, 0, 0], [221, 130, 101], [144, 238, 144], [110, 184, 209], [216, 101, 221], [255, 214, 64]])


def side_by_side(volume: np.ndarray, reference: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The volume, the volume with the reference and with the prediction on it.

    Args:
        volume: (k, j, i), any scale.
        reference, predicted: numbers of structures, 0 for none, of the same shape. The slice with most voxels of
            the highest number in the reference is shown, that is of lesions where there are any.

    Returns:
        (j, 3 * i, 3) uint8, the patient's front at the top.
    """
    k = int((reference == reference.max()).sum((1, 2)).argmax())
    low, high = float(volume[k].min()), float(volume[k].max())
    grey = ((volume[k] - low) / max(high - low, 1e-6) * 255).astype(np.uint8)
    plain = np.repeat(grey[..., None], 3, axis=2)
    return np.concatenate([plain, _painted(plain, reference[k]), _painted(plain, predicted[k])], axis=1)


def _painted(plain: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    colours = _COLOURS[np.where(numbers > 0, (numbers - 1) % (len(_COLOURS) - 1) + 1, 0)]
    mixed = np.where(numbers[..., None] > 0, 0.6 * plain + 0.4 * colours, plain)
    return np.asarray(mixed.round().astype(np.uint8))
