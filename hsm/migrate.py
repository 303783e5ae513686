"""Executes copy, verify and release requests on disk pools, and the writing half of a drive session.

A copy is `written` when its bytes are flushed and `verified` when they were read back from the medium
and the digest matched (promise 2); nothing is released without the guard (promise 3).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from drivers.base import CHUNK_BYTES, ObjectStat, Readable, Store
from drivers.ring import Filling
from drivers.wrappers import recallable
from hsm import layout, states
from hsm.catalog import media, placement, queue, rebuilding, restored, storage
from hsm.catalog.engine import Catalog
from hsm.catalog.instances import instances_in
from hsm.catalog.placement import PackageRef
from hsm.catalog.queue import Order
from hsm.cold import ask_for
from hsm.content import ChunkReader, delete_package, open_package, package_chunks, unpack_package
from hsm.errors import Corrupt, DriverError, NotFound, OperatorNeeded, Permanent, Refused, Retryable
from hsm.guard import GOOD_VOLUMES, CopyFact
from hsm.log import get_logger
from hsm.model import CopyAt, Goal, Layout, Priority
from hsm.package import verify_stream
from hsm.pools import DiskPool, Pools
from hsm.reader import Reader
from hsm.recall import Recall, Stopped
from hsm.service import OutOfService
from hsm.staging import Staging
from hsm.states import CopyState
from hsm.target import Choice, NoVolume, choose
from hsm.throttle import Throttles

log = get_logger(__name__)

ACTOR = "migrate"
READ_ATTEMPTS_MAX = 3
"""How often reading a copy on a disk of this machine back is tried before it is suspect."""

GoalsNow = Callable[[str], Sequence[Goal]]
"""The copy goals in force for a study (by its UID)."""


class SourceUnavailable(Retryable):
    """There is nothing to copy from just now; the volume that is written to has no part in it."""


class SourceComing(SourceUnavailable):
    """The same, and a recall is under way or a volume is to come back: waiting is no failed attempt."""


def merged(then: Sequence[Goal], now: Sequence[Goal]) -> list[Goal]:
    """Goals that were and goals that are, whichever demands more; of groups that have changed both."""
    most: dict[tuple[str, tuple[str, ...], tuple[str, ...]], Goal] = {}
    for goal in (*then, *now):
        key = (goal.pool, goal.pools, goal.sites)
        if key not in most or most[key].copies < goal.copies:
            most[key] = goal
    return list(most.values())


class _Remote:
    """A source across a network: that it fails to read is nobody's failed attempt."""

    def __init__(self, source: Readable, name: str) -> None:
        self._source = source
        self._name = name

    def read(self, size: int, /) -> bytes:
        try:
            return self._source.read(size)
        except (Retryable, OperatorNeeded) as error:
            raise SourceComing(f"source {self._name}: {error}") from error


class StopReader:
    """A Readable that ends with :class:`Stopped` when the daemon stops."""

    def __init__(self, source: Readable, stop: threading.Event) -> None:
        self._source = source
        self._stop = stop
        self._fill = source.fill if isinstance(source, Filling) else None

    def read(self, size: int, /) -> bytes:
        if self._stop.is_set():
            raise Stopped
        return self._source.read(size)

    def fill(self, buffer: memoryview, /) -> int:
        """See :class:`drivers.ring.Filling`."""
        if self._fill is not None and not self._stop.is_set():
            return self._fill(buffer)
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class Migrate:
    """Copies, verifies and releases packages."""

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
        self._staging = staging
        self._reader = reader
        self._recall = recall
        self._goals_now = goals_now
        self._throttles = Throttles(catalog.clock)
        self._busy: set[tuple[int, str]] = set()
        self._busy_lock = threading.Lock()

    def copy_to_disk(self, order: Order, stop: threading.Event) -> None:
        """Make one verified copy on a disk pool.

        :raises Retryable: no source can be read now (a recall is under way), or the pool is full.
        :raises Corrupt: what was read back is not what was written; the copy is suspect.
        """
        package = self._package(order)
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
        if (mends := order.detail.get(queue.MENDS)) is not None:
            return self._mended(order, int(mends), next((f for f in facts if f.volume_pk == mends), None))
        states_there = {fact.volume_pk: fact.state for fact in facts if fact.volume_state in GOOD_VOLUMES}
        try:
            target = choose(
                [
                    Choice(each, states_there.get(each.volume_pk), each.volume_pk in closed)
                    for each in volumes
                ],
                package.size,
                int(order.detail.get(queue.COPIES, 1)),
            )
        except NoVolume as error:
            raise NoVolume(f"pool {order.pool}: {error}") from error
        return target

    def _mended(self, order: Order, volume_pk: int, fact: CopyFact | None) -> DiskPool | None:
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
            if state is CopyState.SUSPECT and self._is_whole(copy_pk, package, pool, locator, order, stop):
                return
            self._prove_source(package, order, stop)
            self._drop_suspect(copy_pk, package, pool, locator)
            self._begin(package, pool.volume_pk, locator)
        if pool.layout is Layout.FILES:
            with self._source(package) as source:
                unpack_package(pool, package, self._slowed(source, order.detail, stop))
        else:
            self.write(copy_pk, package, pool.store, locator, stop, order.detail)
        pool.store.flush()
        self.mark_written(copy_pk, None)
        ask_for(pool, locator)
        with self._proof(copy_pk, package):
            self._read_back(package, pool, locator, stop)
        self._freeze(pool, locator)

    def _is_whole(
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
            self._read_back(package, pool, locator, stop, order.detail)
        except (Corrupt, NotFound) as error:
            log.info("%s in %s: %s", package.key, pool.label, error)
            return False
        except DriverError as error:
            if not pool.local:
                raise
            log.info("%s in %s cannot be read: %s", package.key, pool.label, error)
            return False
        self.judge(copy_pk, CopyState.VERIFIED, "read back whole: what was wrong was not the medium")
        return True

    def _prove_source(self, package: PackageRef, order: Order, stop: threading.Event) -> None:
        """Read a good copy from its first byte to its last before a suspect one is given up for it.

        :raises SourceUnavailable: there is none to read just now, or what was read is damaged too.
        """
        with self._source(package) as source:
            chunks = package_chunks(self._slowed(source, order.detail, stop))
            verify_stream(chunks, package.size, package.digest)

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
        with self._source(package) as source:
            return store.put(locator, self._slowed(source, detail, stop), package.size, package.digest)

    def _slowed(self, source: Readable, detail: Mapping[str, Any], stop: threading.Event) -> Readable:
        """The source at the rate that the request may read at, until the daemon stops."""
        return self._throttles.slowed(StopReader(source, stop), detail, stop)

    def mark_written(self, copy_pk: int, position: int | None) -> None:
        """Note that a copy's bytes are flushed."""
        with self._catalog.write() as session:
            if placement.state_of(session, copy_pk) is CopyState.WRITING:
                now = self._catalog.clock.now()
                placement.move_copy(session, copy_pk, CopyState.WRITTEN, now, ACTOR, position=position)

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
        with self._proof(copy_pk, package):
            store.drop_caches()
            source = self._slowed(ChunkReader(store.get(locator)), detail or {}, stop)
            verify_stream(package_chunks(source), package.size, package.digest)

    @contextlib.contextmanager
    def _proof(self, copy_pk: int, package: PackageRef) -> Iterator[None]:
        """Judge a copy by whether the block, which reads it back, finds it equal."""
        try:
            yield
        except (Corrupt, NotFound) as error:
            self.judge(copy_pk, CopyState.SUSPECT, str(error))
            raise Corrupt(f"{package.key}: {error}") from error
        self.judge(copy_pk, CopyState.VERIFIED, "read back")

    def _read_back(
        self,
        package: PackageRef,
        pool: DiskPool,
        locator: str,
        stop: threading.Event,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """:raises Corrupt, NotFound: what a disk pool has is not the package."""
        with open_package(pool, package, locator, from_medium=True) as source:
            chunks = package_chunks(self._slowed(source, detail or {}, stop))
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
        package = self._package(order)
        copy = self._copy_on(package, order.volume_pk or 0)
        pool = self._pools.disk_by_volume(order.volume_pk or 0)
        if copy is None or pool is None:
            return  # released meanwhile
        ask_for(pool, copy.locator)
        try:
            with self._proof(copy.copy_pk, package):
                self._read_back(package, pool, copy.locator, stop, order.detail)
        except (Corrupt, NotFound, OutOfService):
            raise
        except (Retryable, Permanent) as error:
            # Of a disk of this machine the medium cannot be read there; over a network it says nothing of it.
            if not pool.local or not pool.there or order.attempts < READ_ATTEMPTS_MAX:
                raise
            why = f"cannot be read: {error}"
            self.judge(copy.copy_pk, CopyState.SUSPECT, why)
            raise Corrupt(f"{package.key} in {pool.label} {why}") from error

    def release(self, order: Order) -> None:
        """Release a package's copy from a disk pool, if the guard agrees in the same transaction.

        :raises Refused: the guard's reason; nothing was deleted.
        """
        package = self._package(order)
        goals = self._goals(order, package)
        for pool in self._pools.volumes_of(order.pool or ""):
            if order.volume_pk in (None, pool.volume_pk):
                self._release_from(pool, package, goals)

    def _release_from(self, pool: DiskPool, package: PackageRef, goals: Sequence[Goal]) -> None:
        with self._catalog.read() as session:
            facts = placement.copy_facts(session, package.pk)
        mine = next((fact for fact in facts if fact.volume_pk == pool.volume_pk), None)
        if mine is None or mine.state in (CopyState.RELEASED, CopyState.LOST):
            return
        if not pool.there:
            raise OutOfService(f"{pool.label} is out of service; what is released there waits")
        self._require_others(mine, facts)
        with self._catalog.write() as session:
            verdict = placement.release(session, mine.copy_pk, goals, self._catalog.clock.now(), ACTOR)
            locator = placement.locator_of(session, mine.copy_pk)
        if not verdict.allowed:
            raise Refused(f"{package.key} stays in {pool.label}: {verdict.reason}")
        self._delete(pool, package, locator)
        self._move(mine.copy_pk, CopyState.RELEASED, "bytes deleted")
        log.info("released %s from %s: %s", package.key, pool.label, verdict.reason)

    def _require_others(self, mine: CopyFact, facts: Sequence[CopyFact]) -> None:
        """The guard counts copies on volumes that are away, and they are as good as ever; but nothing that
        can be read now is given up for what only may come back.

        :raises OutOfService: every other verified copy is on a volume that is out of service.
        """
        others = [
            fact
            for fact in facts
            if fact.copy_pk != mine.copy_pk
            and fact.state is CopyState.VERIFIED
            and fact.volume_state in GOOD_VOLUMES
        ]
        disks = {fact.volume_pk: self._pools.disk_by_volume(fact.volume_pk) for fact in others}
        if others and all(pool is not None and not pool.there for pool in disks.values()):
            away = ", ".join(sorted(pool.label for pool in disks.values() if pool is not None))
            raise OutOfService(f"the other copies are out of service: {away}; the release waits")

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

    @contextlib.contextmanager
    def _source(self, package: PackageRef) -> Iterator[Readable]:
        """The package's bytes from the quickest place that has them.

        :raises SourceUnavailable: only a volume has them and its recall has been asked for, or what was
            read from here was damaged.
        """
        with self._catalog.read() as session:
            copies = placement.copies(session, [package.pk])[package.pk]
        direct = self._reader.direct_copies(copies)
        if direct:
            pool = self._pools.disk_by_volume(direct[0].volume_pk)
            assert pool is not None  # direct_copies looked
            try:
                # Whoever reads it compares the whole digest; what is wrong is read again to see which file.
                with open_package(
                    pool, package, direct[0].locator, from_medium=False, digests=False
                ) as source:
                    yield source if pool.local else _Remote(source, pool.label)
            except (Corrupt, NotFound) as error:
                self._blame_source(direct[0], pool, package, error)
            return
        if not self._staging.complete(package.key):
            self.ask_recall(package)
            raise SourceComing(f"{package.key} can be read from no disk just now; its recall is asked for")
        self._staging.pin(package.key)
        try:
            yield ChunkReader(self._staged(package))
        except (Corrupt, NotFound) as error:
            self._blame_staging(package, error)
        finally:
            self._staging.unpin(package.key)

    def _staged(self, package: PackageRef) -> Iterator[bytes]:
        for offset in range(0, package.size, CHUNK_BYTES):
            yield self._staging.read(package.key, offset, min(CHUNK_BYTES, package.size - offset))

    def _blame_source(
        self, copy: CopyAt, pool: DiskPool, package: PackageRef, error: Corrupt | NotFound
    ) -> None:
        """A copy could not be made: is it the source? Read it alone before it is called suspect."""
        try:
            with open_package(pool, package, copy.locator, from_medium=True) as source:
                verify_stream(package_chunks(source), package.size, package.digest)
        except (Corrupt, NotFound) as found:
            self._recall.suspect(copy, found)
            raise SourceUnavailable(f"source {copy.volume_name}: {found}; another copy is tried") from found
        raise error

    def _blame_staging(self, package: PackageRef, error: Corrupt | NotFound) -> None:
        """The same for what lies in the staging area: damaged there, it is recalled again."""
        try:
            verify_stream(self._staged(package), package.size, package.digest)
        except (Corrupt, NotFound) as found:
            self._staging.remove(package.key)
            raise SourceUnavailable(f"{package.key} was damaged in the staging area: {found}") from found
        raise error

    def ask_recall(self, package: PackageRef) -> None:
        """Have a package brought to the staging area, to be copied from there."""
        attachment = self._recall.attach(package, f"copy of {package.key}", Priority.MIGRATION)
        self._recall.detach(package, attachment)

    def _drop_suspect(self, copy_pk: int, package: PackageRef, pool: DiskPool, locator: str) -> None:
        """Make room for a good copy where a suspect one lies. The guard must agree that a verified one
        remains elsewhere, which was read to its end just now; no goal is asked, since none loses anything
        by it (docs/decisions/0013)."""
        with self._catalog.write() as session:
            verdict = placement.release(session, copy_pk, (), self._catalog.clock.now(), ACTOR)
        if not verdict.allowed:
            raise Permanent(f"{package.key} in {pool.name} is suspect and stays: {verdict.reason}")
        self._delete(pool, package, locator)
        self._move(copy_pk, CopyState.RELEASED, "suspect bytes deleted")

    def _goals(self, order: Order, package: PackageRef) -> list[Goal]:
        """What policy demands: the goals that the request was made with and those in force now, whichever
        is more; a stricter policy counts from the moment that it is there."""
        kept = order.detail.get(queue.GOALS, ())
        if isinstance(kept, dict):  # of a request that an earlier version made: copies by pool
            then = [Goal(pool, copies) for pool, copies in kept.items()]
        else:
            then = [Goal.of(each) for each in kept]
        return merged(then, self._goals_now(package.study_uid))

    def _delete(self, pool: DiskPool, package: PackageRef, locator: str) -> None:
        with self._catalog.read() as session:
            instances = instances_in(session, package)
        delete_package(pool, package, locator, instances)

    def _package(self, order: Order) -> PackageRef:
        if order.package_pk is None:
            raise Permanent(f"request {order.pk} names no package")
        with self._catalog.read() as session:
            return placement.package(session, order.package_pk)

    def _copy_on(self, package: PackageRef, volume_pk: int) -> CopyAt | None:
        with self._catalog.read() as session:
            copies = placement.copies(session, [package.pk])[package.pk]
        return next((copy for copy in copies if copy.volume_pk == volume_pk), None)

    def _begin(self, package: PackageRef, volume_pk: int, locator: str) -> int:
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            return placement.begin_copy(session, package.pk, volume_pk, locator, now, ACTOR)

    def _move(self, copy_pk: int, state: CopyState, why: str) -> None:
        with self._catalog.write() as session:
            placement.move_copy(session, copy_pk, state, self._catalog.clock.now(), ACTOR, why=why)
