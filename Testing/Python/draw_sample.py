"""Draws the picture that Sample Data shows of the sample scan: `python Testing/Python/draw_sample.py FILE`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from PIL import Image

from LiverTumorSegLib.panel import sample

LOW_HU, HIGH_HU = -135.0, 215.0
SIZE = (260, 280)  # (i, j) pixels, as the other pictures in Sample Data


def picture() -> Image.Image:
    """The axial slice with most tumour, the patient's right on the left, as large as fits."""
    with tempfile.TemporaryDirectory() as folder:
        scan, labels = (sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS") for path in sample.draw(Path(folder)))
    most = int((sitk.GetArrayViewFromImage(labels) == 2).sum((1, 2)).argmax())
    hu = sitk.GetArrayFromImage(scan)[most].astype(float)
    grey = Image.fromarray(np.uint8(np.clip((hu - LOW_HU) / (HIGH_HU - LOW_HU), 0, 1) * 255))
    factor = min(wide / has for wide, has in zip(SIZE, grey.size, strict=True))
    grey = grey.resize(tuple(round(has * factor) for has in grey.size), Image.Resampling.BICUBIC)
    whole = Image.new("L", SIZE)
    whole.paste(grey, tuple((wide - has) // 2 for wide, has in zip(SIZE, grey.size, strict=True)))
    return whole


if __name__ == "__main__":
    picture().save(sys.argv[1], optimize=True)
