"""How well bundles segment: synthetic scans that they were not trained on, and real ones that nobody trains on.

    python Testing/Benchmarks/bench_accuracy.py [--bundle default ...] [--bodies RUN_DIR/bodies] [--synthetic 12]
                                                [--first 0] [--tuning] [--froc] [--reliability] [--figures DIR]
                                                [--real]

Every bundle sees the same scans. `--bodies` names the bodies of a training run; their validation side is drawn from,
with the generator's settings shifted: those bodies on which nothing is chosen, or with `--tuning` the others. `--first`
starts at another scan, so that what is tuned on some is reported on others. `--froc` adds the sensitivity factors'
curve, `--reliability` how far probabilities can be believed. `--figures` writes both as pictures for the last bundle's
card, and its worst failures: reliability.png (every bundle, so that `--bundle OLD NEW` shows before and after a
calibration), froc.png and failures.png, each below 150 kB. The real cases are found by LTS_DATA or beside the checkout;
they are for evaluation only: look once per candidate, change nothing for them. A lesion is found when half of its
voxels are (S1, section 3.3.1).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from card_figures import Gallery, draw_failures, draw_froc, draw_reliability
from holdout import Score, held_out

from LiverTumorSegLib import Segmenter, match_lesions, read_image
from LiverTumorSegLib.calibration import Reliability, judged_voxels
from LiverTumorSegLib.evaluation.metrics import dice, precision, sensitivity

FROC_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


@dataclass
class Measured:
    """What one bundle did on the synthetic scans.

    Attributes:
        scores: by sensitivity factor.
        curve: how far its probabilities of tumour can be believed.
        gallery: what it did worst.
    """

    scores: dict[float, Score]
    curve: Reliability = field(default_factory=Reliability)
    gallery: Gallery = field(default_factory=Gallery)


def main() -> None:
    """Print one table for the synthetic scans and one for the real ones, for each bundle."""
    options = _options()
    segmenters = {name: Segmenter(name) for name in options.bundle}
    if options.synthetic:
        numbers = range(options.first, options.first + options.synthetic)
        factors = FROC_FACTORS if options.froc or options.figures else (1.0,)
        measured = measure(segmenters, numbers, options.bodies, factors, deciding=not options.tuning)
        synthetic_tables(measured, numbers, options.froc, options.reliability)
        if options.figures:
            draw_figures(options.figures, measured, numbers)
    folder = Path(os.environ.get("LTS_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
    if options.real and not (folder / "README.md").is_file():
        print(f"no real cases in {folder}: set LTS_DATA")
    elif options.real:
        for name, segmenter in segmenters.items():
            print(f"\n{name}, real cases")
            real_table(segmenter, folder)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bundle", nargs="+", default=["default"], metavar="NAME|DIR")
    parser.add_argument("--bodies", type=Path)
    parser.add_argument("--synthetic", type=int, default=12, metavar="N")
    parser.add_argument("--first", type=int, default=0, metavar="N")
    parser.add_argument("--tuning", action="store_true")
    parser.add_argument("--froc", action="store_true")
    parser.add_argument("--reliability", action="store_true")
    parser.add_argument("--figures", type=Path, metavar="DIR")
    parser.add_argument("--real", action="store_true")
    options = parser.parse_args()
    if options.tuning and options.bodies is None:
        parser.error("--tuning: wanted it with --bodies, got no --bodies")
    return options


def measure(
    segmenters: dict[str, Segmenter], numbers: range, bodies: Path | None, factors: Sequence[float], deciding: bool
) -> dict[str, Measured]:
    """Every bundle on every scan, at each sensitivity factor; 1 is among these."""
    measured = {name: Measured({factor: Score() for factor in factors}) for name in segmenters}
    for number in numbers:
        case = held_out(number, bodies, deciding)
        for name, segmenter in segmenters.items():
            first = segmenter(case.scan, modality=case.modality)
            for factor in factors:
                result = first if factor == 1 else first.with_sensitivity(factor)
                measured[name].scores[factor].add(case, result.labels)
            measured[name].curve.add(judged_voxels(first, case.truth))
            measured[name].gallery.add(number, case, first)
    return measured


def synthetic_tables(measured: dict[str, Measured], numbers: range, froc: bool, reliability: bool) -> None:
    """Dice, recall by diameter and false lesions a scan; then, where asked for, the two curves."""
    for name, each in measured.items():
        print(f"\n{name}, synthetic scans {numbers.start} to {numbers.stop - 1}")
        print("  " + "\n  ".join(each.scores[1.0].lines()))
        if froc:
            print("  sensitivity factor: recall of all lesions, of those from 10 mm; false lesions a scan")
            for factor, score in each.scores.items():
                found = f"{score.recall(0):.2f}  {score.recall(10):.2f}"
                print(f"  {factor:>5g}: {found}  {score.false_per_scan():.2f}")
        if reliability:
            print(f"  reliability of the tumour's probability, expected error {each.curve.expected_error():.3f}")
            print("  " + "\n  ".join(each.curve.lines()))


def draw_figures(folder: Path, measured: dict[str, Measured], numbers: range) -> None:
    """The card's figures for the last bundle; the reliability of all."""
    folder.mkdir(parents=True, exist_ok=True)
    *_, name = measured
    scans = f"{len(numbers)} synthetic scans ({numbers.start} to {numbers.stop - 1})"
    names = [Path(each).name for each in measured]
    # Folders may be called alike, one before and one after.
    shown = names if len(set(names)) == len(names) else list(measured)
    curves = dict(zip(shown, (each.curve for each in measured.values()), strict=True))
    draw_reliability(folder / "reliability.png", curves, scans)
    draw_froc(folder / "froc.png", Path(name).name, measured[name].scores, scans)
    draw_failures(folder / "failures.png", Path(name).name, measured[name].gallery, scans)
    for file in ("reliability.png", "froc.png", "failures.png"):
        print(f"{folder / file}  {(folder / file).stat().st_size / 1000:.0f} kB")


def real_table(segmenter: Segmenter, folder: Path) -> None:
    """Every real case with an expert's labels, one line each."""
    print(f"{'case':<16}{'liver Dice':>11}{'sens.':>7}{'prec.':>7}{'tumour Dice':>13}{'found':>9}{'false':>7}")
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
