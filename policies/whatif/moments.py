"""Simulated time: whole microseconds since 1970 (UTC), so that comparisons are exact and fast."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

Micros = int
SECOND: Micros = 1_000_000
DAY: Micros = 86_400 * SECOND
NEVER: Micros = 2**62

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def micros(moment: datetime) -> Micros:
    """Of an aware datetime."""
    return (moment - _EPOCH) // _MICROSECOND


def length(span: timedelta) -> Micros:
    return span // _MICROSECOND


def moment(at: Micros) -> datetime:
    """In UTC."""
    return _EPOCH + timedelta(microseconds=at)


def seconds(number: float) -> Micros:
    """``number`` of seconds, rounded to the microsecond."""
    return round(number * SECOND)


class Timeline:
    """The event queue. Events of one time happen in the order in which they were asked for."""

    def __init__(self, now: Micros) -> None:
        self.now = now
        self._queue: list[tuple[Micros, int, Callable[..., None], tuple[Any, ...]]] = []
        self._asked = 0

    def at(self, when: Micros, do: Callable[..., None], *arguments: Any) -> None:
        """Call ``do(*arguments)`` at ``when``; what lies in the past happens now."""
        self._asked += 1
        heapq.heappush(self._queue, (max(when, self.now), self._asked, do, arguments))

    @property
    def next(self) -> Micros:
        """When the next event is; :data:`NEVER` if there is none."""
        return self._queue[0][0] if self._queue else NEVER

    def run_before(self, until: Micros) -> None:
        """Everything that happens before ``until``, which is then the time."""
        queue = self._queue
        while queue and queue[0][0] < until:
            self.now, _, do, arguments = heapq.heappop(queue)
            do(*arguments)
        self.now = max(self.now, until)
