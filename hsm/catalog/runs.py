"""Policy runs and the decisions that changed something."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from hsm.catalog.tables import Decision, Run


@dataclass(frozen=True, slots=True)
class NewDecision:
    """One outcome of one rule for one study that became a request."""

    study_pk: int
    rule: str
    action: str
    pool: str
    reason: str
    request_pk: int


def begin(session: Session, policy: str, digest: bytes, now: datetime) -> int:
    row = Run(
        policy=policy,
        policy_digest=digest,
        started_at=now,
        finished_at=None,
        matched=0,
        requested=0,
        refused=0,
    )
    session.add(row)
    session.flush()
    return row.pk


def record(session: Session, run_pk: int, decision: NewDecision) -> None:
    session.add(
        Decision(
            run_pk=run_pk,
            study_pk=decision.study_pk,
            rule=decision.rule,
            action=decision.action,
            pool=decision.pool,
            reason=decision.reason,
            request_pk=decision.request_pk,
        )
    )


def record_many(session: Session, run_pk: int, decisions: Sequence[NewDecision]) -> None:
    """Note what became requests."""
    rows = [{"run_pk": run_pk, **asdict(decision)} for decision in decisions]
    if rows:
        session.execute(insert(Decision), rows)


def finish(session: Session, run_pk: int, now: datetime, matched: int, requested: int, refused: int) -> None:
    row = session.scalars(select(Run).where(Run.pk == run_pk)).one()
    row.finished_at, row.matched, row.requested, row.refused = now, matched, requested, refused


def last(session: Session, policy: str) -> datetime | None:
    """When the policy ran last."""
    return session.scalar(select(Run.started_at).where(Run.policy == policy).order_by(Run.pk.desc()).limit(1))
