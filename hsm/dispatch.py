"""What the dispatcher sees: the queue's drive work, the volumes and the drives, as the planner's values."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from hsm import planner
from hsm.blame import Pair
from hsm.catalog import media, placement, prompts, queue, together, usage
from hsm.catalog.queue import Order
from hsm.catalog.together import PATIENT
from hsm.custody import Drives
from hsm.errors import DriverError
from hsm.guard import GOOD_VOLUMES
from hsm.locate import located
from hsm.log import get_logger
from hsm.model import CopyAt, Place
from hsm.pools import Pools
from hsm.reader import Reader
from hsm.sources import colder, equals, source, why_no_source
from hsm.staging import Staging
from hsm.states import CopyState, RequestKind

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
    wanted = {order.package_pk for order in orders if order.package_pk is not None}
    copies = placement.copies(session, wanted)
    packages = placement.packages(session, wanted)
    off = usage.out_of_service(session)
    known = [each for each in media.volumes(session) if each.library in pools.libraries]
    volumes = _volumes(known, off)
    writing = queue.copies_under_way(session)
    beside = _Beside(session, orders)
    stuck = {volume.barcode for volume in volumes.values() if _is_stuck(volume.library, volume.drive, off)}
    work: list[planner.Work] = []
    ready: list[int] = []
    hopeless: list[tuple[int, str]] = []
    too_large: list[tuple[int, str, str]] = []
    cold: list[tuple[int, CopyAt]] = []
    sources: list[placement.PackageRef] = []
    reads: list[tuple[Order, int, Sequence[CopyAt]]] = []
    failed = queue.failed_recalls(
        session, [order.package_pk or 0 for order in orders if order.kind is RequestKind.COPY]
    )
    draining = {each.pk for each in known if each.drain_to}
    room = staging.room_ever()
    for order in orders:
        if order.package_pk is None:
            continue
        package = packages[order.package_pk]
        held = copies[order.package_pk]
        if order.kind is RequestKind.RECALL and (staging.complete(package.key) or reader.direct_copies(held)):
            ready.append(order.pk)
            continue
        if order.kind is RequestKind.RECALL and package.size > room:
            # It passes through to those who wait, as they take it.
            hungry = staging.streams.hungry(package.key)
            if hungry is None and package.size > staging.size_max_bytes:
                too_large.append((order.pk, package.key, _TOO_LARGE.format(package, staging.size_max_bytes)))
                continue
            if hungry is False:
                continue
        if order.kind is RequestKind.COPY and _enough(order, held, draining):
            ready.append(order.pk)
            continue
        if order.kind is RequestKind.COPY and not _readable_now(order, package, held, staging, reader):
            if (hopeless_since := _nowhere(order, failed.get(package.pk))) is not None:
                hopeless.append((order.pk, hopeless_since))
            else:
                sources.append(package)
            continue
        if order.kind is RequestKind.COPY:
            # One at a time of a package and pool: where the second may go depends on where the first went.
            if (package.pk, order.pool or "") not in writing:
                writing.add((package.pk, order.pool or ""))
                work.append(_write(order, package.size, held, volumes, beside))
            continue
        copy = source(order, held, stuck)
        if order.kind is RequestKind.RECALL and (frozen := colder(copy, reader.cold_copies(held))):
            cold.append((order.pk, frozen))
            continue
        if copy is None and reader.disk_copies(held):
            continue  # its file system is away and comes back
        if copy is None:
            hopeless.append((order.pk, why_no_source(order, held)))
            continue
        reads.append((order, package.size, equals(order, held, copy, stuck)))
    awaited = tuple(queue.awaited_volumes(session))
    work += _reads(reads, _at_hand(volumes, awaited, busy))
    with_ends, costs = located(session, work, known)
    return Picture(
        with_ends,
        tuple(volumes.values()),
        tuple(ready),
        tuple(hopeless),
        tuple(sources),
        frozenset(order.package_pk or 0 for order in orders if order.kind is RequestKind.RECALL),
        awaited,
        bool(prompts.open_mount_requests(session)),
        off,
        tuple(usage.pairs(session, now - FAILING_FOR)),
        {order.pk: limit for order in orders if (limit := _drive_limit(order)) is not None},
        costs,
        cold=tuple(cold),
        too_large=tuple(too_large),
    )


def _at_hand(
    volumes: Mapping[int, planner.VolumeAt], awaited: Collection[int], busy: Collection[str]
) -> list[str]:
    """Volumes that lie in an idle drive, or that an operator brings anyway."""
    return [
        volume.barcode
        for pk, volume in volumes.items()
        if pk in awaited or (volume.place is Place.DRIVE and volume.barcode not in busy)
    ]


def _reads(
    reads: Sequence[tuple[Order, int, Sequence[CopyAt]]], at_hand: Collection[str]
) -> list[planner.Work]:
    """What is read, each from the one of its equally quick copies that saves mounts."""
    picked = planner.share_volumes(
        {order.pk: [copy.volume_name for copy in equal] for order, _, equal in reads}, at_hand
    )
    found = []
    for order, size, equal in reads:
        copy = next(each for each in equal if each.volume_name == picked[order.pk])
        found.append(
            planner.Work(
                request_pk=order.pk,
                kind="verify" if order.kind is RequestKind.VERIFY else "read",
                volume=copy.volume_name,
                pool=copy.pool,
                priority=order.priority,
                created=order.created_at,
                size=size,
                position=copy.position,
                deadline=order.deadline,
            )
        )
    return found


def _drive_limit(order: Order) -> tuple[str, int] | None:
    most = order.detail.get(queue.LIMITS, {}).get("drives")
    return (str(order.detail.get(queue.POLICY, "")), int(most)) if most else None


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
    orders = queue.queued_work(session, now, RequestKind.RECALL, disks, REQUESTS_MAX)
    orders += queue.queued_work(session, now, RequestKind.VERIFY, disks, REQUESTS_MAX)
    for pool in pools.tapes:
        orders += queue.queued_work(session, now, RequestKind.COPY, (disks | tapes) - {pool}, REQUESTS_MAX)
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


class _Beside:
    """Where copies belong that shall lie beside others (``colocate``), by pool and word."""

    def __init__(self, session: Session, orders: Sequence[Order]) -> None:
        self._patients: dict[str, dict[str, set[str]]] = {}
        self._groups: dict[str, dict[str, tuple[str, ...]]] = {}
        words: dict[str, set[str]] = {}
        for order in orders:
            if order.kind is RequestKind.COPY and order.detail.get(queue.TOGETHER):
                words.setdefault(order.pool or "", set()).update(order.detail[queue.TOGETHER])
        for pool, found in words.items():
            patients = [word.removeprefix(PATIENT) for word in found if word.startswith(PATIENT)]
            self._patients[pool] = together.volumes_of_patients(session, pool, sorted(patients))
            if together.group_of(found):
                self._groups[pool] = together.groups_of_volumes(session, pool)

    def of(self, order: Order) -> tuple[frozenset[str], frozenset[str], tuple[str, ...]]:
        """Volumes to prefer, volumes to keep off, and the group."""
        words, pool = order.detail.get(queue.TOGETHER, ()), order.pool or ""
        group = together.group_of(words)
        groups = self._groups.get(pool, {}) if group else {}
        same = {volume for volume, words_there in groups.items() if words_there == group}
        patient = next((word.removeprefix(PATIENT) for word in words if word.startswith(PATIENT)), None)
        theirs = self._patients.get(pool, {}).get(patient, set()) if patient else set()
        # What counts most decides where the two do not agree.
        first = theirs if words and words[0].startswith(PATIENT) else same
        near = (theirs & same) or first or theirs or same
        return frozenset(near), frozenset(groups.keys() - same), group


def _write(
    order: Order,
    size: int,
    held: Sequence[CopyAt],
    volumes: Mapping[int, planner.VolumeAt],
    beside: _Beside,
) -> planner.Work:
    """A copy to make: on the volume where an earlier attempt began it, if it can be finished there; else
    wherever there is room, but never on a volume that has the package already."""
    written = next((copy for copy in _begun(order, held, CopyState.WRITTEN)), None)
    begun = next(
        (
            copy
            for copy in _begun(order, held, CopyState.WRITING)
            if (volume := volumes.get(copy.volume_pk)) is not None
            and volume.writable
            and volume.in_library
            and size <= volume.room
        ),
        None,
    )
    to = written or begun
    near, apart, group = beside.of(order) if to is None else (frozenset[str](), frozenset[str](), ())
    return planner.Work(
        request_pk=order.pk,
        # What is written needs only its reading back, and no more room for that.
        kind="verify" if written else "write",
        volume=to.volume_name if to else None,
        pool=order.pool or "",
        priority=order.priority,
        created=order.created_at,
        size=size,
        position=written.position if written else None,
        not_on=frozenset(copy.volume_name for copy in held) if to is None else frozenset(),
        near=near,
        apart=apart,
        group=group,
        not_in=_not_in(order) if written else frozenset(),
    )


def _not_in(order: Order) -> frozenset[tuple[str, int]]:
    """The drive that wrote the copy, where another one shall read it back."""
    written_in = order.detail.get(queue.WRITTEN_IN)
    return frozenset({(str(written_in[0]), int(written_in[1]))}) if written_in else frozenset()


def _readable_now(
    order: Order, package: placement.PackageRef, held: Sequence[CopyAt], staging: Staging, reader: Reader
) -> bool:
    """Whether a copy can be made without a recall: it is begun and only to be read back, or the bytes are on
    a disk or in the staging area."""
    begun = bool(_begun(order, held, CopyState.WRITTEN))
    return begun or bool(reader.direct_copies(held)) or staging.complete(package.key)


def _nowhere(order: Order, failed: tuple[datetime, str] | None) -> str | None:
    """Why a copy can never be made: its recall has failed since somebody last wanted it."""
    if failed is None or order.not_before is None or failed[0] < order.not_before:
        return None
    return f"the package can nowhere be read: {failed[1]}"


def _enough(order: Order, held: Sequence[CopyAt], draining: Collection[int] = ()) -> bool:
    """Whether the pool has as many verified copies as policy wanted when it asked: a request whose end
    was lost in a crash must not make one more. For a repack what lies on volumes that are emptied does not
    count."""
    if queue.FROM in order.detail:
        held = [copy for copy in held if copy.volume_pk not in draining]
    good = [
        copy
        for copy in held
        if copy.pool == order.pool and copy.state == CopyState.VERIFIED and copy.volume_state in GOOD_VOLUMES
    ]
    wanted: int = order.detail.get(queue.COPIES, 1)
    return len(good) >= wanted


def _begun(order: Order, held: Sequence[CopyAt], state: CopyState) -> list[CopyAt]:
    return [
        copy
        for copy in held
        if copy.pool == order.pool and copy.state == state and copy.volume_state in GOOD_VOLUMES
    ]


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
