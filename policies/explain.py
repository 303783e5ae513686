"""Why a study is where it is: for every policy and rule whether it applies, why, and until when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from policies import units
from policies.decide import Outcome, PoolFill, fills_of, judge, owner
from policies.evaluate import Circumstances, truth
from policies.facts import StudyFacts
from policies.policy import Action, Policy, PolicySet, Rule
from policies.trace import deciding, next_change


@dataclass(frozen=True, slots=True)
class RuleExplanation:
    """One rule of the policy that owns the study."""

    rule: str
    action: Action
    pool: str
    applies: bool
    """The condition holds and nothing refuses: this rule would ask for its work now."""
    matches: bool | None
    """Its condition alone; None where a fact is not known."""
    deciding: tuple[str, ...]
    """The tests that decided, each with its actual value."""
    reason: str
    """One sentence: why it applies, is refused, waits or does not match."""
    changes_at: datetime | None
    """When its condition will be another if nothing but time passes; in the time zone of now."""


@dataclass(frozen=True, slots=True)
class ScopeExplanation:
    """One policy's claim to the study."""

    policy: str
    priority: int
    matches: bool | None
    deciding: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    study: str
    policy: str | None
    """The policy that owns the study; None if no scope holds."""
    scopes: tuple[ScopeExplanation, ...]
    """Every policy by priority, down to the owner."""
    rules: tuple[RuleExplanation, ...]
    now: datetime

    def lines(self) -> list[str]:
        """For people, a line a statement."""
        out = []
        for scope in self.scopes:
            owns = "owns the study" if scope.policy == self.policy else "does not own it"
            out.append(
                f"policy {scope.policy} (priority {scope.priority}) {owns}: {'; '.join(scope.deciding)}"
            )
        if self.policy is None:
            out.append("no policy owns the study: nothing is copied or released")
        for rule in self.rules:
            verb = f"copy to {rule.pool}" if rule.action is Action.COPY else f"release from {rule.pool}"
            out.append(
                f"rule {rule.rule} ({verb}): {'applies' if rule.applies else 'does not apply'}: {rule.reason}"
            )
            if rule.changes_at is not None:
                away = units.say_duration(rule.changes_at - self.now)
                what = "stops matching" if rule.matches else "matches"
                out.append(f"  {what} in {away}, at {rule.changes_at.isoformat(sep=' ', timespec='seconds')}")
        return out


def explain(
    policies: PolicySet, facts: StudyFacts, now: datetime, pools: Mapping[str, PoolFill]
) -> Explanation:
    """Why each rule does or does not apply to the study now, and when that changes."""
    at = Circumstances(now, fills_of(pools))
    owning = owner(policies, facts, now, at.fills)
    scopes = []
    for policy in policies.policies:
        matches = truth(policy.scope.root, facts, at)
        scopes.append(
            ScopeExplanation(policy.name, policy.priority, matches, deciding(policy.scope, facts, at))
        )
        if policy is owning:
            break
    rules = (
        tuple(_rule(owning, rule, facts, at, pools) for rule in owning.rules) if owning is not None else ()
    )
    return Explanation(facts.study, owning.name if owning else None, tuple(scopes), rules, now)


def _rule(
    policy: Policy, rule: Rule, facts: StudyFacts, at: Circumstances, pools: Mapping[str, PoolFill]
) -> RuleExplanation:
    decision = judge(policy, rule, facts, at)
    matches = truth(rule.when.root, facts, at)
    parts = deciding(rule.when, facts, at)
    waiting = _waits(rule, pools)
    applies = decision is not None and decision.outcome is Outcome.REQUEST and not waiting
    if decision is None:
        text = ("not known: " if matches is None else "") + "; ".join(parts)
    elif decision.outcome is Outcome.REFUSED:
        text = f"refused: {decision.reason}"
    else:
        text = f"{decision.reason}; {waiting}" if waiting else decision.reason
    changes = next_change(rule.when, facts, at, among=(policy.scope,))
    return RuleExplanation(rule.name, rule.action, rule.pool, applies, matches, parts, text, changes)


def _waits(rule: Rule, pools: Mapping[str, PoolFill]) -> str:
    """Why a rule with watermarks does not act, or nothing."""
    if rule.start_above is None:
        return ""
    pool = pools.get(rule.pool)
    if pool is None:
        return f"waits: it is not known how full {rule.pool} is"
    if pool.fraction > rule.start_above:
        return ""
    fill, start = units.say_fraction(pool.fraction), units.say_fraction(rule.start_above)
    return f"waits: {rule.pool} is {fill} full, starts above {start}"
