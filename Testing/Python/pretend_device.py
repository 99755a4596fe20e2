"""A torch device that is not there: tensors on it compute on the CPU, and refuse those of other devices as a GPU does.

`with pretend_device() as (device, crossings):` gives the name of a second device. Tensors made there stay there; an
operation on tensors of both devices raises, but for single numbers, as CUDA does it. What crosses is counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

# "meta" is the one device whose name torch takes on every computer without asking for a driver.
DEVICE = torch.device("meta")


@dataclass
class Crossings:
    """The numbers of values that went to the device and from it, transfer by transfer."""

    to_device: list[int] = field(default_factory=list)
    to_cpu: list[int] = field(default_factory=list)


class There(torch.Tensor):
    """A tensor that says it is on the device; its values are in `here`."""

    here: torch.Tensor

    @staticmethod
    def __new__(cls, here: torch.Tensor) -> There:
        if here.dtype == torch.float64:
            raise TypeError(f"{DEVICE}: no float64 there, as Apple's GPUs have none")
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            here.shape,
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            device=DEVICE,
        )
        made.here = here
        return made

    def __repr__(self, **_: Any) -> str:
        return f"There({self.here})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError("the mode is over, and a tensor of its device is still in use")


class Chance(torch.Generator):
    """The CPU's generator, under the name of the device that it was asked for."""

    def __new__(cls, device: torch.device | str = "cpu") -> Chance:
        made = super().__new__(cls)
        made.asked_for = torch.device(device)
        return made

    @property
    def device(self) -> torch.device:
        return self.asked_for

    def manual_seed(self, seed: int) -> Chance:
        self.places[seed] = self.asked_for
        return super().manual_seed(seed)

    # By seed: torch hands its operations another Python object for the same generator.
    places: ClassVar[dict[int, torch.device]] = {}


class _Mode(TorchDispatchMode):
    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # to skip it torch opens it, which takes seconds

    def __init__(self, crossings: Crossings) -> None:
        super().__init__()
        self.crossings = crossings

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [each for each in tree_flatten((args, kwargs))[0] if isinstance(each, torch.Tensor)]
        there = [each for each in tensors if isinstance(each, There)]
        here = [each for each in tensors if not isinstance(each, There) and each.dim() > 0]
        name, wanted = func.__name__.split(".")[0], kwargs.get("device")
        if wanted is not None:
            kwargs["device"] = torch.device("cpu")
        chance = kwargs.get("generator")
        place = None if chance is None else Chance.places.get(chance.initial_seed(), torch.device("cpu"))
        if place is not None and place != (wanted or torch.device("cpu")):
            raise RuntimeError(f"{func}: expected a generator on {wanted}, but found one on {place}")
        if name in ("_to_copy", "copy_"):
            return self._copied(func, args, kwargs, wanted)
        if there and here:
            raise RuntimeError(f"{func}: expected all tensors to be on the same device, but found {DEVICE} and cpu")
        result = func(*_here(args), **_here(kwargs))
        if name == "_local_scalar_dense":
            self.crossings.to_cpu += [1] * len(there)
            return result
        if not there and wanted != DEVICE:
            return result
        if args and isinstance(args[0], There) and name.endswith("_") and not name.startswith("_"):
            return args[0]
        return tree_map(lambda each: There(each) if isinstance(each, torch.Tensor) else each, result)

    def _copied(self, func: Any, args: Any, kwargs: Any, wanted: torch.device | None) -> Any:
        """`to` and `copy_`, the operations that may cross."""
        target = args[0].device if func.__name__.startswith("copy_") else wanted or args[0].device
        source = args[1] if func.__name__.startswith("copy_") else args[0]
        if source.device != target:
            (self.crossings.to_device if target == DEVICE else self.crossings.to_cpu).append(source.numel())
        result = func(*_here(args), **_here(kwargs))
        if func.__name__.startswith("copy_"):
            return args[0]
        return There(result) if target == DEVICE else result


def _here(tree: Any) -> Any:
    return tree_map(lambda each: each.here if isinstance(each, There) else each, tree)


@contextmanager
def pretend_device() -> Iterator[tuple[str, Crossings]]:
    """The device's name, and what crosses to and from it."""
    crossings = Crossings()
    with pytest.MonkeyPatch.context() as patch, _Mode(crossings):
        patch.setattr(torch, "Generator", Chance)
        plain = torch.tensor  # makes a tensor on the device without a word to the mode
        patch.setattr(torch, "tensor", lambda data, dtype=None, device="cpu": plain(data, dtype=dtype).to(device))
        yield str(DEVICE), crossings
