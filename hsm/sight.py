"""What the dispatcher sees: the queue's drive work, the volumes and the drives, as the planner's values."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from hsm import planner
from hsm.blame import Pair
from hsm.catalog import details, media, placement, prompts, queuelooks, usage
from hsm.catalog.orders import Order
from hsm.claims import Drives
from hsm.drivework import Beside, enough, nowhere, readable_now, reads, write
from hsm.errors import DriverError
from hsm.locate import located
from hsm.log import get_logger
from hsm.model import CopyAt, Place
from hsm.pools import Pools
from hsm.reader import Reader
from hsm.sources import colder, equals, source, why_no_source
from hsm.staging import Staging
from hsm.states import RequestKind

log = get_logger(__name__)

REQUESTS_MAX = 2000
"""The most requests of a kind (and pool, where they write) that one look considers, the most urgent ones;
the others' turn comes. Each has its own: what waits for a blank volume of one pool is in nobody's way."""
FAILING_FOR = timedelta(hours=24)
"""How long an error keeps a drive and a cartridge apart."""
_TOO_LARGE = (
    "{0.key} of {0.size} bytes is larger than the whole staging area of {1}: it passes through to those who "
    "retrieve it, and nobody does; or raise staging.size_max_bytes"
)


@dataclass(frozen=True, slots=True)
class Picture:
    """One consistent look."""

    work: tuple[planner.Work, ...]
    volumes: tuple[planner.VolumeAt, ...]
    ready: tuple[int, ...]
    """Requests that need nothing any more: recalls of what can be read already, copies that are there."""
    hopeless: tuple[tuple[int, str], ...]
    """Requests that nothing can serve, and why."""
    sources: tuple[placement.PackageRef, ...]
    """Packages that are to be copied and must be recalled first, the most urgent first."""
    coming: frozenset[int]
    """Packages whose recall is queued."""
    awaited: tuple[int, ...]
    """Volumes that waiting requests wait for."""
    asked: bool
    """An operator is asked for some volume."""
    off: Mapping[tuple[str, int], str] = field(default_factory=dict)
    """Drives that are out of service (library, address), and why."""
    pairs: tuple[Pair, ...] = ()
    """What each drive did with each cartridge lately."""
    limits: Mapping[int, tuple[str, int]] = field(default_factory=dict)
    """Of requests whose policy limits its drives: the policy, and how many."""
    costs: Mapping[str, planner.LocateCost] = field(default_factory=dict)
    """What moving the head costs, by barcode, of volumes with several reads."""

    too_large: tuple[tuple[int, str, str], ...] = ()
    """Recalls of packages that only pass through the staging area and that nobody waits for: request, package
    and why they end."""
    cold: tuple[tuple[int, CopyAt], ...] = ()
    """Recalls that are asked of cold storage, and of which copy."""

    @property
    def empty(self) -> bool:
        return not (
            self.cold
            or self.work
            or self.ready
            or self.hopeless
            or self.too_large
            or self.sources
            or self.awaited
            or self.asked
        )

    def limits_of(self, request_pks: Iterable[int]) -> dict[str, int]:
        """Drives at the same time, by policy, of the policies of these requests that limit them."""
        return dict(self.limits[pk] for pk in request_pks if pk in self.limits)

    def pool_of(self, request_pk: int) -> str:
        return next(work.pool for work in self.work if work.request_pk == request_pk)

    def works(self, request_pks: Iterable[int]) -> list[planner.Work]:
        """The work of these requests, in this order."""
        known = {each.request_pk: each for each in self.work}
        return [known[pk] for pk in request_pks if pk in known]


class _Sorting:
    """One look while it goes through the queue: where each request belongs."""

    def __init__(
        self,
        session: Session,
        orders: Sequence[Order],
        known: Sequence[media.VolumeRef],
        off: Collection[tuple[str, int]],
        staging: Staging,
        reader: Reader,
    ) -> None:
        self._staging = staging
        self._reader = reader
        self._packages = placement.packages(session, _packages(orders))
        self._copies = placement.copies(session, _packages(orders))
        self.volumes = _volumes(known, off)
        self._stuck = {v.barcode for v in self.volumes.values() if _is_stuck(v.library, v.drive, off)}
        self._draining = {each.pk for each in known if each.drain_to}
        self._writing = queuelooks.copies_under_way(session)
        self._beside = Beside(session, orders)
        self._failed = queuelooks.failed_recalls(session, _packages(orders, RequestKind.COPY))
        self._room = staging.room_ever()
        self.writes: list[planner.Work] = []
        self.reads: list[tuple[Order, int, Sequence[CopyAt]]] = []
        self.ready: list[int] = []
        self.hopeless: list[tuple[int, str]] = []
        self.too_large: list[tuple[int, str, str]] = []
        self.cold: list[tuple[int, CopyAt]] = []
        self.sources: list[placement.PackageRef] = []

    def take(self, order: Order) -> None:
        if order.package_pk is None:
            return
        package, held = self._packages[order.package_pk], self._copies[order.package_pk]
        if order.kind is RequestKind.COPY:
            self._copy(order, package, held)
        elif order.kind is not RequestKind.RECALL:
            self._read(order, package, held)
        elif self._staging.complete(package.key) or self._reader.direct_copies(held):
            self.ready.append(order.pk)
        elif not self._passes_by(order, package):
            self._read(order, package, held)

    def _passes_by(self, order: Order, package: placement.PackageRef) -> bool:
        """Whether the package is too large for the staging area, and nobody is there to take it as it passes
        through."""
        if package.size <= self._room:
            return False
        hungry = self._staging.streams.hungry(package.key)
        whole = self._staging.size_max_bytes
        if hungry is None and package.size > whole:
            self.too_large.append((order.pk, package.key, _TOO_LARGE.format(package, whole)))
            return True
        return hungry is False

    def _copy(self, order: Order, package: placement.PackageRef, held: Sequence[CopyAt]) -> None:
        if enough(order, held, self._draining):
            self.ready.append(order.pk)
        elif not readable_now(order, package, held, self._staging, self._reader):
            if (why := nowhere(order, self._failed.get(package.pk))) is not None:
                self.hopeless.append((order.pk, why))
            else:
                self.sources.append(package)
        # One at a time of a package and pool: where the second may go depends on where the first went.
        elif (package.pk, order.pool or "") not in self._writing:
            self._writing.add((package.pk, order.pool or ""))
            self.writes.append(write(order, package.size, held, self.volumes, self._beside))

    def _read(self, order: Order, package: placement.PackageRef, held: Sequence[CopyAt]) -> None:
        copy = source(order, held, self._stuck)
        if order.kind is RequestKind.RECALL and (frozen := colder(copy, self._reader.cold_copies(held))):
            self.cold.append((order.pk, frozen))
        elif copy is not None:
            self.reads.append((order, package.size, equals(order, held, copy, self._stuck)))
        elif not self._reader.disk_copies(held):  # else its file system is away and comes back
            self.hopeless.append((order.pk, why_no_source(order, held)))


def look(
    session: Session,
    pools: Pools,
    staging: Staging,
    reader: Reader,
    now: datetime,
    busy: Collection[str] = (),
) -> Picture:
    """Read the queue and turn each request into the work that would serve it.

    :param busy: volumes that sessions have now.
    """
    orders = _orders(session, pools, now)
    off = usage.out_of_service(session)
    known = [each for each in media.volumes(session) if each.library in pools.libraries]
    found = _Sorting(session, orders, known, off, staging, reader)
    for order in orders:
        found.take(order)
    awaited = tuple(queuelooks.awaited_volumes(session))
    work = [*found.writes, *reads(found.reads, _at_hand(found.volumes, awaited, busy))]
    with_ends, costs = located(session, work, known)
    return Picture(
        with_ends,
        tuple(found.volumes.values()),
        tuple(found.ready),
        tuple(found.hopeless),
        tuple(found.sources),
        frozenset(_packages(orders, RequestKind.RECALL)),
        awaited,
        bool(prompts.open_mount_requests(session)),
        off,
        tuple(usage.pairs(session, now - FAILING_FOR)),
        {order.pk: limit for order in orders if (limit := _drive_limit(order)) is not None},
        costs,
        cold=tuple(found.cold),
        too_large=tuple(found.too_large),
    )


def _packages(orders: Iterable[Order], kind: RequestKind | None = None) -> set[int]:
    """Primary keys of the packages that these requests (of one kind) are about."""
    return {
        order.package_pk for order in orders if order.package_pk is not None and kind in (None, order.kind)
    }


def _at_hand(
    volumes: Mapping[int, planner.VolumeAt], awaited: Collection[int], busy: Collection[str]
) -> list[str]:
    """Volumes that lie in an idle drive, or that an operator brings anyway."""
    return [
        volume.barcode
        for pk, volume in volumes.items()
        if pk in awaited or (volume.place is Place.DRIVE and volume.barcode not in busy)
    ]


def _drive_limit(order: Order) -> tuple[str, int] | None:
    most = order.detail.get(details.LIMITS, {}).get("drives")
    return (str(order.detail.get(details.POLICY, "")), int(most)) if most else None


def within_drives(picture: Picture, using: Mapping[str, int]) -> list[planner.Work]:
    """The work less that of policies that use as many drives as they may already."""
    return [
        each
        for each in picture.work
        if (limit := picture.limits.get(each.request_pk)) is None or using.get(limit[0], 0) < limit[1]
    ]


def _orders(session: Session, pools: Pools, now: datetime) -> list[Order]:
    """What needs a drive, at most :data:`REQUESTS_MAX` of each sort."""
    disks, tapes = pools.disk_names, frozenset(pools.tapes)
    orders = queuelooks.queued_work(session, now, RequestKind.RECALL, disks, REQUESTS_MAX)
    orders += queuelooks.queued_work(session, now, RequestKind.VERIFY, disks, REQUESTS_MAX)
    for pool in pools.tapes:
        orders += queuelooks.queued_work(
            session, now, RequestKind.COPY, (disks | tapes) - {pool}, REQUESTS_MAX
        )
    return orders


def drives(pools: Pools, use: Drives, off: Collection[tuple[str, int]] = ()) -> tuple[planner.DriveAt, ...]:
    """Every drive as its changer sees it now. A changer that does not answer has none: the others'
    work goes on."""
    found: list[planner.DriveAt] = []
    for name, library in pools.libraries.items():
        try:
            seen = library.inventory()
        except DriverError as error:
            log.error("library %s: %s", name, error)
            continue
        found += [
            planner.DriveAt(
                name,
                drive.address,
                drive.barcode,
                use.busy(name, drive.address),
                (name, drive.address) not in off,
            )
            for drive in seen.drives()
        ]
    return tuple(found)


def _is_stuck(library: str | None, drive: int | None, off: Collection[tuple[str, int]]) -> bool:
    """Whether a volume lies in a drive that is out of service."""
    return library is not None and drive is not None and (library, drive) in off


def _volumes(
    known: Sequence[media.VolumeRef], off: Collection[tuple[str, int]]
) -> dict[int, planner.VolumeAt]:
    """By key. A capacity of zero is a cartridge that no drive has seen yet: as large as the largest of
    its library, so that a package larger than all does not use up one blank volume after the other."""
    largest: dict[str | None, int] = {}
    for volume in known:
        largest[volume.library] = max(largest.get(volume.library, 0), volume.capacity)
    return {
        volume.pk: _volume(volume, volume.capacity or largest[volume.library] or 1 << 62, off)
        for volume in known
    }


def _volume(volume: media.VolumeRef, capacity: int, off: Collection[tuple[str, int]]) -> planner.VolumeAt:
    drive = volume.element if volume.place is Place.DRIVE else None
    return planner.VolumeAt(
        barcode=volume.name,
        pool=volume.pool,
        place=volume.place,
        library=volume.library,
        writable=volume.takes_writes and not _is_stuck(volume.library, drive, off),
        free=capacity - volume.used,
        drive=drive,
    )
