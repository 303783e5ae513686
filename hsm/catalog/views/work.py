"""Requests and who waits for them; policy runs and their decisions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hsm.catalog.tables import Decision, MountRequest, Package, Request, Run, Study, Volume, Waiter
from hsm.catalog.views.common import Page, Record, place_of, priority_name
from hsm.catalog.views.overview import run_record
from hsm.errors import BadInput, NotFound
from hsm.states import LIVE_REQUESTS, MountState, RequestKind, RequestState

WAITERS_SHOWN = 20


def _one_of(value: str, allowed: Iterable[str], what: str) -> str:
    names = [str(name) for name in allowed]
    if value not in names:
        raise BadInput(f"{what} {value!r}: expected one of {', '.join(names)}")
    return value


def queue(session: Session, page: Page, *, kind: str = "", state: str = "", uid: str = "") -> list[Record]:
    """Requests in the order they will be taken; without ``state``, live and failed ones.

    :raises BadInput: no such kind or state.
    """
    query = _requests().order_by(Request.priority, Request.pk).limit(page.limit).offset(page.offset)
    if kind:
        query = query.where(Request.kind == _one_of(kind, RequestKind, "kind"))
    if state:
        query = query.where(Request.state == _one_of(state, RequestState, "state"))
    else:
        query = query.where(Request.state.in_((*LIVE_REQUESTS, RequestState.FAILED)))
    if uid:
        query = query.where(Study.uid == uid)
    return _records(session, session.execute(query).all())


def request(session: Session, pk: int) -> Record:
    """One request with its waiters and mount requests.

    :raises NotFound: no such request.
    """
    row = session.execute(_requests().where(Request.pk == pk)).one_or_none()
    if row is None:
        raise NotFound(f"request {pk} does not exist")
    record = _records(session, [row])[0]
    entry: Request = row[0]
    record["detail"] = entry.detail
    record["mounts"] = [] if entry.volume_pk is None else _mounts_of(session, entry.volume_pk)
    return record


def _requests() -> Any:
    return (
        select(Request, Study.uid, Package.key, Package.size, Volume)
        .outerjoin(Study, Study.pk == Request.study_pk)
        .outerjoin(Package, Package.pk == Request.package_pk)
        .outerjoin(Volume, Volume.pk == Request.volume_pk)
    )


def _records(session: Session, rows: Sequence[Any]) -> list[Record]:
    waiters = _waiters(session, [row[0].pk for row in rows])
    return [_record(*row, waiters=waiters[row[0].pk]) for row in rows]


def _waiters(session: Session, pks: Sequence[int]) -> dict[int, list[Record]]:
    found: dict[int, list[Record]] = defaultdict(list)
    query = select(Waiter).where(Waiter.request_pk.in_(pks)).order_by(Waiter.pk)
    for waiter in session.scalars(query):
        found[waiter.request_pk].append({"who": waiter.who, "since": waiter.since})
    return found


def _record(
    entry: Request,
    study_uid: str | None,
    package: str | None,
    size: int | None,
    volume: Volume | None,
    *,
    waiters: list[Record],
) -> Record:
    return {
        "id": entry.pk,
        "kind": entry.kind,
        "state": entry.state,
        "priority": priority_name(entry.priority),
        "study": study_uid,
        "package": package,
        "bytes": size,
        "pool": entry.pool,
        "volume": volume.name if volume else None,
        "place": place_of(volume) if volume else None,
        "reason": entry.reason,
        "error": entry.error,
        "attempts": entry.attempts,
        "worker": entry.worker,
        "created_at": entry.created_at,
        "not_before": entry.not_before,
        "started_at": entry.started_at,
        "finished_at": entry.finished_at,
        "waiters": waiters,
    }


def _mounts_of(session: Session, volume_pk: int) -> list[Record]:
    query = select(MountRequest).where(MountRequest.volume_pk == volume_pk)
    newest_first = query.order_by(MountRequest.pk.desc()).limit(WAITERS_SHOWN)
    return [
        {
            "id": mount.pk,
            "state": mount.state,
            "open": mount.state == MountState.OPEN,
            "created_at": mount.created_at,
            "answered_at": mount.answered_at,
            "answered_by": mount.answered_by,
            "comment": mount.comment,
        }
        for mount in session.scalars(newest_first)
    ]


def runs(session: Session, page: Page, *, policy: str = "") -> list[Record]:
    """Policy runs, newest first."""
    query = select(Run).order_by(Run.pk.desc()).limit(page.limit).offset(page.offset)
    if policy:
        query = query.where(Run.policy == policy)
    return [run_record(run) for run in session.scalars(query)]


def decisions(session: Session, page: Page, *, run: int | None = None, uid: str = "") -> list[Record]:
    """What rules decided and why, newest first; of one run or of one study when given."""
    query = (
        select(Decision, Run.policy, Run.started_at, Study.uid)
        .join(Run, Run.pk == Decision.run_pk)
        .join(Study, Study.pk == Decision.study_pk)
        .order_by(Decision.pk.desc())
        .limit(page.limit)
        .offset(page.offset)
    )
    if run is not None:
        query = query.where(Decision.run_pk == run)
    if uid:
        query = query.where(Study.uid == uid)
    return [
        {
            "id": entry.pk,
            "run": entry.run_pk,
            "policy": policy,
            "at": started_at,
            "study": study_uid,
            "rule": entry.rule,
            "action": entry.action,
            "pool": entry.pool,
            "reason": entry.reason,
            "request": entry.request_pk,
        }
        for entry, policy, started_at, study_uid in session.execute(query)
    ]
