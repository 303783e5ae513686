"""One run of one policy: its decisions within its limits and between its watermarks. Pure.

A run keeps no study in memory, so that its size does not matter; its :class:`Progress` is all that
another process needs to go on with it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from policies import units
from policies.decide import Decision, Outcome, PoolFill, fills_of, judge
from policies.evaluate import Circumstances
from policies.facts import StudyFacts
from policies.policy import Action, Policy, Rule


@dataclass(slots=True)
class Progress:
    """How far a run has come."""

    studies: int = 0
    """That it asked something for."""
    bytes: int = 0
    refused: int = 0
    seen: list[str] = field(default_factory=list)
    """Rules that have seen every study they apply to."""
    copied: dict[str, int] = field(default_factory=dict)
    """By rule that moves or premigrates: bytes that it asked to copy; of a premigration also those in the
    pool it watches that were copied before."""
    unfinished: list[str] = field(default_factory=list)
    """Rules that a limit ended before their ``stop below``."""


class Run:
    """Hands out decisions; it counts what it asked for, and acts on nothing.

    Go through the rules in the policy's order: ``for rule in policy.rules: for decision in
    run.decide(rule, candidates)``; or with :meth:`wants`, :meth:`take`, :meth:`over` and :meth:`end`.
    """

    def __init__(
        self,
        policy: Policy,
        pools: Mapping[str, PoolFill],
        now: datetime,
        draining: Collection[str] = (),
        progress: Progress | None = None,
    ) -> None:
        """
        :param draining: rules whose last run ended by a limit before their ``stop below`` was
            reached (its :attr:`unfinished`): they go on below their ``start above``.
        :param progress: of a run that was cut short, to go on with it.
        """
        self.policy = policy
        self.pools = dict(pools)
        self.at = Circumstances(now, fills_of(pools))
        self.draining = frozenset(draining)
        self.progress = progress or Progress()
        self._full: set[str] = set()

    @property
    def unfinished(self) -> set[str]:
        """Rules that a limit ended before their ``stop below``."""
        return set(self.progress.unfinished)

    @property
    def refused(self) -> int:
        return self.progress.refused

    def wants(self, rule: Rule) -> bool:
        """Whether to look for candidates of ``rule`` at all. A pool of unknown fill starts nothing."""
        if self._spent():
            if rule.has_watermarks and self._starts(rule):
                self._leave(rule)
            return False
        return not rule.has_watermarks or self._starts(rule)

    def over(self, rule: Rule) -> bool:
        """Whether no further candidate of ``rule`` will be taken in this run."""
        return self._enough(rule) or rule.name in self._full

    def take(self, rule: Rule, facts: StudyFacts) -> Decision | None:
        """The decision for the next candidate; None where the rule does not apply (any more), where an
        earlier rule of this run has asked for the same, or where a limit is reached (see :meth:`over`).
        """
        decision = judge(self.policy, rule, facts, self.at)
        if decision is None or self._done_before(decision, facts):
            return None
        if decision.outcome is Outcome.REFUSED:
            self.progress.refused += 1
            return decision
        if self._spent(decision.size):
            self._full.add(rule.name)
            if rule.has_watermarks:
                self._leave(rule)
            return None
        self._count(rule, decision)
        return self._with_fill(rule, decision)

    def end(self, rule: Rule) -> None:
        """All candidates of ``rule`` were seen, or no more will be taken."""
        if not self.over(rule):
            self.progress.seen.append(rule.name)

    def decide(self, rule: Rule, candidates: Iterable[StudyFacts]) -> Iterator[Decision]:
        """A decision for every candidate that the rule applies to, until a limit or ``stop below``.

        :param candidates: in the order of ``compile_order(rule.order_by)``; taken one at a time.
            Each is evaluated again: one to which the rule does not apply (any more) is passed over.
        """
        if not self.wants(rule):
            return
        for facts in candidates:
            if self.over(rule):
                break
            decision = self.take(rule, facts)
            if decision is not None:
                yield decision
        self.end(rule)

    def _done_before(self, decision: Decision, facts: StudyFacts) -> bool:
        """Whether a rule of this run that has seen all its studies has asked for the same thing.

        Judged again instead of remembered: what a run remembers must not grow with the archive.
        """
        for name in self.progress.seen:
            before = judge(self.policy, self.policy.rule(name), facts, self.at)
            if (
                before is not None
                and before.outcome is Outcome.REQUEST
                and (before.action, before.pool) == (decision.action, decision.pool)
            ):
                return True
        return False

    def _leave(self, rule: Rule) -> None:
        if rule.name not in self.progress.unfinished:
            self.progress.unfinished.append(rule.name)

    def _count(self, rule: Rule, decision: Decision) -> None:
        self.progress.studies += 1
        self.progress.bytes += decision.size
        if decision.action is not Action.RELEASE:
            copied = self.progress.copied
            copied[rule.name] = copied.get(rule.name, 0) + decision.size
            return
        pool = self.pools.get(decision.pool)
        if pool is not None:
            self.pools[decision.pool] = PoolFill(pool.used, pool.capacity, pool.releasing + decision.size)

    def _starts(self, rule: Rule) -> bool:
        if rule.watermark_pool not in self.pools or rule.start_above is None or rule.stop_below is None:
            return False
        fraction = self._fraction(rule)
        return fraction > rule.start_above or (rule.name in self.draining and fraction >= rule.stop_below)

    def _fraction(self, rule: Rule) -> float:
        """How full the pool is that the rule watches. What a move or a premigration has copied is free, or
        can be made free at once."""
        pool = self.pools[rule.watermark_pool]
        leaving = pool.releasing + self.progress.copied.get(rule.name, 0)
        return PoolFill(pool.used, pool.capacity, leaving).fraction

    def _enough(self, rule: Rule) -> bool:
        """Whether the pool will be below the rule's ``stop below`` once all that was asked is done."""
        return rule.stop_below is not None and self._fraction(rule) < rule.stop_below

    def _spent(self, size: int = 0) -> bool:
        """Whether a limit forbids a further study of ``size`` bytes. The first of a run may be larger
        than the limit of bytes: it would otherwise wait for ever."""
        limits, done = self.policy.limits, self.progress
        if limits.studies_per_run is not None and done.studies >= limits.studies_per_run:
            return True
        return (
            limits.bytes_per_run is not None and done.studies > 0 and done.bytes + size > limits.bytes_per_run
        )

    def _with_fill(self, rule: Rule, decision: Decision) -> Decision:
        if rule.start_above is None or rule.stop_below is None:
            return decision
        pool = rule.watermark_pool
        was, stop = units.say_fraction(self.at.fills[pool]), units.say_fraction(rule.stop_below)
        text = f"{decision.reason}; {pool} was {was} full, goes on until below {stop}"
        return replace(decision, reason=text)
