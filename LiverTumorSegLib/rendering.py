"""The 3D picture of a segmentation: the liver as glass with its tumours inside, from the patient's front.

VTK ends the whole process when a computer has no OpenGL. The picture is therefore drawn by a
short-lived child process (`python -m LiverTumorSegLib.rendering`), whose end harms nobody.
"""

from __future__ import annotations

import ctypes
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # the child process does without, which saves a quarter of its time
    import SimpleITK as sitk

log = logging.getLogger(__name__)

# VTK's windows that need no screen, and the library that each of them opens; tried in this order.
LIBRARIES = {
    "vtkEGLRenderWindow": ("libEGL.so.1", "libEGL.so"),
    "vtkOSOpenGLRenderWindow": ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so"),
}
NATIVE = "native"
WINDOWS = tuple(LIBRARIES) if sys.platform.startswith("linux") else (NATIVE,)
NO_OPENGL = 3

COLOURS = ((0.866, 0.509, 0.396), (0.961, 0.851, 0.196))  # liver, tumour: as in segmentation.SEGMENTS
LIVER_OPACITY = 0.34
MARGIN = 0.04  # of the picture's width and height, on each side
LARGE_VOXELS = 1_500_000  # a liver of more than this is drawn from every second voxel


@dataclass(frozen=True)
class PatientAxes:
    """A volume's own axes, reordered and flipped so that they run most to the left, back and head.

    Attributes:
        order: which of the image's axes (0 = i) runs most along x, y, z of LPS.
        signs: 1, or -1 where that axis runs the other way.
        origin: the LPS point of the first voxel after flipping, in mm.
        spacing_mm: along the axes in their new order.
        direction: 3 x 3, columns are the new axes in LPS; always right-handed or as skew as the scan.
        size: voxels in the new order.
    """

    order: tuple[int, int, int]
    signs: tuple[int, int, int]
    origin: np.ndarray
    spacing_mm: np.ndarray
    direction: np.ndarray
    size: tuple[int, int, int]

    @classmethod
    def of(cls, image: sitk.Image) -> PatientAxes:
        """The axes of an image; no voxel is moved."""
        from .geometry import axes_towards_lps

        order, signs = axes_towards_lps(image)
        own = np.array(image.GetDirection()).reshape(3, 3)
        first = [0, 0, 0]
        for axis, sign in zip(order, signs, strict=True):
            first[axis] = 0 if sign > 0 else image.GetSize()[axis] - 1
        return cls(
            order,
            signs,
            np.array(image.TransformIndexToPhysicalPoint(first)),
            np.array([image.GetSpacing()[axis] for axis in order]),
            np.stack([own[:, axis] * sign for axis, sign in zip(order, signs, strict=True)], axis=1),
            tuple(image.GetSize()[axis] for axis in order),
        )

    def view(self, array: np.ndarray) -> np.ndarray:
        """A (k, j, i) array of the image with axes towards (head, back, left), as a view."""
        turned = array.transpose([2 - axis for axis in self.order[::-1]])
        return turned[tuple(slice(None, None, sign) for sign in self.signs[::-1])]

    def point(self, index: Sequence[float] | np.ndarray) -> np.ndarray:
        """The LPS point in mm of a continuous (left, back, head) index."""
        return self.origin + self.direction @ (np.asarray(index) * self.spacing_mm)

    def index(self, point_lps_mm: Sequence[float] | np.ndarray) -> np.ndarray:
        """The continuous (left, back, head) index of a point; the way back of `point`."""
        return np.linalg.solve(self.direction, np.asarray(point_lps_mm) - self.origin) / self.spacing_mm


@dataclass(frozen=True)
class FrontView:
    """Where things are in a parallel view from the front: the patient's right on the left, the head up.

    Attributes:
        centre_lps_mm: what is in the picture's middle.
        mm_per_pixel: the same everywhere in the picture.
        size: width and height in pixels.
    """

    centre_lps_mm: tuple[float, ...]
    mm_per_pixel: float
    size: tuple[int, int]

    def pixel(self, point_lps_mm: Sequence[float] | np.ndarray) -> tuple[float, float]:
        """Pixels from the left and from the top."""
        x, _, z = (np.asarray(point_lps_mm) - self.centre_lps_mm) / self.mm_per_pixel
        return float(self.size[0] / 2 + x), float(self.size[1] / 2 - z)


def front_view(labels: sitk.Image, size: tuple[int, int]) -> FrontView | None:
    """The view that `render_3d` takes of a label map; None where the map is empty."""
    import SimpleITK as sitk

    from .lesions import bounding_slices

    axes = PatientAxes.of(labels)
    array = axes.view(sitk.GetArrayFromImage(labels))
    box = bounding_slices(array)
    return _front_view(axes, array[box] > 0, _first_index(box), size) if box else None


def render_3d(
    labels: sitk.Image, size: tuple[int, int] = (960, 720), windows: Sequence[str] = WINDOWS, limit_s: float = 20.0
) -> np.ndarray | None:
    """Draw the liver (labels 1 and 2) as a translucent and the tumours (2) as an opaque surface.

    Args:
        labels: label map 0/1/2 of any orientation; only its non-zero part matters.
        size: width and height in pixels.
        windows: the kinds of VTK window to try, keys of `LIBRARIES` or `NATIVE`.
        limit_s: how long one try may take.

    Returns:
        uint8 (height, width, 4): red, green, blue, and opacity, the background being transparent; seen
        as `front_view` says. None where there is nothing to draw, or no OpenGL or VTK to draw it with.
    """
    with tempfile.TemporaryDirectory(prefix="LiverTumorSeg-") as folder:
        scene, picture = Path(folder, "scene.npz"), Path(folder, "picture.npy")
        content = _scene(labels, size)
        if content is None:
            return None
        np.savez(scene, **content)
        for window in windows:
            if _ends_well([str(scene), str(picture), window], limit_s):
                return np.asarray(np.load(picture))
    return None


def _scene(labels: sitk.Image, size: tuple[int, int]) -> dict[str, Any] | None:
    """All that the child process must know: masks (head, back, left), where they lie in LPS, and the view."""
    import SimpleITK as sitk

    from .lesions import bounding_slices

    axes = PatientAxes.of(labels)
    array = axes.view(sitk.GetArrayFromImage(labels))
    box = bounding_slices(array)
    if box is None:
        return None
    inside, first, spacing = array[box], _first_index(box), axes.spacing_mm
    view = _front_view(axes, inside > 0, first, size)
    large = np.count_nonzero(inside) > LARGE_VOXELS
    steps = np.where(large & (spacing <= 2 * spacing.min()), 2, 1)
    content = {
        "size": size,
        "centre": view.centre_lps_mm,
        "mm_per_pixel": view.mm_per_pixel,
        "direction": axes.direction,
        "liver": np.pad(inside[:: steps[2], :: steps[1], :: steps[0]] > 0, 1),
        "liver_spacing": spacing * steps,
        "liver_origin": axes.point(first - steps),
    }
    box = bounding_slices(inside == 2)
    if box is not None:
        content["tumour"] = np.pad(inside[box] == 2, 1)
        content["tumour_spacing"] = spacing
        content["tumour_origin"] = axes.point(first + _first_index(box) - 1)
    return content


def _first_index(box: tuple[slice, ...]) -> np.ndarray:
    """The (left, back, head) index of a (head, back, left) box's first voxel."""
    return np.array([edge.start for edge in box[::-1]])


def _front_view(axes: PatientAxes, mask: np.ndarray, first: np.ndarray, size: tuple[int, int]) -> FrontView:
    """Make the mask, whose first voxel is `first`, fill the picture."""
    head, back = np.nonzero(mask.any(axis=2))
    rows = mask[head, back]
    ends = [rows.argmax(axis=1), mask.shape[2] - 1 - rows[:, ::-1].argmax(axis=1)]
    index = np.concatenate([np.stack([left, back, head]) for left in ends], axis=1) + first[:, None]
    points = axes.origin[:, None] + axes.direction @ (index * axes.spacing_mm[:, None])
    half = np.abs(axes.direction) @ axes.spacing_mm / 2
    low, high = points.min(axis=1) - half, points.max(axis=1) + half
    fit = [(high[a] - low[a]) / (pixels * (1 - 2 * MARGIN)) for a, pixels in ((0, size[0]), (2, size[1]))]
    return FrontView(tuple(map(float, (low + high) / 2)), float(max(fit)), size)


def _ends_well(arguments: list[str], limit_s: float) -> bool:
    """Run the child process; whether it has drawn its picture."""
    search = [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, search))}
    command = [sys.executable, "-m", __spec__.name if __spec__ else __name__, *arguments]
    try:
        child = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=limit_s, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        log.info("no 3D picture: %s", error)
        return False
    if child.returncode not in (0, NO_OPENGL):
        log.info("no 3D picture with %s: exit code %d: %s", arguments[-1], child.returncode, child.stderr[-500:])
    return child.returncode == 0


def main(scene: str, picture: str, window: str) -> int:
    """What the child process does: draw a scene of `render_3d`; returns the exit code."""
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
