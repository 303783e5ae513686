"""One bell for everyone who waits for the state of the archive to change.

Workers and retrieves sleep on it instead of polling the catalog; whoever commits a change that
others may wait for rings it. A ring is never lost: :meth:`Bell.wait` takes the count that the
caller saw before it looked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


class Bell:
    """A counter of rings with a condition on it.

    :param pace: how long the machine waits for so many seconds, where the clock is not the machine's.
    """

    def __init__(self, pace: Callable[[float], float] = float) -> None:
        self._pace = pace
        self._condition = threading.Condition()
        self._rings = 0

    @property
    def rings(self) -> int:
        with self._condition:
            return self._rings

    def ring(self) -> None:
        with self._condition:
            self._rings += 1
            self._condition.notify_all()

    def wait(self, seen: int, timeout_seconds: float) -> int:
        """Return the count as soon as it differs from ``seen``, or when the time is over."""
        with self._condition:
            self._condition.wait_for(lambda: self._rings != seen, self._pace(timeout_seconds))
            return self._rings
