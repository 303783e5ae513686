"""Brings a cartridge into a drive when what was said of studies has waited too long for one that is written
to anyway: who has nothing left but tapes must not get back what was deleted (promise 5)."""

from __future__ import annotations

from datetime import datetime, timedelta

from drivers.base import VolumeLabel
from hsm.anchoring import Anchoring
from hsm.catalog import marksfacts, media, restored
from hsm.catalog.engine import Catalog
from hsm.catalog.media import VolumeRef
from hsm.custody import Custody
from hsm.errors import DriverError, HsmError
from hsm.log import get_logger
from hsm.model import Place
from hsm.pools import LibraryPool, Pools
from hsm.states import VolumeState

log = get_logger(__name__)

ACTOR = "marks"
KIND = "tape"
"""A disc has only so many sessions: it gets marks with its packages."""
ROOM_MIN = 1 << 20
AGAIN = timedelta(hours=1)
"""After a pool whose cartridges could not be had."""


class MarkingTapes:
    """One cartridge of each pool of tapes carries what was said, some hours late."""

    def __init__(
        self, catalog: Catalog, pools: Pools, custody: Custody, anchoring: Anchoring, every: timedelta
    ) -> None:
        """
        :param every: how long what was said waits for a cartridge that is flushed anyway.
        """
        self._catalog = catalog
        self._pools = pools
        self._custody = custody
        self._anchoring = anchoring
        self._every = every
        self._failed: dict[str, datetime] = {}

    def round(self) -> int:
        """Write what has waited too long; onto how many cartridges."""
        with self._catalog.read() as session:
            if restored.is_owed(session):
                return 0
        return sum(self._pool(pool) for pool in self._pools.tapes.values() if pool.kind == KIND)

    def _pool(self, pool: LibraryPool) -> bool:
        now = self._catalog.clock.now()
        if pool.name in self._failed and now - self._failed[pool.name] < AGAIN:
            return False
        with self._catalog.read() as session:
            mine = [each for each in media.volumes(session) if each.pool == pool.name]
            known = max((marksfacts.carried(session, each.name, each.uuid)[0] for each in mine), default=0)
            since = marksfacts.waiting_since(session, known)
        if since is None or now - since < self._every:
            return False
        usable = [each for each in mine if _takes_some(each, pool)]
        if not usable:
            return False
        volume = min(usable, key=lambda each: (each.place is not Place.DRIVE, -each.used, each.name))
        try:
            with self._custody.free_drive(pool.library, volume.name) as drive:
                self._write(pool, volume, drive)
        except (DriverError, HsmError) as error:
            log.warning("%s gets no marks now: %s", volume.name, error)
            self._failed[pool.name] = now
            return False
        finally:
            self._custody.inventory(pool.library)
        self._failed.pop(pool.name, None)
        return True

    def _write(self, pool: LibraryPool, volume: VolumeRef, drive: int) -> None:
        self._custody.vacate(volume, drive)
        label = VolumeLabel(volume.name, volume.uuid, pool.name)
        store = self._custody.library(pool.library).mount(label, drive)
        done = self._anchoring.note(store, volume.name)
        store.flush()
        self._anchoring.noted(done, store, volume.name, ACTOR)
        room = store.capacity()
        with self._catalog.write() as session:
            media.set_room(session, volume.pk, room.total, room.free)


def _takes_some(volume: VolumeRef, pool: LibraryPool) -> bool:
    return (
        volume.library == pool.library
        and volume.place in (Place.SLOT, Place.DRIVE)
        and volume.state is VolumeState.ACTIVE
        and volume.takes_writes
        and (volume.capacity == 0 or volume.capacity - volume.used > ROOM_MIN)
    )
