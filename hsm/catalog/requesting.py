"""New requests: made, or joined where a live one stands for the same work already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from hsm import states
from hsm.catalog import journal
from hsm.catalog.tables import Request
from hsm.states import RequestKind, RequestState

ROWS_MAX = 100
"""Inserted in one statement."""


@dataclass(frozen=True, slots=True)
class NewRequest:
    """A request to make, if no live one has its key."""

    kind: RequestKind
    key: str
    priority: int
    reason: str
    study_pk: int | None
    package_pk: int | None
    pool: str | None
    detail: dict[str, Any]
    volume_pk: int | None = None
    not_before: datetime | None = None
    """Nobody begins it earlier."""


def enqueue(
    session: Session,
    now: datetime,
    actor: str,
    kind: RequestKind,
    key: str,
    *,
    priority: int,
    reason: str,
    study_pk: int | None = None,
    package_pk: int | None = None,
    volume_pk: int | None = None,
    pool: str | None = None,
    detail: dict[str, Any] | None = None,
    not_before: datetime | None = None,
) -> tuple[int, bool]:
    """The live request with ``key``, made if there is none; and whether this call made it.

    Joining a live request with a more urgent priority raises it.

    :param not_before: nobody begins it earlier.
    """
    wanted = NewRequest(
        kind, key, priority, reason, study_pk, package_pk, pool, detail or {}, volume_pk, not_before
    )
    statement = _unless_live(session, [_row(wanted, now)])
    live = select(Request).where(Request.key == key, Request.state.in_(states.LIVE_REQUESTS))
    while True:
        pk = session.scalar(statement.returning(Request.pk))
        if pk is not None:
            journal.append(session, now, actor, "queued", "request", f"{pk}", {"key": key, "reason": reason})
            return pk, True
        row = session.scalars(live.with_for_update()).one_or_none()
        if row is not None:
            if priority < row.priority:
                row.priority = priority
            return row.pk, False
        # The live one ended between the two statements: now there is room for a new one.


def enqueue_many(session: Session, now: datetime, actor: str, wanted: Sequence[NewRequest]) -> dict[str, int]:
    """As :func:`enqueue`, many at a time; only those that this call made, by key.

    In the order of their keys, so that two that ask for the same never wait for each other.
    """
    if not wanted:
        return {}
    unlike = sorted({each.key: each for each in wanted}.values(), key=lambda each: each.key)
    rows = [_row(each, now) for each in unlike]
    made: dict[str, int] = {}
    for start in range(0, len(rows), ROWS_MAX):
        statement = _unless_live(session, rows[start : start + ROWS_MAX])
        made.update((key, pk) for key, pk in session.execute(statement.returning(Request.key, Request.pk)))
    reasons = {each.key: each.reason for each in wanted}
    notes = [(f"{pk}", {"key": key, "reason": reasons[key]}) for key, pk in made.items()]
    journal.append_many(session, now, actor, "queued", "request", notes)
    return made


def _row(wanted: NewRequest, now: datetime) -> dict[str, Any]:
    return {
        "kind": wanted.kind.value,
        "key": wanted.key,
        "state": RequestState.QUEUED.value,
        "priority": wanted.priority,
        "study_pk": wanted.study_pk,
        "package_pk": wanted.package_pk,
        "volume_pk": wanted.volume_pk,
        "pool": wanted.pool,
        "reason": wanted.reason,
        "detail": wanted.detail,
        "attempts": 0,
        "error": "",
        "worker": "",
        "not_before": wanted.not_before or now,
        "created_at": now,
    }


def _unless_live(session: Session, rows: list[dict[str, Any]]) -> postgresql.Insert | sqlite.Insert:
    """Insert the rows whose key no live request has."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    return (
        insert(Request)
        .values(rows)
        .on_conflict_do_nothing(
            index_elements=[Request.key], index_where=Request.state.in_(states.LIVE_REQUESTS)
        )
    )
