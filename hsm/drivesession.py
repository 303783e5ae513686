"""One drive session: a volume in a drive, reads first, then writes, one index, then the proof.

Called with the drive claimed and the requests taken. Every request it was given ends here: done,
queued again, or failed; nothing is left active.
"""

from __future__ import annotations

import threading

from sqlalchemy.exc import SQLAlchemyError

from drivers.base import Store, VolumeLabel
from hsm.anchoring import Anchoring
from hsm.assignment import Assignment, MakingRoom, Mounted
from hsm.catalog import media
from hsm.catalog.engine import Catalog
from hsm.catalog.media import VolumeRef
from hsm.catalog.orders import Order
from hsm.catalog.usage import Tally
from hsm.claims import InUse
from hsm.custody import Custody, StuckInDrive
from hsm.driveuse import DriveUse
from hsm.errors import (
    Corrupt,
    DriverError,
    HsmError,
    OperatorNeeded,
    Permanent,
    Refused,
    Retryable,
    StaleMap,
    WrongVolume,
)
from hsm.locate import change_seconds
from hsm.log import get_logger
from hsm.migrate import Migrate
from hsm.model import Place
from hsm.pools import Pools
from hsm.reading import Reading
from hsm.recall import Recall, Stopped
from hsm.scrub import Scrubs
from hsm.sessionends import SessionEnds
from hsm.states import BLANK_VOLUMES, RequestKind
from hsm.stopwatch import Stopwatch
from hsm.volumes import NotBlank, Volumes
from hsm.wake import Bell
from hsm.writing import Writing

log = get_logger(__name__)

EXPORTED_TO = "shelf"
"""Where an exported volume goes until an operator says where exactly."""


class DriveSession:
    """Executes assignments. One instance serves all drives; it keeps no state between sessions."""

    def __init__(
        self,
        catalog: Catalog,
        pools: Pools,
        custody: Custody,
        volumes: Volumes,
        use: DriveUse,
        recall: Recall,
        migrate: Migrate,
        bell: Bell,
        anchors: Anchoring | None = None,
        scrubs: Scrubs | None = None,
    ) -> None:
        """
        :param scrubs: what may be read back on a cartridge beside its work; None: nothing.
        """
        self._catalog = catalog
        self._pools = pools
        self._custody = custody
        self._volumes = volumes
        self._use = use
        self._bell = bell
        self._ends = SessionEnds(catalog, use)
        self.stopwatch = Stopwatch(catalog)
        self._reading = Reading(
            catalog, pools, use, recall, migrate, self._ends, self.stopwatch, bell, scrubs
        )
        self._writing = Writing(catalog, pools, use, migrate, self._ends, anchors)

    def run(self, work: Assignment, stop: threading.Event) -> None:
        """Mount and do the work; errors end in the requests, not here."""
        actor = work.actor
        pending = {order.pk: order for order in work.orders}
        tally = Tally()
        try:
            with self.stopwatch.session(work.library, work.drive):
                volume, store = self._mount(work)
                at = Mounted(work, volume, store, pending, tally, stop)
                self._reading.read(at)
                if any(order.kind is RequestKind.COPY for order in pending.values()):
                    self.stopwatch.stands(work.library, work.drive, work.barcode, None)
                self._writing.write(at)
                self._reading.read_on(at)
        except Stopped:
            log.info("%s: stopping; %d requests are handed back", actor, len(pending))
            self._ends.give_back(pending, actor, "the daemon stops")
        except (MakingRoom, InUse) as why:  # by nobody's fault, and no attempt: it is looked at again
            log.info("%s: %s; %d requests are handed back", actor, why, len(pending))
            self._ends.give_back(pending, actor, str(why))
        except StuckInDrive as error:
            log.error("%s: drive %d does not give %s back: %s", actor, error.drive, work.barcode, error)
            self._use.stuck(work.library, error.drive, work.barcode, str(error))
            self._reading.note(work, pending.values(), bad=False)
            self._ends.retry(pending, actor, str(error))
        except OperatorNeeded as error:
            log.warning("%s: %s", actor, error)
            self._ask_the_changer(work, pending, str(error), stale=isinstance(error, StaleMap))
        except NotBlank as error:
            log.warning("%s: %s; the next blank volume is taken", actor, error)
            self._ends.give_back(pending, actor, str(error))
        except (WrongVolume, Corrupt) as error:
            # Not what its barcode promises, or its own index cannot be read: nobody writes to it now.
            told = self._ends.what_it_is(error, work.barcode)
            log.error("%s: %s: %s", actor, work.barcode, told)
            self._ends.suspect_volume(work.barcode, actor, told)
            self._reading.note(work, pending.values(), bad=True)
            self._ends.retry(pending, actor, told)
        except (DriverError, HsmError) as error:
            log.error("%s: %s: %s", actor, work.barcode, error)
            if isinstance(error, DriverError):
                what = self._ends.failed(work, error, tally)
                # Another process may hold the drives: only what no trying mends speaks against a volume.
                if what.volume_suspect and isinstance(error, Permanent):
                    self._ends.suspect_volume(work.barcode, actor, str(error))
            self._reading.note(work, pending.values(), bad=False)
            self._ends.retry(pending, actor, str(error))
        except SQLAlchemyError as error:
            log.error("%s: %s: the catalog: %s", actor, work.barcode, error)
            self._ends.retry(pending, actor, str(error))
        except Exception as error:  # a fault of ours must not leave requests active for ever
            log.exception("%s: %s: unexpected", actor, work.barcode)
            self._ends.retry(pending, actor, f"unexpected: {error!r}")
        finally:
            if tally.reads or tally.writes or tally.failed:
                self._use.observe(work.library, work.drive, work.barcode, tally)
            self._use.count(work.library, work.drive, work.barcode, tally)
            self._bell.ring()

    def export(self, order: Order) -> None:
        """Take a volume out of its library, to the shelf; what is out already is done.

        :raises Retryable: it is in use.
        :raises OperatorNeeded: every mail slot is occupied.
        """
        with self._catalog.read() as session:
            volume = media.volume_by_key(session, order.volume_pk or 0)
        if volume.place in (Place.SHELF, Place.UNKNOWN, Place.MAIL):
            return
        try:
            self._custody.export(volume.name, EXPORTED_TO, f"request {order.pk}")
        except Refused as error:
            raise Retryable(str(error)) from error
        log.warning("operator: take %s out of %s and put it on the shelf", volume.name, volume.library)

    def _ask_the_changer(
        self, work: Assignment, pending: dict[int, Order], error: str, *, stale: bool
    ) -> None:
        """The changer knew better than the catalog: a volume that has left is asked for by the planner;
        anything else (no free slot, an open door) is tried again after a pause. A drive that has the
        cartridge and does not take it, or does not give another one back, speaks against itself."""
        seen = self._custody.inventory(work.library)
        if not stale:
            self._blame_drive(work, seen, error)
        with self._catalog.read() as session:
            place = media.volume(session, work.barcode).place
        if place in (Place.SHELF, Place.UNKNOWN):
            self._ends.give_back(pending, work.actor, error)
        else:
            self._reading.note(work, pending.values(), bad=False)
            self._ends.retry(pending, work.actor, error)

    def _blame_drive(self, work: Assignment, seen: list[dict[str, object]], error: str) -> None:
        held = next((e["barcode"] for e in seen if (e["kind"], e["address"]) == ("drive", work.drive)), None)
        free = any(e["kind"] == "slot" and e["barcode"] is None for e in seen)
        if held == work.barcode:
            self._use.failed(work.library, work.drive, work.barcode, error, permanent=False)
        elif held is not None and free:
            self._use.stuck(work.library, work.drive, str(held), error)

    def _mount(self, work: Assignment) -> tuple[VolumeRef, Store]:
        library = self._pools.libraries[work.library]
        with self._catalog.read() as session:
            volume = media.volume(session, work.barcode)
            held = media.held_by(session, work.library, work.drive)
            change = change_seconds(volume, holds_one=held is not None)
        with self.stopwatch.mounting(
            work.library, work.drive, work.barcode, 0.0 if held == work.barcode else change
        ):
            self._custody.vacate(volume, work.drive)
            if volume.state in BLANK_VOLUMES:
                label = self._volumes.label_in(volume, work.pool, work.library, work.drive, work.actor)
            else:
                label = VolumeLabel(volume.name, volume.uuid, work.pool)
            store = library.mount(label, work.drive)
        room = store.capacity()
        with self._catalog.write() as session:
            media.set_room(session, volume.pk, room.total, room.free)
        # Mounting may also have put another volume back into a slot.
        self._custody.inventory(work.library)
        return volume, store
