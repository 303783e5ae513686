"""``suspend after errors``: a policy whose requests fail asks for nothing more until a person has looked."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from hsm.catalog import queue, rulework, runs
from hsm.catalog.engine import Catalog
from hsm.errors import NotFound, Refused
from hsm.log import get_logger
from hsm.states import RunState
from policies import Policy

log = get_logger(__name__)

COUNTED = timedelta(days=1)
"""Failures longer ago do not count, nor those before the policy was last resumed."""


def reason(session: Session, policy: Policy, now: datetime) -> str:
    """Why the policy must stop; empty when it need not."""
    limit = policy.limits.suspend_after_errors
    if limit is None:
        return ""
    since = max(now - COUNTED, rulework.last_resumed(session, policy.name) or now - COUNTED)
    failed = rulework.failed_since(session, policy.name, since, limit)
    if failed < limit:
        return ""
    return (
        f"suspended after {failed} failed requests: see `hsm queue ls --state failed`, then "
        f"`hsm policy resume {policy.name}`"
    )


def suspend(
    catalog: Catalog, policy: Policy, now: datetime, by: str, why: str, activation: int | None = None
) -> None:
    """Stop it, and withdraw what it has asked for and nobody has begun: the next run asks again."""
    with catalog.write() as session:
        there = runs.open_run(session, policy.name)
        if there is not None and there.state is RunState.SUSPENDED:
            return
        run_pk = (
            there.pk
            if there is not None
            else runs.begin(session, policy.name, policy.digest, now, actor=by, activation=activation)
        )
        runs.suspend(session, run_pk, now, by, why)
        withdrawn = 0
        for pk in rulework.untaken_of(session, policy.name):
            try:
                queue.cancel(session, pk, now, f"policy:{policy.name}")
                withdrawn += 1
            except Refused:
                continue  # somebody has just begun it
    log.error("policy %s is %s; %d requests withdrawn", policy.name, why, withdrawn)


def resume(catalog: Catalog, name: str, by: str) -> None:
    """Let a suspended policy go on.

    :raises NotFound: no run of that policy is under way.
    :raises Refused: it is not suspended.
    """
    now = catalog.clock.now()
    with catalog.write() as session:
        there = runs.open_run(session, name)
        if there is None:
            raise NotFound(f"policy {name} is not suspended: no run of it is under way")
        runs.resume(session, there.pk, now, by)
    log.info("policy %s: resumed by %s", name, by)
