"""One drive session: a volume in a drive, reads first, then writes, one index, then the proof.

Called with the drive claimed and the requests taken. Every request it was given ends here: done,
queued again, or failed; nothing is left active.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import datetime
from functools import partial

from sqlalchemy.exc import SQLAlchemyError

from drivers.base import Ordering, Store, VolumeLabel
from hsm import planner
from hsm.anchoring import Anchoring
from hsm.blame import DRIVES_FOR_CERTAINTY
from hsm.catalog import details, media, placement, queue
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
    NoSpace,
    NotFound,
    OperatorNeeded,
    Permanent,
    Refused,
    Retryable,
    StaleMap,
    WrongVolume,
)
from hsm.locate import Head, change_seconds
from hsm.log import get_logger
from hsm.migrate import Migrate
from hsm.model import CopyAt, Place, Priority
from hsm.pools import Pools
from hsm.recall import ReadAgain, Recall, Stopped
from hsm.scrub import Scrubs
from hsm.sessionends import Assignment, MakingRoom, SessionEnds, left
from hsm.staging import TooLarge
from hsm.states import BLANK_VOLUMES, CopyState, RequestKind
from hsm.stopwatch import Stopwatch
from hsm.volumes import NotBlank, Volumes
from hsm.wake import Bell
from hsm.writing import Writing

log = get_logger(__name__)

EXPECTED_SECONDS = 4 * 3600.0
"""How long after its deadline, or its coming where it has none, a prefetch is expected to be read."""
READ_ON_SECONDS = 900.0
"""So long a cartridge whose work is done is kept in its drive, at most, to read back what is due soon."""
EXPORTED_TO = "shelf"
"""Where an exported volume goes until an operator says where exactly."""


def expected_until(order: Order, now: datetime) -> float:
    """Until when what is prefetched is expected to be read, by the wall clock; 0 for all else. Pure."""
    if order.priority < Priority.PREFETCH:
        return 0.0
    return max(order.deadline or now, now).timestamp() + EXPECTED_SECONDS


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
        self._scrubs = scrubs
        self._catalog = catalog
        self._pools = pools
        self._custody = custody
        self._volumes = volumes
        self._use = use
        self._recall = recall
        self._migrate = migrate
        self._bell = bell
        self._ends = SessionEnds(catalog, use)
        self._writing = Writing(catalog, pools, use, migrate, self._ends, anchors)
        self.stopwatch = Stopwatch(catalog)

    def run(self, work: Assignment, stop: threading.Event) -> None:
        """Mount and do the work; errors end in the requests, not here."""
        actor = f"drive {work.drive} of {work.library}"
        pending = {order.pk: order for order in work.orders}
        tally = Tally()
        try:
            with self.stopwatch.session(work.library, work.drive):
                volume, store = self._mount(work, actor)
                self._read(work, volume, store, pending, tally, stop, actor)
                if any(order.kind is RequestKind.COPY for order in pending.values()):
                    self.stopwatch.stands(work.library, work.drive, work.barcode, None)
                self._writing.write(work, volume, store, pending, tally, stop, actor)
                self._read_on(work, volume, store, pending, tally, stop, actor)
        except Stopped:
            log.info("%s: stopping; %d requests are handed back", actor, len(pending))
            self._ends.give_back(pending, actor, "the daemon stops")
        except MakingRoom as why:
            log.info("%s: %s; %d requests are handed back", actor, why, len(pending))
            self._ends.give_back(pending, actor, str(why))
        except StuckInDrive as error:
            log.error("%s: drive %d does not give %s back: %s", actor, error.drive, work.barcode, error)
            self._use.stuck(work.library, error.drive, work.barcode, str(error))
            self._note_reads(work, pending, bad=False)
            self._ends.retry(pending, actor, str(error))
        except OperatorNeeded as error:
            log.warning("%s: %s", actor, error)
            self._ask_the_changer(work, pending, actor, str(error), stale=isinstance(error, StaleMap))
        except NotBlank as error:
            log.warning("%s: %s; the next blank volume is taken", actor, error)
            self._ends.give_back(pending, actor, str(error))
        except InUse as error:  # not by anybody's fault, and no attempt: it is looked at again
            log.info("%s: %s; %d requests are handed back", actor, error, len(pending))
            self._ends.give_back(pending, actor, str(error))
        except (WrongVolume, Corrupt) as error:
            # Not what its barcode promises, or its own index cannot be read: nobody writes to it now.
            told = self._ends.what_it_is(error, work.barcode)
            log.error("%s: %s: %s", actor, work.barcode, told)
            self._ends.suspect_volume(work.barcode, actor, told)
            self._note_reads(work, pending, bad=True)
            self._ends.retry(pending, actor, told)
        except (DriverError, HsmError) as error:
            log.error("%s: %s: %s", actor, work.barcode, error)
            if isinstance(error, DriverError):
                what = self._ends.failed(work, error, tally)
                # Another process may hold the drives: only what no trying mends speaks against a volume.
                if what.volume_suspect and isinstance(error, Permanent):
                    self._ends.suspect_volume(work.barcode, actor, str(error))
            self._note_reads(work, pending, bad=False)
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
        self, work: Assignment, pending: dict[int, Order], actor: str, error: str, *, stale: bool
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
            self._ends.give_back(pending, actor, error)
        else:
            self._note_reads(work, pending, bad=False)
            self._ends.retry(pending, actor, error)

    def _blame_drive(self, work: Assignment, seen: list[dict[str, object]], error: str) -> None:
        held = next((e["barcode"] for e in seen if (e["kind"], e["address"]) == ("drive", work.drive)), None)
        free = any(e["kind"] == "slot" and e["barcode"] is None for e in seen)
        if held == work.barcode:
            self._use.failed(work.library, work.drive, work.barcode, error, permanent=False)
        elif held is not None and free:
            self._use.stuck(work.library, work.drive, str(held), error)

    def _mount(self, work: Assignment, actor: str) -> tuple[VolumeRef, Store]:
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
                label = self._volumes.label_in(volume, work.pool, work.library, work.drive, actor)
            else:
                label = VolumeLabel(volume.name, volume.uuid, work.pool)
            store = library.mount(label, work.drive)
        room = store.capacity()
        with self._catalog.write() as session:
            media.set_room(session, volume.pk, room.total, room.free)
        # Mounting may also have put another volume back into a slot.
        self._custody.inventory(work.library)
        return volume, store

    def _read(
        self,
        work: Assignment,
        volume: VolumeRef,
        store: Store,
        pending: dict[int, Order],
        tally: Tally,
        stop: threading.Event,
        actor: str,
    ) -> None:
        if all(order.kind is RequestKind.COPY for order in work.orders):
            return
        with self._catalog.read() as session:
            head = Head(session, volume, self.stopwatch.head(work.library, work.drive, work.barcode))
        for order in self._in_order(work, actor):
            if order.kind is RequestKind.COPY:
                continue
            if stop.is_set():
                raise Stopped
            if why := work.makes_room(left(order.pk, pending)):
                raise MakingRoom(why)
            self._read_one(work, order, volume, store, head, tally, stop, actor)
            self.stopwatch.stands(work.library, work.drive, work.barcode, head.at)
            del pending[order.pk]

    def _read_on(
        self,
        work: Assignment,
        volume: VolumeRef,
        store: Store,
        pending: dict[int, Order],
        tally: Tally,
        stop: threading.Event,
        actor: str,
    ) -> None:
        """The cartridge is mounted, and its work is done: what is due on it soon is read back now, as long as
        nothing more urgent needs a drive."""
        found = self._scrubs.beside(volume.pk, work.pool) if self._scrubs and not tally.failed else ()
        until = self._catalog.clock.monotonic() + READ_ON_SECONDS
        head: Head | None = None
        for copy in found:
            if stop.is_set() or self._catalog.clock.monotonic() > until or tally.failed:
                return
            order = self._scrubs.take(copy, actor) if self._scrubs else None
            if order is None:
                return
            pending[order.pk] = order
            if head is None:
                with self._catalog.read() as session:
                    at = self.stopwatch.head(work.library, work.drive, work.barcode)
                    head = Head(session, volume, at)
            self._read_one(work, order, volume, store, head, tally, stop, actor)
            self.stopwatch.stands(work.library, work.drive, work.barcode, head.at)
            del pending[order.pk]

    def _in_order(self, work: Assignment, actor: str) -> Sequence[Order]:
        """As planned, or as the drive recommends: it knows the tape's geometry."""
        changer: object = self._pools.libraries.get(work.library)
        if not isinstance(changer, Ordering):
            return work.orders

        def ask(extents: Sequence[planner.Extent]) -> tuple[int, ...] | None:
            return changer.recommended_order(work.drive, [(each.start, each.end - 1) for each in extents])

        try:
            order = planner.recommended(work.reads, ask)
        except DriverError as error:
            log.debug("%s: it cannot be asked for its order now: %s", actor, error)
            return work.orders
        if order is None:
            return work.orders
        log.info("%s: %s is read in the order that the drive recommends", actor, work.barcode)
        rank = {pk: number for number, pk in enumerate(order)}
        return sorted(work.orders, key=lambda each: rank.get(each.pk, len(rank)))

    def _read_one(
        self,
        work: Assignment,
        order: Order,
        volume: VolumeRef,
        store: Store,
        head: Head,
        tally: Tally,
        stop: threading.Event,
        actor: str,
    ) -> None:
        """Recall or verify one package; what fails here concerns this package alone."""
        with self._catalog.read() as session:
            package = placement.package(session, order.package_pk or 0)
            copies = placement.copies(session, [package.pk])[package.pk]
        copy = next((copy for copy in copies if copy.volume_pk == volume.pk), None)
        try:
            if copy is None:
                raise Retryable(f"{package.key} has no copy on {volume.name} any more")
            locate = head.locate_seconds(copy.position, package.size)
            if order.kind is RequestKind.VERIFY:
                self._migrate.proofs.prove(copy.copy_pk, package, store, copy.locator, stop, order.detail)
            else:
                watch = partial(
                    self.stopwatch.read,
                    work.library,
                    work.drive,
                    work.barcode,
                    request_pk=order.pk,
                    size=package.size,
                    locate_seconds=locate,
                    read_seconds=head.read_seconds(package.size),
                )
                until = expected_until(order, self._catalog.clock.now())
                self._recall.fetch(package, copy, store, stop, watch, until)
        except (Corrupt, NotFound) as error:
            if copy is not None:
                self._recall.suspect(copy, error)
                self._note_read(order, copy, bad=True)
            self._not_what_was_stored(work, order, f"{volume.name}: {error}", tally, actor)
        except ReadAgain as again:
            tally.read(package.size)
            self._ends.give_back({order.pk: order}, actor, str(again))
        except TooLarge as error:  # for the whole staging area: only the configuration can mend that
            with self._catalog.write() as session:
                queue.fail(session, order.pk, self._catalog.clock.now(), actor, str(error))
        except NoSpace as error:  # in the staging area just now: no fault of the copy
            self._ends.retry({order.pk: order}, actor, str(error))
        except DriverError as error:
            if copy is not None:
                self._read_failed(work, order, copy, error, tally)
            self._ends.retry({order.pk: order}, actor, f"{volume.name}: {error}")
        else:
            tally.read(package.size)
            with self._catalog.write() as session:
                queue.done(session, order.pk, self._catalog.clock.now(), actor)
        self._bell.ring()

    def _not_what_was_stored(
        self, work: Assignment, order: Order, error: str, tally: Tally, actor: str
    ) -> None:
        """It speaks against drive and cartridge. A recall goes on with another copy; a verification is tried
        in another drive, which tells whose fault it is, and fails when that finds the same."""
        tally.failed = True
        self._use.count(work.library, work.drive, work.barcode, Tally(errors=[error]))
        drives = sorted({*order.detail.get(details.WRONG_IN, ()), f"{work.library}/{work.drive}"})
        again = len(drives) < DRIVES_FOR_CERTAINTY and self._use.others(work.library, work.drive)
        if order.kind is RequestKind.VERIFY and not again:
            with self._catalog.write() as session:
                queue.fail(session, order.pk, self._catalog.clock.now(), actor, error)
            return
        if order.kind is RequestKind.VERIFY:
            with self._catalog.write() as session:
                queue.set_detail(session, order.pk, order.detail | {details.WRONG_IN: drives})
        self._ends.retry({order.pk: order}, actor, error)

    def _read_failed(
        self, work: Assignment, order: Order, copy: CopyAt, error: DriverError, tally: Tally
    ) -> None:
        """Another drive is tried, then another copy; what no drive can read is suspect."""
        here = f"{work.library}/{work.drive}"
        failed_in = dict(order.detail.get(details.FAILED_IN, {}))
        drives = sorted({*failed_in.get(str(copy.copy_pk), ()), here})
        failed_in[str(copy.copy_pk)] = drives
        order.detail[details.FAILED_IN] = failed_in
        with self._catalog.write() as session:
            queue.set_detail(session, order.pk, order.detail)
        what = self._ends.failed(work, error, tally)
        permanent = isinstance(error, Permanent)
        bad = len(drives) >= DRIVES_FOR_CERTAINTY or (what.volume_suspect and permanent)
        if bad:
            where = " and ".join(drives)
            why = f"cannot be read in {where}: {error}"
            self._migrate.proofs.judge(copy.copy_pk, CopyState.SUSPECT, why)
        self._note_read(order, copy, bad=bad)

    def _note_read(self, order: Order, copy: CopyAt, *, bad: bool) -> None:
        """A copy could not be read for this request: not again if it is bad, else rather another one."""
        if order.kind is not RequestKind.RECALL:
            return
        tried, trouble = order.detail.get(details.TRIED, []), dict(order.detail.get(details.TROUBLE, {}))
        trouble[str(copy.copy_pk)] = trouble.get(str(copy.copy_pk), 0) + 1
        if bad:
            tried = [*tried, copy.copy_pk]
        with self._catalog.write() as session:
            detail = order.detail | {details.TRIED: tried, details.TROUBLE: trouble}
            queue.set_detail(session, order.pk, detail)

    def _note_reads(self, work: Assignment, pending: dict[int, Order], *, bad: bool) -> None:
        """The same for all recalls of a session whose volume could not be used."""
        orders = [order for order in pending.values() if order.kind is RequestKind.RECALL]
        with self._catalog.read() as session:
            copies = placement.copies(session, {order.package_pk or 0 for order in orders})
        for order in orders:
            for copy in copies[order.package_pk or 0]:
                if copy.volume_name == work.barcode:
                    self._note_read(order, copy, bad=bad)
