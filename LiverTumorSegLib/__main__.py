"""The command line: livertumorseg segment | demo | synthesise | train | bundle.

Exit codes: 0 done, 2 something the user can mend (one line on standard error, nothing written),
130 interrupted (nothing half-written).
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from . import __version__
from .console import BarConsole, Console, JsonConsole, QuietConsole
from .errors import LiverTumorSegError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    options = _parser().parse_args(arguments)
    console: Console = JsonConsole() if options.json else QuietConsole() if options.quiet else BarConsole()
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        from . import commands

        code = getattr(commands, options.run)(options, console)
        return int(code or 0)
    except LiverTumorSegError as error:
        console.close()
        print(f"livertumorseg: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        console.close()
        print("livertumorseg: interrupted; nothing was written", file=sys.stderr)
        return 130


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="livertumorseg",
        description="Liver and liver tumours in CT and MR. Research use only, not a medical device.",
    )
    parser.add_argument("--version", action="version", version=f"livertumorseg {__version__}")
    talk = argparse.ArgumentParser(add_help=False)
    talk.add_argument("-q", "--quiet", action="store_true", help="print errors and warnings only")
    talk.add_argument("--json", action="store_true", help="print progress and results as JSON lines")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_segment(commands.add_parser("segment", parents=[talk], help="segment one scan", description=_SEGMENT))
    _add_demo(commands.add_parser("demo", parents=[talk], help="segment a synthetic abdomen and score the result"))
    _add_synthesise(commands.add_parser("synthesise", parents=[talk], help="draw synthetic scans with lesions"))
    _add_train(commands.add_parser("train", parents=[talk], help="train a recipe on synthetic scans"))
    _add_bundle(commands.add_parser("bundle", parents=[talk], help="list, show, import or seal bundles"))
    return parser


_SEGMENT = (
    "Writes segmentation.seg.nrrd, segmentation.nii.gz, lesions.csv, report.json and report.html into the "
    "output folder: all of them or none."
)


def _add_compute(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundle", default="default", metavar="NAME|DIR", help="weights and recipe (default: default)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    parser.add_argument("--precision", default="auto", choices=("auto", "f32", "bf16", "f16"))
    parser.add_argument(
        "--sensitivity", type=float, default=1.0, metavar="F", help="above 1 calls lesions more readily"
    )
    parser.add_argument("--no-html", dest="html", action="store_false", help="leave out report.html")


def _add_segment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scan", type=Path, help="NIfTI, NRRD or MetaImage file, DICOM file or DICOM folder")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT_DIR")
    parser.add_argument("--series", metavar="UID", help="which series of a DICOM folder")
    parser.add_argument("--modality", choices=("CT", "MR"), help="instead of what the file or its intensities say")
    _add_compute(parser)
    parser.set_defaults(run="segment_scan")


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", type=Path, default=Path("demo"), metavar="OUT_DIR")
    parser.add_argument("--seed", type=int, default=6)
    _add_compute(parser)
    parser.set_defaults(run="demonstrate")


def _add_synthesise(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT_DIR")
    parser.add_argument("--count", type=int, default=1, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--spacing", type=float, default=2.0, metavar="MM")
    parser.add_argument("--modality", choices=("CT", "MR"), help="default: drawn for every scan")
    parser.add_argument("--labelmaps", type=Path, metavar="DIR", help="anatomy from label maps instead of formulas")
    parser.set_defaults(run="synthesise")


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="recipe JSON file")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="RUN_DIR", help="resumed when it exists")
    parser.add_argument("--labelmaps", type=Path, metavar="DIR", help="anatomy from label maps instead of formulas")
    parser.add_argument(
        "--bodies", type=int, default=3, metavar="N", help="bodies drawn around every label map, or 10 N from formulas"
    )
    parser.add_argument("--stage", action="append", metavar="NAME", help="train only this stage (repeatable)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that draw scans")
    parser.set_defaults(run="train_recipe")


def _add_bundle(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="the bundles that can be named").set_defaults(run="list_all_bundles")
    show = actions.add_parser("show", help="check a bundle and print what it is")
    show.add_argument("bundle", metavar="NAME|DIR")
    show.set_defaults(run="show_bundle")
    bring = actions.add_parser("import", help="check a bundle folder or .zip and keep a copy")
    bring.add_argument("source", type=Path)
    bring.add_argument("--name")
    bring.set_defaults(run="import_one_bundle")


if __name__ == "__main__":
    sys.exit(main())
