"""A circuit breaker: a far side that failed is left alone for a while, and then asked by one caller.

It is for drivers whose every attempt is dear: a connection, a process that may hang. It decides only
when to try; the driver tries.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from drivers.errors import DriverError, OperatorNeeded, Retryable


class Breaker:
    """Closed while all is well. After a failure it is open for a random time, each longer than the last.

    After the n-th failure in a row it stays open for ``base_seconds * 2**(n-1)``, at most
    ``cap_seconds``, of which a random half is left out, so that several callers do not come back at once.
    Then one caller passes (and only one, until it says how it went).

    :param clock: seconds that never go backwards.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        rng: random.Random,
        base_seconds: float = 1.0,
        cap_seconds: float = 60.0,
    ) -> None:
        if not 0 < base_seconds <= cap_seconds:
            raise ValueError(f"back-off of {base_seconds} to {cap_seconds} s; expected 0 < base <= cap")
        self._clock, self._rng = clock, rng
        self._base, self._cap = base_seconds, cap_seconds
        self._lock = threading.Lock()
        self._failures = 0
        self._until = 0.0
        self._trying = False
        self._error: DriverError | None = None

    @property
    def error(self) -> DriverError | None:
        """Why it is open; None while it is closed."""
        with self._lock:
            return self._error

    @contextmanager
    def passage(self) -> Iterator[bool]:
        """Pass, or be told at once that it is open; yields whether this is a trial after a failure.

        The block's ``Retryable`` and ``OperatorNeeded`` do not count by themselves: call :meth:`failed` or
        :meth:`succeeded`. A trial that says neither is as if it had not been.

        :raises DriverError: open: with the last error's words and when the next try will be.
        """
        trial = self._enter()
        try:
            yield trial
        finally:
            if trial:
                with self._lock:
                    self._trying = False

    def failed(self, error: DriverError) -> None:
        """The far side is unusable: open, or stay so for longer."""
        with self._lock:
            if self._error is not None and self._clock() < self._until and not self._trying:
                return  # one of several that were under way when it failed
            self._failures += 1
            wait = min(self._cap, self._base * 2.0 ** min(self._failures - 1, 60))
            self._until = self._clock() + wait * self._rng.uniform(0.5, 1.0)
            self._error = error

    def succeeded(self) -> None:
        """The far side works: close."""
        with self._lock:
            self._failures, self._error = 0, None

    def _enter(self) -> bool:
        with self._lock:
            if self._error is None:
                return False
            wait = self._until - self._clock()
            if wait <= 0 and not self._trying:
                self._trying = True
                return True
            when = f"next try in {wait:.0f} s" if wait > 0 else "it is being tried again"
            # A person who is needed is needed still; everything else is worth another try.
            kind = OperatorNeeded if isinstance(self._error, OperatorNeeded) else Retryable
            raise kind(f"{self._error} ({when})") from self._error
