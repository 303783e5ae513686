"""Backups that were written into pools, as the journal has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from hsm.catalog import journal
from hsm.catalog.journal import Wanted
from hsm.catalog.restored import CATALOG

BACKED_UP, DROPPED, FAILED = "backed up", "backup dropped", "backup failed"
LOOKED_MAX = 2000
"""Records about backups that are looked through: older ones are nobody's to drop."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A backup in a pool."""

    pool: str
    volume: str
    key: str
    at: datetime


def written(session: Session, kept: Kept, actor: str, size: int, sha256: str, journal_head: str) -> None:
    """A backup was written, flushed and read back."""
    detail = {"pool": kept.pool, "volume": kept.volume, "key": kept.key, "bytes": size, "sha256": sha256}
    journal.append(session, kept.at, actor, BACKED_UP, CATALOG, CATALOG, detail | {"journal": journal_head})


def dropped(session: Session, kept: Kept, now: datetime, actor: str) -> None:
    """A backup was deleted, since younger ones are kept."""
    detail = {"pool": kept.pool, "volume": kept.volume, "key": kept.key}
    journal.append(session, now, actor, DROPPED, CATALOG, CATALOG, detail)


def failed(session: Session, pool: str, now: datetime, actor: str, why: str) -> None:
    """A backup could not be written, or not be read back."""
    journal.append(session, now, actor, FAILED, CATALOG, CATALOG, {"pool": pool, "why": why[:1000]})


def failed_since(session: Session, pool: str, last: Kept | None) -> bool:
    """Whether a backup into the pool has failed since its last good one."""
    found = journal.find(session, Wanted(kind=CATALOG, subject=CATALOG, verb=FAILED), LOOKED_MAX)
    return any(each.detail.get("pool") == pool and (last is None or each.at > last.at) for each in found)


def kept_in(session: Session, pool: str) -> Sequence[Kept]:
    """The backups that a pool has, the last first."""
    gone: set[tuple[str, str]] = set()
    found = []
    verbs = (
        journal.find(session, Wanted(kind=CATALOG, subject=CATALOG, verb=verb), LOOKED_MAX)
        for verb in (DROPPED, BACKED_UP)
    )
    for entry in (each for some in verbs for each in some):
        where = (str(entry.detail.get("volume")), str(entry.detail.get("key")))
        if entry.detail.get("pool") != pool:
            continue
        if entry.verb == DROPPED:
            gone.add(where)
        elif where not in gone:
            found.append(Kept(pool, *where, entry.at))
    return found
