"""Where slice views and cameras look from, to notice that a person has moved them."""

from __future__ import annotations

from typing import Any

VIEWS = ("vtkMRMLSliceNode", "vtkMRMLCameraNode")


def viewpoint_of(node: Any) -> tuple[float, ...]:
    """What scrolling, zooming, panning and turning change, and hiding a ruler does not.

    Args:
        node: vtkMRMLSliceNode or vtkMRMLCameraNode.
    """
    if node.IsA("vtkMRMLSliceNode"):
        matrix = node.GetSliceToRAS()
        return (*(matrix.GetElement(row, column) for row in range(3) for column in range(4)), *node.GetFieldOfView())
    camera = node.GetCamera()
    zoom = camera.GetParallelScale(), camera.GetViewAngle()
    return (*camera.GetPosition(), *camera.GetFocalPoint(), *camera.GetViewUp(), *zoom)
