"""What a network begins its training with: weights of a bundle or of the stage before, where they fit."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from safetensors.torch import load_file

from ..errors import BundleError
from ..networks.weights import check_weights

log = logging.getLogger(__name__)


def load_fitting_weights(network: torch.nn.Module, path: Path) -> int:
    """Fill those of a network's tensors that `path` has with the same name and shape; the others stay as they are.

    Returns:
        How many were filled.

    Raises:
        BundleError: there is no such file, or it is none of weights.
    """
    if not path.is_file():
        raise BundleError(f"{path}: wanted weights to begin with, there is no such file")
    wanted = network.state_dict()
    check_weights(path)
    fitting = {
        n: t.to(wanted[n].dtype) for n, t in load_file(path).items() if n in wanted and t.shape == wanted[n].shape
    }
    network.load_state_dict({**wanted, **fitting})
    log.info("%d of %d tensors begin from %s", len(fitting), len(wanted), path.name)
    return len(fitting)
