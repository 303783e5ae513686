"""Policies' runs: when they are, in which order candidates come, and what is made of the decisions."""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from policies.dates import known_date
from policies.decide import Decision, Outcome, fills_of, judge
from policies.evaluate import Circumstances
from policies.facts import Kind
from policies.fires import next_fire
from policies.policy import Order, Policy, Rule
from policies.run import Run
from policies.whatif.agenda import Agenda, Queue
from policies.whatif.moments import Micros, Timeline, micros, moment
from policies.whatif.stock import Stock, Study
from policies.whatif.tally import Tally

Act = Callable[[Decision, Policy, Rule, Study], None]


class Runner:
    """Begins a run at the next time that its policy's schedule names, once there is something to look at.

    A run without candidates decides nothing, so it is left out.
    """

    def __init__(self, stock: Stock, timeline: Timeline, tally: Tally, begin: datetime, act: Act) -> None:
        self._stock = stock
        self._timeline = timeline
        self._tally = tally
        self._begin = begin
        self._act = act
        self._planned: set[str] = set()
        self._last: dict[str, Micros] = {}
        self._draining: dict[str, frozenset[str]] = {}
        self._agenda: Agenda | None = None

    def attend(self, agenda: Agenda) -> None:
        """Use these queues from now on."""
        self._agenda = agenda

    def wanted(self, queue: Queue) -> None:
        """A queue may have become worth a run."""
        policy = queue.policy
        if policy.name in self._planned or not self._is_due(queue):
            return
        earliest = max(self._timeline.now, self._last.get(policy.name, -1) + 1)
        fires = next_fire(policy.schedule, moment(earliest), self._begin)
        if fires is not None:
            self._planned.add(policy.name)
            self._timeline.at(micros(fires), self._run, policy)

    def pool_changed(self, pool: str) -> None:
        """The fill of a pool is another."""
        if self._agenda is None:
            return
        for queue in self._agenda.all_queues():
            watched = queue.rule.has_watermarks and queue.rule.watermark_pool == pool
            if (queue.fresh and watched) or any(leaf.ref.pool == pool for leaf in queue.fills):
                self.wanted(queue)

    def _is_due(self, queue: Queue) -> bool:
        rule = queue.rule
        if queue.fills and queue.parked:
            return True
        if not queue.fresh:
            return False
        if rule.start_above is None:
            return True
        fraction = self._stock.rooms[rule.watermark_pool].fraction
        return fraction > rule.start_above or (
            rule.name in self._draining.get(queue.policy.name, ())
            and rule.stop_below is not None
            and fraction >= rule.stop_below
        )

    def _run(self, policy: Policy) -> None:
        assert self._agenda is not None
        now = self._timeline.now
        self._planned.discard(policy.name)
        self._last[policy.name] = now
        self._tally.runs += 1
        run = Run(policy, self._stock.fills(), moment(now), self._draining.get(policy.name, ()))
        queues = self._agenda.queues[policy.name]
        for queue in queues:
            if queue.fills:
                queue.turn(self._stock.any_facts(), run.at)
            if queue.fresh and run.wants(queue.rule):
                self._decide(run, queue)
        self._draining[policy.name] = frozenset(run.unfinished)
        for queue in queues:
            self.wanted(queue)

    def _decide(self, run: Run, queue: Queue) -> None:
        rule = queue.rule
        for study in in_order(queue.fresh.values(), rule.order_by):
            if run.over(rule):
                break
            if study.number not in queue.fresh:
                continue  # another rule's decision changed it
            facts = self._stock.facts(study)
            decision = run.take(rule, facts)
            if decision is None and (run.over(rule) or judge(queue.policy, rule, facts, run.at) is not None):
                continue  # the limit of the run, or an earlier rule's request: it comes again in the next
            queue.seen(study)
            if decision is None:
                continue
            self._tally.decisions += 1
            if decision.outcome is not Outcome.REFUSED:
                self._act(decision, queue.policy, rule, study)
        run.end(rule)

    def refusals(self) -> dict[str, int]:
        """How many studies each rule would take out of a pool now, and must not: by rule and reason."""
        assert self._agenda is not None
        at = Circumstances(moment(self._timeline.now), fills_of(self._stock.fills()))
        found: dict[str, int] = {}
        for study in self._stock.studies:
            queues = self._agenda.queues[study.owner.name] if study.owner is not None else ()
            for queue in queues:
                if not queue.rule.leaves or not study.is_in(queue.rule.leaves):
                    continue
                decision = judge(queue.policy, queue.rule, self._stock.facts(study), at)
                if decision is not None and decision.outcome is Outcome.REFUSED:
                    kind = f"{queue.rule.name}: {_gist(decision.reason)}"
                    found[kind] = found.get(kind, 0) + 1
        return found


def _gist(reason: str) -> str:
    """A reason without the numbers of the one study."""
    number = r"[0-9][0-9.,:-]*( (d|h|min|s)\b)?"
    return re.sub(rf"{number}( {number})*", "N", reason.partition(": ")[0])


def in_order(studies: Iterable[Study], order: tuple[Order, ...]) -> Iterator[Study]:
    """Studies as ``compile_order`` would give them; equals, and all without an order, by arrival."""
    keyed = [(_key(study, order), study.number, study) for study in studies]
    heapq.heapify(keyed)
    while keyed:
        yield heapq.heappop(keyed)[2]


def _key(study: Study, order: tuple[Order, ...]) -> tuple[float, ...]:
    key: list[float] = []
    for term in order:
        kind, source = term.fact.kind, term.fact.source
        value: float | None
        if kind is Kind.ELAPSED:
            # An elapsed time grows as its start goes back.
            value = -(study.accessed if source == "accessed_at" else study.received)
        elif kind in (Kind.DAYS, Kind.DATE, Kind.LEFT):
            day = known_date(study.values.get(source))
            value = None if day is None else int(day) * (-1 if kind is Kind.DAYS else 1)
        elif source == "size":
            value = study.size
        else:
            known = study.recalls if source == "recalls" else study.values.get(source, 1)
            value = known if isinstance(known, int) else None
        key += (1.0, 0.0) if value is None else (0.0, -value if term.descending else value)
    return tuple(key)
