"""A network's weights as a safetensors file: numbers only, nothing in it can run."""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BundleError, OutputError

if TYPE_CHECKING:
    import torch

_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_MAX_HEADER = 100_000_000  # the format's own limit


def save_weights(network: torch.nn.Module, path: Path, half: bool = True) -> None:
    """Write a network's parameters and buffers, all or nothing.

    Args:
        network: any module; tensors that share memory are written once each.
        path: the `.safetensors` file; its folder must exist.
        half: store floating-point tensors as float16, which halves the file.

    Raises:
        BundleError: a tensor is not finite (in float16, where that was asked for).
    """
    import torch
    from safetensors.torch import save

    tensors = {}
    for name, tensor in network.state_dict().items():
        kind = torch.float16 if half and tensor.is_floating_point() else tensor.dtype
        tensors[name] = tensor.detach().to("cpu", kind).clone(memory_format=torch.contiguous_format)
        if tensor.is_floating_point() and not bool(torch.isfinite(tensors[name]).all()):
            raise BundleError(f"{path}: wanted finite numbers in {kind}, tensor {name} has others")
    write_durably(path, save(tensors))


def write_durably(path: Path, content: bytes) -> None:
    """Replace a file by new content that is on the disk before the old one goes.

    Raises:
        OutputError: it cannot be written; the old file is still there.
    """
    aside = path.with_name(path.name + ".partial")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
        if os.name == "posix":  # elsewhere a folder cannot be opened
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise OutputError(f"{path}: wanted to write it, got: {error.strerror}") from error


def load_weights(network: torch.nn.Module, path: Path) -> None:
    """Fill a network from a safetensors file; numbers are widened to the network's own type.

    Raises:
        BundleError: the file does not hold exactly the network's tensors with their shapes.
    """
    from safetensors.torch import load_file

    check_weights(path)
    found, wanted = load_file(path), network.state_dict()
    _check_fit(path, {n: tuple(t.shape) for n, t in wanted.items()}, {n: tuple(t.shape) for n, t in found.items()})
    network.load_state_dict({name: tensor.to(wanted[name].dtype) for name, tensor in found.items()})


def check_weights(path: Path) -> dict[str, tuple[int, ...]]:
    """Check that a safetensors file is whole, by its header alone.

    Returns:
        Tensor name -> shape.

    Raises:
        BundleError: not a safetensors file, or shorter or longer than its header says.
    """
    return {name: tuple(int(n) for n in each["shape"]) for name, each in _checked_header(path)[1].items()}


def tensor_places(path: Path) -> list[tuple[int, int]]:
    """Where each tensor's bytes begin and end in a safetensors file, counted from the file's beginning.

    Raises:
        BundleError: as `check_weights`.
    """
    first, header = _checked_header(path)
    return [(first + each["data_offsets"][0], first + each["data_offsets"][1]) for each in header.values()]


def _checked_header(path: Path) -> tuple[int, dict[str, dict[str, Any]]]:
    """Where the tensors begin, and what is said of each."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
            text = file.read(length) if length <= _MAX_HEADER else b""
    except OSError as error:
        raise BundleError(f"{path}: wanted a safetensors file, it cannot be read: {error.strerror}") from error
    size = path.stat().st_size - 8 - length
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        ends = [_end(each) for each in header.values()]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(f"{path}: wanted a safetensors file, its header cannot be read") from error
    if not ends or max(ends) != size:
        raise BundleError(f"{path}: wanted {max(ends, default=0)} bytes of tensors, got {size}")
    return 8 + length, header


def _end(entry: dict[str, Any]) -> int:
    """Where a tensor's bytes end; they must be as many as its shape needs."""
    begin, end = entry["data_offsets"]
    needed = _BYTES[entry["dtype"]] * math.prod(entry["shape"])
    if end - begin != needed or begin < 0:
        raise ValueError("a tensor's length does not fit its shape")
    return int(end)


def _check_fit(path: Path, wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> None:
    for name in wanted:
        if name not in found:
            raise BundleError(f"{path}: wanted tensor {name} {wanted[name]}, it is missing")
        if wanted[name] != found[name]:
            raise BundleError(f"{path}: tensor {name}: wanted shape {wanted[name]}, got {found[name]}")
    for name in found:
        if name not in wanted:
            raise BundleError(f"{path}: tensor {name} {found[name]} has no place in the network")
