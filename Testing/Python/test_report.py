"""The report page: its numbers, its slices' orientation, and its 3D picture where there is OpenGL."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis.extra import numpy as arrays

from LiverTumorSegLib import rendering, report
from LiverTumorSegLib.errors import OutputError
from LiverTumorSegLib.segmentation import Provenance, Segmentation

pytest.importorskip("jinja2", reason="needs the extra `report`")
image_module = pytest.importorskip("PIL.Image", reason="needs the extra `report`")

AXIAL = (1, 0, 0, 0, 1, 0, 0, 0, 1)
RAS = (-1, 0, 0, 0, -1, 0, 0, 0, 1)
LEFT_HANDED = (-1, 0, 0, 0, 1, 0, 0, 0, 1)
FEET_FIRST = (1, 0, 0, 0, -1, 0, 0, 0, -1)
CORONAL = (1, 0, 0, 0, 0, 1, 0, -1, 0)
SAGITTAL = (0, 0, 1, 1, 0, 0, 0, -1, 0)
DIRECTIONS = (AXIAL, RAS, LEFT_HANDED, FEET_FIRST, CORONAL, SAGITTAL)


def provenance(image: sitk.Image, modality: str = "CT", warnings: tuple[str, ...] = ()) -> Provenance:
    return Provenance(
        software="LiverTumorSeg 0.1.0",
        bundle="default",
        bundle_version="1.2.3",
        bundle_sha256="abcdef0123456789" * 4,
        recipe="meng2020",
        variant="as_printed",
        modality=modality,
        device="cpu",
        engine="openvino",
        precision="f32",
        size_voxels=image.GetSize(),
        spacing_mm=image.GetSpacing(),
        versions={"numpy": "2.0.0"},
        stages={"whole": {"spacing_mm": 3.0, "size_voxels": (96, 96, 64)}},
        seconds={"whole: network": 1.25, "labels": 0.5},
        peak_memory_mb=987.6,
        warnings=warnings,
    )


def segmentation_of(image: sitk.Image, labels: sitk.Image, **told: object) -> Segmentation:
    return Segmentation(labels, image, provenance(image, **told))  # type: ignore[arg-type]


def marked(direction: tuple[float, ...], place_lps: tuple[float, float, float]) -> Segmentation:
    """A liver that fills the scan around the point 0, with one bright voxel at a place."""
    image = sitk.Image([15, 15, 15], sitk.sitkInt16)
    image.SetSpacing((2.0, 3.0, 4.0))
    image.SetDirection(direction)
    middle = image.TransformIndexToPhysicalPoint((7, 7, 7))
    image.SetOrigin([-m for m in middle])
    labels = sitk.Image([15, 15, 15], sitk.sitkUInt8) + 1
    labels.CopyInformation(image)
    image[image.TransformPhysicalPointToIndex(place_lps)] = 200
    return segmentation_of(image, labels)


def brightest(grey: np.ndarray) -> tuple[float, float]:
    """Shares of the width and the height."""
    row, column = np.unravel_index(grey.argmax(), grey.shape)
    return (float(column) + 0.5) / grey.shape[1], (float(row) + 0.5) / grey.shape[0]


def pictures(page: str, kind: str) -> list[np.ndarray]:
    found = re.findall(rf'<img src="data:image/{kind};base64,([^"]+)"', page)
    return [np.asarray(image_module.open(io.BytesIO(base64.b64decode(text)))) for text in found]


@pytest.fixture
def no_3d(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "render_3d", lambda labels, size: None)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_patients_right_is_on_the_left_and_the_front_at_the_top_of_an_axial_slice(
    direction: tuple[float, ...],
) -> None:
    view = report.PatientView(marked(direction, (-8.0, -9.0, 0.0)))
    shown = view.cut("axial", view.middle()[2])
    across, down = brightest(shown.grey)
    assert (across < 0.4, down < 0.4, shown.letters) == (True, True, "RLAP")


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_head_is_at_the_top_of_coronal_and_sagittal_slices(direction: tuple[float, ...]) -> None:
    view = report.PatientView(marked(direction, (-8.0, 0.0, 12.0)))
    across, down = brightest(view.cut("coronal", view.middle()[1]).grey)
    assert (across < 0.4, down < 0.4) == (True, True)
    view = report.PatientView(marked(direction, (0.0, -12.0, 12.0)))
    shown = view.cut("sagittal", view.middle()[0])
    across, down = brightest(shown.grey)
    assert (across < 0.4, down < 0.4, shown.letters) == (True, True, "APSI")


def test_an_oblique_scan_keeps_right_on_the_left(oblique: tuple[float, ...]) -> None:
    view = report.PatientView(marked(oblique, (-10.0, 0.0, 0.0)))
    assert brightest(view.image.max(axis=0))[0] < 0.4


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_index_and_point_are_each_others_inverse_and_agree_with_simpleitk(direction: tuple[float, ...]) -> None:
    segmentation = marked(direction, (-8.0, 6.0, 4.0))
    view = report.PatientView(segmentation)
    head, back, left = np.unravel_index(view.image.argmax(), view.image.shape)
    point = view.axes.point((left, back, head))
    place = segmentation.image.TransformPhysicalPointToIndex(point.tolist())
    assert segmentation.image[place] == 200
    np.testing.assert_allclose(view.axes.index(point), (left, back, head), atol=1e-9)


def test_positions_are_named_with_the_letter_of_their_side() -> None:
    point = np.array([12.0, 7.5, -30.0])
    assert [report.position(point, axis) for axis in range(3)] == ["L 12.0 mm", "P 7.5 mm", "I 30.0 mm"]


def test_a_slice_has_its_true_proportions_whatever_the_spacing() -> None:
    view = report.PatientView(marked(AXIAL, (0, 0, 0)))
    assert view.cut("axial", 7).size_mm == (30.0, 45.0)
    assert view.cut("coronal", 7).size_mm == (30.0, 60.0)
    assert view.cut("sagittal", 7).size_mm == (45.0, 60.0)


def test_the_outline_of_a_rectangle_encloses_its_area_less_the_corners() -> None:
    mask = np.zeros((40, 60), bool)
    mask[10:30, 20:50] = True
    (curve,) = report.outlines(mask)
    x, y = curve.T
    area = abs(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2
    assert 595 < area < 600
    np.testing.assert_allclose((curve.min(0), curve.max(0)), ((20, 10), (50, 30)), atol=0.01)


def test_a_hole_and_each_island_have_their_own_outline() -> None:
    mask = np.zeros((12, 12), bool)
    mask[1:8, 1:8] = True
    mask[4, 4] = False
    mask[10, 10] = True
    assert len(report.outlines(mask)) == 3


@settings(max_examples=30, deadline=None)
@given(arrays.arrays(bool, (6, 7)))
def test_every_outline_is_closed_and_every_border_is_on_one(mask: np.ndarray) -> None:
    curves = report.outlines(mask)
    padded = np.pad(mask, 1)
    borders = (padded[1:] != padded[:-1]).sum() + (padded[:, 1:] != padded[:, :-1]).sum()
    assert sum(map(len, curves)) == borders


def test_the_page_has_the_numbers_of_the_segmentation(
    ellipsoid_scan: Callable[..., tuple[sitk.Image, sitk.Image]], tmp_path: Path, no_3d: None
) -> None:
    scan, labels = ellipsoid_scan(lesions=(((0, 0, 0), 12.0), ((-25, 0, 10), 7.0)))
    segmentation = segmentation_of(scan, labels, warnings=("slices are <thick>",))
    report.write_html(segmentation, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    largest = segmentation.lesions[0]
    wanted = [
        f"{segmentation.liver_ml:.0f}<small>ml",
        f"{segmentation.tumour_ml:.2f}<small>ml",
        "<dt>Lesions</dt><dd>2</dd>",
        f"<td>{largest.volume_ml:.2f}</td>",
        f"{largest.axial_long_axis_mm:.1f} × {largest.axial_perpendicular_mm:.1f}",
        "abcdef012345<",
        "default 1.2.3",
        "meng2020, as printed",
        "96 × 96 × 64 voxels of 3.0 mm",
        "988 MB",
        "1.75 s",
        "slices are &lt;thick&gt;",
        "not a medical device",
        "No 3D picture: no OpenGL on this computer",
    ]
    assert [text for text in wanted if text not in page] == []
    assert page.index("slices are") < page.index("Liver, with tumours")


def test_the_page_fetches_nothing_and_has_one_picture_a_slice(
    ellipsoid_scan: Callable[..., tuple[sitk.Image, sitk.Image]], tmp_path: Path, no_3d: None
) -> None:
    lesions = [((0, 0, -24), 7.0), ((-20, 0, 0), 9.0), ((20, 0, 0), 8.0)]
    segmentation = segmentation_of(*ellipsoid_scan(lesions=lesions))
    report.write_html(segmentation, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    slices = {lesion.axial_slice for lesion in segmentation.lesions}
    assert len(pictures(page, "jpeg")) == 3 + len(slices)
    assert not re.search(r"https?:|<script|<link|@import|url\(", page)
    assert len(page) < 2_000_000


def test_many_lesions_are_listed_up_to_a_limit_and_counted_beyond(
    monkeypatch: pytest.MonkeyPatch,
    ellipsoid_scan: Callable[..., tuple[sitk.Image, sitk.Image]],
    tmp_path: Path,
    no_3d: None,
) -> None:
    monkeypatch.setattr(report, "LISTED_LESIONS", 1)
    scan, labels = ellipsoid_scan(lesions=(((0, 0, 0), 12.0), ((-25, 0, 10), 7.0)))
    report.write_html(segmentation_of(scan, labels), tmp_path / "report.html")
    assert "and 1 smaller, " in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_an_empty_segmentation_has_a_page_that_says_so(tmp_path: Path, modality: str) -> None:
    image = sitk.Image([20, 20, 10], sitk.sitkFloat32)
    segmentation = segmentation_of(image, sitk.Image([20, 20, 10], sitk.sitkUInt8), modality=modality)
    report.write_html(segmentation, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "No liver was found in this scan." in page
    assert "No lesions were found." in page
    assert "OpenGL" not in page
    assert len(pictures(page, "jpeg")) == 3


def test_a_liver_without_lesions_says_so(
    ellipsoid_scan: Callable[..., tuple[sitk.Image, sitk.Image]], tmp_path: Path, no_3d: None
) -> None:
    report.write_html(segmentation_of(*ellipsoid_scan(lesions=())), tmp_path / "report.html")
    assert "No lesions were found in the liver." in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_place_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    image = sitk.Image([8, 8, 8], sitk.sitkInt16)
    segmentation = segmentation_of(image, sitk.Image([8, 8, 8], sitk.sitkUInt8))
    with pytest.raises(OutputError, match="cannot write the report"):
        report.write_html(segmentation, tmp_path / "missing" / "report.html")


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0"), (0.1234, "0.12"), (9.876, "9.88"), (73.44, "73.4"), (2493.2, "2493")],
)
def test_numbers_keep_three_digits_but_never_lose_one_before_the_point(value: float | None, text: str) -> None:
    assert report.figure(value) == text


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


def test_without_opengl_there_is_no_picture_and_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(rendering.LIBRARIES, "vtkOSOpenGLRenderWindow", ())
    assert rendering.main("scene.npz", "picture.npy", "vtkOSOpenGLRenderWindow") == rendering.NO_OPENGL
    assert rendering.render_3d(asymmetric(AXIAL), (16, 12), windows=()) is None


def test_a_child_process_that_dies_leaves_no_picture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "dies"
    program.write_text("#!/bin/sh\nkill -SEGV $$\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setattr(rendering.sys, "executable", str(program))
    assert rendering.render_3d(asymmetric(AXIAL), (16, 12), windows=("native", "native")) is None


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
