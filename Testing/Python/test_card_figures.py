"""The figures of a model card (`bench_accuracy.py --figures`): what they show, and that they are small."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import SimpleITK as sitk

from LiverTumorSegLib.calibration import Reliability, Voxels
from LiverTumorSegLib.segmentation import Provenance, Segmentation
from LiverTumorSegLib.training.synthesis.holdout import Case

BENCHMARKS = Path(__file__).resolve().parents[1] / "Benchmarks"
BALLS = ((15, 40, 40), (25, 60, 60))  # centres (k, j, i) of two lesions
SPACING_MM = 2.0


@pytest.fixture(scope="module")
def card_figures() -> Iterator[ModuleType]:
    pytest.importorskip("matplotlib", reason="needs the extra 'report'")
    pytest.importorskip("PIL", reason="needs the extra 'report'")
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import card_figures

        yield card_figures
    finally:
        sys.path.remove(str(BENCHMARKS))


def ball(centre: tuple[int, int, int], radius: float) -> np.ndarray:
    """Return where a ball is, (40, 100, 100)."""
    k, j, i = np.indices((40, 100, 100))
    return (k - centre[0]) ** 2 + (j - centre[1]) ** 2 + (i - centre[2]) ** 2 <= radius**2


def image_of(array: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([SPACING_MM] * 3)
    return image


def drawn(modality: str = "CT") -> tuple[Case, Segmentation]:
    """Return a liver of 40 mm with lesions of 6 and 4 voxels' radius, found with other lesions."""
    liver = ball((20, 50, 50), 20)
    truth = liver.astype(np.uint8)
    for centre, radius in zip(BALLS, (6, 4), strict=True):
        truth[ball(centre, radius)] = 2
    predicted = liver.astype(np.uint8)
    predicted[:8] = 0  # the liver's end is cut off
    predicted[ball(BALLS[1], 4)] = 2
    predicted[ball((20, 40, 60), 3)] = 2
    grey = np.random.default_rng(0).normal(50, 20, truth.shape).astype(np.float32)
    case = Case(image_of(grey), image_of(truth), modality, 80)
    made = Provenance("", "", "", "", "", "", modality, "", "", "", case.scan.GetSize(), case.scan.GetSpacing())
    return case, Segmentation(image_of(predicted), case.scan, made)


def test_the_gallery_has_what_was_missed_what_was_made_up_and_what_was_cut(card_figures: ModuleType) -> None:
    gallery = card_figures.Gallery()
    gallery.add(7, *drawn())
    missed, false, liver = (gallery.failures[kind][0] for kind in ("missed", "false", "liver"))
    # Balls of 6 and 3 voxels' radius are 13 and 7 voxels of 2 mm across.
    assert missed.label == "scan 7, CT: missed, 26 mm"
    assert false.label == "scan 7, CT: no lesion, 14 mm"
    assert liver.label.startswith("scan 7, CT: liver cut, Dice 0.9")
    # The slice through the middle of the lesion: a disc of radius 6, whose liver was found.
    assert np.count_nonzero(missed.reference == 2) == np.count_nonzero(ball(BALLS[0], 6)[15])
    assert not (missed.prediction == 2).any()
    assert not (liver.prediction > 0).any()
    assert (liver.reference > 0).any()


def test_the_gallery_keeps_the_worst_two_of_a_kind(card_figures: ModuleType) -> None:
    gallery = card_figures.Gallery()
    case, result = drawn()
    for number in range(3):
        gallery.add(number, case, result)
    right = dataclasses.replace(result, labels=case.truth)
    gallery.add(3, case, right)
    assert {kind: len(each) for kind, each in gallery.failures.items()} == {"missed": 2, "false": 2, "liver": 2}
    assert all("scan 3" not in each.label for kind in gallery.failures.values() for each in kind)


def test_the_figures_are_small_pictures(card_figures: ModuleType, tmp_path: Path) -> None:
    from PIL import Image

    gallery = card_figures.Gallery()
    scores = {factor: card_figures.Score() for factor in (0.5, 1.0, 2.0)}
    for number, modality in enumerate(("CT", "MR")):
        case, result = drawn(modality)
        gallery.add(number, case, result)
        for score in scores.values():
            score.add(case, result.labels)
    curves = {name: Reliability() for name in ("before", "after")}
    logits = np.random.default_rng(0).normal(size=(3, 1000)).astype(np.float32)
    for curve, temperature in zip(curves.values(), (1.0, 2.0), strict=True):
        curve.add(Voxels(logits, logits.argmax(0)), temperature)
    card_figures.draw_reliability(tmp_path / "reliability.png", curves, "2 synthetic scans")
    card_figures.draw_froc(tmp_path / "froc.png", "small", scores, "2 synthetic scans")
    card_figures.draw_failures(tmp_path / "failures.png", "small", gallery, "2 synthetic scans")
    for name in ("reliability", "froc", "failures"):
        path = tmp_path / f"{name}.png"
        assert 2_000 < path.stat().st_size < 150_000
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert min(picture.size) >= 250


def test_a_system_without_failures_or_lesions_has_figures_too(card_figures: ModuleType, tmp_path: Path) -> None:
    case, result = drawn()
    healthy = Case(case.scan, case.truth * 0, "CT", 80)
    gallery, score = card_figures.Gallery(), card_figures.Score()
    gallery.add(0, healthy, dataclasses.replace(result, labels=healthy.truth))
    score.add(healthy, healthy.truth)
    card_figures.draw_reliability(tmp_path / "reliability.png", {"small": Reliability()}, "1 synthetic scan")
    card_figures.draw_froc(tmp_path / "froc.png", "small", {1.0: score}, "1 synthetic scan")
    card_figures.draw_failures(tmp_path / "failures.png", "small", gallery, "1 synthetic scan")
    assert len(list(tmp_path.iterdir())) == 3
