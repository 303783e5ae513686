"""Makes copies: on disk pools, and the writing half of a drive session.

A copy is `written` when its bytes are flushed and `verified` when they were read back from the medium
and the digest matched (promise 2).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from drivers.base import ObjectStat, Store
from drivers.wrappers import recallable
from hsm import layout
from hsm.catalog import details, media, placement, rebuilding, restored, storage
from hsm.catalog.engine import Catalog
from hsm.catalog.orders import Order
from hsm.catalog.placement import PackageRef
from hsm.cold import ask_for
from hsm.content import unpack_package
from hsm.copysource import CopySources, SourceComing
from hsm.errors import NotFound, Permanent
from hsm.guard import GOOD_VOLUMES
from hsm.model import Layout
from hsm.pools import DiskPool, Pools
from hsm.proof import Proofs
from hsm.reader import Reader
from hsm.recall import Recall
from hsm.release import GoalsNow, Releases
from hsm.remake import Remaking
from hsm.service import OutOfService
from hsm.staging import Staging
from hsm.states import CopyState
from hsm.target import Choice, NoVolume, choose
from hsm.throttle import Throttles

ACTOR = "migrate"


class Migrate:
    """Copies packages; what it reads from, proves with and releases by are its members."""

    def __init__(
        self,
        catalog: Catalog,
        pools: Pools,
        staging: Staging,
        reader: Reader,
        recall: Recall,
        goals_now: GoalsNow,
    ) -> None:
        self._catalog = catalog
        self._pools = pools
        self._throttles = Throttles(catalog.clock)
        self.sources = CopySources(catalog, pools, staging, reader, recall)
        self.proofs = Proofs(catalog, pools, self._throttles)
        self.releases = Releases(catalog, pools, goals_now)
        self._remaking = Remaking(catalog, pools, self.sources, self.proofs, self.releases, self._throttles)
        self._busy: set[tuple[int, str]] = set()
        self._busy_lock = threading.Lock()

    def copy_to_disk(self, order: Order, stop: threading.Event) -> None:
        """Make one verified copy on a disk pool.

        :raises Retryable: no source can be read now (a recall is under way), or the pool is full.
        :raises Corrupt: what was read back is not what was written; the copy is suspect.
        """
        with self._catalog.read() as session:
            package = placement.package_of(session, order)
        with self._at_work(package, order.pool or ""):
            pool = self._target(order, package)
            if pool is not None:
                self._copy_to(pool, package, order, stop)

    @contextlib.contextmanager
    def _at_work(self, package: PackageRef, pool: str) -> Iterator[None]:
        """One copy at a time of a package and pool: where the second may go depends on where the first
        went.

        :raises OutOfService: another thread makes one just now.
        """
        key = (package.pk, pool)
        with self._busy_lock:
            if key in self._busy:
                raise OutOfService(f"another copy of {package.key} is being made in {pool}")
            self._busy.add(key)
        try:
            yield
        finally:
            with self._busy_lock:
                self._busy.discard(key)

    def _target(self, order: Order, package: PackageRef) -> DiskPool | None:
        """The volume that the copy goes to; None where the pool has what the request wants.

        :raises NoVolume: none takes it just now.
        """
        volumes = self._pools.volumes_of(order.pool or "")
        with self._catalog.read() as session:
            facts = placement.copy_facts(session, package.pk)
            closed = storage.closed(session)
        if (mends := order.detail.get(details.MENDS)) is not None:
            return self._remaking.target(
                order, int(mends), next((f for f in facts if f.volume_pk == mends), None)
            )
        states_there = {fact.volume_pk: fact.state for fact in facts if fact.volume_state in GOOD_VOLUMES}
        try:
            target = choose(
                [
                    Choice(each, states_there.get(each.volume_pk), each.volume_pk in closed)
                    for each in volumes
                ],
                package.size,
                int(order.detail.get(details.COPIES, 1)),
            )
        except NoVolume as error:
            raise NoVolume(f"pool {order.pool}: {error}") from error
        return target

    def _copy_to(self, pool: DiskPool, package: PackageRef, order: Order, stop: threading.Event) -> None:
        if pool.layout is Layout.FILES:
            locator = layout.manifest_path(package.study_uid, package.key)
        else:
            locator = layout.package_locator(package.key)
        copy_pk, state = self.begin(package, pool.volume_pk, locator)
        if state is CopyState.VERIFIED:
            self._freeze(pool, locator)
            return
        if state in (CopyState.SUSPECT, CopyState.RELEASING):
            if state is CopyState.SUSPECT and self._remaking.is_whole(
                copy_pk, package, pool, locator, order, stop
            ):
                return
            self._remaking.prove_source(package, order, stop)
            self._remaking.drop(copy_pk, package, pool, locator)
            self._begin(package, pool.volume_pk, locator)
        if pool.layout is Layout.FILES:
            with self.sources.open(package) as source:
                unpack_package(pool, package, self._throttles.slowed(source, order.detail, stop))
        else:
            self.write(copy_pk, package, pool.store, locator, stop, order.detail)
        pool.store.flush()
        self.mark_written(copy_pk, None)
        ask_for(pool, locator)
        with self.proofs.judging(copy_pk, package):
            self.proofs.read_back(package, pool, locator, stop)
        self._freeze(pool, locator)

    def _freeze(self, pool: DiskPool, locator: str) -> None:
        """What is verified goes into the cold class of its pool, if that has one."""
        cold = recallable(pool.store) if pool.cold else None
        if cold is not None:
            cold.make_cold(locator)

    def write(
        self,
        copy_pk: int,
        package: PackageRef,
        store: Store,
        locator: str,
        stop: threading.Event,
        detail: Mapping[str, Any],
    ) -> ObjectStat:
        """Put a package's bytes on a Store; what an earlier attempt put there whole is taken as it is.

        Not flushed: the caller does that once for all it wrote.

        :param detail: the request's: its limits.
        :raises SourceUnavailable: no copy to read from, or it gave other bytes.
        """
        with contextlib.suppress(NotFound):
            there = store.stat(locator)
            if there.size == package.size:
                return there
            store.delete(locator)
        with self.sources.open(package) as source:
            return store.put(
                locator, self._throttles.slowed(source, detail, stop), package.size, package.digest
            )

    def mark_written(self, copy_pk: int, position: int | None) -> None:
        """Note that a copy's bytes are flushed."""
        with self._catalog.write() as session:
            if placement.state_of(session, copy_pk) is CopyState.WRITING:
                now = self._catalog.clock.now()
                placement.move_copy(session, copy_pk, CopyState.WRITTEN, now, ACTOR, position=position)

    def begin(self, package: PackageRef, volume_pk: int, locator: str) -> tuple[int, CopyState]:
        """The copy row on a volume and the state that a crashed attempt left it in.

        :raises SourceComing: the catalog was restored, and does not know what lies on the volume.
        :raises Permanent: what lies there is quarantined.
        """
        with self._catalog.read() as session:
            if restored.is_owed(session):
                raise SourceComing(restored.OWED)
            volume = media.volume_by_key(session, volume_pk).name
            # Of a package that lies as files, each file may be; they lie below the manifest's folder.
            manifest = locator.startswith(f"{layout.STUDIES}/")
            if rebuilding.is_quarantined(session, volume, locator) or (
                manifest
                and rebuilding.anything_is_quarantined(session, volume, layout.study_dir(package.study_uid))
            ):
                raise Permanent(
                    f"{locator} on {volume}, or a file of it, is quarantined: it is another one than the "
                    "catalog's, and nobody writes over it; take it away by hand, or copy to another pool"
                )
        copy_pk = self._begin(package, volume_pk, locator)
        with self._catalog.read() as session:
            return copy_pk, placement.state_of(session, copy_pk)

    def _begin(self, package: PackageRef, volume_pk: int, locator: str) -> int:
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            return placement.begin_copy(session, package.pk, volume_pk, locator, now, ACTOR)
