"""One process or several that train the same network, as `torchrun` starts them.

`torchrun --nproc-per-node N -m LiverTumorSegLib train ...` gives every process N, its own number and a meeting place
in the environment. Each takes its own patches of every step, and gradients are averaged (DistributedDataParallel), so
that N processes with batches of B do what one does with N * B. Losses that are summed over the batch, and BatchNorm's
statistics, see a process's own B patches; prefer InstanceNorm, as the recipes here do. Only the first process writes,
except for a batch whose loss is not finite, which its own process leaves.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

Made = TypeVar("Made")

_PATIENCE = timedelta(hours=12)  # the others wait while the first process prepares all cases; torch's is 10 minutes


@dataclass(frozen=True)
class Team:
    """The processes that train together.

    Attributes:
        number: of this process, from 0.
        size: how many there are.
    """

    number: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.number == 0

    def share(self, count: int, batch: int = 1) -> list[int]:
        """Which of `count` patches are this process's, where a step takes `batch` patches for each process."""
        return [n for n in range(count) if n // batch % self.size == self.number]

    def wrapped(self, network: torch.nn.Module) -> torch.nn.Module:
        """The network, averaging its gradients over the team; alone, the network itself."""
        if self.size == 1:
            return network
        # Heads without a part in the loss have no gradient; a graph that stays the same may have such.
        return DistributedDataParallel(network, static_graph=True)

    def summed(self, numbers: torch.Tensor) -> torch.Tensor:
        """The sum of everybody's float64 numbers."""
        if self.size == 1:
            return numbers
        device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        total = numbers.to(device, copy=True)
        distributed.all_reduce(total)
        return total.cpu()

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            distributed.barrier()

    def leader_first(self, make: Callable[[], Made]) -> Made:
        """What everybody makes, after the first process has: it may leave files for the others."""
        made = make() if self.leads else None
        self.wait()
        return make() if made is None else made


@contextmanager
def joined_team(device: str) -> Iterator[tuple[Team, str]]:
    """Meet the other processes that `torchrun` started, if it did.

    Args:
        device: what was asked for; with CUDA and several processes each takes the GPU of its number on its computer.

    Yields:
        The team, and this process's device.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Team(), device
        return
    cuda = torch.device(device).type == "cuda"
    if cuda:
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if cuda else "gloo", timeout=_PATIENCE)
    try:
        yield Team(distributed.get_rank(), size), device
    finally:
        distributed.destroy_process_group()


def is_in_team() -> bool:
    """Whether `torchrun` started this process together with others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_follower() -> bool:
    """Whether `torchrun` started this process, and not as the first: it should keep quiet."""
    return is_in_team() and int(os.environ.get("RANK", "0")) > 0
