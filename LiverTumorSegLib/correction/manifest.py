"""What a reader study is: its readers, cases and arms, as a JSON file that people write.

{"schema_version": 1, "title": "Correct or draw?", "seed": 7, "readers": ["R1", "R2"], "washout_days": 28,
"arms": [{"code": "manual", "start": "nothing"}, {"code": "correct", "start": "bundle", "bundle": "default"}],
"cases": [{"code": "c01", "volume": "scans/a.nii.gz"}, {"code": "c02", "volume": "scans/b.nii.gz"}]}
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from ..errors import LiverTumorSegError, StudyError, is_unicode
from .reading import check_code

SCHEMA_VERSION = 1
Start = Literal["nothing", "bundle", "labels"]


@dataclass(frozen=True)
class Arm:
    """How a reading starts.

    Attributes:
        code: its name; readers do not see it.
        start: from "nothing", from the output of a "bundle", or from "labels" that each case brings along.
        bundle: name or folder of the bundle, where it starts from one.
        bundle_sha256: the bundle's checksum, written into the study's own file.
    """

    code: str
    start: Start = "bundle"
    bundle: str = ""
    bundle_sha256: str = ""

    def __post_init__(self) -> None:
        check_code("arm", self.code)
        if self.start not in get_args(Start):
            raise StudyError(f"arm {self.code}: wanted start nothing, bundle or labels, got {self.start!r}")
        if not isinstance(self.bundle, str) or bool(self.bundle) != (self.start == "bundle"):
            raise StudyError(f"arm {self.code}: wanted a bundle if and only if it starts from one, got {self.bundle!r}")


@dataclass(frozen=True)
class Case:
    """One volume of the study.

    Attributes:
        code: its name in the study.
        volume: the scan, relative to the manifest; empty in the study's own file, which knows it by its code.
        series: which series of a DICOM folder.
        labels: arm -> label map to start from (0, 1 liver, 2 tumour), for arms that start from labels.
    """

    code: str
    volume: str = ""
    series: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_code("case", self.code)
        texts = isinstance(self.labels, dict) and (self.volume, self.series, *self.labels.values())
        if not texts or not all(isinstance(text, str) for text in texts):
            raise StudyError(f"case {self.code}: wanted volume and series as texts and labels by arm")


@dataclass(frozen=True)
class Manifest:
    """A reader study: every reader reads every case once in every arm.

    Attributes:
        title: of the report.
        readers: their codes.
        arms: how readings start; one is enough. The report compares the others with the first.
        cases: what is read.
        seed: another seed, another order.
        washout_days: how long a reader must not have seen a case before it comes again in another arm.
        idle_after_s: see `timing.Timesheet`.
        notice: a line that stands above the report, for example that the readers were simulated.
    """

    title: str
    readers: tuple[str, ...]
    arms: tuple[Arm, ...]
    cases: tuple[Case, ...]
    seed: int = 0
    washout_days: float = 28.0
    idle_after_s: float = 30.0
    notice: str = ""

    def __post_init__(self) -> None:
        for reader in self.readers:
            check_code("reader", reader)
        codes = {"readers": self.readers, "arms": [a.code for a in self.arms], "cases": [c.code for c in self.cases]}
        for name, each in codes.items():
            if not each or len(set(each)) != len(each):
                raise StudyError(f"{name}: wanted at least one and each once, got {', '.join(each) or 'none'}")
        texts = (self.title, self.notice)
        if not all(isinstance(text, str) and is_unicode(text) for text in texts) or type(self.seed) is not int:
            raise StudyError("study: wanted texts for title and notice and a whole number for seed")
        if not 0 <= self.washout_days <= 3650 or not 1 <= self.idle_after_s <= 3600:
            raise StudyError(
                "study: wanted washout_days of 0 to 3650 and idle_after_s of 1 to 3600, "
                f"got {self.washout_days} and {self.idle_after_s}"
            )

    def arm(self, code: str) -> Arm:
        """The arm of this code."""
        return next(arm for arm in self.arms if arm.code == code)

    def document(self) -> dict[str, Any]:
        """For JSON: the study's own file, which knows no path."""
        plain = dataclasses.asdict(self)
        plain["cases"] = [{"code": case.code} for case in self.cases]
        plain["arms"] = [{**each, "bundle": Path(each["bundle"]).name} for each in plain["arms"]]
        return {"schema_version": SCHEMA_VERSION, **plain}


def load_manifest(path: Path) -> Manifest:
    """Read a manifest and check all that can be checked without the scans.

    Raises:
        StudyError: it cannot be read, or a key or value is not as it must be; names the file.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise StudyError(f"{path}: wanted a study's manifest, got: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise StudyError(f"{Path(path).name}: wanted JSON, got: {error}") from error
    try:
        return manifest_of(document)
    except LiverTumorSegError as error:
        raise StudyError(f"{Path(path).name}: {error}") from error


def manifest_of(document: object) -> Manifest:
    """The manifest that a JSON document describes.

    Raises:
        StudyError: a key is unknown or missing, or a value is not as it must be.
    """
    whole = dict(_object("study", document))
    version = whole.pop("schema_version", None)
    if version != SCHEMA_VERSION:
        raise StudyError(f"study: wanted schema_version {SCHEMA_VERSION}, got {version!r}")
    for name, kind in (("arms", Arm), ("cases", Case)):
        if isinstance(whole.get(name), list):
            whole[name] = tuple(_made(kind, name[:-1], each) for each in whole[name])
    if isinstance(whole.get("readers"), list):
        whole["readers"] = tuple(whole["readers"])
    for name in ("readers", "arms", "cases"):
        if not isinstance(whole.get(name), tuple):
            raise StudyError(f"study: wanted a list of {name}, got {whole.get(name)!r}")
    manifest = _made(Manifest, "study", whole)
    for case in manifest.cases:
        unknown = case.labels.keys() - {arm.code for arm in manifest.arms if arm.start == "labels"}
        if unknown:
            raise StudyError(f"case {case.code}: wanted labels for arms that start from them, got {sorted(unknown)}")
    return manifest


def _made(kind: type[Any], what: str, document: object) -> Any:
    known = {each.name for each in dataclasses.fields(kind)}
    values = _object(what, document)
    if not values.keys() <= known:
        unknown = ", ".join(sorted(values.keys() - known))
        raise StudyError(f"{what}: wanted keys of {', '.join(sorted(known))}, got {unknown}")
    try:
        return kind(**values)
    except TypeError as error:
        raise StudyError(f"{what}: wanted its keys with values of their kinds, got: {error}") from error


def _object(what: str, document: object) -> Mapping[str, Any]:
    if not isinstance(document, dict):
        raise StudyError(f"{what}: wanted a JSON object, got {document!r}")
    return document
