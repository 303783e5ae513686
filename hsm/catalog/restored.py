"""After a restore from a backup: what a catalog may not do before it has been compared with its media.

A catalog from a backup does not know what was written since. On its word alone nothing is released, sealed,
copied, labelled or recycled: the journal says whether the comparison is owed, and nobody can take that back.
"""

from __future__ import annotations

import json
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from hsm.catalog.tables import Journal
from hsm.errors import Refused

CATALOG = "catalog"
"""Kind and subject of what concerns the whole catalog."""
REBUILD_BEGAN = "rebuild began"
RESTORED, COMPARED = "restored", "compared with media"
NOT_COMPARED = "not compared since the catalog was restored"
"""How the error of a volume begins that was left out of the comparison."""
OWED = (
    "the catalog was restored from a backup and has not been compared with its media yet: stop the daemon "
    "and run hsm catalog check --media"
)


def last(session: Session) -> tuple[int, str] | None:
    """The record of the last restore or of the last whole comparison, and which of the two it is."""
    query = select(Journal.seq, Journal.verb).where(
        Journal.subject == CATALOG, Journal.kind == CATALOG, Journal.verb.in_((RESTORED, COMPARED))
    )
    found = session.execute(query.order_by(Journal.seq.desc()).limit(1)).first()
    return (int(found[0]), str(found[1])) if found is not None else None


def is_owed(session: Session) -> bool:
    """Whether the catalog has been restored and not been compared with its media since."""
    found = last(session)
    return found is not None and found[1] == RESTORED


def forked(session: Session) -> tuple[int, int] | None:
    """Of the last restore: how many records the backup had, and the number of the record that says so. None:
    the catalog was never restored."""
    query = select(Journal.seq, Journal.detail).where(
        Journal.subject == CATALOG, Journal.kind == CATALOG, Journal.verb == RESTORED
    )
    found = session.execute(query.order_by(Journal.seq.desc()).limit(1)).first()
    return (int(json.loads(found[1]).get("records", 0)), int(found[0])) if found is not None else None


def way(session: Session, before: int | None = None) -> bytes | None:
    """What tells a journal from every other, and from itself before it took another way: the digest of the
    record of its last restore, else of its first record; None: it has none.

    :param before: as it was when it had this record yet to come.
    """
    query = select(Journal.digest).where(
        Journal.subject == CATALOG, Journal.kind == CATALOG, Journal.verb == RESTORED
    )
    if before is not None:
        query = query.where(Journal.seq < before)
    last = session.scalar(query.order_by(Journal.seq.desc()).limit(1))
    first = select(Journal.digest).where(Journal.seq == 1)
    return last if last is not None else session.scalar(first)


def require(session: Session, what: str) -> None:
    """:raises Refused: the comparison is owed; ``what`` was not done."""
    if is_owed(session):
        raise Refused(f"{what}: {OWED}")


def lost_ways(session: Session) -> list[tuple[int, datetime]]:
    """Where the journal took another way than it once did: behind record n, anchors that are older than this
    time are of records that were lost with the database."""
    began = select(Journal.at).where(Journal.seq == 1, Journal.verb == REBUILD_BEGAN)
    found = [(0, at) for at in session.scalars(began)]
    query = select(Journal.at, Journal.detail).where(
        Journal.subject == CATALOG, Journal.kind == CATALOG, Journal.verb == RESTORED
    )
    found += [(int(json.loads(detail).get("records", 0)), at) for at, detail in session.execute(query)]
    return found
