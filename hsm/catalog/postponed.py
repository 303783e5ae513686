"""Requests that wait for a time of day, when the clock that shows it was put back."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import select, update

from hsm.catalog.engine import Catalog
from hsm.catalog.tables import Journal, Request
from hsm.states import RequestState

AT_ONCE = 1000


def last_record_at(catalog: Catalog) -> datetime | None:
    """When the journal's last record was written, by the clock of that time; None in an empty one."""
    with catalog.read() as session:
        return session.scalar(select(Journal.at).order_by(Journal.seq.desc()).limit(1))


def bring_forward(catalog: Catalog, now: datetime, by: timedelta) -> int:
    """Let queued requests that are tried later than ``now`` be tried ``by`` earlier; how many.

    A thousand a transaction, so that others go on meanwhile.
    """
    moved = last = 0
    while True:
        with catalog.write() as session:
            rows = session.execute(
                select(Request.pk, Request.not_before)
                .where(Request.pk > last, Request.state == RequestState.QUEUED, Request.not_before > now)
                .order_by(Request.pk)
                .limit(AT_ONCE)
                .with_for_update(skip_locked=True)
            ).all()
            if not rows:
                return moved
            for pk, at in rows:
                session.execute(update(Request).where(Request.pk == pk).values(not_before=max(now, at - by)))
            last = rows[-1].pk
        moved += len(rows)
