"""Rules and facts -> decisions. Pure: nothing here reads a catalog or asks for work."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from policies import units
from policies.evaluate import Circumstances, truth
from policies.facts import StudyFacts
from policies.policy import Action, By, Policy, PolicySet, Rule
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
    """What the rule says for one study, watermarks and limits aside; None where it does not apply.

    A rule that moves decides to copy, and once that is verified to release. A recall of priors is
    decided for the study that has arrived; which its priors are is for whoever knows the others.
    """
    if truth(policy.scope.root, facts, at) is not True or truth(rule.when.root, facts, at) is not True:
        return None
    action, pool = _step(policy, rule, facts)
    refusal = _REFUSALS[action](policy, rule, pool, facts, at)
    outcome = Outcome.REFUSED if refusal else Outcome.REQUEST
    text = refusal or _say_why(policy, rule, action, pool, facts, at)
    return Decision(facts.study, policy.name, rule.name, action, pool, outcome, text, _size(facts))


def _step(policy: Policy, rule: Rule, facts: StudyFacts) -> tuple[Action, str]:
    if rule.action is not Action.MOVE:
        return rule.action, rule.pool
    if facts.copies_in(rule.pool) < policy.wanted(rule.pool):
        return Action.COPY, rule.pool
    return Action.RELEASE, rule.source


def _refuse_copy(policy: Policy, rule: Rule, pool: str, facts: StudyFacts, _at: Circumstances) -> str:
    have, wanted = facts.copies_in(pool), policy.wanted(pool)
    if have >= wanted:
        return f"{pool} has {_copies(have)}, {wanted} wanted: nothing to copy"
    if rule.source and not facts.is_held_in(rule.source):
        return f"{rule.source} holds no copy: nothing to copy from there"
    return ""


def _refuse_release(policy: Policy, rule: Rule, pool: str, facts: StudyFacts, at: Circumstances) -> str:
    """Why the pool's copy must stay, or nothing. The archive's own guard still has the last word, inside
    the transaction that releases."""
    if not facts.is_held_in(pool):
        return f"{pool} holds no copy: nothing to release"
    kept = _kept_by_law(facts, at)
    if kept:
        return kept
    lacking = []
    for goal in policy.copies:
        have = goal.have(facts, without=pool)
        if goal.by is By.POOL and goal.target == pool:
            lacking.append(f"{pool} itself must keep {_copies(goal.count)}")
        elif have < goal.count:
            others = " outside it" if pool in goal.group.names else ""
            lacking.append(
                f"{have} of {goal}{others}"
                if goal.by is By.SITES
                else f"{goal.target} has {have}{others} of {_copies(goal.count)}"
            )
    if lacking:
        return f"copy goals are not met: {'; '.join(lacking)}"
    elsewhere = {name for package in (facts.packages or (facts.copies,)) for name in package} - {pool}
    if not facts.copies_in(*elsewhere):
        return f"{pool} holds the last copy: no other pool has a verified one"
    return _too_soon(rule, pool, facts, at)


def _kept_by_law(facts: StudyFacts, at: Circumstances) -> str:
    """Retention and legal hold beat everything."""
    if facts.values.get("legal_hold"):
        return "it is under legal hold: nothing of it is released"
    until = facts.values.get("retain_until")
    if isinstance(until, str) and until and until >= f"{at.now.astimezone(UTC):%Y%m%d}":
        return f"it is retained until {until[:4]}-{until[4:6]}-{until[6:]}: nothing of it is released"
    return ""


def _too_soon(rule: Rule, pool: str, facts: StudyFacts, at: Circumstances) -> str:
    if rule.minimum_residency is None:
        return ""
    at_least = units.say_duration(rule.minimum_residency)
    since = facts.resident.get(pool)
    if since is None:
        return f"it is not known since when {pool} has held it: it stays at least {at_least}"
    if at.now - since < rule.minimum_residency:
        return f"{pool} has held it for {units.say_duration(at.now - since)}: it stays at least {at_least}"
    return ""


def _refuse_recall(_policy: Policy, rule: Rule, pool: str, facts: StudyFacts, _at: Circumstances) -> str:
    if rule.priors is not None:
        return ""
    if facts.values.get("availability") == "ONLINE":
        return "it is online: nothing to recall"
    return f"{pool} holds it: nothing to recall" if facts.is_held_in(pool) else ""


def _refuse_verify(_policy: Policy, _rule: Rule, pool: str, facts: StudyFacts, _at: Circumstances) -> str:
    return "" if facts.is_held_in(pool) else f"{pool} holds no copy: nothing to read back"


def _refuse_export(_policy: Policy, _rule: Rule, pool: str, facts: StudyFacts, _at: Circumstances) -> str:
    return "" if facts.copies_in(pool) else f"{pool} has no verified copy: no volume to take to the shelf"


_REFUSALS: Mapping[Action, Callable[[Policy, Rule, str, StudyFacts, Circumstances], str]] = {
    Action.COPY: _refuse_copy,
    Action.RELEASE: _refuse_release,
    Action.RECALL: _refuse_recall,
    Action.VERIFY: _refuse_verify,
    Action.EXPORT: _refuse_export,
}


def _say_why(
    policy: Policy, rule: Rule, action: Action, pool: str, facts: StudyFacts, at: Circumstances
) -> str:
    why = reason(rule.when, facts, at)
    if action is Action.COPY:
        have, wanted = facts.copies_in(pool), policy.wanted(pool)
        return f"{why}; {pool} has {have} of {_copies(wanted)}"
    if action is not Action.RELEASE:
        return why
    kept = ", ".join(
        f"{name} {count}" for name, count in sorted(facts.copies.items()) if name != pool and count
    )
    return f"{why}; verified copies kept: {kept}"


def _copies(count: int) -> str:
    return f"{count} verified {'copy' if count == 1 else 'copies'}"


def _size(facts: StudyFacts) -> int:
    size = facts.values["size"]
    return size if isinstance(size, int) else 0
