"""Where the numbers of an OpenVINO file lie: each weight is kept once, in the safetensors file of the same network.

`openvino/<stage>.xml` names its constants by their places in a run of bytes. As OpenVINO writes it that is the `.bin`
beside it, and as a bundle keeps it `weights/<stage>.safetensors` followed by `openvino/<stage>.rest`, which holds
what the weights' file does not: shapes, and what was folded.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from ..errors import BundleError
from .weights import tensor_places

REST = ".rest"

_LEAST_BYTES = 64  # of a constant that is looked for: small ones are found by chance


def read_constants(path: Path) -> bytes:
    """The bytes that the places in an OpenVINO file (.xml) count from.

    Raises:
        BundleError: a file is missing.
    """
    parts = [path.with_suffix(".bin")]
    if path.with_suffix(REST).exists():
        parts = [_weights_of(path), path.with_suffix(REST)]
    try:
        return b"".join(part.read_bytes() for part in parts)
    except OSError as error:
        raise BundleError(f"{path}: cannot read its numbers: {error.strerror}") from error


def share_constants(path: Path) -> None:
    """Take out of an OpenVINO file's `.bin` what the weights' file of its bundle has, and leave the others as `.rest`.

    Args:
        path: the .xml, `openvino/<stage>.xml` in a bundle's folder.

    Raises:
        BundleError: the weights' file is no safetensors file.
    """
    weights, numbers = _weights_of(path), path.with_suffix(".bin")
    held, constants = weights.read_bytes(), numbers.read_bytes()
    places = {held[start:end]: start for start, end in tensor_places(weights) if end - start >= _LEAST_BYTES}
    tree, rest = ElementTree.parse(path), bytearray()
    for layer in tree.getroot().iter("layer"):
        data = layer.find("data")
        if layer.get("type") != "Const" or data is None:
            continue
        start, size = int(data.get("offset", 0)), int(data.get("size", 0))
        constant = constants[start : start + size]
        if constant not in places:
            rest += bytes(-(len(held) + len(rest)) % _LEAST_BYTES)  # numbers lie at round places
            places[constant] = len(held) + len(rest)
            rest += constant
        data.set("offset", str(places[constant]))
    tree.write(path, encoding="utf-8", xml_declaration=True)
    path.with_suffix(REST).write_bytes(bytes(rest))
    numbers.unlink()


def _weights_of(path: Path) -> Path:
    return path.parents[1] / "weights" / f"{path.stem}.safetensors"
