"""What an audit of copies asks: how studies lie, counted, and what is known of those that lack copies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Select, and_, case, exists, func, literal, or_, select
from sqlalchemy.orm import Session

from hsm import states
from hsm.catalog import deletions, placements
from hsm.catalog.tables import (
    Copy,
    DeletedPackage,
    Deletion,
    Journal,
    Package,
    Placement,
    Request,
    Study,
    Volume,
)
from hsm.guard import GOOD_VOLUMES
from hsm.states import LIVE_DELETIONS, LIVE_REQUESTS, DeletionKind, RequestKind, RequestState

ADDS_COPIES = (RequestKind.COPY, RequestKind.VERIFY)
"""Requests after which a study may have one verified copy more."""
TAKES_AWAY = ("copy suspect", "copy lost", "copy releasing", "copy released")
"""Verbs of the journal after which it has one less."""
CHUNK = 500


@dataclass(frozen=True, slots=True)
class Group:
    """Studies that lie alike and are past as many of the same deadlines."""

    packages: placements.Patterns
    passed: int
    """How many of the deadlines asked for are over."""
    studies: int
    bytes: int
    oldest: datetime
    """The earliest reception among them."""
    placement_pk: int


def tally(
    session: Session, owned: ColumnElement[bool], deadlines: Sequence[datetime], received_until: datetime
) -> list[Group]:
    """The sealed studies that meet a condition, counted by where they lie.

    :param deadlines: each is over for the studies whose last instance came before it.
    """
    passed: ColumnElement[int] = literal(0)
    for deadline in deadlines:
        passed = passed + case((Study.last_received < deadline, 1), else_=0)
    passed = passed.label("passed")
    rows = session.execute(
        select(
            Study.placement_pk,
            passed,
            func.count(),
            func.coalesce(func.sum(Study.n_bytes), 0),
            func.min(Study.last_received),
        )
        .where(Study.packages > 0, Study.first_received <= received_until, owned)
        .group_by(Study.placement_pk, passed)
    ).all()
    patterns = dict(
        session.execute(select(Placement.pk, Placement.pattern)).all()  # dozens, whatever the archive's size
    )
    return [
        Group(placements.parse(patterns[pk]), int(over), int(studies), int(size), oldest, pk)
        for pk, over, studies, size, oldest in rows
        if pk is not None
    ]


@dataclass(frozen=True, slots=True)
class Lacking:
    """One study that lacks copies."""

    pk: int
    uid: str
    size: int
    received_at: datetime
    packages: placements.Patterns
    busy: bool
    """Whether a request that may give it a copy is queued, at work, or waiting for a person."""


def lacking(
    session: Session,
    owned: ColumnElement[bool],
    short: Iterable[tuple[int, datetime]],
    limit: int | None = None,
    *,
    received_until: datetime | None = None,
) -> Iterator[Lacking]:
    """Studies in these placements whose last instance came before the time that goes with each, the longest
    archived first.

    :param received_until: only those that had an instance by then.
    """
    wanted = _any_of(short)
    if wanted is None:
        return
    query = (
        select(Study.pk, Study.uid, Study.n_bytes, Study.last_received, Placement.pattern, _busy())
        .join(Placement, Placement.pk == Study.placement_pk)
        .where(Study.packages > 0, owned, wanted)
        .order_by(Study.last_received, Study.pk)
    )
    if received_until is not None:
        query = query.where(Study.first_received <= received_until)
    if limit is not None:
        query = query.limit(limit)
    for pk, uid, size, received, pattern, busy in session.execute(query):
        yield Lacking(pk, uid, int(size), received, placements.parse(pattern), bool(busy))


@dataclass(frozen=True, slots=True)
class Past:
    """Studies whose time is over."""

    busy: bool
    studies: int
    bytes: int
    oldest: datetime


def past(session: Session, owned: ColumnElement[bool], short: Iterable[tuple[int, datetime]]) -> list[Past]:
    """The studies that :func:`lacking` finds, counted by whether something is under way for them."""
    wanted = _any_of(short)
    if wanted is None:
        return []
    busy = _busy().label("busy")
    query = (
        select(busy, func.count(), func.coalesce(func.sum(Study.n_bytes), 0), func.min(Study.last_received))
        .where(Study.packages > 0, owned, wanted)
        .group_by(busy)
    )
    return [
        Past(bool(is_busy), int(count), int(size), at) for is_busy, count, size, at in session.execute(query)
    ]


def _any_of(short: Iterable[tuple[int, datetime]]) -> ColumnElement[bool] | None:
    found = [and_(Study.placement_pk == pk, Study.last_received < due) for pk, due in short]
    return or_(*found) if found else None


def _busy() -> ColumnElement[bool]:
    return (
        exists()
        .where(
            Request.study_pk == Study.pk,
            Request.state.in_(LIVE_REQUESTS),
            Request.kind.in_(ADDS_COPIES),
        )
        .correlate(Study)
    )


@dataclass(frozen=True, slots=True)
class CopyFact:
    """One copy, good or not, of a study that lacks some."""

    package: str
    volume: str
    pool: str
    state: str
    volume_state: str


@dataclass(frozen=True, slots=True)
class Work:
    """One request about a study that lacks copies: live, or failed."""

    number: int
    kind: str
    state: str
    pool: str
    error: str
    reason: str


def copies_of(session: Session, study_pks: Sequence[int]) -> dict[int, list[CopyFact]]:
    """Every copy of these studies that has not been released."""
    found: dict[int, list[CopyFact]] = {pk: [] for pk in study_pks}
    rows = session.execute(
        select(Package.study_pk, Package.key, Volume.name, Volume.pool, Copy.state, Volume.state)
        .join(Copy, Copy.package_pk == Package.pk)
        .join(Volume, Volume.pk == Copy.volume_pk)
        .where(Package.study_pk.in_(study_pks), Copy.state != "released")
        .order_by(Package.number, Volume.name)
    )
    for pk, key, volume, pool, state, volume_state in rows:
        found[pk].append(CopyFact(key, volume, pool or "", state, volume_state))
    return found


def work_of(session: Session, study_pks: Sequence[int]) -> dict[int, list[Work]]:
    """What is under way for these studies, and what has failed, that would give them copies."""
    found: dict[int, list[Work]] = {pk: [] for pk in study_pks}
    rows = session.execute(
        select(
            Request.study_pk,
            Request.pk,
            Request.kind,
            Request.state,
            Request.pool,
            Request.error,
            Request.reason,
        )
        .where(
            Request.study_pk.in_(study_pks),
            Request.kind.in_(ADDS_COPIES),
            Request.state.in_((*LIVE_REQUESTS, RequestState.FAILED)),
        )
        .order_by(Request.pk)
    )
    for study_pk, pk, kind, state, pool, error, reason in rows:
        found[study_pk or 0].append(Work(pk, kind, state, pool or "", error, reason))
    return found


def last_taken(session: Session, uids: Sequence[str]) -> dict[str, datetime]:
    """When each study last came to have a good copy less, of those that did."""
    rows = session.execute(
        select(Journal.subject, func.max(Journal.at))
        .where(Journal.subject.in_(uids), Journal.verb.in_(TAKES_AWAY))
        .group_by(Journal.subject)
    )
    return {uid: at for uid, at in rows if at is not None}


@dataclass(frozen=True, slots=True)
class Received:
    """One sealed study, for an audit of a time that is over."""

    pk: int
    uid: str
    size: int
    received_at: datetime


def pools_of_volumes(session: Session) -> dict[str, str]:
    """The pool of each volume that has one, by the volume's name."""
    return {
        name: pool for name, pool in session.execute(select(Volume.name, Volume.pool)) if pool is not None
    }


def untrusted_volumes(session: Session, at: datetime) -> set[str]:
    """As the journal has it: the volumes whose copies did not count at a time."""
    # Volume by volume, each by the index of subjects: there are thousands of them, and millions of records.
    last = (
        select(Journal.verb)
        .where(
            Journal.subject == Volume.name,
            Journal.kind == "volume",
            Journal.verb.in_(states.VOLUME.names()),
            Journal.at <= at,
        )
        .order_by(Journal.seq.desc())
        .limit(1)
        .correlate(Volume)
        .scalar_subquery()
    )
    rows = session.execute(select(Volume.name, last))
    return {name for name, state in rows if state is not None and state not in GOOD_VOLUMES}


@dataclass(frozen=True, slots=True)
class Loose:
    """Studies that no package protects yet, or not whole."""

    studies: int
    instances: int
    oldest: datetime | None


def unsealed(session: Session) -> Loose:
    """Studies with instances that are in no package."""
    row = session.execute(
        select(func.count(), func.coalesce(func.sum(Study.unsealed), 0), func.min(Study.last_received)).where(
            Study.unsealed > 0
        )
    ).one()
    return Loose(int(row[0]), int(row[1]), row[2])


def deleted_by(at: datetime) -> Select[str]:
    """Names of the packages that were in the trash at a time, or gone."""
    return (
        select(Package.key)
        .join(DeletedPackage, DeletedPackage.package_pk == Package.pk)
        .join(Deletion, Deletion.pk == DeletedPackage.deletion_pk)
        .where(Deletion.made_at <= at)
    )


@dataclass(frozen=True, slots=True)
class InTrash:
    """Studies that are deleted and can still be taken back: every copy stays, and no goal counts."""

    studies: int
    bytes: int
    next_due: datetime | None
    grown: int
    """Of which something has come since: kept, found, and for a person to decide on."""


def in_trash(session: Session) -> InTrash:
    """What is in the trash now."""
    live = (Deletion.kind == DeletionKind.TRASH, Deletion.state.in_(LIVE_DELETIONS))
    studies, due = session.execute(select(func.count(), func.min(Deletion.due_at)).where(*live)).one()
    size = session.scalar(
        select(func.coalesce(func.sum(Package.size), 0))
        .join(DeletedPackage, DeletedPackage.package_pk == Package.pk)
        .join(Deletion, Deletion.pk == DeletedPackage.deletion_pk)
        .where(*live)
    )
    return InTrash(int(studies), int(size or 0), due, deletions.grown(session))
