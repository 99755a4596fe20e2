"""What goes wrong silently in published pipelines, each with the scan or recipe on which it would show."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

import LiverTumorSegLib.segmenter
from conftest import OBLIQUE, EllipsoidScan
from LiverTumorSegLib import segment
from LiverTumorSegLib.bundle import Bundle
from LiverTumorSegLib.images import read_image
from LiverTumorSegLib.networks import NETWORKS
from LiverTumorSegLib.output import write_nifti
from LiverTumorSegLib.recipe import Axis, Grid, Intensity, Recipe, Stage, load_recipe
from LiverTumorSegLib.resources import resource_path

REPAIRED = [path for path in sorted(resource_path("Recipes").glob("*.json")) if not path.stem.endswith("as_printed")]
UNIT = Intensity(ct_clip_hu=(-200, 300), mr_clip_percentiles=(0.5, 99.5), scale="unit")
BY_BRIGHTNESS = Recipe(
    "by brightness",
    "repaired",
    "test",
    (Stage("whole", "unet", Grid(axes=(Axis(spacing_mm=4.0, multiple_of=4),) * 3), intensity=UNIT),),
)


class VoteByBrightness:
    """Liver around 110 HU, tumour from about 180 HU up; it notes what it was shown."""

    name, device, precision = "brightness", "cpu", "f32"

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def __call__(self, array: np.ndarray) -> np.ndarray:
        self.seen.append(array.copy())
        liver, tumour = 10 - 80 * np.abs(array - 0.62), 80 * (array - 0.76)
        return np.concatenate([np.zeros_like(array), liver, tumour], axis=1).astype(np.float32)

    def move_to_cpu(self) -> None: ...


@pytest.fixture
def engine() -> VoteByBrightness:
    return VoteByBrightness()


@pytest.fixture
def bundle(monkeypatch: pytest.MonkeyPatch, engine: VoteByBrightness) -> Bundle:
    """Return a bundle of one stage that goes by the grey values."""
    monkeypatch.setattr(LiverTumorSegLib.segmenter, "open_engine", lambda *args, **named: engine)
    return Bundle(Path("brightness"), BY_BRIGHTNESS, {"version": "0"}, "0" * 64)


def bright(scan: sitk.Image, truth: sitk.Image) -> sitk.Image:
    return scan + sitk.Cast(truth == 2, sitk.sitkInt16) * 190


def norm_of(stage: Stage) -> str:
    """Return the normalisation of a stage's network, named or by default; "instance" where there is no choice."""
    named = inspect.signature(NETWORKS[stage.network]).parameters.get("norm")
    return str(stage.arguments.get("norm", "instance" if named is None else named.default))


@pytest.mark.parametrize("path", REPAIRED)
def test_no_statistics_of_a_single_patch_are_kept_for_inference_unless_the_paper_says_so(path: Path) -> None:
    # Pitfall 7: batch normalisation over one patch keeps a mean that no other patch has.
    recipe = load_recipe(path)
    for stage, training in zip(recipe.stages, recipe.training, strict=True):
        assert norm_of(stage) != "batch" or training.batch_size > 1


LEFT_HANDED_OBLIQUE = tuple(-value if n % 3 == 1 else value for n, value in enumerate(OBLIQUE))


@pytest.mark.parametrize("direction", [OBLIQUE, LEFT_HANDED_OBLIQUE])
def test_a_lesion_of_an_oblique_file_comes_back_at_its_place_in_the_patient(
    direction: tuple[float, ...], bundle: Bundle, ellipsoid_scan: EllipsoidScan, tmp_path: Path
) -> None:
    # Pitfall 9: RAS against LPS, k-j-i against i-j-k, a mirrored affine. The lesion lies off the middle on all axes.
    scan, truth = ellipsoid_scan((70, 60, 40), (3, 3, 4), direction, lesions=[((40, 15, -12), 14.0)])
    write_nifti(bright(scan, truth), tmp_path / "scan.nii.gz")
    result = segment(read_image(tmp_path / "scan.nii.gz"), bundle, modality="CT")
    write_nifti(result.labels, tmp_path / "labels.nii.gz")
    found = sitk.ReadImage(str(tmp_path / "labels.nii.gz"))
    places = {}
    for name, labels in (("truth", truth), ("found", found)):
        shape = sitk.LabelShapeStatisticsImageFilter()
        shape.Execute(labels == 2)
        places[name] = shape.GetCentroid(1)
    np.testing.assert_allclose(places["found"], places["truth"], atol=1.0)  # mm, LPS
    assert np.linalg.det(np.array(found.GetDirection()).reshape(3, 3)) == pytest.approx(
        1 if direction is OBLIQUE else -1, abs=1e-4
    )


@pytest.mark.parametrize("padding", [-3024, -2000])
def test_a_network_is_shown_padding_below_air_as_air(
    padding: int, bundle: Bundle, engine: VoteByBrightness, ellipsoid_scan: EllipsoidScan
) -> None:
    # Pitfall 10: averaged with tissue before the clip, -3024 would darken what lies beside it.
    scan, _ = ellipsoid_scan((90, 90, 40), (2, 2, 3))
    volume = sitk.GetArrayFromImage(scan)
    y, x = np.meshgrid(*[np.arange(90) - 44.5] * 2, indexing="ij")
    ring = np.broadcast_to(x**2 + y**2 > 24**2, volume.shape)  # it cuts through the liver's border
    for value in (-1024, padding):
        padded = sitk.GetImageFromArray(np.where(ring, value, volume).astype(np.int16))
        padded.CopyInformation(scan)
        segment(padded, bundle, modality="CT")
    as_air, below = engine.seen
    np.testing.assert_array_equal(below, as_air)


def test_a_ct_whose_intercept_was_lost_gets_the_labels_of_the_same_ct_in_hu(
    bundle: Bundle, ellipsoid_scan: EllipsoidScan
) -> None:
    # Pitfall 10: without the rescale intercept air is 0 and everything is above the window's upper limit.
    scan, truth = ellipsoid_scan((60, 60, 40), (3, 3, 3), lesions=[((0, 0, 0), 16.0)])
    lost = sitk.Cast(sitk.Cast(bright(scan, truth), sitk.sitkInt32) + 1024, sitk.sitkUInt16)
    with pytest.warns(UserWarning, match="values start at zero"):
        found = segment(lost, bundle, modality="CT")
    wanted = segment(bright(scan, truth), bundle, modality="CT")
    assert (sitk.GetArrayViewFromImage(wanted.labels) == 2).any()
    np.testing.assert_array_equal(sitk.GetArrayViewFromImage(found.labels), sitk.GetArrayViewFromImage(wanted.labels))
