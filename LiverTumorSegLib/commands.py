"""What each command of the command line does; `__main__` reads the arguments and reports errors."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from .console import Console, lesion_table
from .errors import LiverTumorSegError, recorded_warnings

if TYPE_CHECKING:
    import SimpleITK as sitk

    from .evaluation.run import Evaluation
    from .segmentation import Segmentation


def segment_scan(options: argparse.Namespace, console: Console) -> None:
    """`livertumorseg segment`."""
    phases = _named_files(options.phase or ())
    segmentation, files = _segment_to_files(options, console, options.scan, options.series, options.modality, phases)
    console.result("result", _summary(segmentation, files), _text(segmentation, files))


def demonstrate(options: argparse.Namespace, console: Console) -> None:
    """`livertumorseg demo`: a synthetic abdomen with known lesions, segmented and scored."""
    import SimpleITK as sitk

    from .evaluation.metrics import dice
    from .matching import match_lesions
    from .output import check_writable
    from .training.synthesis.cases import write_case

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


def synthesise(options: argparse.Namespace, console: Console) -> None:
    """`livertumorseg synthesise`: scans and their label maps as NIfTI files, or a picture of them all."""
    from .output import check_writable
    from .training.synthesis.cases import write_case, write_preview

    check_writable(options.output)
    options.output.mkdir(parents=True, exist_ok=True)
    if options.preview:
        seeds = range(options.seed, options.seed + options.count)
        sheet = write_preview(options.output, seeds, options.modality, options.spacing, options.labelmaps)
        console.result("preview", {"picture": str(sheet)}, str(sheet))
        return
    for number in range(options.count):
        seed = options.seed + number
        name = f"case_{seed:04d}"
        scan, truth = write_case(
            options.output, name, seed, options.modality, spacing_mm=options.spacing, labelmaps=options.labelmaps
        )
        console.progress("synthesise", (number + 1) / options.count)
        console.result("case", {"scan": str(scan), "labels": str(truth)}, f"{scan}  {truth}")


def train_recipe(options: argparse.Namespace, console: Console) -> None:
    """`livertumorseg train`: train on synthetic scans, then write the bundle."""
    from .bundle import Bundle
    from .errors import RecipeError
    from .recipe import load_recipe
    from .training.export import export_bundle
    from .training.synthesis.library import build_library
    from .training.trainer import Epoch, Run, train

    recipe = load_recipe(options.recipe)
    if recipe.phases:
        raise RecipeError(f"train: wanted a recipe of one phase, as synthetic scans are, got {len(recipe.phases)} more")
    names = [stage.name for stage in recipe.stages]
    for name in options.stage or ():
        if name not in names:
            raise RecipeError(f"--stage: wanted one of {', '.join(names)}, got {name!r}")
    stages = tuple(n for n, name in enumerate(names) if name in (options.stage or names))

    def drawn(done: int, count: int) -> None:
        console.progress("drawing bodies", done / count)

    library = build_library(
        options.output / "bodies",
        options.labelmaps,
        variants=options.bodies if options.labelmaps else 1,
        procedural=10 * options.bodies,
        seed=options.seed,
        progress=drawn,
    )

    def finished(name: str, line: Epoch) -> None:
        console.result("epoch", {"stage": name, **dataclasses.asdict(line)}, f"{name}: {_epoch_text(line)}")

    initial = Bundle.load(options.init).path / "weights" if options.init else None
    run = Run(
        recipe, library, options.output, options.seed, options.device, options.workers, initial, on_epoch=finished
    )
    weights = train(run, stages)
    if len(weights) < len(recipe.stages):
        return
    source = "label maps" if options.labelmaps else "procedural anatomy"
    bundle = export_bundle(
        recipe, weights, options.output / "bundle", f"synthetic scans drawn from {source}", "see model_card.md"
    )
    console.result("bundle", {"folder": str(bundle.path), "sha256": bundle.sha256}, f"bundle: {bundle.path}")


def list_all_bundles(options: argparse.Namespace, console: Console) -> None:
    """`livertumorseg bundle list`."""
    from .bundle import list_bundles

    for name, folder in list_bundles().items():
        console.result("bundle", {"name": name, "folder": str(folder)}, f"{name}  {folder}")


def show_bundle(options: argparse.Namespace, console: Console) -> None:
    """`livertumorseg bundle show`: checks every file's checksum."""
    from .bundle import Bundle

    bundle = Bundle.load(options.bundle)
    recipe = bundle.recipe
    lines = [
        f"{bundle.name} {bundle.version}  sha256 {bundle.sha256}",
        f"recipe {recipe.name} ({recipe.variant}); stages: {', '.join(stage.name for stage in recipe.stages)}",
        *(f"phase {each.name}: {'required' if each.required else 'optional'}" for each in recipe.phases),
        str(bundle.metadata["intended_use"]),
        "",
        (bundle.path / "model_card.md").read_text(encoding="utf-8"),
    ]
    content = {"name": bundle.name, "sha256": bundle.sha256, "metadata": bundle.metadata}
    console.result("bundle", content, "\n".join(lines))


def import_one_bundle(options: argparse.Namespace, console: Console) -> None:
    """`livertumorseg bundle import`."""
    from .bundle import import_bundle

    folder = import_bundle(options.source, options.name)
    console.result("bundle", {"folder": str(folder)}, f"imported: {folder}")


def study_init(options: argparse.Namespace, console: Console) -> None:
    """`livertumorseg study init`."""
    from .correction.initialise import init_study
    from .segmenter import Segmenter

    segmenters: dict[str, Segmenter] = {}

    def start(image: sitk.Image, bundle: str) -> Segmentation:
        if bundle not in segmenters:
            segmenters[bundle] = Segmenter(bundle, device=options.device)
        return segmenters[bundle](image)

    study = init_study(options.manifest, options.study, start, console.progress)
    planned = len(study.manifest.readers) * len(study.manifest.cases) * len(study.manifest.arms)
    console.result("study", {"folder": str(options.study), "readings": planned}, f"{options.study}: {planned} readings")


def study_next(options: argparse.Namespace, console: Console) -> None:
    """`livertumorseg study next`: says what to load, but not the arm."""
    from .correction.study import Study

    assignment = Study.load(options.study).next(options.reader)
    paths = {"volume": assignment.volume, "start": assignment.start, "session": assignment.folder}
    content = {"case": assignment.reading.case, "position": assignment.reading.position}
    content |= {"under_way": assignment.under_way, **{name: str(path) for name, path in paths.items()}}
    lines = [f"reading {assignment.reading.position}{', under way' if assignment.under_way else ''}"]
    console.result("next", content, "\n".join([*lines, *(f"{name}: {path}" for name, path in paths.items())]))


def study_status(options: argparse.Namespace, console: Console) -> None:
    """`livertumorseg study status`."""
    from .correction.study import Study, standings

    for reader, counts in standings(Study.load(options.study)).items():
        text = ", ".join(f"{count} {standing}" for standing, count in counts.items() if count)
        console.result("reader", {"reader": reader, **dict(counts.items())}, f"{reader}: {text}")


def study_report(options: argparse.Namespace, console: Console) -> None:
    """`livertumorseg study report`."""
    from .correction.page import describe, write_study_report
    from .correction.study import Study

    folder = options.output or options.study / "report"
    files, summary = write_study_report(Study.load(options.study), folder)
    lines = [*describe(summary), "", *map(str, files)]
    console.result("report", {**summary, "files": [str(file) for file in files]}, "\n".join(lines))


def evaluate(options: argparse.Namespace, console: Console) -> int:
    """`livertumorseg evaluate`: exit code 1 where the report has remarks on cases."""
    from .evaluation.files import check_request, write_evaluation
    from .evaluation.papers import paper_tables
    from .evaluation.tables import rule_table, voxel_table

    check_request(options.output, bool(options.against))
    if options.bundle and options.predictions:
        raise LiverTumorSegError("evaluate: wanted either PRED_DIR and REF_DIR or --bundle and --data, got both")
    if options.bundle:
        evaluation = _evaluate_bundle(options, console)
    else:
        from .evaluation.run import evaluate_folders

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
    tables = [voxel_table(summary), rule_table(summary), *papers] if summary else []
    content = {"cases": len(evaluation.cases), "remarks": len(evaluation.remarks), "files": [str(f) for f in files]}
    console.result("result", content, "\n\n".join([*(t.text() for t in tables), "\n".join(map(str, files))]))
    return 1 if evaluation.remarks else 0


def _evaluate_bundle(options: argparse.Namespace, console: Console) -> Evaluation:
    from .datasets.layouts import find_cases
    from .evaluation.predict import evaluate_bundle
    from .segmenter import Segmenter

    cases = find_cases(options.data or _wanted("--data DIR with --bundle"), options.layout)
    named = [options.bundle, options.against] if options.against else [options.bundle]
    segmenter, *others = [Segmenter(name, device=options.device, precision=options.precision) for name in named]
    return evaluate_bundle(
        segmenter,
        cases,
        options.output / "predictions",
        options.layout,
        others[0] if others else None,
        sensitivity=options.sensitivity,
        seed=options.seed,
        progress=console.progress,
    )


def _wanted(what: str) -> NoReturn:
    raise LiverTumorSegError(f"evaluate: wanted {what}, got none")


def check_dataset(options: argparse.Namespace, console: Console) -> int:
    """`livertumorseg dataset check`: exit code 1 where a case has a fault."""
    from .datasets.check import check_cases, fingerprint
    from .datasets.layouts import find_cases
    from .datasets.listing import SPLIT, case_table, check_target, fingerprint_table, write_listing
    from .datasets.splits import make_split, save_split

    if options.output:
        check_target(options.output, options.folder)
    checked = check_cases(find_cases(options.folder, options.layout), console.progress)
    found = fingerprint(checked)
    for case in checked:
        for text in (*case.faults, *case.warnings):
            console.note(f"warning: {case.name}: {text}")
    split = make_split(checked, options.folds, options.seed) if options.folds is not None else None
    files = write_listing(checked, found, options.output, split) if options.output else []
    if split and not options.output:
        files = [Path(SPLIT)]
        save_split(split, files[0])
    faults = sum(bool(case.faults) for case in checked)
    text = "\n\n".join([case_table(checked).text(), *([fingerprint_table(found).text()] if found else [])])
    content = {"cases": len(checked), "faulty": faults, "files": [str(file) for file in files]}
    console.result("dataset", content, "\n".join([text, "", *map(str, files)]))
    return 1 if faults else 0


def write_nnunet_dataset(options: argparse.Namespace, console: Console) -> int:
    """`livertumorseg dataset nnunet`: exit code 1 where a case was left out."""
    from .datasets.layouts import find_cases
    from .datasets.nnunet import write_nnunet

    cases = find_cases(options.folder, options.layout)
    left_out = write_nnunet(cases, options.output, options.modality, console.progress)
    for name, text in left_out:
        console.note(f"warning: {name}: left out: {text}")
    content = {"folder": str(options.output), "cases": len(cases) - len(left_out), "left_out": len(left_out)}
    console.result("dataset", content, f"{len(cases) - len(left_out)} cases: {options.output}")
    return 1 if left_out else 0


def work(options: argparse.Namespace, console: Console) -> None:
    """`livertumorseg worker`: answers requests until standard input ends."""
    from .worker import serve

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
    from .images import read_image
    from .output import check_writable, write_results
    from .rendering import get_ready
    from .segmenter import Segmenter

    check_writable(options.output)
    if options.html:
        get_ready()
    with recorded_warnings() as texts, ThreadPoolExecutor(1) as pool:
        loading = pool.submit(Segmenter, options.bundle, device=options.device, precision=options.precision)
        console.progress("reading the scan", 0.0)
        began = time.perf_counter()
        image: sitk.Image = read_image(scan, series)
        others: dict[str, sitk.Image] = {name: read_image(file) for name, file in phases.items()}
        read = time.perf_counter() - began
        segmenter = loading.result()
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


def _epoch_text(line: Any) -> str:
    return (
        f"epoch {line.epoch}  loss {line.training_loss:.3f}  validation {line.validation_loss:.3f}  "
        f"liver {line.liver_dice:.3f}  tumour {line.tumour_dice:.3f}  {line.seconds:.0f} s"
    )
