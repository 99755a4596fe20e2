"""Several phases of one study: which channel each becomes, what is refused, and which volume is which by its name."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import SimpleITK as sitk

import LiverTumorSegLib.segmenter
from LiverTumorSegLib import segment
from LiverTumorSegLib.__main__ import main
from LiverTumorSegLib.errors import ImageError, LiverTumorSegWarning
from LiverTumorSegLib.phases import Candidate, match_phases
from LiverTumorSegLib.recipe import Intensity, Phase, recipe_to_json
from test_segmenter import RECIPE, bundle

ARTERIAL, DELAYED = Phase("arterial", ("art", "late arterial")), Phase("delayed", ("equilibrium",))
LIVER, BRIGHTER, DARKER = 0.62, 0.72, 0.50  # 110, 160 and 50 HU, from -200 to 300


class Recorder:
    """Keeps what it is shown; takes the first channel for liver where it is about 110 HU."""

    name, device, precision = "recorder", "cpu", "f32"

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def __call__(self, array: np.ndarray) -> np.ndarray:
        self.seen.append(array[0].copy())
        scan = array[:, :1]
        return np.concatenate([0 * scan, 10 - 80 * np.abs(scan - LIVER), 0 * scan - 9], axis=1).astype(np.float32)

    def middle(self) -> list[float]:
        """The grey value of each channel in the middle of the field."""
        _, k, j, i = self.seen[-1].shape
        return [round(float(value), 4) for value in self.seen[-1][:, k // 2, j // 2, i // 2]]


@pytest.fixture
def engines(monkeypatch) -> list[Recorder]:
    opened: list[Recorder] = []

    def open_one(*args, **kwargs) -> Recorder:
        opened.append(Recorder())
        return opened[-1]

    monkeypatch.setattr(LiverTumorSegLib.segmenter, "open_engine", open_one)
    return opened


@pytest.fixture
def study(ellipsoid_scan) -> dict[str, sitk.Image]:
    """The scan with a liver of 110 HU, and the same with other levels."""
    scan, labels = ellipsoid_scan((60, 60, 40), (3, 3, 3), lesions=[])
    liver = sitk.Cast(labels > 0, sitk.sitkInt16)
    return {"scan": scan, "arterial": scan + liver * 50, "delayed": scan - liver * 60}


def recipe_with(*phases: Phase, second: Intensity | None = None):
    stages = [dataclasses.replace(each, arguments={"in_channels": 1 + len(phases)}) for each in RECIPE.stages]
    if second is not None:
        stages[1] = dataclasses.replace(stages[1], intensity=second)
    return dataclasses.replace(RECIPE, stages=tuple(stages), phases=phases)


def mirrored(image: sitk.Image) -> sitk.Image:
    """The same voxels at the same places, counted from the other end of i and k."""
    other = sitk.GetImageFromArray(sitk.GetArrayFromImage(image)[::-1, :, ::-1])
    other.SetSpacing(image.GetSpacing())
    other.SetOrigin(image.TransformIndexToPhysicalPoint((image.GetWidth() - 1, 0, image.GetDepth() - 1)))
    other.SetDirection([v if n % 3 == 1 else -v for n, v in enumerate(image.GetDirection())])
    return other


# Channels


def test_channels_are_the_scan_and_the_phases_in_the_order_of_the_recipe(engines, study):
    two = bundle(recipe_with(ARTERIAL, DELAYED))
    given = {"delayed": study["delayed"], "arterial": study["arterial"]}
    result = segment(study["scan"], two, phases=given, modality="CT")
    assert [engine.middle() for engine in engines] == [[LIVER, BRIGHTER, DARKER]] * 2
    assert result.provenance.phases == ("arterial", "delayed")
    assert result.labels.GetSize() == study["scan"].GetSize()

    swapped = {"arterial": study["delayed"], "delayed": study["arterial"]}
    segment(study["scan"], two, phases=swapped, modality="CT")
    assert [engine.middle() for engine in engines[2:]] == [[LIVER, DARKER, BRIGHTER]] * 2
    segment(study["scan"], bundle(recipe_with(DELAYED, ARTERIAL)), phases=given, modality="CT")
    assert [engine.middle() for engine in engines[4:]] == [[LIVER, DARKER, BRIGHTER]] * 2


def test_one_image_as_scan_and_as_phase_gives_two_equal_channels(engines, study):
    segment(study["scan"], bundle(recipe_with(ARTERIAL)), phases={"arterial": study["scan"]}, modality="CT")
    for engine in engines:
        assert np.array_equal(engine.seen[0][0], engine.seen[0][1])


def test_a_phase_on_another_grid_shows_the_same_place(engines, study):
    other = mirrored(study["scan"])[4:, :50, 3:37]
    # That leaves 0 to 55 of i (from the other end), 0 to 49 of j and 3 to 36 of k: all of the liver.
    segment(study["scan"], bundle(recipe_with(ARTERIAL)), phases={"arterial": other}, modality="CT")
    for engine, most in zip(engines, (0.02, 1e-4), strict=True):  # on the first grid, other voxels are averaged
        scan, phase = engine.seen[0]
        inside = tuple(slice(n // 4, 3 * n // 4) for n in scan.shape)
        assert np.abs(phase[inside] - scan[inside]).mean() < most
        assert np.ptp(scan[inside]) > 0.2  # liver and fat


def test_an_optional_phase_that_is_missing_is_zero_everywhere(engines, study):
    two = bundle(recipe_with(ARTERIAL, DELAYED))
    result = segment(study["scan"], two, phases={"delayed": study["delayed"]}, modality="CT")
    assert [engine.middle() for engine in engines] == [[LIVER, 0.0, DARKER]] * 2
    assert not any(engine.seen[0][1].any() for engine in engines)
    assert result.provenance.phases == ("delayed",)
    assert segment(study["scan"], two, modality="CT").provenance.phases == ()


@pytest.mark.filterwarnings("ignore:no liver was found")
def test_each_phase_is_seen_relative_to_its_own_liver(engines, study):
    relative = recipe_with(ARTERIAL, second=Intensity(scale="liver"))
    segment(study["scan"], bundle(relative), phases={"arterial": study["arterial"]}, modality="CT")
    assert engines[1].middle() == [0.0, 0.0]


def test_a_phase_whose_values_start_at_zero_is_brought_to_hounsfield_units_and_the_warning_names_it(engines, study):
    shifted = study["arterial"] + 1024
    with pytest.warns(LiverTumorSegWarning, match="phase arterial: .*1024 was subtracted"):
        segment(study["scan"], bundle(recipe_with(ARTERIAL)), phases={"arterial": shifted}, modality="CT")
    assert engines[0].middle() == [LIVER, BRIGHTER]


@pytest.mark.filterwarnings("ignore:phase arterial. the scan is very thin")
def test_a_phase_that_does_not_reach_the_liver_counts_as_missing_there(engines, study):
    corner = study["arterial"][:, :, :4]  # the liver's box begins at voxel 8 of k, less 3 of margin
    with pytest.warns(LiverTumorSegWarning, match="phase arterial: it does not reach the region of the liver"):
        segment(study["scan"], bundle(recipe_with(ARTERIAL)), phases={"arterial": corner}, modality="CT")
    assert engines[0].seen[0][1].any()
    assert not engines[1].seen[0][1].any()


# What is refused


def refusals(study) -> dict[str, tuple[dict[str, sitk.Image], str]]:
    far, flat = sitk.Image(study["scan"]), sitk.Image(study["scan"]) * 0
    far.SetOrigin((500.0, 0.0, 0.0))
    magnitude = sitk.Image(study["scan"])
    magnitude.SetMetaData("Modality", "MR")
    return {
        "missing": ({}, "phase arterial: wanted a scan, as the recipe requires it, got none"),
        "unknown": ({"portal": far}, "phase: wanted arterial or delayed, got 'portal'"),
        "modality": (
            {"arterial": magnitude},
            "phase arterial: wanted CT as the scan is, got MR; if it is not, say which",
        ),
        "elsewhere": (
            {"arterial": far},
            "phase arterial: wanted a scan of the same place, got one that does not overlap",
        ),
        "empty": ({"arterial": flat}, "phase arterial: wanted a scan, got 0 in every voxel"),
    }


@pytest.mark.parametrize("what", ["missing", "unknown", "modality", "elsewhere", "empty"])
def test_what_does_not_fit_is_one_line_that_names_the_phase(what, engines, study):
    required = dataclasses.replace(ARTERIAL, required=True)
    phases, message = refusals(study)[what]
    with pytest.raises(ImageError) as caught:
        segment(study["scan"], bundle(recipe_with(required, DELAYED)), phases=phases)
    assert str(caught.value).startswith(message)
    assert engines[0].seen == []


def test_a_modality_that_the_user_says_holds_for_all_phases(engines, study):
    phases = {"arterial": refusals(study)["modality"][0]["arterial"]}
    assert segment(study["scan"], bundle(recipe_with(ARTERIAL)), phases=phases, modality="CT").provenance.phases


def test_networks_of_one_phase_take_no_further_ones(engines, study):
    with pytest.raises(ImageError, match="phase: wanted none, as the recipe has none, got 'arterial'"):
        segment(study["scan"], bundle(), phases={"arterial": study["arterial"]}, modality="CT")


# The command line


@pytest.fixture
def files(tmp_path, ellipsoid_scan):
    """Return a function that runs `segment` on two files with a bundle and more arguments."""
    for seed, name in enumerate(("scan", "late")):
        sitk.WriteImage(ellipsoid_scan(noise_hu=10)[0] + seed, str(tmp_path / f"{name}.nii.gz"))

    def run(bundle, *more: str) -> int:
        out = ["-o", str(tmp_path / "out"), "--bundle", str(bundle), "--device", "cpu", "--no-html", "--quiet"]
        return main(["segment", str(tmp_path / "scan.nii.gz"), *out, *more])

    return run


def test_a_phase_is_given_by_name_and_file(files, phased_bundle, tmp_path):
    assert files(phased_bundle, "--phase", f"arterial={tmp_path / 'late.nii.gz'}") == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["provenance"]["phases"] == ["arterial"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["arterial"], "--phase: wanted NAME=FILE, each name once, got 'arterial'"),
        (["arterial="], "--phase: wanted NAME=FILE, each name once, got 'arterial='"),
        (["arterial=scan.nii.gz", "arterial=late.nii.gz"], "each name once, got 'arterial=late.nii.gz'"),
        (["portal=late.nii.gz"], "phase: wanted arterial, got 'portal'"),
        (["arterial=nowhere.nii.gz"], "nowhere.nii.gz, which does not exist"),
    ],
)
def test_a_phase_that_cannot_be_used_is_one_line(
    arguments, message, files, phased_bundle, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert files(phased_bundle, *(word for each in arguments for word in ("--phase", each))) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert message in told[0]
    assert not (tmp_path / "out").exists()


def test_synthetic_scans_cannot_train_networks_of_several_phases(tmp_path, capsys):
    (tmp_path / "recipe.json").write_text(recipe_to_json(recipe_with(ARTERIAL)), encoding="utf-8")
    assert main(["train", str(tmp_path / "recipe.json"), "-o", str(tmp_path / "run")]) == 2
    assert "synthetic scans: wanted a recipe of one phase, as they are, got 1 more" in capsys.readouterr().err
    assert not (tmp_path / "run" / "bodies").exists()


def test_a_bundle_says_which_phases_it_looks_at(phased_bundle, capsys):
    assert main(["bundle", "show", str(phased_bundle)]) == 0
    assert "phase arterial: optional" in capsys.readouterr().out
    told = json.loads((phased_bundle / "metadata.json").read_text(encoding="utf-8"))
    assert told["network_data_format"]["inputs"]["image"]["num_channels"] == 2


# Names


def matched(*names: str, phases=(ARTERIAL, DELAYED), scan: str = "portal venous", own: tuple[str, ...] = ()):
    return match_phases(phases, [Candidate(name, (name,), name in own) for name in names], (scan,))


@pytest.mark.parametrize(
    "name",
    ["arterial", "3: ARTERIAL 1.5 B30f", "Liver_art", "CT-Art-Phase", "art2", "LateArterial", "Abdomen, late arterial"],
)
def test_a_phase_is_known_by_whole_words_in_any_case_and_punctuation(name):
    assert matched(name) == {"arterial": name}


@pytest.mark.parametrize("name", ["partial", "start", "articular", "portal", "late", ""])
def test_a_part_of_a_word_is_no_phase(name):
    assert matched(name) == {}


def test_more_words_of_a_phase_win_then_fewer_strange_ones_then_the_order():
    assert matched("arterial", "late arterial") == {"arterial": "late arterial"}
    assert matched("art MPR coronal", "art") == {"arterial": "art"}
    assert matched("art 1", "art 2") == {"arterial": "art 1"}
    assert matched("case7_art", "case8_art", scan="case8_portal") == {"arterial": "case8_art"}


def test_the_study_of_the_scan_comes_first():
    assert matched("late arterial", "art", own=("art",)) == {"arterial": "art"}


def test_a_scan_is_one_phase_at_most():
    early = Phase("early", ("arterial",))
    both = (early, Phase("late", ("late arterial",)))
    assert matched("late arterial", "arterial", phases=both) == {"late": "late arterial", "early": "arterial"}
    assert matched("late arterial", phases=both) == {"late": "late arterial"}


def test_a_series_description_counts_as_a_name():
    renamed = Candidate("node", ("CT_2", "Equilibrium 3 min"))
    assert match_phases((ARTERIAL, DELAYED), [renamed], ("CT",)) == {"delayed": "node"}
