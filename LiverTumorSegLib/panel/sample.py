"""The sample scan: a synthetic abdomen with lesions, drawn on the user's computer and always the same."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import SimpleITK as sitk

from .. import scene
from ..errors import warn
from .collaborators import Installer, Node, ensured

NAME, FILE = "SyntheticAbdomen", "SyntheticAbdomen.nii.gz"
SEED, SPACING_MM = 15, 3.0
CHECKSUM = "SHA256:4afaeb382ddc950cf2e9f1c778caea005c45c19324338ae28d31e26303e24dae"
"""`checksum_of` the scan of that seed and spacing; of its voxels, as the packed file differs by zlib's version."""


def draw(folder: Path) -> tuple[Path, Path]:
    """Write the scan and its true labels, and compare the scan with the checksum.

    Args:
        folder: exists.

    Returns:
        The two files. A scan that differs, as another processor's rounding may make it, is good all the same: a
        warning says so.
    """
    from ..training.synthesis.cases import write_case

    scan, labels = write_case(folder, NAME, SEED, "CT", SPACING_MM)
    if checksum_of(scan) != CHECKSUM:
        warn("the sample scan drawn on this computer differs from the one that the tests were made with")
    return scan, labels


def checksum_of(scan: Path) -> str:
    """The SHA-256 of a scan's voxels, as Slicer writes checksums."""
    voxels = sitk.GetArrayFromImage(sitk.ReadImage(str(scan), sitk.sitkInt16)).astype("<i2")
    return f"SHA256:{hashlib.sha256(voxels.tobytes()).hexdigest()}"


def offer(mrml_scene: Node, installer: Installer) -> list[Node]:
    """What the module Sample Data calls: have the packages, draw the scan, show it; says in a box what went wrong.

    Raises:
        PackageError: the packages cannot be had, or the user declined; the box was shown before.
    """
    with scene.errors_shown("The sample scan was not drawn."):
        ensured(installer)
        return [add_to(mrml_scene)]


def add_to(mrml_scene: Node) -> Node:
    """Draw the scan into a new volume node, and show it."""
    with tempfile.TemporaryDirectory(prefix="livertumorseg-") as folder:
        scan, _ = draw(Path(folder))
        node = scene.add_volume(sitk.ReadImage(str(scan)), mrml_scene, NAME)
    scene.show_scan(node)
    return node
