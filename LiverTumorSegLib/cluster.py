"""Ray, an engine for work on several cores, GPUs and computers: what runs one by one, side by side.

Needs the extra `cluster`. Without an address a private Ray is started on this computer alone, and ended and wiped
afterwards: it listens on the loopback interface only, asks for a token that nobody else has, has no dashboard, sends no
usage figures, and its logs name no file and no patient.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .cohort import CaseResult, Job, Runner, segment_case
from .errors import DeviceError
from .networks.devices import available_cores
from .scans import Scan

if TYPE_CHECKING:
    from .training.jobs import Job as TrainingJob
    from .training.jobs import Outcome

LOCAL = "local"

_ENDED = "the process that worked on it was ended twice; did memory run out?"
_PATIENCE_S = 10.0
_STORE_BYTES = 100 << 20  # only names and numbers pass between processes

Key = TypeVar("Key")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Cluster:
    """Where to compute.

    Attributes:
        address: of a Ray cluster, or "local" to start one here.
        threads: CPU cores for a task without a GPU; by default half of a computer's, at most 4.
        workers: how many tasks a local Ray runs at once, at most; by default as many as its cores allow.
    """

    address: str = LOCAL
    threads: int | None = None
    workers: int | None = None

    @property
    def threads_each(self) -> int:
        """CPU cores of one task."""
        return self.threads or max(1, min(4, available_cores() // 2))


def on_ray(cluster: Cluster) -> Runner:
    """A `cohort.Runner`; a scan whose process dies is tried once more and then counts as failed."""

    def run(scans: Sequence[Scan], job: Job, output: Path) -> Generator[CaseResult, None, None]:
        where = Path(output).resolve()
        tasks = {scan.name: (replace(scan, path=scan.path.resolve()), job, where) for scan in scans}
        with closing(side_by_side(_segment_on_worker, tasks, cluster, job.device)) as answers:
            for name, result, error in answers:
                yield result if result is not None else CaseResult(name, "failed", error=error)

    return run


def train_on_ray(
    jobs: Mapping[int, TrainingJob], cluster: Cluster
) -> Generator[tuple[int, Outcome | None, str], None, None]:
    """Folds side by side: a fold, what its training came to and "", or None and why there is nothing.

    A fold whose process dies is tried once more, and goes on from its last checkpoint.
    """
    tasks = {fold: (_resolved(job),) for fold, job in jobs.items()}
    device = next((job.device for job in jobs.values()), "auto")
    return side_by_side(_train_on_worker, tasks, cluster, device)


def side_by_side(
    function: Callable[..., Answer], tasks: Mapping[Key, tuple[Any, ...]], cluster: Cluster, device: str = "auto"
) -> Generator[tuple[Key, Answer | None, str], None, None]:
    """Call a function with the arguments of every task, as many at once as there are GPUs, or else cores.

    Args:
        function: of a module that the workers can import; it gets the task's arguments, whether it has a GPU, and how
            many CPU cores.
        tasks: key -> arguments.
        cluster: where.
        device: "cpu" leaves GPUs alone.

    Yields:
        A task's key, the function's answer and "", as they come; or the key, None and why there is no answer.

    Raises:
        DeviceError: Ray is not installed, or the cluster cannot be reached.
    """
    with _connected(cluster) as ray:
        share = share_of_task(ray.cluster_resources(), device, cluster.threads_each)
        remote = ray.remote(function).options(max_retries=1, name="task", **share)
        extra = ("num_gpus" in share, cluster.threads_each)
        running = {remote.remote(*arguments, *extra): key for key, arguments in tasks.items()}
        try:
            while running:
                (ready,), _ = ray.wait(list(running), num_returns=1)
                key = running.pop(ready)
                try:
                    yield key, ray.get(ready), ""
                except ray.exceptions.RayTaskError as error:
                    yield key, None, " ".join(str(error.cause).split())
                except ray.exceptions.RayError:
                    yield key, None, _ENDED
        finally:
            for each in running:
                ray.cancel(each, force=True)


def share_of_task(resources: Mapping[str, float], device: str, threads: int) -> dict[str, int]:
    """What one task takes of a cluster, in Ray's words: a GPU where there are any and they are wanted, or cores."""
    if device != "cpu" and resources.get("GPU", 0) >= 1:
        return {"num_gpus": 1, "num_cpus": 1}
    return {"num_cpus": threads}


def import_ray(local: bool = True) -> Any:
    """The ray module, which then sends no usage figures and prints nothing.

    Args:
        local: a Ray of this computer alone is wanted. What makes it private is read when ray is first imported: a
            program that did so itself has decided that for itself.

    Raises:
        DeviceError: it is not installed.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # It would tell of a dead process on standard output, where our results go; every line of it is skipped.
    os.environ["RAY_DEDUP_LOGS_SKIP_REGEX"] = ".*"
    if local and "ray" not in sys.modules:
        # By its documentation for Windows and macOS; everywhere it makes a local Ray use the loopback interface.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        # A token of this process, which is kept nowhere; ray would put one into the user's home.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        import ray
    except ImportError as error:
        raise DeviceError(
            "ray: wanted it for work on a cluster, it is not installed: pip install 'LiverTumorSegLib[cluster]'"
        ) from error
    return ray


@contextmanager
def _connected(cluster: Cluster) -> Iterator[Any]:
    """Ray, connected; a local one is ended and its folder removed."""
    local = cluster.address == LOCAL
    if not local:
        _check_reachable(cluster.address)
    ray = import_ray(local)
    with tempfile.TemporaryDirectory(prefix="lts-") as folder:  # short, as paths of sockets must be
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if local:
            threads = cluster.threads_each
            cores = min(available_cores(), (cluster.workers or available_cores()) * threads)
            options |= {
                "num_cpus": max(cores, threads),
                "include_dashboard": False,
                "object_store_memory": _STORE_BYTES,
                "_temp_dir": folder,
            }
        on_terminate = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(cluster.address, **options)
        except (OSError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise DeviceError(f"ray: wanted a cluster at {cluster.address}, got: {reason}") from error
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_terminate)  # ray has put its own there
        try:
            yield ray
        finally:
            ray.shutdown()


def _check_reachable(address: str) -> None:
    """Ray itself would wait for minutes.

    Raises:
        DeviceError: nobody answers at HOST:PORT or ray://HOST:PORT; "auto" is ray's own affair.
    """
    found = re.fullmatch(r"(?:ray://)?\[?([^/]+?)\]?:(\d+)", address)
    if found is None:
        if address != "auto":
            raise DeviceError(f"--ray: wanted HOST:PORT, ray://HOST:PORT or auto, got {address!r}")
        return
    try:
        socket.create_connection((found[1], int(found[2])), timeout=_PATIENCE_S).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DeviceError(f"--ray: wanted a cluster at {address}, nobody answers there: {reason}") from error


def _segment_on_worker(scan: Scan, job: Job, output: Path, has_gpu: bool, threads: int) -> CaseResult:
    os.environ["OMP_NUM_THREADS"] = str(threads)
    # Of its GPUs Ray shows a process only the one that it may use.
    device = "cuda" if has_gpu and job.device.startswith("cuda") else job.device
    return segment_case(scan, replace(job, device=device), output)


def _resolved(job: TrainingJob) -> TrainingJob:
    """With paths that mean the same wherever the worker stands."""
    from .training.jobs import Data

    patients = job.patients
    if isinstance(patients, Data):
        splits = patients.splits and patients.splits.resolve()
        patients = replace(patients, folder=patients.folder.resolve(), splits=splits, cache=patients.cache.resolve())
    return replace(job, folder=job.folder.resolve(), initial=job.initial and job.initial.resolve(), patients=patients)


def _train_on_worker(job: TrainingJob, has_gpu: bool, threads: int) -> Outcome:
    import torch

    from .training.jobs import train_fold

    torch.set_num_threads(threads)
    return train_fold(replace(job, device="cuda" if has_gpu and job.device.startswith("cuda") else job.device))
