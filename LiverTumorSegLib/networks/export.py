"""A torch network as an OpenVINO file, so that running it needs neither torch nor MONAI."""

from __future__ import annotations

import copy
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_TRACED_SIDE = 32  # voxels, at least; a multiple of most networks' downsampling


def import_openvino() -> Any:
    """The openvino module, without its telemetry: it would report each import to a server.

    Raises:
        ImportError: it is not installed.
    """
    if "openvino" not in sys.modules:
        # None makes `import openvino_telemetry` fail, and openvino then takes its own empty stand-in.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def prepare_for_inference(network: torch.nn.Module) -> torch.nn.Module:
    """Put a network into evaluation mode and fold what only training needs, in place.

    A module that can be re-parameterised has a method `fuse()`, which does it in place and nothing when it is called
    again; the network's outputs stay the same to rounding, its tensors do not fit its weights' file any more.

    Returns:
        The network itself.
    """
    network.eval()
    for module in list(network.modules()):
        fuse = getattr(type(module), "fuse", None)  # of the class: a submodule may have that name, too
        if callable(fuse):
            fuse(module)
    return network


def export_openvino(network: torch.nn.Module, path: Path, in_channels: int = 1, multiple: int = 1) -> None:
    """Write `<path>` (.xml) and its weights (.bin) for inputs (1, in_channels, k, j, i) of any size.

    Weights are stored in float16; normalisations that use stored statistics are folded when the
    file is compiled, re-parameterised branches before. The network itself is left as it was.

    Args:
        network: any of `NETWORKS`.
        path: of the .xml file.
        in_channels: of the network.
        multiple: whole number of voxels that each side of an input must be a multiple of.

    Raises:
        ImportError: openvino is not installed.
    """
    openvino = import_openvino()
    import torch

    side = max(_TRACED_SIDE, multiple)
    longest = max(side, 2 * multiple)  # instance normalisation wants more than one voxel at the lowest level
    example = torch.zeros(1, in_channels, longest, side, side)
    prepared = prepare_for_inference(copy.deepcopy(network))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)  # OpenVINO's converter calls it
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]
        shape = openvino.PartialShape([1, in_channels, -1, -1, -1])
        model = openvino.convert_model(prepared, example_input=example, input=[shape])
    openvino.save_model(model, path, compress_to_fp16=True)
