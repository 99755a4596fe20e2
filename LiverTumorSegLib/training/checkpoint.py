"""The state of an interrupted training run: safetensors and JSON, written whole or not at all."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch.optim.swa_utils import AveragedModel

from ..errors import BundleError, TrainingError, warn
from ..networks.weights import check_weights, write_durably


@dataclass
class Progress:
    """How far a stage has come.

    Attributes:
        epoch: finished epochs.
        best_loss: lowest validation loss so far.
        best_epoch: when it was reached.
        step: finished steps of the epoch that is being done.
        loss: the sum of their training losses, over the team.
        seconds: that they took, in all processes that did some of them.
    """

    epoch: int = 0
    best_loss: float = float("inf")
    best_epoch: int = 0
    step: int = 0
    loss: float = 0.0
    seconds: float = 0.0

    def end_epoch(self, validation_loss: float) -> None:
        """Count an epoch whose steps and validation are done."""
        self.epoch, self.step, self.loss, self.seconds = self.epoch + 1, 0, 0.0, 0.0
        if validation_loss < self.best_loss:
            self.best_loss, self.best_epoch = validation_loss, self.epoch


@dataclass(frozen=True)
class State:
    """What changes while a stage is trained.

    Attributes:
        network: being trained.
        average: of its weights, which is validated and kept.
        optimiser: of the network's parameters.
        progress: how far it is.
    """

    network: torch.nn.Module
    average: AveragedModel
    optimiser: torch.optim.Optimizer
    progress: Progress


def save_checkpoint(path: Path, state: State, plan: dict[str, str]) -> None:
    """Everything that resuming needs, in one file that is there whole even if the computer stops.

    Args:
        path: of the file; an older one stays until the new one is on the disk.
        state: what to keep.
        plan: what the run does, as texts; `load_checkpoint` wants the same again.
    """
    tensors = {f"network.{name}": tensor for name, tensor in state.network.state_dict().items()}
    tensors.update({f"average.{name}": tensor for name, tensor in state.average.state_dict().items()})
    for number, values in state.optimiser.state_dict()["state"].items():
        given = {key: torch.as_tensor(value) for key, value in values.items() if value is not None}
        tensors.update({f"optimiser.{number}.{key}": value for key, value in given.items()})
    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    about = {"progress": json.dumps(asdict(state.progress)), "plan": json.dumps(plan)}
    write_durably(path, save(whole, about))


def load_checkpoint(path: Path, state: State, plan: dict[str, str]) -> None:
    """Put a saved state back into `state`.

    Raises:
        TrainingError: the run in the file is of another plan, or the file is not whole or of another version.
    """
    try:
        check_weights(path)
    except BundleError as error:
        raise TrainingError(f"{error}; delete it to train the stage from its beginning") from None
    with safe_open(path, framework="pt") as file:
        about = file.metadata() or {}
    if not {"plan", "progress"} <= about.keys():
        raise TrainingError(f"{path}: wanted a checkpoint of this version, got {', '.join(about) or 'none'}; delete it")
    _check_plan(path, json.loads(about["plan"]), plan)
    tensors = load_file(path)
    for part, module in (("network.", state.network), ("average.", state.average)):
        module.load_state_dict({n.removeprefix(part): t for n, t in tensors.items() if n.startswith(part)})
    saved: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, number, key = name.split(".")
            saved.setdefault(int(number), {})[key] = tensor
    state.optimiser.load_state_dict({"state": saved, "param_groups": state.optimiser.state_dict()["param_groups"]})
    for key, value in json.loads(about["progress"]).items():
        setattr(state.progress, key, value)


def _check_plan(path: Path, found: dict[str, str], wanted: dict[str, str]) -> None:
    """Refuse another plan; what an older version did not tell is taken to be the same, and said."""
    for key, value in wanted.items():
        if found.get(key, value) != value:
            raise TrainingError(
                f"{path}: wanted to go on with {key} {value}, the run was begun with {found[key]}; "
                "train into another folder"
            )
    if untold := sorted(wanted.keys() - found.keys()):
        values = ", ".join(wanted[key] for key in untold)
        warn(f"{path}: an older version wrote it, which does not tell {', '.join(untold)}: it goes on with {values}")
