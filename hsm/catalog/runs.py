"""Policy runs: how far each has come, durably, and the decisions that changed something.

A policy has at most one run that is not finished, whatever nodes there are. Who moves it on names itself
(``worker``) with each step; after a restart, or when its worker has not moved it for long, whoever claims
it goes on from its position.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from hsm import states
from hsm.catalog import journal
from hsm.catalog.tables import Decision, Run
from hsm.errors import NotFound, Refused
from hsm.states import RunState

REQUEST = "request"
REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class NewDecision:
    """One outcome of one rule for one study: a request, or a refusal that is worth a record."""

    study_pk: int
    rule: str
    action: str
    pool: str
    reason: str
    request_pk: int | None
    outcome: str = REQUEST


@dataclass(frozen=True, slots=True)
class RunRef:
    """One run as it stands."""

    pk: int
    policy: str
    digest: bytes
    activation: int | None
    state: RunState
    actor: str
    started_at: datetime
    finished_at: datetime | None
    matched: int
    requested: int
    refused: int
    errors: int
    bytes: int
    position: Mapping[str, Any]
    message: str
    worker: str
    moved_at: datetime | None


def begin(
    session: Session,
    policy: str,
    digest: bytes,
    now: datetime,
    *,
    actor: str = "",
    activation: int | None = None,
    worker: str = "",
) -> int:
    """A new run of a policy; one of it that was not finished is abandoned."""
    open_run = _unfinished(session, policy)
    if open_run is not None:
        _move(session, open_run, RunState.ABANDONED, now, actor or "policy", "another run of it began")
    row = Run(
        policy=policy,
        policy_digest=digest,
        started_at=now,
        finished_at=None,
        matched=0,
        requested=0,
        refused=0,
        state=RunState.RUNNING.value,
        actor=actor,
        activation=activation,
        errors=0,
        bytes=0,
        position={},
        message="",
        worker=worker,
        moved_at=now,
    )
    session.add(row)
    session.flush()
    return row.pk


def unfinished(session: Session) -> list[RunRef]:
    """The runs that are running or suspended, by policy."""
    rows = session.scalars(select(Run).where(Run.finished_at.is_(None)).order_by(Run.policy))
    return [_ref(row) for row in rows]


def open_run(session: Session, policy: str) -> RunRef | None:
    """The run of a policy that is running or suspended."""
    row = session.scalars(select(Run).where(Run.finished_at.is_(None), Run.policy == policy)).one_or_none()
    return None if row is None else _ref(row)


def get(session: Session, run_pk: int) -> RunRef:
    """:raises NotFound: there is no such run."""
    row = session.get(Run, run_pk)
    if row is None:
        raise NotFound(f"there is no run {run_pk}")
    return _ref(row)


def claim(session: Session, policy: str, worker: str, now: datetime, lost_after: timedelta) -> RunRef | None:
    """Take over the running run of a policy; None when there is none, or another worker has moved it
    within ``lost_after``."""
    row = _unfinished(session, policy)
    if row is None or row.state != RunState.RUNNING:
        return None
    theirs = row.worker not in ("", worker)
    if theirs and row.moved_at is not None and now - row.moved_at < lost_after:
        return None
    row.worker, row.moved_at = worker, now
    session.flush()
    return _ref(row)


def advance(
    session: Session,
    run_pk: int,
    now: datetime,
    position: Mapping[str, Any],
    *,
    worker: str = "",
    matched: int = 0,
    requested: int = 0,
    refused: int = 0,
    errors: int = 0,
    size: int = 0,
) -> bool:
    """Note where a run goes on and add to its counts, in the transaction that made the requests.

    :returns: False, with nothing changed, when the run is not running or another worker has it: the
        caller rolls its batch back.
    """
    moved = session.execute(
        update(Run)
        .where(Run.pk == run_pk, Run.state == RunState.RUNNING, Run.worker == worker)
        .values(
            position=dict(position),
            moved_at=now,
            matched=Run.matched + matched,
            requested=Run.requested + requested,
            refused=Run.refused + refused,
            errors=Run.errors + errors,
            bytes=Run.bytes + size,
        )
        .returning(Run.pk)
        .execution_options(synchronize_session=False)
    ).all()
    return len(moved) == 1


def finish(
    session: Session,
    run_pk: int,
    now: datetime,
    matched: int | None = None,
    requested: int | None = None,
    refused: int | None = None,
) -> None:
    """It has looked at everything or reached a limit; totals that are given replace those it has."""
    row = _locked(session, run_pk)
    for name, value in (("matched", matched), ("requested", requested), ("refused", refused)):
        if value is not None:
            setattr(row, name, value)
    _move(session, row, RunState.FINISHED, now, "", "")


def suspend(session: Session, run_pk: int, now: datetime, actor: str, why: str) -> None:
    """Stop a run until a person has looked; its policy asks for nothing more meanwhile."""
    _move(session, _locked(session, run_pk), RunState.SUSPENDED, now, actor, why)


def resume(session: Session, run_pk: int, now: datetime, actor: str) -> None:
    """Let a suspended run go on, its errors forgotten.

    :raises Refused: it is not suspended.
    """
    row = _locked(session, run_pk)
    if row.state != RunState.SUSPENDED:
        raise Refused(f"run {run_pk} of {row.policy} is {row.state}; only a suspended one can be resumed")
    row.errors, row.worker, row.moved_at = 0, "", now
    _move(session, row, RunState.RUNNING, now, actor, "")


def abandon(session: Session, run_pk: int, now: datetime, actor: str, why: str) -> None:
    """Give a run up for good.

    :raises Refused: it is over already.
    """
    row = _locked(session, run_pk)
    if row.finished_at is not None:
        raise Refused(f"run {run_pk} of {row.policy} is {row.state} already")
    _move(session, row, RunState.ABANDONED, now, actor, why)


def record_many(session: Session, run_pk: int, decisions: Sequence[NewDecision]) -> None:
    """Note what became requests, and refusals worth a record."""
    rows = [{"run_pk": run_pk, **asdict(decision)} for decision in decisions]
    if rows:
        session.execute(insert(Decision), rows)


def last(session: Session, policy: str) -> datetime | None:
    """When the policy ran last."""
    return session.scalar(select(Run.started_at).where(Run.policy == policy).order_by(Run.pk.desc()).limit(1))


def _move(session: Session, row: Run, new: RunState, now: datetime, actor: str, why: str) -> None:
    """Change a run's state; what a person will ask about later is in the journal."""
    states.RUN.check(RunState(row.state), new)
    row.state, row.message = new.value, why
    row.finished_at = None if new in (RunState.RUNNING, RunState.SUSPENDED) else now
    session.flush()
    if new is not RunState.FINISHED:
        detail: dict[str, Any] = {"run": row.pk} | ({"why": why} if why else {})
        verb = "run resumed" if new is RunState.RUNNING else f"run {new.value}"
        journal.append(session, now, actor, verb, "policy", row.policy, detail)


def _unfinished(session: Session, policy: str) -> Run | None:
    return session.scalars(
        select(Run).where(Run.policy == policy, Run.finished_at.is_(None)).with_for_update()
    ).one_or_none()


def _locked(session: Session, run_pk: int) -> Run:
    row = session.scalars(
        select(Run).where(Run.pk == run_pk).with_for_update().execution_options(populate_existing=True)
    ).one_or_none()
    if row is None:
        raise NotFound(f"there is no run {run_pk}")
    return row


def _ref(row: Run) -> RunRef:
    return RunRef(
        row.pk,
        row.policy,
        row.policy_digest,
        row.activation,
        RunState(row.state),
        row.actor,
        row.started_at,
        row.finished_at,
        row.matched,
        row.requested,
        row.refused,
        row.errors,
        row.bytes,
        dict(row.position),
        row.message,
        row.worker,
        row.moved_at,
    )
