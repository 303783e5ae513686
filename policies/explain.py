"""Why a study is where it is: for every policy and rule whether it applies, why, and until when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from policies import units
from policies.decide import Decision, Outcome, PoolFill, fills_of, judge, owner
from policies.evaluate import Circumstances, truth
from policies.expr import Expression
from policies.facts import StudyFacts
from policies.policy import Action, Policy, PolicySet, Rule
from policies.trace import deciding, next_change, turns


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
    source: str = ""
    """The pool that a move is from."""
    does: str = ""
    """What the rule does, in words: ``move from online to nearline``."""
    acts_at: datetime | None = None
    """When it will ask for its work if nothing but time passes, watermarks aside; None if it does now,
    or if time alone does not bring it about."""
    outlook: str = ""
    """In words, to be read after the reason: ``released from online in 29 d``; may be empty."""


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
    opens_at: datetime | None = None
    """When the policy may run next, where its schedule does not let it now."""

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
        if self.opens_at is not None:
            away = units.say_duration(self.opens_at - self.now)
            out.append(f"its schedule lets nothing run now: opens in {away}, at {_say(self.opens_at)}")
        for rule in self.rules:
            out.append(
                f"rule {rule.rule} ({rule.does}): "
                f"{'applies' if rule.applies else 'does not apply'}: {rule.reason}"
            )
            if rule.outlook:
                moment = rule.acts_at or rule.changes_at
                out.append(f"  {rule.outlook}" + (f", at {_say(moment)}" if moment else ""))
        return out


def _say(moment: datetime) -> str:
    return moment.isoformat(sep=" ", timespec="seconds")


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
    if owning is None:
        return Explanation(facts.study, None, tuple(scopes), (), now)
    rules = tuple(_Rule(policies, owning, rule, facts, at, pools).explain() for rule in owning.rules)
    opens = None if owning.schedule.is_open(now) else owning.schedule.next_change(now)
    return Explanation(facts.study, owning.name, tuple(scopes), rules, now, opens)


class _Rule:
    """One rule looked at from one study, now and later."""

    def __init__(
        self,
        policies: PolicySet,
        policy: Policy,
        rule: Rule,
        facts: StudyFacts,
        at: Circumstances,
        pools: Mapping[str, PoolFill],
    ) -> None:
        self.policies = policies
        self.policy = policy
        self.rule = rule
        self.facts = facts
        self.at = at
        self.pools = pools

    def explain(self) -> RuleExplanation:
        rule, policy, facts, at = self.rule, self.policy, self.facts, self.at
        decision = judge(policy, rule, facts, at)
        matches = truth(rule.when.root, facts, at)
        parts = deciding(rule.when, facts, at)
        waiting = self.waits()
        wanted = decision is not None and decision.outcome is Outcome.REQUEST
        if decision is None:
            text = ("not known: " if matches is None else "") + "; ".join(parts)
        elif decision.outcome is Outcome.REFUSED:
            text = f"refused: {decision.reason}"
        else:
            text = f"{decision.reason}; {waiting}" if waiting else decision.reason
        changes = next_change(rule.when, facts, at, among=(policy.scope,))
        acts_at, then = (None, None) if wanted else self.next_act()
        outlook = self.outlook(decision, changes, acts_at, then)
        return RuleExplanation(
            rule.name,
            rule.action,
            rule.pool,
            wanted and not waiting,
            matches,
            parts,
            text,
            changes,
            rule.source,
            str(rule),
            acts_at,
            outlook,
        )

    def waits(self) -> str:
        """Why a rule with watermarks does not act, or nothing."""
        rule = self.rule
        if rule.start_above is None:
            return ""
        watched = rule.watermark_pool
        pool = self.pools.get(watched)
        if pool is None:
            return f"waits: it is not known how full {watched} is"
        if pool.fraction > rule.start_above:
            return ""
        fill, start = units.say_fraction(pool.fraction), units.say_fraction(rule.start_above)
        return f"waits: {watched} is {fill} full, starts above {start}"

    def next_act(self) -> tuple[datetime | None, Decision | None]:
        """The first instant after now at which the rule asks for its work, if only time passes."""
        for moment in sorted({*turns(self.conditions(), self.facts, self.at), *self.ends()}):
            if owner(self.policies, self.facts, moment, self.at.fills) is not self.policy:
                continue
            then = judge(self.policy, self.rule, self.facts, Circumstances(moment, self.at.fills))
            if then is not None and then.outcome is Outcome.REQUEST:
                return moment, then
        return None, None

    def conditions(self) -> tuple[Expression, ...]:
        scopes = (policy.scope for policy in self.policies.policies)
        return (self.rule.when, *scopes)

    def ends(self) -> Iterator[datetime]:
        """When residency and retention no longer hold the study."""
        zone = self.at.now.tzinfo
        since = self.facts.resident.get(self.rule.leaves)
        found: list[datetime] = []
        if self.rule.minimum_residency is not None and since is not None:
            found.append((since + self.rule.minimum_residency).astimezone(zone))
        until = self.facts.values.get("retain_until")
        if self.rule.leaves and isinstance(until, str):
            try:
                day = datetime.strptime(until, "%Y%m%d").date() + timedelta(days=1)
                found.append(datetime.combine(day, time(), UTC).astimezone(zone))
            except (ValueError, OverflowError):
                pass  # a day that is in no calendar does not come
        yield from (moment for moment in found if moment > self.at.now)

    def outlook(
        self,
        decision: Decision | None,
        changes: datetime | None,
        acts_at: datetime | None,
        then: Decision | None,
    ) -> str:
        rule = self.rule
        if acts_at is not None and then is not None:
            once = ""
            if rule.start_above is not None:
                start = units.say_fraction(rule.start_above)
                once = f" at the earliest, once {rule.watermark_pool} is above {start}"
            return f"{_done(rule, then)} in {units.say_duration(acts_at - self.at.now)}{once}"
        if changes is None:
            return ""
        away = units.say_duration(changes - self.at.now)
        if decision is not None:
            return f"stops matching in {away}"
        later = judge(self.policy, rule, self.facts, Circumstances(changes, self.at.fills))
        if later is None or owner(self.policies, self.facts, changes, self.at.fills) is not self.policy:
            return f"matches in {away}, when another policy owns the study"
        return f"matches in {away}, but is then refused unless this changes: {later.reason}"


def _done(rule: Rule, decision: Decision) -> str:
    """What will have been asked for."""
    if rule.priors is not None:
        return f"its priors recalled to {decision.pool}"
    words = {
        Action.COPY: "copied to",
        Action.RELEASE: "released from",
        Action.RECALL: "recalled to",
        Action.VERIFY: "read back in",
        Action.EXPORT: "exported from",
    }
    return f"{words[decision.action]} {decision.pool}"
