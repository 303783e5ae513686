"""Writes what people say of studies onto the volumes that carry them, so that a catalog made from media alone
brings back no study that was deleted, and forgets no legal hold (promise 5).

Each volume gets what was said since it got the last; one that never got any gets all. Nothing is ever taken
from it.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import datetime, timedelta

from drivers.base import Store
from hsm.catalog import journal, marksfacts, media, restored
from hsm.catalog.engine import Catalog
from hsm.errors import DriverError, NoSpace, Permanent
from hsm.log import get_logger
from hsm.marksfile import Stand, files
from hsm.pools import DiskPool, Pools

log = get_logger(__name__)

ACTOR = "marks"
EVERY = timedelta(minutes=15)
"""How often at most a pool without drives gets a file of marks."""
PORTION = 10_000
"""Studies that are looked up at a time."""


@dataclass(frozen=True, slots=True)
class Put:
    """Marks that a volume has got, and that its next flush makes safe."""

    volume: str
    uuid: str
    stand: Stand
    studies: int
    files: int


class Marking:
    """Writes marks."""

    def __init__(self, catalog: Catalog, pools: Pools, archive: str) -> None:
        """
        :param archive: its AE title.
        """
        self._catalog = catalog
        self._pools = pools
        self._archive = archive

    def put(self, store: Store, volume: str) -> Put | None:
        """Put what a volume does not carry yet; the caller flushes. None: there is nothing, or it takes none.

        :raises Retryable: the volume cannot be written to.
        """
        with self._catalog.read() as session:
            to, uuid = marksfacts.latest(session), media.volume(session, volume).uuid
            after, _ = marksfacts.carried(session, volume, uuid)
            way = restored.way(session)
            if to <= after or way is None:
                return None
            stand = Stand(self._archive, way, to, self._catalog.clock.now())
            studies = marksfacts.marked_since(session, after, to)
        written = 0
        try:
            for some in (studies[at : at + PORTION] for at in range(0, len(studies), PORTION)):
                with self._catalog.read() as session:
                    pieces = list(files(stand, marksfacts.of(session, some)))
                for data in pieces:
                    written += 1
                    _put(store, stand.key(written), data)
        except (NoSpace, Permanent) as error:
            log.warning("%s gets no marks: %s", volume, error)
            return None
        return Put(volume, uuid, stand, len(studies), written)

    def flushed(self, done: Put | None, actor: str) -> None:
        """The volume's flush went well."""
        if done is None:
            return
        detail = {"to": done.stand.to, "uuid": done.uuid, "studies": done.studies, "files": done.files}
        with self._catalog.write() as session:
            now = self._catalog.clock.now()
            journal.append(session, now, actor, marksfacts.WRITTEN, "volume", done.volume, detail)

    def round(self) -> int:
        """Write marks into every pool without drives that has not got them; into how many."""
        return sum(self._onto(pool) for pool in self._pools.disks.values())

    def _onto(self, pool: DiskPool) -> bool:
        if not pool.writable or self._too_soon(pool.label):
            return False
        try:
            done = self.put(pool.store, pool.label)
            if done is None:
                return False
            pool.store.flush()
        except DriverError as error:
            log.warning("%s gets no marks now: %s", pool.label, error)
            return False
        self.flushed(done, ACTOR)
        return True

    def _too_soon(self, volume: str) -> bool:
        with self._catalog.read() as session:
            _, last = marksfacts.carried(session, volume, media.volume(session, volume).uuid)
        now: datetime = self._catalog.clock.now()
        return last is not None and last <= now < last + EVERY


def _put(store: Store, key: str, data: bytes) -> None:
    """What is there already was put by a life that did not come to note it, or by another node."""
    try:
        store.put(key, io.BytesIO(data), len(data), None)
    except NoSpace:
        raise
    except Permanent:
        store.stat(key)
