"""How much of the quota is used: counted once, then kept up to date."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from drivers.base import Capacity
from drivers.errors import NoSpace


class Room:
    """Bytes of a quota. What others put into the same prefix is not noticed before the store opens again.

    :param reserve: of the total, that is never filled.
    :param count: lists what is used now; called at most once, and never where there is no quota.
    """

    def __init__(self, total: int, count: Callable[[], int], limited: bool, reserve: int = 0) -> None:
        self._total, self._usable = total, total - reserve
        self._count = count
        self._limited = limited
        self._used: int | None = None
        self._lock = threading.Lock()
        self._counting = threading.Lock()

    def capacity(self) -> Capacity:
        return Capacity(self._total, max(0, self._usable - self._now()))

    @contextmanager
    def reserved(self, size: int, what: str) -> Iterator[None]:
        """Use ``size`` bytes, unless the block fails.

        :raises NoSpace: there are not so many.
        """
        self._now()
        with self._lock:
            free = self._usable - (self._used or 0)
            if size > free:
                raise NoSpace(f"{what}: {size} bytes, {max(0, free)} are left of the quota")
            self._used = (self._used or 0) + size
        try:
            yield
        except BaseException:
            self.freed(size)
            raise

    def freed(self, size: int) -> None:
        with self._lock:
            if self._used is not None:
                self._used = max(0, self._used - size)

    def _now(self) -> int:
        with self._counting:
            if self._used is None:
                used = self._count() if self._limited else 0
                with self._lock:
                    self._used = used
            return self._used
