"""A warm process: requests in, progress and results out; the networks stay loaded between runs.

One JSON object a line, in UTF-8; on standard output nothing else. Requests have an `id` and say what to `do`:

    segment   volume (file), phases (name: file), output (folder, made here), bundle, device, precision, modality,
              sensitivity
    open      bundle, device, precision: load the networks ahead
    devices   what can be computed on
    cancel    end what was asked before, as soon as the step under way lets it; has no answer of its own
    quit      end at once, as the end of standard input does

Answers have the request's `id` and an `event`: `ready` (id 0: protocol, version, pid) comes first; then `progress`
(step, share), `log` (text), and for each request one of `done` (networks, seconds), `devices` (devices), `failed`
(kind, message; trace of what nobody foresaw) and `cancelled`.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

from . import __version__
from .errors import LiverTumorSegError, OutputError, heard_warnings, recorded_warnings

if TYPE_CHECKING:
    from .segmenter import Segmenter

PROTOCOL = 1
READING, OPENING, SAVING = "reading the scan", "open", "handing over the result"
_DOES = ("segment", "open", "devices", "cancel", "quit")


@dataclass(frozen=True)
class Request:
    """One line from the panel."""

    id: int
    do: str
    volume: str = ""
    output: str = ""
    bundle: str = "default"
    device: str = "auto"
    precision: str = "auto"
    modality: str | None = None
    sensitivity: float = 1.0
    phases: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parsed(cls, line: bytes) -> Request:
        """Read a request.

        Raises:
            RequestError: not JSON, an unknown key or a wrong value; carries the request's id, or 0.
        """
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise RequestError(f"request: wanted a line of JSON, got: {error}") from None
        if not isinstance(content, dict):
            raise RequestError(f"request: wanted an object, got {type(content).__name__}")
        number = content.get("id")
        if type(number) is not int:
            raise RequestError(f"request: wanted a whole number as id, got {number!r}")
        names = [each.name for each in fields(cls)]
        if unknown := [key for key in content if key not in names]:
            raise RequestError(f"request: wanted the keys {', '.join(names)}, got also {unknown[0]!r}", number)
        if content.get("do") not in _DOES:
            raise RequestError(f"do: wanted one of {', '.join(_DOES)}, got {content.get('do')!r}", number)
        if content.get("modality") not in (None, "CT", "MR"):
            raise RequestError(f"modality: wanted CT, MR or null, got {content['modality']!r}", number)
        for key in ("volume", "output", "bundle", "device", "precision"):
            if not isinstance(content.get(key, ""), str):
                raise RequestError(f"{key}: wanted a text, got {content[key]!r}", number)
        if type(content.get("sensitivity", 1.0)) not in (int, float):
            raise RequestError(f"sensitivity: wanted a number, got {content['sensitivity']!r}", number)
        phases = content.get("phases", {})
        if not isinstance(phases, dict) or not all(isinstance(file, str) and file for file in phases.values()):
            raise RequestError(f"phases: wanted an object of names and files, got {phases!r}", number)
        if content["do"] == "segment" and not (content.get("volume") and content.get("output")):
            raise RequestError("segment: wanted volume and output, got one of them or none", number)
        return cls(**content)


class RequestError(LiverTumorSegError):
    """A line that is no request."""

    def __init__(self, message: str, number: int = 0):
        super().__init__(message)
        self.number = number


class _CancelledError(Exception):
    """The run under way is no longer wanted."""


def serve() -> NoReturn:
    """Answer requests from standard input on standard output until it ends; does not come back."""
    requests, answers = _own_pipes()
    if hasattr(os, "setsid") and not os.isatty(requests):
        with contextlib.suppress(PermissionError):  # it leads a group already
            os.setsid()  # so that whoever kills this process can take its children with it
    worker = _Worker(answers)
    worker.say(0, "ready", protocol=PROTOCOL, version=__version__, pid=os.getpid())
    threading.Thread(target=worker.listen, args=(requests,), daemon=True).start()
    worker.work()


def _own_pipes() -> tuple[int, IO[str]]:
    """Requests and answers on descriptors that nobody else knows.

    What libraries print goes to standard error. Nothing else reads standard input either: on Windows, asking
    for the state of a pipe that another thread is reading from blocks, and libraries ask when they are loaded.
    """
    requests, answers = os.dup(0), os.dup(1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    sys.stdout.flush()
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return requests, open(answers, "w", encoding="utf-8", newline="\n")


class _Worker:
    """Listens on one thread, works on the main one; keeps the last networks."""

    def __init__(self, answers: IO[str]):
        self._answers, self._speaking = answers, threading.Lock()
        self._waiting: queue.SimpleQueue[tuple[int, Request]] = queue.SimpleQueue()
        # Requests are counted as they come; all up to the second number are cancelled.
        self._received, self._cancelled = 0, 0
        self._output: Path | None = None
        self._networks = _Networks()
        self._doing = {"segment": self._segment, "open": self._open, "devices": self._devices}

    def say(self, number: int, event: str, **content: Any) -> None:
        """One line to the panel; when it no longer listens, this process has no purpose."""
        line = json.dumps({"id": number, "event": event, **content}, allow_nan=False) + "\n"
        try:
            with self._speaking:
                self._answers.write(line)
                self._answers.flush()
        except OSError:
            self._leave()

    def listen(self, requests: int) -> NoReturn:
        """Read requests until there are no more, then end the process whatever it is at."""
        try:
            with open(requests, "rb", buffering=0) as lines:
                for line in lines:
                    self._take(line)
        finally:
            self._leave()

    def work(self) -> NoReturn:
        """Do what was asked, one after the other."""
        from . import exchange, segmenter  # noqa: F401  # slow to import: done by the time of the first request

        while True:
            turn, request = self._waiting.get()
            self._answer(turn, request)

    def _take(self, line: bytes) -> None:
        try:
            request = Request.parsed(line)
        except RequestError as error:
            self.say(error.number, "failed", kind="RequestError", message=str(error))
            return
        if request.do == "quit":
            self._leave()
        if request.do == "cancel":
            self._cancelled = self._received
            return
        self._received += 1
        self._waiting.put((self._received, request))

    def _answer(self, turn: int, request: Request) -> None:
        """Do one request; whatever goes wrong is told, and the process goes on."""

        def progress(step: str, share: float) -> None:
            if turn <= self._cancelled:
                raise _CancelledError
            self.say(request.id, "progress", step=step, share=round(share, 3))

        try:
            # Recorded, so that none is shown a second time, by Python.
            with heard_warnings(lambda text: self.say(request.id, "log", text=text)), recorded_warnings():
                content = self._doing[request.do](request, progress)
            self.say(request.id, "devices" if request.do == "devices" else "done", **content)
        except _CancelledError:
            self.say(request.id, "cancelled")
        except LiverTumorSegError as error:
            self._fail(request, type(error).__name__, str(error))
        except MemoryError as error:
            self._networks.drop()
            self._fail(request, "MemoryError", f"wanted more memory than this computer has free, got: {error}")
        except Exception as error:  # the panel shows one line, and the trace to whoever asks for more
            self._networks.drop()
            self._fail(request, type(error).__name__, f"{type(error).__name__}: {error}", traceback.format_exc())
        finally:
            self._networks.drop_if_moved()

    def _fail(self, request: Request, kind: str, message: str, trace: str = "") -> None:
        more = {"trace": trace} if trace else {}
        self.say(request.id, "failed", kind=kind, message=" ".join(message.split()), **more)

    def _segment(self, request: Request, progress: Callable[[str, float], None]) -> dict[str, Any]:
        from .exchange import read_volume, save_segmentation

        progress(READING, 0.0)
        image = read_volume(Path(request.volume))
        phases = {name: read_volume(Path(file)) for name, file in request.phases.items()}
        progress(READING, 1.0)
        opened = self._open(request, progress)
        segmenter = self._networks.segmenter()
        with self._made_folder(Path(request.output)) as output:
            segmentation = segmenter(
                image,
                phases=phases,
                modality=request.modality,
                sensitivity=request.sensitivity,
                progress=progress,
            )
            progress(SAVING, 0.0)
            save_segmentation(segmentation, output, image)
            progress(SAVING, 1.0)
        return opened

    def _open(self, request: Request, progress: Callable[[str, float], None]) -> dict[str, Any]:
        progress(OPENING, 0.0)
        began = time.perf_counter()
        opened = self._networks.ensure(request)
        progress(OPENING, 1.0)
        return {"networks": "opened" if opened else "kept", "seconds": round(time.perf_counter() - began, 3)}

    def _devices(self, request: Request, progress: Callable[[str, float], None]) -> dict[str, Any]:
        from .networks.devices import list_devices

        return {"devices": [asdict(device) for device in list_devices()]}

    @contextlib.contextmanager
    def _made_folder(self, output: Path) -> Iterator[Path]:
        """A new private folder, which stays if all goes well."""
        try:
            output.mkdir(mode=0o700)
        except OSError as error:
            raise OutputError(f"output: wanted a folder to make, got: {error.strerror}") from error
        except ValueError:  # a null byte, or letters that no file system takes
            raise OutputError("output: wanted the name of a folder to make, got none") from None
        self._output = output
        try:
            yield output
        except BaseException:
            shutil.rmtree(output, ignore_errors=True)
            raise
        finally:
            self._output = None

    def _leave(self) -> NoReturn:
        """End at once: no thread, no engine and no clean-up of Python's is waited for."""
        if self._output is not None:
            shutil.rmtree(self._output, ignore_errors=True)
        os._exit(0)


class _Networks:
    """The networks of the last run, and for what they were opened."""

    def __init__(self) -> None:
        self._segmenter: Segmenter | None = None
        self._asked: tuple[object, ...] = ()

    def ensure(self, request: Request) -> bool:
        """Have the networks of a request ready; whether they had to be opened."""
        from .bundle import Bundle, list_bundles
        from .segmenter import Segmenter

        folder = list_bundles().get(request.bundle, Path(request.bundle))
        asked = (request.bundle, request.device, request.precision, _state_of(folder))
        if self._segmenter is not None and asked == self._asked:
            return False
        bundle = Bundle.load(request.bundle)
        before, self._segmenter = self._segmenter, None
        if before is not None and asked[:3] == self._asked[:3] and bundle.sha256 == before.bundle.sha256:
            self._segmenter, self._asked = before, asked  # touched, not changed
            return False
        del before  # two sets of networks may be more than the memory holds
        self._segmenter = Segmenter(bundle, device=request.device, precision=request.precision)
        self._segmenter.get_ready()
        self._asked = asked
        return True

    def segmenter(self) -> Segmenter:
        assert self._segmenter is not None
        return self._segmenter

    def drop(self) -> None:
        """Open them anew next time."""
        self._segmenter = None

    def drop_if_moved(self) -> None:
        """Try the GPU again next time where it had not enough memory this time."""
        if self._segmenter is not None and any(e.device != self._segmenter.device for e in self._segmenter.engines):
            self.drop()


def _state_of(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """What shows that a bundle was changed, without reading it; nothing of a folder that is none, however large."""
    from .bundle import CHECKSUMS

    if not (folder / CHECKSUMS).is_file():
        return ()
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple((str(path), stat.st_size, stat.st_mtime_ns) for path in files for stat in [path.stat()])
