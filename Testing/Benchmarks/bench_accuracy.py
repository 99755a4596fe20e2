"""How well a bundle segments: synthetic scans that it was not trained on, and real ones that nobody trains on.

    python Testing/Benchmarks/bench_accuracy.py [--bundle default] [--bodies RUN_DIR/bodies] [--synthetic 12] [--real]

`--bodies` names the bodies of a training run; their validation side is drawn from. The real cases are
found by LTS_DATA or beside the checkout; they are for evaluation only: look once per candidate, change
nothing for them. A lesion is found when half of its voxels are (S1, section 3.3.1).
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from LiverTumorSegLib import Segmenter, find_lesions, match_lesions, read_image
from LiverTumorSegLib.evaluation.metrics import dice, precision, sensitivity
from LiverTumorSegLib.segmentation import Segmentation
from LiverTumorSegLib.training.synthesis.body import complete_body
from LiverTumorSegLib.training.synthesis.generator import Field, synthetic_scan
from LiverTumorSegLib.training.synthesis.library import open_library
from LiverTumorSegLib.training.synthesis.procedural import procedural_organs

SIZES_MM = ((0, 10), (10, 20), (20, 30), (30, 1000))


def main() -> None:
    """Print one table for the synthetic scans and one for the real ones."""
    options = _options()
    segmenter = Segmenter(options.bundle)
    if options.synthetic:
        synthetic_table(segmenter, options.synthetic, options.bodies, options.sensitivity)
    folder = Path(os.environ.get("LTS_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
    if options.real and not (folder / "README.md").is_file():
        print(f"no real cases in {folder}: set LTS_DATA")
    elif options.real:
        real_table(segmenter, folder)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--bodies", type=Path)
    parser.add_argument("--synthetic", type=int, default=12, metavar="N")
    parser.add_argument("--sensitivity", type=float, nargs="*", default=[1.0])
    parser.add_argument("--real", action="store_true")
    return parser.parse_args()


def synthetic_table(segmenter: Segmenter, count: int, bodies: Path | None, factors: list[float]) -> None:
    """Dice, recall by diameter and false lesions a scan, for each sensitivity factor."""
    scores: dict[float, list[tuple[str, float, float, int]]] = {factor: [] for factor in factors}
    found = {factor: np.zeros((len(SIZES_MM), 2), int) for factor in factors}
    for number in range(count):
        scan, truth, modality = held_out(number, bodies)
        first = segmenter(scan, modality=modality)
        for factor in factors:
            result = first if factor == 1 else first.with_sensitivity(factor)
            liver, tumour, false = compare(result, truth, found[factor])
            scores[factor].append((modality, liver, tumour, false))
    for factor in factors:
        print(f"\nsynthetic, {count} scans, sensitivity {factor:g}")
        for kind in ("CT", "MR"):
            rows = [row for row in scores[factor] if row[0] == kind]
            if rows:
                liver, tumour, false = (np.array([row[n] for row in rows]) for n in (1, 2, 3))
                print(
                    f"  {kind}: {len(rows)} scans, liver Dice {liver.mean():.3f} (lowest {liver.min():.3f}), "
                    f"tumour Dice {np.nanmean(tumour):.3f}, false lesions a scan {false.mean():.1f}"
                )
        for (low, high), (hits, total) in zip(SIZES_MM, found[factor], strict=True):
            share = f"{hits / total:.2f}" if total else "-"
            print(f"  lesions {low} to {high} mm: {hits} of {total} found ({share})")


def held_out(number: int, bodies: Path | None) -> tuple[sitk.Image, np.ndarray, str]:
    """Synthetic scan number n, from a run's validation bodies or from formulas."""
    rng = np.random.default_rng([771, number])
    if bodies is not None:
        library = open_library(bodies)
        body = library.load(library.validation[number % len(library.validation)])
    else:
        body = complete_body(procedural_organs(rng), rng)
    spacing = 2.0
    field = Field((130, 150, 200), spacing, centre="organ", cut=0.0)
    scan = synthetic_scan(body, field, rng, "CT" if number % 2 == 0 else "MR")
    image = sitk.GetImageFromArray(scan.volume)
    image.SetSpacing([spacing] * 3)
    return image, scan.labels, scan.modality


def compare(result: Segmentation, truth: np.ndarray, found: np.ndarray) -> tuple[float, float, int]:
    """Liver and tumour Dice and false lesions; counts found lesions by diameter into `found`."""
    predicted = sitk.GetArrayFromImage(result.labels)
    matching = match_lesions(truth == 2, predicted == 2, "half")
    reference = sitk.GetImageFromArray(truth)
    reference.CopyInformation(result.labels)
    for lesion in find_lesions(reference):
        for row, (low, high) in enumerate(SIZES_MM):
            if low <= lesion.long_axis_mm < high:
                found[row] += (lesion.id in matching.found, 1)
    tumour = dice(truth == 2, predicted == 2) if (truth == 2).any() else float("nan")
    return dice(truth > 0, predicted > 0), tumour, len(matching.false_positives)


def real_table(segmenter: Segmenter, folder: Path) -> None:
    """Every real case with an expert's labels, one line each."""
    print(f"\n{'case':<16}{'liver Dice':>11}{'sens.':>7}{'prec.':>7}{'tumour Dice':>13}{'found':>9}{'false':>7}")
    for name, scan, labels, values in real_cases(folder):
        image = read_image(scan)
        truth = sitk.GetArrayFromImage(sitk.ReadImage(str(labels)))
        result = segmenter(image, modality="MR" if "mr" in name else "CT")
        predicted = sitk.GetArrayFromImage(result.labels)
        liver, tumour = np.isin(truth, values), (truth == 2) & (2 in values)
        matching = match_lesions(tumour, predicted == 2, "half")
        score = f"{dice(tumour, predicted == 2):13.3f}" if tumour.any() else f"{'none':>13}"
        counts = f"{len(matching.found)}/{len(matching.found) + len(matching.missed)}"
        organ = predicted > 0
        print(
            f"{name:<16}{dice(liver, organ):>11.3f}{sensitivity(liver, organ):>7.3f}{precision(liver, organ):>7.3f}"
            f"{score}{counts:>9}{len(matching.false_positives):>7}",
            flush=True,
        )


def real_cases(folder: Path) -> list[tuple[str, Path, Path, tuple[int, ...]]]:
    """Name, scan, labels, and the values that are liver."""
    cases = [
        ("chaos_ct03", folder / "chaos_ct03" / "ct.nii.gz", folder / "chaos_ct03" / "liver.nii.gz", (1,)),
        *(
            (case, folder / case / "ct.nii.gz", folder / case / "liver_tumour.nii.gz", (1, 2))
            for case in ("ircad07", "ircad17")
        ),
    ]
    for scan in sorted((folder / "chaos_mr_t2spir").glob("mr_??.nii.gz")):
        organs = scan.with_name(scan.name.replace(".nii.gz", "_organs.nii.gz"))
        cases.append((f"chaos_{scan.name[:5]}", scan, organs, (1,)))
    return cases


if __name__ == "__main__":
    main()
