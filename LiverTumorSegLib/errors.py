"""What can go wrong, as a tree of exceptions and warnings.

Every error message is one line that says what was wanted and what was found. The command line
prints that line and exits with code 2; nothing has been written by then.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class LiverTumorSegError(ValueError):
    """Base of every error that a user can cause and mend."""


class ImageError(LiverTumorSegError):
    """The scan cannot be read, or is not a 3D grey-scale volume that can be segmented."""


class SeriesChoiceError(ImageError):
    """A DICOM folder holds several series and none was chosen; the message lists them."""


class RecipeError(LiverTumorSegError):
    """A recipe has an unknown key, a missing key or a value out of range."""


class BundleError(LiverTumorSegError):
    """A bundle is incomplete, was changed after it was sealed, or does not fit its recipe."""


class DeviceError(LiverTumorSegError):
    """The device or engine asked for is not on this computer."""


class TrainingError(LiverTumorSegError):
    """A training run cannot begin, go on or be resumed; what it has so far stays where it is."""


class OutputError(LiverTumorSegError):
    """The results cannot be written where the user wants them."""


class SessionError(LiverTumorSegError):
    """A correction session is asked for what its state does not allow, or does not fit what it corrects."""


class JournalError(SessionError):
    """A session's journal cannot be written, is written by another process, or was changed; names the line."""


class StudyError(LiverTumorSegError):
    """A reader study's manifest or folder is not as it must be, or a reading is not to be had now."""


class PackageError(LiverTumorSegError):
    """A Python package that is needed is not there and cannot be installed, or the user declined."""


class LiverTumorSegWarning(UserWarning):
    """Something the user should know of a result that is nevertheless valid."""


@contextmanager
def recorded_warnings() -> Iterator[list[str]]:
    """Collect the texts of our warnings raised inside the block; others pass through untouched.

    Yields:
        The list that fills up while the block runs, without repeats.
    """
    texts: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always", LiverTumorSegWarning)
        show_others = warnings.showwarning

        def record(message, category, filename, lineno, file=None, line=None):  # type: ignore[no-untyped-def]
            if not issubclass(category, LiverTumorSegWarning):
                show_others(message, category, filename, lineno, file, line)
            elif str(message) not in texts:
                texts.append(str(message))

        warnings.showwarning = record
        yield texts


def is_unicode(text: object) -> bool:
    """Whether a text, or a path, can be written down; bytes of a name that mean nothing here are lone surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in str(text))


_listeners: list[Callable[[str], None]] = []


@contextmanager
def heard_warnings(tell: Callable[[str], None]) -> Iterator[None]:
    """Tell of each of our warnings the moment it is raised, each text once, also where others record it for later."""
    told: set[str] = set()

    def hear(text: str) -> None:
        if text not in told:
            told.add(text)
            tell(text)

    _listeners.append(hear)
    try:
        yield
    finally:
        _listeners.remove(hear)


def warn(message: str) -> None:
    """Tell the user something about a result that is nevertheless valid."""
    for hear in _listeners:
        hear(message)
    warnings.warn(message, LiverTumorSegWarning, stacklevel=3)
