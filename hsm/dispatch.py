"""What the dispatcher sees: the queue's drive work, the volumes and the drives, as the planner's values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from drivers.base import ElementKind
from hsm import planner
from hsm.catalog import media, placement, queue
from hsm.catalog.queue import Order
from hsm.custody import Drives
from hsm.model import CopyAt, Place
from hsm.pools import Pools
from hsm.recall import quickest
from hsm.staging import Staging
from hsm.states import CopyState, RequestKind, RequestState, VolumeState

WRITABLE = (VolumeState.SCRATCH, VolumeState.LABELLED, VolumeState.ACTIVE)
UNFINISHED = (CopyState.WRITING, CopyState.WRITTEN)


@dataclass(frozen=True, slots=True)
class Picture:
    """One consistent look."""

    work: tuple[planner.Work, ...]
    volumes: tuple[planner.VolumeAt, ...]
    ready: tuple[int, ...]
    """Recalls of packages that can be read already."""
    hopeless: tuple[tuple[int, str], ...]
    """Requests that nothing can serve, and why."""
    awaited: tuple[int, ...]
    """Volumes that waiting requests wait for."""

    @property
    def empty(self) -> bool:
        return not (self.work or self.ready or self.hopeless or self.awaited)

    def pool_of(self, request_pk: int) -> str:
        return next(work.pool for work in self.work if work.request_pk == request_pk)


def look(session: Session, pools: Pools, staging: Staging, now: datetime) -> Picture:
    """Read the queue and turn each request into the work that would serve it."""
    kinds = (RequestKind.COPY, RequestKind.VERIFY, RequestKind.RECALL)
    orders = [order for order in queue.waiting_work(session, now, kinds) if order.pool not in pools.disks]
    copies = placement.copies(session, {order.package_pk for order in orders if order.package_pk is not None})
    work: list[planner.Work] = []
    ready: list[int] = []
    hopeless: list[tuple[int, str]] = []
    awaited = [
        order.volume_pk
        for order in orders
        if order.state is RequestState.WAITING and order.volume_pk is not None
    ]
    for order in orders:
        if order.state is not RequestState.QUEUED or order.package_pk is None:
            continue
        package = placement.package(session, order.package_pk)
        held = copies[order.package_pk]
        if order.kind is RequestKind.RECALL and (
            staging.complete(package.key) or any(pools.disk_by_volume(copy.volume_pk) for copy in held)
        ):
            ready.append(order.pk)
            continue
        if order.kind is RequestKind.COPY:
            work.append(_write(order, package.size, held))
            continue
        copy = _source(order, held)
        if copy is None:
            hopeless.append((order.pk, "no copy that can be read is left"))
            continue
        work.append(
            planner.Work(
                request_pk=order.pk,
                kind="verify" if order.kind is RequestKind.VERIFY else "read",
                volume=copy.volume_name,
                pool=copy.pool,
                priority=order.priority,
                created=order.created_at,
                size=package.size,
                position=copy.position,
            )
        )
    volumes = tuple(_volume(volume) for volume in media.volumes(session) if volume.library in pools.libraries)
    return Picture(tuple(work), volumes, tuple(ready), tuple(hopeless), tuple(awaited))


def drives(pools: Pools, use: Drives) -> tuple[planner.DriveAt, ...]:
    """Every drive as its changer sees it now."""
    return tuple(
        planner.DriveAt(name, element.address, element.barcode, use.busy(name, element.address))
        for name, library in pools.libraries.items()
        for element in library.inventory().elements
        if element.kind is ElementKind.DRIVE
    )


def _write(order: Order, size: int, held: Sequence[CopyAt]) -> planner.Work:
    """A copy to make: on the volume where a crashed attempt began it, else wherever there is room but
    never on a volume that has the package already."""
    begun = next(
        (
            copy.volume_name
            for copy in held
            if copy.pool == order.pool and copy.state in UNFINISHED and copy.volume_state in WRITABLE
        ),
        None,
    )
    return planner.Work(
        request_pk=order.pk,
        kind="write",
        volume=begun,
        pool=order.pool or "",
        priority=order.priority,
        created=order.created_at,
        size=size,
        position=None,
    )


def _source(order: Order, held: Sequence[CopyAt]) -> CopyAt | None:
    if order.kind is RequestKind.VERIFY:
        return next((copy for copy in held if copy.volume_pk == order.volume_pk), None)
    tried = order.detail.get("tried", [])
    return quickest([copy for copy in held if copy.copy_pk not in tried])


def _volume(volume: media.VolumeRef) -> planner.VolumeAt:
    # A capacity of zero is a cartridge that no drive has seen yet: let the drive say when it is full.
    free = volume.capacity - volume.used if volume.capacity else 1 << 62
    return planner.VolumeAt(
        barcode=volume.name,
        pool=volume.pool,
        place=volume.place,
        library=volume.library,
        writable=volume.state in WRITABLE,
        free=free,
        drive=volume.element if volume.place is Place.DRIVE else None,
    )
