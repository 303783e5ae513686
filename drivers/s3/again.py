"""Trying a request again: a bounded number of times, with jitter, and slower while the server is pressed.

The wrappers of :mod:`drivers.wrappers` cannot do it: a multipart upload reads its source once, and only
here are the bytes of one part still at hand.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import TypeVar

from drivers.errors import NoSpace, NotReadableNow, Retryable
from drivers.s3.s3errors import Throttled, translated

T = TypeVar("T")

_PRESSURE_MAX = 7


class Patience:
    """Calls the SDK, translates what it raises, and tries again after ``Retryable``.

    :param attempts: how often a request is sent in all.
    :param base_seconds: the longest wait before the second attempt; it doubles up to ``cap_seconds``.

    Every ``Throttled`` raises a pressure that all threads of the store share, and every success lowers it:
    while it lasts, first attempts wait too, so that the store as a whole sends less (AWS Architecture
    Blog, "Exponential Backoff And Jitter": full jitter).
    """

    def __init__(
        self,
        attempts: int,
        rng: random.Random,
        sleep: Callable[[float], None],
        base_seconds: float = 0.2,
        cap_seconds: float = 20.0,
    ) -> None:
        self.attempts = attempts
        self._rng = rng
        self._sleep = sleep
        self._base = base_seconds
        self._cap = cap_seconds
        self._lock = threading.Lock()
        self._pressure = 0

    def __call__(self, what: str, request: Callable[[], T], attempts: int | None = None) -> T:
        """:raises DriverError: what the last attempt met; anything but ``Retryable`` at once."""
        most = self.attempts if attempts is None else attempts
        for failures in range(most):
            self._hold_back()
            try:
                with translated(what):
                    result = request()
            except (NoSpace, NotReadableNow):
                raise
            except Retryable as error:
                self.failed(error)
                if failures + 1 >= most:
                    raise
                self.pause(failures + 1)
            else:
                self.succeeded()
                return result
        raise AssertionError("unreachable")  # attempts is at least 1

    def failed(self, error: Retryable) -> None:
        if isinstance(error, Throttled):
            with self._lock:
                self._pressure = min(self._pressure + 1, _PRESSURE_MAX)

    def succeeded(self) -> None:
        with self._lock:
            self._pressure = max(self._pressure - 1, 0)

    def pause(self, failures: int) -> None:
        """Sleep before the next attempt."""
        self._sleep_up_to(self._base * 2.0 ** (failures - 1))

    def _hold_back(self) -> None:
        with self._lock:
            pressure = self._pressure
        if pressure:
            self._sleep_up_to(self._base * 2.0 ** (pressure - 1))

    def _sleep_up_to(self, seconds: float) -> None:
        self._sleep(self._rng.uniform(0, min(self._cap, seconds)))
