"""In what precision and memory layout a network is trained on a device."""

from __future__ import annotations

import torch


def forward_precision(device: str, bf16: bool) -> torch.autocast:
    """The context of a forward pass: bfloat16 where that is asked for and can be trusted, else float32.

    Not on a CPU: there the gradient of some 3D convolutions in bfloat16 comes out of memory that nobody wrote (torch
    2.13 with oneDNN), now and then as nan and never twice the same. Seen with 128 channels and more, and with 96
    channels on 3 x 3 x 2 voxels; 96 channels on 6 x 6 x 4 were right.
    """
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=bf16 and kind != "cpu")


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
