"""Rules and facts -> decisions. Pure: nothing here reads a catalog or asks for work."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from policies import units
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


class Run:
    """One run of one policy: hands out decisions within its limits and between its watermarks.

    It keeps count of what this run asked for, and acts on nothing. Go through the rules in the
    policy's order: ``for rule in policy.rules: if run.wants(rule): for decision in run.decide(...)``.
    """

    def __init__(
        self, policy: Policy, pools: Mapping[str, PoolFill], now: datetime, draining: Collection[str] = ()
    ) -> None:
        """
        :param draining: rules whose last run ended by a limit before their ``stop below`` was
            reached (its :attr:`unfinished`): they go on below their ``start above``.
        """
        self.policy = policy
        self.pools = dict(pools)
        self.at = Circumstances(now, fills_of(pools))
        self.draining = frozenset(draining)
        self.unfinished: set[str] = set()
        self.studies = 0
        self.bytes = 0
        self.refused = 0
        self._asked: set[tuple[str, Action, str]] = set()

    def wants(self, rule: Rule) -> bool:
        """Whether to look for candidates of ``rule`` at all. A pool of unknown fill starts nothing."""
        if self._spent():
            if rule.has_watermarks and self._starts(rule):
                self.unfinished.add(rule.name)
            return False
        return not rule.has_watermarks or self._starts(rule)

    def decide(self, rule: Rule, candidates: Iterable[StudyFacts]) -> Iterator[Decision]:
        """A decision for every candidate that the rule applies to, until a limit or ``stop below``.

        :param candidates: in the order of ``compile_order(rule.order_by)``; taken one at a time.
            Each is evaluated again: one to which the rule does not apply (any more) is passed over.
        """
        if not self.wants(rule):
            return
        for facts in candidates:
            if self._enough(rule):
                return
            decision = judge(self.policy, rule, facts, self.at)
            key = (facts.study, rule.action, rule.pool)
            if decision is None or key in self._asked:
                continue
            if decision.outcome is Outcome.REFUSED:
                self.refused += 1
                yield decision
                continue
            if self._spent(decision.size):
                if rule.has_watermarks:
                    self.unfinished.add(rule.name)
                return
            self._count(rule, decision, key)
            yield self._with_fill(rule, decision)

    def _count(self, rule: Rule, decision: Decision, key: tuple[str, Action, str]) -> None:
        self._asked.add(key)
        self.studies += 1
        self.bytes += decision.size
        pool = self.pools.get(rule.pool)
        if rule.action is Action.RELEASE and pool is not None:
            self.pools[rule.pool] = PoolFill(pool.used, pool.capacity, pool.releasing + decision.size)

    def _starts(self, rule: Rule) -> bool:
        pool = self.pools.get(rule.pool)
        if pool is None or rule.start_above is None or rule.stop_below is None:
            return False
        return pool.fraction > rule.start_above or (
            rule.name in self.draining and pool.fraction >= rule.stop_below
        )

    def _enough(self, rule: Rule) -> bool:
        """Whether the pool will be below the rule's ``stop below`` once all that was asked is done."""
        return rule.stop_below is not None and self.pools[rule.pool].fraction < rule.stop_below

    def _spent(self, size: int = 0) -> bool:
        """Whether a limit forbids a further study of ``size`` bytes. The first of a run may be larger
        than the limit of bytes: it would otherwise wait for ever."""
        limits = self.policy.limits
        if limits.studies_per_run is not None and self.studies >= limits.studies_per_run:
            return True
        return (
            limits.bytes_per_run is not None and self.studies > 0 and self.bytes + size > limits.bytes_per_run
        )

    def _with_fill(self, rule: Rule, decision: Decision) -> Decision:
        if rule.start_above is None or rule.stop_below is None:
            return decision
        was, stop = units.say_fraction(self.at.fills[rule.pool]), units.say_fraction(rule.stop_below)
        text = f"{decision.reason}; {rule.pool} was {was} full, goes on until below {stop}"
        return replace(decision, reason=text)
