"""The pipeline that one would write first with MONAI, with a bundle's networks: what bench_segment compares with.

python plain_monai.py SCAN BUNDLE
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from monai.data import Dataset, decollate_batch
from monai.inferers import SlidingWindowInferer
from monai.transforms import (
    AsDiscreted,
    BoundingRect,
    Compose,
    EnsureChannelFirstd,
    Invertd,
    KeepLargestConnectedComponentd,
    LoadImaged,
    Orientationd,
    SaveImaged,
    ScaleIntensityRanged,
    Spacingd,
)

from LiverTumorSegLib.bundle import Bundle
from LiverTumorSegLib.networks import build_network
from LiverTumorSegLib.networks.weights import load_weights


def main() -> None:
    """Segment one scan, both stages, and save the labels."""
    scan, bundle = sys.argv[1], Bundle.load(sys.argv[2])
    labels = None
    for stage in bundle.recipe.stages:
        spacing = stage.grid.spacing_mm or 3.0
        low, high = stage.intensity.ct_clip_hu or (-200.0, 300.0)
        prepare = Compose(
            [
                LoadImaged("image", image_only=True),
                EnsureChannelFirstd("image"),
                Orientationd("image", axcodes="LPS", labels=None),
                Spacingd("image", pixdim=(spacing,) * 3, mode="bilinear"),
                ScaleIntensityRanged("image", low, high, 0.0, 1.0, clip=True),
            ]
        )
        finish = Compose(
            [
                Invertd("pred", prepare, orig_keys="image", nearest_interp=False, to_tensor=True),
                AsDiscreted("pred", argmax=True),
                KeepLargestConnectedComponentd("pred", applied_labels=[1, 2], is_onehot=False, independent=False),
            ]
        )
        network = build_network(stage.network, stage.arguments).eval()
        load_weights(network, bundle.weights_path(stage.name))
        batch = prepare(Dataset([{"image": scan}])[0])
        volume = batch["image"][None]
        if labels is not None:
            volume = cropped(volume, labels, spacing)
        inferer = SlidingWindowInferer((96, 96, 96), overlap=0.25, mode="gaussian")
        with torch.inference_mode():
            # The networks were trained on (k, j, i).
            logits = inferer(volume.permute(0, 1, 4, 3, 2), network).permute(0, 1, 4, 3, 2)
        if labels is None:
            batch["pred"] = logits[0]
            labels = finish(decollate_batch({"image": batch["image"][None], "pred": logits})[0])["pred"]
        else:
            full = torch.zeros(1, 3, *batch["image"].shape[1:])
            full[:, 0] = 20.0
            full[(..., *where(batch["image"], labels, spacing))] = logits
            full = torch.as_tensor(full)
            image = batch["image"]
            final = finish(decollate_batch({"image": image[None], "pred": full})[0])
            with tempfile.TemporaryDirectory() as folder:
                SaveImaged("pred", output_dir=Path(folder), print_log=False)(final)


def where(image: torch.Tensor, labels: torch.Tensor, spacing: float) -> tuple[slice, slice, slice]:
    """The liver's box with 15 mm around it, on the resampled image's grid."""
    small = torch.nn.functional.interpolate(torch.as_tensor(labels)[None].float(), size=image.shape[1:])[0] > 0
    box = BoundingRect()(small.flip(1, 2))[0] if small.any() else [v for n in small.shape[1:] for v in (0, n)]
    margin = round(15 / spacing)
    slices = []
    for axis in range(3):
        low, high, n = int(box[2 * axis]), int(box[2 * axis + 1]), small.shape[axis + 1]
        if axis < 2:
            low, high = n - high, n - low
        low, high = max(0, low - margin), min(n, high + margin)
        high = min(n, low + -(-(high - low) // 16) * 16)
        slices.append(slice(low, high))
    return slices[0], slices[1], slices[2]


def cropped(volume: torch.Tensor, labels: torch.Tensor, spacing: float) -> torch.Tensor:
    """The liver's box of the resampled volume."""
    return volume[(..., *where(volume[0], labels, spacing))]


if __name__ == "__main__":
    main()
