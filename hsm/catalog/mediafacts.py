"""What an audit of media asks: for every volume what depends on it. Aggregates, however large the archive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Subquery, and_, case, distinct, func, select
from sqlalchemy.orm import Session, aliased

from hsm.catalog.scrubbing import SUSPECT
from hsm.catalog.tables import Copy, Drive, DriveUse, Package, Study, Volume
from hsm.guard import GOOD_VOLUMES
from hsm.states import BLANK_VOLUMES, CopyState, VolumeState

GONE = (VolumeState.RETIRED, VolumeState.LOST, VolumeState.FOREIGN, *BLANK_VOLUMES)
"""Volumes on which nothing counts."""


@dataclass(frozen=True, slots=True)
class VolumeRow:
    pk: int
    name: str
    pool: str
    state: str
    removable: bool
    place: str
    library: str
    shelf: str
    site: str
    capacity: int
    used: int
    error: str
    created_at: datetime


def volumes(session: Session) -> list[VolumeRow]:
    """Every volume that holds something, or may."""
    rows = session.scalars(select(Volume).where(Volume.state.not_in(GONE)).order_by(Volume.name))
    return [
        VolumeRow(
            *(row.pk, row.name, row.pool or "", row.state, row.removable, row.place, row.library or ""),
            *(row.shelf or row.home, row.site, row.capacity, row.used, row.error, row.created_at),
        )
        for row in rows
    ]


@dataclass(frozen=True, slots=True)
class Depends:
    """What would lose which copy with a volume."""

    copies: int = 0
    """Verified ones on it."""
    oldest: datetime | None = None
    """When the one that waits longest was read back last."""
    only_packages: int = 0
    only_studies: int = 0
    """Whose last good copy it holds."""
    second_packages: int = 0
    second_studies: int = 0
    """That would be left with one good copy."""


def _good(volume_pk: int | None) -> Subquery:
    """How many good copies each package has; of those on a volume, where one is given."""
    query = (
        select(Copy.package_pk, func.count().label("n"))
        .join(Volume, Volume.pk == Copy.volume_pk)
        .where(Copy.state == CopyState.VERIFIED, Volume.state.in_(GOOD_VOLUMES))
    )
    if volume_pk is not None:
        on = aliased(Copy)
        query = query.where(Copy.package_pk.in_(select(on.package_pk).where(on.volume_pk == volume_pk)))
    return query.group_by(Copy.package_pk).subquery()


def _elsewhere(good: Subquery) -> ColumnElement[int]:
    """Good copies of a copy's package on other volumes."""
    own = case((Volume.state.in_(GOOD_VOLUMES), 1), else_=0)
    return func.coalesce(good.c.n, 0) - own


def depends(session: Session, volume_pk: int | None = None) -> dict[int, Depends]:
    """By volume, of those that hold a verified copy; or of one."""
    good = _good(volume_pk)
    elsewhere = _elsewhere(good)
    query = (
        select(
            Copy.volume_pk,
            func.count(),
            func.min(Copy.verified_at),
            func.sum(case((elsewhere == 0, 1), else_=0)),
            func.count(distinct(case((elsewhere == 0, Package.study_pk)))),
            func.sum(case((elsewhere == 1, 1), else_=0)),
            func.count(distinct(case((elsewhere == 1, Package.study_pk)))),
        )
        .select_from(Copy)
        .join(Volume, Volume.pk == Copy.volume_pk)
        .join(Package, Package.pk == Copy.package_pk)
        .outerjoin(good, good.c.package_pk == Copy.package_pk)
        .where(Copy.state == CopyState.VERIFIED, Volume.state.not_in(GONE))
        .group_by(Copy.volume_pk)
    )
    if volume_pk is not None:
        query = query.where(Copy.volume_pk == volume_pk)
    rows = session.execute(query)
    return {
        pk: Depends(int(count), oldest, int(a or 0), int(b), int(c or 0), int(d))
        for pk, count, oldest, a, b, c, d in rows
    }


@dataclass(frozen=True, slots=True)
class OnVolume:
    """One study that would lose a copy."""

    uid: str
    elsewhere: int
    """Good copies on other volumes, of the package that has the fewest."""
    packages: int
    bytes: int


def studies_on(session: Session, volume_pk: int, limit: int) -> list[OnVolume]:
    """The studies with a verified copy on a volume, those first that have the fewest elsewhere."""
    mine = select(Copy.package_pk).where(Copy.volume_pk == volume_pk, Copy.state == CopyState.VERIFIED)
    others = (
        select(Copy.package_pk, func.count().label("n"))
        .join(Volume, Volume.pk == Copy.volume_pk)
        .where(
            Copy.package_pk.in_(mine),
            Copy.volume_pk != volume_pk,
            Copy.state == CopyState.VERIFIED,
            Volume.state.in_(GOOD_VOLUMES),
        )
        .group_by(Copy.package_pk)
        .subquery()
    )
    least = func.min(func.coalesce(others.c.n, 0))
    rows = session.execute(
        select(Study.uid, least, func.count(), func.sum(Package.size))
        .select_from(Copy)
        .join(Package, Package.pk == Copy.package_pk)
        .join(Study, Study.pk == Package.study_pk)
        .outerjoin(others, others.c.package_pk == Copy.package_pk)
        .where(Copy.volume_pk == volume_pk, Copy.state == CopyState.VERIFIED)
        .group_by(Study.pk, Study.uid)
        .order_by(least, Study.pk)
        .limit(limit)
    )
    return [OnVolume(uid, int(n), int(count), int(size)) for uid, n, count, size in rows]


def suspects(session: Session) -> dict[int, int]:
    """Damaged copies, by volume."""
    rows = session.execute(
        select(Copy.volume_pk, func.count()).where(Copy.state == SUSPECT).group_by(Copy.volume_pk)
    )
    return {pk: int(count) for pk, count in rows}


@dataclass(frozen=True, slots=True)
class Use:
    """What drives did with a cartridge, in all."""

    mounts: int = 0
    """Sessions."""
    written: int = 0
    read: int = 0
    """Bytes."""
    soft_errors: int = 0
    hard_errors: int = 0
    alerts: int = 0
    last_at: datetime | None = None


def uses(session: Session) -> dict[int, Use]:
    """By volume."""
    rows = session.execute(
        select(
            DriveUse.volume_pk,
            func.sum(DriveUse.sessions),
            func.sum(DriveUse.bytes_written),
            func.sum(DriveUse.bytes_read),
            func.sum(DriveUse.soft_errors),
            func.sum(DriveUse.hard_errors),
            func.sum(DriveUse.alerts),
            func.max(DriveUse.last_at),
        ).group_by(DriveUse.volume_pk)
    )
    return {
        pk: Use(int(mounts), int(written), int(read), int(soft), int(hard), int(alerts), last_at)
        for pk, mounts, written, read, soft, hard, alerts, last_at in rows
    }


@dataclass(frozen=True, slots=True)
class DriveRow:
    library: str
    address: int
    in_service: bool
    written: tuple[str, ...]
    """Cartridges it has written, the newest generations among them."""


def drives(session: Session) -> list[DriveRow]:
    """Every drive that a session has used."""
    known = session.execute(
        select(Drive.library, Drive.address, Drive.in_service, Volume.name)
        .outerjoin(DriveUse, and_(DriveUse.drive_pk == Drive.pk, DriveUse.writes > 0))
        .outerjoin(Volume, Volume.pk == DriveUse.volume_pk)
        .order_by(Drive.library, Drive.address)
    )
    found: dict[tuple[str, int], tuple[bool, list[str]]] = {}
    for library, address, in_service, name in known:
        names = found.setdefault((library, address), (in_service, []))[1]
        if name is not None:
            names.append(name)
    return [DriveRow(*place, on, tuple(names)) for place, (on, names) in found.items()]


def troubles(session: Session, limit: int) -> Sequence[tuple[str, int, str, DriveUse]]:
    """Pairs of a drive and a cartridge with errors, those that fail now first, then by errors."""
    rows = session.execute(
        select(Drive.library, Drive.address, Volume.name, DriveUse)
        .join(Drive, Drive.pk == DriveUse.drive_pk)
        .join(Volume, Volume.pk == DriveUse.volume_pk)
        .where((DriveUse.hard_errors > 0) | (DriveUse.soft_errors > 0) | (DriveUse.alerts > 0))
        .order_by(
            (DriveUse.failing > 0).desc(),
            DriveUse.hard_errors.desc(),
            DriveUse.soft_errors.desc(),
            Drive.library,
            Drive.address,
            Volume.name,
        )
        .limit(limit)
    )
    return [(library, address, name, use) for library, address, name, use in rows]
