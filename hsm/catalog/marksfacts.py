"""What the catalog has to say to media of deletions, holds, retention, tags and rejections."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from hsm.catalog import journal, words
from hsm.catalog.portions import chunks
from hsm.catalog.tables import (
    MARKED,
    DeletedPackage,
    Deletion,
    HiddenInstance,
    Hold,
    Instance,
    Journal,
    Package,
    Study,
)
from hsm.marksfile import Deleted, Held, Rejected, Stand, StudyMarks, read_marks, read_stand
from hsm.states import DeletionKind, DeletionState

WRITTEN = "marks written"
"""The verb: this volume carries the marks up to that record."""
FOUND = "marks found"
"""The verb: a volume says so of that study."""
_MARKED = text(f"({MARKED})")
"""As the index has it, word by word: else SQLite would not use it."""


def latest(session: Session) -> int:
    """Number of the last record by which somebody said something of a study; 0 where nobody has."""
    query = select(Journal.seq).where(_MARKED).order_by(Journal.seq.desc()).limit(1)
    return session.scalar(query) or 0


def marked_since(session: Session, after: int, to: int) -> list[str]:
    """Studies of which somebody said something behind record ``after``, up to record ``to``."""
    query = select(Journal.subject).where(_MARKED, Journal.seq > after, Journal.seq <= to)
    return sorted(set(session.scalars(query.where(Journal.kind == "study"))))


def waiting_since(session: Session, after: int) -> datetime | None:
    """When somebody said the first that a volume does not carry that carries what was said up to record
    ``after``; None where it carries all."""
    query = select(Journal.at).where(_MARKED, Journal.seq > after)
    return session.scalar(query.order_by(Journal.seq).limit(1))


def carried(session: Session, volume: str, uuid: str) -> tuple[int, datetime | None]:
    """Up to which record a volume carries the marks, and since when; 0 and None where it carries none. A
    volume that was labelled anew carries none."""
    last = journal.last(session, journal.Wanted(subject=volume, verb=WRITTEN, kind="volume"))
    if last is None or last.detail.get("uuid") != uuid:
        return 0, None
    return int(last.detail["to"]), last.at


@dataclass(frozen=True, slots=True)
class Found:
    """What a volume said of a study, as it was taken over."""

    seq: int
    stand: Stand
    marks: StudyMarks


def found(session: Session, uids: Iterable[str]) -> dict[str, Found]:
    """What volumes said of these studies last."""
    last: dict[str, Found] = {}
    for some in chunks(uids):
        rows = session.execute(
            select(Journal.seq, Journal.subject, Journal.detail)
            .where(Journal.subject.in_(some), Journal.kind == "study", Journal.verb == FOUND)
            .order_by(Journal.seq)
        )
        for seq, uid, detail in rows:
            said = json.loads(detail)
            last[uid] = Found(seq, read_stand(said), read_marks(said))
    return last


def of(session: Session, uids: Sequence[str]) -> Iterator[StudyMarks]:
    """What is said of these studies now, in their order. What volumes said of packages that the catalog has
    never seen is passed on."""
    for some in chunks(uids):
        handed = found(session, some)
        mine = {each.study: each for each in _some(session, some)}
        for uid in some:
            said = mine.get(uid, StudyMarks(uid))
            yield _passed_on(session, said, handed[uid].marks.deleted) if uid in handed else said


def _passed_on(session: Session, said: StudyMarks, handed: Deleted | None) -> StudyMarks:
    unseen = absent(session, handed.packages) if handed is not None else {}
    if handed is None or not unseen:
        return said
    own = said.deleted or handed
    packages = {**(said.deleted.packages if said.deleted else {}), **unseen}
    return replace(said, deleted=replace(own, packages=packages))


def absent(session: Session, packages: Mapping[str, bytes]) -> dict[str, bytes]:
    """Of these packages (name, SHA-256) those that the catalog does not have."""
    have: set[tuple[str, bytes]] = set()
    for some in chunks(packages):
        rows = session.execute(select(Package.key, Package.digest).where(Package.key.in_(some)))
        have |= {(key, bytes(digest)) for key, digest in rows}
    return {name: digest for name, digest in packages.items() if (name, digest) not in have}


def _some(session: Session, uids: Sequence[str]) -> Iterator[StudyMarks]:
    rows = session.execute(
        select(Study.pk, Study.uid, Study.retain_until, Study.tags).where(Study.uid.in_(uids))
    )
    studies = {uid: (pk, until or "", tags) for pk, uid, until, tags in rows}
    pks = [pk for pk, _, _ in studies.values()]
    tags = words.members(session, {tags for _, _, tags in studies.values()})
    holds = {
        pk: Held(at, by, reason)
        for pk, at, by, reason in session.execute(
            select(Hold.study_pk, Hold.placed_at, Hold.placed_by, Hold.reason).where(
                Hold.study_pk.in_(pks), Hold.lifted_at.is_(None)
            )
        )
    }
    deletions: dict[int, list[Deletion]] = {}
    standing = select(Deletion).where(Deletion.study_pk.in_(pks), Deletion.state != DeletionState.UNDONE)
    for row in session.scalars(standing.order_by(Deletion.pk).execution_options(populate_existing=True)):
        deletions.setdefault(row.study_pk, []).append(row)
    for uid in uids:
        if uid not in studies:
            continue
        pk, until, set_pk = studies[uid]
        rows_of = deletions.get(pk, [])
        trash = [row for row in rows_of if row.kind == DeletionKind.TRASH]
        notes = [row for row in rows_of if row.kind == DeletionKind.REJECTION]
        yield StudyMarks(
            uid,
            _deleted(session, trash) if trash else None,
            holds.get(pk),
            until,
            tags[set_pk],
            tuple(_rejected(session, row) for row in notes),
        )


def _deleted(session: Session, rows: Iterable[Deletion]) -> Deleted:
    every = list(rows)
    last = every[-1]
    packages = session.execute(
        select(Package.key, Package.digest)
        .join(DeletedPackage, DeletedPackage.package_pk == Package.pk)
        .where(DeletedPackage.deletion_pk.in_([row.pk for row in every]))
    )
    through = all(row.state == DeletionState.PURGED for row in every)
    assert last.due_at is not None  # the database says so of the trash
    return Deleted(
        *(last.made_at, last.made_by, last.approved_by, last.reason, last.due_at, last.refuses),
        last.ended_at if through else None,
        dict(tuple[Any, ...](row) for row in packages),
        *(last.code, last.note),
    )


def _rejected(session: Session, row: Deletion) -> Rejected:
    instances = session.execute(
        select(Instance.uid, Instance.version)
        .join(HiddenInstance, HiddenInstance.instance_pk == Instance.pk)
        .where(HiddenInstance.deletion_pk == row.pk)
        .order_by(Instance.uid, Instance.version)
    )
    named = tuple((uid, version) for uid, version in instances)
    return Rejected(row.made_at, row.made_by, row.reason, row.code, row.note, named)
