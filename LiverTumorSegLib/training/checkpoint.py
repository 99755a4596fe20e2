"""The state of an interrupted training run: safetensors and JSON, written whole or not at all."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file


@dataclass
class Progress:
    """How far a stage has come.

    Attributes:
        epoch: finished epochs.
        best_loss: lowest validation loss so far.
        best_epoch: when it was reached.
    """

    epoch: int = 0
    best_loss: float = float("inf")
    best_epoch: int = 0


def save_checkpoint(
    path: Path,
    network: torch.nn.Module,
    average: torch.nn.Module,
    optimiser: torch.optim.Adam,
    progress: Progress,
) -> None:
    """Everything that resuming needs, in one file."""
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    tensors.update({f"average.{name}": tensor for name, tensor in average.state_dict().items()})
    for number, state in optimiser.state_dict()["state"].items():
        tensors.update({f"optimiser.{number}.{key}": torch.as_tensor(value) for key, value in state.items()})
    whole = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
    aside = path.with_suffix(".partial")
    save_file(whole, aside, {"progress": json.dumps(asdict(progress))})
    os.replace(aside, path)


def load_checkpoint(
    path: Path, network: torch.nn.Module, average: torch.nn.Module, optimiser: torch.optim.Adam
) -> Progress:
    """Put a saved state back into `network`, its `average` and `optimiser`."""
    tensors = load_file(path)
    for part, module in (("network.", network), ("average.", average)):
        module.load_state_dict({n.removeprefix(part): t for n, t in tensors.items() if n.startswith(part)})
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, number, key = name.split(".")
            state.setdefault(int(number), {})[key] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    with safe_open(path, framework="pt") as file:
        return Progress(**json.loads(file.metadata()["progress"]))
