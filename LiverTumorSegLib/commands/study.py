"""Studies of readers who correct segmentations."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..console import Console
from ..errors import recorded_warnings

if TYPE_CHECKING:
    import SimpleITK as sitk

    from ..segmentation import Segmentation


def add_study(parser: argparse.ArgumentParser, talk: argparse.ArgumentParser) -> None:
    """What `livertumorseg study ACTION` is told."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    init = actions.add_parser("init", parents=[talk], help="make a study's folder from its manifest")
    next_one = actions.add_parser("next", parents=[talk], help="what a reader reads next")
    status = actions.add_parser("status", parents=[talk], help="how far every reader is")
    report = actions.add_parser("report", parents=[talk], help="report.html, CSV and JSON of what was found")
    runs = {init: study_init, next_one: study_next, status: study_status, report: study_report}
    for action, run in runs.items():
        action.add_argument("study", type=Path, metavar="DIR")
        action.set_defaults(run=run)
    init.add_argument(
        "manifest", type=Path, help="JSON file; LiverTumorSegLib/correction/manifest.py says what is in it"
    )
    init.add_argument("--device", default="auto", help="for arms that start from a bundle (default: auto)")
    next_one.add_argument("--reader", required=True, metavar="CODE")
    report.add_argument("-o", "--output", type=Path, metavar="OUT_DIR", help="default: DIR/report")


def study_init(options: argparse.Namespace, console: Console) -> None:
    """`livertumorseg study init`."""
    from ..correction.initialise import init_study
    from ..segmenter import Segmenter

    segmenters: dict[str, Segmenter] = {}

    def start(image: sitk.Image, bundle: str) -> Segmentation:
        if bundle not in segmenters:
            segmenters[bundle] = Segmenter(bundle, device=options.device)
        return segmenters[bundle](image)

    with recorded_warnings() as texts:
        study = init_study(options.manifest, options.study, start, console.progress)
    for text in texts:
        console.note(f"warning: {text}")
    planned = len(study.manifest.readers) * len(study.manifest.cases) * len(study.manifest.arms)
    console.result("study", {"folder": str(options.study), "readings": planned}, f"{options.study}: {planned} readings")


def study_next(options: argparse.Namespace, console: Console) -> None:
    """`livertumorseg study next`: says what to load, but not the arm."""
    from ..correction.study import Study

    assignment = Study.load(options.study).next(options.reader)
    paths = {"volume": assignment.volume, "start": assignment.start, "session": assignment.folder}
    content = {"case": assignment.reading.case, "position": assignment.reading.position}
    content |= {"under_way": assignment.under_way, **{name: str(path) for name, path in paths.items()}}
    lines = [f"reading {assignment.reading.position}{', under way' if assignment.under_way else ''}"]
    console.result("next", content, "\n".join([*lines, *(f"{name}: {path}" for name, path in paths.items())]))


def study_status(options: argparse.Namespace, console: Console) -> None:
    """`livertumorseg study status`."""
    from ..correction.study import Study, standings

    for reader, counts in standings(Study.load(options.study)).items():
        text = ", ".join(f"{count} {standing}" for standing, count in counts.items() if count)
        console.result("reader", {"reader": reader, **dict(counts.items())}, f"{reader}: {text}")


def study_report(options: argparse.Namespace, console: Console) -> None:
    """`livertumorseg study report`."""
    from ..correction.page import describe, write_study_report
    from ..correction.study import Study

    folder = options.output or options.study / "report"
    files, summary = write_study_report(Study.load(options.study), folder)
    lines = [*describe(summary), "", *map(str, files)]
    console.result("report", {**summary, "files": [str(file) for file in files]}, "\n".join(lines))
