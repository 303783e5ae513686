"""Keeps looking at the volumes that need no drive: what is away comes back by itself.

One thread decides, and each probe has a thread of its own: a storage that hangs keeps no other one waiting,
and has at most one thread that hangs with it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from hsm.catalog.engine import Catalog
from hsm.clock import unhurried
from hsm.log import get_logger
from hsm.pools import Pools
from hsm.wake import Bell

log = get_logger(__name__)

LOOK_SECONDS = 1.0


class PoolWatch:
    """Probes what is due, says what hangs, and writes down what changed."""

    def __init__(self, catalog: Catalog, pools: Pools, bell: Bell) -> None:
        self._catalog = catalog
        self._pools = pools
        self._bell = bell
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="pool-watch", daemon=True)
        for pool in pools.disks.values():
            if pool.service is not None:
                pool.service.on_trouble = self._wake.set

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Return when the deciding thread has ended; a probe that hangs is left to itself."""
        self._stop.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()
        for pool in self._pools.disks.values():
            if pool.service is not None:
                pool.service.close()

    def round(self) -> list[threading.Thread]:
        """Begin the probes that are due, and tell what is news; the probes."""
        begun = []
        for pool in self._pools.disks.values():
            if pool.service is None:
                continue
            pool.service.overdue()
            if pool.service.due():
                thread = threading.Thread(target=self._probe, args=(pool.service.probe,), daemon=True)
                thread.name = f"probe {pool.label}"
                thread.start()
                begun.append(thread)
        self._tell()
        return begun

    def _probe(self, probe: Callable[[], object]) -> None:
        probe()
        self._wake.set()

    def _tell(self) -> None:
        try:
            if self._pools.tell(self._catalog):
                self._bell.ring()
        except SQLAlchemyError as error:
            log.warning("what changed with a pool waits to be noted: %s", getattr(error, "orig", error))

    def _loop(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            try:
                self.round()
            except Exception:  # a fault of ours: the thread must live, the log has the trace
                log.exception("pool watch: unexpected")
            unhurried(self._catalog.clock).wait(self._wake, LOOK_SECONDS)
