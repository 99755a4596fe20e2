"""What several test files share: the repository, the real cases, and scans made of ellipsoids."""

from __future__ import annotations

import ctypes
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest
import SimpleITK as sitk

from panel_fixtures import panel, two_lesions  # noqa: F401  (fixtures of the panel's tests)
from slicer_host.fixtures import scene, slicer_app, slicer_started  # noqa: F401  (fixtures of all tests)

if TYPE_CHECKING:
    from LiverTumorSegLib import Bundle
    from LiverTumorSegLib.recipe import Phase

REPOSITORY = Path(__file__).resolve().parents[2]

# Columns are the directions of i, j, k in LPS: a turn of 20 degrees about x, then of 30 degrees about z.
_COS_X, _SIN_X, _COS_Z, _SIN_Z = (f(math.radians(a)) for a in (20, 30) for f in (math.cos, math.sin))
OBLIQUE = (
    *(_COS_Z, -_SIN_Z * _COS_X, _SIN_Z * _SIN_X),
    *(_SIN_Z, _COS_Z * _COS_X, -_COS_Z * _SIN_X),
    *(0.0, _SIN_X, _COS_X),
)

EllipsoidScan = Callable[..., tuple[sitk.Image, sitk.Image]]


class _SignalStack(ctypes.Structure):
    """stack_t of signal.h on Linux."""

    _fields_ = (("place", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@pytest.fixture(autouse=True)
def _signals_on_the_plain_stack() -> None:
    """Take away the alternate stack for signals, on which Python runs its handlers.

    Some library that the tests open leaves one that is gone; the death of a child, which torch's loaders listen to,
    then ended the whole run with a segmentation fault.
    """
    if sys.platform == "linux":
        disabled = _SignalStack(None, 2, 0)
        ctypes.CDLL(None).sigaltstack(ctypes.byref(disabled), None)
    if loaders := sys.modules.get("torch.utils.data._utils.signal_handling"):
        loaders._SIGCHLD_handler_set = True  # type: ignore[attr-defined]  # they look every few seconds all the same


@pytest.fixture(scope="session")
def repository() -> Path:
    """Return the root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real cases; they are for evaluation only and never part of the project."""
    folder = Path(os.environ.get("LTS_DATA") or REPOSITORY.parent / "shared" / "data")
    if not (folder / "README.md").is_file():
        pytest.skip(f"needs the real cases: set LTS_DATA to their folder (no README.md in {folder})")
    return folder


@pytest.fixture(scope="session")
def oblique() -> tuple[float, ...]:
    """Return a right-handed direction matrix (row-major, LPS) with no axis along the patient's."""
    return OBLIQUE


@pytest.fixture(scope="session")
def ellipsoid_scan() -> EllipsoidScan:
    """Return `draw_ellipsoids`."""
    return draw_ellipsoids


def draw_ellipsoids(
    size: Sequence[int] = (48, 40, 24),
    spacing_mm: Sequence[float] = (3.0, 3.0, 5.0),
    direction: Sequence[float] = (1, 0, 0, 0, 1, 0, 0, 0, 1),
    lesions: Sequence[tuple[Sequence[float], float]] = (((0.0, 0.0, 0.0), 12.0),),
    noise_hu: float = 0.0,
) -> tuple[sitk.Image, sitk.Image]:
    """Draw a body of fat with an ellipsoid liver and round lesions in it, like a portal-venous CT.

    The liver's semi-axes are 0.3 of the field of view along each axis. The origin is (-50, 20, 7) mm.

    Args:
        size: voxels along (i, j, k).
        spacing_mm: edges of a voxel along (i, j, k).
        direction: row-major direction matrix, LPS.
        lesions: for each lesion, its centre in mm from the liver's along the axes (i, j, k), and its radius in mm.
        noise_hu: standard deviation of the noise, always the same for one size.

    Returns:
        The scan in HU (int16: air -1000, fat -100, liver 110, tumour 60), and its labels 0/1/2 (uint8).
    """
    extent = np.array(size) * np.array(spacing_mm)
    axes = [(np.arange(n) + 0.5) * s - e / 2 for n, s, e in zip(size, spacing_mm, extent, strict=True)]
    z, y, x = np.meshgrid(*axes[::-1], indexing="ij")
    radius = np.sqrt((x / extent[0]) ** 2 + (y / extent[1]) ** 2 + (z / extent[2]) ** 2)
    labels = (radius <= 0.3).astype(np.uint8)
    for (dx, dy, dz), radius_mm in lesions:
        labels[((x - dx) ** 2 + (y - dy) ** 2 + (z - dz) ** 2 <= radius_mm**2) & (labels > 0)] = 2
    hounsfield = np.where(radius <= 0.45, -100.0, -1000.0)
    hounsfield[labels == 1] = 110
    hounsfield[labels == 2] = 60
    hounsfield += np.random.default_rng(0).normal(0, noise_hu, hounsfield.shape)

    scan = sitk.GetImageFromArray(hounsfield.round().astype(np.int16))
    segments = sitk.GetImageFromArray(labels)
    for image in (scan, segments):
        image.SetSpacing([float(s) for s in spacing_mm])
        image.SetOrigin((-50.0, 20.0, 7.0))
        image.SetDirection([float(d) for d in direction])
    return scan, segments


def unreadable(path: Path) -> Path:
    """Make a file that can be opened and not be read, by root neither: the memory of this process at address 0."""
    memory = Path("/proc/self/mem")
    if not memory.exists():
        pytest.skip("needs a file that can be opened and not be read: /proc/self/mem of Linux")
    path.symlink_to(memory)
    return path


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread: on a busy computer two wait for each other after every tiny layer."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a bundle whose small networks were never trained: quick, and good for nothing else."""
    return untrained_bundle(tmp_path_factory.mktemp("bundles"), "tiny")


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return a loaded bundle of two small networks, with their OpenVINO files."""
    from LiverTumorSegLib import Bundle
    from test_bundle import write_bundle

    return Bundle.load(write_bundle(tmp_path_factory.mktemp("bundles") / "small", openvino=True))


@pytest.fixture
def unexported_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """Return such a bundle without OpenVINO files, and make an empty folder the user's."""
    from LiverTumorSegLib import Bundle
    from test_bundle import write_bundle

    monkeypatch.setenv("LIVERTUMORSEG_HOME", str(tmp_path / "home"))
    return Bundle.load(write_bundle(tmp_path / "small"))


@pytest.fixture(scope="session")
def phased_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of such a bundle that looks at an arterial phase, too, if there is one."""
    from LiverTumorSegLib.recipe import Phase

    return untrained_bundle(tmp_path_factory.mktemp("bundles"), "phased", Phase("arterial", ("art", "late arterial")))


def untrained_bundle(folder: Path, name: str, *phases: Phase) -> Path:
    """Write a bundle with random weights, always the same."""
    import torch

    from LiverTumorSegLib.networks import build_network
    from LiverTumorSegLib.networks.weights import save_weights
    from LiverTumorSegLib.recipe import Crop, Grid, Intensity, Recipe, Stage
    from LiverTumorSegLib.training.export import export_bundle

    scaling = Intensity(ct_clip_hu=(-200, 300), mr_clip_percentiles=(0.5, 99.5), scale="unit")
    small = {"in_channels": 1 + len(phases), "channels": [4, 8], "strides": [2], "num_res_units": 1}
    grids = {"whole": Grid(spacing_mm=10.0, multiple_of=2), "crop": Grid(spacing_mm=6.0, multiple_of=2)}
    regions: dict[str, Literal["whole", "liver"]] = {"whole": "whole", "crop": "liver"}
    stages = tuple(
        Stage(name, "unet", grid, small, scaling, window=(64, 64, 64), region=regions[name])
        for name, grid in grids.items()
    )
    weights = []
    torch.manual_seed(0)
    for stage in stages:
        weights.append(folder / f"{stage.name}.safetensors")
        save_weights(build_network(stage.network, stage.arguments), weights[-1], half=False)
    recipe = Recipe(name, "repaired", "test", stages, Crop(margin_mm=10.0), phases=phases)
    return export_bundle(recipe, weights, folder / name, "nothing", "none").path
