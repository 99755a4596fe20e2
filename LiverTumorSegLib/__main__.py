"""The command line: livertumorseg segment | demo | synthesise | train | bundle | dataset | evaluate | study | worker.

Exit codes: 0 done, 1 done with remarks on some cases (evaluate, dataset), 2 something the user can mend (one line on
standard error, nothing written), 130 interrupted (nothing half-written).
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
    _add_dataset(commands.add_parser("dataset", help="check, split or convert a data set"), talk)
    _add_evaluate(
        commands.add_parser("evaluate", parents=[talk], help="score predictions by references", description=_EVALUATE)
    )
    _add_study(commands.add_parser("study", help="time and compare readers' corrections"), talk)
    _add_worker(commands.add_parser("worker", help="segment for another program, request after request"))
    return parser


_SEGMENT = (
    "Writes segmentation.seg.nrrd, segmentation.nii.gz, lesions.csv, report.json and report.html into the "
    "output folder: all of them or none."
)


_LAYOUTS = ("nifti", "lits", "msd", "nnunet", "ircad", "chaos", "synthetic")  # a test compares with datasets.layouts

_EVALUATE = (
    "Judges PRED_DIR by REF_DIR, or with --bundle segments the scans of --data first. Writes evaluation.html, "
    "evaluation.json, cases.csv, lesions.csv and summary.csv: all of them or none. Exit code 1 where the report has a "
    "remark on a case: missing, not on the reference's grid, unreadable, with other labels, empty, or with lesions of "
    "one voxel."
)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"wanted a whole number, not below 0, got {text!r}")
    return int(text)


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
    parser.add_argument(
        "--phase",
        action="append",
        metavar="NAME=FILE",
        help="a further phase of the study, if the bundle has any; "
        "in one frame of reference with the scan (repeatable)",
    )
    _add_compute(parser)
    parser.set_defaults(run="segment_scan")


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", type=Path, default=Path("demo"), metavar="OUT_DIR")
    parser.add_argument("--seed", type=_seed, default=6)
    _add_compute(parser)
    parser.set_defaults(run="demonstrate")


def _add_synthesise(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT_DIR")
    parser.add_argument("--count", type=int, default=1, metavar="N")
    parser.add_argument("--seed", type=_seed, default=0)
    parser.add_argument("--spacing", type=float, default=2.0, metavar="MM")
    parser.add_argument("--modality", choices=("CT", "MR"), help="default: drawn for every scan")
    parser.add_argument("--labelmaps", type=Path, metavar="DIR", help="anatomy from label maps instead of formulas")
    parser.add_argument("--preview", action="store_true", help="write a contact sheet, preview.png, instead of scans")
    parser.set_defaults(run="synthesise")


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="recipe JSON file")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="RUN_DIR", help="resumed when it exists")
    parser.add_argument("--labelmaps", type=Path, metavar="DIR", help="anatomy from label maps instead of formulas")
    parser.add_argument(
        "--bodies", type=int, default=3, metavar="N", help="bodies drawn around every label map, or 10 N from formulas"
    )
    parser.add_argument("--stage", action="append", metavar="NAME", help="train only this stage (repeatable)")
    parser.add_argument("--init", metavar="NAME|DIR", help="begin from this bundle's weights, where they fit")
    parser.add_argument("--seed", type=_seed, default=0)
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


def _add_dataset(parser: argparse.ArgumentParser, talk: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser("check", parents=[talk], help="faults of every case, a table and a fingerprint")
    check.add_argument("-o", "--output", type=Path, metavar="OUT_DIR", help="also write dataset.json and dataset.csv")
    check.add_argument("--folds", type=int, metavar="N", help="also deal the patients into folds: splits.json")
    check.add_argument("--seed", type=_seed, default=0, help="of the folds (default: 0)")
    check.set_defaults(run="check_dataset")
    nnunet = actions.add_parser("nnunet", parents=[talk], help="write it as nnU-Net v2's raw data")
    nnunet.add_argument("-o", "--output", type=Path, required=True, metavar="DatasetNNN_Name")
    nnunet.add_argument("--modality", choices=("CT", "MR"), default="CT")
    nnunet.set_defaults(run="write_nnunet_dataset")
    for action in (check, nnunet):
        action.add_argument("folder", type=Path, metavar="DIR")
        action.add_argument("--layout", choices=_LAYOUTS, default="nifti")


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "predictions", type=Path, nargs="?", metavar="PRED_DIR", help="label maps 0, 1, 2 named by case"
    )
    parser.add_argument("references", type=Path, nargs="?", metavar="REF_DIR", help="a data set with references")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT_DIR")
    parser.add_argument("--layout", choices=_LAYOUTS, default="nifti", help="of the references or --data")
    parser.add_argument("--bundle", metavar="NAME|DIR", help="segment the scans of --data with it first")
    parser.add_argument("--data", type=Path, metavar="DIR", help="a data set with scans and references")
    parser.add_argument("--against", metavar="X", help="other predictions, or with --bundle another bundle, to compare")
    papers = ("lits", "S0", "S1", "S2", "S3", "S4")
    parser.add_argument(
        "--as", dest="papers", nargs="+", choices=papers, default=[], help="tables as LiTS and the papers print them"
    )
    parser.add_argument(
        "--same-data", action="store_true", help="the cases are those of the papers: print their figures beside ours"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    parser.add_argument("--precision", default="auto", choices=("auto", "f32", "bf16", "f16"))
    parser.add_argument("--sensitivity", type=float, default=1.0, metavar="F", help="of the label maps that are judged")
    parser.add_argument("--seed", type=_seed, default=0, help="of the bootstrap (default: 0)")
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one a core)")
    parser.add_argument("--no-html", dest="html", action="store_false", help="leave out evaluation.html")
    parser.set_defaults(run="evaluate")


def _add_study(parser: argparse.ArgumentParser, talk: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    init = actions.add_parser("init", parents=[talk], help="make a study's folder from its manifest")
    next_one = actions.add_parser("next", parents=[talk], help="what a reader reads next")
    status = actions.add_parser("status", parents=[talk], help="how far every reader is")
    report = actions.add_parser("report", parents=[talk], help="report.html, CSV and JSON of what was found")
    for action, run in ((init, "init"), (next_one, "next"), (status, "status"), (report, "report")):
        action.add_argument("study", type=Path, metavar="DIR")
        action.set_defaults(run=f"study_{run}")
    init.add_argument(
        "manifest", type=Path, help="JSON file; LiverTumorSegLib/correction/manifest.py says what is in it"
    )
    init.add_argument("--device", default="auto", help="for arms that start from a bundle (default: auto)")
    next_one.add_argument("--reader", required=True, metavar="CODE")
    report.add_argument("-o", "--output", type=Path, metavar="OUT_DIR", help="default: DIR/report")


def _add_worker(parser: argparse.ArgumentParser) -> None:
    parser.description = "Reads requests and writes answers, one JSON object a line; see LiverTumorSegLib/worker.py."
    parser.set_defaults(run="work", json=False, quiet=True)


if __name__ == "__main__":
    sys.exit(main())
