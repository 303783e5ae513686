"""The queue of requests: durable work, each with one live row a key.

A state changes only through :func:`_move`, which checks the transition table and writes the journal
in the same transaction. New requests are made in :mod:`hsm.catalog.requesting`; what only looks is in
:mod:`hsm.catalog.queuelooks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from hsm import states
from hsm.catalog import journal
from hsm.catalog.details import DEADLINE, FAILED_IN, PASSED, PREFERRED, TRIED, TROUBLE, WRONG_IN
from hsm.catalog.orders import Order, order_of
from hsm.catalog.queuelooks import longest_due, may_begin, waiters
from hsm.catalog.tables import Copy, Request, Waiter
from hsm.errors import NotFound, Refused
from hsm.states import RequestKind, RequestState

ATTEMPTS_MAX: dict[RequestKind, int | None] = {
    RequestKind.SEAL: 8,
    RequestKind.COPY: 8,
    RequestKind.VERIFY: 8,
    RequestKind.RELEASE: 8,
    # A recall ends when no copy is left to try, never because it took long (promise 6).
    RequestKind.RECALL: None,
    # With the longest pause between attempts: a destination may be away for a day and a half.
    RequestKind.DELIVER: 220,
    RequestKind.COMMIT: 220,
    RequestKind.NOTIFY: 220,
}
RETRY_FIRST_SECONDS = 2.0
RETRY_LAST_SECONDS = 600.0


def take(session: Session, pk: int, worker: str, now: datetime) -> Order | None:
    """Make one queued request ours; None when somebody else was quicker."""
    row = session.scalars(
        select(Request)
        .where(Request.pk == pk, Request.state == RequestState.QUEUED)
        .with_for_update(skip_locked=True)
    ).one_or_none()
    if row is None:
        return None
    row.attempts += 1
    row.worker = worker
    row.started_at = max(now, row.created_at)  # somebody may have put the clock back
    _move(session, row, RequestState.ACTIVE, now, worker)
    return order_of(row)


def take_next(
    session: Session,
    kinds: Sequence[RequestKind],
    worker: str,
    now: datetime,
    pools: Sequence[str] | None,
    not_for: Iterable[str] = (),
    *,
    overdue: bool = False,
) -> Order | None:
    """Take the most urgent queued request of these kinds (and pools, where given).

    :param not_for: AE titles that nothing is begun for.
    :param overdue: rather the one whose patience ended first, see :func:`hsm.model.patience`.
    """
    if overdue:
        pk = longest_due(session, kinds, now, pools, not_for)
        order = take(session, pk, worker, now) if pk is not None else None
        if order is not None:
            return order
    query = select(Request.pk).where(*may_begin(kinds, now, pools, not_for))
    query = query.order_by(Request.priority, Request.pk).limit(1).with_for_update(skip_locked=True)
    pk = session.scalar(query)
    return take(session, pk, worker, now) if pk is not None else None


def done(session: Session, pk: int, now: datetime, actor: str) -> None:
    row = _locked(session, pk)
    row.error = ""
    _move(session, row, RequestState.DONE, now, actor)


def fail(session: Session, pk: int, now: datetime, actor: str, error: str) -> None:
    """Give up; the error says why, and ``hsm queue retry`` queues it again."""
    row = _locked(session, pk)
    row.error = error
    _move(session, row, RequestState.FAILED, now, actor, error)


def retry_later(session: Session, pk: int, now: datetime, actor: str, error: str) -> bool:
    """Queue an active request again after a growing pause; fail it after the last attempt.

    :returns: whether it will be tried again.
    """
    row = _locked(session, pk)
    attempts_max = ATTEMPTS_MAX[RequestKind(row.kind)]
    if attempts_max is not None and row.attempts >= attempts_max:
        fail(session, pk, now, actor, f"{error} (gave up after {row.attempts} attempts)")
        return False
    row.error = error
    row.not_before = now + timedelta(seconds=retry_seconds(row.attempts))
    _move(session, row, RequestState.QUEUED, now, actor, error)
    return True


def retry_seconds(attempts: int) -> float:
    """The pause after the nth attempt: doubling, with a ceiling."""
    doublings = min(max(attempts - 1, 0), 30)
    return float(min(RETRY_FIRST_SECONDS * 2**doublings, RETRY_LAST_SECONDS))


def give_back(
    session: Session, pk: int, now: datetime, actor: str, why: str, pause: timedelta = timedelta(0)
) -> None:
    """Hand an active request back untouched (a stop, a lost drive): it does not count as an attempt.

    :param pause: before somebody may take it again.
    """
    row = _locked(session, pk)
    row.attempts = max(row.attempts - 1, 0)
    row.not_before = now + pause
    _move(session, row, RequestState.QUEUED, now, actor, why)


def prove_later(
    session: Session, pk: int, now: datetime, actor: str, why: str, *, priority: int, detail: dict[str, Any]
) -> None:
    """Hand an active request back whose copy is written and has only to be read back."""
    give_back(session, pk, now, actor, why)
    row = _locked(session, pk)
    row.priority, row.detail = max(row.priority, priority), dict(row.detail) | detail


def wait_for_operator(session: Session, pk: int, volume_pk: int, now: datetime, actor: str, why: str) -> None:
    """A person must act first. Already waiting for the same volume, ended or taken meanwhile: nothing
    changes."""
    row = _locked(session, pk)
    if row.state not in (RequestState.QUEUED, RequestState.WAITING):
        return
    row.volume_pk = volume_pk
    row.error = why
    if row.state != RequestState.WAITING:
        _move(session, row, RequestState.WAITING, now, actor, why)


def wake_waiting(session: Session, volume_pk: int, now: datetime, actor: str) -> list[int]:
    """Queue what waits for a volume that is there now (or that will not come), and recalls that wait for
    another volume while this one has a good copy too."""
    held = select(Copy.package_pk).where(Copy.volume_pk == volume_pk, Copy.state.in_(states.READABLE_COPIES))
    rows = session.scalars(
        select(Request)
        .where(
            Request.state == RequestState.WAITING,
            (Request.volume_pk == volume_pk)
            | ((Request.kind == RequestKind.RECALL) & Request.package_pk.in_(held)),
        )
        .with_for_update()
    ).all()
    for row in rows:
        row.error = ""
        if row.kind != RequestKind.VERIFY:  # a verification is of the copy on this volume and no other
            row.volume_pk = None
        _move(session, row, RequestState.QUEUED, now, actor)
    return [row.pk for row in rows]


def pass_over(
    session: Session, pks: Sequence[int], volume: str, now: datetime, actor: str, preferred: str = ""
) -> None:
    """Let waiting recalls go on with other volumes than this one, where there are others."""
    for pk in pks:
        row = _locked(session, pk)
        passed = [each for each in row.detail.get(PASSED, []) if each not in (volume, preferred)]
        detail = row.detail | {PASSED: [*passed, volume]}
        detail.pop(PREFERRED, None)
        row.detail = detail | {PREFERRED: preferred} if preferred else detail
        if row.state == RequestState.WAITING:
            row.error, row.volume_pk = "", None
            _move(session, row, RequestState.QUEUED, now, actor)


def cancel(session: Session, pk: int, now: datetime, actor: str) -> None:
    """Withdraw a request that nobody works on, or dismiss one that failed.

    :raises Refused: it is done or cancelled already, or a worker has it.
    """
    row = _locked(session, pk)
    if row.state not in (RequestState.QUEUED, RequestState.WAITING, RequestState.FAILED):
        raise Refused(f"request {pk} is {row.state}; a queued, waiting or failed one can be cancelled")
    _move(session, row, RequestState.CANCELLED, now, actor)


def cancel_active(session: Session, pk: int, now: datetime, actor: str) -> None:
    """The worker that has a request gives it up for good."""
    _move(session, _locked(session, pk), RequestState.CANCELLED, now, actor)


def retry(session: Session, pk: int, now: datetime, actor: str) -> None:
    """Queue a failed or cancelled request again with its attempts forgotten.

    :raises Refused: it has not failed, or a newer live request stands for the same work.
    """
    row = _locked(session, pk)
    if row.state not in (RequestState.FAILED, RequestState.CANCELLED):
        raise Refused(f"request {pk} is {row.state}; only a failed or cancelled one can be retried")
    live = session.scalar(
        select(Request.pk).where(Request.key == row.key, Request.state.in_(states.LIVE_REQUESTS))
    )
    if live is not None:
        raise Refused(f"request {live} already stands for {row.key}")
    row.attempts = 0
    row.not_before = now
    # Whoever asks for another try has changed something: no copy is out of the question any more.
    row.detail = {
        name: value for name, value in row.detail.items() if name not in (TRIED, TROUBLE, FAILED_IN, WRONG_IN)
    }
    _move(session, row, RequestState.QUEUED, now, actor)


def give_back_all_active(session: Session, now: datetime, actor: str) -> int:
    """At start: what was active when the last daemon died is queued again; waiters are gone."""
    session.execute(delete(Waiter))
    rows = session.scalars(select(Request).where(Request.state == RequestState.ACTIVE)).all()
    for row in rows:
        _move(session, row, RequestState.QUEUED, now, actor, "the daemon that had it ended")
    return len(rows)


def get(session: Session, pk: int) -> Order:
    """:raises NotFound: there is no such request."""
    return order_of(_found(session.get(Request, pk), pk))


def worker_of(session: Session, pk: int) -> str:
    """Who works on an active request; empty for one that is not, or not any more."""
    row = _found(session.get(Request, pk), pk)
    return row.worker if row.state == RequestState.ACTIVE else ""


def give_back_lost(
    session: Session, pk: int, now: datetime, actor: str, still: Callable[[], bool] = lambda: True
) -> None:
    """Queue a request again that is still active although its worker is through with it.

    :param still: whether nobody has taken it since; asked while it is locked.
    """
    row = _locked(session, pk)
    if row.state == RequestState.ACTIVE and still():
        _move(session, row, RequestState.QUEUED, now, actor, "its end could not be recorded")


def wanted_by(session: Session, pk: int, deadline: datetime) -> None:
    """A request's result is wanted by then; the earliest of those who say so counts."""
    row = _locked(session, pk)
    known = row.detail.get(DEADLINE)
    if known is None or deadline < datetime.fromisoformat(known):
        row.detail = row.detail | {DEADLINE: deadline.isoformat()}


def withdraw_unbegun(session: Session, pk: int, now: datetime, actor: str) -> None:
    """Cancel a request if nobody works on it and nobody waits for it."""
    row = _locked(session, pk)
    if row.state in (RequestState.QUEUED, RequestState.WAITING) and not waiters(session, pk):
        _move(session, row, RequestState.CANCELLED, now, actor)


def set_detail(session: Session, pk: int, detail: dict[str, Any]) -> None:
    session.execute(update(Request).where(Request.pk == pk).values(detail=detail))


def explain(session: Session, pk: int, why: str) -> None:
    """Say why a queued request does not go on; no change of state."""
    session.execute(update(Request).where(Request.pk == pk, Request.error != why).values(error=why))


def add_waiter(session: Session, request_pk: int, who: str, now: datetime) -> int:
    waiter = Waiter(request_pk=request_pk, who=who, since=now)
    session.add(waiter)
    session.flush()
    return waiter.pk


def remove_waiters(session: Session, pks: Sequence[int]) -> None:
    session.execute(delete(Waiter).where(Waiter.pk.in_(pks)))


def _found(row: Request | None, pk: int) -> Request:
    if row is None:
        raise NotFound(f"there is no request {pk}")
    return row


def _locked(session: Session, pk: int) -> Request:
    return _found(
        session.scalars(select(Request).where(Request.pk == pk).with_for_update()).one_or_none(), pk
    )


def _move(
    session: Session, row: Request, new: RequestState, now: datetime, actor: str, why: str = ""
) -> None:
    states.REQUEST.check(RequestState(row.state), new)
    row.state = new.value
    ended = new in (RequestState.DONE, RequestState.FAILED, RequestState.CANCELLED)
    row.finished_at = max(now, row.started_at or row.created_at) if ended else None
    session.flush()
    if ended:
        session.execute(delete(Waiter).where(Waiter.request_pk == row.pk))
    journal.append(
        session,
        now,
        actor,
        new.value,
        "request",
        f"{row.pk}",
        {"key": row.key} | ({"why": why} if why else {}),
    )
