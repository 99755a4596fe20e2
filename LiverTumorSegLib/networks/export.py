"""A torch network as an OpenVINO file, so that running it needs neither torch nor MONAI."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_TRACED_SIDE = 32  # voxels; a multiple of every network's downsampling


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


def export_openvino(network: torch.nn.Module, path: Path, in_channels: int = 1) -> None:
    """Write `<path>` (.xml) and its weights (.bin) for inputs (1, in_channels, k, j, i) of any size.

    Weights are stored in float16; normalisations that use stored statistics are folded when the
    file is compiled. The network's mode (training or evaluation) is left as it was.

    Raises:
        ImportError: openvino is not installed.
    """
    openvino = import_openvino()
    import torch

    example = torch.zeros(1, in_channels, *(_TRACED_SIDE,) * 3)
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)  # OpenVINO's converter calls it
            warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]
            shape = openvino.PartialShape([1, in_channels, -1, -1, -1])
            model = openvino.convert_model(network, example_input=example, input=[shape])
    finally:
        network.train(was_training)
    openvino.save_model(model, path, compress_to_fp16=True)
