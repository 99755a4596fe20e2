"""Scan -> labels: a file, a synthetic abdomen, or request after request."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..console import Console, interrupts_held, lesion_table
from ..errors import LiverTumorSegError, recorded_warnings
from .cohort import add_cohort, segment_cohort
from .options import add_device, check_used, whole_number

if TYPE_CHECKING:
    import SimpleITK as sitk

    from ..segmentation import Segmentation

SEGMENT = (
    "Writes segmentation.seg.nrrd, segmentation.nii.gz, lesions.csv, report.json and report.html into the "
    "output folder: all of them or none."
)


def add_segment(parser: argparse.ArgumentParser) -> None:
    """What `livertumorseg segment` is told."""
    parser.add_argument("scan", type=Path, nargs="?", help="NIfTI, NRRD or MetaImage file, DICOM file or DICOM folder")
    add_cohort(parser)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT_DIR")
    parser.add_argument("--series", metavar="UID", help="which series of a DICOM folder")
    parser.add_argument("--modality", choices=("CT", "MR"), help="instead of what the file or its intensities say")
    parser.add_argument(
        "--phase",
        action="append",
        metavar="NAME=FILE",
        help="a further phase of the study, if the bundle has any; "
        "in one frame of reference with the scan (repeatable)",
    )
    parser.add_argument(
        "--no-registration",
        dest="registration",
        action="store_false",
        help="take the phases as they lie, where the bundle would register them",
    )
    _add_compute(parser)
    parser.set_defaults(run=segment)


def add_demo(parser: argparse.ArgumentParser) -> None:
    """What `livertumorseg demo` is told."""
    parser.add_argument("-o", "--output", type=Path, default=Path("demo"), metavar="OUT_DIR")
    parser.add_argument("--seed", type=whole_number, default=17)  # one whose lesion table is not empty
    _add_compute(parser)
    parser.set_defaults(run=demonstrate, registration=True)


def add_worker(parser: argparse.ArgumentParser) -> None:
    """`livertumorseg worker` is told by its requests."""
    parser.description = "Reads requests and writes answers, one JSON object a line; see LiverTumorSegLib/worker.py."
    parser.set_defaults(run=work, json=False, quiet=True)


def _add_compute(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundle", default="default", metavar="NAME|DIR", help="weights and recipe (default: default)")
    add_device(parser)
    parser.add_argument(
        "--sensitivity", type=float, default=1.0, metavar="F", help="above 1 calls lesions more readily"
    )
    parser.add_argument("--no-html", dest="html", action="store_false", help="leave out report.html")


def segment(options: argparse.Namespace, console: Console) -> int:
    """`livertumorseg segment`."""
    if options.cohort is not None:
        return segment_cohort(options, console)
    if options.scan is None:
        raise LiverTumorSegError("segment: wanted a scan, or --cohort DIR, got none")
    check_used(options, ("ray", "threads"), "--cohort")
    phases = _named_files(options.phase or ())
    segmentation, files = _segment_to_files(options, console, options.scan, options.series, options.modality, phases)
    console.result("result", _summary(segmentation, files), _text(segmentation, files))
    return 0


def demonstrate(options: argparse.Namespace, console: Console) -> None:
    """`livertumorseg demo`: a synthetic abdomen with known lesions, segmented and scored."""
    import SimpleITK as sitk

    from ..bundle import Bundle
    from ..evaluation.metrics import dice
    from ..matching import match_lesions
    from ..output import check_writable
    from ..training.synthesis.cases import write_case

    Bundle.load(options.bundle)  # a wrong one is refused before anything is written
    check_writable(options.output)
    options.output.mkdir(parents=True, exist_ok=True)
    console.progress("drawing a synthetic abdomen", 0.0)
    scan, truth = write_case(options.output, "synthetic", options.seed, modality="CT")
    segmentation, files = _segment_to_files(options, console, scan, None, None, {})
    reference, found = (sitk.GetArrayFromImage(i) for i in (sitk.ReadImage(str(truth)), segmentation.labels))
    scores = {"liver_dice": dice(reference > 0, found > 0), "tumour_dice": dice(reference == 2, found == 2)}
    matching = match_lesions(reference == 2, found == 2, "half")
    counts = f"{len(matching.found)} of {len(matching.found) + len(matching.missed)} lesions found"
    text = (
        f"synthetic abdomen (seed {options.seed}): {scan}\n"
        f"liver Dice {scores['liver_dice']:.3f}, tumour Dice {scores['tumour_dice']:.3f}, {counts}, "
        f"{len(matching.false_positives)} false\n{_text(segmentation, files)}"
    )
    console.result("result", {**_summary(segmentation, files), **scores}, text)


def work(options: argparse.Namespace, console: Console) -> None:
    """`livertumorseg worker`: answers requests until standard input ends."""
    from ..worker import serve

    serve()


def _segment_to_files(
    options: argparse.Namespace,
    console: Console,
    scan: Path,
    series: str | None,
    modality: str | None,
    phases: Mapping[str, Path],
) -> tuple[Segmentation, list[Path]]:
    """Read, segment, write; reading and loading the networks go on side by side."""
    with interrupts_held():
        from ..output import check_writable, write_results
        from ..rendering import get_ready

    check_writable(options.output)
    if options.html:
        get_ready()
    with recorded_warnings() as texts, ThreadPoolExecutor(1) as pool:
        console.progress("reading the scan", 0.0)
        reading = pool.submit(_read, scan, series, phases, modality)
        with interrupts_held():
            from ..segmenter import Segmenter  # takes a tenth of a second

            segmenter = Segmenter(
                options.bundle, device=options.device, precision=options.precision, registration=options.registration
            )
            segmenter.get_ready()
        image, others, read = reading.result()
        segmentation = segmenter(
            image, phases=others, modality=modality, sensitivity=options.sensitivity, progress=console.progress
        )
        seconds = {"read": round(read, 3), **segmentation.provenance.seconds}
        provenance = dataclasses.replace(segmentation.provenance, seconds=seconds, warnings=tuple(texts))
        segmentation = dataclasses.replace(segmentation, provenance=provenance)
        console.progress("writing", 0.0)
        files = write_results(segmentation, options.output, html=options.html)
    for text in texts:
        console.note(f"warning: {text}")
    return segmentation, files


def _read(
    scan: Path, series: str | None, phases: Mapping[str, Path], modality: str | None
) -> tuple[sitk.Image, dict[str, sitk.Image], float]:
    """The scan, the other phases, and how many seconds it took to read them."""
    from ..images import read_image

    began = time.perf_counter()
    image = read_image(scan, series, modality=modality)
    others = {name: read_image(file, modality=modality) for name, file in phases.items()}
    return image, others, time.perf_counter() - began


def _named_files(texts: Sequence[str]) -> dict[str, Path]:
    """NAME=FILE, each name once."""
    files: dict[str, Path] = {}
    for text in texts:
        name, _, file = text.partition("=")
        if not (name and file) or name in files:
            raise LiverTumorSegError(f"--phase: wanted NAME=FILE, each name once, got {text!r}")
        files[name] = Path(file)
    return files


def _summary(segmentation: Segmentation, files: list[Path]) -> dict[str, Any]:
    return {
        "liver_ml": round(segmentation.liver_ml, 1),
        "tumour_ml": round(segmentation.tumour_ml, 2),
        "burden_percent": round(segmentation.burden_percent, 2),
        "lesions": [dataclasses.asdict(lesion) for lesion in segmentation.lesions],
        "files": [str(file) for file in files],
    }


def _text(segmentation: Segmentation, files: list[Path]) -> str:
    lines = [
        f"liver {segmentation.liver_ml:.0f} ml, tumour {segmentation.tumour_ml:.1f} ml "
        f"({segmentation.burden_percent:.1f} %), {len(segmentation.lesions)} lesions",
        lesion_table(segmentation.lesions),
        "",
        *(str(file) for file in files),
    ]
    return "\n".join(lines)
