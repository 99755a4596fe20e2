"""What this computer can compute on. torch is imported only where a GPU's driver is installed."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from ..errors import DeviceError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Device:
    """Something to compute on.

    Attributes:
        device: what `resolve_device` takes: "cpu", "cuda:0", "mps".
        name: what its maker calls it.
        free_mb, total_mb: its own memory in MB (10^6 bytes), or None where that is the computer's or is not told.
    """

    device: str
    name: str
    free_mb: float | None = None
    total_mb: float | None = None


def resolve_device(device: str = "auto") -> str:
    """The device to use: "cpu", "cuda:<n>" or "mps".

    Args:
        device: "auto" (an NVIDIA GPU where there is one, else the CPU), "cpu", "cuda", "cuda:<n>" or
            "mps". torch is imported only where there is a GPU's driver.

    Raises:
        DeviceError: that device is not on this computer.
    """
    if device == "cpu" or (device == "auto" and not _has_nvidia_driver()):
        return "cpu"
    if device == "mps":
        return _resolve_mps()
    if not re.fullmatch(r"auto|cuda(:\d+)?", device):
        raise DeviceError(f"device: wanted auto, cpu, cuda, cuda:<number> or mps, got {device!r}")
    found = _count_cuda() if _has_nvidia_driver() else 0
    if device == "auto":
        return "cuda:0" if found else "cpu"
    number = int(device.partition(":")[2] or 0)
    if number >= found:
        raise DeviceError(f"device: wanted {device}, got {found} CUDA devices that torch can use on this computer")
    return f"cuda:{number}"


def list_devices() -> list[Device]:
    """What `resolve_device` would accept, the fastest first; torch is imported only where there is a GPU.

    Asking a CUDA device for its free memory takes a few hundred MB of it for as long as this process lives.
    """
    found = [_cuda_device(number) for number in range(_count_cuda() if _has_nvidia_driver() else 0)]
    with contextlib.suppress(DeviceError):
        found.append(Device(_resolve_mps(), "Apple GPU"))
    return [*found, Device("cpu", f"{available_cores()} cores")]


def available_cores() -> int:
    """How many CPU cores this process may keep busy, by its affinity, its container's quota and OMP_NUM_THREADS."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # no such file outside Linux containers; "max" where unlimited
        quota, period = map(int, Path("/sys/fs/cgroup/cpu.max").read_text().split())
        cores = min(cores, math.ceil(quota / period))
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(cores, int(asked)) if asked.isdecimal() else cores)


def _has_nvidia_driver() -> bool:
    """Whether an NVIDIA GPU may be there: asks the file system, which is cheap, not torch."""
    if sys.platform == "win32":
        return (Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32" / "nvcuda.dll").is_file()
    return Path("/proc/driver/nvidia").exists() or Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()


def _count_cuda() -> int:
    try:
        import torch
    except ImportError:
        log.info("there is an NVIDIA driver, but torch is not installed")
        return 0
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _cuda_device(number: int) -> Device:
    import torch

    device, name = f"cuda:{number}", torch.cuda.get_device_name(number)
    try:
        free, total = torch.cuda.mem_get_info(number)
    except RuntimeError as error:  # full to the brim, or another program has it for itself
        log.info("%s does not tell its free memory: %s", device, error)
        return Device(device, name)
    return Device(device, name, round(free / 1e6), round(total / 1e6))


def _resolve_mps() -> str:
    if sys.platform == "darwin" and platform.machine() == "arm64":
        with contextlib.suppress(ImportError):
            import torch

            if torch.backends.mps.is_available():
                return "mps"
    raise DeviceError("device: wanted mps, got a computer without an Apple GPU that torch can use")
