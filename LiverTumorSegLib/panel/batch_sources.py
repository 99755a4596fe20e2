"""What a batch goes through: a folder of scans, or the volumes of a scene."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .. import scene
from ..errors import ImageError, OutputError
from ..images import read_image
from ..output import REPORT, check_writable, write_results
from ..scans import find_scans
from .batch import Item
from .collaborators import Node
from .nodes import made_from, volumes_in
from .phases import is_phase, matching_volumes
from .wording import count_text

if TYPE_CHECKING:
    import SimpleITK as sitk

    from ..recipe import Phase
    from ..segmentation import Segmentation
    from .client import Phases


class FolderWork:
    """Scan files and DICOM folders inside a folder; results go into a folder for each.

    A scan whose results are there is not done again, so a batch goes on where it stopped. Further phases are not looked
    for: files do not say which belong together.
    """

    background = True

    def __init__(self, scans: Path, results: Path, modality: str | None = None) -> None:
        """Args: the scans' folder, that of the results, which need not exist, and what the scans are, if known."""
        self._scans, self._results, self._modality = scans, results, modality

    def items(self) -> list[Item]:
        """By name; a DICOM folder counts as one scan.

        Raises:
            ImageError: no such folder, or no scan in it.
            OutputError: results cannot be written.
        """
        check_writable(self._results)
        return [Item(scan.name, scan.path) for scan in find_scans(self._scans, self._results)]

    def earlier_result(self, item: Item) -> str:
        """Which bundle made the report that is there, if one is."""
        report = self._results / item.name / REPORT
        try:
            made = json.loads(report.read_text(encoding="utf-8"))["provenance"]
            return f"results are there already ({made['bundle']} {made['bundle_version']})"
        except (OSError, ValueError, KeyError, TypeError):
            return ""  # none, or not whole: it is made anew

    def read(self, item: Item) -> tuple[sitk.Image, Phases]:
        """See `images.read_image`."""
        return read_image(item.source, modality=self._modality), {}

    def keep(self, item: Item, segmentation: Segmentation) -> str:
        """Write every result file; see `output.write_results`."""
        write_results(segmentation, self._results / item.name, html=False)
        return _found(segmentation)


class SceneWork:
    """The volumes of a scene; each gets a new segmentation, unless it has one of ours.

    Volumes that are further phases of others, by study and name, are looked at with these and not by themselves.
    """

    background = False  # only the main thread may touch a scene

    def __init__(self, mrml_scene: Node, separate_lesions: bool, phases: Sequence[Phase] = ()) -> None:
        """Args: the scene, whether each lesion becomes a segment, and the phases that the networks look at."""
        self._scene, self._separate, self._phases = mrml_scene, separate_lesions, phases

    def items(self) -> list[Item]:
        """In the order of the scene.

        Raises:
            ImageError: there is no volume.
        """
        volumes = volumes_in(self._scene)
        mains = [node for node in volumes if not is_phase(node, self._phases)]
        further = [each for node in mains for each in self._phases_of(node).values()]
        found = [Item(node.GetName(), node) for node in volumes if node not in further]
        if not found:
            raise ImageError("batch: wanted scans in the scene, got none; load some first")
        return found

    def earlier_result(self, item: Item) -> str:
        """The name of the segmentation that is there, if one is."""
        node = made_from(item.source)
        return f"has {node.GetName()} already" if node is not None else ""

    def read(self, item: Item) -> tuple[sitk.Image, Phases]:
        """See `scene.image_from_volume`.

        Raises:
            OutputError: the volume was deleted.
            ImageError: it, or a phase, is no scan.
        """
        _check_is_there(item)
        phases = {name: scene.image_from_volume(node) for name, node in self._phases_of(item.source).items()}
        return scene.image_from_volume(item.source), phases

    def keep(self, item: Item, segmentation: Segmentation) -> str:
        """Into a new segmentation node.

        Raises:
            OutputError: the volume was deleted.
        """
        _check_is_there(item)
        node = scene.add_segmentation(item.source)
        scene.write_segmentation(segmentation, node, item.source, separate_lesions=self._separate)
        return _found(segmentation)

    def _phases_of(self, volume_node: Node) -> dict[str, Node]:
        return matching_volumes(volume_node, self._phases, own_study_only=True)


def _check_is_there(item: Item) -> None:
    if item.source.GetScene() is None:
        raise OutputError(f"{item.name}: wanted the scan in the scene, it was deleted")


def _found(segmentation: Segmentation) -> str:
    if not segmentation.liver_ml:
        return "no liver found"
    return f"liver {segmentation.liver_ml:.0f} ml, {count_text(len(segmentation.lesions), 'lesion')}"
