"""The journal as a chain: its records' texts and digests, for whoever copies, anchors or compares them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from hsm.catalog.chain import GENESIS, line_of
from hsm.catalog.journal import FIELDS, Entry, entry_of
from hsm.catalog.tables import Journal, JournalHead

BATCH = 1000
"""Records fetched at a time, so that the memory used does not grow with the journal."""


def lines(session: Session, first: int, last: int) -> Iterator[str]:
    """Of each record from ``first`` to ``last`` the text that its digest is made of, after the digest before
    it: a JSON array."""
    rows = session.execute(
        select(*FIELDS)
        .where(Journal.seq.between(first, last))
        .order_by(Journal.seq)
        .execution_options(yield_per=BATCH)
    )
    for row in rows:
        yield line_of(*row)


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
        select(*FIELDS, Journal.digest).where(Journal.seq > seq).order_by(Journal.seq).limit(limit)
    )
    return [Link(entry_of(row), line_of(*row[:7]), bytes(row.digest)) for row in rows]


def digests(session: Session, first: int) -> Iterator[tuple[int, bytes]]:
    """Number and digest of each record from ``first`` on."""
    rows = session.execute(
        select(Journal.seq, Journal.digest)
        .where(Journal.seq >= first)
        .order_by(Journal.seq)
        .execution_options(yield_per=BATCH)
    )
    for seq, digest in rows:
        yield int(seq), bytes(digest)


def head(session: Session) -> tuple[int, bytes]:
    """Number and digest of the last record; 0 and the genesis of an empty journal."""
    found = session.execute(select(JournalHead.seq, JournalHead.digest)).one_or_none()
    return (int(found.seq), bytes(found.digest)) if found is not None else (0, GENESIS)
