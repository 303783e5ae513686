"""Recalls: one durable request for each package that must come from a mounted volume.

Everyone who wants the package joins the same request; it outlives them, the daemon and the
operator's shift (promise 6).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from drivers.base import Store
from hsm.availability import quickest as quickest
from hsm.availability import why_none as why_none
from hsm.catalog import placement, queue, queuelooks, requesting, retrievable
from hsm.catalog.engine import Catalog
from hsm.catalog.placement import PackageRef
from hsm.errors import Corrupt, NoSpace, NotFound, Refused, Retryable
from hsm.log import get_logger
from hsm.model import CopyAt, InstanceRef, Place, Priority, Selection
from hsm.passing import Pass
from hsm.reader import Reader
from hsm.staging import Staging
from hsm.states import READABLE_COPIES, CopyState, RequestKind, RequestState
from hsm.streaming import Follower, Span
from hsm.wake import Bell

log = get_logger(__name__)

RING_SECONDS = 0.1
BACK_PRESSURE_SECONDS = 60.0
"""How long one read of a package that passes through waits, all in all, for those who take it. Then it goes
on without the slow ones where others wait for it, or else it ends. What they missed is read again: no drive
is kept for them."""
LOOK_SECONDS = 0.25


class Stopped(Exception):
    """The daemon stops; what is in flight is handed back."""


class ReadAgain(Exception):
    """A package that passes through the staging area was read as far as its waiters take it just now: the
    rest is read when they want it."""


class Postponed(Exception):
    """Nothing of a delivery can be read now; its recalls go on, and others are delivered meanwhile."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """Somebody's place at a recall."""

    request_pk: int
    waiter_pk: int
    follower: Follower
    """What the waiter wants of the package and has not had yet."""


def back_seconds(place: Place | None, size: int) -> float:
    """What bringing a package back takes, in round figures: only comparisons are made with it. Pure.

    :param place: of its quickest copy; None for cold storage.
    """
    fetch = {Place.DRIVE: 60.0, Place.SLOT: 150.0, Place.MAIL: 150.0, Place.SHELF: 1800.0}
    return (fetch.get(place, 14400.0) if place is not None else 14400.0) + size / 300e6


class Recall:
    """Queues recalls, lets waiters join and leave, and brings a package into the staging area."""

    def __init__(self, catalog: Catalog, staging: Staging, reader: Reader, bell: Bell) -> None:
        self._catalog = catalog
        self._staging = staging
        self._reader = reader
        self._bell = bell

    def attach(
        self, package: PackageRef, who: str, priority: Priority, instances: Sequence[InstanceRef] = ()
    ) -> Attachment:
        """Join the package's recall, begun if there is none; the staged package stays pinned until
        :meth:`detach`.

        :param instances: what is wanted of it, for a package that is too large to be staged as a whole.
        """
        self._staging.pin(package.key)
        spans = [Span(each.offset or 0, each.size, each.digest) for each in instances]
        follower = self._staging.streams.follow(package.key, who, spans)
        now = self._catalog.clock.now()
        try:
            with self._catalog.write() as session:
                request_pk = self._join(session, package, who, priority)
                waiter_pk = queue.add_waiter(session, request_pk, who, now)
        except BaseException:
            self._staging.streams.unfollow(follower)
            self._staging.unpin(package.key)
            raise
        self._bell.ring()
        return Attachment(request_pk, waiter_pk, follower)

    def _join(self, session: Session, package: PackageRef, who: str, priority: Priority) -> int:
        """The package's one live recall, begun if there is none."""
        if not self._staging.complete(package.key):
            placement.note_recall(session, package.study_pk)
        request_pk, _ = requesting.enqueue(
            session,
            self._catalog.clock.now(),
            who,
            RequestKind.RECALL,
            f"recall:{package.key}",
            priority=priority,
            reason=who,
            study_pk=package.study_pk,
            package_pk=package.pk,
        )
        return request_pk

    def detach(self, package: PackageRef, attachment: Attachment, *, comes_back: bool = False) -> None:
        """Leave; the recall goes on for others and for the next one who asks.

        :param comes_back: what it wants of a package that passes through is kept for it.
        """
        self._staging.streams.unfollow(attachment.follower, lingers=comes_back)
        self._staging.unpin(package.key)
        with self._catalog.write() as session:
            queue.remove_waiters(session, [attachment.waiter_pk])

    def request_study(self, uid: str, priority: Priority, who: str) -> dict[str, object]:
        """Queue the recall of all packages of a study, or of the one series or instance named.

        :raises NotFound: the catalog has nothing under this UID.
        """
        with self._catalog.read() as session:
            instances = (
                retrievable.select_instances(session, Selection(study_uids=(uid,)))
                or retrievable.select_instances(session, Selection(series_uids=(uid,)))
                or retrievable.select_instances(session, Selection(sop_instance_uids=(uid,)))
            )
            if not instances:
                raise NotFound(f"the catalog has no study, series or instance {uid}")
            pks = sorted({instance.package_pk for instance in instances if instance.package_pk is not None})
            packages = [placement.package(session, pk) for pk in pks]
            copies = placement.copies(session, pks)
        room = self._staging.size_max_bytes
        too_large = [each.key for each in packages if each.size > room and not self._is_here(each, copies)]
        requests, here = self.request_packages(
            [each for each in packages if each.key not in too_large],
            priority,
            who,
            waits=priority < Priority.PREFETCH,
        )
        return {"uid": uid, "packages": len(packages), "readable_now": here, "requests": requests} | (
            {"too_large": too_large} if too_large else {}
        )

    def _is_here(self, package: PackageRef, copies: Mapping[int, Sequence[CopyAt]]) -> bool:
        direct = self._reader.direct_copies(copies[package.pk])
        return bool(direct) or self._staging.complete(package.key)

    def request_packages(
        self,
        packages: Sequence[PackageRef],
        priority: Priority,
        who: str,
        *,
        waits: bool,
        deadline: datetime | None = None,
    ) -> tuple[list[int], int]:
        """Queue the recalls of those of these packages that cannot be read now; their keys, and how many of
        the packages can.

        :param waits: somebody does, and is named as a waiter.
        :param deadline: when they are wanted; of several who say so the earliest counts.
        """
        requests: list[int] = []
        with self._catalog.read() as session:
            copies = placement.copies(session, [each.pk for each in packages])
        for package in packages:
            if self._is_here(package, copies):
                continue
            with self._catalog.write() as session:
                request_pk = self._join(session, package, who, priority)
                if waits:
                    queue.add_waiter(session, request_pk, who, self._catalog.clock.now())
                if deadline is not None:
                    queue.wanted_by(session, request_pk, deadline)
            requests.append(request_pk)
        self._bell.ring()
        return requests, len(packages) - len(requests)

    def progress(self, request_pks: Sequence[int]) -> list[dict[str, object]]:
        """State, error and bytes staged of each of these recalls, and who waits: how many instances of it
        each one wants and has had, as far as that is known here."""
        with self._catalog.read() as session:
            found = []
            for pk in request_pks:
                order = queue.get(session, pk)
                if order.package_pk is None:
                    raise Refused(f"request {pk} is no recall")
                package = placement.package(session, order.package_pk)
                state, error = queuelooks.outcome(session, [pk])[pk]
                waiters: list[dict[str, object]] = [
                    {"who": each.who, "instances": each.wanted, "instances_done": each.wanted - len(each)}
                    for each in self._staging.streams.followers(package.key)
                    if not each.lingers and each.wanted
                ]
                known = {each["who"] for each in waiters}
                waiters += [{"who": who} for who in queuelooks.waiters(session, pk) if who not in known]
                staged = package.size if state is RequestState.DONE else self._staging.arrived(package.key)
                found.append(
                    {
                        "id": pk,
                        "package": package.key,
                        "state": state.value,
                        "error": error,
                        "bytes": package.size,
                        "bytes_done": staged,
                        "waiters": waiters,
                    }
                )
        return found

    def fetch(
        self,
        package: PackageRef,
        copy: CopyAt,
        store: Store,
        stop: threading.Event,
        watch: Callable[[Iterator[bytes]], Iterator[bytes]] = iter,
        expected_until: float = 0.0,
    ) -> None:
        """Read a package from a mounted volume into the staging area, digest-checked.

        Readers may have its instances as they arrive; each of them is checked against its own digest.

        :param watch: the same chunks, looked at on the way.
        :param expected_until: somebody will read it by then (seconds of the wall clock).
        :raises Corrupt: the volume gave other bytes; nothing stays in the staging area.
        :raises NoSpace: pins leave no room in the staging area.
        :raises ReadAgain: it passes through, and somebody has missed something or is not ready for more.
        :raises Stopped: the daemon stops.
        """
        if self._staging.complete(package.key):
            return
        streams = self._staging.streams
        if package.size > self._staging.room_ever() and streams.hungry(package.key) is not None:
            self._pass_through(package, copy, store, stop, watch)
            return
        back = self._back_seconds(self._staging.lacks(package.size))
        writer = self._staging.admit(package.key, package.size, back, expected_until)
        clock = self._catalog.clock
        rung = clock.monotonic()
        try:
            for chunk in watch(store.get(copy.locator)):
                if stop.is_set():
                    raise Stopped
                writer.write(chunk)
                # Who waits for an instance in it looks again, but not for every piece.
                if clock.monotonic() - rung >= RING_SECONDS:
                    rung = clock.monotonic()
                    self._bell.ring()
            writer.commit(package.digest)
        except BaseException:
            writer.abort()
            raise
        log.info("recalled %s from %s", package.key, copy.volume_name)

    def _pass_through(
        self,
        package: PackageRef,
        copy: CopyAt,
        store: Store,
        stop: threading.Event,
        watch: Callable[[Iterator[bytes]], Iterator[bytes]],
    ) -> None:
        """Read what is wanted of a package that does not fit, at the speed of those who take it."""
        try:
            read = self._staging.streams.begin(package.key)
        except NoSpace:
            raise
        except Retryable as error:  # whoever waited has left, or has enough to read: no fault of the drive
            raise ReadAgain(str(error)) from error
        blocked = 0.0
        try:
            for chunk in watch(store.get(copy.locator, read.start, package.size - read.start)):
                rest = memoryview(chunk)
                while rest and not read.over:
                    if stop.is_set():
                        raise Stopped
                    taken = self._take(read, rest)
                    rest = rest[taken:]
                    if taken:
                        self._bell.ring()
                    elif blocked < BACK_PRESSURE_SECONDS:
                        self._catalog.clock.wait(read.moved, LOOK_SECONDS)
                        blocked += LOOK_SECONDS
                    elif read.leave_behind():
                        blocked = 0.0
                    else:
                        raise ReadAgain(f"{package.key} waits for those who take it: the rest is read then")
                if read.over:
                    break
        finally:
            read.close()
            self._bell.ring()
        if missed := read.wanted_again:
            raise ReadAgain(f"{package.key} is read again for {missed}")
        log.info("%s passed through the staging area from %s", package.key, copy.volume_name)

    def _take(self, read: Pass, data: memoryview) -> int:
        try:
            return read.write(data)
        except NoSpace:
            raise
        except Retryable as error:  # the staging area's disk, not the volume
            raise ReadAgain(str(error)) from error

    def _back_seconds(self, keys: Sequence[str]) -> dict[str, float]:
        """What it would take to bring staged packages back, if they are evicted."""
        if not keys:
            return {}
        with self._catalog.read() as session:
            packages = placement.packages_named(session, keys)
            copies = placement.copies(session, [each.pk for each in packages])
        found = {}
        for package in packages:
            held = copies[package.pk]
            if self._reader.direct_copies(held):
                found[package.key] = 0.0
            elif (copy := quickest(held)) is not None:
                found[package.key] = back_seconds(copy.place, package.size)
            elif self._reader.cold_copies(held):
                found[package.key] = back_seconds(None, package.size)
        return found

    def suspect(self, copy: CopyAt, error: Corrupt | NotFound) -> None:
        """The medium gave other bytes than were written to it: take the copy out of use."""
        log.error("%s on %s is suspect: %s", copy.locator, copy.volume_name, error)
        with self._catalog.write() as session:
            if placement.state_of(session, copy.copy_pk) in READABLE_COPIES:
                placement.move_copy(
                    session,
                    copy.copy_pk,
                    CopyState.SUSPECT,
                    self._catalog.clock.now(),
                    "recall",
                    why=str(error),
                )
