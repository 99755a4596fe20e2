"""New processes for tests, forked from a server that has done nothing but import the library.

A fork of the tests' own process would take locks along that threads of OpenMP, OpenVINO or a queue hold at that moment,
and now and then wait for them for ever.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess

PATIENCE_S = 120


@contextmanager
def new_processes(*calls: tuple[Callable[..., None], tuple[object, ...]]) -> Iterator[list[BaseProcess]]:
    """Start one process for each call (a function of a module and its arguments); kill what is left at the end."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["LiverTumorSegLib.training.trainer"])
    processes: list[BaseProcess] = [context.Process(target=call, args=arguments) for call, arguments in calls]
    try:
        for process in processes:
            process.start()
        yield processes
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
            process.join()


def ended(process: BaseProcess) -> int | None:
    """Its exit code; None if it has not ended after minutes."""
    process.join(PATIENCE_S)
    return process.exitcode
