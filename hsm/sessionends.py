"""How the requests of a drive's session end: counted, queued again, handed back."""

from __future__ import annotations

from hsm.assignment import Assignment
from hsm.blame import Consequence
from hsm.catalog import media, placement, queue
from hsm.catalog.engine import Catalog
from hsm.catalog.orders import Order
from hsm.catalog.usage import Tally
from hsm.driveuse import DriveUse
from hsm.errors import Corrupt, DriverError, Permanent, WrongVolume
from hsm.states import VolumeState


class SessionEnds:
    """What becomes of requests, drives and volumes when something fails."""

    def __init__(self, catalog: Catalog, use: DriveUse) -> None:
        self._catalog = catalog
        self._use = use

    def failed(self, work: Assignment, error: DriverError, tally: Tally) -> Consequence:
        """Count an error against the session's drive and cartridge; what follows from it."""
        tally.failed = True
        permanent = isinstance(error, Permanent)
        return self._use.failed(work.library, work.drive, work.barcode, str(error), permanent=permanent)

    def what_it_is(self, error: WrongVolume | Corrupt, barcode: str) -> str:
        """The error, and for the wrong cartridge where it belongs and which one is wanted."""
        found = error.found if isinstance(error, WrongVolume) else ""
        if found in ("", barcode):
            return str(error)
        with self._catalog.read() as session:
            volume = media.find_volume(session, found)
        if volume is None:
            belongs = f"{found} is none of this archive"
        else:
            belongs = f"{found} ({volume.pool or 'no pool'}) belongs on {volume.stands or 'no known shelf'}"
        return f"{error}; {belongs}; wanted is {barcode}: look at their labels"

    def suspect_volume(self, barcode: str, actor: str, why: str) -> None:
        """Nobody writes to the volume any more; what was begun on it is begun anew elsewhere."""
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            volume = media.volume(session, barcode)
            media.move_volume(session, volume.pk, VolumeState.SUSPECT, now, actor, why)
            placement.give_up_unfinished(session, now, actor, why, volume_pk=volume.pk)

    def give_back(self, orders: dict[int, Order], actor: str, why: str) -> None:
        with self._catalog.write() as session:
            for pk in orders:
                queue.give_back(session, pk, self._catalog.clock.now(), actor, why)

    def retry(self, orders: dict[int, Order], actor: str, why: str) -> None:
        with self._catalog.write() as session:
            for pk in orders:
                queue.retry_later(session, pk, self._catalog.clock.now(), actor, why)
