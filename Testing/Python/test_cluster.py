"""Ray, on a cluster of two workers on this computer: what runs side by side, what dies, and what it leaves behind."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import SimpleITK as sitk

from cluster_tasks import square
from conftest import draw_ellipsoids
from LiverTumorSegLib.__main__ import main
from LiverTumorSegLib.cluster import Cluster, import_ray, on_ray, share_of_task, side_by_side, train_on_ray
from LiverTumorSegLib.cohort import CaseResult, new_job, run_cohort
from LiverTumorSegLib.errors import DeviceError
from LiverTumorSegLib.recipe import recipe_to_json
from LiverTumorSegLib.scans import find_scans
from LiverTumorSegLib.training.jobs import Data, train_fold
from LiverTumorSegLib.training.jobs import Job as TrainingJob
from training_cases import trained

PATIENT = "Mueller_Anna"
# Not by importing it: what makes a local Ray private is read then.
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs ray: pip install 'LiverTumorSegLib[cluster]'")
TWO = Cluster(threads=1, workers=2)


def test_without_ray_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DeviceError, match=r"pip install 'LiverTumorSegLib\[cluster\]'"):
        import_ray()


def test_a_task_gets_half_of_the_cores_and_four_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, threads in ((1, 1), (2, 1), (6, 3), (64, 4)):
        monkeypatch.setattr("LiverTumorSegLib.cluster.available_cores", lambda cores=cores: cores)
        assert Cluster().threads_each == threads
    assert Cluster(threads=7).threads_each == 7


@pytest.mark.parametrize(
    ("resources", "device", "share"),
    [
        ({"CPU": 16.0, "GPU": 2.0}, "auto", {"num_gpus": 1, "num_cpus": 1}),
        ({"CPU": 16.0, "GPU": 2.0}, "cuda", {"num_gpus": 1, "num_cpus": 1}),
        ({"CPU": 16.0, "GPU": 2.0}, "cpu", {"num_cpus": 4}),
        ({"CPU": 16.0}, "auto", {"num_cpus": 4}),
    ],
)
def test_a_task_takes_a_gpu_where_there_are_any_and_they_are_wanted(
    resources: dict[str, float], device: str, share: dict[str, int]
) -> None:
    assert share_of_task(resources, device, 4) == share


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "wanted a cluster at 127.0.0.1:1, nobody answers there: "),
        ("ray://127.0.0.1:1", "wanted a cluster at ray://127.0.0.1:1, nobody answers there: "),
        ("127.0.0.1:99999", "wanted a cluster at 127.0.0.1:99999, nobody answers there: "),
        ("scan.nii.gz", "wanted HOST:PORT, ray://HOST:PORT or auto, got 'scan.nii.gz'"),
    ],
)
def test_a_cluster_that_cannot_be_reached_is_named_at_once(address: str, message: str) -> None:
    with pytest.raises(DeviceError) as caught:
        list(side_by_side(square, {}, Cluster(address)))
    assert message in str(caught.value)


@pytest.mark.slow
@needs_ray
def test_a_killed_worker_is_tried_once_more_and_an_error_stops_only_its_own_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    answers = {
        key: (answer, error)
        for key, answer, error in side_by_side(square, {n: (n, tmp_path) for n in range(6)}, TWO, "cpu")
    }
    assert {key: answer[0] for key, (answer, _) in answers.items() if answer} == {0: 0, 1: 1, 3: 9, 5: 25}
    assert answers[2] == (None, "two is too even")
    assert answers[4] == (None, "the process that worked on it was ended twice; did memory run out?")
    assert os.getpid() not in {answer[1] for answer, _ in answers.values() if answer}


@pytest.fixture
def own_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A short one, as sockets want: what another run left behind is none of a test's business."""
    with tempfile.TemporaryDirectory(prefix="t", ignore_cleanup_errors=True) as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield


def session_files() -> Iterator[Path]:
    """Return the files of the local Ray that runs now."""
    for folder in Path(tempfile.gettempdir()).glob("lts-*"):
        yield from (path for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
@needs_ray
@pytest.mark.usefixtures("own_temporary_folder")
def test_a_cohort_side_by_side_gives_what_it_gives_one_by_one_and_leaves_no_trace(
    tiny_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    for number in range(3):
        scan = draw_ellipsoids((32, 32, 16), (4.0 + number / 2,) * 3)[0]
        sitk.WriteImage(scan, str(scans / f"{PATIENT}_{number}.nii.gz"))
    (scans / f"{PATIENT}_torn.nii.gz").write_bytes(b"torn")
    job, found = new_job(tiny_bundle, device="cpu", html=False), find_scans(scans)
    logs: list[Path] = []

    def look(result: CaseResult, share: float) -> None:
        logs.extend(session_files())
        assert not [path for path in session_files() if PATIENT.encode() in path.read_bytes()]

    one_by_one = run_cohort(found, job, tmp_path / "one")
    side = run_cohort(found, job, tmp_path / "side", on_ray(TWO), look)
    assert [(r.case, r.state, r.liver_ml, r.lesions) for r in side] == [
        (r.case, r.state, r.liver_ml, r.lesions) for r in one_by_one
    ]
    assert [r.state for r in side] == ["done", "done", "done", "failed"]
    assert logs
    assert not list(session_files())
    assert not (Path.home() / ".ray").exists() or "auth_token" not in os.listdir(Path.home() / ".ray")
    assert PATIENT not in "".join(capfd.readouterr())
    assert [r.state for r in run_cohort(found[:3], job, tmp_path / "side", on_ray(TWO))] == ["kept"] * 3


@pytest.fixture
def folds(tmp_path: Path) -> dict[int, TrainingJob]:
    """Return two trainings on the folds of four patients; a third one has no data."""
    cases = tmp_path / "cases"
    for number in range(4):
        lesion = ((5.0 * number, 0.0, 0.0), 12.0)
        for image, part in zip(draw_ellipsoids(lesions=[lesion]), ("images", "labels"), strict=True):
            (cases / part).mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(image, str(cases / part / f"{PATIENT}_{number}.nii.gz"))
    recipe = trained(epochs=1, iterations_per_epoch=1)

    def job(fold: int) -> TrainingJob:
        data = Data(cases, "nifti", fold, None, tmp_path / "cache")
        return TrainingJob(recipe, tmp_path / f"fold_{fold}", (0,), data, device="cpu", workers=0)

    return {fold: job(fold) for fold in (0, 1, 7)}


@pytest.mark.slow
@needs_ray
@pytest.mark.usefixtures("one_thread")
def test_folds_trained_side_by_side_have_the_weights_of_those_trained_one_by_one(
    folds: dict[int, TrainingJob], tmp_path: Path
) -> None:
    outcomes = {fold: (outcome, error) for fold, outcome, error in train_on_ray(folds, TWO)}
    assert outcomes[7] == (None, "fold: wanted 0 to 3, got 7")
    for fold in (0, 1):
        alone = train_fold(replace(folds[fold], folder=tmp_path / f"alone_{fold}"))
        beside = outcomes[fold][0]
        assert beside is not None
        assert beside.best["whole"]["validation_loss"] == alone.best["whole"]["validation_loss"]
        assert beside.weights["whole"].read_bytes() == alone.weights["whole"].read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--ray",), "--ray: wanted it with --data, got no --data"),
        (("--data", "cases", "--fold", "0", "--ray"), "--ray: wanted it with --all-folds, got one fold"),
    ],
)
def test_training_side_by_side_wants_all_folds(
    arguments: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.json"
    recipe.write_text(recipe_to_json(trained()), encoding="utf-8")
    assert main(["train", str(recipe), "-o", str(tmp_path / "run"), *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
@needs_ray
@pytest.mark.usefixtures("own_temporary_folder")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")
def test_an_interrupt_ends_all_processes_and_keeps_what_is_finished(tiny_bundle: Path, tmp_path: Path) -> None:
    scans, output = tmp_path / "scans", tmp_path / "out"
    scans.mkdir()
    scan = draw_ellipsoids((64, 64, 64), (3.0,) * 3)[0]
    for number in range(24):
        sitk.WriteImage(scan, str(scans / f"{number:02d}.nii.gz"), True)
    command = ["segment", "--cohort", scans, "--bundle", tiny_bundle, "--device", "cpu", "--ray", "-o", output]
    running = subprocess.Popen(
        [sys.executable, "-m", "LiverTumorSegLib", *map(str, command)], stderr=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 120
    while not list(output.glob("*/report.json")) and time.monotonic() < until:
        time.sleep(0.05)
    running.send_signal(signal.SIGTERM)
    _, told = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "interrupted; what is finished stays" in told
    finished = {path.parent.name for path in output.glob("*/report.json")}
    assert 0 < len(finished) < 24
    with (output / "cohort.csv").open(encoding="utf-8", newline="") as file:
        assert {row["case"] for row in csv.DictReader(file)} <= finished
    assert not list(session_files())
