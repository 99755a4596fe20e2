"""Draws a scene of `rendering` with VTK and ends: `python -m LiverTumorSegLib.rendering_vtk WINDOW < SCENE > PICTURE`.

VTK ends the whole process when a computer has no OpenGL, so this runs as a process of its own, whose end harms nobody.
It imports nothing of ours and no SimpleITK, which saves a quarter of its time; and it opens VTK and a window before
it asks for the scene, so that it can be started early and wait.
"""

from __future__ import annotations

import ctypes
import io
import os
import sys
from collections.abc import Sequence
from itertools import product
from typing import Any, BinaryIO

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


def main(window: str, scene: BinaryIO, picture: BinaryIO) -> int:
    """Draw a scene of `rendering.render_3d`.

    Args:
        window: the kind of VTK window, a key of `LIBRARIES`, or `NATIVE`.
        scene: read to its end: `.npz` with what `rendering._scene` says, or nothing, when no picture is wanted.
        picture: `.npy` is written: uint8 (height, width, 4), red, green, blue and opacity.

    Returns:
        The exit code: 0, or `NO_OPENGL` where the window's library is not installed.
    """
    if window != NATIVE:
        if not any(map(_opens, LIBRARIES[window])):
            return NO_OPENGL
        os.environ["VTK_DEFAULT_OPENGL_WINDOW"] = window
    opened = _open_window()
    received = scene.read()
    if received:
        with np.load(io.BytesIO(received)) as content:
            drawn = io.BytesIO()  # numpy cannot save into a pipe
            np.save(drawn, _draw(dict(content), opened))
            picture.write(drawn.getvalue())
    return 0


def _opens(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _open_window() -> Any:
    """A window without a screen, ready to draw in."""
    import vtkmodules.util.numpy_support
    import vtkmodules.vtkFiltersCore
    import vtkmodules.vtkRenderingOpenGL2  # noqa: F401 (registers the windows)
    from vtkmodules.vtkRenderingCore import vtkRenderWindow

    window = vtkRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetMultiSamples(0)  # with samples, or without alpha planes, software OpenGL draws no translucent surface
    window.SetAlphaBitPlanes(1)
    window.Initialize()
    return window


def _draw(scene: dict[str, np.ndarray], window: Any) -> np.ndarray:
    """Set up VTK's renderer and take its picture, (height, width, 4)."""
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkRenderingCore import vtkRenderer, vtkWindowToImageFilter

    width, height = (int(n) for n in scene["size"])
    renderer = vtkRenderer()
    for actor in _actors(scene):
        renderer.AddActor(actor)
    _light(renderer)
    renderer.SetBackgroundAlpha(0.0)
    renderer.SetUseFXAA(True)
    _aim(renderer, scene["centre"], float(scene["mm_per_pixel"]) * height)
    window.SetSize(width, height)
    window.AddRenderer(renderer)
    window.Render()
    grab = vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.SetInputBufferTypeToRGBA()
    grab.ReadFrontBufferOff()
    grab.ShouldRerenderOff()
    grab.Update()
    pixels = vtk_to_numpy(grab.GetOutput().GetPointData().GetScalars())
    return _straight(np.flipud(pixels.reshape(height, width, 4)))


def _straight(pixels: np.ndarray) -> np.ndarray:
    """Undo VTK's multiplication of the colours by the opacity."""
    straight = pixels.copy()
    drawn = pixels[..., 3] > 0
    colour = pixels[drawn, :3] * (255.0 / pixels[drawn, 3:])
    straight[drawn, :3] = np.minimum(colour, 255.0)
    return straight


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
    # Whatever a library prints goes to the errors, not into the picture.
    with os.fdopen(os.dup(1), "wb") as answer:
        os.dup2(2, 1)
        code = main(sys.argv[1], sys.stdin.buffer, answer)
    os._exit(code)  # taking VTK down in order takes a tenth of a second
