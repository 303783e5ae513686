"""The reading half of a drive session: recalls and verifications, in the order that moves the head least."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial

from drivers.base import Ordering
from hsm import planner
from hsm.assignment import Assignment, MakingRoom, Mounted, left
from hsm.blame import DRIVES_FOR_CERTAINTY
from hsm.catalog import details, placement, queue
from hsm.catalog.engine import Catalog
from hsm.catalog.orders import Order
from hsm.catalog.usage import Tally
from hsm.driveuse import DriveUse
from hsm.errors import Corrupt, DriverError, NoSpace, NotFound, Permanent, Retryable
from hsm.locate import Head
from hsm.log import get_logger
from hsm.migrate import Migrate
from hsm.model import CopyAt, Priority
from hsm.pools import Pools
from hsm.recall import ReadAgain, Recall, Stopped
from hsm.scrub import Scrubs
from hsm.sessionends import SessionEnds
from hsm.staging import TooLarge
from hsm.states import CopyState, RequestKind
from hsm.stopwatch import Stopwatch
from hsm.wake import Bell

log = get_logger(__name__)

EXPECTED_SECONDS = 4 * 3600.0
"""How long after its deadline, or its coming where it has none, a prefetch is expected to be read."""
READ_ON_SECONDS = 900.0
"""So long a cartridge whose work is done is kept in its drive, at most, to read back what is due soon."""


def expected_until(order: Order, now: datetime) -> float:
    """Until when what is prefetched is expected to be read, by the wall clock; 0 for all else. Pure."""
    if order.priority < Priority.PREFETCH:
        return 0.0
    return max(order.deadline or now, now).timestamp() + EXPECTED_SECONDS


class Reading:
    """Reads packages from a mounted volume. It keeps no state between sessions."""

    def __init__(
        self,
        catalog: Catalog,
        pools: Pools,
        use: DriveUse,
        recall: Recall,
        migrate: Migrate,
        ends: SessionEnds,
        stopwatch: Stopwatch,
        bell: Bell,
        scrubs: Scrubs | None = None,
    ) -> None:
        """
        :param scrubs: what may be read back on a cartridge beside its work; None: nothing.
        """
        self._catalog = catalog
        self._pools = pools
        self._use = use
        self._recall = recall
        self._migrate = migrate
        self._ends = ends
        self._stopwatch = stopwatch
        self._bell = bell
        self._scrubs = scrubs

    def read(self, at: Mounted) -> None:
        """Do every recall and verification of the session.

        :raises Stopped: the daemon does; what is left is still pending.
        :raises MakingRoom: something more urgent needs the drive; the same.
        """
        if all(order.kind is RequestKind.COPY for order in at.work.orders):
            return
        head = self._head(at)
        for order in self._in_order(at.work):
            if order.kind is RequestKind.COPY:
                continue
            if at.stop.is_set():
                raise Stopped
            if why := at.work.makes_room(left(order.pk, at.pending)):
                raise MakingRoom(why)
            self._read_one(at, order, head)

    def read_on(self, at: Mounted) -> None:
        """The cartridge is mounted, and its work is done: what is due on it soon is read back now, as long as
        nothing more urgent needs a drive."""
        if self._scrubs is None or at.tally.failed:
            return
        until = self._catalog.clock.monotonic() + READ_ON_SECONDS
        head: Head | None = None
        for copy in self._scrubs.beside(at.volume.pk, at.work.pool):
            if at.stop.is_set() or self._catalog.clock.monotonic() > until or at.tally.failed:
                return
            order = self._scrubs.take(copy, at.work.actor)
            if order is None:
                return
            at.pending[order.pk] = order
            head = head or self._head(at)
            self._read_one(at, order, head)

    def note(self, work: Assignment, orders: Iterable[Order], *, bad: bool) -> None:
        """The volume could not be used for these recalls: not its copies again if it is ``bad``, else rather
        others."""
        recalls = [order for order in orders if order.kind is RequestKind.RECALL]
        with self._catalog.read() as session:
            copies = placement.copies(session, {order.package_pk or 0 for order in recalls})
        for order in recalls:
            for copy in copies[order.package_pk or 0]:
                if copy.volume_name == work.barcode:
                    self._note_read(order, copy, bad=bad)

    def _head(self, at: Mounted) -> Head:
        work = at.work
        with self._catalog.read() as session:
            return Head(session, at.volume, self._stopwatch.head(work.library, work.drive, work.barcode))

    def _in_order(self, work: Assignment) -> Sequence[Order]:
        """As planned, or as the drive recommends: it knows the tape's geometry."""
        changer: object = self._pools.libraries.get(work.library)
        if not isinstance(changer, Ordering):
            return work.orders

        def ask(extents: Sequence[planner.Extent]) -> tuple[int, ...] | None:
            return changer.recommended_order(work.drive, [(each.start, each.end - 1) for each in extents])

        try:
            order = planner.recommended(work.reads, ask)
        except DriverError as error:
            log.debug("%s: it cannot be asked for its order now: %s", work.actor, error)
            return work.orders
        if order is None:
            return work.orders
        log.info("%s: %s is read in the order that the drive recommends", work.actor, work.barcode)
        rank = {pk: number for number, pk in enumerate(order)}
        return sorted(work.orders, key=lambda each: rank.get(each.pk, len(rank)))

    def _read_one(self, at: Mounted, order: Order, head: Head) -> None:
        """Recall or verify one package, and end its request; what fails here concerns this package alone."""
        work, volume, actor = at.work, at.volume, at.work.actor
        with self._catalog.read() as session:
            package = placement.package(session, order.package_pk or 0)
            copies = placement.copies(session, [package.pk])[package.pk]
        copy = next((copy for copy in copies if copy.volume_pk == volume.pk), None)
        try:
            if copy is None:
                raise Retryable(f"{package.key} has no copy on {volume.name} any more")
            locate = head.locate_seconds(copy.position, package.size)
            if order.kind is RequestKind.VERIFY:
                self._migrate.proofs.prove(
                    copy.copy_pk, package, at.store, copy.locator, at.stop, order.detail
                )
            else:
                watch = partial(
                    self._stopwatch.read,
                    work.library,
                    work.drive,
                    work.barcode,
                    request_pk=order.pk,
                    size=package.size,
                    locate_seconds=locate,
                    read_seconds=head.read_seconds(package.size),
                )
                until = expected_until(order, self._catalog.clock.now())
                self._recall.fetch(package, copy, at.store, at.stop, watch, until)
        except (Corrupt, NotFound) as error:
            if copy is not None:
                self._recall.suspect(copy, error)
                self._note_read(order, copy, bad=True)
            self._not_what_was_stored(at, order, f"{volume.name}: {error}")
        except ReadAgain as again:
            at.tally.read(package.size)
            self._ends.give_back({order.pk: order}, actor, str(again))
        except TooLarge as error:  # for the whole staging area: only the configuration can mend that
            with self._catalog.write() as session:
                queue.fail(session, order.pk, self._catalog.clock.now(), actor, str(error))
        except NoSpace as error:  # in the staging area just now: no fault of the copy
            self._ends.retry({order.pk: order}, actor, str(error))
        except DriverError as error:
            if copy is not None:
                self._read_failed(at, order, copy, error)
            self._ends.retry({order.pk: order}, actor, f"{volume.name}: {error}")
        else:
            at.tally.read(package.size)
            with self._catalog.write() as session:
                queue.done(session, order.pk, self._catalog.clock.now(), actor)
        self._bell.ring()
        self._stopwatch.stands(work.library, work.drive, work.barcode, head.at)
        del at.pending[order.pk]

    def _not_what_was_stored(self, at: Mounted, order: Order, error: str) -> None:
        """It speaks against drive and cartridge. A recall goes on with another copy; a verification is tried
        in another drive, which tells whose fault it is, and fails when that finds the same."""
        work, actor = at.work, at.work.actor
        at.tally.failed = True
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

    def _read_failed(self, at: Mounted, order: Order, copy: CopyAt, error: DriverError) -> None:
        """Another drive is tried, then another copy; what no drive can read is suspect."""
        here = f"{at.work.library}/{at.work.drive}"
        failed_in = dict(order.detail.get(details.FAILED_IN, {}))
        drives = sorted({*failed_in.get(str(copy.copy_pk), ()), here})
        failed_in[str(copy.copy_pk)] = drives
        order.detail[details.FAILED_IN] = failed_in
        with self._catalog.write() as session:
            queue.set_detail(session, order.pk, order.detail)
        what = self._ends.failed(at.work, error, at.tally)
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
