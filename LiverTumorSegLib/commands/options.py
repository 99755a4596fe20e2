"""Arguments that several commands take."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable

from ..errors import LiverTumorSegError

LAYOUTS = ("nifti", "lits", "msd", "nnunet", "ircad", "chaos", "synthetic")  # a test compares with datasets.layouts


def whole_number(text: str) -> int:
    """A whole number, not below 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"wanted a whole number, not below 0, got {text!r}")
    if len(text) > 12:
        raise argparse.ArgumentTypeError(f"wanted a whole number of at most 12 digits, got {len(text)}")
    return int(text)


def at_least_1(text: str) -> int:
    """A whole number above 0."""
    if (count := whole_number(text)) == 0:
        raise argparse.ArgumentTypeError("wanted at least 1, got 0")
    return count


def above_0(text: str) -> float:
    """A finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"wanted a number above 0, got {text!r}")
    return value


def check_used(options: argparse.Namespace, names: Iterable[str], wanted: str) -> None:
    """Refuse options that were given and would not be looked at.

    Args:
        options: None, False or [] where they were not given.
        names: of options, as attributes.
        wanted: what they go with, like "--data".

    Raises:
        LiverTumorSegError: one of them was given.
    """
    for name in names:
        given = getattr(options, name)
        if given is not None and given is not False and given != []:  # 0 was given, too
            raise LiverTumorSegError(f"--{name.replace('_', '-')}: wanted it with {wanted}, got no {wanted}")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Where and how exactly networks are computed."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    parser.add_argument("--precision", default="auto", choices=("auto", "f32", "bf16", "f16"))


def talking() -> argparse.ArgumentParser:
    """What every command says or keeps to itself; a parent of the commands' parsers."""
    talk = argparse.ArgumentParser(add_help=False)
    talk.add_argument("-q", "--quiet", action="store_true", help="print errors and warnings only")
    talk.add_argument("--json", action="store_true", help="print progress and results as JSON lines")
    return talk
