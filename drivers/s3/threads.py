"""What bounds a store's threads and its memory, whatever number of puts and gets are under way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


class Crew:
    """At most ``threads`` requests at once, and room for ``memory_bytes`` of parts.

    Every put and get may hold one part without asking, so that none waits for another one that stands
    still; further parts are taken out of the room, and given back.
    """

    def __init__(self, threads: int, memory_bytes: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="s3")
        self._free = memory_bytes
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Take room for ``size`` bytes if there is so much; whether it did."""
        with self._lock:
            if size > self._free:
                return False
            self._free -= size
            return True

    def give(self, size: int) -> None:
        with self._lock:
            self._free += size

    @property
    def free(self) -> int:
        with self._lock:
            return self._free

    def close(self) -> None:
        """Begin nothing more; what is under way ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def start(self, work: Callable[[], T]) -> Future[T]:
        return self._pool.submit(work)


@dataclass(slots=True)
class _Turn:
    lock: threading.Lock = field(default_factory=threading.Lock)
    wanted: int = 0


class Turns:
    """One put of a key at a time, for servers that know no ``If-None-Match``."""

    def __init__(self) -> None:
        self._turns: dict[str, _Turn] = {}
        self._lock = threading.Lock()

    @contextmanager
    def of(self, key: str) -> Iterator[None]:
        with self._lock:
            turn = self._turns.setdefault(key, _Turn())
            turn.wanted += 1
        try:
            with turn.lock:
                yield
        finally:
            with self._lock:
                turn.wanted -= 1
                if not turn.wanted:
                    del self._turns[key]
