"""Where the slice views look."""

from __future__ import annotations

from collections.abc import Sequence

import slicer


def jump_to(scene: slicer.vtkMRMLScene, ras_mm: Sequence[float]) -> None:
    """Centre every slice view of a scene on a place.

    Args:
        scene: whose slice nodes move.
        ras_mm: in the world, as `Lesion.centroid_ras_mm` of `lesions_in` is: a volume's parent transform is in it.
    """
    for number in range(scene.GetNumberOfNodesByClass("vtkMRMLSliceNode")):
        scene.GetNthNodeByClass(number, "vtkMRMLSliceNode").JumpSliceByCentering(*ras_mm)
