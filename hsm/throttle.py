"""The pace of transfers: until the daemon stops, with the bandwidth that those of a policy share."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from drivers.base import Readable
from drivers.ring import Filling
from drivers.wrappers import Bucket
from hsm.catalog import details
from hsm.clock import Clock
from hsm.recall import Stopped


class StopReader:
    """A Readable that ends with :class:`Stopped` when the daemon stops."""

    def __init__(self, source: Readable, stop: threading.Event) -> None:
        self._source = source
        self._stop = stop
        self._fill = source.fill if isinstance(source, Filling) else None

    def read(self, size: int, /) -> bytes:
        if self._stop.is_set():
            raise Stopped
        return self._source.read(size)

    def fill(self, buffer: memoryview, /) -> int:
        """See :class:`drivers.ring.Filling`."""
        if self._fill is not None and not self._stop.is_set():
            return self._fill(buffer)
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class Throttles:
    """One bucket a policy and rate."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: dict[tuple[str, float], Bucket] = {}
        self._lock = threading.Lock()

    def slowed(self, source: Readable, detail: Mapping[str, Any], stop: threading.Event) -> Readable:
        """The source, no quicker than the request's policy allows, until the daemon stops.

        :param detail: the request's.
        """
        source = StopReader(source, stop)
        rate = detail.get(details.LIMITS, {}).get("bandwidth")
        if not rate:
            return source
        key = (str(detail.get(details.POLICY, "")), float(rate))
        with self._lock:
            if key not in self._buckets:
                self._buckets[key] = Bucket(float(rate), self._clock.monotonic)
            bucket = self._buckets[key]
        return _Slowed(source, bucket, self._clock, stop)


class _Slowed:
    def __init__(self, source: Readable, bucket: Bucket, clock: Clock, stop: threading.Event) -> None:
        self._source = source
        self._bucket = bucket
        self._clock = clock
        self._stop = stop

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size)
        wait = self._bucket.take(len(data))
        if wait > 0:
            self._clock.wait(self._stop, wait)
        return data
