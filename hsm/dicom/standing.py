"""The associations of one process: where they came in, which stand, and which are at work."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable

from pynetdicom.association import Association


class Standing:
    """Weak: an association that is gone is forgotten. Counting is for one thread at a time."""

    def __init__(self) -> None:
        self._doors: weakref.WeakKeyDictionary[Association, str] = weakref.WeakKeyDictionary()
        self._admitted: weakref.WeakSet[Association] = weakref.WeakSet()
        self._busy: weakref.WeakSet[Association] = weakref.WeakSet()

    def came(self, assoc: Association, door: str) -> None:
        """One came in at a door, and is not admitted yet."""
        self._doors[assoc] = door

    def door(self, assoc: Association) -> str:
        """The name of the door that it came in at."""
        return self._doors.get(assoc, "")

    def admit(self, assoc: Association) -> None:
        self._admitted.add(assoc)

    def by_door(self, number: Callable[[str], int], doors: int) -> list[int]:
        """How many stand, by the number of the door that they came in at."""
        counts = [0] * doors
        for assoc in list(self._admitted):
            if assoc.is_alive():
                counts[number(self.door(assoc))] += 1
        return counts

    def enter(self, assoc: Association) -> None:
        """A request of it is under way."""
        self._busy.add(assoc)

    def leave(self, assoc: Association) -> None:
        self._busy.discard(assoc)

    def is_busy(self, assoc: Association) -> bool:
        return assoc in self._busy


def address_of(assoc: Association) -> str:
    """Where the requestor of an association is."""
    info = assoc.requestor.address_info
    return str(info.address) if info else "?"


def calling_of(assoc: Association) -> str:
    """The AE title of the requestor."""
    return (assoc.requestor.ae_title or "").strip()


def once(act: Callable[[], None]) -> Callable[[], None]:
    """``act``, the first time only."""
    left = [act]

    def first() -> None:
        with contextlib.suppress(IndexError):
            left.pop()()

    return first
