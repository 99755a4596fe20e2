"""What is said when a process that makes patches fails: one line with the reason, never a traceback."""

from __future__ import annotations

import dataclasses
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import Dataset, get_worker_info

from LiverTumorSegLib.errors import ImageError, TrainingError
from LiverTumorSegLib.training.loading import patch_loader, reason_of_process
from LiverTumorSegLib.training.trainer import train
from training_cases import Balls, ball_run, trained

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = trained(epochs=1, iterations_per_epoch=1)


@dataclass(frozen=True)
class Failing(Dataset[Any]):
    """Patches of which none comes from a process of its own."""

    good: Dataset[Any]
    how: str

    def __len__(self) -> int:
        return len(self.good)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        if get_worker_info() is not None:
            if self.how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise {
                "a scan": ImageError("case_1: wanted a scan, got a file that ends too early"),
                "a file": FileNotFoundError(2, "No such file or directory", "volume.npy"),
                "two lines": RuntimeError("first\n  second"),
                "memory": MemoryError(),
            }[self.how]
        return self.good[index]


@dataclass(frozen=True)
class FailingBalls(Balls):
    how: str = ""

    def patches(self, stage: int, start: int, count: int, validation: bool = False) -> Dataset[Any]:
        return Failing(super().patches(stage, start, count, validation), self.how)


TOLD = {
    "a scan": "case_1: wanted a scan, got a file that ends too early",
    "a file": r"wanted patches, .* got: \[Errno 2\] No such file or directory: 'volume.npy'",
    "two lines": "wanted patches, the process that makes them got: first second",
    "memory": "wanted patches, the process that makes them got: MemoryError",
    "killed": r"wanted patches, .* was ended \((Killed|without a word)\): is memory, .* Fewer --workers take less",
}


@pytest.mark.parametrize("how", TOLD)
def test_what_goes_wrong_in_a_process_that_makes_patches_is_one_line(how: str, tmp_path: Path) -> None:
    run = dataclasses.replace(ball_run(tmp_path, SHORT, workers=1), source=FailingBalls(SHORT, how=how))
    with pytest.raises(TrainingError, match=rf"^stage whole: {TOLD[how]}$") as caught:
        train(run, stages=(0,))
    assert "\n" not in str(caught.value)


def test_an_error_of_this_process_is_no_other_s() -> None:
    assert reason_of_process(RuntimeError("shapes do not fit")) is None
    assert reason_of_process(OSError(28, "No space left on device")) is None
    gone = RuntimeError("DataLoader worker (pid(s) 12, 13) exited unexpectedly")
    assert "was ended (without a word)" in str(reason_of_process(gone))
    shot = RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. ")
    assert "was ended (Killed)" in str(reason_of_process(shot))


def test_patches_that_are_made_on_the_gpu_itself_are_not_pinned_in_memory() -> None:
    patches = Balls().patches(0, 0, 2)
    assert not patch_loader(patches, 1, workers=0, device="cuda").pin_memory
    assert patch_loader(patches, 1, workers=1, device="cuda").pin_memory
    assert not patch_loader(patches, 1, workers=1, device="cpu").pin_memory
