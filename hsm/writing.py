"""The writing half of a drive session: put everything, flush once, read back what the pool's policy says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hsm import layout
from hsm.anchoring import Anchoring
from hsm.assignment import Assignment, Mounted, left
from hsm.catalog import details, media, placement, queue
from hsm.catalog.engine import Catalog
from hsm.catalog.media import VolumeRef
from hsm.catalog.orders import Order
from hsm.catalog.placement import PackageRef
from hsm.catalog.usage import Tally
from hsm.copysource import SourceUnavailable
from hsm.driveuse import DriveUse
from hsm.errors import Corrupt, DriverError, NoSpace, Permanent, Retryable
from hsm.log import get_logger
from hsm.migrate import Migrate
from hsm.model import Priority
from hsm.pools import Pools
from hsm.sessionends import SessionEnds
from hsm.states import CopyState, RequestKind, VolumeState

log = get_logger(__name__)

PROOF_ATTEMPTS_MAX = 3
"""How often a copy's reading back is tried before another volume takes its place."""


@dataclass(frozen=True, slots=True)
class _Unproved:
    """A package that was put but is not yet flushed and read back."""

    order: Order
    copy_pk: int
    package: PackageRef
    locator: str
    position: int | None
    fresh: bool
    """Put in this session, and not one that waits for its reading back only."""


class Writing:
    """Writes packages to a mounted volume and proves them. It keeps no state between sessions."""

    def __init__(
        self,
        catalog: Catalog,
        pools: Pools,
        use: DriveUse,
        migrate: Migrate,
        ends: SessionEnds,
        anchors: Anchoring | None = None,
    ) -> None:
        """
        :param anchors: what puts the journal's head onto each volume that is flushed.
        """
        self._catalog = catalog
        self._pools = pools
        self._use = use
        self._migrate = migrate
        self._ends = ends
        self._anchors = anchors

    def write(self, at: Mounted) -> None:
        """Put all packages, flush once (on tape that writes the index), then read each one back.

        When something more urgent needs the drive, what was put until then is flushed, so that it is on the
        medium for good, and read back later; the rest is handed back.
        """
        work, volume, store, pending = at.work, at.volume, at.store, at.pending
        unproved: list[_Unproved] = []
        full, room_for = False, ""
        for order in work.orders:
            if order.kind is not RequestKind.COPY or order.pk not in pending:
                continue
            if at.stop.is_set() or full:
                break
            if room_for := work.makes_room(left(order.pk, pending, [each.order.pk for each in unproved])):
                break
            try:
                done = self._put(order, at)
            except NoSpace as error:
                log.info("%s is full: %s", volume.name, error)
                full = True
            except SourceUnavailable as error:
                del pending[order.pk]
                self._ends.retry({order.pk: order}, work.actor, str(error))
            except (Retryable, Permanent) as error:
                self._write_failed(at, [order.pk], error)
                return
            else:
                at.tally.wrote(done.package.size if done.fresh else 0)
                unproved.append(done)
        if unproved:
            try:
                noted = self._anchors.note(store, volume.name) if self._anchors else None
                store.flush()
            except (Retryable, Permanent) as error:
                lost = [each.order.pk for each in unproved]
                self._write_failed(at, lost, error)
                return
            self._note_written(at, unproved)
            if self._anchors and noted:
                self._anchors.noted(noted, store, volume.name, work.actor)
            now, later = ([], unproved) if room_for else self._to_prove(work, unproved)
            room_for = room_for or self._prove(at, now)
            later += [each for each in now if each.order.pk in pending] if room_for else []
            self._prove_later(at, later, room_for)
        if full:
            self._close_full(volume, work.actor)
        if pending:
            why = f"{volume.name} is full" if full else room_for or "the daemon stops"
            self._ends.give_back(pending, work.actor, why)

    def _write_failed(self, at: Mounted, failed: Sequence[int], error: DriverError) -> None:
        """Everything of the session that is not proved is queued again, and counts for nothing. Drive and
        cartridge are both under suspicion: another drive is tried first, and a cartridge that fails there
        too (or in the only one) takes no more writes."""
        volume, actor, pending = at.volume, at.work.actor, at.pending
        if self._ends.failed(at.work, error, at.tally).volume_suspect:
            log.error("%s: %s takes no more writes: %s", actor, volume.name, error)
            self._ends.suspect_volume(volume.name, actor, str(error))
        why = f"{volume.name}: {error}"
        self._ends.retry({pk: pending[pk] for pk in failed}, actor, why)
        self._ends.give_back({pk: each for pk, each in pending.items() if pk not in failed}, actor, why)

    def _to_prove(
        self, work: Assignment, unproved: Sequence[_Unproved]
    ) -> tuple[list[_Unproved], list[_Unproved]]:
        """What is read back in this session and what later, as the pool's policy has it. What waits for
        its reading back only is always read back now."""
        fresh = [each for each in unproved if each.fresh]
        read_back = self._pools.tapes[work.pool].read_back
        if read_back.other_drive and not self._use.others(work.library, work.drive):
            return list(unproved), []
        many = read_back.at_once(len(fresh))
        # Evenly spread, and the last one always: what is written near the end fails first.
        chosen = {len(fresh) - 1 - number * len(fresh) // many for number in range(many)} if many else set()
        later = [each for number, each in enumerate(fresh) if number not in chosen]
        return [each for each in unproved if each not in later], later

    def _prove_later(self, at: Mounted, later: Sequence[_Unproved], room_for: str) -> None:
        """The copy is written and counts for nothing yet: its request goes on with the reading back, as
        urgent as it was where only something more urgent keeps the session from it."""
        work = at.work
        read_back = self._pools.tapes[work.pool].read_back
        other = {details.WRITTEN_IN: [work.library, work.drive]} if read_back.other_drive else {}
        why = "is read back in another drive" if other else "is read back when the drives have time"
        with self._catalog.write() as session:
            for each in later:
                del at.pending[each.order.pk]
                queue.prove_later(
                    session,
                    each.order.pk,
                    self._catalog.clock.now(),
                    work.actor,
                    room_for or why,
                    priority=each.order.priority if other or room_for else Priority.SCRUB,
                    detail=other,
                )

    def _close_full(self, volume: VolumeRef, actor: str) -> None:
        """A volume that holds something takes no more; an empty one was only too small for this package,
        and its capacity is known now."""
        with self._catalog.write() as session:
            if media.volume(session, volume.name).state is VolumeState.ACTIVE:
                media.move_volume(session, volume.pk, VolumeState.FULL, self._catalog.clock.now(), actor)

    def _put(self, order: Order, at: Mounted) -> _Unproved:
        with self._catalog.read() as session:
            package = placement.package(session, order.package_pk or 0)
        volume, locator = at.volume, layout.package_locator(package.key)
        copy_pk, state = self._migrate.begin(package, volume.pk, locator)
        if state in (CopyState.SUSPECT, CopyState.LOST):
            why = f"{package.key} on {volume.name} is {state.value}; another volume is needed"
            raise SourceUnavailable(why)
        there = self._migrate.write(copy_pk, package, at.store, locator, at.stop, order.detail)
        return _Unproved(order, copy_pk, package, locator, there.position, state is CopyState.WRITING)

    def _note_written(self, at: Mounted, unproved: Sequence[_Unproved]) -> None:
        volume = at.volume
        for done in unproved:
            self._migrate.mark_written(done.copy_pk, done.position)
        room = at.store.capacity()
        with self._catalog.write() as session:
            # What a life before this one put and did not live to note is on the medium once, and was counted
            # when the volume was mounted: the sum of the copies would count it twice.
            media.set_room(session, volume.pk, room.total, room.free)
            fresh = media.volume(session, volume.name)
            if fresh.state is VolumeState.LABELLED:
                now = self._catalog.clock.now()
                media.move_volume(session, volume.pk, VolumeState.ACTIVE, now, at.work.actor)

    def _prove(self, at: Mounted, unproved: Sequence[_Unproved]) -> str:
        """Read back; why it stopped on the way for something more urgent, or empty."""
        work, volume, pending, actor = at.work, at.volume, at.pending, at.work.actor
        for done in unproved:
            if why := work.makes_room(left(done.order.pk, pending)):
                return why
            try:
                self._migrate.proofs.prove(done.copy_pk, done.package, at.store, done.locator, at.stop)
            except Corrupt as error:
                log.error("%s: read-back failed: %s", volume.name, error)
                at.tally.failed = True
                self._use.count(
                    work.library, work.drive, work.barcode, Tally(errors=[f"read-back failed: {error}"])
                )
                del pending[done.order.pk]
                self._ends.retry({done.order.pk: done.order}, actor, f"{volume.name}: {error}")
                continue
            except (Retryable, Permanent) as error:
                certain = self._ends.failed(work, error, at.tally).certain
                if certain or done.order.attempts >= PROOF_ATTEMPTS_MAX:
                    why = f"cannot be read back: {error}"
                    self._migrate.proofs.judge(done.copy_pk, CopyState.SUSPECT, why)
                del pending[done.order.pk]
                self._ends.retry({done.order.pk: done.order}, actor, f"{volume.name}: {error}")
                continue
            at.tally.read(done.package.size)
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
        return ""
