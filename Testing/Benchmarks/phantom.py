"""The scan that times are measured on: a trunk of ellipsoids, which stays what it is when the generator changes.

512 x 512 x 200 voxels of 0.78 x 0.78 x 1.5 mm, int16, gzipped NIfTI: a portal venous CT from the chest to the pelvis
with a liver of 1.7 l and lesions of 12 to 50 mm in it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

SPACING_MM = (0.78, 0.78, 1.5)
SLICES = 200
_DRAWN_MM = 3.0
_SIZE_MM = (400.0, 400.0, 300.0)

# In the order of drawing, later ones over earlier ones: HU, middle and half axes in mm, x to the patient's left,
# y to the back, z to the head, from the middle of the scan.
_PARTS = (
    (-100, (0, 0, 0), (172, 122, 900)),  # fat under the skin
    (55, (0, 0, 0), (158, 108, 900)),  # muscle
    (-60, (0, -14, -40), (138, 78, 130)),  # fat between the organs
    (-850, (-72, 0, 130), (62, 82, 92)),  # lungs
    (-850, (72, 0, 130), (62, 82, 92)),
    (140, (22, -30, 118), (52, 42, 42)),  # heart
    (35, (20, -20, -90), (105, 52, 60)),  # bowel
    (40, (62, -30, 8), (44, 44, 36)),  # stomach
    (-900, (62, -58, 8), (30, 14, 22)),  # its gas
    (110, (-74, -6, 20), (66, 76, 72)),  # right lobe of the liver
    (110, (-4, -52, 36), (64, 34, 36)),  # left lobe
    (12, (-48, -62, -32), (15, 20, 24)),  # gallbladder
    (120, (112, 34, 30), (26, 40, 46)),  # spleen
    (180, (-62, 58, -62), (26, 28, 52)),  # kidneys
    (180, (66, 58, -52), (26, 28, 52)),
    (160, (14, 42, 0), (11, 11, 900)),  # aorta
    (130, (-22, 38, 0), (13, 11, 900)),  # vena cava
    (260, (0, 76, 0), (24, 20, 900)),  # spine
    (60, (-100, -10, 30), (25, 25, 25)),  # lesions
    (60, (-60, 20, 50), (15, 15, 15)),
    (60, (-70, -45, 0), (10, 10, 10)),
    (60, (-95, 25, -5), (18, 14, 16)),
    (60, (0, -52, 36), (12, 12, 12)),
    (60, (-50, -10, 10), (6, 6, 6)),
)


def write_scan(path: Path, slices: int = SLICES) -> Path:
    """Write the scan; more slices, a multiple of 200, repeat the trunk."""
    x, y, z = (np.arange(-half + _DRAWN_MM / 2, half, _DRAWN_MM, np.float32) for half in (n / 2 for n in _SIZE_MM))
    drawn = np.full((len(z), len(y), len(x)), -1000, np.float32)
    for hu, middle, axes in _PARTS:
        along_x, along_y, along_z = (((each - m) / a) ** 2 for each, m, a in zip((x, y, z), middle, axes, strict=True))
        drawn[along_z[:, None, None] + along_y[:, None] + along_x <= 1] = hu
    coarse = sitk.GetImageFromArray(drawn)
    coarse.SetSpacing([_DRAWN_MM] * 3)
    fine = sitk.Image(512, 512, SLICES, sitk.sitkFloat32)
    fine.SetSpacing(SPACING_MM)
    array = sitk.GetArrayFromImage(sitk.Resample(coarse, fine, sitk.Transform(), sitk.sitkLinear, -1000.0))
    array = np.concatenate([array.astype(np.int16)] * (slices // SLICES))
    array += np.random.default_rng(0).integers(-20, 21, array.shape, dtype=np.int16)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(SPACING_MM)
    sitk.WriteImage(image, str(path), True, 1)
    return path
