"""Copies by the age of their last verification, and those that are damaged. Nothing here reads every copy:
``ix_copy_verified`` and ``ix_copy_suspect`` lead to the few that are asked for."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, exists, func, literal, or_, select, update
from sqlalchemy.orm import Session

from hsm.catalog.tables import Copy, Package, Request, Study, Volume
from hsm.fixity import Due
from hsm.guard import GOOD_VOLUMES
from hsm.model import Place
from hsm.states import LIVE_REQUESTS, CopyState, RequestKind, RequestState

FAILED_REST = timedelta(days=1)
"""A copy that could not be read for a passing reason, or whose volume was not to be found, is not asked for
again by itself before."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One copy that is to be read back."""

    copy_pk: int
    volume_pk: int
    volume: str
    package_pk: int
    package: str
    study_pk: int
    pool: str


VERIFIED = literal(CopyState.VERIFIED.value, literal_execute=True)
SUSPECT = literal(CopyState.SUSPECT.value, literal_execute=True)
"""Written out in the statement: a partial index is of use only where its condition can be seen."""


def _asked(now: datetime) -> ColumnElement[bool]:
    """Whether a verification of the copy is under way, or has failed lately."""
    return (
        exists()
        .where(
            Request.package_pk == Copy.package_pk,
            Request.volume_pk == Copy.volume_pk,
            Request.kind == RequestKind.VERIFY,
            or_(
                Request.state.in_(LIVE_REQUESTS),
                and_(Request.state == RequestState.FAILED, Request.finished_at > now - FAILED_REST),
            ),
        )
        .correlate(Copy)
    )


def due_volumes(session: Session, pool: str, before: datetime, now: datetime) -> list[Due]:
    """The volumes of a pool with what is due on them, verified last before a time, or under way."""
    rows = session.execute(
        select(Copy.volume_pk, func.count(), func.min(Copy.verified_at))
        .join(Volume, Volume.pk == Copy.volume_pk)
        .where(Volume.pool == pool, Copy.state == VERIFIED, Copy.verified_at < before, ~_asked(now))
        .group_by(Copy.volume_pk)
    )
    ripe = {pk: (int(count), oldest) for pk, count, oldest in rows}
    queued = dict(
        session.execute(
            select(Request.volume_pk, func.count())
            .where(
                Request.kind == RequestKind.VERIFY,
                Request.state.in_(LIVE_REQUESTS),
                Request.pool == pool,
                Request.volume_pk.is_not(None),
            )
            .group_by(Request.volume_pk)
        ).all()
    )
    known = select(Volume.pk, Volume.name, Volume.place, Volume.state, Volume.drain_to)
    found = []
    for pk, name, place, state, drain_to in session.execute(known.where(Volume.pool == pool)):
        if pk in ripe or pk in queued:
            count, oldest = ripe.get(pk, (0, None))
            usable = state in GOOD_VOLUMES and not drain_to
            found.append(Due(pk, name, Place(place), count, oldest, int(queued.get(pk, 0)), usable))
    return found


def due_copies(session: Session, volume_pk: int, before: datetime, now: datetime, limit: int) -> list[Wanted]:
    """The copies on a volume that were verified last before a time, the longest ago first."""
    return _wanted(
        session,
        [
            Copy.volume_pk == volume_pk,
            Copy.state == CopyState.VERIFIED,
            Copy.verified_at < before,
            ~_asked(now),
        ],
        limit,
        Copy.verified_at,
        Copy.pk,
    )


def _wanted(
    session: Session, where: Sequence[ColumnElement[bool]], limit: int, *order: object
) -> list[Wanted]:
    rows = session.execute(
        select(Copy.pk, Copy.volume_pk, Volume.name, Package.pk, Package.key, Package.study_pk, Volume.pool)
        .join(Package, Package.pk == Copy.package_pk)
        .join(Volume, Volume.pk == Copy.volume_pk)
        .where(*where)
        .order_by(*order)  # type: ignore[arg-type]
        .limit(limit)
    )
    return [Wanted(*row[:6], row[6] or "") for row in rows]


def drive_work_waits(session: Session, priority: int, disks: Collection[str], now: datetime) -> bool:
    """Whether anything more urgent is queued that may need a drive."""
    query = select(Request.pk).where(
        Request.state == RequestState.QUEUED,
        Request.priority < priority,
        Request.not_before <= now,
        (Request.kind == RequestKind.RECALL)
        | (
            Request.kind.in_((RequestKind.COPY, RequestKind.VERIFY))
            & (Request.pool.is_(None) | Request.pool.not_in(disks))
        ),
    )
    return session.scalar(query.limit(1)) is not None


def out_of_reach(session: Session, pools: Collection[str], reason: str) -> list[int]:
    """Requests with this reason for volumes that have gone to a shelf meanwhile, and that nobody works on."""
    return list(
        session.scalars(
            select(Request.pk)
            .join(Volume, Volume.pk == Request.volume_pk)
            .where(
                Request.kind == RequestKind.VERIFY,
                Request.state.in_((RequestState.QUEUED, RequestState.WAITING)),
                Request.pool.in_(pools),
                Request.reason == reason,
                Volume.place.in_((Place.SHELF, Place.UNKNOWN)),
            )
        )
    )


@dataclass(frozen=True, slots=True)
class Suspect:
    """One copy that is not, or may not be, what was stored."""

    copy_pk: int
    volume_pk: int
    volume: str
    pool: str
    package_pk: int
    package: str
    study_pk: int
    study_uid: str


def suspects(session: Session, limit: int) -> list[Suspect]:
    """Suspect copies, on volumes that are in use."""
    rows = session.execute(
        select(Copy.pk, Volume.pk, Volume.name, Volume.pool, Package.pk, Package.key, Study.pk, Study.uid)
        .select_from(Copy)
        .join(Volume, Volume.pk == Copy.volume_pk)
        .join(Package, Package.pk == Copy.package_pk)
        .join(Study, Study.pk == Package.study_pk)
        .where(Copy.state == SUSPECT)
        .order_by(Copy.pk)
        .limit(limit)
    )
    return [Suspect(a, b, c, pool or "", e, f, g, h) for a, b, c, pool, e, f, g, h in rows]


def suspects_total(session: Session) -> int:
    query = select(func.count()).select_from(Copy).where(Copy.state == SUSPECT)
    return session.scalar(query) or 0


def under_way(session: Session, package_pks: Collection[int]) -> set[tuple[int, str, int | None, str]]:
    """(package, kind, volume, pool) of the live copies and verifications of packages."""
    rows = session.execute(
        select(Request.package_pk, Request.kind, Request.volume_pk, Request.pool).where(
            Request.package_pk.in_(package_pks),
            Request.kind.in_((RequestKind.COPY, RequestKind.VERIFY)),
            Request.state.in_(LIVE_REQUESTS),
        )
    )
    return {(package or 0, kind, volume, pool or "") for package, kind, volume, pool in rows}


def made_good(session: Session, limit: int) -> list[int]:
    """Verifications that failed, of copies that were verified or replaced since."""
    rows = session.scalars(
        select(Request.pk)
        .join(Copy, and_(Copy.package_pk == Request.package_pk, Copy.volume_pk == Request.volume_pk))
        .where(
            Request.state == RequestState.FAILED,
            Request.kind == RequestKind.VERIFY,
            or_(
                and_(Copy.state == CopyState.VERIFIED, Copy.verified_at > Request.finished_at),
                Copy.state.in_((CopyState.RELEASED, CopyState.LOST)),
            ),
        )
        .order_by(Request.pk)
        .limit(limit)
    )
    return list(rows)


COUNTED = (CopyState.VERIFIED, CopyState.WRITTEN, CopyState.SUSPECT)
"""States of copies that can be read back."""
SAMPLE_OF = 1_000_000
_MIX, _SPREAD = 1_000_003, 618_034
"""A prime, and its golden section: neighbours land far from each other."""


def asked_for(
    session: Session,
    *,
    study_pk: int | None = None,
    volume_pk: int | None = None,
    pools: Collection[str] = (),
    per_million: int = SAMPLE_OF,
    salt: int = 0,
    limit: int,
) -> list[Wanted]:
    """Copies of a study, on a volume, or anywhere, the last read back longest ago first.

    :param pools: only in these; none given: in any.
    :param per_million: of that many copies, chosen by ``salt``; another salt chooses others. Of a sample only
        verified copies on volumes in order that need no person are taken.
    """
    where: list[ColumnElement[bool]] = [Copy.state.in_(COUNTED)]
    if study_pk is not None:
        where.append(Package.study_pk == study_pk)
    if volume_pk is not None:
        where.append(Copy.volume_pk == volume_pk)
    if pools:
        where.append(Volume.pool.in_(pools))
    if per_million < SAMPLE_OF:
        mixed = ((Copy.pk % _MIX) * _SPREAD + salt) % _MIX
        where += [
            mixed * SAMPLE_OF < per_million * _MIX,
            Copy.state == CopyState.VERIFIED,
            Volume.state.in_(GOOD_VOLUMES),
            Volume.place.not_in((Place.SHELF, Place.UNKNOWN)),
        ]
    return _wanted(session, where, limit, Copy.verified_at.is_not(None), Copy.verified_at, Copy.pk)


def study_key(session: Session, uid: str) -> int | None:
    return session.scalar(select(Study.pk).where(Study.uid == uid))


def hasten(session: Session, keys: Sequence[str], priority: int) -> dict[str, int]:
    """The live requests with these keys, at least as urgent as ``priority`` from now on."""
    found: dict[str, int] = {}
    for start in range(0, len(keys), 500):
        mine = (Request.key.in_(keys[start : start + 500]), Request.state.in_(LIVE_REQUESTS))
        session.execute(
            update(Request)
            .where(*mine, Request.priority > priority)
            .values(priority=priority)
            .execution_options(synchronize_session=False)
        )
        found.update((key, pk) for key, pk in session.execute(select(Request.key, Request.pk).where(*mine)))
    return found


@dataclass(frozen=True, slots=True)
class Verification:
    """How far one is."""

    pk: int
    state: str
    error: str
    package: str
    size: int
    study_uid: str
    volume: str
    pool: str
    place: str
    copy_state: str


def verifications(session: Session, pks: Sequence[int]) -> list[Verification]:
    """Those of these requests that are verifications, in their order."""
    found: list[Verification] = []
    for start in range(0, len(pks), 500):
        rows = session.execute(
            select(
                *(Request.pk, Request.state, Request.error, Package.key, Package.size, Study.uid),
                *(Volume.name, Volume.pool, Volume.place, Copy.state),
            )
            .select_from(Request)
            .join(Package, Package.pk == Request.package_pk)
            .join(Study, Study.pk == Package.study_pk)
            .join(Volume, Volume.pk == Request.volume_pk)
            .outerjoin(Copy, and_(Copy.package_pk == Package.pk, Copy.volume_pk == Volume.pk))
            .where(Request.kind == RequestKind.VERIFY, Request.pk.in_(pks[start : start + 500]))
            .order_by(Request.pk)
        )
        found += [
            Verification(*row[:7], row[7] or "", row[8], row[9] or CopyState.RELEASED.value) for row in rows
        ]
    return found
