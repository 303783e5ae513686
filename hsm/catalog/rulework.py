"""What policies' runs ask of the catalog besides the facts: work under way, volumes, earlier studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, not_, or_, select, update
from sqlalchemy.orm import Session, aliased
from sqlalchemy.sql import false

from hsm import states
from hsm.catalog import details
from hsm.catalog.tables import Copy, Journal, Package, Request, Run, Study, Volume
from hsm.states import CopyState, RequestKind, RequestState

_GONE = (CopyState.RELEASED, CopyState.LOST)


def idle(kind: RequestKind, pool: str | None, failed_since: datetime) -> ColumnElement[bool]:
    """No live request does this to the study already, and none has failed since."""
    live = (Request.state.in_(states.LIVE_REQUESTS)) | (
        (Request.state == RequestState.FAILED) & (Request.finished_at > failed_since)
    )
    where = [Request.study_pk == Study.pk, Request.kind == kind, live]
    if pool is not None:
        where.append(Request.pool == pool)
    return ~exists().where(*where)


def bytes_leaving(session: Session) -> dict[str, int]:
    """Bytes that live requests will free, by pool: releases, and copies that a release follows."""
    pool = func.coalesce(Request.detail[details.LEAVES].as_string(), Request.pool)
    rows = session.execute(
        select(pool, func.sum(Package.size))
        .join(Package, Package.pk == Request.package_pk)
        .where(
            Request.state.in_(states.LIVE_REQUESTS),
            or_(
                Request.kind == RequestKind.RELEASE,
                and_(
                    Request.kind == RequestKind.COPY,
                    Request.detail[details.LEAVES].as_string().is_not(None),
                ),
            ),
        )
        .group_by(pool)
    )
    return {name: int(size) for name, size in rows if name is not None}


def bytes_asked(session: Session, policy: str, pool: str) -> int:
    """Bytes of the policy's live copy requests to a pool."""
    total = session.scalar(
        select(func.sum(Package.size))
        .select_from(Request)
        .join(Package, Package.pk == Request.package_pk)
        .where(
            Request.kind == RequestKind.COPY,
            Request.state.in_(states.LIVE_REQUESTS),
            Request.pool == pool,
            Request.detail[details.POLICY].as_string() == policy,
        )
    )
    return int(total or 0)


def others_on(session: Session, volume_pk: int, meant: ColumnElement[bool]) -> bool:
    """Whether a volume holds a copy of a study for which the condition (on ``study``) is not true."""
    query = (
        select(Study.pk)
        .join(Package, Package.study_pk == Study.pk)
        .join(Copy, Copy.package_pk == Package.pk)
        .where(
            Copy.volume_pk == volume_pk,
            Copy.state.not_in(_GONE),
            not_(func.coalesce(meant, false())),
        )
        .limit(1)
    )
    return session.scalar(query) is not None


def earlier_of_patient(session: Session, study_pk: int, at_most: int) -> list[int]:
    """Sealed studies of the same patient that are not later, the newest first."""
    new = aliased(Study)
    query = (
        select(Study.pk)
        .join(new, new.patient_pk == Study.patient_pk)
        .where(new.pk == study_pk, Study.pk != new.pk, Study.date <= new.date, Study.packages > 0)
        .order_by(Study.date.desc(), Study.time.desc(), Study.pk.desc())
        .limit(at_most)
    )
    return list(session.scalars(query))


def asked_since_arrival(session: Session, study_pks: Sequence[int], arrived_pk: int, pool: str) -> set[int]:
    """Those of the studies whose recall (to ``pool``, where it is one) was asked for since another study
    arrived."""
    arrived = select(Study.first_received).where(Study.pk == arrived_pk).scalar_subquery()
    rows = session.scalars(
        select(Request.study_pk).where(
            Request.study_pk.in_(study_pks),
            or_(
                Request.kind == RequestKind.RECALL,
                and_(Request.kind == RequestKind.COPY, Request.pool == pool),
            ),
            Request.created_at >= arrived,
        )
    )
    return {pk for pk in rows if pk is not None}


def failed_since(session: Session, policy: str, since: datetime, at_most: int) -> int:
    """Requests of a policy that have failed since; counts to ``at_most`` only."""
    query = select(Request.pk).where(
        Request.state == RequestState.FAILED,
        Request.finished_at > since,
        Request.detail[details.POLICY].as_string() == policy,
    )
    return session.scalar(select(func.count()).select_from(query.limit(at_most).subquery())) or 0


def failures_of_study(session: Session, study_uid: str, at_most: int = 5) -> list[dict[str, Any]]:
    """The study's requests that gave up, the last first, with what they said."""
    rows = session.execute(
        select(Request)
        .join(Study, Study.pk == Request.study_pk)
        .where(Study.uid == study_uid, Request.state == RequestState.FAILED)
        .order_by(Request.pk.desc())
        .limit(at_most)
    ).scalars()
    return [
        {
            "request": row.pk,
            "kind": row.kind,
            "pool": row.pool,
            "error": row.error,
            "at": row.finished_at,
            "reason": row.reason,
        }
        for row in rows
    ]


def untaken_of(session: Session, policy: str) -> list[int]:
    """Requests of a policy that nobody works on yet."""
    query = select(Request.pk).where(
        Request.state.in_((RequestState.QUEUED, RequestState.WAITING)),
        Request.kind != RequestKind.RECALL,  # others may wait for it
        Request.detail[details.POLICY].as_string() == policy,
    )
    return list(session.scalars(query.order_by(Request.pk)))


def pool_volumes(session: Session, pool: str) -> list[tuple[str, int, int, str, str]]:
    """(name, capacity, used, state, place) of every volume of a pool."""
    rows = session.execute(
        select(Volume.name, Volume.capacity, Volume.used, Volume.state, Volume.place)
        .where(Volume.pool == pool)
        .order_by(Volume.name)
    )
    return [(name, capacity, used, state, place) for name, capacity, used, state, place in rows]


def last_resumed(session: Session, policy: str) -> datetime | None:
    """When somebody let a suspended policy go on last."""
    return session.scalar(
        select(Journal.at)
        .where(Journal.subject == policy, Journal.kind == "policy", Journal.verb == "run resumed")
        .order_by(Journal.seq.desc())
        .limit(1)
    )


def last_position(session: Session, policy: str, since: datetime) -> Mapping[str, Any]:
    """The position of the policy's last run that was finished since."""
    found = session.scalar(
        select(Run.position)
        .where(Run.policy == policy, Run.finished_at > since)
        .order_by(Run.pk.desc())
        .limit(1)
    )
    return found or {}


def hold_back(session: Session, policy: str, until: datetime) -> int:
    """Leave a policy's queued requests, those it made by its schedule, alone until then; how many."""
    changed = session.execute(
        update(Request)
        .where(
            Request.state == RequestState.QUEUED,
            Request.not_before < until,
            Request.detail[details.POLICY].as_string() == policy,
            Request.detail[details.IN_WINDOW].as_boolean(),
        )
        .values(not_before=until)
        .returning(Request.pk)
        .execution_options(synchronize_session=False)
    ).all()
    return len(changed)
