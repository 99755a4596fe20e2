"""Data sets: faults, folds, and another layout."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..console import Console
from .options import LAYOUTS, above_0, check_used, whole_number


def add_dataset(parser: argparse.ArgumentParser, talk: argparse.ArgumentParser) -> None:
    """What `livertumorseg dataset ACTION` is told."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser("check", parents=[talk], help="faults of every case, a table and a fingerprint")
    check.add_argument("-o", "--output", type=Path, metavar="OUT_DIR", help="also write dataset.json and dataset.csv")
    check.add_argument("--folds", type=int, metavar="N", help="also deal the patients into folds: splits.json")
    check.add_argument("--seed", type=whole_number, default=0, help="of the folds (default: 0)")
    check.add_argument("--recipe", type=Path, help="also propose patch, batch and learning rate for its stages")
    check.add_argument(
        "--memory",
        type=above_0,
        metavar="TIMES",
        help="this machine's memory in those that the recipe's own patch and batch fit (default: 1)",
    )
    check.set_defaults(run=check_dataset)
    nnunet = actions.add_parser("nnunet", parents=[talk], help="write it as nnU-Net v2's raw data")
    nnunet.add_argument("-o", "--output", type=Path, required=True, metavar="DatasetNNN_Name")
    nnunet.add_argument("--modality", choices=("CT", "MR"), default="CT")
    nnunet.set_defaults(run=write_nnunet_dataset)
    for action in (check, nnunet):
        action.add_argument("folder", type=Path, metavar="DIR")
        action.add_argument("--layout", choices=LAYOUTS, default="nifti")


def check_dataset(options: argparse.Namespace, console: Console) -> int:
    """`livertumorseg dataset check`: exit code 1 where a case has a fault."""
    from ..datasets.check import check_cases, fingerprint
    from ..datasets.layouts import find_cases
    from ..datasets.listing import SPLIT, case_table, check_target, fingerprint_table, write_listing
    from ..datasets.splits import make_split, save_split
    from ..recipe import load_recipe
    from ..training.fingerprint import proposal_table

    if not options.recipe:
        check_used(options, ("memory",), "--recipe")
    recipe = load_recipe(options.recipe) if options.recipe else None
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
    tables = [case_table(checked), *([fingerprint_table(found)] if found else [])]
    tables += [proposal_table(recipe, found, options.memory or 1.0)] if recipe and found else []
    text = "\n\n".join(table.text() for table in tables)
    content = {"cases": len(checked), "faulty": faults, "files": [str(file) for file in files]}
    console.result("dataset", content, "\n".join([text, "", *map(str, files)]))
    return 1 if faults else 0


def write_nnunet_dataset(options: argparse.Namespace, console: Console) -> int:
    """`livertumorseg dataset nnunet`: exit code 1 where a case was left out."""
    from ..datasets.layouts import find_cases
    from ..datasets.nnunet import write_nnunet

    cases = find_cases(options.folder, options.layout)
    left_out = write_nnunet(cases, options.output, options.modality, console.progress)
    for name, text in left_out:
        console.note(f"warning: {name}: left out: {text}")
    content = {"folder": str(options.output), "cases": len(cases) - len(left_out), "left_out": len(left_out)}
    console.result("dataset", content, f"{len(cases) - len(left_out)} cases: {options.output}")
    return 1 if left_out else 0
