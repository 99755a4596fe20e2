"""Draws a scene of `rendering` with VTK and ends: `python -m LiverTumorSegLib.rendering_vtk SCENE PICTURE WINDOW`.

VTK ends the whole process when a computer has no OpenGL, so this runs as a process of its own, whose end harms nobody.
It imports nothing of ours and no SimpleITK, which saves a quarter of its time.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

# VTK's windows that need no screen, and the library that each of them opens; tried in this order.
LIBRARIES = {
    "vtkEGLRenderWindow": ("libEGL.so.1", "libEGL.so"),
    "vtkOSOpenGLRenderWindow": ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so"),
}
NATIVE = "native"
NO_OPENGL = 3

COLOURS = ((0.866, 0.509, 0.396), (0.961, 0.851, 0.196))  # liver, tumour: as in segmentation.SEGMENTS
LIVER_OPACITY = 0.34


def main(scene: str, picture: str, window: str) -> int:
    """Draw a scene file of `rendering.render_3d` into a file.

    Args:
        scene: `.npz` with what `rendering._scene` says.
        picture: `.npy` to be written: uint8 (height, width, 4), red, green, blue and opacity.
        window: the kind of VTK window, a key of `LIBRARIES`, or `NATIVE`.

    Returns:
        The exit code: 0, or `NO_OPENGL` where the window's library is not installed.
    """
    if window != NATIVE:
        if not any(map(_opens, LIBRARIES[window])):
            return NO_OPENGL
        os.environ["VTK_DEFAULT_OPENGL_WINDOW"] = window
    with np.load(scene) as content:
        np.save(picture, _draw(dict(content)))
    return 0


def _opens(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _draw(scene: dict[str, np.ndarray]) -> np.ndarray:
    """Set up VTK's renderer and take its picture, (height, width, 4)."""
    import vtkmodules.vtkRenderingOpenGL2  # noqa: F401 (registers the windows)
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkRenderingCore import vtkRenderer, vtkRenderWindow, vtkWindowToImageFilter

    width, height = (int(n) for n in scene["size"])
    renderer = vtkRenderer()
    for actor in _actors(scene):
        renderer.AddActor(actor)
    _light(renderer)
    renderer.SetBackgroundAlpha(0.0)
    renderer.SetUseFXAA(True)
    _aim(renderer, scene["centre"], float(scene["mm_per_pixel"]) * height)

    window = vtkRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetSize(width, height)
    window.SetMultiSamples(0)  # with samples, or without alpha planes, software OpenGL draws no translucent surface
    window.SetAlphaBitPlanes(1)
    window.AddRenderer(renderer)
    window.Render()
    grab = vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.SetInputBufferTypeToRGBA()
    grab.ReadFrontBufferOff()
    grab.Update()
    pixels = vtk_to_numpy(grab.GetOutput().GetPointData().GetScalars())
    return _straight(np.flipud(pixels.reshape(height, width, 4)))


def _straight(pixels: np.ndarray) -> np.ndarray:
    """Undo VTK's multiplication of the colours by the opacity."""
    colour = pixels[..., :3] * (255.0 / np.maximum(pixels[..., 3:], 1.0))
    return np.dstack([np.minimum(colour, 255.0).astype(np.uint8), pixels[..., 3]])


def _actors(scene: dict[str, np.ndarray]) -> list[Any]:
    """Tumours, and the liver's far and near walls, in the order of drawing.

    Depth peeling gives the same picture with any order, but takes software OpenGL 1.5 s longer.
    """
    actors = _walls(_actor("liver", scene, COLOURS[0]))
    if "tumour" in scene:
        actors.append(_actor("tumour", scene, COLOURS[1]))
    return actors


def _walls(whole: Any) -> list[Any]:
    """The half of a closed surface that looks away, and the half that looks at us, both translucent."""
    from vtkmodules.vtkRenderingCore import vtkActor, vtkProperty

    far, near = vtkActor(), vtkActor()
    for wall in (far, near):
        look = vtkProperty()
        look.DeepCopy(whole.GetProperty())
        look.SetOpacity(LIVER_OPACITY)
        look.SetFrontfaceCulling(wall is far)
        look.SetBackfaceCulling(wall is near)
        wall.SetProperty(look)
        wall.SetMapper(whole.GetMapper())
        wall.SetUserMatrix(whole.GetUserMatrix())
    return [far, near]


def _actor(name: str, scene: dict[str, np.ndarray], colour: Sequence[float]) -> Any:
    """One mask of the scene as a smoothed surface."""
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkCommonDataModel import vtkImageData
    from vtkmodules.vtkCommonMath import vtkMatrix4x4
    from vtkmodules.vtkFiltersCore import vtkPolyDataNormals, vtkSurfaceNets3D
    from vtkmodules.vtkRenderingCore import vtkActor, vtkPolyDataMapper

    mask = scene[name]
    image = vtkImageData()
    image.SetDimensions(*mask.shape[::-1])
    image.SetSpacing(*map(float, scene[f"{name}_spacing"]))
    image.GetPointData().SetScalars(numpy_to_vtk(mask.astype(np.uint8).ravel(), deep=True))
    nets = vtkSurfaceNets3D()
    nets.SetInputData(image)
    nets.SetValue(0, 1)
    nets.SmoothingOn()
    nets.SetNumberOfIterations(24)
    nets.SetConstraintScale(1.2)
    normals = vtkPolyDataNormals()
    normals.SetInputConnection(nets.GetOutputPort())
    normals.SplittingOff()
    normals.ConsistencyOff()
    mapper = vtkPolyDataMapper()
    mapper.SetInputConnection(normals.GetOutputPort())
    mapper.ScalarVisibilityOff()
    place = vtkMatrix4x4()
    for row, column in product(range(3), range(3)):
        place.SetElement(row, column, float(scene["direction"][row, column]))
    for row in range(3):
        place.SetElement(row, 3, float(scene[f"{name}_origin"][row]))
    actor = vtkActor()
    actor.SetMapper(mapper)
    actor.SetUserMatrix(place)
    look = actor.GetProperty()
    look.SetColor(*colour)
    look.SetAmbient(0.18)
    look.SetDiffuse(0.85)
    look.SetSpecular(0.35)
    look.SetSpecularPower(35)
    return actor


def _light(renderer: Any) -> None:
    """A main light from the upper left of the picture, and a weak one from the lower right."""
    from vtkmodules.vtkRenderingCore import vtkLight

    renderer.AutomaticLightCreationOff()
    for place, strength in (((-0.6, 0.8, 1.0), 0.95), ((0.9, -0.5, 0.6), 0.35)):
        light = vtkLight()
        light.SetLightTypeToCameraLight()
        light.SetPosition(*place)
        light.SetFocalPoint(0, 0, 0)
        light.SetIntensity(strength)
        renderer.AddLight(light)


def _aim(renderer: Any, centre: np.ndarray, height_mm: float) -> None:
    """A parallel view along the patient's front-to-back axis, LPS +y."""
    camera = renderer.GetActiveCamera()
    camera.SetParallelProjection(True)
    camera.SetFocalPoint(*map(float, centre))
    camera.SetPosition(float(centre[0]), float(centre[1]) - 1000.0, float(centre[2]))
    camera.SetViewUp(0, 0, 1)
    camera.SetParallelScale(height_mm / 2)
    renderer.ResetCameraClippingRange()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
