"""Notes: short texts that a volume carries beside its objects, for whoever opens it later.

A Store that has them is :class:`Annotated`. What a note says is nobody's business here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from drivers.base import Store
from drivers.errors import Permanent
from drivers.wrappers import PassingStore

NOTE_CHARACTERS_MAX = 1000
NOTES_KEPT = 100
"""A volume carries so many notes at least; older ones may be dropped."""


@runtime_checkable
class Annotated(Protocol):
    """A Store that can carry notes in what its ``flush`` writes. Use :func:`annotated` to find it in a Store
    that may be wrapped."""

    def annotate(self, note: str) -> None:
        """Write this note with the next :meth:`drivers.base.Store.flush` that has something else to write;
        of several before it, the last.

        :raises Permanent: it is not one line of printable ASCII of at most 1,000 characters.
        """
        ...

    def notes(self) -> tuple[str, ...]:
        """What was flushed, oldest first: as the medium has it, also after a crash and in another drive."""
        ...


def annotated(store: Store) -> Annotated | None:
    """What carries notes inside ``store`` (as many wrappers as there may be), or None."""
    while not isinstance(store, Annotated):
        if not isinstance(store, PassingStore):
            return None
        store = store.inner
    return store


def check_note(note: str) -> str:
    """:raises Permanent: see :meth:`Annotated.annotate`."""
    if not note or len(note) > NOTE_CHARACTERS_MAX or not (note.isascii() and note.isprintable()):
        raise Permanent(
            f"a note of {len(note)} characters: expected one line of printable ASCII, "
            f"{NOTE_CHARACTERS_MAX} characters at most"
        )
    return note


def joined(kept: Iterable[str], note: str) -> tuple[str, ...]:
    """The notes with one more; an empty one changes nothing."""
    return (*kept, note)[-NOTES_KEPT:] if note else tuple(kept)


def read_notes(said: object) -> tuple[str, ...]:
    """The notes in a volume's index, which may be older than notes are.

    :raises TypeError: it is no list of texts.
    """
    if said is None:
        return ()
    if not isinstance(said, list) or not all(isinstance(each, str) for each in said):
        raise TypeError("notes is not a list of texts")
    return tuple(said)
