"""Liver and liver-tumour segmentation of CT and MR: the headless library behind the Slicer module.

    from LiverTumorSegLib import read_image, segment

    segmentation = segment(read_image("scan.nii.gz"))
    print(segmentation.liver_ml, segmentation.lesions)

Everything public is named here and loaded when it is first used, so importing the package is cheap.
Research use only; not a medical device.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .bundle import Bundle, import_bundle, list_bundles
    from .correction.reading import Reading
    from .correction.session import CorrectionSession
    from .correction.study import Study
    from .errors import LiverTumorSegError, LiverTumorSegWarning
    from .images import read_image
    from .lesions import Lesion, find_lesions
    from .matching import match_lesions
    from .output import write_results
    from .recipe import Recipe, load_recipe
    from .segmentation import Provenance, Segmentation
    from .segmenter import Segmenter, segment

_HOME = {
    "Bundle": "bundle",
    "import_bundle": "bundle",
    "list_bundles": "bundle",
    "CorrectionSession": "correction.session",
    "Reading": "correction.reading",
    "Study": "correction.study",
    "LiverTumorSegError": "errors",
    "LiverTumorSegWarning": "errors",
    "read_image": "images",
    "Lesion": "lesions",
    "find_lesions": "lesions",
    "match_lesions": "matching",
    "write_results": "output",
    "Recipe": "recipe",
    "load_recipe": "recipe",
    "Provenance": "segmentation",
    "Segmentation": "segmentation",
    "Segmenter": "segmenter",
    "segment": "segmenter",
}

__all__ = [
    "Bundle",
    "CorrectionSession",
    "Lesion",
    "LiverTumorSegError",
    "LiverTumorSegWarning",
    "Provenance",
    "Reading",
    "Recipe",
    "Segmentation",
    "Segmenter",
    "Study",
    "find_lesions",
    "import_bundle",
    "list_bundles",
    "load_recipe",
    "match_lesions",
    "read_image",
    "segment",
    "write_results",
]


def __getattr__(name: str) -> object:
    """Load a public name's module on first use."""
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
