"""Networks ready to run, behind one interface: OpenVINO on a CPU, torch on a GPU."""

from __future__ import annotations

import functools
import os
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from xml.etree import ElementTree

import numpy as np

from ..errors import BundleError, DeviceError
from ..recipe import Stage
from . import build_network, check_network
from .constants import read_constants
from .devices import available_cores
from .export import import_openvino, prepare_for_inference
from .weights import load_weights

if TYPE_CHECKING:
    import torch

_COMPILED_SHAPES = 2  # each compiled shape keeps its own working memory
# The last is a thread that finds no room for its stack.
_NO_MEMORY = (
    *("failed to allocate", "can't alloc", "cannot allocate", "bad_alloc", "bad allocation"),
    *("out of memory", "out_of_memory", "resource temporarily unavailable"),
)


class Engine(Protocol):
    """One network, ready to run.

    Attributes:
        name: "openvino" or "torch".
        device: "cpu", "cuda:0", "mps".
        precision: "f32", "bf16" or "f16": what it computes in; input and output are float32.
    """

    name: str
    device: str
    precision: str

    def __call__(self, array: np.ndarray) -> np.ndarray:
        """Logits (1, classes, k, j, i) of an input (1, channels, k, j, i), both float32; the caller may change them.

        Raises:
            MemoryError: the device has not enough memory for an input of this size.
        """
        ...

    def get_ready(self, shape: tuple[int, ...]) -> None:
        """Prepare in the background for inputs of a shape, as far as that is any use; returns at once."""
        ...

    def move_to_cpu(self) -> None:
        """Go on without the GPU; nothing happens where there is none."""
        ...


class OpenVINOEngine:
    """OpenVINO on the CPU; each new input size is compiled once, in some tenths of a second."""

    name = "openvino"
    device = "cpu"

    def __init__(self, path: Path, stage: Stage, precision: str = "auto") -> None:
        openvino = import_openvino()
        self._core = openvino.Core()
        native = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.precision = "f32" if precision == "auto" else precision
        if self.precision.upper() not in {*native, "F32"}:
            capable = ", ".join(each.lower() for each in native if each in ("BF16", "FP16"))
            raise DeviceError(f"precision: wanted {precision}, got a CPU that computes in f32 {capable}".rstrip())
        layers = path.read_bytes() if self.precision == "f32" else _with_exact_ends(path)
        self._model = self._core.read_model(layers, read_constants(path))
        self._requests: OrderedDict[tuple[int, ...], Any] = OrderedDict()
        self._coming: dict[tuple[int, ...], Future[Any]] = {}
        self._check(path, stage)

    def __call__(self, array: np.ndarray) -> np.ndarray:
        """See `Engine`."""
        array = np.ascontiguousarray(array, np.float32)
        try:
            return np.asarray(self._request(array.shape).infer({0: array}, share_inputs=True)[0])
        except (MemoryError, RuntimeError) as error:
            if not _lacks_memory(error):
                raise
            self._requests.clear()  # they hold the memory that a smaller input needs
            self._coming.clear()
            raise MemoryError(f"{self.device}: not enough memory for {array.shape}") from error

    def get_ready(self, shape: tuple[int, ...]) -> None:
        """Compile an input size in another thread; see `Engine`."""
        if shape not in self._requests and shape not in self._coming:
            thread = ThreadPoolExecutor(1, "compile")
            self._coming[shape] = thread.submit(self._compile, shape)
            thread.shutdown(wait=False)  # it ends with its work

    def move_to_cpu(self) -> None:
        """It is there already."""

    def _request(self, shape: tuple[int, ...]) -> Any:
        if shape not in self._requests:
            while len(self._requests) >= _COMPILED_SHAPES:
                self._requests.popitem(last=False)
            coming = self._coming.pop(shape, None)
            self._coming.clear()  # what was expected and did not come would hold memory in vain
            self._requests[shape] = coming.result() if coming else self._compile(shape)
        self._requests.move_to_end(shape)
        return self._requests[shape]

    def _compile(self, shape: tuple[int, ...]) -> Any:
        # A fixed shape runs its first input 1.3 to 1.5 times faster than a dynamic one and compiles as fast.
        model = self._model.clone()  # another thread may be at work on another shape
        model.reshape(list(shape))
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": self.precision, "PERFORMANCE_HINT": "LATENCY"}
        if (threads := available_cores()) < (os.cpu_count() or 1):
            settings["INFERENCE_NUM_THREADS"] = threads
        return self._core.compile_model(model, "CPU", settings).create_infer_request()

    def _check(self, path: Path, stage: Stage) -> None:
        check_network(stage.network, stage.arguments)  # else a file would run whatever the recipe calls it
        wanted = stage.arguments.get("in_channels", 1), stage.arguments.get("out_channels", 3)
        ports = [self._model.inputs, self._model.outputs]
        shapes = [[port.get_partial_shape() for port in each] for each in ports]
        if any(len(each) != 1 or len(each[0]) != 5 for each in shapes):
            raise BundleError(f"{path}: wanted one input and one output with 5 dimensions, got {shapes}")
        found = tuple(each[0][1].get_length() for each in shapes)
        if found != wanted:
            raise BundleError(f"{path}: wanted {wanted} channels in and out, as stage {stage.name} says, got {found}")


def _lacks_memory(error: Exception) -> bool:
    """Whether that is what an error says; OpenVINO and torch have no type of their own for it on every device."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in _NO_MEMORY)


def _with_exact_ends(path: Path) -> bytes:
    """An OpenVINO file in which the first and the last convolutions stay in float32 whatever the precision.

    They round the grey values and the logits, which is half of what bf16 changes, and are a small part of the work. A
    shortcut's convolution, whose output is added to another one's, is left out: for some sums of a float32 and a
    bf16 convolution OpenVINO has no kernel and fails when it compiles them.
    """
    tree = ElementTree.parse(path).getroot()
    layers = {layer.get("id"): layer for layer in tree.iter("layer")}
    kinds = {number: layer.get("type", "") for number, layer in layers.items()}
    targets: dict[str | None, list[str | None]] = {number: [] for number in layers}
    for edge in tree.iter("edge"):
        if edge.get("to-port") == "0" or "Convolution" not in kinds[edge.get("to-layer")]:  # 1 is the weights
            targets[edge.get("from-layer")].append(edge.get("to-layer"))

    def next_convolutions(number: str | None) -> set[str | None]:
        found: set[str | None] = set()
        seen: set[str | None] = set()
        waiting = [number]
        while waiting:
            for target in set(targets[waiting.pop()]) - seen:
                seen.add(target)
                (found.add if "Convolution" in kinds[target] else waiting.append)(target)
        return found

    def is_shortcut(number: str | None) -> bool:
        biased = [target for target in targets[number] if kinds[target] == "Add"]
        return any(kinds[target] == "Add" for each in biased for target in targets[each])

    (first,) = (number for number, kind in kinds.items() if kind == "Parameter")
    ends = {number for number in next_convolutions(first) if not is_shortcut(number)}
    ends |= {number for number, kind in kinds.items() if "Convolution" in kind and not next_convolutions(number)}
    for number in ends:
        notes = layers[number].find("rt_info")
        if notes is None:
            notes = ElementTree.Element("rt_info")
            layers[number].insert(1, notes)
        ElementTree.SubElement(notes, "attribute", {"name": "precise", "version": "0"})
    return ElementTree.tostring(tree)


def _let_single_voxels_pass(network: torch.nn.Module) -> None:
    """Let instance normalisation make 0 of the one voxel that the lowest level of a tiny input has, as OpenVINO does.

    torch computes that, too; only its Python function refuses.
    """
    import torch

    def normalised(norm: Any, tensor: torch.Tensor) -> torch.Tensor:
        own = not norm.track_running_stats
        return torch.instance_norm(
            tensor, norm.weight, norm.bias, norm.running_mean, norm.running_var, own, 0.0, norm.eps, False
        )

    for module in network.modules():
        if isinstance(module, torch.nn.InstanceNorm2d | torch.nn.InstanceNorm3d):
            module.forward = functools.partial(normalised, module)  # type: ignore[method-assign]


class TorchEngine:
    """torch, on a GPU or where there is no OpenVINO."""

    name = "torch"

    def __init__(self, weights: Path, stage: Stage, device: str = "cpu", precision: str = "auto") -> None:
        try:
            import torch
        except ImportError as error:
            raise DeviceError(
                f"engine: wanted torch for {device}, which is not installed (pip install torch)"
            ) from error
        self._network = build_network(stage.network, stage.arguments).requires_grad_(False)
        load_weights(self._network, weights)
        prepare_for_inference(self._network)
        _let_single_voxels_pass(self._network)
        # torch's GroupNorm on a CPU is off by 1 % in channels-last on large volumes.
        grouped = any(isinstance(module, torch.nn.GroupNorm) for module in self._network.modules())
        self._layout = torch.contiguous_format if grouped else torch.channels_last_3d
        self._asked = precision
        self._move(device)

    def __call__(self, array: np.ndarray) -> np.ndarray:
        """See `Engine`."""
        import torch

        kind = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[self.precision]
        family = self.device.partition(":")[0]
        try:
            tensor = torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(self.device)
            tensor = tensor.contiguous(memory_format=self._layout)
            with torch.inference_mode(), torch.autocast(family, kind, enabled=kind is not torch.float32):
                logits = self._network(tensor)
            return np.asarray(logits.float().contiguous().cpu().numpy())
        except RuntimeError as error:
            if not _lacks_memory(error):
                raise
            torch.cuda.empty_cache()
            raise MemoryError(f"{self.device}: not enough memory for {array.shape}") from error

    def get_ready(self, shape: tuple[int, ...]) -> None:
        """It takes any shape as it comes."""

    def move_to_cpu(self) -> None:
        """Run in float32 on the CPU from now on."""
        self._asked = "auto"
        self._move("cpu")

    def _move(self, device: str) -> None:
        import torch

        self.device = device
        self.precision = "f32" if self._asked == "auto" else self._asked
        if device == "cpu" and available_cores() < torch.get_num_threads():
            torch.set_num_threads(available_cores())
        try:
            self._network.to(device)
            for parameter in self._network.parameters():
                if parameter.dim() == 5:  # convolutions of single slices stay as they are
                    parameter.data = parameter.data.contiguous(memory_format=self._layout)
        except RuntimeError as error:
            if not _lacks_memory(error):
                raise
            raise MemoryError(f"{device}: not enough memory for the network") from error
