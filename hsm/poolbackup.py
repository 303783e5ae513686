"""Backups of the catalog as ordinary objects of a pool: written, flushed, read back, and the last ones kept.

``catalog/hsm-catalog-<UTC>.zip`` is what ``hsm catalog backup -o`` writes; beside it lies what
``sha256sum -c`` wants. On a cartridge they are objects like packages, and a hand finds them the same way.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any

from sqlalchemy.exc import SQLAlchemyError

from drivers.base import CHUNK_BYTES, Store, VolumeLabel
from hsm.barcodes import belongs
from hsm.catalog import backup, backuprecords, media, restored
from hsm.catalog.backuprecords import Kept
from hsm.catalog.engine import Catalog
from hsm.catalog.media import VolumeRef
from hsm.custody import Custody
from hsm.errors import Corrupt, DriverError, HsmError, NoSpace, NotFound, Permanent, Refused, Retryable
from hsm.log import get_logger
from hsm.model import Place
from hsm.package import verify_stream
from hsm.policyrun.frozen import frozen
from hsm.pools import DiskPool, LibraryPool, Pools
from hsm.states import BLANK_VOLUMES, VolumeState

log = get_logger(__name__)

FOLDER = "catalog"
SUFFIX, SUM_SUFFIX = ".zip", ".zip.sha256"
ACTOR = "backup"
AGAIN = timedelta(minutes=10)
"""After a backup that failed, until the next is tried."""
TOLD_AGAIN = timedelta(days=1)
"""While it goes on to fail; and once after a restart."""
VOLUMES_TRIED_MAX = 3

LabelIn = Callable[[VolumeRef, str, str, int, str], VolumeLabel]
"""Labels a blank volume in a drive: volume, pool, library, drive, who."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the configuration asks for."""

    pool: str
    every: timedelta
    keep: int


@dataclass(frozen=True, slots=True)
class Failing:
    """What people should know of the planned backup."""

    pool: str
    why: str
    """The error; empty: it is good again."""
    last: datetime | None
    """When the last good one was written."""
    now: datetime


class PoolBackups:
    """Writes backups into pools."""

    def __init__(
        self,
        catalog: Catalog,
        pools: Pools,
        custody: Custody,
        label_in: LabelIn,
        scratch: Path,
        plan: Plan | None = None,
        tell: Callable[[Failing], None] = lambda _failing: None,
    ) -> None:
        """
        :param tell: called when the planned backup fails, each day that it goes on to, and when it is good
            again.
        :param scratch: a folder with room for one backup while it is written.
        :param plan: when and where without being asked; None: never.
        """
        self._catalog = catalog
        self._pools = pools
        self._custody = custody
        self._label_in = label_in
        self._scratch = scratch
        self.plan = plan
        self._failed: tuple[datetime, str] | None = None
        self._tell = tell
        self._told_at: datetime | None = None

    def round(self) -> bool:
        """Write one if it is time; whether one was."""
        plan, now = self.plan, self._catalog.clock.now()
        if plan is None or (self._failed is not None and now - self._failed[0] < AGAIN):
            return False
        with self._catalog.read() as session:
            last = next(iter(backuprecords.kept_in(session, plan.pool)), None)
            fails = backuprecords.failed_since(session, plan.pool, last)
        if last is not None and now - last.at < plan.every:
            return False
        try:
            self.write(plan.pool, ACTOR, plan.keep)
        except (DriverError, HsmError, SQLAlchemyError, OSError) as error:
            log.error("the catalog's backup into %s failed: %s", plan.pool, error)
            if self._told_at is None or now - self._told_at >= TOLD_AGAIN:
                self._told_at = now
                why = str(getattr(error, "orig", error))
                self._tell(Failing(plan.pool, why, last.at if last is not None else None, now))
            return False
        self._told_at = None
        if fails:
            self._tell(Failing(plan.pool, "", now, now))
        return True

    def problems(self) -> list[str]:
        """What an admin must know."""
        if self._failed is None:
            return []
        at, why = self._failed
        return [f"the catalog's backup failed at {at:%Y-%m-%d %H:%M} UTC: {why}"]

    def write(self, pool: str, by: str, keep: int = 0) -> dict[str, Any]:
        """Write a backup into a pool and read it back; then drop all but the last ``keep`` (0: none is
        dropped).

        :raises NotFound: there is no such pool.
        :raises Refused: nothing in it takes the backup now.
        :raises Corrupt: what was read back is not what was written.
        """
        now = self._catalog.clock.now()
        try:
            done = self._write(pool, by)
        except (DriverError, HsmError, SQLAlchemyError, OSError) as error:
            self._failed = (now, str(getattr(error, "orig", error)))
            with contextlib.suppress(SQLAlchemyError), self._catalog.write() as session:
                backuprecords.failed(session, pool, now, by, self._failed[1])
            raise
        self._failed = None
        return done | {"dropped": self._drop(pool, by, keep) if keep else []}

    def _write(self, pool: str, by: str) -> dict[str, Any]:
        with tempfile.TemporaryFile(dir=self._scratch, prefix=".hsm-backup-") as file:
            with frozen(self._catalog) as session:
                summary = backup.write(self._catalog, session, file)
            size = file.tell()
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").digest()
            key = f"{FOLDER}/hsm-catalog-{summary.at:%Y%m%dT%H%M%S%f}{SUFFIX}"
            volume = self._put(pool, key, file, size, digest, by)
        head = f"{summary.journal_seq} {summary.journal_digest}"
        kept = Kept(pool, volume, key, summary.at)
        with self._catalog.write() as session:
            backuprecords.written(session, kept, by, size, digest.hex(), head)
        log.info("the catalog is backed up: %s on %s, %d bytes, read back", key, volume, size)
        return {
            "pool": pool,
            "volume": volume,
            "key": key,
            "bytes": size,
            "sha256": digest.hex(),
            "journal": head,
            "rows": summary.rows,
        }

    def _put(self, pool: str, key: str, file: IO[bytes], size: int, digest: bytes, by: str) -> str:
        disks = self._pools.volumes_of(pool)
        if not disks and pool not in self._pools.tapes:
            raise NotFound(f"there is no pool {pool!r}; there are: {', '.join(sorted(self._pools.names))}")
        if disks:
            return self._onto_disk(disks, key, file, size, digest)
        return self._onto_tape(self._pools.tapes[pool], key, file, size, digest, by)

    def _onto_disk(
        self, disks: tuple[DiskPool, ...], key: str, file: IO[bytes], size: int, digest: bytes
    ) -> str:
        trouble = "it is out of service, or takes no writes"
        for disk in disks:
            if not disk.writable or disk.cold:
                continue
            try:
                put_proved(disk.store, key, file, size, digest)
            except (NoSpace, Retryable) as error:
                trouble = str(error)
                continue
            return disk.label
        raise Refused(f"no volume of pool {disks[0].name} takes the backup: {trouble}")

    def _onto_tape(
        self, pool: LibraryPool, key: str, file: IO[bytes], size: int, digest: bytes, by: str
    ) -> str:
        trouble = "no cartridge of it is in its library with room for it"
        for volume in self._cartridges(pool, size)[:VOLUMES_TRIED_MAX]:
            try:
                with self._custody.free_drive(pool.library, volume.name) as drive:
                    self._into_drive(pool, volume, drive, key, file, size, digest, by)
            except (DriverError, HsmError) as error:
                log.warning("%s does not take the catalog's backup: %s", volume.name, error)
                trouble = f"{volume.name}: {error}"
                continue
            finally:
                self._custody.inventory(pool.library)
            return volume.name
        raise Refused(f"pool {pool.name} takes no backup now: {trouble}")

    def _cartridges(self, pool: LibraryPool, size: int) -> list[VolumeRef]:
        """Those with room, the fullest first; then a blank one."""
        with self._catalog.read() as session:
            every = [
                each
                for each in media.volumes(session)
                if each.library == pool.library
                and each.place in (Place.SLOT, Place.MAIL, Place.DRIVE)
                and each.takes_writes
            ]
            blank = set(media.blank_barcodes(session).get(pool.library, ()))
        mine = [
            each
            for each in every
            if each.pool == pool.name
            and each.state in (VolumeState.LABELLED, VolumeState.ACTIVE)
            and (each.capacity == 0 or each.capacity - each.used > size)
        ]
        mine.sort(key=lambda each: (-each.used, each.name))
        fresh = [each for each in every if each.name in blank and belongs(each.name, pool.scratch)]
        return [*mine, *fresh[:1]]

    def _into_drive(
        self,
        pool: LibraryPool,
        volume: VolumeRef,
        drive: int,
        key: str,
        file: IO[bytes],
        size: int,
        digest: bytes,
        by: str,
    ) -> None:
        changer = self._custody.library(pool.library)
        self._custody.vacate(volume, drive)
        if volume.state in BLANK_VOLUMES:
            label = self._label_in(volume, pool.name, pool.library, drive, by)
        else:
            label = VolumeLabel(volume.name, volume.uuid, pool.name)
        store = changer.mount(label, drive)
        put_proved(store, key, file, size, digest)
        room = store.capacity()
        with self._catalog.write() as session:
            media.set_room(session, volume.pk, room.total, room.free)
            if media.volume_by_key(session, volume.pk).state is VolumeState.LABELLED:
                now = self._catalog.clock.now()
                media.move_volume(session, volume.pk, VolumeState.ACTIVE, now, by, "it has a backup")

    def _drop(self, pool: str, by: str, keep: int) -> list[str]:
        """Delete the oldest; what cannot be deleted just now is the next one's turn. On media that free
        nothing they stay."""
        with self._catalog.read() as session:
            if restored.is_owed(session):
                return []
            old = backuprecords.kept_in(session, pool)[keep:]
        gone = []
        for each in old:
            disk = self._pools.disks.get(each.volume)
            if disk is None or not disk.writable or disk.store.traits.append_only:
                continue
            try:
                disk.store.delete(f"{each.key.removesuffix(SUFFIX)}{SUM_SUFFIX}")
                disk.store.delete(each.key)
            except DriverError as error:
                log.warning("%s on %s is not dropped now: %s", each.key, each.volume, error)
                continue
            with self._catalog.write() as session:
                backuprecords.dropped(session, each, self._catalog.clock.now(), by)
            gone.append(each.key)
        return gone


def put_proved(store: Store, key: str, file: IO[bytes], size: int, digest: bytes) -> None:
    """A backup and its checksum, flushed and read back from the medium.

    :raises Corrupt: what was read back is not what was written.
    """
    file.seek(0)
    store.put(key, file, size, digest)
    line = f"{digest.hex()}  {key.rpartition('/')[2]}\n".encode("ascii")
    store.put(f"{key.removesuffix(SUFFIX)}{SUM_SUFFIX}", io.BytesIO(line), len(line), None)
    store.flush()
    store.drop_caches()
    try:
        verify_stream(store.get(key), size, digest)
    except (Corrupt, NotFound) as error:
        raise Corrupt(f"{key} was written and reads back differently: {error}") from error


def is_backup(key: str) -> bool:
    """Whether an object is a backup, by its key."""
    folder, _, name = key.partition("/")
    return folder == FOLDER and name.startswith("hsm-catalog-") and name.endswith(SUFFIX)


def newest(store: Store) -> str:
    """The key of the youngest backup of a Store; empty where it has none."""
    return max((each.key for each in store.list() if is_backup(each.key)), default="")


def fetch(store: Store, key: str, to: IO[bytes]) -> str:
    """Copy a backup out of a Store, compared with the checksum beside it where that can be read; its
    SHA-256.

    :raises Corrupt: it is not what was written.
    :raises NotFound: it is not there.
    """
    digest = hashlib.sha256()
    for chunk in store.get(key):
        digest.update(chunk)
        to.write(chunk)
    said = ""
    with contextlib.suppress(NotFound, Permanent):
        said = b"".join(_some(store.get(f"{key.removesuffix(SUFFIX)}{SUM_SUFFIX}"))).decode(
            "ascii", "replace"
        )
    if said and said.split()[0] != digest.hexdigest():
        raise Corrupt(
            f"{key}: SHA-256 is {digest.hexdigest()}, and was {said.split()[0]} when it was written"
        )
    return digest.hexdigest()


def _some(chunks: Iterator[bytes]) -> Iterator[bytes]:
    left = CHUNK_BYTES
    for chunk in chunks:
        yield chunk[:left]
        left -= len(chunk)
        if left <= 0:
            return
