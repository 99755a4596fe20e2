"""Who hears of the reader's decisions on lesions: nobody, or the session that times them."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext

from ..correction.session import CorrectionSession
from ..scene import LesionRow, SessionWatch

_ONE_EACH = re.compile(r"tumour_\d+")


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

    def __init__(self, session: CorrectionSession, watch: SessionWatch) -> None:
        """Args: the session, and what observes the scene for it."""
        self._session, self._watch = session, watch

    def rejecting(self, row: LesionRow) -> AbstractContextManager[None]:
        """See `Witness`."""
        return self._watch.as_one(lambda added, removed: self._session.rejected(lesion_name(row), removed))

    def restoring(self, row: LesionRow) -> AbstractContextManager[None]:
        """See `Witness`; it takes a change back, as Undo does."""
        return self._watch.as_one(lambda added, removed: self._session.undone(lesion_name(row), added))

    def redrawing(self, factor: float) -> AbstractContextManager[None]:
        """See `Witness`."""
        return self._watch.as_one(lambda added, removed: self._session.sensitivity_changed(factor, added, removed))

    def accepted(self, row: LesionRow) -> None:
        """See `Witness`."""
        self._watch.accepted(lesion_name(row))

    def looked_at(self, row: LesionRow) -> None:
        """See `Witness`."""
        self._watch.selected(lesion_name(row))


def lesion_name(row: LesionRow) -> str:
    """A lesion as a session names it: by its segment where it has one of its own, else by its number in the table."""
    segment_id = row.lesion.segment_id
    return segment_id if _ONE_EACH.fullmatch(segment_id) else f"lesion {row.lesion.lesion.id}"
