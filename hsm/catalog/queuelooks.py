"""Looks at the queue that change nothing and take no lock."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.orm import Session, aliased

from hsm import states
from hsm.catalog.orders import Order, order_of
from hsm.catalog.tables import Copy, Request, Volume, Waiter
from hsm.errors import NoSpace
from hsm.model import Place, Priority, patience
from hsm.states import RequestKind, RequestState, VolumeState

OLDEST_PART = 20
"""Beside the most urgent, of each class as many as one part in so many of them."""


def queued_work(
    session: Session, now: datetime, kind: RequestKind, not_in: Collection[str], limit: int
) -> list[Order]:
    """Queued requests of this kind that may be worked on now, the most urgent ``limit`` of them; where there
    are more, the oldest of each class too, so that no row of urgent ones hides them for ever.

    :param not_in: pools whose requests others take.
    """
    query = select(Request).where(
        Request.state == RequestState.QUEUED,
        Request.kind == kind,
        Request.not_before <= now,
        Request.pool.is_(None) | Request.pool.not_in(not_in),
    )
    rows = list(session.scalars(query.order_by(Request.priority, Request.pk).limit(limit)))
    if len(rows) == limit:
        known = {row.pk for row in rows}
        for priority in Priority:
            oldest = (
                query.where(Request.priority == priority).order_by(Request.pk).limit(limit // OLDEST_PART)
            )
            rows += [row for row in session.scalars(oldest) if row.pk not in known]
    return [order_of(row) for row in rows]


def may_begin(
    kinds: Sequence[RequestKind], now: datetime, pools: Sequence[str] | None, not_for: Iterable[str]
) -> list[ColumnElement[bool]]:
    """Whether a request is queued and due, of these kinds (and pools, where given), for none of these AEs."""
    found = [Request.state == RequestState.QUEUED, Request.kind.in_(kinds), Request.not_before <= now]
    if pools is not None:
        found.append(Request.pool.in_(pools))
    return found + [~Request.key.contains(f":{title}:", autoescape=True) for title in not_for]


def longest_due(
    session: Session,
    kinds: Sequence[RequestKind],
    now: datetime,
    pools: Sequence[str] | None,
    not_for: Iterable[str] = (),
) -> int | None:
    """The request that may begin (:func:`may_begin`) whose patience ends first."""
    query = select(Request.pk, Request.priority, Request.created_at)
    query = query.where(*may_begin(kinds, now, pools, not_for))
    heads = [
        session.execute(query.where(Request.priority == priority).order_by(Request.pk).limit(1)).one_or_none()
        for priority in Priority
    ]
    due = [(created + patience(priority), pk) for pk, priority, created in filter(None, heads)]
    return min(due)[1] if due else None


def live(session: Session, kind: RequestKind, limit: int) -> list[int]:
    """Requests of this kind that still stand for work, the most urgent first."""
    query = select(Request.pk).where(Request.kind == kind, Request.state.in_(states.LIVE_REQUESTS))
    return list(session.scalars(query.order_by(Request.priority, Request.pk).limit(limit)))


def waiters(session: Session, request_pk: int) -> list[str]:
    """Who waits for a recall, in words."""
    return list(
        session.scalars(select(Waiter.who).where(Waiter.request_pk == request_pk).order_by(Waiter.pk))
    )


def awaited_volumes(session: Session) -> list[int]:
    """Volumes that requests wait for a person to bring."""
    query = select(Request.volume_pk).where(
        Request.state == RequestState.WAITING, Request.volume_pk.is_not(None)
    )
    return [pk for pk in session.scalars(query.distinct()) if pk is not None]


def recalls_only_from(session: Session, volume_pk: int) -> list[int]:
    """Packages whose recall stands for work and which nothing but this volume gives without a person."""
    other, home = aliased(Copy), aliased(Volume)
    elsewhere = (
        exists()
        .where(other.package_pk == Copy.package_pk, other.volume_pk != volume_pk)
        .where(other.state.in_(states.READABLE_COPIES))
        .where(home.pk == other.volume_pk, home.place.not_in((Place.SHELF, Place.UNKNOWN)))
        .where(home.state.not_in((VolumeState.SUSPECT, VolumeState.LOST)))
    )
    query = (
        select(Copy.package_pk)
        .join(Request, Request.package_pk == Copy.package_pk)
        .where(Request.kind == RequestKind.RECALL, Request.state.in_(states.LIVE_REQUESTS))
        .where(Copy.volume_pk == volume_pk, Copy.state.in_(states.READABLE_COPIES), ~elsewhere)
    )
    return sorted(set(session.scalars(query)))


def has_work(
    session: Session,
    kinds: Sequence[RequestKind],
    now: datetime,
    pools: Sequence[str] | None,
    not_for: Iterable[str] = (),
) -> bool:
    """Whether :func:`take_next` would find something: a look that takes no lock."""
    query = select(Request.pk).where(*may_begin(kinds, now, pools, not_for))
    return session.scalar(query.limit(1)) is not None


def more_urgent(session: Session, priority: int, now: datetime) -> tuple[int, int]:
    """Of queued requests that may need a drive and are of a more urgent class than this one: how many, and
    the newest; (0, 0) where there is none."""
    query = select(func.count(), func.max(Request.pk)).where(
        Request.state == RequestState.QUEUED,
        Request.priority < priority,
        Request.kind.in_((RequestKind.RECALL, RequestKind.COPY, RequestKind.VERIFY)),
        Request.not_before <= now,
    )
    count, newest = session.execute(query).one()
    return count, newest or 0


def unfinished(session: Session, kind: RequestKind) -> set[int]:
    """Requests of this kind that still stand for work."""
    mine = select(Request.pk).where(Request.kind == kind, Request.state.in_(states.LIVE_REQUESTS))
    return set(session.scalars(mine))


def require_room(session: Session, prefix: str, most: int) -> None:
    """Whether one more request may be kept whose key begins like this.

    :raises NoSpace: ``most`` of them still stand for work.
    """
    mine = Request.key.startswith(prefix, autoescape=True)
    live = select(Request.pk).where(mine, Request.state.in_(states.LIVE_REQUESTS)).limit(most)
    have = session.scalar(select(func.count()).select_from(live.subquery())) or 0
    if have >= most:
        raise NoSpace(f"{have} requests {prefix}... wait already, and no more are kept: hsm queue ls")


def copies_under_way(session: Session) -> set[tuple[int, str]]:
    """(package, pool) of every copy request that a worker has."""
    rows = session.execute(
        select(Request.package_pk, Request.pool).where(
            Request.kind == RequestKind.COPY, Request.state == RequestState.ACTIVE
        )
    )
    return {(package_pk, pool or "") for package_pk, pool in rows if package_pk is not None}


def failed_recalls(session: Session, package_pks: Iterable[int]) -> dict[int, tuple[datetime, str]]:
    """Of these packages those whose last recall has failed: when, and why."""
    found: dict[int, tuple[datetime, str]] = {}
    wanted = sorted(set(package_pks))
    for start in range(0, len(wanted), 500):
        rows = session.execute(
            select(Request.package_pk, Request.state, Request.finished_at, Request.error)
            .where(Request.package_pk.in_(wanted[start : start + 500]), Request.kind == RequestKind.RECALL)
            .order_by(Request.pk)
        )
        for package_pk, state, finished_at, error in rows:
            if package_pk is not None:
                found.pop(package_pk, None)
            if package_pk is not None and state == RequestState.FAILED and finished_at is not None:
                found[package_pk] = (finished_at, error)
    return found


def latest(session: Session, keys: Iterable[str]) -> dict[str, Order]:
    """The last request with each of these keys, where there is one."""
    wanted, found = list(keys), dict[str, Order]()
    for start in range(0, len(wanted), 500):
        some = wanted[start : start + 500]
        rows = session.scalars(select(Request).where(Request.key.in_(some)).order_by(Request.pk))
        found.update((row.key, order_of(row)) for row in rows)
    return found


def outcome(session: Session, pks: Sequence[int]) -> dict[int, tuple[RequestState, str]]:
    """State and error of each of these requests."""
    rows = session.execute(select(Request.pk, Request.state, Request.error).where(Request.pk.in_(pks)))
    return {pk: (RequestState(state), error) for pk, state, error in rows}


def failed_total(session: Session) -> int:
    """Requests that gave up, and that neither a person nor later work for the same thing made good."""
    later = aliased(Request)
    newer = exists().where(later.key == Request.key, later.pk > Request.pk)
    query = select(func.count()).select_from(Request).where(Request.state == RequestState.FAILED, ~newer)
    return session.scalar(query) or 0


def recalls_waiting(session: Session, volume_pk: int) -> list[int]:
    """The recalls for which a person is asked for this volume."""
    return list(
        session.scalars(
            select(Request.pk)
            .where(
                Request.volume_pk == volume_pk,
                Request.state == RequestState.WAITING,
                Request.kind == RequestKind.RECALL,
            )
            .order_by(Request.pk)
        )
    )


def awaited(session: Session, volume_pk: int) -> int:
    """How many requests wait until a person brings this volume."""
    query = select(func.count()).select_from(Request)
    query = query.where(Request.volume_pk == volume_pk, Request.state == RequestState.WAITING)
    return session.scalar(query) or 0


def _shelf(name: str) -> str:
    """Where a volume stands, in words; operators call a shelf as they like, also just ``B3``."""
    return name if "shelf" in name.lower() else f"shelf {name}".rstrip()


def waiting_for(session: Session, pks: Sequence[int]) -> str:
    """In words for a human: what the first unfinished one of these requests waits for; empty when none
    is left."""
    row = session.execute(
        select(Request.state, Request.error, Volume.name, Volume.shelf, Volume.place)
        .outerjoin(Volume, Volume.pk == Request.volume_pk)
        .where(Request.pk.in_(pks), Request.state.in_(states.LIVE_REQUESTS))
        .order_by(Request.pk)
        .limit(1)
    ).one_or_none()
    if row is None:
        return ""
    state, error, volume, shelf, place = row
    if state == RequestState.WAITING and volume is not None:
        return f"waiting for operator: {volume} {_shelf(shelf)}"
    if state == RequestState.ACTIVE:
        return "being read" + (f" from {volume} ({place})" if volume else "")
    return f"queued{': ' + error if error else ''}"
