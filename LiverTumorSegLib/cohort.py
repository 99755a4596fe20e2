"""Every scan of a folder, each with a folder of results, and a table of how they went.

What is done lies here; how it is spread over processes is a `Runner`: `one_by_one` below, or `cluster.on_ray`. A scan
whose results were made by the same bundle after the scan was written is not done again, so that a cohort goes on where
it stopped; a scan that goes wrong is a line of the table, and the others go on.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import functools
import io
import json
import os
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .bundle import Bundle
from .errors import LiverTumorSegError, OutputError, recorded_warnings
from .images import read_image
from .output import PAGE, REPORT, check_writable, missing_for_page, write_results
from .scans import Scan
from .segmentation import Segmentation, check_sensitivity
from .segmenter import Segmenter

TABLE, DOCUMENT = "cohort.csv", "cohort.json"
SCHEMA_VERSION = 1

_MEASURED = ("liver_ml", "tumour_ml", "burden_percent")


@dataclass(frozen=True)
class Job:
    """What is done to every scan; see `segmenter.segment` for the fields of the same name.

    Attributes:
        bundle: name or folder; a cluster's computers must find it there, too.
        bundle_sha256: which one that is.
        html: also a page for each scan.
    """

    bundle: str
    bundle_sha256: str
    device: str = "auto"
    precision: str = "auto"
    modality: str | None = None
    sensitivity: float = 1.0
    html: bool = True


@dataclass(frozen=True)
class CaseResult:
    """A line of the table.

    Attributes:
        case: the scan's name.
        state: "done" now, "kept" from an earlier run, or "failed".
        seconds: that this run spent on it.
        liver_ml, tumour_ml, burden_percent, lesions: what was found; None where it failed.
        warnings: how many the report has.
        error: what went wrong, in one line.
    """

    case: str
    state: Literal["done", "kept", "failed"]
    seconds: float = 0.0
    liver_ml: float | None = None
    tumour_ml: float | None = None
    burden_percent: float | None = None
    lesions: int | None = None
    warnings: int = 0
    error: str = ""


Runner = Callable[[Sequence[Scan], Job, Path], Generator[CaseResult, None, None]]
"""Segments scans into folders below a folder and tells of each as it is finished, in any order."""


def new_job(bundle: str | Path, **options: Any) -> Job:
    """A job with a bundle that was checked.

    Raises:
        BundleError, RecipeError: it is not whole.
        LiverTumorSegError: a sensitivity out of range.
    """
    check_sensitivity(options.get("sensitivity", 1.0))
    return Job(str(bundle), Bundle.load(bundle).sha256, **options)


def run_cohort(
    scans: Sequence[Scan],
    job: Job,
    output: Path,
    run: Runner | None = None,
    on_case: Callable[[CaseResult, float], None] | None = None,
) -> list[CaseResult]:
    """Segment all scans that have no results of this job yet.

    Args:
        scans: whatever `scans.find_scans` found.
        job: what is done to each.
        output: gets a folder for each scan, all of its files or none, and the table, which is brought up to date after
            every scan.
        run: how scans are spread over processes; by default one after the other in this one.
        on_case: told each line of the table, and the share of the scans that are finished.

    Returns:
        The table, in the order of the scans.

    Raises:
        OutputError: the folder cannot be written to.
    """
    check_writable(output)
    results: dict[str, CaseResult] = {}

    def finished(result: CaseResult) -> None:
        results[result.case] = result
        if on_case is not None:
            on_case(result, len(results) / len(scans))

    for scan in scans:
        earlier = earlier_result(scan, job, output)
        if earlier is not None:
            finished(earlier)
    waiting = [scan for scan in scans if scan.name not in results]
    table = functools.partial(_in_order, scans, results)
    write_table(table(), job, output)
    # Closed at once when anything ends it, so that no process goes on.
    with contextlib.closing((run or one_by_one)(waiting, job, output)) as done:
        for result in done if waiting else ():
            finished(result)
            write_table(table(), job, output)
    return table()


def one_by_one(scans: Sequence[Scan], job: Job, output: Path) -> Generator[CaseResult, None, None]:
    """A `Runner` in this process.

    Raises:
        DeviceError: the device is not to be had; nothing is begun.
    """
    _segmenter(job)
    for scan in scans:
        yield segment_case(scan, job, output)


def segment_case(scan: Scan, job: Job, output: Path) -> CaseResult:
    """Read a scan, segment it, and write its folder below `output`; whatever goes wrong is in the result."""
    began = time.perf_counter()
    try:
        with recorded_warnings() as texts:
            image = read_image(scan.path, modality=job.modality)
            segmentation = _segmenter(job)(image, modality=job.modality, sensitivity=job.sensitivity)
            provenance = dataclasses.replace(segmentation.provenance, warnings=tuple(texts))
            segmentation = dataclasses.replace(segmentation, provenance=provenance)
            write_results(segmentation, output / scan.name, html=job.html)
    # RuntimeError is all that SimpleITK, OpenVINO and torch raise.
    except (LiverTumorSegError, OSError, MemoryError, RuntimeError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        return CaseResult(scan.name, "failed", _since(began), error=text)
    return _measured(scan.name, segmentation, _since(began), len(texts))


def earlier_result(scan: Scan, job: Job, output: Path) -> CaseResult | None:
    """What a scan's folder says, if the same job made it, and from the scan as it is."""
    path = output / scan.name / REPORT
    try:
        if path.stat().st_mtime < scan.written():
            return None
        report = json.loads(path.read_text(encoding="utf-8"))
        made = report["provenance"]
        if made["bundle_sha256"] != job.bundle_sha256 or report["sensitivity"] != job.sensitivity:
            return None
        if job.modality not in (None, made["modality"]) or (job.modality is None and made["modality_given"]):
            return None
        if job.html and not (path.parent / PAGE).exists() and not missing_for_page():
            return None
        liver, tumour, burden = (round(float(report[name]), 3) for name in _MEASURED)
        return CaseResult(scan.name, "kept", 0.0, liver, tumour, burden, len(report["lesions"]), len(made["warnings"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # none, or not whole: it is made anew
        return None


def write_table(results: Sequence[CaseResult], job: Job, output: Path) -> list[Path]:
    """Write `cohort.csv` and `cohort.json`, each whole or not at all.

    Raises:
        OutputError: they cannot be written.
    """
    rows = [dataclasses.asdict(result) for result in results]
    text = io.StringIO()
    table = csv.DictWriter(text, [each.name for each in dataclasses.fields(CaseResult)], lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    document = {"schema_version": SCHEMA_VERSION, "job": dataclasses.asdict(job), "cases": rows}
    contents = {
        output / TABLE: text.getvalue(),
        output / DOCUMENT: json.dumps(document, indent=2, ensure_ascii=False) + "\n",
    }
    try:
        output.mkdir(parents=True, exist_ok=True)
        for path, content in contents.items():
            partial = path.with_name(f".{path.name}.partial")
            partial.write_text(content, encoding="utf-8", newline="")
            os.replace(partial, path)
    except OSError as error:
        raise OutputError(f"{output}: wanted to write the table, got: {error.strerror or error}") from error
    return list(contents)


@functools.lru_cache(maxsize=1)
def _segmenter(job: Job) -> Segmenter:
    """The networks of a job, loaded once in a process."""
    return Segmenter(job.bundle, device=job.device, precision=job.precision)


def _measured(name: str, segmentation: Segmentation, seconds: float, warnings: int) -> CaseResult:
    liver, tumour, burden = (round(float(getattr(segmentation, each)), 3) for each in _MEASURED)
    return CaseResult(name, "done", seconds, liver, tumour, burden, len(segmentation.lesions), warnings)


def _in_order(scans: Sequence[Scan], results: dict[str, CaseResult]) -> list[CaseResult]:
    return [results[scan.name] for scan in scans if scan.name in results]


def _since(began: float) -> float:
    return round(time.perf_counter() - began, 3)
