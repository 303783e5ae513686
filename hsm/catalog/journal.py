"""The append-only, hash-chained record of every state change (promise 7).

Record ``n`` carries SHA-256(digest of record ``n - 1`` || canonical JSON of
``[seq, at, actor, verb, kind, subject, detail]``); record 1 follows 32 zero bytes. Whoever alters,
removes, inserts or reorders a record breaks the chain there. The chain cannot tell that somebody
rewrote it whole from some record on: for that, keep a copy of the head's digest elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, exists, func, insert, select, true, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from drivers.base import DIGEST_BYTES
from hsm.catalog.tables import Journal, JournalHead, Study, Volume
from hsm.errors import ConfigError
from hsm.log import get_logger

log = get_logger(__name__)

GENESIS = bytes(DIGEST_BYTES)
"""The digest that record 1 follows."""

_FIELDS = (
    Journal.seq,
    Journal.at,
    Journal.actor,
    Journal.verb,
    Journal.kind,
    Journal.subject,
    Journal.detail,
)
_BATCH = 1000
"""Records fetched at a time, so that the memory used does not grow with the journal."""


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


@dataclass(frozen=True, slots=True)
class Kept:
    """A digest that was kept outside the journal, or is named by a later record of it."""

    seq: int
    digest: bytes
    where: str
    """In words: ``on volume HSM001L8``."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Where the chain is broken and how."""

    seq: int
    """The record where it shows; 0 for the head."""
    message: str


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
        text = _canonical(detail)
        digest = _digest(digest, seq, at, actor, verb, kind, subject, text)
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
    rows = session.execute(select(*_FIELDS).where(*where).order_by(order).limit(limit).offset(offset))
    return [Entry(*row[:6], detail=json.loads(row.detail or "{}")) for row in rows]


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


def lines(session: Session, first: int, last: int) -> Iterator[str]:
    """Of each record from ``first`` to ``last`` the text that its digest is made of, after the digest before
    it: a JSON array."""
    rows = session.execute(
        select(*_FIELDS)
        .where(Journal.seq.between(first, last))
        .order_by(Journal.seq)
        .execution_options(yield_per=_BATCH)
    )
    for row in rows:
        yield _line(*row)


def digest_of(session: Session, seq: int) -> bytes | None:
    """The digest that record ``seq`` carries; of record 0 what record 1 follows. None: no such record."""
    if seq == 0:
        return GENESIS
    return session.scalar(select(Journal.digest).where(Journal.seq == seq))


@dataclass(frozen=True, slots=True)
class Link:
    """One record as it stands in the chain."""

    entry: Entry
    line: str
    """The text that its digest is made of, after the digest before it: a JSON array."""
    digest: bytes


def after(session: Session, seq: int, limit: int) -> list[Link]:
    """The first records behind record ``seq``, in order."""
    rows = session.execute(
        select(*_FIELDS, Journal.digest).where(Journal.seq > seq).order_by(Journal.seq).limit(limit)
    )
    return [
        Link(Entry(*row[:6], detail=json.loads(row.detail or "{}")), _line(*row[:7]), bytes(row.digest))
        for row in rows
    ]


def follows(before: bytes, line: str) -> bytes:
    """The digest of a record whose text is ``line`` behind one with the digest ``before``."""
    return hashlib.sha256(before + line.encode()).digest()


def any_since(session: Session, seq: int, but: str) -> bool:
    """Whether a later record has another verb than this one."""
    return bool(session.scalar(select(exists().where(Journal.seq > seq, Journal.verb != but))))


def digests(session: Session, first: int) -> Iterator[tuple[int, bytes]]:
    """Number and digest of each record from ``first`` on."""
    rows = session.execute(
        select(Journal.seq, Journal.digest)
        .where(Journal.seq >= first)
        .order_by(Journal.seq)
        .execution_options(yield_per=_BATCH)
    )
    for seq, digest in rows:
        yield int(seq), bytes(digest)


def head(session: Session) -> tuple[int, bytes]:
    """Number and digest of the last record; 0 and the genesis of an empty journal."""
    found = session.execute(select(JournalHead.seq, JournalHead.digest)).one_or_none()
    return (int(found.seq), bytes(found.digest)) if found is not None else (0, GENESIS)


def verify(
    session: Session, anchors: Mapping[int, bytes] | None = None, kept: Iterable[Kept] = ()
) -> Iterator[Problem]:
    """Walk the whole chain and yield every break, in order of the records. Nothing means whole.

    Each record is checked against the digest that is stored before it, so one altered record shows
    once and does not hide those after it.

    :param anchors: digests by record number that were kept elsewhere: they also show a chain that was written
        anew from some record on.
    :param kept: the same, with where each of them was.
    """
    expected = _by_number([*(Kept(seq, each, "elsewhere") for seq, each in (anchors or {}).items()), *kept])
    previous_seq, previous_digest = 0, GENESIS
    head: tuple[Any, Any] | None = None
    for row in _walk(session):
        if isinstance(row, _Unreadable):
            if row.seq != previous_seq + 1:
                yield _gap(previous_seq, row.seq)
            yield Problem(row.seq, f"record {row.seq} cannot be read: it was altered ({row.why})")
            previous_seq, previous_digest = row.seq, row.digest
            expected.pop(row.seq, None)
            continue
        head = None if row.head_seq is None else (row.head_seq, row.head_digest)
        if row.seq != previous_seq + 1:
            yield _gap(previous_seq, row.seq)
        elif row.digest != _digest_after(previous_digest, row):
            yield Problem(
                row.seq,
                f"record {row.seq} ({row.verb} {row.kind} {row.subject}) does not follow from record"
                f" {previous_seq}: it was altered, inserted or moved, or the digest of {previous_seq} was",
            )
        previous_seq, previous_digest = row.seq, _bytes(row.digest)
        for digest, where in expected.pop(row.seq, {}).items():
            if digest != row.digest:
                yield Problem(row.seq, _REWRITTEN.format(seq=row.seq, where=where))
    for seq in sorted(expected):
        where = ", ".join(expected[seq].values())
        if seq > 0:
            yield Problem(seq, f"record {seq} is missing, and was there when its digest was kept {where}")
    if previous_seq == 0:
        yield from _verify_empty(session)
    elif head is None:
        yield _NO_HEAD
    elif not isinstance(head[0], int):
        yield Problem(0, "the head names no record: it was altered")
    elif head[0] > previous_seq:
        yield _gap(previous_seq, head[0] + 1)
    elif head != (previous_seq, previous_digest):
        yield Problem(
            0, f"the head names record {head[0]}, the last record is {previous_seq}: one of them was altered"
        )


@dataclass(frozen=True, slots=True)
class _Unreadable:
    """A record that holds what no record can: SQLite takes any value in any column from who asks for it."""

    seq: int
    digest: bytes
    why: str


NO_VALUES = (ValueError, TypeError, OverflowError, AttributeError, DBAPIError)
"""What drivers raise for such values; a database that does not answer raises again when it is asked again."""


def _walk(session: Session) -> Iterator[Row[Any] | _Unreadable]:
    """Every record in order, each with the head as it was then."""
    after: int | None = None
    while True:
        try:
            # One statement sees one snapshot: the head in it belongs to the last record in it.
            rows = session.execute(_with_head(after).execution_options(yield_per=_BATCH))
            for row in rows:
                after = row.seq
                yield row
        except NO_VALUES:
            log.debug("behind record %s of the journal is one that cannot be read", after)
        else:
            return
        for _ in range(_BATCH):  # it is one of the batch: one by one
            behind = Journal.seq > after if after is not None else true()
            after = session.scalar(select(func.min(Journal.seq)).where(behind))
            if after is None:
                return
            yield _one(session, after)


def _with_head(after: int | None) -> Select[Any]:
    query = select(
        *_FIELDS,
        Journal.digest,
        select(JournalHead.seq).scalar_subquery().label("head_seq"),
        select(JournalHead.digest).scalar_subquery().label("head_digest"),
    ).order_by(Journal.seq)
    return query if after is None else query.where(Journal.seq > after)


def _one(session: Session, seq: int) -> Row[Any] | _Unreadable:
    try:
        return session.execute(_with_head(None).where(Journal.seq == seq)).one()
    except NO_VALUES as error:
        why = str(getattr(error, "orig", error))[:200]
    try:
        digest = _bytes(session.scalar(select(Journal.digest).where(Journal.seq == seq)))
    except NO_VALUES:
        digest = b""
    return _Unreadable(seq, digest, why)


def _bytes(digest: object) -> bytes:
    """A digest; nothing where somebody put something else there."""
    return digest if isinstance(digest, bytes) else b""


def _digest_after(previous: bytes, row: Row[Any]) -> bytes | None:
    """What the record's digest should be; None where its fields are no record's."""
    try:
        fields: tuple[Any, ...] = tuple(row)[:7]
        return _digest(previous, *fields)
    except NO_VALUES:
        return None


_REWRITTEN = (
    "record {seq} does not carry the digest that was kept {where}: the journal was written anew, from this "
    "record or an earlier one on"
)
_NO_HEAD = Problem(0, "the journal's head is missing; nothing proves that the last records are all there")


def _by_number(kept: Iterable[Kept]) -> dict[int, dict[bytes, str]]:
    """By record the digests that it should have, one where all is well, and where each was kept."""
    found: dict[int, dict[bytes, str]] = {}
    for each in kept:
        found.setdefault(each.seq, {}).setdefault(each.digest, each.where)
    return found


def _verify_empty(session: Session) -> Iterator[Problem]:
    if session.scalar(select(func.count()).select_from(JournalHead)) == 0:
        yield _NO_HEAD
        return
    # Asked again in one statement: the first record may have been appended since.
    head = session.execute(
        select(JournalHead.seq, JournalHead.digest).where(~exists(select(Journal.seq)))
    ).first()
    if head is not None and head.seq > 0:
        yield _gap(0, head.seq + 1)
    elif head is not None and head.digest != GENESIS:
        yield Problem(0, "the journal is empty but its head's digest was altered")
    elif head is not None and session.scalar(select(exists(select(Study.pk)) | exists(select(Volume.pk)))):
        yield Problem(
            1, "the journal is empty and the catalog is not: every record was removed, and the head put back"
        )


def _gap(before: int, after: int) -> Problem:
    first, last = before + 1, after - 1
    if after <= before + 1:
        return Problem(after, f"record {after} comes before the first record, which is 1: it was inserted")
    missing = f"record {first} is" if first == last else f"records {first} to {last} are"
    return Problem(first, f"{missing} missing: removed, or renumbered")


def _canonical(value: object) -> str:
    """JSON with sorted keys, no white space, and non-ASCII characters as they are.

    :raises ValueError: NaN, infinity, or something that is no JSON value.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except TypeError as error:
        raise ValueError(f"journal: {error}") from error


def _digest(
    previous: bytes, seq: int, at: datetime, actor: str, verb: str, kind: str, subject: str, detail: str
) -> bytes:
    # Lone surrogates cannot be stored either; json.dumps lets them through.
    return follows(previous, _line(seq, at, actor, verb, kind, subject, detail))


def _line(seq: int, at: datetime, actor: str, verb: str, kind: str, subject: str, detail: str) -> str:
    """``detail`` is canonical JSON already and is taken as stored: not a byte of it may change."""
    moment = at.astimezone(UTC).isoformat(timespec="microseconds")
    start = _canonical([seq, moment, actor, verb, kind, subject])
    return f"{start[:-1]},{detail}]"
