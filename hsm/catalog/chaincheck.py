"""Whether the journal's chain is whole, and where it is broken and how: altered, removed, inserted or
reordered records, an altered head, and a chain written anew where a digest was kept elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, Select, exists, func, select, true
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from hsm.catalog.chain import GENESIS, digest_after
from hsm.catalog.chainread import BATCH
from hsm.catalog.journal import FIELDS
from hsm.catalog.tables import Journal, JournalHead, Study, Volume
from hsm.log import get_logger

log = get_logger(__name__)


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
        elif row.digest != _expected(previous_digest, row):
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
            rows = session.execute(_with_head(after).execution_options(yield_per=BATCH))
            for row in rows:
                after = row.seq
                yield row
        except NO_VALUES:
            log.debug("behind record %s of the journal is one that cannot be read", after)
        else:
            return
        for _ in range(BATCH):  # it is one of the batch: one by one
            behind = Journal.seq > after if after is not None else true()
            after = session.scalar(select(func.min(Journal.seq)).where(behind))
            if after is None:
                return
            yield _one(session, after)


def _with_head(after: int | None) -> Select[Any]:
    query = select(
        *FIELDS,
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


def _expected(previous: bytes, row: Row[Any]) -> bytes | None:
    """What the record's digest should be; None where its fields are no record's."""
    try:
        fields: tuple[Any, ...] = tuple(row)[:7]
        return digest_after(previous, *fields)
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
