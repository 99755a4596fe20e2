"""The processes that make patches ahead of the steps, and what is said when one of them fails."""

from __future__ import annotations

import re

import torch
from torch.utils.data import DataLoader, Dataset

from .patches import Patch

_CAUGHT = re.compile(r"Caught \w+ in DataLoader worker process \d+")
_DIED = re.compile(r"DataLoader worker \(pid.*?\) (?:is killed by signal: ([\w ]+)|exited unexpectedly)")
_RAISED = re.compile(r"^(?P<kind>[A-Za-z_][\w.]*)(?:: |$)(?P<text>.*)", re.DOTALL)


def patch_loader(patches: Dataset[Patch], batch_size: int, workers: int, device: str) -> DataLoader[Patch]:
    """Batches of patches in their order.

    Args:
        patches: what is batched.
        batch_size: patches in a batch.
        workers: processes that make them ahead; with 0 they are made as they are asked for, maybe on the device.
        device: where the batches go.
    """
    return DataLoader(
        patches,
        batch_size=batch_size,
        num_workers=workers,
        worker_init_fn=_one_thread,
        prefetch_factor=4 if workers else None,
        pin_memory=torch.device(device).type == "cuda" and workers > 0,  # what lies on a GPU cannot be pinned
    )


def reason_of_process(error: BaseException) -> str | None:
    """What went wrong in a process that makes patches, in one line; None where the error is of this process."""
    text = str(error)
    if died := _DIED.search(text):
        how = died[1] or "without a word"
        return (
            f"wanted patches, the process that makes them was ended ({how}): is memory, or a container's shared "
            "memory, too small? Fewer --workers take less"
        )
    if not _CAUGHT.search(text):
        return None
    lines = text.strip().splitlines()
    starts = [n for n, line in enumerate(lines) if n and not line.startswith(" ") and _RAISED.match(line)]
    first = starts[-1] if starts else 0
    raised = _RAISED.match(" ".join(" ".join(lines[first:]).split()))
    if raised is None:
        return f"wanted patches, the process that makes them got: {lines[-1].strip()}"
    if raised["kind"].startswith(f"{__package__.partition('.')[0]}."):
        return raised["text"]
    return f"wanted patches, the process that makes them got: {raised['text'] or raised['kind']}"


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)
