"""S3 from the scan to types, with stand-ins for its networks that answer by grey value."""

from __future__ import annotations

import dataclasses
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from LiverTumorSegLib.bundle import Bundle
from LiverTumorSegLib.errors import LiverTumorSegWarning, RecipeError
from LiverTumorSegLib.lesions import find_lesions
from LiverTumorSegLib.output import lesion_columns
from LiverTumorSegLib.recipe import Axis, Grid, Intensity, Phase, Recipe, Stage, Typing
from LiverTumorSegLib.segmenter import Segmenter
from LiverTumorSegLib.systems import Outcome, system_named
from LiverTumorSegLib.systems.stages import Networks, Study

TYPES = Typing().lesion_types
NAMES = ("background", *TYPES, "liver", "hepatic_vessels", "spleen")
PATCH_NAMES = ("background", *TYPES, "liver")
AIR, FAT, LIVER, SURE, FALSE, FAINT = -1000, -90, 110, 60, 20, 85


class ByGreyValue:
    """A network whose logits follow from the first channel's HU; `answers` maps them to (class, logit) pairs."""

    device, name, precision = "cpu", "stand-in", "f32"

    def __init__(self, classes: tuple[str, ...], answers: dict[int, tuple[tuple[str, float], ...]]) -> None:
        self._classes, self._answers = classes, answers
        self.seen: list[np.ndarray] = []

    def __call__(self, array: np.ndarray) -> np.ndarray:
        """(1, channels, k, j, i) scaled -100..250 HU to 0..1 -> (1, classes, k, j, i)."""
        self.seen.append(array)
        hu = array[0, 0] * 350 - 100
        logits = np.zeros((1, len(self._classes), *hu.shape), np.float32)
        logits[0, 0] = 5.0  # what nothing is said of is background
        for level, told in self._answers.items():
            for name, logit in told:
                logits[0, self._classes.index(name)][np.abs(hu - level) < 8] = logit
        return logits


WHOLE = {
    LIVER: (("liver", 8.0),),
    SURE: (("hcc", 9.0),),
    FALSE: (("other", 9.0),),
    FAINT: (("liver", 8.0), ("cyst", 7.0)),  # one less than the liver: wins from a factor of e on
}
PATCHES = {LIVER: (("liver", 8.0),), SURE: (("metastasis", 9.0),), FALSE: (("liver", 8.0),), FAINT: (("cyst", 9.0),)}


def recipe(phases: tuple[str, ...] = (), **options: Any) -> Recipe:
    axis = Axis(times_own=1.0)
    window = (16, 16, 8)
    stages = tuple(
        Stage(
            name=name,
            network="dynunet",
            arguments={"in_channels": 1 + len(phases), "out_channels": len(classes)},
            grid=Grid(axes=(axis, axis, axis)),
            intensity=Intensity(ct_clip_hu=(-100.0, 250.0), scale="unit"),
            window=size,
            classes=classes,
            region=region,
        )
        for name, classes, size, region in (
            ("whole", NAMES, (48, 48, 16), "whole"),
            ("patch", PATCH_NAMES, window, "lesion"),
        )
    )
    return Recipe(
        "s3",
        "repaired",
        "a test",
        stages,
        phases=tuple(Phase(name) for name in phases),
        system="typing",
        label_names=NAMES,
        typing=Typing(**{"register": "none", **options}),
    )


def body(size: tuple[int, int, int] = (48, 48, 32)) -> tuple[sitk.Image, np.ndarray]:
    """A block of liver in fat, 2 mm voxels; give the image and its array, (k, j, i), to draw in before `image_of`."""
    array = np.full(size[::-1], AIR, np.int16)
    array[2:-2, 3:-3, 3:-3] = FAT
    array[6:26, 8:40, 8:40] = LIVER
    return image_of(array), array


def image_of(array: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((2.0, 2.0, 2.0))
    image.SetOrigin((-48.0, -48.0, 10.0))
    return image


def patient() -> np.ndarray:
    """Three lesions of 5 x 6 x 6 voxels, 1.44 ml: one that both networks see, one that is none, and a faint one."""
    _, array = body()
    array[8:13, 12:18, 12:18] = SURE
    array[8:13, 12:18, 28:34] = FALSE
    array[18:23, 28:34, 12:18] = FAINT
    return array


def run(array: np.ndarray, made: Recipe, phases: dict[str, sitk.Image | None] | None = None) -> tuple[Outcome, Any]:
    engines = {"whole": ByGreyValue(NAMES, WHOLE), "patch": ByGreyValue(PATCH_NAMES, PATCHES)}
    study = Study(image_of(array), phases or {}, "CT")
    return system_named("typing")(study, Networks(made, engines)), engines


def test_false_positives_go_types_are_corrected_and_the_high_sensitivity_finds_the_faint_one() -> None:
    array = patient()
    outcome, _ = run(array, recipe())
    assert [kind.name for kind in outcome.kinds] == ["metastasis", "cyst"]
    assert [kind.score for kind in outcome.kinds] == pytest.approx([1.0, 1.0])
    labels = outcome.evidence.labels_like(image_of(array))
    expected = np.where(array >= SURE, 1, 0)
    expected[(array == SURE) | (array == FAINT)] = 2
    expected[array == FALSE] = 1
    assert np.array_equal(sitk.GetArrayFromImage(labels), expected)
    assert outcome.details["lesions_base"] == {"proposed": 2, "kept": 1}
    assert outcome.details["lesions_high"] == {"proposed": 3, "kept": 2}
    assert outcome.details["lesions_agreed"] == 1
    # Base: metastasis; high: metastasis and cyst. The worst one is the same.
    assert outcome.details["patient_classes"] == {"base": "metastasis", "high": "metastasis"}
    assert outcome.patient_class == "metastasis"


def test_lesions_in_the_liver_are_found_also_when_none_may_lie_beside_it() -> None:
    near, inside = (run(patient(), recipe(reach_mm=reach))[0] for reach in (5.0, 0.0))
    assert inside.kinds == near.kinds
    assert inside.patient_class == "metastasis"


def test_probabilities_are_the_networks_own_although_the_high_sensitivity_counts_four_times() -> None:
    """Of the faint lesion the network says e**2, of liver there e**3, of background 1; of the sure one e**4 and 1."""
    image = image_of(patient())
    evidence = run(patient(), recipe())[0].evidence
    found = find_lesions(evidence.labels_like(image), image, evidence.tumour_probability())
    e = np.e
    wanted = [e**4 / (e**4 + e**-5 + 1), e**2 / (e**2 + e**3 + 1)]
    assert [each.mean_probability for each in found] == pytest.approx(wanted, abs=1e-3)
    # A quarter of the factor 4 is the low sensitivity, at which the faint one is liver.
    low = sitk.GetArrayFromImage(evidence.labels_like(image, 0.25))
    assert set(low[patient() == FAINT]) == {1}
    assert set(low[patient() == SURE]) == {2}


def test_runs_that_differ_leave_the_patient_uncertain() -> None:
    array = patient()
    array[array == SURE] = LIVER
    outcome, _ = run(array, recipe())
    assert outcome.details["patient_classes"] == {"base": "normal", "high": "cyst"}
    assert outcome.patient_class == "uncertain"


def test_each_kind_is_found_again_in_its_lesion_on_the_scans_grid() -> None:
    array = patient()
    outcome, _ = run(array, recipe())
    image = image_of(array)
    lesions = find_lesions(outcome.evidence.labels_like(image), image, kinds=outcome.kinds)
    assert [(each.type, round(each.mean_intensity or 0)) for each in lesions] == [("metastasis", SURE), ("cyst", FAINT)]
    assert lesion_columns(lesions[0], typed=True)["type"] == "metastasis"
    assert "type" not in lesion_columns(lesions[0])


def test_as_printed_a_lesion_under_half_a_millilitre_is_dropped_and_repaired_it_stays() -> None:
    _, array = body()
    array[8:11, 12:15, 12:15] = SURE  # 27 voxels of 8 mm3: 0.216 ml
    assert [kind.name for kind in run(array, recipe())[0].kinds] == ["metastasis"]
    assert run(array, recipe(smallest_share=None))[0].kinds == ()


def test_outside_the_liver_the_patch_network_sees_nothing() -> None:
    array = patient()
    _, engines = run(array, recipe())
    patches = engines["patch"].seen
    assert len(patches) == 5 * 10  # two proposals at the low sensitivity, three at the high one
    assert {patch.shape for patch in patches} == {(1, 1, 8, 16, 16)}
    values = np.unique(np.round(np.concatenate([patch.ravel() for patch in patches]) * 350 - 100))
    assert set(values.tolist()) == {-100.0, FALSE, SURE, FAINT, LIVER}  # -100 stands for 0: no fat, no air


def test_a_hole_in_what_was_seen_of_the_liver_is_shown_to_the_patch_network() -> None:
    array = patient()
    array[14:17, 14:17, 14:17] = 180  # below a lesion; the first network calls it background
    _, engines = run(array, recipe())
    assert any((np.abs(patch * 350 - 100 - 180) < 1).any() for patch in engines["patch"].seen)


def test_a_scan_smaller_than_a_training_patch_is_filled_up_to_its_size() -> None:
    # Instance normalisation of a few voxels is another one than of whole patches, and of a single one it is none.
    array = patient()
    made = recipe()
    wide = dataclasses.replace(made.stages[0], window=(64, 56, 40))
    outcome, engines = run(array, dataclasses.replace(made, stages=(wide, made.stages[1])))
    assert {seen.shape for seen in engines["whole"].seen} == {(1, 1, 40, 56, 64)}
    assert [kind.name for kind in outcome.kinds] == ["metastasis", "cyst"]


def test_phases_are_laid_on_the_scan_first_and_how_well_is_reported() -> None:
    array = patient()
    array[6:26, 8:40, 8:14] = FAINT  # so that the liver has no mirror image
    moved = np.full(array.shape, AIR, np.int16)
    moved[:, :, 3:] = array[:, :, :-3]  # 6 mm to the left
    off = {}
    for method in ("none", "affine"):
        outcome, engines = run(array, recipe(("arterial",), register=method), {"arterial": image_of(moved)})
        scan, phase = engines["whole"].seen[0][0, :, :, 8:-8, 8:-8]
        off[method] = float(np.abs(scan - phase).mean())
    assert off["affine"] < 0.6 * off["none"]  # what is left is between two voxels, at edges
    told = outcome.details["registration"]["arterial"]
    assert told["used"]
    assert told["after"] > told["before"] + 0.03
    assert told["displacement_mm"][0] == pytest.approx(6, abs=1)
    json.dumps(outcome.details)


@pytest.mark.filterwarnings("ignore:phase arterial. not registered, that made it no better")
def test_phases_that_lie_on_the_scan_already_need_not_be_registered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bundle = Bundle(tmp_path, recipe(("arterial",), register="affine"), {"version": "0"}, "0" * 64)
    engines = {"whole": ByGreyValue(NAMES, WHOLE), "patch": ByGreyValue(PATCH_NAMES, PATCHES)}
    monkeypatch.setattr("LiverTumorSegLib.segmenter.open_engine", lambda _, stage, **more: engines[stage.name])
    scan = image_of(patient())
    for registration in (True, False):
        done = Segmenter(bundle, device="cpu", registration=registration)(scan, phases={"arterial": scan})
        steps = [step for step in done.provenance.seconds if step.startswith("registration")]
        assert (len(steps) == 1) == registration
        assert len(done.lesions) == 2
    assert done.provenance.details["registration"] == "switched off"


def test_missing_phases_are_zero_and_given_ones_are_channels() -> None:
    array = patient()
    given = {"arterial": image_of(array), "venous": None, "delayed": image_of(array)}
    outcome, engines = run(array, recipe(("arterial", "venous", "delayed")), given)
    assert len(outcome.kinds) == 2
    for name in ("whole", "patch"):
        channels = engines[name].seen[0][0]
        assert np.array_equal(channels[0], channels[1])
        assert np.array_equal(channels[0], channels[3])
        assert not channels[2].any()
        assert channels[0].any()


def test_without_a_liver_nothing_is_silent() -> None:
    _, array = body()
    array[array == LIVER] = FAT
    with pytest.warns(LiverTumorSegWarning, match="found no liver, so no lesion was looked for"):
        outcome, engines = run(array, recipe())
    assert (outcome.kinds, outcome.patient_class) == ((), "normal")
    assert not engines["patch"].seen
    assert not sitk.GetArrayFromImage(outcome.evidence.labels_like(image_of(array))).any()


def test_lesions_of_both_parts_of_a_liver_in_two_parts_are_found() -> None:
    array = patient()
    array[:, :, 22:25] = FAT
    array[:, :, 25:40][array[:, :, 25:40] == FALSE] = SURE
    outcome, _ = run(array, recipe())
    assert [kind.name for kind in outcome.kinds] == ["metastasis", "metastasis", "cyst"]


def test_a_lesion_at_the_livers_surface_is_kept() -> None:
    _, array = body()
    array[10:16, 36:42, 20:26] = SURE  # two of its six rows lie in fat
    outcome, _ = run(array, recipe())
    labels = sitk.GetArrayFromImage(outcome.evidence.labels_like(image_of(array)))
    assert np.count_nonzero(labels == 2) == 216


def test_all_classes_of_the_whole_scan_are_never_held_at_once() -> None:
    array = np.kron(patient(), np.ones((3, 3, 3), np.int16))
    all_classes = array.size * 4 * 14  # as many as S3 has, in single precision
    tracemalloc.start()
    run(array, recipe())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.8 * all_classes


def test_of_a_long_scan_only_the_livers_surroundings_are_kept() -> None:
    long = np.concatenate([patient(), np.full((32, 48, 120), AIR, np.int16)], axis=2)
    outcome, _ = run(long, recipe())
    # The liver ends at voxel 40, and the margin of 60 mm 30 voxels further on.
    assert outcome.evidence.geometry.size == (70, 48, 32)
    assert len(outcome.kinds) == 2


def test_a_recipe_whose_stages_lie_on_two_grids_is_refused() -> None:
    made = recipe()
    other = dataclasses.replace(made.stages[1], grid=Grid(spacing_mm=2.0, multiple_of=8))
    with pytest.raises(RecipeError, match="wanted two with one grid"):
        run(patient(), dataclasses.replace(made, stages=(made.stages[0], other)))
