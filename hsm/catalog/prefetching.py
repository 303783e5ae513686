"""What will be read, by when: prefetches, and the studies that they mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hsm.catalog import journal
from hsm.catalog.tables import Patient, Prefetch, Request, Study
from hsm.states import LIVE_REQUESTS, RequestKind

PLANNED, ASKED, WITHDRAWN = "planned", "asked", "withdrawn"
LOOKED_AT_MAX = 200
"""The newest studies of a patient that are considered."""


@dataclass(frozen=True, slots=True)
class PrefetchRef:
    """One prefetch as it is kept."""

    key: str
    state: str
    wanted: dict[str, Any]
    begins_at: datetime
    deadline: datetime
    requested_by: str
    created_at: datetime
    found: dict[str, Any]
    comment: str


def get(session: Session, key: str) -> PrefetchRef | None:
    row = session.scalars(select(Prefetch).where(Prefetch.key == key)).one_or_none()
    return _ref(row) if row is not None else None


def put(
    session: Session,
    key: str,
    wanted: dict[str, Any],
    begins_at: datetime,
    deadline: datetime,
    now: datetime,
    by: str,
) -> tuple[PrefetchRef, bool]:
    """The prefetch with this key, made or changed to what is wanted now; and whether anything changed."""
    row = session.scalars(select(Prefetch).where(Prefetch.key == key).with_for_update()).one_or_none()
    if row is not None and row.state != WITHDRAWN and (row.wanted, row.deadline) == (wanted, deadline):
        return _ref(row), False
    if row is None:
        row = Prefetch(key=key, created_at=now)
        session.add(row)
    row.state, row.wanted, row.found, row.comment = PLANNED, wanted, {}, ""
    row.begins_at, row.deadline, row.requested_by = begins_at, deadline, by
    session.flush()
    journal.append(session, now, by, "prefetch asked", "prefetch", key, {"deadline": deadline.isoformat()})
    return _ref(row), True


def begun(session: Session, key: str, found: dict[str, Any], comment: str, now: datetime) -> None:
    """Its recalls are asked for."""
    row = session.scalars(select(Prefetch).where(Prefetch.key == key).with_for_update()).one()
    row.state, row.found, row.comment = ASKED, found, comment
    session.flush()
    journal.append(session, now, "prefetch", "prefetch begun", "prefetch", key, found)


def withdraw(session: Session, key: str, now: datetime, by: str) -> bool:
    """Nobody wants it any more; False when there is no such prefetch, or it was withdrawn before."""
    row = session.scalars(select(Prefetch).where(Prefetch.key == key).with_for_update()).one_or_none()
    if row is None or row.state == WITHDRAWN:
        return False
    row.state = WITHDRAWN
    session.flush()
    journal.append(session, now, by, "prefetch withdrawn", "prefetch", key, {})
    return True


def due(session: Session, now: datetime, limit: int) -> list[PrefetchRef]:
    """Planned ones whose time has come, those with the nearest deadline first."""
    query = select(Prefetch).where(Prefetch.state == PLANNED, Prefetch.begins_at <= now)
    return [_ref(row) for row in session.scalars(query.order_by(Prefetch.deadline).limit(limit))]


def forget(session: Session, before: datetime) -> None:
    """Drop those whose deadline is long over."""
    for row in session.scalars(select(Prefetch).where(Prefetch.deadline < before).limit(1000)):
        session.delete(row)


def studies_of(session: Session, patient_id: str, issuer: str) -> list[tuple[int, str]]:
    """Key and accession number of a patient's sealed studies, the newest first."""
    query = (
        select(Study.pk, Study.accession)
        .join(Patient, Patient.pk == Study.patient_pk)
        .where(Patient.patient_id == patient_id, Study.packages > 0, Study.n_instances > 0)
        .order_by(Study.date.desc(), Study.time.desc(), Study.pk.desc())
        .limit(LOOKED_AT_MAX)
    )
    if issuer:
        query = query.where(Patient.issuer == issuer)
    return [(pk, accession) for pk, accession in session.execute(query)]


def only_prefetched(session: Session, request_pks: Sequence[int], priority: int) -> list[int]:
    """Of these recalls those that are still live and that nobody has made more urgent."""
    query = select(Request.pk).where(
        Request.pk.in_(request_pks),
        Request.kind == RequestKind.RECALL,
        Request.state.in_(LIVE_REQUESTS),
        Request.priority >= priority,
    )
    return list(session.scalars(query))


def _ref(row: Prefetch) -> PrefetchRef:
    return PrefetchRef(
        row.key,
        row.state,
        dict(row.wanted),
        row.begins_at,
        row.deadline,
        row.requested_by,
        row.created_at,
        dict(row.found),
        row.comment,
    )
