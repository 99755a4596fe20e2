"""Segments and lesion table as files that other programs read: all that were asked for, or none."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import SimpleITK as sitk
import slicer
import vtk

from ..errors import OutputError
from ..lesions import LesionKind
from ..output import write_lesions, write_nifti
from .lesions import lesions_in
from .segments import SURFACE
from .voxels import labels_from_segmentation

FORMATS = ("seg.nrrd", "nii.gz", "stl", "obj", "csv")
_PUNCTUATION = " _.()$!~#'%^{}-"
_RESERVED = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9¹²³])\s*(\.|$)", re.IGNORECASE)  # devices, to Windows
_Logic = slicer.vtkSlicerSegmentationsModuleLogic


def export_segmentation(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    volume_node: slicer.vtkMRMLScalarVolumeNode,
    folder: Path,
    formats: Sequence[str] = FORMATS,
    probability: sitk.Image | None = None,
    kinds: Sequence[LesionKind] = (),
) -> list[Path]:
    """Write a segmentation as it is now into a folder, which is made if it does not exist.

    Everything lies where the views show it, parent transform included. Surfaces are written in LPS, as Slicer does
    by default, and say so in the file. Files of the same names are replaced; if anything goes wrong, the folder is
    as it was.

    Args:
        segmentation_node: with liver and tumours.
        volume_node: the scan that they belong to.
        folder: where. Files are called as the node; surfaces, which Slicer writes, in ASCII: where letters of other
            scripts are left out, a checksum of the name stands for them.
        formats: some of `FORMATS`: "seg.nrrd", all segments with names, colours and tags; "nii.gz", labels 0/1/2
            on the scan's voxels; "stl", a file each segment; "obj", one file with its colours (.mtl); "csv", the
            lesions with the columns of `lesions.csv`.
        probability: of tumour, for the lesions' mean probabilities.
        kinds: what sorts of lesions there are at places in the world, for their types.

    Returns:
        The files, sorted.

    Raises:
        OutputError: an unknown format, no liver segment, or a folder that cannot be written to.
    """
    unknown = sorted(set(formats) - set(FORMATS))
    if unknown or not formats:
        raise OutputError(f"export: wanted some of {', '.join(FORMATS)}, got {', '.join(unknown) or 'nothing'}")
    labels = labels_from_segmentation(segmentation_node, volume_node)
    stem = _safe(segmentation_node.GetName())
    writers: dict[str, Callable[[Path], None]] = {
        "seg.nrrd": lambda aside: _write_segments(segmentation_node, aside / f"{stem}.seg.nrrd"),
        "nii.gz": lambda aside: write_nifti(labels, aside / f"{stem}.nii.gz"),
        "stl": lambda aside: _write_surfaces(segmentation_node, aside, "STL"),
        "obj": lambda aside: _write_surfaces(segmentation_node, aside, "OBJ"),
        "csv": lambda aside: write_lesions(
            [placed.lesion for placed in lesions_in(segmentation_node, volume_node, probability, kinds)],
            aside / f"{stem}_lesions.csv",
        ),
    }
    return _all_or_none(Path(folder), [writers[each] for each in FORMATS if each in formats])


def _all_or_none(folder: Path, writers: Sequence[Callable[[Path], None]]) -> list[Path]:
    """Let them write into a private folder, then swap its files for those of the same names."""
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    aside = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".livertumorseg-", dir=folder))
        fresh, earlier = aside / "fresh", aside / "earlier"
        fresh.mkdir()
        earlier.mkdir()
        for write in writers:
            write(fresh)
        return _publish(fresh, earlier, folder)
    except (OSError, RuntimeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or " ".join(str(error).split())[-160:]
        raise OutputError(f"{folder}: wanted to write the segmentation there, got: {reason}") from error
    finally:
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)
        for each in made:
            if each.is_dir() and not any(each.iterdir()):
                each.rmdir()


def _publish(fresh: Path, earlier: Path, folder: Path) -> list[Path]:
    names = sorted(path.name for path in fresh.iterdir())
    for name in names:
        if (folder / name).is_dir():
            raise OSError(f"a folder {name} stands where a file is to go")
    try:
        for name in names:
            if (folder / name).exists():
                os.replace(folder / name, earlier / name)
            os.replace(fresh / name, folder / name)
    except BaseException:
        # Asks the disk, not a list: an interrupt may fall between a move and the note of it.
        for name in names:
            if not (fresh / name).exists():
                os.replace(folder / name, fresh / name)
            if (earlier / name).exists():
                os.replace(earlier / name, folder / name)
        raise
    return [folder / name for name in names]


def _write_segments(segmentation_node: Any, path: Path) -> None:
    scene = slicer.vtkMRMLScene()  # of its own: the storage node must not become the segmentation's
    copy = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", segmentation_node.GetName())
    copy.GetSegmentation().DeepCopy(segmentation_node.GetSegmentation())
    transform = segmentation_node.GetParentTransformNode()
    if transform is not None:
        to_world = vtk.vtkMatrix4x4()
        transform.GetMatrixTransformToWorld(to_world)
        linear = vtk.vtkTransform()
        linear.SetMatrix(to_world)
        copy.GetSegmentation().ApplyLinearTransform(linear)
    storage = scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(path))
    if not storage.WriteData(copy) or not path.is_file():
        raise OSError(f"{path.name} was not written")


def _write_surfaces(segmentation_node: Any, folder: Path, kind: str) -> None:
    segmentation = segmentation_node.GetSegmentation()
    had_surfaces = segmentation.ContainsRepresentation(SURFACE)
    if not had_surfaces:
        segmentation_node.CreateClosedSurfaceRepresentation()
    try:
        done = _export_surfaces(segmentation_node, folder, kind)
        surfaces = [segmentation.GetSegment(each).GetRepresentation(SURFACE) for each in segmentation.GetSegmentIDs()]
        wanted = sum(bool(surface and surface.GetNumberOfPoints()) for surface in surfaces)
    finally:
        if not had_surfaces:
            segmentation_node.RemoveClosedSurfaceRepresentation()
    got = len(list(folder.glob(f"*.{kind.lower()}")))
    if not done or not got:
        raise OSError(f"no {kind} file was written")
    if kind == "STL" and got < wanted:  # Slicer says nothing of those that it left out or wrote over
        raise OSError(f"{got} of {wanted} STL files: two segments have one name, or one that no file may have")


def _export_surfaces(segmentation_node: Any, folder: Path, kind: str) -> bool:
    """Let Slicer write surfaces; it names the files after the node, and leaves out all but ASCII of that."""
    name = segmentation_node.GetName()
    with slicer.util.NodeModify(segmentation_node):
        segmentation_node.SetName(_safe(name, ascii_only=True))
        try:
            return bool(
                _Logic.ExportSegmentsClosedSurfaceRepresentationToFiles(
                    str(folder), segmentation_node, None, kind, True, 1.0, False
                )
            )
        finally:
            segmentation_node.SetName(name)


def _safe(name: str, ascii_only: bool = False) -> str:
    """A node's name as a file's: letters and digits of all scripts, and the punctuation that Slicer keeps.

    Where more than punctuation is lost, a checksum of the name stands for it, so that no two names become one.
    """
    whole = unicodedata.normalize("NFC", name)
    kept = "".join(each for each in whole if _is_safe(each, ascii_only)).strip(" .") or "segmentation"
    if any(not each.isascii() and not _is_safe(each, ascii_only) for each in whole):
        kept += f" {hashlib.sha256(whole.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
    return f"_{kept}" if _RESERVED.match(kept) else kept


def _is_safe(character: str, ascii_only: bool) -> bool:
    if character.isascii():
        return character.isalnum() or character in _PUNCTUATION
    return not ascii_only and unicodedata.category(character)[0] in "LMN"  # letters, their marks, numbers
