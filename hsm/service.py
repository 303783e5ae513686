"""Whether one volume of a pool can be used now: opened when it can be, probed, out of service, back again.

A storage that does not answer takes nobody down: what needs it waits, and the probes that bring it back have
a back-off and a time limit. Nothing here knows the catalog; whoever keeps the volume's row is told what
changed (:meth:`Service.take_news`).
"""

from __future__ import annotations

import enum
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from drivers.base import (
    Capacity,
    Figure,
    Notice,
    Severity,
    Store,
    Traits,
    Watched,
)
from hsm.clock import Clock
from hsm.errors import DriverError, HsmError, Retryable
from hsm.log import get_logger

log = get_logger(__name__)

PROBE_SECONDS = 30.0
"""Between two probes of what is in service."""
READING_SECONDS = 5.0
"""The same of what takes no writes: somebody may wait for room."""
LOOK_SECONDS = 1.0
"""How long it is believed that a folder of this machine is there, or away: asking costs some system calls."""
BACK_FIRST_SECONDS, BACK_LAST_SECONDS = 1.0, 60.0
"""Between two probes of what is out of service: doubling."""
NOTICES_MAX = 20
LIMIT_SECONDS = 20.0
"""A probe that takes longer says that the storage does not answer."""


class OutOfService(Retryable):
    """The volume cannot be used just now. Waiting for it is no failure of whoever wanted it."""


class NotYet(OutOfService):
    """What is wanted is on its way out of a cold class; worth another look after ``seconds``."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class State(enum.StrEnum):
    SERVING = "in service"
    READING = "takes no writes"  # full, read-only: what is there can be read
    AWAY = "out of service"

    @property
    def said(self) -> str:
        """As a sentence goes on after the volume's name."""
        return self.value if self is State.READING else f"is {self.value}"


@dataclass(frozen=True, slots=True)
class Condition:
    """What is known of a volume now."""

    state: State
    reason: str
    """In an admin's words; in service empty, or what is not as it should be."""
    since: datetime


class Service:
    """One volume's. Thread-safe.

    :param opener: opens the Store and makes sure that it is the right one; called until it succeeds, in one
        thread at a time.
    :param local: asking whether it is there costs little and does not hang: a folder of this machine. It is
        asked inline by whoever wants to read (:meth:`there`), without waiting for a probe.
    :param alone: nobody else probes it: whoever wants to use it tries to open it.
    """

    def __init__(
        self, name: str, clock: Clock, opener: Callable[[], Store], *, local: bool, alone: bool = False
    ) -> None:
        self.name = name
        self.local = local
        self._alone = alone
        self._notices: deque[Notice] = deque(maxlen=NOTICES_MAX)
        self._clock = clock
        self._opener = opener
        self._lock = threading.Lock()
        self._probing = threading.Lock()
        self._store: Store | None = None
        self._condition = Condition(State.AWAY, "it has not been opened yet", clock.now())
        self._room: Capacity | None = None
        self._failures = 0
        self._due = clock.monotonic()
        self._began: float | None = None
        self._looked = float("-inf")
        self._news = False
        self.on_trouble: Callable[[], None] = lambda: None
        """Called when a probe has become due early."""
        self.on_open: Callable[[], None] = lambda: None
        """Called once, when it is opened later than at the start."""

    @property
    def condition(self) -> Condition:
        with self._lock:
            return self._condition

    @property
    def away(self) -> bool:
        return self.condition.state is State.AWAY

    @property
    def writable(self) -> bool:
        return self.condition.state is State.SERVING

    @property
    def room(self) -> Capacity | None:
        """As of the last probe; None while none has succeeded."""
        with self._lock:
            return self._room

    @property
    def traits(self) -> Traits:
        """Of the Store, as far as it was ever opened."""
        with self._lock:
            return Traits() if self._store is None else self._store.traits

    @property
    def opened(self) -> bool:
        with self._lock:
            return self._store is not None

    def store(self) -> Store:
        """The Store itself.

        :raises OutOfService: it is not to be used just now.
        """
        if self._alone and not self.opened and self.due():
            self.probe()
        with self._lock:
            store, condition = self._store, self._condition
        if store is None or (condition.state is State.AWAY and not self.local):
            raise OutOfService(f"{self.name} is out of service: {condition.reason}")
        return store

    def there(self) -> bool:
        """Whether what lies on it can be read now. One that is full or read-only can: there is no better
        time to read from it."""
        if self.local and self._clock.monotonic() - self._looked >= LOOK_SECONDS and self.opened:
            self._look()
        return not self.away

    def _look(self) -> None:
        """Ask a folder of this machine at once, without trying a write."""
        self._looked = self._clock.monotonic()
        store = self._store
        assert store is not None  # the caller looked
        try:
            room = store.capacity()
        except DriverError as error:
            self._become(State.AWAY, str(error))
            return
        with self._lock:
            self._room = room
        if self.away:
            self._become(State.SERVING, "")

    def trouble(self, error: DriverError) -> None:
        """An operation failed in a way that may be the whole volume's: probe soon, and look at once."""
        self._looked = float("-inf")
        with self._lock:
            early = min(self._due, self._clock.monotonic())
            news, self._due = early < self._due, early
        if news:
            log.info("%s: %s; it is probed", self.name, error)
            self.on_trouble()

    @property
    def notices(self) -> list[Notice]:
        """What its device told lately, the last one last."""
        with self._lock:
            return list(self._notices)

    def figures(self) -> tuple[Figure, ...]:
        """Readings of its device, of Stores whose device tells them."""
        watched = _watched(self._store)
        return watched.figures() if watched is not None else ()

    def close(self) -> None:
        """Let go of its connections, helpers and watches; nothing may use it any more."""
        close_store(self._store)

    def _hear(self, notice: Notice) -> None:
        tell = {Severity.INFO: log.info, Severity.WARNING: log.warning}.get(notice.severity, log.error)
        tell("%s: %s: %s", self.name, notice.subject, notice.message)
        with self._lock:
            self._notices.append(notice)
            self._due = min(self._due, self._clock.monotonic())  # for the better or the worse: look
        self.on_trouble()

    def due(self) -> bool:
        """Whether :meth:`probe` has something to do, and nobody does it."""
        with self._lock:
            return self._began is None and self._clock.monotonic() >= self._due

    def probe(self) -> Condition:
        """Open it if it is not open, and look whether it can be read and written. May take long; call it
        where that harms nobody."""
        if not self._probing.acquire(blocking=False):
            return self.condition
        try:
            with self._lock:
                self._began = self._clock.monotonic()
                first = self._store is None
            state, reason = self._probe()
            self._become(state, reason)
            with self._lock:
                self._failures = self._failures + 1 if state is State.AWAY else 0
                pauses = {State.SERVING: PROBE_SECONDS, State.READING: READING_SECONDS}
                pause = pauses.get(state) or self._pause()
                self._due = self._clock.monotonic() + pause
        finally:
            with self._lock:
                self._began = None
            self._probing.release()
        if first and self.opened:
            watched = _watched(self._store)
            if watched is not None and not self._alone:
                watched.watch(self._hear)
            self.on_open()
        return self.condition

    def _pause(self) -> float:
        doublings = min(max(self._failures - 1, 0), 30)
        return min(BACK_LAST_SECONDS, BACK_FIRST_SECONDS * float(2**doublings))

    def _probe(self) -> tuple[State, str]:
        try:
            store = self._store or self._opener()
            room = store.capacity()
            with self._lock:
                self._store, self._room = store, room
            health = store.health()
        except (DriverError, HsmError) as error:
            return State.AWAY, str(error)
        except Exception as error:  # a driver's fault must not end the probes
            log.exception("%s: unexpected", self.name)
            return State.AWAY, f"unexpected: {error!r}"
        if health.ok and room.free > 0:
            return State.SERVING, health.message  # a path less, and still in service
        if health.ok:
            return State.READING, f"full: nothing is free of {room.total} bytes, its reserve left out"
        try:
            store.capacity()
        except DriverError:
            return State.AWAY, health.message
        return State.READING, health.message

    def overdue(self, limit_seconds: float = LIMIT_SECONDS) -> None:
        """Call now and then: a probe that hangs says that the storage does."""
        with self._lock:
            began = self._began
        if began is not None and self._clock.monotonic() - began > limit_seconds:
            self._become(State.AWAY, f"it does not answer within {limit_seconds:g} s")

    def _become(self, state: State, reason: str) -> None:
        with self._lock:
            old = self._condition
            same = old.state is state
            worse = same and state is State.SERVING and reason not in ("", old.reason)
            self._condition = Condition(state, reason, old.since if same else self._clock.now())
            self._news = self._news or not same or old.reason != reason
        if not same or worse:
            tell = log.info if state is State.SERVING and not reason else log.warning
            tell("%s %s%s", self.name, state.said, f": {reason}" if reason else "")

    def take_news(self) -> Condition | None:
        """What it has become since the last call, None where nothing changed."""
        with self._lock:
            news, self._news = self._news, False
            return self._condition if news else None

    def bring_news_again(self) -> None:
        """What was taken could not be written down."""
        with self._lock:
            self._news = True


def close_store(store: object) -> None:
    """End what a Store keeps running (connections, helper processes, watches), if it keeps anything."""
    end = getattr(store, "close", None)
    if callable(end):
        try:
            end()
        except DriverError as error:
            log.warning("a store does not close: %s", error)


def _watched(store: object) -> Watched | None:
    """The Store whose device tells what happens to it, or None."""
    return store if isinstance(store, Watched) else None
