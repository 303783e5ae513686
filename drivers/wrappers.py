"""What wraps a Store and is never inside one: retries, a bandwidth limit, faults.

Each wrapper is a Store itself, so they nest. Clock, sleep and randomness are passed in.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from drivers.base import Capacity, Digested, Health, ObjectStat, Readable, Recallable, Store, Traits
from drivers.errors import DriverError, NoSpace, NotReadableNow, Retryable

T = TypeVar("T")


class PassingStore:
    """A Store that passes every call on; wrappers override what they change."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner

    @property
    def inner(self) -> Store:
        """What is wrapped."""
        return self._inner

    @property
    def traits(self) -> Traits:
        return self._inner.traits

    def put(self, key: str, source: Readable, size: int, digest: bytes | None) -> ObjectStat:
        return self._inner.put(key, source, size, digest)

    def get(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        return self._inner.get(key, offset, length)

    def delete(self, key: str) -> None:
        self._inner.delete(key)

    def list(self) -> Iterator[ObjectStat]:
        return self._inner.list()

    def stat(self, key: str) -> ObjectStat:
        return self._inner.stat(key)

    def capacity(self) -> Capacity:
        return self._inner.capacity()

    def flush(self) -> None:
        self._inner.flush()

    def drop_caches(self) -> None:
        self._inner.drop_caches()

    def health(self) -> Health:
        return self._inner.health()


def recallable(store: Store) -> Recallable | None:
    """The cold storage inside ``store`` (as many wrappers as there may be), or None."""
    while not isinstance(store, Recallable):
        if not isinstance(store, PassingStore):
            return None
        store = store.inner
    return store


def digested(store: Store) -> Digested | None:
    """The Store inside ``store`` that keeps digests beside its objects, or None."""
    while not isinstance(store, Digested):
        if not isinstance(store, PassingStore):
            return None
        store = store.inner
    return store


class RetryingStore(PassingStore):
    """Tries again after ``Retryable``, at most ``attempts`` times in all, then lets the error through.

    Before attempt n+1 it sleeps a random time of up to ``base_seconds * 2**(n-1)``, at most
    ``cap_seconds``. With a ``deadline_seconds`` (and a ``clock`` that never goes backwards) no attempt begins
    later than that after the call did: where the sleep would last longer, the error is let through at once.
    ``NoSpace`` is not retried, because another volume is the answer to it, nor is ``NotReadableNow``, which
    takes hours to change.

    A ``put`` is retried only when its source has ``tell`` and ``seek``: the source is wound back to
    where it was. A source that cannot be wound back (a socket, another store's ``get``) is read
    once. A ``get`` goes on at the byte it had come to, so that no byte is given twice. A ``list`` is
    retried until its first item.
    """

    def __init__(
        self,
        inner: Store,
        attempts: int,
        rng: random.Random,
        sleep: Callable[[float], None],
        base_seconds: float = 0.5,
        cap_seconds: float = 30.0,
        deadline_seconds: float | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        if attempts < 1:
            raise ValueError(f"{attempts} attempts; expected at least 1")
        if (deadline_seconds is None) != (clock is None):
            raise ValueError("a deadline needs a clock, and a clock is for a deadline")
        super().__init__(inner)
        self._attempts = attempts
        self._deadline = deadline_seconds
        self._clock = clock or (lambda: 0.0)
        self._rng = rng
        self._sleep = sleep
        self._base = base_seconds
        self._cap = cap_seconds

    def put(self, key: str, source: Readable, size: int, digest: bytes | None) -> ObjectStat:
        tell: Callable[[], int] | None = getattr(source, "tell", None)
        seek: Callable[[int], object] | None = getattr(source, "seek", None)
        if tell is None or seek is None or not getattr(source, "seekable", lambda: True)():
            return self._inner.put(key, source, size, digest)
        start = tell()

        def attempt() -> ObjectStat:
            seek(start)
            return self._inner.put(key, source, size, digest)

        return self._retry(attempt)

    def get(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        failures = given = 0
        begun = self._clock()
        while True:
            left = None if length is None else length - given
            try:
                for chunk in self._inner.get(key, offset + given, left):
                    given += len(chunk)
                    yield chunk
            except (NoSpace, NotReadableNow):
                raise
            except Retryable:
                failures += 1
                if failures >= self._attempts or not self._pause(failures, begun):
                    raise
            else:
                return

    def delete(self, key: str) -> None:
        self._retry(lambda: self._inner.delete(key))

    def list(self) -> Iterator[ObjectStat]:
        def begin() -> tuple[Iterator[ObjectStat], ObjectStat | None]:
            items = iter(self._inner.list())
            return items, next(items, None)

        items, first = self._retry(begin)
        if first is not None:
            yield first
            yield from items

    def stat(self, key: str) -> ObjectStat:
        return self._retry(lambda: self._inner.stat(key))

    def capacity(self) -> Capacity:
        return self._retry(self._inner.capacity)

    def flush(self) -> None:
        self._retry(self._inner.flush)

    def drop_caches(self) -> None:
        self._retry(self._inner.drop_caches)

    def _retry(self, attempt: Callable[[], T]) -> T:
        begun = self._clock()
        for failures in range(1, self._attempts):
            try:
                return attempt()
            except (NoSpace, NotReadableNow):
                raise
            except Retryable:
                if not self._pause(failures, begun):
                    raise
        return attempt()

    def _pause(self, failures: int, begun: float) -> bool:
        """Sleep, unless that would last until after the deadline; whether to try again."""
        wait = self._rng.uniform(0, min(self._cap, self._base * 2 ** (failures - 1)))
        if self._deadline is not None and self._clock() - begun + wait > self._deadline:
            return False
        self._sleep(wait)
        return True


class Bucket:
    """At most ``bytes_per_second`` pass (a token bucket); threads may share it.

    After a pause up to ``burst_bytes`` pass at once; a second's worth unless told. ``clock`` gives
    seconds that never go backwards.
    """

    def __init__(
        self, bytes_per_second: float, clock: Callable[[], float], burst_bytes: float | None = None
    ) -> None:
        if bytes_per_second <= 0:
            raise ValueError(f"{bytes_per_second} bytes a second; expected more than 0")
        self._rate = bytes_per_second
        self._burst = bytes_per_second if burst_bytes is None else burst_bytes
        self._clock = clock
        self._tokens = self._burst
        self._filled_at = clock()
        self._lock = threading.Lock()

    def take(self, size: int) -> float:
        """Take the tokens, into debt if need be; the seconds to wait until the debt is paid."""
        with self._lock:
            now = self._clock()
            self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate) - size
            self._filled_at = now
            return max(0.0, -self._tokens / self._rate)


class LimitedStore(PassingStore):
    """Passes at most ``bytes_per_second`` of ``put`` and ``get`` together, see :class:`Bucket`."""

    def __init__(
        self,
        inner: Store,
        bytes_per_second: float,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        burst_bytes: float | None = None,
    ) -> None:
        super().__init__(inner)
        self._bucket = Bucket(bytes_per_second, clock, burst_bytes)
        self._sleep = sleep

    def put(self, key: str, source: Readable, size: int, digest: bytes | None) -> ObjectStat:
        return self._inner.put(key, Tapped(source, self._take), size, digest)

    def get(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        for chunk in self._inner.get(key, offset, length):
            self._take(len(chunk))
            yield chunk

    def _take(self, size: int) -> None:
        wait = self._bucket.take(size)
        if wait > 0:
            self._sleep(wait)


class Tapped:
    """A source that tells ``tap`` how many bytes were read of it; it can be wound back if it could before."""

    def __init__(self, source: Readable, tap: Callable[[int], None]) -> None:
        self._source = source
        self._tap = tap
        for name in ("tell", "seek", "seekable"):
            if hasattr(source, name):
                setattr(self, name, getattr(source, name))

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size)
        self._tap(len(data))
        return data


Fault = Callable[[str, str], DriverError | None]
"""Given an operation (``put``, ``write``, ``get``, ``read``, ``delete``, ``list``, ``stat``,
``capacity``, ``flush``) and a key (empty where there is none), the error to raise, if any."""


class FaultyStore(PassingStore):
    """Raises what ``fault`` says, before each call, and at each piece of a put or a get.

    Keys in ``flipped`` are read with their first byte inverted, as from a medium that has rotted.
    """

    def __init__(self, inner: Store, fault: Fault, flipped: frozenset[str] = frozenset()) -> None:
        super().__init__(inner)
        self._fault = fault
        self._flipped = flipped

    def put(self, key: str, source: Readable, size: int, digest: bytes | None) -> ObjectStat:
        self._check("put", key)
        return self._inner.put(key, Tapped(source, lambda _: self._check("write", key)), size, digest)

    def get(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        self._check("get", key)
        at = offset
        for chunk in self._inner.get(key, offset, length):
            self._check("read", key)
            rotten = key in self._flipped and at == 0 and chunk
            yield bytes([chunk[0] ^ 0xFF]) + chunk[1:] if rotten else chunk
            at += len(chunk)

    def delete(self, key: str) -> None:
        self._check("delete", key)
        self._inner.delete(key)

    def list(self) -> Iterator[ObjectStat]:
        self._check("list", "")
        yield from self._inner.list()

    def stat(self, key: str) -> ObjectStat:
        self._check("stat", key)
        return self._inner.stat(key)

    def capacity(self) -> Capacity:
        self._check("capacity", "")
        return self._inner.capacity()

    def flush(self) -> None:
        self._check("flush", "")
        self._inner.flush()

    def _check(self, operation: str, key: str) -> None:
        error = self._fault(operation, key)
        if error is not None:
            raise error


def fail_nth(operation: str, nth: int, error: DriverError, times: int = 1) -> Fault:
    """The ``nth`` ``operation`` from now on fails, and so do the next ones, ``times`` in all."""
    lock = threading.Lock()
    seen = 0

    def fault(happening: str, _key: str) -> DriverError | None:
        nonlocal seen
        if happening != operation:
            return None
        with lock:
            seen += 1
            return error if nth <= seen < nth + times else None

    return fault


def fail_at_random(rng: random.Random, probability: float, error: Callable[[str], DriverError]) -> Fault:
    """Every operation fails with ``probability``; ``error`` makes the error from a message."""
    lock = threading.Lock()

    def fault(operation: str, key: str) -> DriverError | None:
        with lock:
            strikes = rng.random() < probability
        return error(f"{operation} {key}: seeded fault") if strikes else None

    return fault
