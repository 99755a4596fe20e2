"""Who hears of the reader's decisions on lesions: nobody, or the session that times them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext

from ..correction.session import CorrectionSession
from ..scene import LesionRow, PlacedLesion, SessionWatch
from .decisions import shared_voxels

_ONE_EACH = re.compile(r"tumour_([1-9]\d*)")


class Witness:
    """Hears nothing; what is done inside the blocks happens all the same."""

    def rejecting(self, row: LesionRow) -> AbstractContextManager[None]:
        """A lesion is given to the liver inside the block."""
        return nullcontext()

    def restoring(self, row: LesionRow) -> AbstractContextManager[None]:
        """A rejected lesion is put back inside the block."""
        return nullcontext()

    def redrawing(self, factor: float) -> AbstractContextManager[None]:
        """The tumours are drawn at another sensitivity inside the block."""
        return nullcontext()

    def accepted(self, row: LesionRow) -> None:
        """A lesion was accepted."""

    def looked_at(self, row: LesionRow) -> None:
        """A lesion was chosen in the table."""


class SessionWitness(Witness):
    """Tells a session, so that decisions are counted as what they are and not as strokes."""

    def __init__(self, session: CorrectionSession, watch: SessionWatch, rows: Sequence[LesionRow]) -> None:
        """Args: the session, what observes the scene for it, and the lesions as its reader finds them."""
        self._session, self._watch = session, watch
        self._names = LesionNames(rows, session.account.decisions)

    def rejecting(self, row: LesionRow) -> AbstractContextManager[None]:
        """See `Witness`."""
        return self._watch.as_one(lambda added, removed: self._session.rejected(self._names.of(row), removed))

    def restoring(self, row: LesionRow) -> AbstractContextManager[None]:
        """See `Witness`; it takes a change back, as Undo does."""
        return self._watch.as_one(lambda added, removed: self._session.undone(self._names.of(row), added))

    def redrawing(self, factor: float) -> AbstractContextManager[None]:
        """See `Witness`."""
        return self._watch.as_one(lambda added, removed: self._session.sensitivity_changed(factor, added, removed))

    def accepted(self, row: LesionRow) -> None:
        """See `Witness`."""
        self._watch.accepted(self._names.of(row))

    def looked_at(self, row: LesionRow) -> None:
        """See `Witness`."""
        self._watch.selected(self._names.of(row))


class LesionNames:
    """What a session calls its lesions; the table counts anew after each change, these names stay.

    A lesion has the name of its segment where it has one of its own. Any other is "lesion N", by the table's number
    when the session began or went on; one that appears later gets a number that no other has had. It is known again
    by its voxels: it is the one that it shares most of them with.
    """

    def __init__(self, rows: Sequence[LesionRow], taken: Iterable[str]) -> None:
        """Args: the lesions at first, and the names that an earlier sitting gave."""
        self._known: list[tuple[int, LesionRow]] = []
        own = (_ONE_EACH.fullmatch(row.lesion.segment_id) for row in rows)
        self._taken = {int(name.rpartition(" ")[2]) for name in taken if name.startswith("lesion ")}
        self._taken |= {int(found[1]) for found in own if found}
        for row in rows:
            self.of(row)

    def of(self, row: LesionRow) -> str:
        """The name of a row's lesion, which is given one where it has none yet."""
        if _ONE_EACH.fullmatch(row.lesion.segment_id):
            return row.lesion.segment_id
        return f"lesion {self._number(row, row.lesion)}"

    def _number(self, row: LesionRow, lesion: PlacedLesion) -> int:
        shared = [shared_voxels(known, lesion) for _, known in self._known]
        if any(shared):
            return self._known[shared.index(max(shared))][0]
        number = lesion.lesion.id
        if number in self._taken:
            number = max(self._taken) + 1
        self._taken.add(number)
        self._known.append((number, row))
        return number
