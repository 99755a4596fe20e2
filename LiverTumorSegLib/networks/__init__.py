"""The networks that a recipe can name: `NETWORKS` is a plain dict, one file a network.

To add one, write `networks/<name>.py` with a builder that takes keyword arguments, in_channels=1 and
out_channels=3 among them, and add one line here. torch and MONAI are imported only when a network is built.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import DeviceError, RecipeError
from .csr_unet import build_csr_unet
from .dense_multiscale import build_dense_multiscale
from .dynunet import build_dynunet
from .elanres_msca_unet import build_elanres_msca_unet
from .highresnet import build_highresnet
from .retina_unet import build_retina_unet
from .segresnet import build_segresnet
from .unet import build_unet
from .unet2d import build_unet2d
from .vnet import build_vnet

if TYPE_CHECKING:
    import torch

NETWORKS: dict[str, Callable[..., torch.nn.Module]] = {
    "csr_unet": build_csr_unet,
    "dense_multiscale": build_dense_multiscale,
    "dynunet": build_dynunet,
    "elanres_msca_unet": build_elanres_msca_unet,
    "highresnet": build_highresnet,
    "segresnet": build_segresnet,
    "unet": build_unet,
    "unet2d": build_unet2d,
    "vnet": build_vnet,
}

DETECTORS: dict[str, Callable[..., torch.nn.Module]] = {"retina_unet": build_retina_unet}
"""Networks that give findings besides classes, for stages whose task is "detect"."""


def check_network(name: str, arguments: Mapping[str, Any] | None = None) -> Callable[..., torch.nn.Module]:
    """Make sure that there is such a network with such arguments, without building it.

    Returns:
        Its builder.

    Raises:
        RecipeError: unknown name or unknown argument.
    """
    builders = {**NETWORKS, **DETECTORS}
    if name not in builders:
        raise RecipeError(f"network: wanted one of {', '.join(sorted(builders))}, got {name!r}")
    allowed = list(inspect.signature(builders[name]).parameters)
    for key in arguments or {}:
        if key not in allowed:
            raise RecipeError(f"network {name}: unknown argument {key!r}; allowed: {', '.join(allowed)}")
    return builders[name]


def build_network(name: str, arguments: Mapping[str, Any] | None = None) -> torch.nn.Module:
    """A network with fresh weights, in training mode.

    Args:
        name: a key of `NETWORKS` or `DETECTORS`.
        arguments: keyword arguments of its builder, as they come from JSON; lists become tuples.

    Returns:
        A module that maps (batch, in_channels, k, j, i) to logits (batch, out_channels, k, j, i).

    Raises:
        RecipeError: unknown name, unknown argument, or a value that the network refuses.
        DeviceError: torch or MONAI is not installed.
    """
    builder = check_network(name, arguments)
    given = {key: _tupled(value) for key, value in (arguments or {}).items()}
    try:
        return builder(**given)
    except RecipeError:
        raise
    except ImportError as error:
        raise DeviceError(f"network {name}: wanted torch and monai (pip install torch monai), got: {error}") from error
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, MemoryError, RuntimeError) as error:
        reason = " ".join(str(error).split())  # RuntimeError is all that torch raises
        raise RecipeError(f"network {name}: wanted arguments that build it, got {given}: {reason}") from error


def _tupled(value: Any) -> Any:
    """JSON has only lists, the networks want tuples."""
    return tuple(_tupled(each) for each in value) if isinstance(value, list) else value
