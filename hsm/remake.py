"""Makes room for a good copy where a suspect one lies: on a disk pool, in its place (docs/decisions/0013)."""

from __future__ import annotations

import threading

from hsm.catalog import placement
from hsm.catalog.engine import Catalog
from hsm.catalog.orders import Order
from hsm.catalog.placement import PackageRef
from hsm.content import package_chunks
from hsm.copysource import CopySources
from hsm.errors import Corrupt, DriverError, NotFound, Permanent
from hsm.guard import CopyFact
from hsm.log import get_logger
from hsm.package import verify_stream
from hsm.pools import DiskPool, Pools
from hsm.proof import Proofs
from hsm.release import Releases
from hsm.states import CopyState
from hsm.target import NoVolume
from hsm.throttle import Throttles

log = get_logger(__name__)

ACTOR = "migrate"


class Remaking:
    """Gives up a suspect copy for a good one, when it really is damaged and a good one really is there."""

    def __init__(
        self,
        catalog: Catalog,
        pools: Pools,
        sources: CopySources,
        proofs: Proofs,
        releases: Releases,
        throttles: Throttles,
    ) -> None:
        self._catalog = catalog
        self._pools = pools
        self._sources = sources
        self._proofs = proofs
        self._releases = releases
        self._throttles = throttles

    def target(self, order: Order, volume_pk: int, fact: CopyFact | None) -> DiskPool | None:
        """The volume whose copy is made anew in its place; None where it is well, or not wanted any more.

        :raises NoVolume: it takes no writes just now.
        """
        volume = self._pools.disk_by_volume(volume_pk)
        done = (CopyState.VERIFIED, CopyState.LOST)
        if volume is None or fact is None or fact.state in done:
            return None
        if not volume.writable:
            raise NoVolume(f"pool {order.pool}: {volume.label} takes no writes just now")
        return volume

    def is_whole(
        self,
        copy_pk: int,
        package: PackageRef,
        pool: DiskPool,
        locator: str,
        order: Order,
        stop: threading.Event,
    ) -> bool:
        """Whether a suspect copy is what was stored after all, read once more from the medium: damage on the
        way (a network, a memory) is none of the medium's, and nothing is rewritten for it."""
        if pool.cold:
            return False
        try:
            self._proofs.read_back(package, pool, locator, stop, order.detail)
        except (Corrupt, NotFound) as error:
            log.info("%s in %s: %s", package.key, pool.label, error)
            return False
        except DriverError as error:
            if not pool.local:
                raise
            log.info("%s in %s cannot be read: %s", package.key, pool.label, error)
            return False
        self._proofs.judge(copy_pk, CopyState.VERIFIED, "read back whole: what was wrong was not the medium")
        return True

    def prove_source(self, package: PackageRef, order: Order, stop: threading.Event) -> None:
        """Read a good copy from its first byte to its last before a suspect one is given up for it.

        :raises SourceUnavailable: there is none to read just now, or what was read is damaged too.
        """
        with self._sources.open(package) as source:
            chunks = package_chunks(self._throttles.slowed(source, order.detail, stop))
            verify_stream(chunks, package.size, package.digest)

    def drop(self, copy_pk: int, package: PackageRef, pool: DiskPool, locator: str) -> None:
        """Make room for a good copy where a suspect one lies. The guard must agree that a verified one
        remains elsewhere, which was read to its end just now; no goal is asked, since none loses anything
        by it (docs/decisions/0013)."""
        with self._catalog.write() as session:
            verdict = placement.release(session, copy_pk, (), self._catalog.clock.now(), ACTOR)
        if not verdict.allowed:
            raise Permanent(f"{package.key} in {pool.name} is suspect and stays: {verdict.reason}")
        self._releases.delete(copy_pk, package, pool, locator, "suspect bytes deleted")
