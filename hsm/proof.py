"""Whether copies are what was stored: read back from the medium, and judged (promise 2)."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from drivers.base import Store
from hsm import states
from hsm.catalog import placement
from hsm.catalog.engine import Catalog
from hsm.catalog.orders import Order
from hsm.catalog.placement import PackageRef
from hsm.cold import ask_for
from hsm.content import ChunkReader, open_package, package_chunks
from hsm.errors import Corrupt, NotFound, Permanent, Retryable
from hsm.model import CopyAt
from hsm.package import verify_stream
from hsm.pools import DiskPool, Pools
from hsm.service import OutOfService
from hsm.states import CopyState
from hsm.throttle import Throttles

ACTOR = "migrate"
READ_ATTEMPTS_MAX = 3
"""How often reading a copy on a disk of this machine back is tried before it is suspect."""


class Proofs:
    """Reads copies back and says what they are."""

    def __init__(self, catalog: Catalog, pools: Pools, throttles: Throttles) -> None:
        self._catalog = catalog
        self._pools = pools
        self._throttles = throttles

    def prove(
        self,
        copy_pk: int,
        package: PackageRef,
        store: Store,
        locator: str,
        stop: threading.Event,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """Read a copy back from the medium; it becomes verified, or suspect.

        :param detail: the request's: its limits.
        :raises Corrupt: the bytes are not the package's.
        """
        with self.judging(copy_pk, package):
            store.drop_caches()
            source = self._throttles.slowed(ChunkReader(store.get(locator)), detail or {}, stop)
            verify_stream(package_chunks(source), package.size, package.digest)

    @contextlib.contextmanager
    def judging(self, copy_pk: int, package: PackageRef) -> Iterator[None]:
        """Judge a copy by whether the block, which reads it back, finds it equal."""
        try:
            yield
        except (Corrupt, NotFound) as error:
            self.judge(copy_pk, CopyState.SUSPECT, str(error))
            raise Corrupt(f"{package.key}: {error}") from error
        self.judge(copy_pk, CopyState.VERIFIED, "read back")

    def read_back(
        self,
        package: PackageRef,
        pool: DiskPool,
        locator: str,
        stop: threading.Event,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """:raises Corrupt, NotFound: what a disk pool has is not the package."""
        with open_package(pool, package, locator, from_medium=True) as source:
            chunks = package_chunks(self._throttles.slowed(source, detail or {}, stop))
            verify_stream(chunks, package.size, package.digest)

    def judge(self, copy_pk: int, verdict: CopyState, why: str) -> None:
        """Note what reading a copy has shown, unless it is on its way out or that is known already."""
        with self._catalog.write() as session:
            state = placement.state_of(session, copy_pk)
            if state is CopyState.SUSPECT is verdict or verdict not in states.COPY.table[state]:
                return
            placement.move_copy(session, copy_pk, verdict, self._catalog.clock.now(), ACTOR, why=why)

    def verify_on_disk(self, order: Order, stop: threading.Event) -> None:
        """Read one disk copy again and compare every digest. What is cold is asked for first.

        :raises NotYet: it is on its way out of a cold class.
        :raises Corrupt: it is not what was written.
        """
        with self._catalog.read() as session:
            package = placement.package_of(session, order)
        copy = self._copy_on(package, order.volume_pk or 0)
        pool = self._pools.disk_by_volume(order.volume_pk or 0)
        if copy is None or pool is None:
            return  # released meanwhile
        ask_for(pool, copy.locator)
        try:
            with self.judging(copy.copy_pk, package):
                self.read_back(package, pool, copy.locator, stop, order.detail)
        except (Corrupt, NotFound, OutOfService):
            raise
        except (Retryable, Permanent) as error:
            # Of a disk of this machine the medium cannot be read there; over a network it says nothing of it.
            if not pool.local or not pool.there or order.attempts < READ_ATTEMPTS_MAX:
                raise
            why = f"cannot be read: {error}"
            self.judge(copy.copy_pk, CopyState.SUSPECT, why)
            raise Corrupt(f"{package.key} in {pool.label} {why}") from error

    def _copy_on(self, package: PackageRef, volume_pk: int) -> CopyAt | None:
        with self._catalog.read() as session:
            copies = placement.copies(session, [package.pk])[package.pk]
        return next((copy for copy in copies if copy.volume_pk == volume_pk), None)
