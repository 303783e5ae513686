"""Time, passed in. Nothing else in the project asks the operating system what time it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Wall time for records, monotonic time for waits, and a sleep that can be interrupted."""

    def now(self) -> datetime:
        """The time as an aware UTC datetime."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go backwards."""
        ...

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Sleep ``seconds`` or until ``event`` is set; return whether it is set."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(seconds)


class FastClock:
    """A clock that goes ``speed`` times as fast as the machine's, for simulations: at the machine's time
    ``since`` it shows ``shows``. Daemons that are started one after the other with the same three agree.

    :raises ValueError: a speed that is not above 0, or a time without a zone.
    """

    SHORTEST_SECONDS = 0.02
    """The machine's: what asks again every second must not ask without a pause."""

    def __init__(
        self,
        speed: float,
        since: datetime,
        shows: datetime | None = None,
        machine: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if not speed > 0:
            raise ValueError(f"a clock's speed of {speed}; expected more than 0")
        if since.tzinfo is None or (shows is not None and shows.tzinfo is None):
            raise ValueError("a clock's times need their zone")
        self.speed = speed
        self._since = since
        self._shows = since if shows is None else shows
        self._machine = machine

    def now(self) -> datetime:
        return self.shown_at(self._machine())

    def monotonic(self) -> float:
        return time.monotonic() * self.speed

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(self.machine_seconds(seconds))

    def machine_seconds(self, seconds: float) -> float:
        """How long the machine waits for ``seconds`` of this clock."""
        return max(seconds / self.speed, min(seconds, self.SHORTEST_SECONDS))

    def shown_at(self, machine: datetime) -> datetime:
        """What this clock shows at a time of the machine's."""
        return (self._shows + (machine - self._since) * self.speed).astimezone(UTC)

    def machine_at(self, shown: datetime) -> datetime:
        """The machine's time when this clock shows ``shown``."""
        return (self._since + (shown - self._shows) / self.speed).astimezone(UTC)


class _Unhurried:
    """Shows the time of a clock, and waits by the machine's."""

    def __init__(self, clock: Clock) -> None:
        self.now = clock.now

    def monotonic(self) -> float:
        return time.monotonic()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(seconds)


def unhurried(clock: Clock) -> Clock:
    """The clock for what waits for real disks and processes, which go no faster when ``clock`` does."""
    return _Unhurried(clock) if isinstance(clock, FastClock) else clock


class ManualClock:
    """A clock that moves only when told: waiting advances it and returns at once."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed = 0.0
        self._lock = threading.Lock()

    def now(self) -> datetime:
        with self._lock:
            return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        with self._lock:
            return self._elapsed

    def wait(self, event: threading.Event, seconds: float) -> bool:
        if not event.is_set():
            self.advance(seconds)
        return event.is_set()

    def advance(self, seconds: float) -> None:
        """Move forward; a negative step is a programming error."""
        if seconds < 0:
            raise ValueError(f"a clock does not go back ({seconds} s)")
        with self._lock:
            self._elapsed += seconds
