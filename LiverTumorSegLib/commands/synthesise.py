"""Synthetic scans with lesions."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..console import Console
from .options import at_least_1, whole_number


def add_synthesise(parser: argparse.ArgumentParser) -> None:
    """What `livertumorseg synthesise` is told."""
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT_DIR")
    parser.add_argument("--count", type=at_least_1, default=1, metavar="N")
    parser.add_argument("--seed", type=whole_number, default=0)
    parser.add_argument("--spacing", type=float, default=2.0, metavar="MM")
    parser.add_argument("--modality", choices=("CT", "MR"), help="default: drawn for every scan")
    parser.add_argument("--labelmaps", type=Path, metavar="DIR", help="anatomy from label maps instead of formulas")
    parser.add_argument("--preview", action="store_true", help="write a contact sheet, preview.png, instead of scans")
    parser.set_defaults(run=synthesise)


def synthesise(options: argparse.Namespace, console: Console) -> int:
    """`livertumorseg synthesise`: scans and their label maps as NIfTI files, or a picture of them all."""
    from ..output import check_writable
    from ..training.synthesis.cases import write_case, write_preview

    check_writable(options.output)
    options.output.mkdir(parents=True, exist_ok=True)
    if options.preview:
        seeds = range(options.seed, options.seed + options.count)
        sheet = write_preview(options.output, seeds, options.modality, options.spacing, options.labelmaps)
        console.result("preview", {"picture": str(sheet)}, str(sheet))
        return 0
    try:
        for number in range(options.count):
            seed, given = options.seed + number, {"spacing_mm": options.spacing, "labelmaps": options.labelmaps}
            scan, truth = write_case(options.output, f"case_{seed:04d}", seed, options.modality, **given)
            console.progress("synthesise", (number + 1) / options.count)
            console.result("case", {"scan": str(scan), "labels": str(truth)}, f"{scan}  {truth}")
    except KeyboardInterrupt:
        console.note("interrupted; the scans that are finished stay")
        return 130
    return 0
