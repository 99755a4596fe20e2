"""The worker as a process: one JSON object a line, networks that stay, and an end at once when nobody asks any more."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from LiverTumorSegLib import segment
from LiverTumorSegLib.bundle import seal_bundle
from LiverTumorSegLib.exchange import load_segmentation, write_volume

COMMAND = [sys.executable, "-m", "LiverTumorSegLib", "worker"]
ENGINES = """
import sys, time
import numpy as np
import LiverTumorSegLib.segmenter
from LiverTumorSegLib.worker import serve

class Engine:
    name, precision = "stand-in", "f32"
    def __init__(self, device): self.device = device
    def __call__(self, array): return np.zeros((1, 3, *array.shape[2:]), np.float32)
    def get_ready(self, shape): pass
    def move_to_cpu(self): self.device = "cpu"

{engine}
LiverTumorSegLib.segmenter.open_engine = lambda bundle, stage, device, precision: Stage({device!r})
LiverTumorSegLib.segmenter.resolve_device = lambda device: {device!r}
serve()
"""


def with_engine(body: str, device: str = "cpu") -> list[str]:
    """Return the command of a worker whose networks are a class `Stage` of ours."""
    return [sys.executable, "-c", ENGINES.format(engine=body, device=device)]


class Talk:
    """A worker at the other end of two pipes."""

    def __init__(self, command: list[str], **more: Any) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, **more)

    def ask(self, line: dict[str, Any] | bytes) -> None:
        self.process.stdin.write((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read().decode()
        return json.loads(line)

    def until(self, *events: str) -> list[dict[str, Any]]:
        """Return all that is said, up to one of these events."""
        heard = [self.hear()]
        while heard[-1]["event"] not in events:
            heard.append(self.hear())
        return heard

    def end(self) -> tuple[int, str]:
        """Close standard input; return the exit code and what was said on standard error."""
        self.process.stdin.close()
        code = self.process.wait(10)
        return code, self.process.stderr.read().decode()


@pytest.fixture
def talk() -> Iterator[Callable[..., Talk]]:
    started: list[Talk] = []

    def start(command: list[str] = COMMAND, **more: Any) -> Talk:
        started.append(Talk(command, **more))
        assert started[-1].hear()["event"] == "ready"
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()
        for stream in (each.process.stdin, each.process.stdout, each.process.stderr):
            stream.close()


@pytest.fixture
def request_of(tmp_path, tiny_bundle, ellipsoid_scan) -> Callable[..., dict[str, Any]]:
    """Return a function that makes a request to segment a small scan."""
    write_volume(ellipsoid_scan(noise_hu=10)[0], tmp_path / "scan.nrrd")

    def request(number: int, **more: Any) -> dict[str, Any]:
        files = {"volume": str(tmp_path / "scan.nrrd"), "output": str(tmp_path / f"result{number}")}
        return {"id": number, "do": "segment", **files, "bundle": str(tiny_bundle), "device": "cpu", **more}

    return request


def test_a_run_is_told_step_by_step_and_its_result_is_that_of_segment(talk, request_of, tmp_path, tiny_bundle):
    worker = talk()
    worker.ask(request_of(7, sensitivity=2.0))
    heard = worker.until("done", "failed")
    assert {each["id"] for each in heard} == {7}
    steps = list(dict.fromkeys(each["step"] for each in heard if each["event"] == "progress"))
    assert steps == [
        *("reading the scan", "open", "whole: prepare", "whole: network", "crop: prepare", "crop: network"),
        *("labels", "handing over the result"),
    ]
    scan = sitk.ReadImage(str(tmp_path / "scan.nrrd"))
    alone = segment(scan, tiny_bundle, device="cpu", sensitivity=2.0)
    told = load_segmentation(tmp_path / "result7", scan)
    assert np.array_equal(sitk.GetArrayFromImage(told.labels), sitk.GetArrayFromImage(alone.labels))
    assert worker.end()[0] == 0


def test_the_networks_stay_for_the_second_run_and_are_opened_anew_when_asked_otherwise(talk, request_of):
    worker = talk()
    worker.ask({"id": 1, "do": "open", "bundle": request_of(1)["bundle"], "device": "cpu"})
    assert worker.until("done")[-1]["networks"] == "opened"
    for number, networks, more in ((2, "kept", {}), (3, "kept", {}), (4, "opened", {"device": "auto"})):
        worker.ask(request_of(number, **more))
        assert worker.until("done", "failed")[-1]["networks"] == networks


def test_a_bundle_that_was_sealed_anew_is_opened_anew_and_one_that_was_spoilt_is_refused(
    talk, request_of, tiny_bundle, tmp_path
):
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    worker = talk()
    for number in (1, 2):
        worker.ask(request_of(number, bundle=str(bundle)))
        assert worker.until("done")[-1]["networks"] == ("opened" if number == 1 else "kept")
    (bundle / "model_card.md").write_text("another card", encoding="utf-8")
    worker.ask(request_of(3, bundle=str(bundle)))
    spoilt = worker.until("done", "failed")[-1]
    assert (spoilt["event"], spoilt["kind"]) == ("failed", "BundleError")
    assert "changed after it was sealed" in spoilt["message"]
    seal_bundle(bundle)
    worker.ask(request_of(4, bundle=str(bundle)))
    assert worker.until("done")[-1]["networks"] == "opened"
    os.utime(bundle / "model_card.md")
    worker.ask(request_of(5, bundle=str(bundle)))
    assert worker.until("done")[-1]["networks"] == "kept"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"rubbish", "wanted a line of JSON"),
        (b"\xff\xfe{}", "wanted a line of JSON"),
        (b"[" * 100_000, "wanted a line of JSON"),
        (b"[1]", "wanted an object, got list"),
        (b'{"do": "open"}', "wanted a whole number as id, got None"),
        (b'{"id": true, "do": "open"}', "wanted a whole number as id, got True"),
        (b'{"id": 3}', "do: wanted one of segment, open, devices, cancel, quit, got None"),
        (b'{"id": 3, "do": "serve"}', "got 'serve'"),
        (b'{"id": 3, "do": ["open"]}', "do: wanted one of"),
        (b'{"id": 3, "do": "open", "colour": 1}', "got also 'colour'"),
        (b'{"id": 3, "do": "open", "bundle": 1}', "bundle: wanted a text, got 1"),
        (b'{"id": 3, "do": "segment", "volume": "a"}', "wanted volume and output"),
        (b'{"id": 3, "do": "segment", "volume": "a", "output": "b", "modality": "PET"}', "modality: wanted CT, MR"),
        (b'{"id": 3, "do": "segment", "volume": "a", "output": "b", "sensitivity": "1"}', "sensitivity: wanted a numb"),
        (b'{"id": 3, "do": "segment", "volume": "a", "output": "b", "phases": ["c"]}', "phases: wanted an object of"),
        (b'{"id": 3, "do": "segment", "volume": "a", "output": "b", "phases": {"c": 1}}', "names and files, got {'c'"),
    ],
    ids=range(16),
)
def test_a_line_that_is_no_request_is_answered_and_the_worker_goes_on(line, words, one_worker):
    one_worker.ask(line)
    answer = one_worker.hear()
    assert (answer["event"], answer["kind"]) == ("failed", "RequestError")
    assert answer["id"] == (3 if b'"id": 3' in line else 0)
    assert words in answer["message"]
    one_worker.ask({"id": 9, "do": "devices"})
    assert one_worker.hear() | {"devices": []} == {"id": 9, "event": "devices", "devices": []}


@pytest.fixture(scope="module")
def one_worker() -> Iterator[Talk]:
    """Return a worker that all tests share which do it no harm."""
    worker = Talk(COMMAND)
    assert worker.hear()["event"] == "ready"
    yield worker
    assert worker.end()[0] == 0
    worker.process.stdout.close()
    worker.process.stderr.close()


@pytest.mark.parametrize(
    ("more", "kind", "words"),
    [
        ({"bundle": "nowhere"}, "BundleError", "wanted a folder or one of the installed bundles"),
        ({"device": "abacus"}, "DeviceError", "got 'abacus'"),
        ({"precision": "f8"}, "DeviceError", "got 'f8'"),
        ({"volume": "nowhere.nrrd"}, "ImageError", "nowhere.nrrd"),
        ({"sensitivity": -1}, "LiverTumorSegError", "wanted a factor from 0.000001 to 1000000, got -1"),
        ({"sensitivity": 10**400}, "LiverTumorSegError", "wanted a factor from 0.000001 to 1000000, got 1000"),
        ({"bundle": os.path.abspath(os.sep)}, "BundleError", "checksums.json"),
        ({"output": os.devnull + "/x"}, "OutputError", "output: wanted a folder to make"),
        ({"output": "a\0b"}, "OutputError", "output: wanted the name of a folder to make"),
        ({"output": "a\ud800"}, "OutputError", "output: wanted the name of a folder to make"),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_leaves_no_folder(more, kind, words, one_worker, request_of, tmp_path):
    one_worker.ask(request_of(5, **more))
    answer = one_worker.until("failed", "done")[-1]
    assert (answer["event"], answer["kind"]) == ("failed", kind)
    assert words in answer["message"]
    assert "\n" not in answer["message"]
    assert not (tmp_path / "result5").exists()


def test_an_output_folder_that_exists_is_not_touched(one_worker, request_of, tmp_path):
    (tmp_path / "result5").mkdir()
    (tmp_path / "result5" / "mine.txt").write_text("mine", encoding="utf-8")
    one_worker.ask(request_of(5))
    assert one_worker.until("failed", "done")[-1]["kind"] == "OutputError"
    assert [path.name for path in (tmp_path / "result5").iterdir()] == ["mine.txt"]


def test_what_libraries_print_cannot_get_between_the_answers(talk, request_of):
    worker = talk(
        with_engine(
            "import os, subprocess\n"
            "class Stage(Engine):\n"
            "    def __call__(self, array):\n"
            "        print('from Python')\n"
            "        os.write(1, b'from C')\n"
            "        subprocess.run([sys.executable, '-c', 'print(\"from a child\", input())'])\n"
            "        return super().__call__(array)\n"
        )
    )
    worker.ask(request_of(1))
    assert worker.until("done", "failed")[-1]["event"] == "done"
    _, said = worker.end()
    assert {"from Python", "from C"} <= set(said.replace("from C", "from C\n").splitlines())
    assert "EOFError" in said  # the child of the worker did not get the panel's requests to read


def test_warnings_are_told_when_they_happen_and_once(talk, request_of):
    worker = talk(
        with_engine(
            "class Stage(Engine):\n"
            "    def __call__(self, array):\n"
            "        if max(array.shape) > 16: raise MemoryError('16 GB')\n"
            "        return super().__call__(array)\n"
            "LiverTumorSegLib.inference._SMALLEST_WINDOW = 4\n"
        )
    )
    worker.ask(request_of(1))
    heard = worker.until("done", "failed")
    assert heard[-1]["event"] == "done"
    logged = [each["text"] for each in heard if each["event"] == "log"]
    assert len(logged) == len(set(logged))
    first = next(n for n, each in enumerate(heard) if "not enough memory on cpu for windows of" in each.get("text", ""))
    assert heard[first - 1] == {"id": 1, "event": "progress", "step": "crop: network", "share": 0.0}
    _, said = worker.end()
    assert "not enough memory" not in said  # nor by Python's own way of showing warnings


def test_a_gpu_that_had_not_enough_memory_is_tried_again_the_next_time(talk, request_of):
    worker = talk(
        with_engine(
            "class Stage(Engine):\n"
            "    def __call__(self, array):\n"
            "        if self.device != 'cpu': raise MemoryError('full')\n"
            "        return super().__call__(array)\n",
            device="cuda:0",
        )
    )
    for number in (1, 2):
        worker.ask(request_of(number))
        heard = worker.until("done", "failed")
        assert heard[-1]["networks"] == "opened"
        assert [each["text"] for each in heard if "the CPU goes on" in each.get("text", "")] == [
            "not enough memory on cuda:0: the CPU goes on (full)"
        ]


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        ("MemoryError('16 GB')", "MemoryError", "wanted more memory than this computer has free, got: 16 GB"),
        ("KeyError('one\\ntwo')", "KeyError", r"KeyError: 'one\ntwo'"),
        ("RuntimeError('one\\ntwo')", "RuntimeError", "RuntimeError: one two"),
    ],
)
def test_a_run_that_breaks_is_one_line_and_the_next_one_opens_the_networks_anew(
    error, kind, message, talk, request_of, tmp_path
):
    worker = talk(
        with_engine(
            "calls = []\n"
            "class Stage(Engine):\n"
            "    def __call__(self, array):\n"
            "        calls.append(1)\n"
            f"        if len(calls) == 1: raise {error}\n"
            "        return super().__call__(array)\n"
        )
    )
    worker.ask(request_of(1))
    answer = worker.until("done", "failed")[-1]
    assert (answer["event"], answer["kind"], answer["message"]) == ("failed", kind, message)
    assert not (tmp_path / "result1").exists()
    worker.ask(request_of(2))
    assert worker.until("done", "failed")[-1]["networks"] == "opened"
    assert answer.get("trace", "").startswith("Traceback") == (kind != "MemoryError")


def test_cancel_ends_the_run_at_the_next_window_and_what_waits_behind_it_but_nothing_later(talk, request_of, tmp_path):
    slow = (
        "class Stage(Engine):\n"
        "    def __call__(self, array):\n"
        "        time.sleep(0.2)\n"
        "        return super().__call__(array)\n"
    )
    worker = talk(with_engine(slow))
    worker.ask(request_of(1))
    worker.ask(request_of(2))
    while worker.hear()["step"] != "whole: network":
        pass
    worker.ask({"id": 3, "do": "cancel"})
    worker.ask(request_of(4))
    ends = [worker.until("done", "cancelled", "failed")[-1] for _ in range(3)]
    assert [(each["id"], each["event"]) for each in ends] == [(1, "cancelled"), (2, "cancelled"), (4, "done")]
    assert ends[-1]["networks"] == "kept"
    assert sorted(path.name for path in tmp_path.glob("result*")) == ["result4"]


def test_cancel_without_a_run_does_nothing(one_worker, request_of):
    one_worker.ask({"id": 1, "do": "cancel"})
    one_worker.ask(request_of(2))
    assert one_worker.until("done", "cancelled", "failed")[-1]["event"] == "done"


@pytest.mark.parametrize("how", ["end of input", "quit", "nobody listens"])
def test_the_worker_ends_at_once_in_the_middle_of_a_run_and_leaves_nothing(how, talk, request_of, tmp_path):
    busy = (
        "class Stage(Engine):\n"
        "    def __call__(self, array):\n"
        f"        time.sleep({0.05 if how == 'nobody listens' else 60})\n"
        "        return super().__call__(array)\n"
    )
    worker = talk(with_engine(busy), cwd=tmp_path)
    worker.ask(request_of(1))
    while worker.hear().get("step") != "whole: network":
        pass
    assert (tmp_path / "result1").is_dir()
    began = time.monotonic()
    if how == "end of input":
        worker.process.stdin.close()
    elif how == "quit":
        worker.ask({"id": 2, "do": "quit"})
    else:
        worker.process.stdout.close()
    assert worker.process.wait(5) == 0
    assert time.monotonic() - began < 2
    assert [path.name for path in tmp_path.iterdir()] == ["scan.nrrd"]


def test_the_worker_is_ready_before_any_large_library_is_there_and_serves_without_torch(talk, request_of, tiny_bundle):
    probe = (
        "import sys, threading\n"
        "from LiverTumorSegLib import worker\n"
        "print([name for name in ('numpy', 'SimpleITK', 'torch') if name in sys.modules], file=sys.stderr)\n"
        "leave = worker.os._exit\n"
        "def say_and_leave(code):\n"
        "    print([name for name in ('torch', 'monai', 'vtk') if name in sys.modules], file=sys.stderr)\n"
        "    sys.stderr.flush()\n"
        "    leave(code)\n"
        "worker.os._exit = say_and_leave\n"
        "worker.serve()\n"
    )
    if not (tiny_bundle / "openvino" / "whole.xml").is_file():
        pytest.skip("needs a bundle with its OpenVINO files")
    worker = talk([sys.executable, "-c", probe])
    worker.ask(request_of(1))
    assert worker.until("done", "failed")[-1]["event"] == "done"
    code, said = worker.end()
    assert (code, said.splitlines()) == (0, ["[]", "[]"])
