"""A rule's candidates: what the database can leave out, it leaves out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, false, func, or_
from sqlalchemy.orm import Session

from hsm.catalog import facts, placements, rulework, selecting
from hsm.catalog.facts import Candidate
from hsm.catalog.selecting import Position
from hsm.states import RequestKind
from policies import Action, Policy, PolicySet, PoolInfo, Rule
from policies.compile import compile_expression, compile_order, compile_ownership

FAILED_PAUSE = timedelta(hours=1)
"""How long a study whose request failed is left alone by the policy that asked for it."""

KINDS: Mapping[Action, RequestKind] = {
    Action.COPY: RequestKind.COPY,
    Action.RELEASE: RequestKind.RELEASE,
    Action.RECALL: RequestKind.RECALL,
    Action.VERIFY: RequestKind.VERIFY,
    Action.EXPORT: RequestKind.EXPORT,
}


@dataclass(frozen=True, slots=True)
class Question:
    """One rule, at one time."""

    policies: PolicySet
    policy: Policy
    rule: Rule
    now: datetime
    fills: Mapping[str, float]
    pools: tuple[PoolInfo, ...] = ()
    refused_too: bool = True
    """Also those whose release the goals refuse: to show them. A run by schedule leaves them alone."""


def pages(
    session: Session, question: Question, after: Position | None = None
) -> Iterator[tuple[list[Candidate], Position]]:
    """The rule's candidates in its order, a page at a time, with where to go on behind each.

    The keys come from one statement of ``session``, what is known of a page's studies from another.
    """
    order = compile_order(question.rule.order_by, facts.columns(question.pools))
    for page in selecting.pages(session, conditions(question), order, after):
        yield list(facts.read(session, page.keys, question.pools)), page.end


def conditions(question: Question) -> list[ColumnElement[bool]]:
    """What a candidate must meet; every one is judged again on what is read of it."""
    return [applies(question), *_by_action(question.policy, question.rule, question.now)]


def applies(question: Question) -> ColumnElement[bool]:
    """The policy owns the study and the rule's condition holds for it."""
    policy, columns = question.policy, facts.columns(question.pools)
    return and_(
        compile_ownership(question.policies, policy, columns, question.now, question.fills),
        compile_expression(question.rule.when, columns, question.now, question.fills),
    )


def _by_action(policy: Policy, rule: Rule, now: datetime) -> Iterator[ColumnElement[bool]]:
    failed_since = now - FAILED_PAUSE
    if rule.action in (Action.COPY, Action.MOVE):
        lacks = placements.copies_in(rule.pool) < policy.wanted(rule.pool)
        yield or_(lacks, placements.held_in(rule.source)) if rule.action is Action.MOVE else lacks
        if rule.source and rule.action is Action.COPY:
            yield placements.held_in(rule.source)
        yield rulework.idle(RequestKind.COPY, rule.pool, failed_since)
    if rule.leaves:
        yield rulework.idle(RequestKind.RELEASE, rule.leaves, failed_since)
    if rule.action in (Action.RELEASE, Action.VERIFY, Action.EXPORT):
        yield placements.held_in(rule.pool)
    if rule.action in (Action.VERIFY, Action.EXPORT):
        yield rulework.idle(KINDS[rule.action], rule.pool, failed_since)
    if rule.action is Action.RECALL and rule.priors is None:
        yield rulework.idle(RequestKind.RECALL, None, failed_since)


def holds(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """Two-valued: what is not known is false."""
    return func.coalesce(condition, false())
