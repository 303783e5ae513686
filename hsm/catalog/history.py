"""What happened to studies: who retrieved them, who found them, and when they came.

Retrieves and query hits are noted in memory (:class:`Recorder`) and written in batches, so that neither
waits for it; what a crash takes with it is the last seconds of a statistic. Old retrieves are counted by
day, very old ones are forgotten. When studies came is in ``study`` itself.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, delete, func, insert, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from hsm.catalog import words
from hsm.catalog.engine import Catalog
from hsm.catalog.portions import chunks
from hsm.catalog.tables import Access, Patient, Series, Study
from hsm.log import get_logger

log = get_logger(__name__)

RETRIEVE = "retrieve"
QUERY = "query"
KEYS_AT_ONCE = 500
ROWS_AT_ONCE = 1000
BUFFER_MAX = 50_000
"""Studies found, and retrieves, that wait to be written; what comes beyond is counted and dropped."""
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Retrieved:
    """One study that one caller retrieved, whole or in part."""

    study_uid: str
    at: datetime
    ae: str
    """Calling AE title."""
    bytes: int
    tier: str
    """Of the pool that its slowest part was read from: online, nearline or offline; staging where it had
    been recalled before."""
    waited_seconds: float
    """From the request to its first instance."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A study that was received; what is known of it is as it is now."""

    at: datetime
    """When its first instance came."""
    study_uid: str
    size: int
    """Bytes of all instances."""
    values: Mapping[str, Any]
    """Its facts by the policy language's source names, those that do not change."""


@dataclass(frozen=True, slots=True)
class Accessed:
    """A study that was retrieved, or found in a query."""

    at: datetime
    """The beginning of its day (UTC) where ``daily``."""
    study_uid: str
    kind: str
    """:data:`RETRIEVE` or :data:`QUERY`."""
    times: int
    bytes: int
    waited_seconds: float
    ae: str
    tier: str
    daily: bool


class Recorder:
    """Notes accesses; :meth:`flush` writes them. Any thread may note, one at a time flushes."""

    def __init__(self, catalog: Catalog, buffer_max: int = BUFFER_MAX) -> None:
        self._catalog = catalog
        self._buffer_max = buffer_max
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._found: dict[tuple[datetime, str], int] = {}
        self._retrieved: list[Retrieved] = []
        self._dropped = 0

    def found(self, study_uids: Iterable[str]) -> None:
        """These studies were matches of one query, each once."""
        day = day_of(self._catalog.clock.now())
        with self._lock:
            for uid in study_uids:
                key = (day, uid)
                if key in self._found or len(self._found) < self._buffer_max:
                    self._found[key] = self._found.get(key, 0) + 1
                else:
                    self._dropped += 1

    def retrieved(self, each: Retrieved) -> None:
        with self._lock:
            if len(self._retrieved) < self._buffer_max:
                self._retrieved.append(each)
            else:
                self._dropped += 1

    def flush(self) -> int:
        """Write what was noted; how many rows. What the database does not take is noted again.

        :raises SQLAlchemyError: the database failed.
        """
        with self._flushing:
            with self._lock:
                found, self._found = self._found, {}
                retrieved, self._retrieved = self._retrieved, []
                dropped, self._dropped = self._dropped, 0
            if dropped:
                log.warning(
                    "%d query hits or retrieves were more than the access history could note", dropped
                )
            try:
                return self._write(found, retrieved)
            except BaseException:
                self._put_back(found, retrieved)
                raise

    def _write(self, found: dict[tuple[datetime, str], int], retrieved: list[Retrieved]) -> int:
        """All in one transaction, so that what is put back was not written in part."""
        if not found and not retrieved:
            return 0
        with self._catalog.write() as session:
            keys = _study_keys(session, {uid for _, uid in found} | {each.study_uid for each in retrieved})
            _add_hits(
                session, [(keys[uid], day, times) for (day, uid), times in found.items() if uid in keys]
            )
            _add_retrieves(session, [(keys[e.study_uid], e) for e in retrieved if e.study_uid in keys])
        return len(found) + len(retrieved)

    def _put_back(self, found: dict[tuple[datetime, str], int], retrieved: list[Retrieved]) -> None:
        with self._lock:
            for key, times in found.items():
                if key in self._found or len(self._found) < self._buffer_max:
                    self._found[key] = self._found.get(key, 0) + times
                else:
                    self._dropped += times
            room = max(0, self._buffer_max - len(self._retrieved))
            self._dropped += max(0, len(retrieved) - room)
            self._retrieved = retrieved[:room] + self._retrieved


def day_of(at: datetime) -> datetime:
    """The beginning of its day, UTC."""
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _study_keys(session: Session, uids: set[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for some in chunks(sorted(uids), KEYS_AT_ONCE):
        rows = session.execute(select(Study.uid, Study.pk).where(Study.uid.in_(some)))
        found.update(dict(rows.all()))
    return found


def _add_hits(session: Session, hits: Sequence[tuple[int, datetime, int]]) -> None:
    """In the order of the studies, so that two nodes never wait for each other."""
    make = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    for some in chunks(sorted(hits), ROWS_AT_ONCE):
        rows = [_row(study_pk, day, QUERY, times=times, daily=True) for study_pk, day, times in some]
        statement = make(Access)
        session.execute(
            statement.on_conflict_do_update(
                index_elements=["study_pk", "at"],
                index_where=text(f"kind = '{QUERY}'"),
                set_={"times": Access.times + statement.excluded.times},
            ),
            rows,
        )


def _add_retrieves(session: Session, retrieved: Sequence[tuple[int, Retrieved]]) -> None:
    rows = [
        _row(pk, e.at, RETRIEVE, bytes=e.bytes, waited_seconds=e.waited_seconds, ae=e.ae, tier=e.tier)
        for pk, e in retrieved
    ]
    for some in chunks(rows, ROWS_AT_ONCE):
        session.execute(insert(Access), some)


def _row(study_pk: int, at: datetime, kind: str, **values: Any) -> dict[str, Any]:
    given = {"bytes": 0, "waited_seconds": 0.0, "times": 1, "daily": False, "ae": "", "tier": ""}
    return {"study_pk": study_pk, "at": at, "kind": kind, **given, **values}


# Keeping it small


def compact(catalog: Catalog, before: datetime) -> int:
    """Count the retrieves before a time by study, day, caller and tier, a day a transaction: a crash loses
    nothing and counts nothing twice.

    :returns: how many rows were counted into others.
    """
    gone = 0
    while True:
        with catalog.write() as session:
            first = session.scalar(select(func.min(Access.at)).where(~Access.daily, Access.at < before))
            if first is None:
                return gone
            day = day_of(first)
            gone += _compact_day(session, day, min(day + DAY, before))


def _compact_day(session: Session, day: datetime, end: datetime) -> int:
    """Of another node that does the same at the same time each row goes to one of the two."""
    gone = session.execute(
        delete(Access)
        .where(~Access.daily, Access.at >= day, Access.at < end)
        .returning(
            *(Access.study_pk, Access.kind, Access.ae, Access.tier),
            *(Access.bytes, Access.waited_seconds, Access.times),
        )
    ).all()
    sums: dict[tuple[int, str, str, str], tuple[int, float, int]] = {}
    for study_pk, kind, ae, tier, size, waited, times in gone:
        key = (study_pk, kind, ae, tier)
        old = sums.get(key, (0, 0.0, 0))
        sums[key] = (old[0] + size, old[1] + waited, old[2] + times)
    made = [
        _row(pk, day, kind, bytes=size, waited_seconds=waited, times=times, daily=True, ae=ae, tier=tier)
        for (pk, kind, ae, tier), (size, waited, times) in sums.items()
    ]
    for some in chunks(made, ROWS_AT_ONCE):
        session.execute(insert(Access), some)
    return len(gone)


def forget(catalog: Catalog, before: datetime) -> int:
    """Delete what happened before a time; how many rows."""
    gone = 0
    while True:
        with catalog.write() as session:
            first = session.scalar(select(func.min(Access.at)).where(Access.at < before))
            if first is None:
                return gone
            end = min(day_of(first) + DAY, before)
            deleted = delete(Access).where(Access.at < end).returning(Access.pk)
            gone += len(session.scalars(deleted).all())


# Reading it


def accesses_of(session: Session, study_pks: Sequence[int]) -> dict[int, tuple[datetime, ...]]:
    """When each of these studies was retrieved, each time by itself, oldest first."""
    query = (
        select(Access.study_pk, Access.at, Access.times)
        .where(Access.study_pk.in_(study_pks), Access.kind == RETRIEVE)
        .order_by(Access.study_pk, Access.at)
    )
    found: dict[int, list[datetime]] = {}
    for pk, at, times in session.execute(query):
        found.setdefault(pk, []).extend([at] * times)
    return {pk: tuple(times) for pk, times in found.items()}


def recent(session: Session, study_uid: str, limit: int) -> list[Accessed]:
    """The last accesses of one study, newest first."""
    query = (
        _accesses().where(Study.uid == study_uid).order_by(Access.at.desc(), Access.pk.desc()).limit(limit)
    )
    return [Accessed(*row) for row in session.execute(query)]


def events(
    session: Session, begin: datetime, end: datetime, *, queries: bool = True
) -> Iterator[Arrived | Accessed]:
    """What happened from ``begin`` to before ``end``, in the order of time, an arrival before what happened
    to the study at the same time. In constant memory, whatever the length.

    Only sealed studies are told of, and what happened to them.
    """
    streams: list[Iterator[Arrived | Accessed]] = [
        _arrivals(session, begin, end),
        _accessed(session, begin, end, queries),
    ]
    yield from heapq.merge(*streams, key=lambda event: (event.at, isinstance(event, Accessed)))


def span(session: Session) -> tuple[datetime, datetime] | None:
    """From the first arrival to the last event; None for an empty archive."""
    first = session.scalar(select(func.min(Study.first_received)))
    ends = [session.scalar(select(func.max(end))) for end in (Study.last_received, Access.at)]
    last = max((end for end in ends if end is not None), default=None)
    return None if first is None or last is None else (first, last)


def _accessed(session: Session, begin: datetime, end: datetime, queries: bool) -> Iterator[Accessed]:
    query = _accesses().where(Access.at >= begin, Access.at < end, Study.packages > 0)
    if not queries:
        query = query.where(Access.kind == RETRIEVE)
    for row in _streamed(session, query.order_by(Access.at, Access.pk)):
        yield Accessed(*row)


def _accesses() -> Any:
    return select(
        *(Access.at, Study.uid, Access.kind, Access.times, Access.bytes, Access.waited_seconds),
        *(Access.ae, Access.tier, Access.daily),
    ).join(Study, Study.pk == Access.study_pk)


_KEPT: Mapping[str, ColumnElement[Any]] = {
    "modalities": Study.modalities.expression,
    "study_date": Study.date.expression,
    "instances": Study.n_instances.expression,
    "institution": Study.institution.expression,
    "source_ae": Study.source_ae.expression,
    "referring_physician": Study.referring_physician.expression,
    "accession": Study.accession.expression,
    "description": Study.description.expression,
    "patient_id": Patient.patient_id.expression,
    "birth_date": Patient.birth_date.expression,
}
_SETS = {"body_parts": Study.body_parts, "stations": Study.stations, "sop_classes": Study.sop_classes}


def _arrivals(session: Session, begin: datetime, end: datetime) -> Iterator[Arrived]:
    query = (
        select(
            *(Study.pk, Study.first_received, Study.uid, Study.n_bytes),
            *_SETS.values(),
            *_KEPT.values(),
        )
        .join(Patient, Patient.pk == Study.patient_pk)
        .where(Study.first_received >= begin, Study.first_received < end, Study.packages > 0)
        .order_by(Study.first_received, Study.pk)
    )
    batch: list[Any] = []
    for row in _streamed(session, query):
        batch.append(row)
        if len(batch) == KEYS_AT_ONCE:
            yield from _arrived(session, batch)
            batch = []
    yield from _arrived(session, batch)


def _arrived(session: Session, rows: Sequence[Any]) -> Iterator[Arrived]:
    at = 4 + len(_SETS)
    said = words.members(session, (pk for row in rows for pk in row[4:at]))
    descriptions: dict[int, set[str]] = {}
    query = select(Series.study_pk, Series.description).where(Series.study_pk.in_([row[0] for row in rows]))
    for pk, description in session.execute(query):
        descriptions.setdefault(pk, set()).add(description)
    for row in rows:
        values = dict(zip(_KEPT, row[at:], strict=True))
        values |= {source: said[pk] for source, pk in zip(_SETS, row[4:at], strict=True)}
        values["series_descriptions"] = tuple(sorted(descriptions.get(row[0], set()) - {""}))
        yield Arrived(row[1], row[2], int(row[3]), values)


def _streamed(session: Session, query: Any) -> Iterator[Any]:
    # Of the connection: the session would read all of SQLite's rows before it gave one.
    options = {"stream_results": True, "max_row_buffer": ROWS_AT_ONCE}
    with session.connection().execute(query, execution_options=options) as result:
        while rows := result.fetchmany(ROWS_AT_ONCE):
            yield from rows
