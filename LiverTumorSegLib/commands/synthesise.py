"""Synthetic scans with lesions."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..console import Console
from ..errors import LiverTumorSegError
from .options import at_least_1, check_used, whole_number


def add_synthesise(parser: argparse.ArgumentParser) -> None:
    """What `livertumorseg synthesise` is told."""
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT_DIR")
    parser.add_argument("--count", type=at_least_1, default=1, metavar="N")
    parser.add_argument("--seed", type=whole_number, default=0)
    grid = parser.add_mutually_exclusive_group()
    grid.add_argument("--spacing", type=float, metavar="MM", help="of isotropic voxels (default: 2)")
    grid.add_argument(
        "--acquired",
        action="store_true",
        help="on grids as scanners have: 0.5 to 1.5 mm in plane, slices of up to 8 mm, in any orientation",
    )
    parser.add_argument("--modality", choices=("CT", "MR"), help="default: drawn for every scan")
    parser.add_argument("--labelmaps", type=Path, metavar="DIR", help="anatomy from label maps instead of formulas")
    parser.add_argument("--preview", action="store_true", help="write a contact sheet, preview.png, instead of scans")
    parser.add_argument(
        "--beside", type=Path, action="append", metavar="SCAN", help="with --preview: a real scan to look at, too"
    )
    parser.set_defaults(run=synthesise)


def synthesise(options: argparse.Namespace, console: Console) -> int:
    """`livertumorseg synthesise`: scans and their label maps as NIfTI files, or a picture of them all."""
    from ..output import check_writable
    from ..training.synthesis.anatomy import SPACING_MM
    from ..training.synthesis.cases import write_case, write_preview

    spacing_mm = SPACING_MM if options.spacing is None else options.spacing
    if options.preview and options.acquired:
        raise LiverTumorSegError("--preview: wanted isotropic voxels, got --acquired")
    if not options.preview:
        check_used(options, ("beside",), "--preview")
    check_writable(options.output)
    options.output.mkdir(parents=True, exist_ok=True)
    if options.preview:
        seeds = range(options.seed, options.seed + options.count)
        sheet = write_preview(
            options.output, seeds, options.modality, spacing_mm, options.labelmaps, options.beside or ()
        )
        console.result("preview", {"picture": str(sheet)}, str(sheet))
        return 0
    try:
        for number in range(options.count):
            seed, grid = options.seed + number, None if options.acquired else spacing_mm
            scan, truth = write_case(
                options.output, f"case_{seed:04d}", seed, options.modality, grid, options.labelmaps
            )
            console.progress("synthesise", (number + 1) / options.count)
            console.result("case", {"scan": str(scan), "labels": str(truth)}, f"{scan}  {truth}")
    except KeyboardInterrupt:
        console.note("interrupted; the scans that are finished stay")
        return 130
    return 0
