"""Volumes, and the mount requests that an operator answers."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, case, func, select
from sqlalchemy.orm import Session

from hsm.blame import Blame, blame
from hsm.catalog import movements, placements, prompts, usage
from hsm.catalog.draining import repack_requests
from hsm.catalog.tables import Copy, Journal, MountRequest, Package, Request, Study, Volume, Waiter
from hsm.catalog.views.common import Page, Record, place_of, priority_name
from hsm.errors import NotFound
from hsm.states import LIVE_REQUESTS, MountState

USES_MAX = 50


def volumes(
    session: Session, page: Page, *, pool: str = "", state: str = "", place: str = ""
) -> list[Record]:
    """Volumes by name, with how many copies are on each."""
    query = select(Volume).order_by(Volume.name).limit(page.limit).offset(page.offset)
    for column, value in ((Volume.pool, pool), (Volume.state, state), (Volume.place, place)):
        if value:
            query = query.where(column == value)
    found = list(session.scalars(query))
    copies = _copy_counts(session, [volume.pk for volume in found])
    return [_record(volume, copies[volume.pk]) for volume in found]


def volume(session: Session, name: str, page: Page) -> Record:
    """One volume with the packages on it, ``page`` of them in the order they lie there.

    :raises NotFound: no such volume.
    """
    found = _one(session, name)
    record = _record(found, _copy_counts(session, [found.pk])[found.pk])
    record["error"] = found.error
    record["content"] = found.content
    record["looked_at"] = found.looked_at
    record["drain"] = _drain(session, found)
    record["uses"] = _uses(session, found.name)
    record["packages"] = [
        {
            "package": package.key,
            "study": uid,
            "bytes": package.size,
            "state": copy.state,
            "position": copy.position,
            "written_at": copy.written_at,
            "verified_at": copy.verified_at,
        }
        for copy, package, uid in session.execute(
            select(Copy, Package, Study.uid)
            .join(Package, Package.pk == Copy.package_pk)
            .join(Study, Study.pk == Package.study_pk)
            .where(Copy.volume_pk == found.pk, Copy.state != "released")
            .order_by(Copy.position, Copy.pk)
            .limit(page.limit)
            .offset(page.offset)
        )
    ]
    return record


def where(session: Session, name: str) -> Record:
    """Where one volume is, what it is on its way to, and what was said of it last.

    :raises NotFound: no such volume.
    """
    found = _one(session, name)
    way = movements.open_of(session, found.pk)
    prompt = prompts.current(session, found.pk)
    last = session.scalars(_journal(name).order_by(Journal.seq.desc()).limit(1)).one_or_none()
    return {
        "name": found.name,
        "where": place_of(found),
        "place": found.place,
        "library": found.library,
        "element": found.element,
        "site": found.site,
        "shelf": found.shelf,
        "home": found.home,
        "state": found.state,
        "error": found.error,
        "moving": "" if way is None else way.words,
        "asked_for_since": prompt.created_at if prompt is not None and prompt.is_open else None,
        "last": None if last is None else _entry(last),
    }


def volume_history(session: Session, name: str, page: Page) -> list[Record]:
    """The journal's records about a volume, oldest first: seq, at, actor, verb, kind, subject, detail.

    :raises NotFound: no such volume.
    """
    _one(session, name)
    query = _journal(name).order_by(Journal.seq).limit(page.limit).offset(page.offset)
    return [_entry(entry) for entry in session.scalars(query)]


def _one(session: Session, name: str) -> Volume:
    found = session.scalars(select(Volume).where(Volume.name == name)).one_or_none()
    if found is None:
        raise NotFound(f"volume {name!r} is not in the catalog; `hsm volume ls` lists them all")
    return found


def _journal(name: str) -> Select[Journal]:
    return select(Journal).where(Journal.kind == "volume", Journal.subject == name)


def _entry(entry: Journal) -> Record:
    same = ("seq", "at", "actor", "verb", "kind", "subject")
    return {key: getattr(entry, key) for key in same} | {"detail": json.loads(entry.detail or "{}")}


def _copy_counts(session: Session, pks: Sequence[int]) -> dict[int, dict[str, int]]:
    counts: dict[int, dict[str, int]] = defaultdict(dict)
    query = (
        select(Copy.volume_pk, Copy.state, func.count())
        .where(Copy.volume_pk.in_(pks), Copy.state != "released")
        .group_by(Copy.volume_pk, Copy.state)
        .order_by(Copy.state)
    )
    for pk, state, count in session.execute(query):
        counts[pk][state] = count
    return counts


def _record(volume: Volume, copies: dict[str, int]) -> Record:
    return {
        "name": volume.name,
        "uuid": volume.uuid,
        "pool": volume.pool,
        "state": volume.state,
        "removable": volume.removable,
        "used": volume.used,
        "capacity": volume.capacity,
        "library": volume.library,
        "place": volume.place,
        "element": volume.element,
        "shelf": volume.shelf,
        "where": place_of(volume),
        "copies": copies,
        "worm": volume.worm,
        "created_at": volume.created_at,
    }


def _drain(session: Session, volume: Volume) -> Record:
    """How far the repack of a volume is: what it becomes, its requests by state, and the copies left on it.
    Empty when there was none."""
    requests = repack_requests(session, volume.pk, volume.name)
    if not volume.drain_to and not requests:
        return {}
    left = session.scalar(
        select(func.count()).where(Copy.volume_pk == volume.pk, Copy.state.not_in(placements.GONE))
    )
    return {"to": volume.drain_to, "requests": requests, "left": left or 0}


def _uses(session: Session, name: str) -> list[Record]:
    """What each drive did with the volume, and who is to blame for what fails."""
    pairs = usage.pairs(session)
    found = []
    for use in usage.uses(session, volume=name, limit=USES_MAX):
        verdict = blame(pairs, (str(use["library"]), int(str(use["drive"]))), name)
        to_blame = verdict.blame.value if verdict.blame is not Blame.NOBODY else ""
        found.append(dict(use) | {"blame": to_blame, "why": verdict.why if to_blame else ""})
    return found


@dataclass(frozen=True, slots=True)
class Asked:
    """An open mount request, as far as a walk needs it."""

    id: int
    barcode: str
    library: str
    site: str
    stands: str
    """Its shelf, or where it usually stands."""
    urgency: int
    created_at: datetime


def asked(session: Session, limit: int) -> list[Asked]:
    """The open mount requests in the order to answer them, as :func:`mounts` has them: a walk is planned of
    all of them whenever somebody looks at some."""
    stands = case((Volume.shelf != "", Volume.shelf), else_=Volume.home)
    query = select(MountRequest.pk, Volume.name, func.coalesce(Volume.library, ""), Volume.site, stands)
    query = query.add_columns(MountRequest.priority, MountRequest.created_at)
    return [Asked(*row) for row in session.execute(_in_order(query).limit(limit))]


def _in_order(query: Select[*tuple[Any, ...]]) -> Select[*tuple[Any, ...]]:
    """Of a query for mount requests: the open ones, by priority, then oldest first."""
    query = query.join(Volume, Volume.pk == MountRequest.volume_pk)
    query = query.where(MountRequest.state == MountState.OPEN)
    return query.order_by(MountRequest.priority, MountRequest.created_at, MountRequest.pk)


def mounts(
    session: Session,
    now: datetime,
    *,
    every: bool = False,
    page: Page | None = None,
    only: Collection[int] | None = None,
) -> list[Record]:
    """Mount requests in the order to answer them: by priority, then oldest first.

    ``every`` includes the answered ones, newest first. Each has who waits for it, how many
    packages are wanted from it and their bytes.

    :param only: of the open ones, those of these numbers.
    """
    page = page or Page()
    query: Select[*tuple[Any, ...]] = select(MountRequest, Volume)
    if every:
        query = query.join(Volume, Volume.pk == MountRequest.volume_pk).order_by(MountRequest.pk.desc())
    else:
        query = _in_order(query)
    if only is not None:
        query = query.where(MountRequest.pk.in_(only))
    rows = session.execute(query.limit(page.limit).offset(page.offset)).all()
    wanted = _wanted(session, [volume.pk for _, volume in rows])
    waiting = _waiting(session, [volume.pk for _, volume in rows])
    return [
        {
            "id": mount.pk,
            "volume_pk": volume.pk,
            "barcode": volume.name,
            "state": mount.state,
            "pool": volume.pool,
            "library": volume.library,
            "where": place_of(volume),
            "shelf": volume.shelf,
            "stands": volume.shelf or volume.home,
            "site": volume.site,
            "volume_state": volume.state,
            "priority": priority_name(mount.priority),
            "urgency": mount.priority,
            "created_at": mount.created_at,
            "acked_by": mount.acked_by if mount.acked_until is not None and now < mount.acked_until else "",
            "acked_at": mount.acked_at,
            "acked_until": mount.acked_until,
            "note": mount.note,
            "outcome": mount.outcome,
            "waiting_seconds": int(((mount.answered_at or now) - mount.created_at).total_seconds()),
            "requests": wanted[volume.pk][0],
            "bytes": wanted[volume.pk][1],
            "waiters": waiting[volume.pk],
            "answered_at": mount.answered_at,
            "answered_by": mount.answered_by,
            "comment": mount.comment,
        }
        for mount, volume in rows
    ]


def _wanted(session: Session, volume_pks: Sequence[int]) -> dict[int | None, tuple[int, int]]:
    """How many live requests want each volume, and the bytes of their packages."""
    query = (
        select(Request.volume_pk, func.count(), func.coalesce(func.sum(Package.size), 0))
        .outerjoin(Package, Package.pk == Request.package_pk)
        .where(Request.volume_pk.in_(volume_pks), Request.state.in_(LIVE_REQUESTS))
        .group_by(Request.volume_pk)
    )
    found: dict[int | None, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for pk, count, size in session.execute(query):
        found[pk] = (count, int(size))
    return found


def _waiting(session: Session, volume_pks: Sequence[int]) -> dict[int | None, list[Record]]:
    """Who waits for each volume, longest first; a request without waiters is there for its reason."""
    who = func.coalesce(Waiter.who, Request.reason)
    since = func.min(func.coalesce(Waiter.since, Request.created_at))
    query = (
        select(Request.volume_pk, who, since)
        .outerjoin(Waiter, Waiter.request_pk == Request.pk)
        .where(Request.volume_pk.in_(volume_pks), Request.state.in_(LIVE_REQUESTS))
        .group_by(Request.volume_pk, who)  # one caller may wait for several packages of the volume
        .order_by(since, func.min(Request.pk), func.min(Waiter.pk))
    )
    found: dict[int | None, list[Record]] = defaultdict(list)
    for pk, name, began in session.execute(query):
        found[pk].append({"who": name, "since": began})
    return found
