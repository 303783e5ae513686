"""Reads the next instance while the last one is being sent.

Reading and digesting leave Python's lock to others, so both go on at once. One instance is read
ahead, no more: what is read is held in memory or keeps a file open.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import Final, Protocol

from hsm.retrieval import Readable, Unobtainable

PAYS_SECONDS: Final = 0.00025
"""What takes less to read than handing it from thread to thread does is not read ahead."""

Item = Readable | Unobtainable | None


class Source(Protocol):
    """Instances as they become readable; :class:`hsm.retrieval.Retrieval` is one."""

    @property
    def remaining(self) -> int: ...
    def next(self, timeout_seconds: float) -> Readable | Unobtainable | None: ...


class Ahead:
    """A source whose next instance is read by a thread of its own. The source is never used by two at once.

    Close it before the source.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._orders: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._found: queue.SimpleQueue[Item | BaseException] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._reading = False
        self._left = source.remaining
        self._took = 0.0

    @property
    def remaining(self) -> int:
        """Instances not handed out yet."""
        return self._left if self._reading else self._source.remaining

    @property
    def reading(self) -> bool:
        """Whether an instance is being read now, so that there is nothing to wait for but the disk."""
        return self._reading

    def next(self, timeout_seconds: float) -> Item:
        """Like the source's; what it raised while it read ahead is raised here."""
        item: Item = None
        if self._reading:
            try:
                found = self._found.get(timeout=timeout_seconds)
            except queue.Empty:
                return None
            self._reading = False
            if isinstance(found, BaseException):
                raise found
            item = found
        if item is None:  # nothing was readable when it looked ahead
            begun = time.perf_counter()
            item = self._source.next(timeout_seconds)
            self._took = time.perf_counter() - begun
        if item is not None and self._took > PAYS_SECONDS and self._source.remaining:
            self._begin()
        return item

    def close(self) -> None:
        """Stop reading; what was read and not handed out is closed."""
        if self._thread is None:
            return
        self._orders.put(False)
        self._thread.join()
        self._thread = None
        while not self._found.empty():
            item = self._found.get()
            if isinstance(item, Readable):
                item.content.close()

    def _begin(self) -> None:
        self._left, self._reading = self._source.remaining, True
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="read-ahead", daemon=True)
            self._thread.start()
        self._orders.put(True)

    def _work(self) -> None:
        while self._orders.get():
            begun = time.perf_counter()
            try:
                item = self._source.next(0.0)
                self._took = time.perf_counter() - begun
                self._found.put(item)
            except BaseException as error:  # noqa: BLE001  raised again by who asks next
                self._found.put(error)
