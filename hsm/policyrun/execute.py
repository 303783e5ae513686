"""One policy, gone through: with a cursor that outlives the daemon, or dry, changing nothing.

A page of studies is selected, read and decided, then one transaction makes its requests and notes how
far the run has come. Whoever finds a run that nobody moves on goes on behind its last page; whoever
loses it to somebody else stops at the next page, with nothing of that page asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hsm.catalog import rulework, runs
from hsm.catalog.engine import Catalog
from hsm.catalog.runs import RunRef
from hsm.catalog.selecting import Position
from hsm.log import get_logger
from hsm.policyrun import select, suspend
from hsm.policyrun.allow import as_pools_allow
from hsm.policyrun.ask import SCHEDULE, Decided, ask
from hsm.policyrun.fills import pool_fills, premigrated
from hsm.policyrun.frozen import frozen
from hsm.policyrun.select import Question
from hsm.pools import Pools
from hsm.states import RunState
from hsm.wake import Bell
from policies import (
    Circumstances,
    Decision,
    Outcome,
    Policy,
    PolicySet,
    Progress,
    Rule,
    Run,
    fills_of,
)

log = get_logger(__name__)

SHOWN_MAX = 200
"""Decisions that a report lists; it counts all."""
LOST_AFTER = timedelta(minutes=5)
"""When another node has not moved a run for so long, it is dead."""
LOOKED_BACK = timedelta(days=1)
"""How old a run may be whose rules, ended by a limit, are gone on with."""


class Lost(Exception):
    """Somebody else goes on with this run, or has given it up."""


@dataclass(slots=True)
class Report:
    """What a run did, or would do."""

    policy: str
    matched: int = 0
    """Decisions: of studies that a rule applies to."""
    to_do: int = 0
    bytes: int = 0
    refused: int = 0
    requests: int = 0
    """New ones."""
    decisions: list[Decision] = field(default_factory=list)
    """The first of them; refusals too."""
    state: str = "finished"
    message: str = ""
    """Why it is not finished."""

    def add(self, decision: Decision) -> None:
        self.matched += 1
        if decision.outcome is Outcome.REQUEST:
            self.to_do += 1
            self.bytes += decision.size
        else:
            self.refused += 1
        if len(self.decisions) < SHOWN_MAX:
            self.decisions.append(decision)

    def record(self) -> dict[str, Any]:
        """As the API tells it."""
        told = {name: getattr(self, name) for name in self.__slots__ if name != "decisions"}
        return told | {"decisions": [_shown(decision) for decision in self.decisions]}


@dataclass(frozen=True, slots=True)
class Joints:
    """What a run works with."""

    catalog: Catalog
    pools: Pools
    bell: Bell
    worker: str
    """The node, by a name that it keeps when it is started again."""


class Execution:
    """One run of one policy by one worker."""

    def __init__(
        self,
        to: Joints,
        policies: PolicySet,
        policy: Policy,
        by: str,
        *,
        activation: int | None = None,
        draining: Collection[str] = (),
    ) -> None:
        self._to = to
        self._policies = policies
        self._policy = policy
        self._by = by
        self._activation = activation
        self._draining = draining
        self._report = Report(policy.name)
        self._run_pk: int | None = None
        self._left: tuple[str, Position | None] | None = None
        self.unfinished: frozenset[str] = frozenset(draining)
        """Rules that a limit ended before their ``stop below``: the next run goes on with them."""

    def dry(self) -> Report:
        """Decide as a run would now, in one transaction that the database keeps from writing."""
        now = self._to.catalog.clock.now()
        with frozen(self._to.catalog) as session:
            run = self._new_run(session, now, Progress())
            for rule in self._policy.rules:
                if run.wants(rule):
                    for page, _ in select.pages(session, self._question(rule, run)):
                        self._decide(run, rule, page)
                        if run.over(rule):
                            break
                    run.end(rule)
        return self._report

    def run(self) -> Report:
        """Decide and ask; go on with what an earlier run of the policy left."""
        now = self._to.catalog.clock.now()
        progress = self._begin(now)
        if progress is None:
            return self._report
        with self._to.catalog.read() as session:
            run = self._new_run(session, now, progress)
        try:
            for rule in self._rules():
                if run.wants(rule) and not self._go_through(run, rule):
                    break
            else:
                self._finish(run)
        except (Lost, IntegrityError) as error:
            self._report.state = "busy"
            self._report.message = "another worker runs this policy at the moment"
            log.info("policy %s: %s", self._policy.name, error if isinstance(error, Lost) else "begun twice")
        if self._report.requests:
            self._to.bell.ring()
        return self._report

    def _new_run(self, session: Session, now: datetime, progress: Progress) -> Run:
        fills = pool_fills(session, self._to.pools)
        if not progress.copied:
            at = Circumstances(now, fills_of(fills))
            progress.copied.update(premigrated(session, self._policies, self._policy, at))
        return Run(self._policy, fills, now, self._draining, progress)

    def _begin(self, now: datetime) -> Progress | None:
        """Whether it may run at all, and how far the run is that it goes on with."""
        name = self._policy.name
        with self._to.catalog.read() as session:
            there = runs.open_run(session, name)
            why = suspend.reason(session, self._policy, now)
        if why and (there is None or there.state is RunState.RUNNING):
            suspend.suspend(self._to.catalog, self._policy, now, self._by, why, self._activation)
            self._stay_away("suspended", why)
            return None
        if there is None:
            return Progress()
        if there.state is RunState.SUSPENDED:
            self._stay_away("suspended", there.message)
            return None
        with self._to.catalog.write() as session:
            if there.digest != self._policy.digest:
                runs.abandon(session, there.pk, now, self._by, "the policy is another one now")
                return Progress()
            mine = runs.claim(session, name, self._to.worker, now, LOST_AFTER)
        if mine is None:
            self._stay_away("busy", "another worker runs this policy at the moment")
            return None
        log.info("policy %s: going on with run %d of %s", name, mine.pk, mine.started_at)
        return self._take_up(mine)

    def _take_up(self, mine: RunRef) -> Progress:
        self._run_pk = mine.pk
        if mine.position.get("rule"):
            self._left = (mine.position["rule"], mine.position.get("after"))
        self._draining = mine.position.get("draining", self._draining)
        return Progress(**mine.position.get("progress", {}))

    def _stay_away(self, state: str, message: str) -> None:
        self._report.state, self._report.message = state, message
        log.warning("policy %s does not run: %s", self._policy.name, message)

    def _rules(self) -> Iterator[Rule]:
        """From the one where the run had come to."""
        rules = list(self._policy.rules)
        names = [rule.name for rule in rules]
        start = names.index(self._left[0]) if self._left and self._left[0] in names else 0
        return iter(rules[start:])

    def _go_through(self, run: Run, rule: Rule) -> bool:
        """One rule; False when the run must rest (its window is over, it was suspended)."""
        after = self._left[1] if self._left is not None and self._left[0] == rule.name else None
        question = self._question(rule, run)
        with self._to.catalog.read() as stream:
            for page, end in select.pages(stream, question, after):
                decided = self._decide(run, rule, page)
                wanted = [each for each in decided if each.decision.outcome is Outcome.REQUEST]
                if wanted or self._run_pk is not None:
                    self._write(run, question, wanted, len(decided), end)
                if run.over(rule):
                    break
                if self._must_rest():
                    return False
        run.end(rule)
        return True

    def _question(self, rule: Rule, run: Run) -> Question:
        shown = self._by != SCHEDULE
        pools = self._policies.pools
        return Question(self._policies, self._policy, rule, run.at.now, run.at.fills, pools, shown)

    def _decide(self, run: Run, rule: Rule, page: list[Any]) -> list[Decided]:
        decided = []
        for candidate in page:
            if run.over(rule):
                break
            decision = run.take(rule, candidate.facts())
            if decision is None:
                continue
            decision = as_pools_allow(decision, self._to.pools)
            self._report.add(decision)
            decided.append(Decided(decision, candidate))
        return decided

    def _write(
        self, run: Run, question: Question, wanted: list[Decided], matched: int, end: Position
    ) -> None:
        """Ask, and note how far it is, in one transaction.

        :raises Lost: somebody else has the run.
        """
        now = self._to.catalog.clock.now()
        position = self._position(run, question.rule.name, end)
        with self._to.catalog.write() as session:
            run_pk = self._run_pk or runs.begin(
                session,
                self._policy.name,
                self._policy.digest,
                now,
                actor=self._by,
                activation=self._activation,
                worker=self._to.worker,
            )
            # First: it locks the run, so that of two that decide the same one waits for the other.
            refused = matched - len(wanted)
            if not runs.advance(
                session, run_pk, now, position, worker=self._to.worker, matched=matched, refused=refused
            ):
                raise Lost(f"run {run_pk} is somebody else's")
            asked = ask(session, question, wanted, run_pk, self._by)
            runs.advance(
                session,
                run_pk,
                now,
                position,
                worker=self._to.worker,
                requested=asked.requests,
                size=asked.bytes,
            )
        self._run_pk = run_pk
        self._report.requests += asked.requests
        self._to.bell.ring()

    def _position(self, run: Run, rule: str, after: Position | None) -> Mapping[str, Any]:
        return {
            "rule": rule,
            "after": after,
            "progress": asdict(run.progress),
            "draining": sorted(self._draining),
        }

    def _must_rest(self) -> bool:
        now = self._to.catalog.clock.now()
        if self._by == SCHEDULE and not self._policy.schedule.is_open(now):
            self._report.state = "waiting"
            self._report.message = "its window is over: it goes on when the next one opens"
            return True
        with self._to.catalog.read() as session:
            why = suspend.reason(session, self._policy, now)
        if why:
            suspend.suspend(self._to.catalog, self._policy, now, self._by, why, self._activation)
            self._stay_away("suspended", why)
        return bool(why)

    def _finish(self, run: Run) -> None:
        self.unfinished = frozenset(run.unfinished)
        if self._run_pk is None:
            return
        now = self._to.catalog.clock.now()
        with self._to.catalog.write() as session:
            position = {"unfinished": sorted(run.unfinished)}
            if not runs.advance(session, self._run_pk, now, position, worker=self._to.worker):
                raise Lost(f"run {self._run_pk} is somebody else's")
            runs.finish(session, self._run_pk, now)
        report = self._report
        log.info("policy %s: %d studies, %d requests", report.policy, report.to_do, report.requests)


def last_unfinished(session: Session, policy: str, since: datetime) -> frozenset[str]:
    """The rules that the policy's last run left unfinished, as the catalog remembers it."""
    return frozenset(rulework.last_position(session, policy, since).get("unfinished", ()))


def _shown(decision: Decision) -> dict[str, Any]:
    return {
        "study": decision.study,
        "rule": decision.rule,
        "action": decision.action.value,
        "pool": decision.pool,
        "outcome": decision.outcome.value,
        "reason": decision.reason,
        "size": decision.size,
    }
