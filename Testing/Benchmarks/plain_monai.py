"""The pipeline that one would write first with MONAI, with a bundle's networks: what bench_segment compares with.

python plain_monai.py SCAN BUNDLE [OVERLAP]

Windows overlap by a quarter, as MONAI has it, or by OVERLAP.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from monai.data import DataLoader, Dataset, decollate_batch
from monai.inferers import SlidingWindowInferer
from monai.transforms import (
    AsDiscreted,
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
    scan, bundle, overlap = sys.argv[1], Bundle.load(sys.argv[2]), float((*sys.argv, 0.25)[3])
    labels = None
    for stage in bundle.recipe.stages:
        spacing = stage.grid.spacing_mm or 3.0
        prepare = Compose(
            [
                LoadImaged("image", image_only=True),
                EnsureChannelFirstd("image"),
                Orientationd("image", axcodes="LPS", labels=None),
                Spacingd("image", pixdim=(spacing,) * 3, mode="bilinear"),
                ScaleIntensityRanged("image", *(stage.intensity.ct_clip_hu or (-100.0, 250.0)), 0.0, 1.0, clip=True),
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
        (batch,) = DataLoader(Dataset([{"image": scan}], prepare), batch_size=1)
        volume = batch["image"].as_tensor()
        margin = round((bundle.recipe.crop.margin_mm or 0.0) / spacing)
        box = (slice(None),) * 3 if labels is None else where(volume[0], labels, margin)
        inferer = SlidingWindowInferer(stage.window or (96, 96, 64), overlap=overlap, mode="gaussian")
        with torch.inference_mode():
            found = inferer(volume[(..., *box)], network)
        logits = torch.zeros(1, found.shape[1], *volume.shape[2:])
        logits[:, 0] = 20.0
        logits[(..., *box)] = found
        batch["pred"] = logits
        labels = finish(decollate_batch(batch)[0])
    with tempfile.TemporaryDirectory() as folder:
        SaveImaged("pred", output_dir=Path(folder), print_log=False)(labels)


def where(volume: torch.Tensor, labels: dict[str, torch.Tensor], margin: int) -> tuple[slice, ...]:
    """The box of stage 1's liver with so many voxels around it, on the resampled volume's grid."""
    small = torch.nn.functional.interpolate(labels["pred"].as_tensor()[None].float(), size=volume.shape[1:])[0, 0] > 0
    if not small.any():
        return (slice(None),) * 3
    # The labels lie in the file's orientation; along flipped axes both ends are taken to be safe.
    slices = []
    for axis, size in enumerate(small.shape):
        places = small.any(dim=[other for other in range(3) if other != axis]).nonzero()
        low = max(0, int(min(places.min(), size - 1 - places.max())) - margin)
        high = min(size, int(max(places.max(), size - 1 - places.min())) + 1 + margin)
        slices.append(slice(low, high))
    return tuple(slices)


if __name__ == "__main__":
    main()
