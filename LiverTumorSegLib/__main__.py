"""The command line: livertumorseg segment | demo | synthesise | train | bundle | dataset | evaluate | study | worker.

Exit codes: 0 done, 1 done with remarks on some cases (evaluate, dataset), 2 something the user can mend (one line on
standard error, nothing written), 130 interrupted (nothing half-written).
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from . import __version__
from .commands.bundles import add_bundle
from .commands.dataset import add_dataset
from .commands.evaluate import EVALUATE, add_evaluate
from .commands.options import talking
from .commands.segment import SEGMENT, add_demo, add_segment, add_worker
from .commands.study import add_study
from .commands.synthesise import add_synthesise
from .commands.train import add_train
from .console import BarConsole, Console, JsonConsole, QuietConsole
from .errors import LiverTumorSegError

INTERRUPTED = 130


def run() -> NoReturn:
    """The command line as a process: `main` and its exit code.

    After an interrupt the process leaves as soon as all that wanted to be told of its end was told: threads that
    are still at work in compiled modules crash the interpreter when it takes itself apart.
    """
    codes: list[int] = []
    atexit.register(lambda: _leave_at_once() if INTERRUPTED in codes else None)  # the first to come is the last called
    codes.append(main())
    sys.exit(codes[0])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    options = _parser().parse_args(arguments)
    console: Console = JsonConsole() if options.json else QuietConsole() if options.quiet else BarConsole()
    before = signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        return int(options.run(options, console) or 0)
    except (LiverTumorSegError, MemoryError) as error:
        console.close()
        text = str(error).replace("\n", " ").replace("\r", " ")  # as in a name that it quotes
        print(f"livertumorseg: error: {text or 'not enough memory'}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        console.close()
        print("livertumorseg: interrupted; nothing was written", file=sys.stderr)
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)  # what comes after is no work to be broken off


def _leave_at_once() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # nobody reads it any more, or it is closed
            stream.flush()
    os._exit(INTERRUPTED)


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="livertumorseg",
        description="Liver and liver tumours in CT and MR. Research use only, not a medical device.",
    )
    parser.add_argument("--version", action="version", version=f"livertumorseg {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    talk = talking()
    add_segment(
        commands.add_parser("segment", parents=[talk], help="segment a scan or a folder of them", description=SEGMENT)
    )
    add_demo(commands.add_parser("demo", parents=[talk], help="segment a synthetic abdomen and score the result"))
    add_synthesise(commands.add_parser("synthesise", parents=[talk], help="draw synthetic scans with lesions"))
    add_train(commands.add_parser("train", parents=[talk], help="train a recipe on measured cases or synthetic scans"))
    add_bundle(commands.add_parser("bundle", help="list, show, import or calibrate bundles"), talk)
    add_dataset(commands.add_parser("dataset", help="check, split or convert a data set"), talk)
    add_evaluate(
        commands.add_parser("evaluate", parents=[talk], help="score predictions by references", description=EVALUATE)
    )
    add_study(commands.add_parser("study", help="time and compare readers' corrections"), talk)
    add_worker(commands.add_parser("worker", help="segment for another program, request after request"))
    return parser


if __name__ == "__main__":
    run()
