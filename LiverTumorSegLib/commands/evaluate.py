"""Predictions by references."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ..console import Console
from ..errors import LiverTumorSegError, recorded_warnings
from .options import LAYOUTS, above_0, add_device, at_least_1, check_used, whole_number

if TYPE_CHECKING:
    from ..evaluation.run import Evaluation

EVALUATE = (
    "Judges PRED_DIR by REF_DIR, or with --bundle segments the scans of --data first. Writes evaluation.html, "
    "evaluation.json, cases.csv, lesions.csv and summary.csv: all of them or none. Exit code 1 where the report has a "
    "remark on a case: missing, not on the reference's grid, unreadable, with other labels, empty, or with lesions of "
    "one voxel."
)


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """What `livertumorseg evaluate` is told."""
    parser.add_argument(
        "predictions", type=Path, nargs="?", metavar="PRED_DIR", help="label maps 0, 1, 2 named by case"
    )
    parser.add_argument("references", type=Path, nargs="?", metavar="REF_DIR", help="a data set with references")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT_DIR")
    parser.add_argument("--layout", choices=LAYOUTS, default="nifti", help="of the references or --data")
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
    add_device(parser)
    parser.set_defaults(device=None, precision=None)  # given or not: they are a bundle's
    parser.add_argument("--sensitivity", type=above_0, metavar="F", help="of the label maps that --bundle makes")
    parser.add_argument("--seed", type=whole_number, default=0, help="of the bootstrap (default: 0)")
    parser.add_argument(
        "--workers", type=at_least_1, metavar="N", help="processes that judge PRED_DIR (default: one a core)"
    )
    parser.add_argument("--no-html", dest="html", action="store_false", help="leave out evaluation.html")
    parser.set_defaults(run=evaluate)


def evaluate(options: argparse.Namespace, console: Console) -> int:
    """`livertumorseg evaluate`: exit code 1 where the report has remarks on cases."""
    from ..evaluation.files import check_request, write_evaluation
    from ..evaluation.papers import paper_tables
    from ..evaluation.tables import rule_table, size_table, voxel_table

    check_request(options.output, bool(options.against))
    if options.bundle and options.predictions:
        raise LiverTumorSegError("evaluate: wanted either PRED_DIR and REF_DIR or --bundle and --data, got both")
    if not options.papers:
        check_used(options, ("same_data",), "--as")
    if options.bundle:
        check_used(options, ("workers",), "PRED_DIR")
        evaluation = _evaluate_bundle(options, console)
    else:
        from ..evaluation.run import evaluate_folders

        check_used(options, ("data", "sensitivity", "device", "precision"), "--bundle")
        against = Path(options.against) if options.against else None
        references = options.references or _wanted("REF_DIR, or --bundle with --data")
        evaluation = evaluate_folders(
            options.predictions,
            references,
            options.layout,
            against,
            seed=options.seed,
            workers=options.workers,
            progress=console.progress,
        )
    summary = evaluation.summary if evaluation.cases else None
    papers = [t for key in options.papers if summary for t in paper_tables(key, summary, options.same_data)]
    console.progress("writing", 0.0)
    with recorded_warnings() as texts:
        files = write_evaluation(evaluation, options.output, papers, options.html)
    for text in (*texts, *(f"{remark.case}: {remark.text}" for remark in evaluation.remarks)):
        console.note(f"warning: {text}")
    tables = [rule_table(summary), size_table(summary), voxel_table(summary), *papers] if summary else []
    content = {"cases": len(evaluation.cases), "remarks": len(evaluation.remarks), "files": [str(f) for f in files]}
    console.result("result", content, "\n\n".join([*(t.text() for t in tables), "\n".join(map(str, files))]))
    return 1 if evaluation.remarks else 0


def _evaluate_bundle(options: argparse.Namespace, console: Console) -> Evaluation:
    from ..datasets.layouts import find_cases
    from ..evaluation.predict import evaluate_bundle
    from ..segmenter import Segmenter

    cases = find_cases(options.data or _wanted("--data DIR with --bundle"), options.layout)
    named = [options.bundle, options.against] if options.against else [options.bundle]
    device, precision = options.device or "auto", options.precision or "auto"
    segmenter, *others = [Segmenter(name, device=device, precision=precision) for name in named]
    return evaluate_bundle(
        segmenter,
        cases,
        options.output / "predictions",
        options.layout,
        others[0] if others else None,
        sensitivity=options.sensitivity or 1.0,
        seed=options.seed,
        progress=console.progress,
    )


def _wanted(what: str) -> NoReturn:
    raise LiverTumorSegError(f"evaluate: wanted {what}, got none")
