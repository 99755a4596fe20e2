"""In what precision and memory layout a network is trained on a device."""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Callable, Iterable

import torch

from ..errors import TrainingError
from ..recipe import Training

Gradients = dict[str, torch.Tensor]

_REPEATS = 3  # where memory that nobody wrote went into a gradient, the second was another, the third had nan in it
# Of convolutions, relative to their norm. The default networks: 5 to 6 % in the median, 8 to 19 % at the most. A
# gradient that is zero in the place of what it should be is 100 % off.
_MEDIAN_OFF, _MOST_OFF = 0.10, 0.50
_DROPOUT = (torch.nn.Dropout, torch.nn.Dropout2d, torch.nn.Dropout3d)


def forward_precision(device: str, bf16: bool, on_cpu: bool = False) -> torch.autocast:
    """The context of a forward pass: bfloat16 where that is asked for and can be trusted, else float32.

    Not on a CPU: there the gradient of some 3D convolutions in bfloat16 comes out of memory that nobody wrote (torch
    2.13 with oneDNN), now and then as nan and never twice the same. Seen with 128 channels and more, and with 96
    channels on 3 x 3 x 2 voxels; 96 channels on 6 x 6 x 4 were right. `on_cpu` says that `prove_bf16` found the
    gradients of the network at hand right.
    """
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=bf16 and (kind != "cpu" or on_cpu))


def check_bf16_on_cpu(device: str, trainings: Iterable[Training]) -> None:
    """Refuse bfloat16 on a CPU where nothing would be computed in it.

    Raises:
        TrainingError: the device is none, or no stage that is trained wants bfloat16.
    """
    if torch.device(device).type != "cpu":
        raise TrainingError(f"--bf16-on-cpu: wanted it with a CPU, got {device}")
    if not any(training.bf16 for training in trainings):
        raise TrainingError("--bf16-on-cpu: wanted it with a recipe's bf16, got bf16 false in all stages to be trained")


def prove_bf16(
    network: torch.nn.Module,
    exact: Callable[[torch.nn.Module], torch.Tensor],
    rounded: Callable[[torch.nn.Module], torch.Tensor],
) -> float:
    """Make sure that a network's gradients in bfloat16 are right on this computer: near float32's, every time the same.

    Args:
        network: as it is trained from here on; it stays as it is.
        exact: the loss of a batch in float32, for a copy of the network in training mode without dropout.
        rounded: the same loss with forward passes in bfloat16.

    Returns:
        How far its convolutions' gradients are from float32's: the median, relative to their norm.

    Raises:
        TrainingError: they are not right.
    """
    tried = copy.deepcopy(network).train()
    for module in tried.modules():
        if isinstance(module, _DROPOUT):  # what it drops may depend on the precision
            module.eval()
    wanted = _gradients(tried, exact)
    found = [_gradients(tried, rounded) for _ in range(_REPEATS)]
    for each in found:
        if bad := [name for name, tensor in each.items() if not bool(torch.isfinite(tensor).all())]:
            raise _refusal("finite gradients", f"others in {len(bad)} of {len(each)} tensors, {bad[0]} for one")
        if bad := [name for name, tensor in each.items() if not torch.equal(tensor, found[0][name])]:
            raise _refusal("the same gradients every time", f"others in {len(bad)} tensors, {bad[0]} for one")
    # Biases before a normalisation have a gradient of 0 but for rounding errors.
    kernels = {name: tensor for name, tensor in wanted.items() if tensor.dim() > 1 and float(tensor.norm()) > 0}
    off = {name: float((found[0][name] - tensor).norm() / tensor.norm()) for name, tensor in kernels.items()}
    median = statistics.median(off.values()) if off else math.nan
    if not median < _MEDIAN_OFF:
        raise _refusal(f"gradients within {_MEDIAN_OFF:.0%} of float32's in the median", f"{median:.1%}")
    if not off[most := max(off, key=off.__getitem__)] < _MOST_OFF:
        raise _refusal(f"all gradients within {_MOST_OFF:.0%} of float32's", f"{off[most]:.1%} in {most}")
    return median


def _gradients(network: torch.nn.Module, loss: Callable[[torch.nn.Module], torch.Tensor]) -> Gradients:
    """Of all parameters that take part in the loss; the same chance every time."""
    network.zero_grad(set_to_none=True)
    torch.manual_seed(0)
    loss(network).backward()
    return {name: each.grad.clone() for name, each in network.named_parameters() if each.grad is not None}


def _refusal(wanted: str, got: str) -> TrainingError:
    return TrainingError(f"bf16 on this CPU: wanted {wanted}, got {got}; train without --bf16-on-cpu")


def laid_out(network: torch.nn.Module, device: str) -> torch.nn.Module:
    """The network on a device; on CUDA the weights of 3D convolutions have their channels last, for tensor cores.

    On a CPU that layout is faster for some networks and slower for others.
    """
    network.to(device)
    if memory_layout(device) is torch.channels_last_3d:
        for parameter in network.parameters():
            if parameter.dim() == 5:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    return network


def memory_layout(device: str) -> torch.memory_format:
    """Of volumes on that device."""
    return torch.channels_last_3d if torch.device(device).type == "cuda" else torch.contiguous_format
