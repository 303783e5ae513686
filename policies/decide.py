"""Rules and facts -> decisions. Pure: nothing here reads a catalog or asks for work."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from policies.evaluate import Circumstances, truth
from policies.facts import StudyFacts
from policies.policy import Action, Policy, PolicySet, Rule
from policies.trace import reason


class Outcome(enum.StrEnum):
    REQUEST = "request"
    """Ask for the work."""
    REFUSED = "refused"
    """The rule applies and the work must not, or need not, be done."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One outcome of one rule for one study."""

    study: str
    policy: str
    rule: str
    action: Action
    pool: str
    outcome: Outcome
    reason: str
    """In words, with the actual values."""
    size: int = 0
    """Bytes of the study."""


@dataclass(frozen=True, slots=True)
class PoolFill:
    """How full a pool is, in bytes."""

    used: int
    capacity: int
    releasing: int = 0
    """Of ``used``, what live requests will release: counted as free already, so that a second run
    does not release the same bytes again."""

    def __post_init__(self) -> None:
        if self.used < 0 or self.capacity < 0 or self.releasing < 0:
            raise ValueError(f"{self}: no value may be negative")

    @property
    def fraction(self) -> float:
        """From 0 to 1; a pool without capacity is full."""
        if self.capacity == 0:
            return 1.0
        return min(1.0, max(0, self.used - self.releasing) / self.capacity)


def fills_of(pools: Mapping[str, PoolFill]) -> dict[str, float]:
    """What ``compile`` and ``evaluate`` take, from what ``decide`` takes."""
    return {name: pool.fraction for name, pool in pools.items()}


def owner(policies: PolicySet, facts: StudyFacts, now: datetime, fills: Mapping[str, float]) -> Policy | None:
    """The first policy, by priority, whose scope holds for the study."""
    at = Circumstances(now, fills)
    return next((policy for policy in policies.policies if truth(policy.scope.root, facts, at) is True), None)


def judge(policy: Policy, rule: Rule, facts: StudyFacts, at: Circumstances) -> Decision | None:
    """What the rule says for one study, watermarks and limits aside; None where it does not apply."""
    if truth(policy.scope.root, facts, at) is not True or truth(rule.when.root, facts, at) is not True:
        return None
    refusal = (
        _refuse_copy(policy, rule, facts)
        if rule.action is Action.COPY
        else _refuse_release(policy, rule, facts)
    )
    outcome = Outcome.REFUSED if refusal else Outcome.REQUEST
    text = refusal or _say_why(policy, rule, facts, at)
    return Decision(facts.study, policy.name, rule.name, rule.action, rule.pool, outcome, text, _size(facts))


def _refuse_copy(policy: Policy, rule: Rule, facts: StudyFacts) -> str:
    have, wanted = facts.copies_in(rule.pool), policy.wanted(rule.pool)
    return f"{rule.pool} has {_copies(have)}, {wanted} wanted: nothing to copy" if have >= wanted else ""


def _refuse_release(policy: Policy, rule: Rule, facts: StudyFacts) -> str:
    """Why the copy goals do not let go of the pool's copy, or nothing. The archive's own guard still
    has the last word, inside the transaction that releases."""
    if not facts.is_held_in(rule.pool):
        return f"{rule.pool} holds no copy: nothing to release"
    lacking = []
    for pool, goal in policy.goals.items():
        have = 0 if pool == rule.pool else facts.copies_in(pool)
        if pool == rule.pool:
            lacking.append(f"{pool} itself must keep {_copies(goal)}")
        elif have < goal:
            lacking.append(f"{pool} has {have} of {_copies(goal)}")
    if lacking:
        return f"copy goals are not met: {'; '.join(lacking)}"
    if not any(count > 0 for pool, count in facts.copies.items() if pool != rule.pool):
        return f"{rule.pool} holds the last copy: no other pool has a verified one"
    return ""


def _say_why(policy: Policy, rule: Rule, facts: StudyFacts, at: Circumstances) -> str:
    why = reason(rule.when, facts, at)
    if rule.action is Action.COPY:
        have, wanted = facts.copies_in(rule.pool), policy.wanted(rule.pool)
        return f"{why}; {rule.pool} has {have} of {_copies(wanted)}"
    kept = ", ".join(
        f"{pool} {count}" for pool, count in sorted(facts.copies.items()) if pool != rule.pool and count
    )
    return f"{why}; verified copies kept: {kept}"


def _copies(count: int) -> str:
    return f"{count} verified {'copy' if count == 1 else 'copies'}"


def _size(facts: StudyFacts) -> int:
    size = facts.values["size"]
    return size if isinstance(size, int) else 0
