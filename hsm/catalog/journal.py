"""The append-only, hash-chained record of every state change (promise 7).

Here records are appended and found again. What chains them is in :mod:`hsm.catalog.chain`; who wants them
as links of that chain asks :mod:`hsm.catalog.chainread`, whether it is whole :mod:`hsm.catalog.chaincheck`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, exists, insert, select, update
from sqlalchemy.orm import Session

from hsm.catalog.chain import canonical, digest_after
from hsm.catalog.tables import Journal, JournalHead
from hsm.errors import ConfigError

FIELDS = (
    Journal.seq,
    Journal.at,
    Journal.actor,
    Journal.verb,
    Journal.kind,
    Journal.subject,
    Journal.detail,
)
"""What makes a record, in the order that its digest takes it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One record: when, who, what, and why (in ``detail``)."""

    seq: int
    at: datetime
    actor: str
    """Who: an operator, a routine, an AE title."""
    verb: str
    kind: str
    """The noun that ``subject`` is one of: ``volume``, ``copy``, ``request``, ``study``."""
    subject: str
    detail: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.at.tzinfo is None:
            raise ValueError(f"journal: {self.at!r} has no time zone")
        for name in ("actor", "verb", "kind", "subject"):
            value: str = getattr(self, name)
            if not value or "\0" in value:
                raise ValueError(f"journal: {name} {value!r} is empty or holds a NUL")

    def record(self) -> dict[str, Any]:
        """In plain values: seq, at, actor, verb, kind, subject, detail."""
        return {each.name: getattr(self, each.name) for each in fields(self)} | {"detail": dict(self.detail)}


def append(
    session: Session,
    at: datetime,
    actor: str,
    verb: str,
    kind: str,
    subject: str,
    detail: Mapping[str, Any],
) -> int:
    """Append one record in the session's transaction and return its number.

    Locks the head until the transaction ends, so that the chain has no forks: append as late in a
    transaction as possible. ``detail`` is plain JSON values.

    :raises ValueError: an empty field, a time without a zone, or a detail that JSON cannot express.
    :raises ConfigError: the catalog has no journal head (it was never upgraded).
    """
    return append_many(session, at, actor, verb, kind, [(subject, detail)])


def append_many(
    session: Session,
    at: datetime,
    actor: str,
    verb: str,
    kind: str,
    subjects: Sequence[tuple[str, Mapping[str, Any]]],
) -> int:
    """Append a record for each (subject, detail), as :func:`append` does one, in three statements.

    :returns: the number of the last record; that of the head when there is nothing to append.
    """
    for subject, detail in subjects:
        Entry(1, at, actor, verb, kind, subject, detail)
    # The update takes the lock on both databases before it reads.
    head = session.execute(
        update(JournalHead)
        .where(JournalHead.pk == 1)
        .values(seq=JournalHead.seq + len(subjects))
        .returning(JournalHead.seq, JournalHead.digest)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if head is None:
        raise ConfigError("the catalog has no journal head; run `hsm catalog upgrade`")
    last, digest, rows = int(head.seq), head.digest, []
    for seq, (subject, detail) in enumerate(subjects, last - len(subjects) + 1):
        text = canonical(detail)
        digest = digest_after(digest, seq, at, actor, verb, kind, subject, text)
        rows.append(
            {
                "seq": seq,
                "at": at,
                "actor": actor,
                "verb": verb,
                "kind": kind,
                "subject": subject,
                "detail": text,
                "digest": digest,
            }
        )
    if rows:
        session.execute(insert(Journal), rows)
    session.execute(
        update(JournalHead)
        .where(JournalHead.pk == 1)
        .values(digest=digest)
        .execution_options(synchronize_session=False)
    )
    return last


def history(session: Session, subject: str) -> list[Entry]:
    """All records about ``subject``, oldest first."""
    return read(session, [Journal.subject == subject])


def read(
    session: Session,
    where: Sequence[ColumnElement[bool]],
    *,
    last_first: bool = False,
    limit: int | None = None,
    offset: int | None = None,
) -> list[Entry]:
    """The records that meet the conditions, oldest first unless told otherwise."""
    order = Journal.seq.desc() if last_first else Journal.seq
    rows = session.execute(select(*FIELDS).where(*where).order_by(order).limit(limit).offset(offset))
    return [entry_of(row) for row in rows]


def entry_of(row: Sequence[Any]) -> Entry:
    """The record in a row that begins with :data:`FIELDS`."""
    seq, at, actor, verb, kind, subject, detail = row[:7]
    return Entry(seq, at, actor, verb, kind, subject, json.loads(detail or "{}"))


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which records are looked for; empty members do not matter."""

    subject: str = ""
    actor: str = ""
    verb: str = ""
    """Whole, or its beginning where it ends with ``*``."""
    kind: str = ""
    since: datetime | None = None
    until: datetime | None = None
    before: int | None = None
    """Only records with a lower number: the next page."""

    def conditions(self) -> list[ColumnElement[bool]]:
        exact = ((Journal.subject, self.subject), (Journal.actor, self.actor), (Journal.kind, self.kind))
        found = [column == value for column, value in exact if value]
        if self.verb.endswith("*"):
            found.append(Journal.verb.startswith(self.verb.rstrip("*"), autoescape=True))
        elif self.verb:
            found.append(Journal.verb == self.verb)
        if self.since is not None:
            found.append(Journal.at >= self.since)
        if self.until is not None:
            found.append(Journal.at < self.until)
        if self.before is not None:
            found.append(Journal.seq < self.before)
        return found


def find(session: Session, wanted: Wanted, limit: int) -> list[Entry]:
    """The records that match, the last first."""
    return read(session, wanted.conditions(), last_first=True, limit=limit)


def last(session: Session, wanted: Wanted) -> Entry | None:
    """The last record that matches."""
    return next(iter(find(session, wanted, 1)), None)


def any_since(session: Session, seq: int, but: str) -> bool:
    """Whether a later record has another verb than this one."""
    return bool(session.scalar(select(exists().where(Journal.seq > seq, Journal.verb != but))))
