"""What each command of the command line does; `__main__` reads the arguments and reports errors."""

from __future__ import annotations

import argparse
import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .console import Console, lesion_table
from .errors import recorded_warnings

if TYPE_CHECKING:
    import SimpleITK as sitk

    from .segmentation import Segmentation


def segment_scan(options: argparse.Namespace, console: Console) -> None:
    """`livertumorseg segment`."""
    segmentation, files = _segment_to_files(options, console, options.scan, options.series, options.modality)
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
    segmentation, files = _segment_to_files(options, console, scan, None, None)
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
    """`livertumorseg synthesise`: scans and their label maps as NIfTI files."""
    from .output import check_writable
    from .training.synthesis.cases import write_case

    check_writable(options.output)
    options.output.mkdir(parents=True, exist_ok=True)
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
    from .errors import RecipeError
    from .recipe import load_recipe
    from .training.export import export_bundle
    from .training.synthesis.library import build_library
    from .training.trainer import Epoch, Run, train

    recipe = load_recipe(options.recipe)
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

    run = Run(recipe, library, options.output, options.seed, options.device, options.workers, on_epoch=finished)
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


def _segment_to_files(
    options: argparse.Namespace, console: Console, scan: Path, series: str | None, modality: str | None
) -> tuple[Segmentation, list[Path]]:
    """Read, segment, write; reading and loading the networks go on side by side."""
    from .images import read_image
    from .output import check_writable, write_results
    from .segmenter import Segmenter

    check_writable(options.output)
    with recorded_warnings() as texts, ThreadPoolExecutor(1) as pool:
        loading = pool.submit(Segmenter, options.bundle, device=options.device, precision=options.precision)
        console.progress("reading the scan", 0.0)
        began = time.perf_counter()
        image: sitk.Image = read_image(scan, series)
        read = time.perf_counter() - began
        segmenter = loading.result()
        segmentation = segmenter(image, modality=modality, sensitivity=options.sensitivity, progress=console.progress)
        seconds = {"read": round(read, 3), **segmentation.provenance.seconds}
        provenance = dataclasses.replace(segmentation.provenance, seconds=seconds, warnings=tuple(texts))
        segmentation = dataclasses.replace(segmentation, provenance=provenance)
        console.progress("writing", 0.0)
        files = write_results(segmentation, options.output, html=options.html)
    for text in texts:
        console.note(f"warning: {text}")
    return segmentation, files


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
