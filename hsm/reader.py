"""One instance's bytes from the quickest good copy that can be read right now, digest-checked."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from hsm.availability import Disk, Reach
from hsm.catalog import journal, placement
from hsm.catalog.engine import Catalog
from hsm.catalog.instances import DAMAGED
from hsm.content import instance_file, require_absent
from hsm.errors import Corrupt, DriverError, NotFound, Retryable
from hsm.log import get_logger
from hsm.model import CopyAt, InstanceRef, Layout, Tier
from hsm.pools import DiskPool, Pools
from hsm.ranges import FileRange, Proofs, Range, StoreRange, checked, open_range, unchecked
from hsm.staging import Staging
from hsm.states import READABLE_COPIES, CopyState

log = get_logger(__name__)

ACTOR = "reader"
PROVED_SECONDS = 3600.0
"""A file of the online tier that was digested is sent again without it for so long, as long as its
times of change stay what they were. Promise 4 is about the other tiers, which are digested always."""
SHAKY_SECONDS = 5.0
"""How long a remote volume is left alone that answers and failed a read."""


def why_away(pool: DiskPool) -> str:
    """In words for a human: what is wrong with a volume that cannot be read now."""
    reason = pool.service.condition.reason if pool.service is not None else ""
    return f"pool {pool.label} is out of service{': ' + reason if reason else ''}"


class Reader:
    """Reads instances from disk pools and from the staging area; never from a mounted volume."""

    def __init__(self, catalog: Catalog, pools: Pools, staging: Staging) -> None:
        self._catalog = catalog
        self._pools = pools
        self._staging = staging
        self._proofs = Proofs(PROVED_SECONDS, catalog.clock.monotonic, time.time_ns)
        tiers = list(Tier)
        quickest = sorted(
            pools.disks.values(), key=lambda pool: (tiers.index(pool.tier), not pool.local, pool.cold)
        )
        self._rank = {pool.volume_pk: rank for rank, pool in enumerate(quickest)}
        self._shaky: dict[int, float] = {}
        """Of remote volumes that answer, but failed a read: until when others are asked first."""

    def reach(self) -> Reach:
        """What can be read now, and how: the one answer for queries and for retrieves."""
        pools, disks = self._pools, {}
        for pool in pools.disks.values():
            there = pool.there and not self._is_shaky(pool.volume_pk)
            disks[pool.volume_pk] = Disk(pool.tier, self._rank[pool.volume_pk], there, pool.cold)
        ingest = "" if pools.ingest.there else why_away(pools.ingest)
        staged, room = self._staging.whole(), self._staging.room
        return Reach(pools.tiers, disks, pools.libraries.keys(), ingest, staged, room)

    def steady_reach(self) -> Reach:
        """The same, were nothing out of service just now."""
        now = self.reach()
        disks = {pk: replace(disk, there=True) for pk, disk in (now.disks or {}).items()}
        return replace(now, disks=disks, ingest="")

    def why_away(self, copy: CopyAt) -> str:
        """In words for a human: why a copy on a disk cannot be read now."""
        pool = self._pools.disk_by_volume(copy.volume_pk)
        return why_away(pool) if pool is not None else f"nobody knows where {copy.volume_name} is"

    def direct_copies(self, copies: Sequence[CopyAt]) -> list[CopyAt]:
        """The copies that can be read without a recall, quickest first; those in a pool whose file system
        is away are not among them."""
        direct = [copy for copy in self.disk_copies(copies) if self._is_there(copy.volume_pk)]
        return sorted(direct, key=lambda copy: self._rank[copy.volume_pk])

    def disk_copies(self, copies: Sequence[CopyAt]) -> list[CopyAt]:
        """The copies on disk pools, whether their file systems are there just now or not."""
        return [
            copy
            for copy in copies
            if copy.state in READABLE_COPIES and self._pools.disk_by_volume(copy.volume_pk) is not None
        ]

    def cold_copies(self, copies: Sequence[CopyAt]) -> list[CopyAt]:
        """The copies that can be read some time after they are asked for, of pools that answer."""
        found = []
        for copy in self.disk_copies(copies):
            pool = self._pools.disk_by_volume(copy.volume_pk)
            if pool is not None and pool.cold and pool.there:
                found.append(copy)
        return found

    def _is_there(self, volume_pk: int) -> bool:
        """Whether the volume answers and gives its bytes at once: what is cold must be recalled."""
        pool = self._pools.disk_by_volume(volume_pk)
        if pool is None or pool.cold or not pool.there:
            return False
        return not self._is_shaky(volume_pk)

    def _is_shaky(self, volume_pk: int) -> bool:
        return self._shaky.get(volume_pk, 0.0) > self._catalog.clock.monotonic()

    def read(self, instance: InstanceRef, package_key: str | None, copies: Sequence[CopyAt]) -> Range | None:
        """The whole Part 10 file, or None when no copy can be read now. Who gets it closes it.

        A copy that gives other bytes becomes suspect and the next one is tried (promise 4).
        """
        if instance.package_pk is None:
            return self._from_file(self._pools.ingest, instance, None)
        for copy in self.direct_copies(copies):
            pool = self._pools.disk_by_volume(copy.volume_pk)
            assert pool is not None  # direct_copies looked
            if pool.layout is Layout.FILES:
                found = self._from_file(pool, instance, copy)
            else:
                found = self._from_package(pool, instance, copy)
            if found is not None:
                return found
        if package_key is not None:
            return self._from_staging(package_key, instance)
        return None

    def read_suspect(self, instance: InstanceRef, copies: Sequence[CopyAt]) -> Range | None:
        """The last resort: one instance from a suspect copy on a disk, if this instance at least is what
        was stored. One flipped bit condemns a copy, not all that is in it."""
        for copy in copies:
            pool = self._pools.disk_by_volume(copy.volume_pk)
            if pool is None or copy.state != CopyState.SUSPECT:
                continue
            where = f"{instance.sop_instance_uid} in {pool.name}"
            try:
                source: Range
                if pool.layout is Layout.FILES:
                    source = open_range(instance_file(pool, instance), 0, instance.size)
                else:
                    source = StoreRange(pool.store, copy.locator, instance.offset or 0, instance.size)
                found = checked(source, instance.digest, partial(log.error, "%s is damaged too", where))
            except (OSError, DriverError) as error:
                log.warning("%s: %s", where, error)
                continue
            if found is not None:
                return found
        return None

    def _from_file(self, pool: DiskPool, instance: InstanceRef, copy: CopyAt | None) -> Range | None:
        path = instance_file(pool, instance)
        try:
            source = open_range(path, 0, instance.size)
        except FileNotFoundError:
            self._absent(pool, path, instance, copy)
            return None
        except OSError as error:
            self._unreadable(pool, instance, copy, f"{path}: {error.strerror}")
            return None
        return self._proved(source, pool, instance, copy, str(path))

    def _proved(
        self, source: FileRange, pool: DiskPool, instance: InstanceRef, copy: CopyAt | None, where: str
    ) -> Range | None:
        """Online files are digested too, but not again each time that a study is looked at."""
        if pool.tier is not Tier.ONLINE:
            return self._checked(source, pool, instance, copy, where)
        try:
            state = source.state()
            if self._proofs.hold(state, instance.digest):
                return unchecked(source)
        except DriverError as error:
            source.close()
            self._unreadable(pool, instance, copy, f"{where}: {error}")
            return None
        found = self._checked(source, pool, instance, copy, where)
        if found is not None:
            self._proofs.note(state, instance.digest)
        return found

    def _absent(self, pool: DiskPool, path: Path, instance: InstanceRef, copy: CopyAt | None) -> None:
        try:
            require_absent(pool, path.relative_to(pool.root).as_posix())
        except DriverError as error:
            log.error("pool %s: %s", pool.name, error)
            return
        if copy is not None:
            self._doubt(instance, copy, f"{path} is not there")
        else:  # it may have been sealed and released since the caller looked
            log.warning("%s is not there", path)

    def _from_package(self, pool: DiskPool, instance: InstanceRef, copy: CopyAt) -> Range | None:
        source = StoreRange(pool.store, copy.locator, instance.offset or 0, instance.size)
        return self._checked(source, pool, instance, copy, f"{pool.name}: {copy.locator}")

    def _from_staging(self, package_key: str, instance: InstanceRef) -> Range | None:
        offset = instance.offset or 0
        if not self._staging.has(package_key, offset, instance.size):
            return None

        def damaged() -> None:
            # Damage on the way is not the medium's fault until its own copy fails: recall it again.
            uid = instance.sop_instance_uid
            log.error("staging: %s holds other bytes than were stored for %s", package_key, uid)
            self._staging.remove(package_key)

        try:
            source = self._staging.open(package_key, offset, instance.size)
        except DriverError as error:
            log.warning("staging: %s: %s", package_key, error)
            return None
        try:
            return checked(source, instance.digest, damaged)
        except DriverError as error:
            log.warning("staging: %s: %s", package_key, error)
            self._staging.remove(package_key)
            return None

    def _checked(
        self, source: Range, pool: DiskPool, instance: InstanceRef, copy: CopyAt | None, where: str
    ) -> Range | None:
        other = f"{where}: other bytes than were stored for {instance.sop_instance_uid}"
        try:
            return checked(source, instance.digest, lambda: self._doubt(instance, copy, other))
        except (NotFound, Corrupt) as error:
            self._doubt(instance, copy, f"{where}: {error}")
        except DriverError as error:
            self._unreadable(pool, instance, copy, f"{where}: {error}")
        return None

    def _unreadable(self, pool: DiskPool, instance: InstanceRef, copy: CopyAt | None, why: str) -> None:
        """A read error: the whole volume's, which comes back, or this copy's alone. What comes over a
        network fails for many reasons, none of which is the copy's: others are asked first for a while."""
        if pool.service is not None:
            pool.service.trouble(Retryable(why))
        if not pool.there:
            log.warning("pool %s is away: %s", pool.label, why)
        elif pool.local:
            self._doubt(instance, copy, why)
        else:
            log.warning("pool %s: %s; tried again in a while", pool.label, why)
            self._shaky[pool.volume_pk] = self._catalog.clock.monotonic() + SHAKY_SECONDS

    def _doubt(self, instance: InstanceRef, copy: CopyAt | None, why: str) -> None:
        """Take the copy out of use until somebody has looked; unless it is being released just now.

        What is in no package yet has no copy to mark: the study's history says it.
        """
        log.error("%s", why)
        with self._catalog.write() as session:
            if copy is None:
                now, detail = self._catalog.clock.now(), {"why": why, "instance": instance.sop_instance_uid}
                journal.append(session, now, ACTOR, DAMAGED, "study", instance.study_uid, detail)
            elif placement.state_of(session, copy.copy_pk) in READABLE_COPIES:
                placement.move_copy(
                    session, copy.copy_pk, CopyState.SUSPECT, self._catalog.clock.now(), ACTOR, why=why
                )
