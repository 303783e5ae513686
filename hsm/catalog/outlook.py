"""What a plan needs of the catalog: what arrives, where there is room, what must be fetched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from hsm.catalog import placements
from hsm.catalog.tables import Copy, Package, Study, Volume
from hsm.model import Place
from hsm.states import BLANK_VOLUMES, READABLE_COPIES, VolumeState

WRITABLE = (VolumeState.LABELLED, VolumeState.ACTIVE)
LOADABLE = (Place.SLOT, Place.MAIL, Place.DRIVE)


@dataclass(frozen=True, slots=True)
class Room:
    """A volume of a library that takes more."""

    volume: str
    pool: str | None
    """None: it is blank, any pool may have it."""
    library: str
    capacity: int
    """0 while no drive has seen it."""
    free: int


def arrived(session: Session, since: datetime) -> int:
    """Bytes of the studies whose first instance came since."""
    total = session.scalar(select(func.sum(Study.n_bytes)).where(Study.first_received >= since))
    return int(total or 0)


def came_into_pools(session: Session, since: datetime) -> dict[str, int]:
    """Bytes that the studies which arrived since hold in each pool now."""
    rows = session.execute(
        select(Volume.pool, func.sum(Package.size))
        .select_from(Study)
        .join(Package, Package.study_pk == Study.pk)
        .join(Copy, Copy.package_pk == Package.pk)
        .join(Volume, Volume.pk == Copy.volume_pk)
        .where(Study.first_received >= since, Copy.state.not_in(placements.GONE))
        .group_by(Volume.pool)
    )
    return {pool: int(size) for pool, size in rows if pool is not None}


def rooms(session: Session) -> list[Room]:
    """Volumes in libraries that take more, and blank ones, by name."""
    rows = session.execute(
        select(Volume.name, Volume.pool, Volume.library, Volume.capacity, Volume.used)
        .where(
            Volume.library.is_not(None),
            Volume.place.in_(LOADABLE),
            Volume.state.in_((*WRITABLE, *BLANK_VOLUMES)),
            Volume.drain_to == "",
        )
        .order_by(Volume.name)
    )
    return [
        Room(name, pool, library or "", size, max(0, size - used)) for name, pool, library, size, used in rows
    ]


def volumes_to_read(session: Session, study_pks: Sequence[int]) -> set[str]:
    """The removable volumes from which packages must be read that no file system has: one a package."""
    rows = session.execute(
        select(Package.pk, Volume.removable, Volume.name)
        .join(Copy, Copy.package_pk == Package.pk)
        .join(Volume, Volume.pk == Copy.volume_pk)
        .where(Package.study_pk.in_(study_pks), Copy.state.in_(READABLE_COPIES))
        .order_by(Volume.removable, Volume.name)
    )
    nearest: dict[int, str | None] = {}
    for package_pk, removable, name in rows:
        nearest.setdefault(package_pk, name if removable else None)
    return {name for name in nearest.values() if name is not None}


def count(session: Session, where: Iterable[ColumnElement[bool]]) -> tuple[int, int]:
    """Sealed studies that meet the conditions, and their bytes."""
    query = select(func.count(), func.coalesce(func.sum(Study.n_bytes), 0)).where(
        Study.packages > 0, *placements.narrowed(session, where)
    )
    found, size = session.execute(query).one()
    return int(found), int(size)
