"""Sums over whole tables: they cost as much as the archive is large, so whoever asks often keeps them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hsm.catalog.tables import Copy, Package, Study, Volume
from hsm.catalog.views.common import Record

KEPT_FROM_STUDIES = 100_000
"""Below, they are made in a fraction of a second, and always anew."""
STUDIES_PER_SECOND = 25_000.0
REST_SECONDS_MAX = 60.0


@dataclass(frozen=True, slots=True)
class CopySum:
    """The copies in one state in one pool; bytes of their packages."""

    pool: str
    state: str
    count: int
    size: int


@dataclass(frozen=True, slots=True)
class Sums:
    """As of one moment."""

    totals: Record
    """studies, instances, bytes, packages, unsealed"""
    copies: tuple[CopySum, ...]
    """Without those that are released."""


def sums(session: Session) -> Sums:
    """Made anew: some 2 s of processor time with 1,000,000 studies and as many packages on SQLite."""
    studies, instances, size, unsealed = session.execute(
        select(
            func.count().filter((Study.n_instances > 0) | (Study.unsealed > 0)),  # not those that are gone
            func.coalesce(func.sum(Study.n_instances), 0),
            func.coalesce(func.sum(Study.n_bytes), 0),
            func.coalesce(func.sum(Study.unsealed), 0),
        ).select_from(Study)
    ).one()
    packages = session.scalar(select(func.count()).select_from(Package)) or 0
    totals = {
        "studies": studies,
        "instances": int(instances),
        "bytes": int(size),
        "packages": packages,
        "unsealed": int(unsealed),
    }
    by_copy = (
        select(Volume.pool, Copy.state, func.count(), func.sum(Package.size))
        .join(Volume, Volume.pk == Copy.volume_pk)
        .join(Package, Package.pk == Copy.package_pk)
        .where(Copy.state != "released", Volume.pool.is_not(None))
        .group_by(Volume.pool, Copy.state)
    )
    copies = [
        CopySum(str(pool), state, count, int(total)) for pool, state, count, total in session.execute(by_copy)
    ]
    return Sums(totals, tuple(copies))


def rest_seconds(found: Sums) -> float:
    """How long these are good enough. Pure: so long that making them takes little of the time."""
    studies = max(found.totals["studies"], found.totals["packages"])
    return 0.0 if studies < KEPT_FROM_STUDIES else min(studies / STUDIES_PER_SECOND, REST_SECONDS_MAX)


class KeptSums:
    """Sums for whoever asks often. Thread-safe: of a large archive one asker makes them anew, and the others
    get those that there are."""

    def __init__(self, monotonic: Callable[[], float], make: Callable[[Session], Sums] = sums) -> None:
        self._monotonic = monotonic
        self._make = make
        self._lock = threading.Lock()
        self._making = threading.Lock()
        self._kept: Sums | None = None
        self._made_at = float("-inf")

    def of(self, session: Session) -> Sums:
        """At most :func:`rest_seconds` old; while somebody makes them anew, at most twice that."""
        kept = self._younger_than(1)
        if kept is not None:
            return kept
        old = self._younger_than(2)
        if not self._making.acquire(blocking=old is None) and old is not None:
            return old
        try:
            kept = self._younger_than(1)  # somebody may have made them while we waited
            return kept if kept is not None else self._anew(session)
        finally:
            self._making.release()

    def _younger_than(self, rests: int) -> Sums | None:
        """Those that are kept, if they are younger than so many rests."""
        with self._lock:
            if self._kept is None:
                return None
            age = self._monotonic() - self._made_at
            return self._kept if age < rests * rest_seconds(self._kept) else None

    def _anew(self, session: Session) -> Sums:
        found = self._make(session)
        with self._lock:
            self._kept, self._made_at = found, self._monotonic()
        return found
