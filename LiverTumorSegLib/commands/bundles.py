"""Bundles: which there are, what one is, and a new one."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from ..console import Console


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
