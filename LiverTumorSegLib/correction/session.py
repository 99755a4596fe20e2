"""One correction session: receives events from whoever edits, keeps time and journal, and finishes with results."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import JournalError, SessionError, is_unicode
from .account import Account, State
from .actions import Actions
from .clock import NS_PER_MS, Clock, SystemClock, utc_text, wall_ns_of
from .events import Event
from .journal import Journal
from .journal_lines import SESSION
from .reading import Reading, reading_of
from .reference import check_labels, described, fingerprint, labels_of
from .replay import replayed
from .timing import Times, Timesheet

if TYPE_CHECKING:
    import SimpleITK as sitk

    from ..segmentation import Segmentation
    from .comparison import Comparison

# Network time corrects clocks by less than this an hour; sleep and hands move them further.
JUMP_MS = 2000
# A wheel turns thirty times a second; view moves closer than this to the last line wait for the next line.
_SERIES_MS = 1000
_LONGEST_NOTE = 2000


class CorrectionSession(Actions):
    """Times a reader's corrections of a segmentation and, at the end, compares.

    States: not started -> running <-> paused -> finished or abandoned; anything else is a SessionError. What counts
    as editing, reviewing, idle and paused is said in `timing.Timesheet`, what can happen in `actions.Actions`.
    Each event is in the journal before it counts.
    """

    def __init__(
        self,
        reference_segmentation: Segmentation | sitk.Image,
        folder: Path,
        reading: Reading,
        clock: Clock | None = None,
        idle_after_s: float = 30.0,
    ) -> None:
        """Prepare a session; nothing is written before `start`.

        Args:
            reference_segmentation: what the reader starts from: labels 0, 1 liver, 2 tumour (uint8).
            folder: the session's own folder, for journal and results; made when it does not exist.
            reading: who reads what.
            clock: for tests; by default the computer's.
            idle_after_s: idle time begins this long after the last event.

        Raises:
            SessionError: idle_after_s is not between 1 s and an hour.
        """
        if not 1.0 <= idle_after_s <= 3600.0:
            raise SessionError(f"idle_after_s: wanted 1 to 3600 seconds, got {idle_after_s}")
        self.folder = Path(folder)
        self.reading = reading
        self.session_id = uuid.uuid4().hex
        self._reference = reference_segmentation
        self._clock = clock or SystemClock()
        self._account = Account(round(idle_after_s * 1000))
        self._idle_after_ms = round(idle_after_s * 1000)
        self._journal: Journal | None = None
        self._zero_ns = self._wall_ahead_ns = 0
        self._noted_ms = 0
        self._view_ms: int | None = None
        self._told_ms = 0  # the latest moment that was noted or shown
        self.started_utc = ""

    @classmethod
    def recover(
        cls, reference_segmentation: Segmentation | sitk.Image, folder: Path, clock: Clock | None = None
    ) -> CorrectionSession:
        """Take up a session that a crash or a shutdown ended; it runs at once.

        The time since its last line counts as pause.

        Raises:
            JournalError: the journal is not sound, or another process writes it.
            SessionError: the session is over, or started from another segmentation.
        """
        folder, clock = Path(folder), clock or SystemClock()
        if (folder / SESSION).exists():
            raise SessionError(f"{folder.name}: wanted a session that is not over, got one with results")
        journal, contents = Journal.reopen(folder, clock.monotonic_ns)
        try:
            account, header = replayed(contents.lines), contents.lines[0]
            session = cls(reference_segmentation, folder, reading_of(header), clock, header["idle_after_ms"] / 1000)
            if header["reference"]["sha256"] != fingerprint(reference_segmentation):
                raise SessionError(f"{folder.name}: wanted the segmentation that the session started from, got another")
            session.session_id, session.started_utc = header["session"], header["utc"]
            session._account = account
            session._journal = journal
            session._continue_after(contents.lines[-1])
        except BaseException:
            journal.close()
            raise
        return session

    @property
    def state(self) -> State:
        """Where the session is."""
        return self._account.state

    @property
    def account(self) -> Account:
        """State, effort by class, gaps and decisions so far; read only."""
        return self._account

    def times(self) -> Times:
        """The times up to now, for a live clock; writes nothing."""
        if self._journal is not None and self.state in ("running", "paused"):
            sheet = self._account.sheet if self._view_ms is None else self._sheet_with_pending_view(self._view_ms)
            sheet.advance(self._now_ms())
            return sheet.times()
        return self._account.times

    def start(self) -> None:
        """Begin: the folder and the journal are made, and time runs.

        Raises:
            SessionError: it was started before, or what the reader is to start from is no label map.
            JournalError: the folder has a session already, or cannot be written to.
        """
        self._account.check(Event("start"))
        check_labels(labels_of(self._reference), "start")
        self._zero_ns = self._clock.monotonic_ns()
        self._wall_ahead_ns = self._clock.wall_ns() - self._zero_ns
        self.started_utc = utc_text(self._clock.wall_ns())
        header = {"t": 0, "utc": self.started_utc, **self._header()}
        self._journal = Journal.create(self.folder, header, self._clock.monotonic_ns)
        try:
            self._happen(Event("start"))
        except JournalError:
            self._journal.release()
            self._journal.path.unlink()
            self._journal = None
            raise

    def pause(self) -> None:
        """Stop counting."""
        self._happen(Event("pause"))

    def resume(self) -> None:
        """Go on after a pause."""
        self._happen(Event("resume"))

    def abandon(self) -> None:
        """End without results; the journal stays."""
        self._happen(Event("abandon"))
        self.close()

    def viewed(self) -> None:
        """A view moved: slice scrolled, zoomed, panned, 3D turned. Of a quick series the first and last are noted."""
        self._check_journal(Event("view"))
        now = self._now_ms()
        if self._account.sheet.is_reviewing(now) and now - self._noted_ms < _SERIES_MS:
            self._view_ms = now
        else:
            self._happen(Event("view"))

    def tick(self) -> None:
        """To be called about once a second: a crash then loses no more than that, and clock jumps are noticed.

        Time that is idle or paused is not noted again: after a crash it becomes pause. Not running: does nothing.
        """
        if self.state not in ("running", "paused") or self._journal is None:
            return
        if self.state == "running" and self._noted_ms < self._account.sheet.falls_idle_at_ms:
            self._happen(Event("tick"))
        else:
            self._notice_jump()
            self._journal.sync_if_due()

    def compare(self, corrected: sitk.Image) -> Comparison:
        """How the model's output, or whatever the reader started from, stands against `corrected` now.

        Raises:
            SessionError: the labels are not on the grid of what the reader started from.
        """
        from .comparison import compare

        return compare(corrected, labels_of(self._reference))

    def dice(self, corrected: sitk.Image) -> dict[str, float]:
        """Dice of what the reader started from against `corrected`: liver and tumour; quicker than `compare`.

        Raises:
            SessionError: the labels are not on the grid of what the reader started from.
        """
        from .comparison import dice_by_class

        return dice_by_class(corrected, labels_of(self._reference))

    def finish(self, corrected: sitk.Image, note: str = "") -> Path:
        """End the session and write its results: all of them, or none and the session goes on.

        Args:
            corrected: labels 0, 1 liver, 2 tumour (uint8) on the grid of what the reader started from.
            note: the reader's own words, at most 2000 characters; they appear in `session.json`.

        Returns:
            `session.json`; the corrected segmentation and the journal lie beside it, `sessions.csv` in the folder
            above.

        Raises:
            SessionError: not running or paused, or the labels do not fit.
            OutputError: the results cannot be written.
        """
        from .results import write_session

        self._check_journal(Event("finish"))
        if len(note) > _LONGEST_NOTE:
            raise SessionError(f"note: wanted at most {_LONGEST_NOTE} characters, got {len(note)}")
        if not is_unicode(note):
            raise SessionError("note: wanted valid Unicode, got lone surrogates")
        comparison = self.compare(corrected)
        self._note_pending_view()
        self._notice_jump()
        at_ms, utc = self._now_ms(), self._utc()
        self._account.sheet.advance(at_ms)
        document = {**self._header(), "started_utc": self.started_utc, "finished_utc": utc, "note": note}
        document |= self._account.document() | comparison.document()
        journal = self._journal
        assert journal is not None

        def seal(results_sha256: str) -> dict[str, Any]:
            finish = Event("finish", detail=results_sha256)
            journal.append({"t": at_ms, "utc": utc, **finish.fields()})
            journal.sync()
            return {"lines": journal.lines, "sha256": journal.sha256}

        with journal.provisional():
            path = write_session(self.folder, document, corrected, comparison.algorithm_types, seal)
        self._account.apply(at_ms, Event("finish"))
        self.close()
        return path

    def close(self) -> None:
        """Let go of the journal without ending the session, as when the program closes; it can be recovered."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def _header(self) -> dict[str, Any]:
        from .. import __version__

        return {
            "session": self.session_id,
            "software": f"LiverTumorSeg {__version__}",
            "reading": asdict(self.reading),
            "idle_after_ms": self._idle_after_ms,
            "reference": described(self._reference),
        }

    def _happen(self, event: Event) -> None:
        """Note an event that happens now, then count it."""
        self._check_journal(event)
        self._note_pending_view()
        self._notice_jump()
        self._note(self._now_ms(), event)

    def _check_journal(self, event: Event) -> None:
        self._account.check(event)
        if self._journal is None:
            raise SessionError(f"{event.name}: wanted a session with its journal, got one that was closed")

    def _note(self, at_ms: int, event: Event) -> None:
        assert self._journal is not None
        self._journal.append({"t": at_ms, "utc": self._utc(), **event.fields()})
        self._account.apply(at_ms, event)
        self._noted_ms = at_ms

    def _note_pending_view(self) -> None:
        if self._view_ms is not None:
            # A live clock may have added up beyond it; the sums are the same.
            self._note(max(self._view_ms, self._account.sheet.at_ms), Event("view"))
            self._view_ms = None

    def _sheet_with_pending_view(self, view_ms: int) -> Timesheet:
        sheet = copy.deepcopy(self._account.sheet)
        sheet.apply(max(view_ms, sheet.at_ms), Event("view"))
        return sheet

    def _notice_jump(self) -> None:
        ahead_ns = self._clock.wall_ns() - self._clock.monotonic_ns()
        gap_ms = round((ahead_ns - self._wall_ahead_ns) / NS_PER_MS)
        if abs(gap_ms) >= JUMP_MS:
            self._note(self._now_ms(), Event("gap", gap_ms=gap_ms))
            self._wall_ahead_ns = ahead_ns

    def _now_ms(self) -> int:
        """Now on the session's axis; a monotonic clock that runs backwards stands still here."""
        now_ns, at_ms = self._clock.monotonic_ns(), max(self._told_ms, self._account.sheet.at_ms)
        if now_ns < self._zero_ns + at_ms * NS_PER_MS:
            self._zero_ns = now_ns - at_ms * NS_PER_MS
        self._told_ms = (now_ns - self._zero_ns) // NS_PER_MS
        return self._told_ms

    def _utc(self) -> str:
        return utc_text(self._clock.wall_ns())

    def _continue_after(self, last: Mapping[str, Any]) -> None:
        """Carry the axis on from the journal's last line: only the wall clock knows how long nobody was there."""
        wall_ns = self._clock.wall_ns()
        away_ms = max(0, (wall_ns - wall_ns_of(last["utc"])) // NS_PER_MS)
        self._noted_ms = last.get("t", 0)
        self._zero_ns = self._clock.monotonic_ns() - (self._noted_ms + away_ms) * NS_PER_MS
        self._wall_ahead_ns = wall_ns - self._clock.monotonic_ns()
        self._happen(Event("recover"))
