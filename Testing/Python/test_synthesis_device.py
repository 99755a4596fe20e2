"""Synthetic scans on another device than the CPU, and the same as ever on the CPU."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from LiverTumorSegLib.errors import TrainingError
from LiverTumorSegLib.recipe import Intensity, Sampling
from LiverTumorSegLib.training import jobs
from LiverTumorSegLib.training.fitting import moved
from LiverTumorSegLib.training.sources import SyntheticSource
from LiverTumorSegLib.training.synthesis import library as bodies
from LiverTumorSegLib.training.synthesis.anatomy import Anatomy
from LiverTumorSegLib.training.synthesis.body import complete_body
from LiverTumorSegLib.training.synthesis.generator import Field, drawn_scan, synthetic_scan
from LiverTumorSegLib.training.synthesis.library import AnatomyLibrary
from LiverTumorSegLib.training.synthesis.procedural import procedural_organs
from LiverTumorSegLib.training.synthesis.settings import Settings
from pretend_device import pretend_device
from training_cases import RECIPE, trained

pytestmark = pytest.mark.usefixtures("one_thread")

PLAIN = Settings(darkest_mr_lesion=0.0, unusual=0.0)
FIELDS = {
    "body": Field((24, 32, 32), 4.0),
    "liver": Field((24, 32, 32), 2.0, "liver", cut=0.15),
    "organ": Field((20, 26, 36), 8.0, "organ", cut=0.0),
}


@pytest.fixture(scope="module")
def body() -> Anatomy:
    rng = np.random.default_rng(3)
    return complete_body(procedural_organs(rng), rng, tall=False)


@pytest.fixture(scope="module")
def library(body, tmp_path_factory) -> AnatomyLibrary:
    folder = tmp_path_factory.mktemp("bodies")
    np.save(folder / "one.npy", body.tissues)
    return AnatomyLibrary(folder, ("one.npy",), ("one.npy",))


def checksum(array: np.ndarray) -> float:
    """Return a sum with random signs and weights, as large as the values spread.

    The last bits, in which processors differ, hardly move it; another draw of chance does, by about the spread itself.
    """
    weights = np.random.default_rng(0).standard_normal(array.size)
    return float(array.astype(np.float64).ravel() @ weights / np.sqrt(array.size))


# Field, seed, what it is drawn as, checksums of volume and labels, lesions; of scans drawn on the CPU. They change with
# a generator that is meant to draw other scans, and with nothing else.
AS_EVER = [
    ("body", 2, "CT", -19.3897, -0.40075, 1),
    ("body", 6, "MR", 123.2629, -0.90329, 3),
    ("body", 11, "CT", 129.1311, 0.14237, 0),
    ("liver", 2, "CT", 115.0180, 1.77665, 1),
    ("liver", 6, "MR", 441.0609, 0.77708, 3),
    ("liver", 7, "MR", 19.7277, 0.37484, 0),
    ("organ", 11, "CT", 354.9847, 0.35628, 12),
    ("organ", 6, "MR", 568.3549, 0.37303, 2),
    ("organ", 2, "CT", 123.4621, 0.79178, 0),
]


@pytest.mark.parametrize(("name", "seed", "modality", "volume", "labels", "lesions"), AS_EVER)
def test_on_the_cpu_a_seed_draws_the_scan_that_it_always_drew(body, name, seed, modality, volume, labels, lesions):
    scan = synthetic_scan(body, FIELDS[name], np.random.default_rng(seed), settings=PLAIN)
    assert (scan.modality, len(scan.lesion_diameters_mm)) == (modality, lesions)
    # On another processor a voxel between two tissues may round to the other one: 0.003 deviations were seen.
    assert checksum(scan.volume) == pytest.approx(volume, abs=1e-2 * float(scan.volume.std()))
    assert checksum(scan.labels) == pytest.approx(labels, abs=1e-2)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("aim", ["any", "middle"])
def test_on_another_device_everything_is_drawn_there(body, seed, aim):
    field = FIELDS["liver"]
    expected = drawn_scan(body, field, np.random.default_rng(seed), aim=aim)
    with pretend_device() as (device, _):
        scan = drawn_scan(body, field, np.random.default_rng(seed), aim=aim, device=device)
        assert str(scan.volume.device) == str(scan.labels.device) == device
        volume, labels = scan.volume.cpu(), scan.labels.cpu()
    assert torch.equal(volume, expected.volume)  # its generator is the CPU's, so this is the same scan
    assert torch.equal(labels, expected.labels)


def test_a_body_goes_to_a_device_once_and_of_a_scan_only_places_come_back(body):
    body, field = Anatomy(body.tissues, "a body of which no device knows"), FIELDS["liver"]
    with pretend_device() as (device, crossings):
        drawn_scan(body, field, np.random.default_rng(0), aim="none", device=device)
        assert crossings.to_device.count(body.tissues.size) == 1
        crossings.to_device.clear()
        for seed in range(6):
            drawn_scan(body, field, np.random.default_rng(seed), aim="none", device=device)
        assert max(crossings.to_device + crossings.to_cpu) <= 3 * 2 * max(field.shape)  # a way through the field
        larger = Field((60, 72, 72), 2.0, "liver")
        for seed in range(6):  # a lesion goes through the CPU, in its box
            drawn_scan(body, larger, np.random.default_rng(seed), aim="middle", device=device)
        assert max(crossings.to_device + crossings.to_cpu) < np.prod(larger.shape)


def test_what_is_made_on_the_wrong_device_is_noticed():
    with pretend_device() as (device, _):
        there = torch.zeros(3, device=device)
        with pytest.raises(RuntimeError, match="expected all tensors to be on the same device"):
            there + torch.ones(3)
        with pytest.raises(RuntimeError, match="expected a generator on"):
            torch.randn(3, device=device, generator=torch.Generator().manual_seed(1))
        with pytest.raises(TypeError, match="no float64 there"):
            torch.zeros(3, device=device, dtype=torch.float64)
        assert (there + torch.tensor(2.0)).cpu().tolist() == [2, 2, 2]  # single numbers may come along


INTENSITIES = {
    "liver": Intensity(scale="liver", liver_window=(75.0, 0.5)),
    "unit": Intensity(ct_clip_hu=(-200.0, 300.0), mr_clip_percentiles=(0.5, 99.5), scale="unit"),
    "symmetric": Intensity(mr_clip_percentiles=None, ct_clip_hu=None, scale="symmetric"),
    "zscore": Intensity(scale="zscore"),
    "filtered": Intensity(scale="unit", contrast=6.0),
}


@pytest.mark.parametrize("scale", INTENSITIES)
@pytest.mark.parametrize("context", [1, 3])
def test_a_patch_of_another_device_is_the_patch_of_the_cpu_and_stays_there(library, scale, context):
    arguments = {**RECIPE.stages[1].arguments, "in_channels": context}
    changes = {"intensity": INTENSITIES[scale], "context_slices": context, "arguments": arguments}
    stage = dataclasses.replace(RECIPE.stages[1], **changes)
    recipe = dataclasses.replace(RECIPE, stages=(RECIPE.stages[0], stage))
    expected = SyntheticSource(library, recipe).patches(1, 0, 6)
    with pretend_device() as (device, _):
        patches = SyntheticSource(library, recipe, device=device).patches(1, 0, 6)
        for number in range(6):
            patch = patches[number]
            assert all(str(part.device) == device for part in patch)
            assert all(one is two for one, two in zip(patch, moved(patch, device), strict=True))
            volume, labels = (part.cpu() for part in patch)
            assert torch.allclose(volume, expected[number][0], atol=1e-5)
            assert torch.equal(labels, expected[number][1])


def test_a_stage_with_an_augmentation_takes_its_patches_through_memory_and_back(library):
    recipe = trained(augmentation="s0", sampling=Sampling(lesion=1.0, liver_without_lesion=0.0))
    expected = SyntheticSource(library, recipe).patches(1, 0, 2)
    with pretend_device() as (device, crossings):
        patch = SyntheticSource(library, recipe, device=device).patches(1, 0, 2)[1]
        assert crossings.to_cpu.count(patch[0].numel()) == 2  # volume and labels
        assert torch.equal(patch[0].cpu(), expected[1][0])


def test_patches_of_a_device_are_not_for_workers(library):
    patches = SyntheticSource(library, RECIPE, device="meta").patches(0, 0, 2)
    with pytest.raises(TrainingError, match="wanted them made in the training process, got a worker's"):
        next(iter(torch.utils.data.DataLoader(patches, num_workers=1)))


@pytest.mark.parametrize(("device", "workers"), [("cuda:0", 0), ("mps", 0), ("cpu", 3)])
def test_the_device_of_a_job_is_where_its_scans_are_drawn(monkeypatch, tmp_path, library, device, workers):
    def seen(run, stages, team):
        assert (run.device, run.source.device, run.workers) == (device, device, workers)
        # A run goes on with the same only.
        assert (run.origin["device"], run.origin["sources"]) == (device.removesuffix(":0"), "these")
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "resolve_device", lambda name: name)
    monkeypatch.setattr(bodies, "build_library", lambda *args, **kwargs: dataclasses.replace(library, sources="these"))
    monkeypatch.setattr(jobs, "train", seen)
    with pytest.raises(KeyboardInterrupt):
        jobs.train_fold(jobs.Job(RECIPE, tmp_path, (0, 1), device=device, workers=3))


def test_arrays_of_a_scan_are_drawn_on_the_device_and_brought_back_at_the_end(body):
    expected = synthetic_scan(body, FIELDS["liver"], np.random.default_rng(2))
    with pretend_device() as (device, crossings):
        scan = synthetic_scan(body, FIELDS["liver"], np.random.default_rng(2), device=device)
    assert crossings.to_cpu[-2:] == [scan.volume.size] * 2
    assert np.array_equal(scan.volume, expected.volume)
    assert np.array_equal(scan.labels, expected.labels)
