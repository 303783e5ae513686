"""A wrapper that tells what passes through a Store: how long, how many bytes, how it ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from drivers.base import Capacity, ObjectStat, Readable, Store
from drivers.wrappers import PassingStore, Tapped

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a Store that has ended."""

    operation: str
    """``put``, ``get``, ``delete``, ``list``, ``stat``, ``capacity`` or ``flush``."""
    seconds: float
    """What the Store took; for a get and a list without the time that its reader took."""
    bytes: int = 0
    """Passed, also by a call that failed."""
    error: str = ""
    """The name of the error's class; empty when it went well, or a reader broke off."""


class MeteredStore(PassingStore):
    """Calls ``observe`` at the end of every call; an observer must not raise.

    :param clock: seconds that never go backwards.
    """

    def __init__(self, inner: Store, observe: Callable[[Call], None], clock: Callable[[], float]) -> None:
        super().__init__(inner)
        self._observe, self._clock = observe, clock

    def put(self, key: str, source: Readable, size: int, digest: bytes | None) -> ObjectStat:
        passed = [0]

        def count(size: int) -> None:
            passed[0] += size

        tapped = Tapped(source, count)
        return self._timed("put", lambda: self._inner.put(key, tapped, size, digest), passed)

    def get(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        return self._each("get", self._inner.get(key, offset, length), len)

    def list(self) -> Iterator[ObjectStat]:
        return self._each("list", self._inner.list(), lambda _: 0)

    def delete(self, key: str) -> None:
        self._timed("delete", lambda: self._inner.delete(key))

    def stat(self, key: str) -> ObjectStat:
        return self._timed("stat", lambda: self._inner.stat(key))

    def capacity(self) -> Capacity:
        return self._timed("capacity", self._inner.capacity)

    def flush(self) -> None:
        self._timed("flush", self._inner.flush)

    def _timed(self, operation: str, call: Callable[[], T], passed: Sequence[int] = (0,)) -> T:
        begun, error = self._clock(), ""
        try:
            return call()
        except BaseException as raised:
            error = type(raised).__name__
            raise
        finally:
            self._observe(Call(operation, self._clock() - begun, passed[0], error))

    def _each(self, operation: str, items: Iterator[T], size: Callable[[T], int]) -> Iterator[T]:
        seconds, passed, error = 0.0, 0, ""
        try:
            while True:
                begun = self._clock()
                try:
                    item = next(items)
                except StopIteration:
                    return
                finally:
                    seconds += self._clock() - begun
                passed += size(item)
                yield item
        except GeneratorExit:
            raise
        except BaseException as raised:
            error = type(raised).__name__
            raise
        finally:
            self._observe(Call(operation, seconds, passed, error))
