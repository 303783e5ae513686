"""Whether the policies can carry what arrives: the last month's arrivals against schedules and limits."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from hsm.catalog import facts, outlook
from hsm.catalog.tables import Study
from hsm.policyrun.plan import DISK_BYTES_PER_SECOND
from hsm.policyrun.tapes import TAPE_BYTES_PER_SECOND
from policies import Action, Load, Policy, PolicyError, PolicySet, Rule, carriage, in_the_end
from policies.compile import compile_expression, compile_ownership

LOOKED_AT = timedelta(days=30)
SHORTEST = timedelta(days=1)
"""What arrived in less time says nothing about a day."""


def warnings(session: Session, policies: PolicySet, now: datetime) -> list[PolicyError]:
    """Policies that cannot carry their load, with where they stand and what to do about it."""
    first = session.scalar(select(Study.first_received).order_by(Study.pk).limit(1))
    if first is None or now - first < SHORTEST:
        return []
    span = min(LOOKED_AT, now - first)
    found = []
    for policy in policies.policies:
        loads = [
            _load(session, policies, policy, rule, now, span)
            for rule in policy.rules
            if rule.action in (Action.COPY, Action.MOVE)
        ]
        found += [_finding(policies, policy, each) for each in carriage(policy, loads).warnings]
    return found


def _load(
    session: Session, policies: PolicySet, policy: Policy, rule: Rule, now: datetime, span: timedelta
) -> Load:
    """What one rule copies a day, if what comes is as what came."""
    columns, fills = facts.columns(policies.pools), dict.fromkeys((each.name for each in policies.pools), 0.0)
    studies, size = outlook.count(
        session,
        [
            Study.first_received >= now - span,
            compile_ownership(policies, policy, columns, now, fills),
            compile_expression(in_the_end(rule.when), columns, now, fills),
        ],
    )
    days, copies = span / timedelta(days=1), policy.wanted(rule.pool)
    return Load(rule.name, studies / days, size * copies / days, _rate(policies, policy, rule))


def _rate(policies: PolicySet, policy: Policy, rule: Rule) -> float:
    """Bytes a second; what is written on tape is read back at the same speed."""
    kind = next((each.kind for each in policies.pools if each.name == rule.pool), "")
    if kind == "tape":
        return TAPE_BYTES_PER_SECOND / 2 * (policy.limits.drives or 1)
    return DISK_BYTES_PER_SECOND


def _finding(policies: PolicySet, policy: Policy, message: str) -> PolicyError:
    lines = policies.texts.get(policy.file, "").split("\n")
    source = lines[policy.line - 1] if 0 < policy.line <= len(lines) else ""
    text = f"policy '{policy.name}': {message}"
    return PolicyError(policy.file, policy.line, 1, text, source, max(1, len(source)), warning=True)
