"""What was sent about prompts: one row for each prompt and step, so that a restart sends nothing again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hsm.catalog.tables import MountRequest, Notice
from hsm.states import MountState, NoticeState

ERROR_MAX = 500


def of_open_prompts(session: Session) -> dict[tuple[int, str], Notice]:
    """By prompt and step."""
    query = select(Notice).join(MountRequest, MountRequest.pk == Notice.mount_pk)
    rows = session.scalars(query.where(MountRequest.state == MountState.OPEN))
    return {(row.mount_pk, row.step): row for row in rows}


def lock_prompts(session: Session, pks: Sequence[int]) -> set[int]:
    """Those of these prompts that are still open; nobody else notes anything about them meanwhile."""
    query = select(MountRequest.pk).where(MountRequest.pk.in_(pks), MountRequest.state == MountState.OPEN)
    return set(session.scalars(query.order_by(MountRequest.pk).with_for_update()))


def put(
    session: Session,
    mount_pk: int,
    step: str,
    channel: str,
    state: NoticeState,
    sent: int,
    attempts: int,
    last_at: datetime | None,
    next_at: datetime,
    error: str,
) -> None:
    """What is known of it now."""
    row = session.scalars(
        select(Notice).where(Notice.mount_pk == mount_pk, Notice.step == step)
    ).one_or_none()
    if row is None:
        row = Notice(mount_pk=mount_pk, step=step, channel=channel)
        session.add(row)
    row.state, row.sent, row.attempts = state.value, sent, attempts
    row.last_at, row.next_at, row.error = last_at, next_at, error[:ERROR_MAX]
    session.flush()


def unsent(session: Session) -> Mapping[str, tuple[int, str]]:
    """By channel, about how many open prompts it could tell nobody as yet, and why."""
    rows = session.execute(
        select(Notice.channel, func.count(), func.max(Notice.error))
        .join(MountRequest, MountRequest.pk == Notice.mount_pk)
        .where(MountRequest.state == MountState.OPEN, Notice.error != "")
        .group_by(Notice.channel)
        .order_by(Notice.channel)
    )
    return {channel: (count, error) for channel, count, error in rows}


def counts(session: Session) -> Mapping[int, int]:
    """How many messages went about each open prompt."""
    rows = session.execute(
        select(Notice.mount_pk, func.sum(Notice.sent))
        .join(MountRequest, MountRequest.pk == Notice.mount_pk)
        .where(MountRequest.state == MountState.OPEN)
        .group_by(Notice.mount_pk)
    )
    return {pk: int(total) for pk, total in rows}
