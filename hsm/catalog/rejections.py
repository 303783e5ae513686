"""Rejection notes in force: what they hide, and how they are revoked (IHE RAD TF-2 section 4.66.4.1.3).

What is rejected stays: its copies are made, verified and moved like all others. Only a note that says that
the retention has expired lets bytes go, by putting a study into the trash once it rejects all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, literal, select, union_all, update
from sqlalchemy.orm import Session

from hsm.catalog import awaiting, deletions, hiding, journal, marks
from hsm.catalog.portions import chunks
from hsm.catalog.tables import AwaitedRejection, Deletion, HiddenInstance, Instance, Name, Series, Study
from hsm.errors import NotFound, Refused
from hsm.states import LIVE_DELETIONS, DeletionKind, DeletionState

EXPIRED, TITLES = hiding.EXPIRED, hiding.TITLES
NAMED_MAX = 20
_KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"


@dataclass(frozen=True, slots=True)
class Reference:
    """One instance that a note names."""

    study_uid: str
    series_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class Note:
    """A rejection note."""

    uid: str
    code: str
    references: tuple[Reference, ...]

    def by_study(self) -> dict[str, list[Reference]]:
        """What it names, by study, in the order in which studies are locked."""
        found: dict[str, list[Reference]] = {}
        for each in sorted(self.references, key=lambda each: each.study_uid):
            found.setdefault(each.study_uid, []).append(each)
        return found


@dataclass(frozen=True, slots=True)
class Rejection:
    """Instances of one study that a note has rejected."""

    study_uid: str
    code: str
    note: str
    instances: int
    awaited: int
    """Others that the note names and that have not come."""
    made_at: datetime
    made_by: str


def require_possible(session: Session, note: Note, now: datetime) -> None:
    """Whether a note can come into force, asked before it is kept.

    :raises Refused: it says that the retention has expired, and a study is held or retained.
    :raises NoSpace: it names too many that are not here.
    """
    known = 0
    for uid, references in note.by_study().items():
        pk = session.scalar(select(Study.pk).where(Study.uid == uid))
        if pk is None:
            continue
        known += len(set(_named(session, pk, references).values()))
        kept = marks.kept_by_law(session, pk, now) if note.code == EXPIRED else ""
        if kept:
            raise Refused(f"study {uid}: {kept}")
    awaiting.require_room(session, len(note.references) - known)


def reject(session: Session, note: Note, due_at: datetime, now: datetime, by: str) -> int:
    """Bring a note into force; how many versions of instances it hides. The same note again changes nothing.

    What it names and is not here is hidden when it comes. To be called first in its transaction.

    :param due_at: when what goes into the trash by it may end.
    :raises Refused: see :func:`require_possible`.
    """
    hiding.lock(session)
    hidden = 0
    for uid, references in note.by_study().items():
        study_pk = session.scalar(select(Study.pk).where(Study.uid == uid).with_for_update())
        if _is_known(session, study_pk, uid, note.uid):
            continue
        named = _named(session, study_pk, references) if study_pk is not None else {}
        missing = sorted(
            {(each.series_uid, each.sop_instance_uid) for each in references} - set(named.values())
        )
        awaiting.remember(session, uid, missing, note.uid, note.code, now, by)
        if study_pk is not None:
            _hide(session, study_pk, note, named, now, by)
        _tell(session, uid, note, len(set(named.values())), [uid for _, uid in missing], now, by)
        hidden += len(named)
        if study_pk is not None and named and note.code == EXPIRED and not _left(session, study_pk):
            _expire(session, study_pk, uid, note.uid, due_at, now, by)
    return hidden


def _is_known(session: Session, study_pk: int | None, study_uid: str, note_uid: str) -> bool:
    query = select(Deletion.pk).where(Deletion.study_pk == study_pk, Deletion.note == note_uid)
    return session.scalar(query.limit(1)) is not None or awaiting.knows(session, study_uid, note_uid)


def _named(session: Session, study_pk: int, references: Sequence[Reference]) -> dict[int, awaiting.Place]:
    """Every version of what a note names in a study: key, and series and UID."""
    wanted = {(each.series_uid, each.sop_instance_uid) for each in references}
    found: dict[int, awaiting.Place] = {}
    for some in chunks(sorted({uid for _, uid in wanted})):
        rows = session.execute(
            select(Instance.pk, Series.uid, Instance.uid)
            .join(Series, Series.pk == Instance.series_pk)
            .where(Series.study_pk == study_pk, Instance.uid.in_(some))
        )
        found |= {pk: (series_uid, uid) for pk, series_uid, uid in rows if (series_uid, uid) in wanted}
    return found


def _hide(session: Session, study_pk: int, note: Note, named: Iterable[int], now: datetime, by: str) -> None:
    kind, why = DeletionKind.REJECTION, TITLES[note.code]
    hiding.stand(session, study_pk, kind, named, now, by, why, code=note.code, note=note.uid)
    hiding.recount(session, study_pk)


def _tell(
    session: Session, study_uid: str, note: Note, named: int, missing: Sequence[str], now: datetime, by: str
) -> None:
    detail: dict[str, Any] = {"why": TITLES[note.code], "note": note.uid, "instances": named}
    if missing:
        detail |= {"not_here": len(missing), "not_here_first": list(missing[:NAMED_MAX])}
    journal.append(session, now, by, "rejected", "study", study_uid, detail)


def _left(session: Session, study_pk: int) -> int:
    """Instances of a study that are to be seen, notes like these apart."""
    query = (
        select(func.count())
        .select_from(Instance)
        .join(Series, Series.pk == Instance.series_pk)
        .join(Name, Name.pk == Instance.class_pk)
        .where(Series.study_pk == study_pk, ~hiding.hidden(), Name.uid != _KEY_OBJECT_SELECTION)
    )
    return session.scalar(query) or 0


def _expire(
    session: Session, study_pk: int, study_uid: str, note_uid: str, due_at: datetime, now: datetime, by: str
) -> None:
    """All of a study has expired: it goes into the trash as a whole, and the notes with it."""
    if deletions.standing_of(session, study_pk) is not None:
        return
    why = "the study is in the trash as a whole"
    _end(session, _standing(session, study_pk, codes=(EXPIRED,)), now, by, why)
    deletions.delete(session, study_uid, TITLES[EXPIRED], due_at, now, by, code=EXPIRED, note=note_uid)


def expired(session: Session, limit: int) -> list[str]:
    """Studies with instances that have expired, of which nothing else has been left to see since the last
    such instance came, and which are not in the trash."""
    shown = (
        select(Instance.pk)
        .join(Series, Series.pk == Instance.series_pk)
        .join(Name, Name.pk == Instance.class_pk)
        .where(Series.study_pk == Study.pk, ~hiding.hidden(), Name.uid != _KEY_OBJECT_SELECTION)
    )
    mine = select(HiddenInstance.instance_pk).join(Deletion, Deletion.pk == HiddenInstance.deletion_pk)
    mine = mine.where(
        Deletion.study_pk == Study.pk,
        Deletion.kind == DeletionKind.REJECTION,
        Deletion.state == DeletionState.STANDING,
        Deletion.code == EXPIRED,
    )
    trash = select(Deletion.pk).where(
        Deletion.study_pk == Study.pk,
        Deletion.kind == DeletionKind.TRASH,
        Deletion.state.in_(LIVE_DELETIONS),
    )
    some = select(Deletion.study_pk).where(Deletion.code == EXPIRED, Deletion.state == DeletionState.STANDING)
    query = select(Study.uid).where(Study.pk.in_(some), mine.exists(), ~shown.exists(), ~trash.exists())
    return list(session.scalars(query.order_by(Study.pk).limit(limit)))


def expire(session: Session, study_uid: str, due_at: datetime, now: datetime, by: str) -> bool:
    """Put such a study into the trash, unless it is held or retained; whether that was done.

    To be called first in its transaction.
    """
    hiding.lock(session)
    study_pk = session.scalar(select(Study.pk).where(Study.uid == study_uid).with_for_update())
    if study_pk is None or _left(session, study_pk) or marks.kept_by_law(session, study_pk, now):
        return False
    found = _standing(session, study_pk, codes=(EXPIRED,))
    if found:
        _expire(session, study_pk, study_uid, found[-1].note, due_at, now, by)
    return bool(found)


def revoke(session: Session, study_uid: str, reason: str, now: datetime, by: str, note: str = "") -> int:
    """Take rejections of a study back: all, or one note's; how many those were.

    To be called first in its transaction. The standard has no document for this: a person says it.

    What such a note names and has not come is then awaited no more.

    :raises NotFound: nothing of such a study is rejected, nor will be when it comes.
    :raises BadInput: no reason.
    """
    hiding.lock(session)
    reason = marks.checked_reason(reason)
    pk = session.scalar(select(Study.pk).where(Study.uid == study_uid).with_for_update())
    found = _standing(session, pk, note=note) if pk is not None else []
    notes = {each.note for each in found} | awaiting.forget(session, study_uid, note)
    if not notes:
        raise NotFound(f"nothing of study {study_uid} is rejected" + (f" by {note}" if note else ""))
    _end(session, found, now, by, reason)
    if pk is not None:
        hiding.recount(session, pk)
    detail = {"why": reason, "notes": sorted(notes)}
    journal.append(session, now, by, "rejection revoked", "study", study_uid, detail)
    return len(notes)


def _standing(
    session: Session, study_pk: int, *, codes: Iterable[str] = tuple(TITLES), note: str = ""
) -> list[Deletion]:
    query = select(Deletion).where(
        Deletion.study_pk == study_pk,
        Deletion.kind == DeletionKind.REJECTION,
        Deletion.state == DeletionState.STANDING,
        Deletion.code.in_(list(codes)),
    )
    if note:
        query = query.where(Deletion.note == note)
    return list(session.scalars(query.order_by(Deletion.pk)))


def _end(session: Session, rows: Iterable[Deletion], now: datetime, by: str, reason: str) -> None:
    for row in rows:
        session.execute(
            update(Deletion)
            .where(Deletion.pk == row.pk)
            .values(state=DeletionState.UNDONE.value, ended_at=now, ended_by=by, ended_reason=reason)
        )
        hiding.show(session, row.pk)


def listing(session: Session, limit: int, offset: int = 0) -> list[Rejection]:
    """Rejections that stand, the last first."""
    none = literal(0)
    here = (
        select(
            *(Study.uid.label("study"), Deletion.code, Deletion.note, Deletion.made_at, Deletion.made_by),
            *(func.count(Instance.uid.distinct()).label("instances"), none.label("awaited")),
        )
        .join(Study, Study.pk == Deletion.study_pk)
        .outerjoin(HiddenInstance, HiddenInstance.deletion_pk == Deletion.pk)
        .outerjoin(Instance, Instance.pk == HiddenInstance.instance_pk)
        .where(Deletion.kind == DeletionKind.REJECTION, Deletion.state == DeletionState.STANDING)
        .group_by(Study.uid, Deletion.pk)
    )
    there = AwaitedRejection
    group = (there.study_uid, there.code, there.note, there.made_at, there.made_by)
    awaited = select(*group, none, func.count()).group_by(*group)
    each = union_all(here, awaited).subquery().c
    rows = session.execute(
        select(
            *(each.study, each.code, each.note, func.sum(each.instances), func.sum(each.awaited)),
            *(each.made_at, each.made_by),
        )
        .group_by(each.study, each.code, each.note, each.made_at, each.made_by)
        .order_by(each.made_at.desc(), each.study, each.note.desc())
        .limit(limit)
        .offset(offset)
    )
    return [Rejection(row[0], row[1], row[2], int(row[3]), int(row[4]), row[5], row[6]) for row in rows]
