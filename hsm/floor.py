"""What the drives are doing now: what was seen in them, whose sessions run, and what those have left."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from hsm import planner

Place = tuple[str, int]
"""Library and element address of a drive."""


@dataclass(slots=True)
class _Session:
    barcode: str
    left: tuple[planner.Work, ...]
    looks: int = 0
    urgent: tuple[tuple[int, int], float] | None = None
    """What was queued that is more urgent when somebody looked last, and when (seconds)."""


class Floor:
    """Shared by the dispatcher, the sessions and whoever asks; remembers nothing across a restart."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: tuple[planner.DriveAt, ...] = ()
        self._sessions: dict[Place, _Session] = {}
        self._last: dict[Place, int] = {}
        """The most urgent of what each drive's last session was begun for."""

    def saw(self, drives: Sequence[planner.DriveAt]) -> tuple[planner.DriveAt, ...]:
        """Remember what the changers showed; the same with the priorities of their sessions."""
        with self._lock:
            self._seen = tuple(drives)
            return tuple(self._now(each) for each in drives)

    @property
    def drives(self) -> tuple[planner.DriveAt, ...]:
        """As they were seen last, and what is known since."""
        with self._lock:
            return tuple(self._now(each) for each in self._seen)

    @property
    def running(self) -> tuple[planner.Running, ...]:
        """The sessions that are under way, with what they have left."""
        with self._lock:
            return tuple(
                planner.Running(self._now(each), session.barcode, session.left)
                for each in self._seen
                if (session := self._sessions.get((each.library, each.address))) is not None
            )

    def begin(self, place: Place, barcode: str, work: Iterable[planner.Work]) -> None:
        """A session begins; ``work`` in the order it will be done."""
        with self._lock:
            self._sessions[place] = _Session(barcode, tuple(work))

    def goes_on(self, place: Place, left: Sequence[int]) -> planner.Running | None:
        """A session comes to its next package, the first of ``left`` (primary keys of requests).

        :returns: what it has left; None where it has done nothing yet, or nobody knows of it.
        """
        with self._lock:
            session = self._sessions.get(place)
            if session is None:
                return None
            works = {each.request_pk: each for each in session.left}
            session.left = tuple(works[pk] for pk in left if pk in works)
            session.looks += 1
            seen = next((each for each in self._seen if (each.library, each.address) == place), None)
            if session.looks == 1 or seen is None:
                return None
            return planner.Running(self._now(seen), session.barcode, session.left)

    def knows(self, place: Place, urgent: tuple[int, int], now: float, seconds: float) -> bool:
        """Whether the session looked at just this no longer than so many seconds ago; it is remembered."""
        with self._lock:
            session = self._sessions.get(place)
            if session is None:
                return False
            if (
                session.urgent is not None
                and session.urgent[0] == urgent
                and now - session.urgent[1] < seconds
            ):
                return True
            session.urgent = (urgent, now)
            return False

    def end(self, place: Place, priority: int | None) -> None:
        """A session has ended; ``priority`` as :attr:`planner.DriveAt.priority` has it."""
        with self._lock:
            self._sessions.pop(place, None)
            if priority is not None:
                self._last[place] = priority

    def _now(self, drive: planner.DriveAt) -> planner.DriveAt:
        place = (drive.library, drive.address)
        session = self._sessions.get(place)
        if session is None:
            return replace(drive, priority=self._last.get(place))
        most_urgent = min((each.priority for each in session.left), default=None)
        leaving = drive.holds if drive.holds != session.barcode else None
        return replace(drive, holds=session.barcode, busy=True, priority=most_urgent, leaving=leaving)
