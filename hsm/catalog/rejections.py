"""Rejection notes in force: what they hide, and how they are revoked (IHE RAD TF-2 section 4.66.4.1.3).

What is rejected stays: its copies are made, verified and moved like all others. Only a note that says that
the retention has expired lets bytes go, by putting a study into the trash once it rejects all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from hsm.catalog import deletions, hiding, journal, marks
from hsm.catalog.placement import chunks
from hsm.catalog.tables import Deletion, HiddenInstance, Instance, Name, Series, Study
from hsm.errors import BadInput, NotFound, Refused
from hsm.states import DeletionKind, DeletionState

QUALITY, SAFETY, WORKLIST, EXPIRED = hiding.QUALITY, "113037", "113038", "113039"
TITLES: Mapping[str, str] = MappingProxyType(
    {
        QUALITY: "Rejected for Quality Reasons",
        SAFETY: "Rejected for Patient Safety Reasons",
        WORKLIST: "Incorrect Modality Worklist Entry",
        EXPIRED: "Data Retention Policy Expired",
    }
)
"""Code Value -> Code Meaning, of the coding scheme DCM."""
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
    made_at: datetime
    made_by: str


def require_possible(session: Session, note: Note, now: datetime) -> None:
    """Whether a note can come into force, asked before it is kept.

    :raises BadInput: none of what it names is here.
    :raises Refused: it says that the retention has expired, and a study is held or retained.
    """
    known = 0
    for uid, references in note.by_study().items():
        pk = session.scalar(select(Study.pk).where(Study.uid == uid))
        if pk is None:
            continue
        known += len(_named(session, pk, references))
        kept = marks.kept_by_law(session, pk, now) if note.code == EXPIRED else ""
        if kept:
            raise Refused(f"study {uid}: {kept}")
    if not known:
        raise BadInput(f"none of the {len(note.references)} instances that the note names is here")


def reject(session: Session, note: Note, due_at: datetime, now: datetime, by: str) -> int:
    """Bring a note into force; how many versions of instances it hides. The same note again changes nothing.

    To be called first in its transaction.

    :param due_at: when what goes into the trash by it may end.
    :raises Refused: see :func:`require_possible`.
    """
    hiding.lock(session)
    hidden = 0
    for uid, references in note.by_study().items():
        study_pk = session.scalar(select(Study.pk).where(Study.uid == uid).with_for_update())
        if study_pk is None or _is_known(session, study_pk, note.uid):
            continue
        named = _named(session, study_pk, references)
        if not named:
            continue
        missing = sorted({each.sop_instance_uid for each in references} - set(named.values()))
        _stand(session, study_pk, uid, note, named, missing, now, by)
        hidden += len(named)
        if note.code == EXPIRED and not _left(session, study_pk):
            _expire(session, study_pk, uid, note, due_at, now, by)
    return hidden


def _is_known(session: Session, study_pk: int, note_uid: str) -> bool:
    query = select(Deletion.pk).where(Deletion.study_pk == study_pk, Deletion.note == note_uid)
    return session.scalar(query.limit(1)) is not None


def _named(session: Session, study_pk: int, references: Sequence[Reference]) -> dict[int, str]:
    """Every version of what a note names in a study: key and UID."""
    wanted = {(each.series_uid, each.sop_instance_uid) for each in references}
    found: dict[int, str] = {}
    for some in chunks(sorted({uid for _, uid in wanted})):
        rows = session.execute(
            select(Instance.pk, Series.uid, Instance.uid)
            .join(Series, Series.pk == Instance.series_pk)
            .where(Series.study_pk == study_pk, Instance.uid.in_(some))
        )
        found |= {pk: uid for pk, series_uid, uid in rows if (series_uid, uid) in wanted}
    return found


def _stand(
    session: Session,
    study_pk: int,
    study_uid: str,
    note: Note,
    named: Mapping[int, str],
    missing: Sequence[str],
    now: datetime,
    by: str,
) -> None:
    hiding.stand(
        session,
        study_pk,
        DeletionKind.REJECTION,
        named,
        now,
        by,
        TITLES[note.code],
        code=note.code,
        note=note.uid,
    )
    hiding.recount(session, study_pk)
    detail: dict[str, Any] = {
        "why": TITLES[note.code],
        "note": note.uid,
        "instances": len(set(named.values())),
    }
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
    session: Session, study_pk: int, study_uid: str, note: Note, due_at: datetime, now: datetime, by: str
) -> None:
    """All of a study has expired: it goes into the trash as a whole, and the notes with it."""
    if deletions.standing_of(session, study_pk) is not None:
        return
    why = "the study is in the trash as a whole"
    _end(session, _standing(session, study_pk, codes=(EXPIRED,)), now, by, why)
    deletions.delete(session, study_uid, TITLES[EXPIRED], due_at, now, by, code=note.code, note=note.uid)


def revoke(session: Session, study_uid: str, reason: str, now: datetime, by: str, note: str = "") -> int:
    """Take rejections of a study back: all, or one note's; how many those were.

    To be called first in its transaction. The standard has no document for this: a person says it.

    :raises NotFound: no such study, or nothing of it is rejected.
    :raises BadInput: no reason.
    """
    hiding.lock(session)
    reason = marks.checked_reason(reason)
    pk = marks.study_key(session, study_uid)
    session.execute(select(Study.pk).where(Study.pk == pk).with_for_update())
    found = _standing(session, pk, note=note)
    if not found:
        raise NotFound(f"nothing of study {study_uid} is rejected" + (f" by {note}" if note else ""))
    _end(session, found, now, by, reason)
    hiding.recount(session, pk)
    detail = {"why": reason, "notes": [each.note for each in found]}
    journal.append(session, now, by, "rejection revoked", "study", study_uid, detail)
    return len(found)


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
    rows = session.execute(
        select(
            *(Study.uid, Deletion.code, Deletion.note, func.count(Instance.uid.distinct())),
            *(Deletion.made_at, Deletion.made_by),
        )
        .join(Study, Study.pk == Deletion.study_pk)
        .join(HiddenInstance, HiddenInstance.deletion_pk == Deletion.pk)
        .join(Instance, Instance.pk == HiddenInstance.instance_pk)
        .where(Deletion.kind == DeletionKind.REJECTION, Deletion.state == DeletionState.STANDING)
        .group_by(Study.uid, Deletion.pk)
        .order_by(Deletion.pk.desc())
        .limit(limit)
        .offset(offset)
    )
    return [Rejection(*tuple[Any, ...](row)) for row in rows]
