"""The bundles that the panel offers: names, what their cards say, importing one, where it lies."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..bundle import CHECKSUMS, import_bundle, list_bundles
from ..errors import LiverTumorSegError
from ..recipe import Phase, load_recipe

ARCHIVE_PATTERNS = ("*.zip", CHECKSUMS)
"""What a user picks to import a bundle: a zip, or the checksums in the folder of an unpacked one."""


@dataclass(frozen=True)
class BundleCard:
    """What the panel says of a bundle without checking it.

    Attributes:
        name: of its folder.
        summary: the first sentence of its card.
        details: the first paragraph, version, intended use and what it was trained on, a line each.
        stages: the names of its cascade's stages.
        phases: the further scans that its networks look at.
    """

    name: str
    summary: str
    details: str
    stages: tuple[str, ...] = ()
    phases: tuple[Phase, ...] = ()


class BundleStore(Protocol):
    """Where the panel gets bundles from."""

    def names(self) -> list[str]:
        """The bundles that are installed."""

    def card(self, name: str) -> BundleCard:
        """What one of them says of itself."""

    def folder(self, name: str) -> Path:
        """Where it lies."""

    def add(self, picked: Path) -> str:
        """Import one and say its name.

        Raises:
            LiverTumorSegError: not a whole bundle, or its name is taken.
        """


class InstalledBundles:
    """The bundles that ship with the program or were imported by the user."""

    def names(self) -> list[str]:
        """Sorted, the shipped default first."""
        return sorted(list_bundles(), key=lambda name: (name != "default", name))

    def card(self, name: str) -> BundleCard:
        """Read quickly and without the checks of `Bundle.load`; a broken bundle says so in its summary."""
        folder = self.folder(name)
        try:
            metadata = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
            text = (folder / "model_card.md").read_text(encoding="utf-8")
            recipe = load_recipe(folder / "recipe.json")
        except (OSError, ValueError) as error:  # ours and those of JSON and UTF-8 are ValueErrors
            return BundleCard(name, "These networks cannot be read; import them anew.", str(error))
        paragraph = _first_paragraph(text)
        details = [
            paragraph,
            f"Version {metadata.get('version', 'unknown')}",
            str(metadata.get("intended_use", "")),
            f"Trained on: {metadata.get('data_source', 'unknown')}",
        ]
        first_sentence = paragraph.partition(". ")[0].rstrip(".") + "."
        stages = tuple(stage.name for stage in recipe.stages)
        return BundleCard(name, first_sentence, "\n".join(filter(None, details)), stages, recipe.phases)

    def folder(self, name: str) -> Path:
        """Where it lies.

        Raises:
            LiverTumorSegError: there is none of that name.
        """
        known = list_bundles()
        if name not in known:
            raise LiverTumorSegError(f"bundle: wanted one of {', '.join(known) or 'none'}, got {name!r}")
        return known[name]

    def add(self, picked: Path) -> str:
        """Import a .zip, a folder, or the folder whose checksums were picked."""
        return import_bundle(picked.parent if picked.name == CHECKSUMS else picked).name


def _first_paragraph(markdown: str) -> str:
    """The first lines that are neither a heading nor empty, joined."""
    lines: list[str] = []
    for line in markdown.splitlines():
        if line.strip() and not line.startswith("#"):
            lines.append(line.strip())
        elif lines:
            break
    return " ".join(lines).replace("**", "")
