"""A reader study's folder: volumes, starts and sessions under codes, and who reads what next.

study.json                      the manifest without paths; written last, so it means that the folder is complete
cases/<case>/volume.nrrd        the scan, nothing of the patient
cases/<case>/start_<x>.seg.nrrd one for each arm; <x> does not tell which
sessions/<reader>_<position>/   journal.jsonl, session.json, corrected.seg.nrrd
sessions/sessions.csv           one row a finished session
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ..errors import LiverTumorSegError, StudyError
from .clock import Clock, SystemClock, utc_text, wall_ns_of
from .journal_lines import SESSION, is_begun, read_journal
from .manifest import Manifest, load_manifest
from .reading import Reading, reading_of
from .replay import replayed
from .results import read_results
from .schedule import blind_name, schedule
from .session import CorrectionSession

STUDY = "study.json"
Standing = Literal["not read", "under way", "abandoned", "finished", "unsound"]
_DAY_NS = 86_400 * 1_000_000_000


@dataclass(frozen=True)
class Assignment:
    """What a reader is to read next; shows the arm to nobody who does not look for it.

    Attributes:
        reading: who, what, the how manieth.
        volume: the scan.
        start: the segmentation to start from, which may be empty.
        folder: the session's.
        under_way: it was begun before and is to be taken up again.
    """

    reading: Reading
    volume: Path
    start: Path
    folder: Path
    under_way: bool


@dataclass(frozen=True)
class Read:
    """How one planned reading stands.

    Attributes:
        reading: as planned.
        standing: how far it is.
        reason: what is wrong with it, where something is.
        last_utc: when it was last seen; "" where it was not.
        document: its `session.json`, verified, where it is finished.
    """

    reading: Reading
    standing: Standing
    reason: str = ""
    last_utc: str = ""
    document: Mapping[str, Any] | None = None


class Study:
    """A study's folder, as `initialise.init_study` makes it."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        """Use `load`."""
        self.folder = folder
        self.manifest = manifest

    @classmethod
    def load(cls, folder: Path) -> Study:
        """Open a study.

        Raises:
            StudyError: no study there, or its file is not as it must be.
        """
        folder = Path(folder)
        if not (folder / STUDY).is_file():
            raise StudyError(f"{folder}: wanted a study's folder with {STUDY}, got none; see: livertumorseg study init")
        return cls(folder, load_manifest(folder / STUDY))

    def volume(self, case: str) -> Path:
        """The scan of a case."""
        return self.folder / "cases" / case / "volume.nrrd"

    def start(self, case: str, arm: str) -> Path:
        """What readings of a case in an arm start from."""
        return self.folder / "cases" / case / blind_name(self.manifest, case, arm)

    def session_folder(self, reading: Reading) -> Path:
        """Where a reading's session goes: one place for each, so none can be read twice."""
        return self.folder / "sessions" / f"{reading.reader}_{reading.position:03d}"

    def next(self, reader: str, clock: Clock | None = None) -> Assignment:
        """What the reader reads next: what is under way, else the first of the plan that nobody began.

        Raises:
            StudyError: an unknown reader, nothing is left, or the washout is not over yet.
        """
        if reader not in self.manifest.readers:
            raise StudyError(f"reader: wanted one of {', '.join(self.manifest.readers)}, got {reader!r}")
        reads = [self.read(reading) for reading in schedule(self.manifest, reader)]
        for read in reads:
            if read.standing == "under way":
                return self._assignment(read.reading, under_way=True)
        for read in reads:
            if read.standing == "not read":
                self._check_washout(read.reading, reads, clock or SystemClock())
                return self._assignment(read.reading, under_way=False)
        raise StudyError(f"reader {reader}: wanted a reading that is left, got none: all {len(reads)} are done")

    def session(self, assignment: Assignment, clock: Clock | None = None) -> CorrectionSession:
        """The session of an assignment: taken up again and running, or new and to be started.

        Raises:
            LiverTumorSegError: the start cannot be read, or the journal is not sound or is written by another.
        """
        from ..itk_reader import read_file

        labels = read_file(assignment.start)
        if assignment.under_way:
            return CorrectionSession.recover(labels, assignment.folder, clock)
        return CorrectionSession(
            labels, assignment.folder, assignment.reading, clock, idle_after_s=self.manifest.idle_after_s
        )

    def reads(self) -> Iterator[Read]:
        """How every planned reading stands, reader after reader in their order."""
        for reader in self.manifest.readers:
            for reading in schedule(self.manifest, reader):
                yield self.read(reading)

    def read(self, reading: Reading) -> Read:
        """How one planned reading stands; a finished one is checked against its journal."""
        folder = self.session_folder(reading)
        if not is_begun(folder) and not (folder / SESSION).exists():
            return Read(reading, "not read")
        try:
            contents = read_journal(folder)
            account, last = replayed(contents.lines), contents.lines[-1]["utc"]
            if not (folder / SESSION).exists():
                return Read(reading, "abandoned" if account.state == "abandoned" else "under way", last_utc=last)
            document = read_results(folder, account, contents)
            if reading_of(document) != reading or reading_of(contents.lines[0]) != reading:
                raise StudyError(f"{SESSION}: wanted the reading that was planned, got another")
            return Read(reading, "finished", "", document["finished_utc"], document)
        except LiverTumorSegError as error:
            return Read(reading, "unsound", str(error))

    def _assignment(self, reading: Reading, under_way: bool) -> Assignment:
        start = self.start(reading.case, reading.arm)
        return Assignment(reading, self.volume(reading.case), start, self.session_folder(reading), under_way)

    def _check_washout(self, reading: Reading, reads: list[Read], clock: Clock) -> None:
        seen = [read.last_utc for read in reads if read.reading.case == reading.case and read.last_utc]
        if not seen:
            return
        ready_ns = wall_ns_of(max(seen)) + round(self.manifest.washout_days * _DAY_NS)
        if clock.wall_ns() < ready_ns:
            raise StudyError(
                f"reader {reading.reader}: wanted {self.manifest.washout_days:g} days since the next case was seen, "
                f"got fewer: ready from {utc_text(ready_ns)[:16]} UTC"
            )


def standings(study: Study) -> dict[str, dict[Standing, int]]:
    """Reader -> how many planned readings stand how."""
    counts: dict[str, dict[Standing, int]] = {r: dict.fromkeys(get_args(Standing), 0) for r in study.manifest.readers}
    for read in study.reads():
        counts[read.reading.reader][read.standing] += 1
    return counts
