"""Pictures without a screen: of a widget, and of the scene through Slicer's own displayable managers."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import slicer
import vtk

from LiverTumorSegLib.rendering import render_3d
from LiverTumorSegLib.rendering_vtk import LIBRARIES

MANAGERS_3D = (
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLModelDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D",
)
MANAGERS_2D = ("vtkMRMLModelSliceDisplayableManager", "vtkMRMLSegmentationsDisplayableManager2D")


def grab(widget, path: Path, width: int, height: int = 0, scale: int = 2) -> None:
    """Write a widget as PNG, `width` wide and as high as it wants to be, with `scale` pixels to each of its points."""
    from PySide6.QtCore import QPoint, QSize, Qt
    from PySide6.QtGui import QPixmap

    widget.setAttribute(Qt.WA_DontShowOnScreen)
    widget.show()
    widget.resize(width, height or widget.height)
    slicer.app.processEvents()
    if not height:
        layout = widget.layout()
        wanted = (
            layout.totalHeightForWidth(width) if layout and layout.hasHeightForWidth() else widget.sizeHint.height()
        )
        widget.resize(width, wanted)
        slicer.app.processEvents()
    picture = QPixmap(QSize(widget.width, widget.height) * scale)
    picture.setDevicePixelRatio(scale)
    widget.render(picture, QPoint())
    if not picture.save(str(path)):
        raise OSError(f"{path}: wanted to write a picture, got a refusal")


@cache
def opengl_window() -> str | None:
    """The kind of VTK window that draws here without a screen; tried in a child, as VTK ends a process without one."""
    cube = np.zeros((8, 8, 8), np.uint8)
    cube[2:6, 2:6, 2:6] = 1
    works = (name for name in LIBRARIES if render_3d(sitk.GetImageFromArray(cube), (32, 32), [name]) is not None)
    return next(works, None)


def _window(size: tuple[int, int]) -> tuple[vtk.vtkRenderWindow, vtk.vtkRenderer]:
    os.environ["VTK_DEFAULT_OPENGL_WINDOW"] = opengl_window()
    window, renderer, interactor = vtk.vtkRenderWindow(), vtk.vtkRenderer(), vtk.vtkGenericRenderWindowInteractor()
    window.SetOffScreenRendering(1)
    window.SetMultiSamples(0)  # with samples, or without alpha planes, software OpenGL draws no translucent surface
    window.SetAlphaBitPlanes(1)
    window.SetSize(*size)
    window.AddRenderer(renderer)
    interactor.SetRenderWindow(window)
    return window, renderer


def _managers(factory, names: tuple[str, ...], renderer, node):
    factory.SetMRMLApplicationLogic(slicer.app.applicationLogic())
    for name in names:
        if not factory.IsDisplayableManagerRegistered(name):
            factory.RegisterDisplayableManager(name)
    group = factory.InstantiateDisplayableManagers(renderer)
    group.SetMRMLDisplayableNode(node)
    return group


def _write(window: vtk.vtkRenderWindow, path: Path) -> None:
    window.Render()
    pixels, writer = vtk.vtkWindowToImageFilter(), vtk.vtkPNGWriter()
    pixels.SetInput(window)
    pixels.ReadFrontBufferOff()
    writer.SetInputConnection(pixels.GetOutputPort())
    writer.SetFileName(str(path))
    writer.Write()


def picture_3d(path: Path, size: tuple[int, int] = (900, 700), azimuth: float = 0.0, zoom: float = 1.3) -> None:
    """Write what the 3D view shows, from the patient's front; the camera turns by `azimuth` degrees."""
    window, renderer = _window(size)
    node = slicer.app.layoutManager().threeDWidget(0).mrmlViewNode()
    node.SetBoxVisible(False)
    node.SetAxisLabelsVisible(False)
    group = _managers(slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance(), MANAGERS_3D, renderer, node)
    renderer.SetUseDepthPeeling(True)  # as Slicer's view does, for what is inside of something translucent
    renderer.ResetCamera()
    renderer.GetActiveCamera().Azimuth(azimuth)
    renderer.GetActiveCamera().Zoom(zoom)
    renderer.ResetCameraClippingRange()
    _write(window, path)
    group.SetMRMLDisplayableNode(None)


def picture_slice(path: Path, view: str = "Red", size: tuple[int, int] = (500, 500)) -> None:
    """Write what a slice view shows: the volume in its background, and the segmentations."""
    widget = slicer.app.layoutManager().sliceWidget(view)
    logic = widget.sliceLogic()
    logic.ResizeSliceNode(*size)
    window, renderer = _window(size)
    mapper, image = vtk.vtkImageMapper(), vtk.vtkActor2D()
    mapper.SetInputConnection(logic.GetImageDataConnection())
    mapper.SetColorWindow(255)
    mapper.SetColorLevel(127.5)
    image.SetMapper(mapper)
    image.GetProperty().SetDisplayLocationToBackground()
    if logic.GetImageDataConnection() is not None:
        renderer.AddViewProp(image)
    renderer.GetActiveCamera().ParallelProjectionOn()
    factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
    group = _managers(factory, MANAGERS_2D, renderer, widget.mrmlSliceNode())
    _write(window, path)
    group.SetMRMLDisplayableNode(None)
