"""A folder of scans -> labels, one by one or side by side."""

from __future__ import annotations

import argparse
import dataclasses
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from ..console import Console
from ..errors import LiverTumorSegError
from .options import at_least_1, check_used

if TYPE_CHECKING:
    from ..cluster import Cluster
    from ..cohort import CaseResult, Runner


def add_cohort(parser: argparse.ArgumentParser) -> None:
    """What `livertumorseg segment` is told of cohorts."""
    parser.add_argument(
        "--cohort", type=Path, metavar="DIR", help="segment every scan of this folder, each into a folder of OUT_DIR"
    )
    add_ray(parser)


def add_ray(parser: argparse._ActionsContainer) -> None:
    """Whether and where things run side by side."""
    parser.add_argument(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="side by side with Ray: a task a GPU, else a few cores each; "
        "on this computer, or on the cluster at ADDRESS",
    )
    parser.add_argument("--threads", type=at_least_1, metavar="N", help="with --ray: cores of a task without a GPU")


def segment_cohort(options: argparse.Namespace, console: Console) -> int:
    """`livertumorseg segment --cohort`: exit code 1 where a scan could not be segmented."""
    from ..cohort import DOCUMENT, TABLE, new_job, run_cohort
    from ..scans import find_scans

    _check(options)
    job = new_job(
        options.bundle,
        device=options.device,
        precision=options.precision,
        modality=options.modality,
        sensitivity=options.sensitivity,
        html=options.html,
    )
    scans = find_scans(options.cohort, options.output)

    def finished(result: CaseResult, share: float) -> None:
        console.progress("scans", share)
        console.result("case", dataclasses.asdict(result), _line(result))

    console.progress("scans", 0.0)
    try:
        results = run_cohort(scans, job, options.output, _runner(options), finished)
    except KeyboardInterrupt:
        console.note("interrupted; what is finished stays, and the same command goes on from there")
        return 130
    counts = Counter(result.state for result in results)
    files = [options.output / TABLE, options.output / DOCUMENT]
    content: dict[str, object] = {"scans": len(scans), "files": [str(file) for file in files]}
    content |= {str(state): count for state, count in counts.items()}
    text = ", ".join(f"{count} {state}" for state, count in counts.items())
    console.result("cohort", content, "\n".join([f"{len(scans)} scans: {text}", *map(str, files)]))
    return 1 if counts["failed"] else 0


def _check(options: argparse.Namespace) -> None:
    for name in ("scan", "series", "phase"):
        if getattr(options, name):
            raise LiverTumorSegError(f"--cohort: wanted it without {'SCAN' if name == 'scan' else f'--{name}'}")
    if not options.registration:
        raise LiverTumorSegError("--cohort: wanted it without --no-registration: it knows no phases")
    if options.ray is None:
        check_used(options, ("threads",), "--ray")


def cluster_of(options: argparse.Namespace) -> Cluster | None:
    """Where things run side by side; None for one by one.

    Raises:
        DeviceError: Ray is not installed.
    """
    if options.ray is None:
        return None
    from ..cluster import LOCAL, Cluster, import_ray

    import_ray(options.ray == LOCAL)  # before anything is read or written, should it be missing
    return Cluster(options.ray, options.threads)


def _runner(options: argparse.Namespace) -> Runner | None:
    cluster = cluster_of(options)
    if cluster is None:
        return None
    from ..cluster import on_ray

    return on_ray(cluster)


def _line(result: CaseResult) -> str:
    if result.state == "failed":
        return f"{result.case}: failed: {result.error}"
    lesions = "1 lesion" if result.lesions == 1 else f"{result.lesions} lesions"
    kept = ", kept from before" if result.state == "kept" else f", {result.seconds:.1f} s"
    return f"{result.case}: liver {result.liver_ml:.0f} ml, {lesions}{kept}"
