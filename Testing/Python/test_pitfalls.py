"""What goes wrong silently in published pipelines, each with the scan or recipe on which it would show."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

import LiverTumorSegLib.segmenter
from conftest import OBLIQUE, EllipsoidScan
from LiverTumorSegLib import segment
from LiverTumorSegLib.bundle import Bundle
from LiverTumorSegLib.datasets.layouts import find_cases
from LiverTumorSegLib.evaluation.scores import score_case
from LiverTumorSegLib.evaluation.summary import summarise
from LiverTumorSegLib.evaluation.tables import size_table
from LiverTumorSegLib.geometry import fit_grid, whole_box
from LiverTumorSegLib.images import read_image
from LiverTumorSegLib.networks import NETWORKS, build_network
from LiverTumorSegLib.networks.retina import Answer
from LiverTumorSegLib.output import write_nifti
from LiverTumorSegLib.recipe import Axis, Grid, Intensity, Recipe, Stage, load_recipe
from LiverTumorSegLib.resources import resource_path
from LiverTumorSegLib.training.augmentation import AUGMENTATIONS, Pair, View
from LiverTumorSegLib.training.caching import Cache
from LiverTumorSegLib.training.detecting import Detecting
from LiverTumorSegLib.training.measured import MeasuredSource
from LiverTumorSegLib.training.resampling import resample_labels
from LiverTumorSegLib.training.synthesis.anatomy import Tissue
from LiverTumorSegLib.training.synthesis.appearance import draw_look, paint
from shapes import labels_of, volume_with

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


@pytest.fixture
def cascade(monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """Return S1's two stages, both of which go by the grey values."""
    monkeypatch.setattr(LiverTumorSegLib.segmenter, "open_engine", lambda *args, **named: VoteByBrightness())
    return Bundle(Path("cascade"), in_two_stages(BY_BRIGHTNESS), {"version": "0"}, "0" * 64)


def in_two_stages(recipe: Recipe) -> Recipe:
    """The one stage of a recipe for the whole scan, and again for the liver's box."""
    whole = recipe.stages[0]
    stages = (whole, dataclasses.replace(whole, name="crop", region="liver"))
    return dataclasses.replace(recipe, stages=stages, training=recipe.training * 2)


def bright(scan: sitk.Image, truth: sitk.Image) -> sitk.Image:
    return scan + sitk.Cast(truth == 2, sitk.sitkInt16) * 190


def norm_of(stage: Stage) -> str:
    """Return the normalisation of a stage's network, named or by default; "instance" where there is no choice."""
    named = inspect.signature(NETWORKS[stage.network]).parameters.get("norm")
    return str(stage.arguments.get("norm", "instance" if named is None else named.default))


def test_a_missed_small_lesion_shows_in_the_table_by_size_and_not_in_dice() -> None:
    # Pitfall 1: of 1,100 + 8 voxels of 3 mm the 8 of a lesion of 8 mm are missed.
    small, large = np.s_[0:2, 0:2, 0:2], np.s_[2:12, 3:13, 4:15]
    score = score_case(labels_of(volume_with(small, large), (3, 3, 3)), labels_of(volume_with(large), (3, 3, 3)))
    summary = summarise([score])
    assert summary.mask("tumour", "dice").value > 0.99
    rows = {row[0]: (row[1], row[2]) for row in size_table(summary).rows}  # lesions, and recall by any overlap
    assert (rows["5–10 mm"], rows["> 30 mm"]) == (("1", "0.000"), ("1", "1.000"))


def test_what_most_of_a_coarse_voxel_is_decides_and_not_what_lies_in_its_middle() -> None:
    # Pitfall 2: blocks of 3 x 3 voxels of tumour whose middle one is liver; nearest neighbours see the middle ones.
    block = np.full((3, 3), 2, np.uint8)
    block[1, 1] = 1
    labels = sitk.GetImageFromArray(np.tile(block, (3, 4, 4)))
    geometry = fit_grid(labels, whole_box(labels), Grid(axes=(Axis(times_own=3.0), Axis(times_own=3.0), Axis(1.0))))
    nearest = sitk.Resample(
        labels, geometry.image(np.zeros((3, 4, 4), np.uint8)), interpolator=sitk.sitkNearestNeighbor
    )
    assert np.unique(sitk.GetArrayFromImage(nearest)).tolist() == [1]
    got = resample_labels(labels, whole_box(labels), geometry, lesions=())  # with nobody to keep lesions alive
    assert got.shape == (3, 4, 4)
    assert np.unique(got).tolist() == [2]


def test_a_second_part_of_the_liver_with_its_lesion_is_in_the_second_stages_box(cascade: Bundle) -> None:
    # Pitfall 5: after a resection, or in a liver of two lobes, the largest component is not the liver.
    volume = np.full((30, 40, 60), -90, np.int16)
    volume[:, :2] = -1000
    volume[5:25, 8:32, 4:24] = 110
    volume[10:20, 12:24, 44:56] = 110  # an eighth of the other, 80 mm away
    volume[13:17, 16:20, 48:52] = 190
    scan = sitk.GetImageFromArray(volume)
    scan.SetSpacing((4.0, 4.0, 4.0))
    found = sitk.GetArrayFromImage(segment(scan, cascade, modality="CT").labels)
    np.testing.assert_array_equal(found, np.select([volume == 110, volume == 190], [1, 2]))


@pytest.mark.parametrize("path", REPAIRED)
def test_no_statistics_of_a_single_patch_are_kept_for_inference_unless_the_paper_says_so(path: Path) -> None:
    # Pitfall 7: batch normalisation over one patch keeps a mean that no other patch has.
    recipe = load_recipe(path)
    for stage, training in zip(recipe.stages, recipe.training, strict=True):
        assert norm_of(stage) != "batch" or training.batch_size > 1


def test_boxes_are_judged_in_single_precision_whatever_precision_the_network_answers_in() -> None:
    # Pitfall 8: in eight binary digits a box's side near 100 voxels is known to half a voxel, and its overlap likewise.
    shipped = load_recipe(resource_path("Recipes", "s0_csr_unet_as_printed.json"))
    number = next(n for n, stage in enumerate(shipped.stages) if stage.task == "detect")
    arguments = {**shipped.stages[number].arguments, "widths": [4, 4, 4, 8], "channels": 8}
    stages = list(shipped.stages)
    stages[number] = dataclasses.replace(stages[number], arguments=arguments)
    task = Detecting(dataclasses.replace(shipped, stages=tuple(stages)), number, "cpu")
    torch.manual_seed(0)
    answer = build_network("retina_unet", arguments)(torch.rand(1, 1, 24, 24, 24))
    labels = torch.ones(1, 1, 24, 24, 24, dtype=torch.uint8)
    labels[..., 8:13, 8:14, 8:15] = 2

    def loss_of(kind: torch.dtype) -> float:
        heads = {name: [each.bfloat16().to(kind) for each in levels] for name, levels in answer.heads.items()}
        said = Answer(answer.segmentation.bfloat16().to(kind), heads)
        torch.manual_seed(1)  # which negatives are hard is drawn
        return float(task.loss(lambda volume: said, torch.zeros(labels.shape), labels, 0).detach())  # type: ignore[arg-type]

    assert loss_of(torch.bfloat16) == loss_of(torch.float32)


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


def test_only_stages_for_the_whole_body_tell_the_augmentation_so(
    ellipsoid_scan: EllipsoidScan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Pitfall 9: a whole body mirrored left to right is nobody's; `mirrored` leaves it alone where it is told.
    for part, image in zip(("images", "labels"), ellipsoid_scan((24, 20, 12), (6, 6, 6)), strict=True):
        (tmp_path / part).mkdir()
        write_nifti(image, tmp_path / part / "case.nii.gz")
    views: list[View] = []

    def noted(volume: np.ndarray, labels: np.ndarray, _: np.random.Generator, view: View) -> Pair:
        views.append(view)
        return volume, labels

    monkeypatch.setitem(AUGMENTATIONS, "none", noted)
    recipe = in_two_stages(BY_BRIGHTNESS)
    training = tuple(dataclasses.replace(each, patch=(8, 8, 8), augmentation="none") for each in recipe.training)
    cases = find_cases(tmp_path, "nifti")
    source = MeasuredSource(dataclasses.replace(recipe, training=training), cases, (), Cache(tmp_path / "cache"))
    for stage in range(2):
        source.patches(stage, 0, 1)[0]
    assert [view.whole_body for view in views] == [True, False]


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


def test_a_drawn_mr_is_shaded_as_coils_shade_it_and_a_ct_is_not() -> None:
    # Pitfall 10: a network that was shown none of it takes a bias field for a border.
    liver = torch.full((20, 20, 20), int(Tissue.LIVER), dtype=torch.uint8)  # of 240 mm a side
    shading: dict[str, list[float]] = {"MR": [], "CT": []}
    for modality, found in shading.items():
        for seed in range(12):
            rng = np.random.default_rng(seed)
            look = draw_look(rng, modality)  # type: ignore[arg-type]
            volume = paint(liver, torch.zeros(liver.shape), 12.0, look, rng).numpy()
            halves = [np.split(volume, 2, axis) for axis in range(3)]
            found.append(max(abs(float(np.log(low.mean() / high.mean()))) for low, high in halves))
    assert np.median(shading["MR"]) > 0.03
    assert np.median(shading["CT"]) < 0.01


@pytest.mark.parametrize("path", [path for path in REPAIRED if load_recipe(path).phases], ids=lambda path: path.stem)
def test_every_network_of_several_phases_is_trained_on_missing_and_misplaced_ones(path: Path) -> None:
    # Pitfall 11: phases that lie a little off make rims, which a network must not learn to trust.
    recipe = load_recipe(path)
    optional = tuple(number for number, phase in enumerate(recipe.phases, 1) if not phase.required)
    assert optional
    volume = np.zeros((1 + len(recipe.phases), 4, 16, 16), np.float32)
    volume[:, :, 8, 8] = 100.0
    labels = np.zeros(volume.shape[1:], np.uint8)
    for stage, training in zip(recipe.stages, recipe.training, strict=True):
        view = View(stage.region == "whole", (1.0, 1.0, 1.0), optional=optional)
        missing, misplaced = 0, 0
        for seed in range(40):
            rng = np.random.default_rng(seed)
            shown, _ = AUGMENTATIONS[training.augmentation](volume, labels, rng, view)
            there = [np.unravel_index(channel.argmax(), channel.shape) for channel in shown if channel.any()]
            missing += len(there) < len(shown)
            misplaced += int(np.ptp(there, axis=0).max()) > 1  # resampling alone may move a point by one voxel
        assert missing > 4
        assert misplaced > 20, stage.name
