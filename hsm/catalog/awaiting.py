"""Instances that a rejection note names and that have not come yet: hidden when they come (RAD-66).

A note may overtake what it rejects: on another association, by another route, from a modality that was
switched off. It does not expire. A person ends it (:func:`hsm.catalog.rejections.revoke`).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from hsm.catalog import hiding
from hsm.catalog.ingest import News
from hsm.catalog.portions import chunks
from hsm.catalog.tables import AwaitedRejection, Deletion, Instance, Series
from hsm.errors import NoSpace
from hsm.states import DeletionKind, DeletionState

AWAITED_MAX = 1_000_000
"""Rows; a note that would need more is not taken."""
Place = tuple[str, str]
"""Series and SOP Instance UID."""


def require_room(session: Session, more: int) -> None:
    """:raises NoSpace: so many more are too many."""
    have = count(session)
    if have + more > AWAITED_MAX:
        raise NoSpace(
            f"rejection notes name {have} instances that have not come, and {more} more would be over "
            f"{AWAITED_MAX}; `hsm study rejections` lists the notes, `hsm study unreject` ends them"
        )


def count(session: Session) -> int:
    """Instances that notes name and that have not come."""
    return session.scalar(select(func.count()).select_from(AwaitedRejection)) or 0


def remember(
    session: Session, study_uid: str, places: Iterable[Place], note: str, code: str, now: datetime, by: str
) -> None:
    """These are to be hidden when they come."""
    said = {"study_uid": study_uid, "note": note, "code": code, "made_at": now, "made_by": by}
    for some in chunks(sorted(places)):
        session.execute(insert(AwaitedRejection), [{"series_uid": s, "uid": uid, **said} for s, uid in some])


def knows(session: Session, study_uid: str, note: str) -> bool:
    """Whether a note waits for something of a study."""
    query = select(AwaitedRejection.uid).where(
        AwaitedRejection.study_uid == study_uid, AwaitedRejection.note == note
    )
    return session.scalar(query.limit(1)) is not None


def forget(session: Session, study_uid: str, note: str = "", code: str = "") -> set[str]:
    """Wait no more for what notes name of a study: all notes, one, or those of one title. Their UIDs."""
    where = [AwaitedRejection.study_uid == study_uid]
    if note:
        where.append(AwaitedRejection.note == note)
    if code:
        where.append(AwaitedRejection.code == code)
    notes = set(session.scalars(select(AwaitedRejection.note).where(*where).distinct()))
    session.execute(delete(AwaitedRejection).where(*where))
    return notes


def heed(session: Session, study_pk: int, study_uid: str, uids: Iterable[str]) -> News:
    """Hide those of these SOP Instance UIDs that have just come and that a note names. The caller counts
    again, and appends the news to the journal, last in its transaction."""
    news: News = []
    for some in chunks(sorted(set(uids))):
        rows = session.execute(
            select(AwaitedRejection, Instance.pk)
            .join(Instance, Instance.uid == AwaitedRejection.uid)
            .join(Series, (Series.pk == Instance.series_pk) & (Series.uid == AwaitedRejection.series_uid))
            .where(
                AwaitedRejection.uid.in_(some),
                AwaitedRejection.study_uid == study_uid,
                Series.study_pk == study_pk,
            )
            .order_by(AwaitedRejection.note, Instance.pk)
        ).all()
        for awaited, instance_pk in rows:
            hiding.hide(session, _standing(session, study_pk, awaited), [instance_pk])
            news.append(("rejected on arrival", _said(awaited)))
        for awaited in {row[0] for row in rows}:
            session.delete(awaited)
        session.flush()
    return news


def _standing(session: Session, study_pk: int, awaited: AwaitedRejection) -> int:
    """The key of the note's rejection of this study; as old as the note."""
    found = session.scalar(
        select(Deletion.pk).where(
            Deletion.study_pk == study_pk,
            Deletion.kind == DeletionKind.REJECTION,
            Deletion.state == DeletionState.STANDING,
            Deletion.note == awaited.note,
        )
    )
    if found is not None:
        return found
    kind, title = DeletionKind.REJECTION, hiding.TITLES[awaited.code]
    at, by = awaited.made_at, awaited.made_by
    return hiding.stand(session, study_pk, kind, (), at, by, title, code=awaited.code, note=awaited.note).pk


def _said(awaited: AwaitedRejection) -> dict[str, Any]:
    return {
        "why": hiding.TITLES[awaited.code],
        "note": awaited.note,
        "sop_instance_uid": awaited.uid,
        "noted_at": awaited.made_at.isoformat(timespec="seconds"),
        "noted_by": awaited.made_by,
    }
