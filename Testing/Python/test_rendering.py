"""The 3D picture: what is to be seen, and what is drawn where there is OpenGL."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from LiverTumorSegLib import rendering, rendering_vtk
from LiverTumorSegLib.segmentation import SEGMENTS

AXIAL = (1, 0, 0, 0, 1, 0, 0, 0, 1)
LEFT_HANDED = (-1, 0, 0, 0, 1, 0, 0, 0, 1)
CORONAL = (1, 0, 0, 0, 0, 1, 0, -1, 0)


def asymmetric(direction: tuple[float, ...]) -> sitk.Image:
    """A slab of liver about the point 0, with a tumour near its right upper end."""
    labels = sitk.Image([40, 40, 40], sitk.sitkUInt8)
    labels.SetSpacing((2.0, 2.0, 2.0))
    labels.SetDirection(direction)
    labels.SetOrigin([-m for m in labels.TransformIndexToPhysicalPoint((20, 20, 20))])
    k, j, i = np.mgrid[:40, :40, :40] - 20
    x, y, z = np.tensordot(np.array(direction).reshape(3, 3), 2.0 * np.stack([i, j, k]), axes=1)
    array = ((abs(x) <= 34) & (abs(y) <= 16) & (abs(z) <= 24)).astype(np.uint8)
    array[(x + 24) ** 2 + y**2 + (z - 16) ** 2 <= 36] = 2
    filled = sitk.GetImageFromArray(array)
    filled.CopyInformation(labels)
    return filled


def test_a_small_segmentation_has_a_picture_that_is_the_same_from_every_direction_matrix() -> None:
    """Right lobe, marked by the tumour, on the left and up; drawn only where there is OpenGL."""
    for direction in (AXIAL, LEFT_HANDED, CORONAL):
        labels = asymmetric(direction)
        picture = rendering.render_3d(labels, (160, 120))
        if picture is None:
            pytest.skip("needs OpenGL without a screen (EGL or OSMesa) and vtk")
        assert (picture.shape, picture.dtype) == ((120, 160, 4), np.uint8)
        view = rendering.front_view(labels, (160, 120))
        assert view is not None
        across, down = view.pixel((-24.0, 0.0, 16.0))
        # The tumour is opaque, what surrounds it is not; its middle is where the view says.
        rows, columns = np.nonzero(picture[..., 3] == 255)
        assert across < 80
        assert down < 60
        assert abs(columns.mean() - across) < 3
        assert abs(rows.mean() - down) < 3


def test_without_opengl_there_is_no_picture_and_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(rendering_vtk.LIBRARIES, "vtkOSOpenGLRenderWindow", ())
    nothing = io.BytesIO()
    assert rendering_vtk.main("vtkOSOpenGLRenderWindow", nothing, nothing) == rendering_vtk.NO_OPENGL
    assert rendering.render_3d(asymmetric(AXIAL), (16, 12), windows=()) is None


def test_a_child_process_that_dies_leaves_no_picture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "dies"
    program.write_text("#!/bin/sh\nkill -SEGV $$\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setattr(rendering.sys, "executable", str(program))
    assert rendering.render_3d(asymmetric(AXIAL), (16, 12), windows=("native", "native")) is None


def test_a_child_that_was_started_early_draws_the_same_picture_and_is_started_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    labels, started = asymmetric(AXIAL), []
    late = rendering.render_3d(labels, (160, 120))
    if late is None:
        pytest.skip("needs OpenGL without a screen (EGL or OSMesa) and vtk")
    start = rendering._child
    monkeypatch.setattr(rendering, "_child", lambda window: started.append(window) or start(window))
    rendering.get_ready()
    rendering.get_ready()
    early = rendering.render_3d(labels, (160, 120))
    assert started[:1] == [rendering.WINDOWS[0]]
    assert len(started) == len(set(started))
    assert np.array_equal(early, late)


def test_a_child_that_gets_no_scene_ends_in_silence_and_the_next_picture_has_another() -> None:
    rendering.get_ready()
    (child,) = rendering._waiting.values()
    answer, _ = child.communicate(b"", 20)
    assert answer == b""
    assert child.returncode in (0, rendering_vtk.NO_OPENGL)
    picture = rendering.render_3d(asymmetric(AXIAL), (16, 12))
    assert (picture is None) == (child.returncode == rendering_vtk.NO_OPENGL)


def test_the_front_view_fills_the_picture_with_the_liver() -> None:
    view = rendering.front_view(asymmetric(AXIAL), (160, 120))
    assert view is not None
    # 35 voxels of 2 mm across and 25 upwards; the width is what limits, with 4 % free on each side.
    assert view.mm_per_pixel == pytest.approx(70 / (160 * 0.92))
    assert view.pixel((-35.0, 0.0, 0.0)) == pytest.approx((0.04 * 160, 60.0))


def test_nothing_to_draw_is_none() -> None:
    empty = sitk.Image([8, 8, 8], sitk.sitkUInt8)
    assert rendering.render_3d(empty, (16, 12)) is None
    assert rendering.front_view(empty, (16, 12)) is None


def test_the_colours_are_those_of_the_segments() -> None:
    assert tuple(segment.colour for segment in SEGMENTS) == rendering_vtk.COLOURS
