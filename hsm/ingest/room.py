"""Whether the pool is there and has room, asked as rarely as is safe."""

from __future__ import annotations

import threading

from hsm.clock import Clock
from hsm.errors import NoSpace
from hsm.pools import DiskPool
from hsm.service import OutOfService

RECHECK_SECONDS = 1.0
MARGIN_BYTES = 256 << 20
"""With less than this to give, the file system is asked each time: others write to it too."""


class Room:
    """An account of what the pool may still take, its reserve left out. Thread-safe.

    The sentinel and the health of the pool are looked at once in :data:`RECHECK_SECONDS`.
    """

    def __init__(self, pool: DiskPool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock
        self._lock = threading.Lock()
        self._checked = float("-inf")
        self._free = 0

    def take(self, size: int) -> None:
        """Write ``size`` bytes off the account; ask with 0 whether there is a pool at all.

        :raises NoSpace: they would go into the reserve; nothing was written off.
        :raises OutOfService: the pool is not there or takes no file.
        """
        with self._lock:
            now = self._clock.monotonic()
            if now - self._checked >= RECHECK_SECONDS:
                self._check()
                self._checked = now
            elif self._free - size < MARGIN_BYTES:
                self._free = self._pool.store.capacity().free
            if size > self._free or self._free == 0:
                raise NoSpace(f"pool {self._pool.name} has {self._free} bytes to give and needs {size}")
            self._free -= size

    def _check(self) -> None:
        health = self._pool.store.health()
        if not health.ok:
            self._checked = float("-inf")
            raise OutOfService(f"pool {self._pool.name}: {health.message}")
        self._free = self._pool.store.capacity().free
