"""Bundles: which there are, what one is, and new ones."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from ..console import Console
from .options import add_device, whole_number

CALIBRATE = (
    "Finds the temperature at which the bundle's probabilities of tumour are as often right as they say, on synthetic "
    "scans of bodies that it was not trained on, and writes a new bundle with the same weights. The least probability "
    "of a lesion, where the recipe has one, is changed with it, so that as many lesions are kept."
)


def add_bundle(parser: argparse.ArgumentParser, talk: argparse.ArgumentParser) -> None:
    """What `livertumorseg bundle ACTION` is told."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", parents=[talk], help="the bundles that can be named")
    listing.set_defaults(run=list_all_bundles)
    show = actions.add_parser("show", parents=[talk], help="check a bundle and print what it is")
    show.add_argument("bundle", metavar="NAME|DIR")
    show.set_defaults(run=show_bundle)
    bring = actions.add_parser("import", parents=[talk], help="check a bundle folder or .zip and keep a copy")
    bring.add_argument("source", type=Path)
    bring.add_argument("--name")
    bring.set_defaults(run=import_one_bundle)
    cool = actions.add_parser(
        "calibrate",
        parents=[talk],
        help="make a bundle's probabilities as sure as they are right",
        description=CALIBRATE,
    )
    cool.add_argument("bundle", metavar="NAME|DIR")
    cool.add_argument("-o", "--output", type=Path, required=True, metavar="NEW_DIR", help="the new bundle's folder")
    cool.add_argument("--bodies", type=Path, metavar="DIR", help="of the training run (RUN_DIR/bodies); else formulas")
    cool.add_argument("--scans", type=whole_number, default=48, metavar="N", help="how many (default: 48)")
    cool.add_argument(
        "--first", type=whole_number, default=1000, metavar="N", help="the first one's number; not the reported ones"
    )
    add_device(cool)
    cool.set_defaults(run=calibrate_bundle)


def list_all_bundles(options: argparse.Namespace, console: Console) -> None:
    """`livertumorseg bundle list`."""
    from ..bundle import list_bundles

    for name, folder in list_bundles().items():
        console.result("bundle", {"name": name, "folder": str(folder)}, f"{name}  {folder}")


def show_bundle(options: argparse.Namespace, console: Console) -> None:
    """`livertumorseg bundle show`: checks every file's checksum."""
    from ..bundle import Bundle
    from ..recipe.describing import describe_stage, describe_system
    from ..systems import check_recipe

    bundle = Bundle.load(options.bundle)
    recipe = bundle.recipe
    check_recipe(recipe)
    lines = [
        f"{bundle.name} {bundle.version}  sha256 {bundle.sha256}",
        f"recipe {recipe.name} ({recipe.variant}), {recipe.source}",
        f"system {describe_system(recipe)}",
        *(f"stage {describe_stage(stage, recipe.crop)}" for stage in recipe.stages),
        *(f"phase {each.name}: {'required' if each.required else 'optional'}" for each in recipe.phases),
        str(bundle.metadata["intended_use"]),
        "",
        (bundle.path / "model_card.md").read_text(encoding="utf-8"),
    ]
    whole = dataclasses.asdict(recipe)
    content = {"name": bundle.name, "sha256": bundle.sha256, "metadata": bundle.metadata, "recipe": whole}
    console.result("bundle", content, "\n".join(lines))


def import_one_bundle(options: argparse.Namespace, console: Console) -> None:
    """`livertumorseg bundle import`."""
    from ..bundle import import_bundle

    folder = import_bundle(options.source, options.name)
    console.result("bundle", {"folder": str(folder)}, f"imported: {folder}")


def calibrate_bundle(options: argparse.Namespace, console: Console) -> None:
    """`livertumorseg bundle calibrate`."""
    from ..bundle import Bundle
    from ..errors import BundleError, recorded_warnings
    from ..segmenter import Segmenter
    from ..training.calibrating import calibrate, check_system, write_calibrated

    bundle = Bundle.load(options.bundle)
    check_system(bundle.recipe)
    if options.output.exists():
        raise BundleError(f"bundle: wanted a new folder, got {options.output}, which is there already")
    segmenter = Segmenter(bundle, device=options.device, precision=options.precision)
    scans = range(options.first, options.first + options.scans)
    with recorded_warnings() as texts:
        found = calibrate(segmenter, scans, options.bodies, console.progress)
    for text in texts:
        console.note(f"warning: {text}")
    new = write_calibrated(bundle, found, options.output, options.bodies)
    content = dataclasses.asdict(found) | {"scans": list(scans), "folder": str(new.path), "sha256": new.sha256}
    named = {
        f"temperature of stage {found.stage}": found.temperature,
        "negative log likelihood of tumour or not, a voxel": found.loss,
        "expected error of the tumour's probability": found.expected_error,
        "min_lesion_probability": found.min_lesion_probability,
        "tumour_odds": found.tumour_odds,
    }
    lines = [f"{name}: {before:.4g} -> {after:.4g}" for name, (before, after) in named.items()]
    console.result("calibration", content, "\n".join([*lines, str(new.path)]))
