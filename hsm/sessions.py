"""One drive session: a volume in a drive, reads first, then writes, one index, then the proof.

Called with the drive claimed and the requests taken. Every request it was given ends here: done,
queued again, or failed; nothing is left active.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from drivers.base import Store, VolumeLabel
from hsm import layout
from hsm.catalog import media, placement, queue
from hsm.catalog.engine import Catalog
from hsm.catalog.media import VolumeRef
from hsm.catalog.placement import PackageRef
from hsm.catalog.queue import Order
from hsm.custody import Custody
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
    WrongVolume,
)
from hsm.log import get_logger
from hsm.migrate import Migrate, SourceUnavailable
from hsm.model import CopyAt, Place
from hsm.pools import Pools
from hsm.recall import Recall, Stopped
from hsm.staging import TooLarge
from hsm.states import CopyState, RequestKind, VolumeState
from hsm.wake import Bell

log = get_logger(__name__)

EXPORTED_TO = "shelf"
"""Where an exported volume goes until an operator says where exactly."""
WRITE_ATTEMPTS_MAX = 3
"""How often a write to a volume is tried before another volume takes its place."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """What the planner gave to one drive."""

    library: str
    drive: int
    barcode: str
    pool: str
    """The pool that the volume belongs to, or that a scratch volume is to be labelled for."""
    orders: tuple[Order, ...]


@dataclass(frozen=True, slots=True)
class _Unproved:
    """A package that was put but is not yet flushed and read back."""

    order: Order
    copy_pk: int
    package: PackageRef
    locator: str
    position: int | None


class DriveSession:
    """Executes assignments. One instance serves all drives; it keeps no state between sessions."""

    def __init__(
        self, catalog: Catalog, pools: Pools, custody: Custody, recall: Recall, migrate: Migrate, bell: Bell
    ) -> None:
        self._catalog = catalog
        self._pools = pools
        self._custody = custody
        self._recall = recall
        self._migrate = migrate
        self._bell = bell

    def run(self, work: Assignment, stop: threading.Event) -> None:
        """Mount and do the work; errors end in the requests, not here."""
        actor = f"drive {work.drive} of {work.library}"
        pending = {order.pk: order for order in work.orders}
        try:
            volume, store = self._mount(work, actor)
            self._read(work, volume, store, pending, stop, actor)
            self._write(work, volume, store, pending, stop, actor)
        except Stopped:
            log.info("%s: stopping; %d requests are handed back", actor, len(pending))
            self._give_back(pending, actor, "the daemon stops")
        except OperatorNeeded as error:
            log.warning("%s: %s", actor, error)
            self._ask_the_changer(work, pending, actor, str(error))
        except (WrongVolume, Corrupt) as error:
            # Not what its barcode promises, or its own index cannot be read: nobody writes to it now.
            log.error("%s: %s: %s", actor, work.barcode, error)
            self._suspect_volume(work.barcode, actor, str(error))
            self._note_reads(work, pending, bad=True)
            self._retry(pending, actor, str(error))
        except (DriverError, HsmError) as error:
            log.error("%s: %s: %s", actor, work.barcode, error)
            self._note_reads(work, pending, bad=False)
            self._retry(pending, actor, str(error))
        except Exception as error:  # a fault of ours must not leave requests active for ever
            log.exception("%s: %s: unexpected", actor, work.barcode)
            self._retry(pending, actor, f"unexpected: {error!r}")
        finally:
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

    def _ask_the_changer(self, work: Assignment, pending: dict[int, Order], actor: str, error: str) -> None:
        """The changer knew better than the catalog: a volume that has left is asked for by the planner;
        anything else (no free slot, an open door) is tried again after a pause."""
        self._custody.inventory(work.library)
        with self._catalog.read() as session:
            place = media.volume(session, work.barcode).place
        if place in (Place.SHELF, Place.UNKNOWN):
            self._give_back(pending, actor, error)
        else:
            self._note_reads(work, pending, bad=False)
            self._retry(pending, actor, error)

    def _mount(self, work: Assignment, actor: str) -> tuple[VolumeRef, Store]:
        library = self._pools.libraries[work.library]
        with self._catalog.read() as session:
            volume = media.volume(session, work.barcode)
        if volume.state is VolumeState.SCRATCH:
            label = self._custody.label_in(volume, work.pool, work.library, work.drive, actor)
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
        stop: threading.Event,
        actor: str,
    ) -> None:
        for order in work.orders:
            if order.kind is RequestKind.COPY:
                continue
            if stop.is_set():
                raise Stopped
            self._read_one(order, volume, store, stop, actor)
            del pending[order.pk]

    def _read_one(
        self, order: Order, volume: VolumeRef, store: Store, stop: threading.Event, actor: str
    ) -> None:
        """Recall or verify one package; what fails here concerns this package alone."""
        with self._catalog.read() as session:
            package = placement.package(session, order.package_pk or 0)
            copies = placement.copies(session, [package.pk])[package.pk]
        copy = next((copy for copy in copies if copy.volume_pk == volume.pk), None)
        try:
            if copy is None:
                raise Retryable(f"{package.key} has no copy on {volume.name} any more")
            if order.kind is RequestKind.VERIFY:
                self._migrate.prove(copy.copy_pk, package, store, copy.locator, stop)
            else:
                self._recall.fetch(package, copy, store, stop)
        except (Corrupt, NotFound) as error:
            if copy is not None:
                self._recall.suspect(copy, error)
                self._note_read(order, copy, bad=True)
            self._retry({order.pk: order}, actor, f"{volume.name}: {error}")
        except TooLarge as error:  # for the whole staging area: only the configuration can mend that
            with self._catalog.write() as session:
                queue.fail(session, order.pk, self._catalog.clock.now(), actor, str(error))
        except NoSpace as error:  # in the staging area just now: no fault of the copy
            self._retry({order.pk: order}, actor, str(error))
        except DriverError as error:
            if copy is not None:
                self._note_read(order, copy, bad=isinstance(error, Permanent))
            self._retry({order.pk: order}, actor, f"{volume.name}: {error}")
        else:
            with self._catalog.write() as session:
                queue.done(session, order.pk, self._catalog.clock.now(), actor)
        self._bell.ring()

    def _note_read(self, order: Order, copy: CopyAt, *, bad: bool) -> None:
        """A copy could not be read for this request: not again if it is bad, else rather another one."""
        if order.kind is not RequestKind.RECALL:
            return
        tried, trouble = order.detail.get(queue.TRIED, []), dict(order.detail.get(queue.TROUBLE, {}))
        trouble[str(copy.copy_pk)] = trouble.get(str(copy.copy_pk), 0) + 1
        if bad:
            tried = [*tried, copy.copy_pk]
        with self._catalog.write() as session:
            detail = order.detail | {queue.TRIED: tried, queue.TROUBLE: trouble}
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

    def _write(
        self,
        work: Assignment,
        volume: VolumeRef,
        store: Store,
        pending: dict[int, Order],
        stop: threading.Event,
        actor: str,
    ) -> None:
        """Put all packages, flush once (on tape that writes the index), then read each one back."""
        unproved: list[_Unproved] = []
        full = False
        for order in work.orders:
            if order.kind is not RequestKind.COPY or order.pk not in pending:
                continue
            if stop.is_set() or full:
                break
            try:
                done = self._put(order, volume, store, stop)
            except NoSpace as error:
                log.info("%s is full: %s", volume.name, error)
                full = True
            except SourceUnavailable as error:
                del pending[order.pk]
                self._retry({order.pk: order}, actor, str(error))
            except (Retryable, Permanent) as error:
                del pending[order.pk]
                if self._blame_volume(volume, order, error, actor):
                    self._retry({order.pk: order, **pending}, actor, f"{volume.name}: {error}")
                    return
                self._retry({order.pk: order}, actor, f"{volume.name}: {error}")
            else:
                unproved.append(done)
        if unproved:
            try:
                store.flush()
            except (Retryable, Permanent) as error:
                self._blame_volume(volume, unproved[0].order, error, actor)
                self._retry(pending, actor, f"{volume.name}: {error}")
                return
            self._note_written(volume, store, unproved, actor)
            self._prove(volume, store, unproved, pending, stop, actor)
        if full:
            self._close_full(volume, actor)
        if pending:
            self._give_back(pending, actor, f"{volume.name} is full" if full else "the daemon stops")

    def _blame_volume(self, volume: VolumeRef, order: Order, error: DriverError, actor: str) -> bool:
        """Writing failed: for good, or again and again? Then nobody writes to this volume any more and
        its work goes to another one. Whether it was so."""
        if isinstance(error, Retryable) and order.attempts < WRITE_ATTEMPTS_MAX:
            return False
        log.error("%s: %s takes no more writes: %s", actor, volume.name, error)
        self._suspect_volume(volume.name, actor, str(error))
        return True

    def _close_full(self, volume: VolumeRef, actor: str) -> None:
        """A volume that holds something takes no more; an empty one was only too small for this package,
        and its capacity is known now."""
        with self._catalog.write() as session:
            if media.volume(session, volume.name).state is VolumeState.ACTIVE:
                media.move_volume(session, volume.pk, VolumeState.FULL, self._catalog.clock.now(), actor)

    def _put(self, order: Order, volume: VolumeRef, store: Store, stop: threading.Event) -> _Unproved:
        with self._catalog.read() as session:
            package = placement.package(session, order.package_pk or 0)
        locator = layout.package_locator(package.key)
        copy_pk, state = self._migrate.begin(package, volume.pk, locator)
        if state in (CopyState.SUSPECT, CopyState.LOST):
            why = f"{package.key} on {volume.name} is {state.value}; another volume is needed"
            raise SourceUnavailable(why)
        there = self._migrate.write(copy_pk, package, store, locator, stop, order.detail)
        return _Unproved(order, copy_pk, package, locator, there.position)

    def _note_written(
        self, volume: VolumeRef, store: Store, unproved: Sequence[_Unproved], actor: str
    ) -> None:
        for done in unproved:
            self._migrate.mark_written(done.copy_pk, done.position)
        room = store.capacity()
        with self._catalog.write() as session:
            # What a life before this one put and did not live to note is on the medium once, and was counted
            # when the volume was mounted: the sum of the copies would count it twice.
            media.set_room(session, volume.pk, room.total, room.free)
            fresh = media.volume(session, volume.name)
            if fresh.state is VolumeState.LABELLED:
                now = self._catalog.clock.now()
                media.move_volume(session, volume.pk, VolumeState.ACTIVE, now, actor)

    def _prove(
        self,
        volume: VolumeRef,
        store: Store,
        unproved: Sequence[_Unproved],
        pending: dict[int, Order],
        stop: threading.Event,
        actor: str,
    ) -> None:
        for done in unproved:
            try:
                self._migrate.prove(done.copy_pk, done.package, store, done.locator, stop)
            except Corrupt as error:
                log.error("%s: read-back failed: %s", volume.name, error)
                del pending[done.order.pk]
                self._retry({done.order.pk: done.order}, actor, f"{volume.name}: {error}")
                continue
            except (Retryable, Permanent) as error:
                if done.order.attempts >= WRITE_ATTEMPTS_MAX:
                    why = f"cannot be read back: {error}"
                    self._migrate.judge(done.copy_pk, CopyState.SUSPECT, why)
                del pending[done.order.pk]
                self._retry({done.order.pk: done.order}, actor, f"{volume.name}: {error}")
                continue
            del pending[done.order.pk]
            now = self._catalog.clock.now()
            with self._catalog.write() as session:
                placement.give_up_unfinished(
                    session,
                    now,
                    actor,
                    f"finished on {volume.name}",
                    package_pk=done.package.pk,
                    pool=done.order.pool,
                )
                queue.done(session, done.order.pk, now, actor)
            log.info("copied %s to %s, read back", done.package.key, volume.name)

    def _suspect_volume(self, barcode: str, actor: str, why: str) -> None:
        """Nobody writes to the volume any more; what was begun on it is begun anew elsewhere."""
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            volume = media.volume(session, barcode)
            media.move_volume(session, volume.pk, VolumeState.SUSPECT, now, actor, why)
            placement.give_up_unfinished(session, now, actor, why, volume_pk=volume.pk)

    def _give_back(self, orders: dict[int, Order], actor: str, why: str) -> None:
        with self._catalog.write() as session:
            for pk in orders:
                queue.give_back(session, pk, self._catalog.clock.now(), actor, why)

    def _retry(self, orders: dict[int, Order], actor: str, why: str) -> None:
        with self._catalog.write() as session:
            for pk in orders:
                queue.retry_later(session, pk, self._catalog.clock.now(), actor, why)
