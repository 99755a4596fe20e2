"""The list of what can be computed on, with a stand-in of torch where a GPU is wanted."""

from __future__ import annotations

import subprocess
import sys
import types

import pytest

from LiverTumorSegLib.networks import devices
from LiverTumorSegLib.networks.devices import Device, list_devices


@pytest.fixture
def two_gpus(monkeypatch) -> None:
    """A driver, and a torch that sees a free GPU and one that another program has for itself."""

    def mem_get_info(number: int) -> tuple[int, int]:
        if number:
            raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable")
        return 6_250_000_000, 8_000_000_000

    cuda = types.SimpleNamespace(
        device_count=lambda: 2,
        is_available=lambda: True,
        get_device_name=lambda number: f"Card {number}",
        mem_get_info=mem_get_info,
    )
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(cuda=cuda))
    monkeypatch.setattr(devices, "_has_nvidia_driver", lambda: True)


def test_gpus_come_first_with_their_memory_where_they_tell_it(two_gpus):
    first, second, last = list_devices()
    assert first == Device("cuda:0", "Card 0", free_mb=6250, total_mb=8000)
    assert second == Device("cuda:1", "Card 1", None, None)
    assert last.device == "cpu"


def test_every_listed_device_can_be_asked_for(two_gpus):
    assert [devices.resolve_device(each.device) for each in list_devices()] == ["cuda:0", "cuda:1", "cpu"]


def test_without_a_driver_there_is_the_cpu_and_torch_is_not_imported():
    program = (
        "import sys\n"
        "from LiverTumorSegLib.networks import devices\n"
        "devices._has_nvidia_driver = lambda: False\n"
        "devices.sys.platform = 'linux'\n"
        "print([each.device for each in devices.list_devices()], 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['cpu'] False"


def test_a_driver_without_torch_leaves_the_cpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(devices, "_has_nvidia_driver", lambda: True)
    monkeypatch.setattr(devices.sys, "platform", "linux")
    assert [each.device for each in list_devices()] == ["cpu"]


@pytest.mark.parametrize(("asked", "cores"), [("1", 1), ("3", 3), ("64", 8), ("0", 1), ("many", 8), ("", 8)])
def test_a_process_that_was_given_fewer_threads_keeps_to_them(
    asked: str, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices.os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(devices.Path, "read_text", lambda path: "max 100000")
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert devices.available_cores() == cores
