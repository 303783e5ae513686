"""What a decision sets going: copies, releases, recalls, verifications, exports."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from policies.decide import Decision
from policies.evaluate import Circumstances, truth
from policies.policy import STAGING, Action, Policy, Rule, Same
from policies.whatif.desk import Desk
from policies.whatif.library import Robot
from policies.whatif.moments import Timeline, moment
from policies.whatif.stock import Copy, Stock, Study
from policies.whatif.tally import Tally
from policies.whatif.transfers import Lane
from policies.whatif.walker import Walker
from policies.whatif.work import MIGRATION, PREFETCH, SCRUB, Read, Write


class Works:
    """Does what is decided, with the time that it takes."""

    def __init__(
        self,
        stock: Stock,
        timeline: Timeline,
        tally: Tally,
        desk: Desk,
        lanes: Mapping[str, Lane],
        robots: Mapping[str, Robot],
        walker: Walker,
        changed: Callable[[Study, tuple[str, ...]], None],
    ) -> None:
        """:param changed: called when copies of a study came or went, with the pools concerned."""
        self._stock = stock
        self._timeline = timeline
        self._tally = tally
        self._desk = desk
        self._lanes = lanes
        self._robots = robots
        self._walker = walker
        self._changed = changed

    def do(self, decision: Decision, policy: Policy, rule: Rule, study: Study) -> None:
        """Carry out one decision to request."""
        if decision.action is Action.COPY:
            have = study.count_in(decision.pool) + study.asked_for(Action.COPY, decision.pool)
            for _ in range(policy.wanted(decision.pool) - have):
                self._copy(study, decision.pool, policy)
        elif decision.action is Action.RELEASE:
            self._release(study, decision.pool)
            return
        elif decision.action is Action.RECALL and rule.priors is not None:
            study.ask("priors", rule.name)  # never answered: a study arrives once
            for prior in self._priors(study, rule):
                self._recall(prior, decision.pool, policy)
        elif decision.action is Action.RECALL:
            self._recall(study, decision.pool, policy)
        elif decision.action is Action.VERIFY:
            self._verify(study, decision.pool)
        else:
            self._export(study, decision.pool)
        if decision.pool != STAGING:  # what was staged is asked for again only when something happens to it
            self._changed(study, ())

    def _copy(self, study: Study, pool: str, policy: Policy) -> None:
        study.ask(Action.COPY, pool)
        if self._desk.source_rate(study) is None:
            self._desk.fetch(study, MIGRATION, lambda: self._put(study, pool, policy, Action.COPY))
        else:
            self._put(study, pool, policy, Action.COPY)

    def _put(self, study: Study, pool: str, policy: Policy, why: str) -> None:
        def done(copy: Copy | None) -> None:
            study.answered(why, pool)
            if copy is not None:
                self._tally.copied(pool, study.size, self._timeline.now)
            self._changed(study, (pool,))

        lane = self._lanes.get(pool)
        if lane is not None:
            lane.put(study, policy, done)
            return
        robot = self._robots[self._stock.rooms[pool].pool.library]
        robot.write(Write(study, pool, policy, self._timeline.now, done))

    def _release(self, study: Study, pool: str) -> None:
        if self._stock.rooms[pool].pool.kind.removable:
            self._tally.problem(
                f"a rule releases from {pool}, which is on removable media: nothing is released there"
            )
            return
        size = self._stock.release(study, pool, self._timeline.now)
        self._tally.released(pool, size, self._timeline.now)
        self._lanes[pool].pump()
        self._changed(study, (pool,))

    def _recall(self, study: Study, pool: str, policy: Policy) -> None:
        there = self._desk.source_rate(study) is not None
        if pool == STAGING:
            if not there:
                self._desk.fetch(study, PREFETCH, lambda: None)
            return
        if study.is_in(pool) or study.asked_for(Action.RECALL, pool):
            return
        study.ask(Action.RECALL, pool)
        if there:
            self._put(study, pool, policy, Action.RECALL)
        else:
            self._desk.fetch(study, PREFETCH, lambda: self._put(study, pool, policy, Action.RECALL))

    def _priors(self, study: Study, rule: Rule) -> list[Study]:
        """The newest earlier studies that have in common with it what the rule asks for."""
        priors = rule.priors
        assert priors is not None
        found: list[Study] = []
        for other in reversed(self._stock.by_patient.get(study.patient, ())):
            if len(found) == priors.at_most:
                break
            if other is study or not other.sealed or other.received > study.received:
                continue
            if all(_shares(study, other, same) for same in priors.same):
                at = Circumstances(moment(self._timeline.now), {})
                if truth(priors.when.root, self._stock.facts(other), at) is True:
                    found.append(other)
        return found

    def _verify(self, study: Study, pool: str) -> None:
        """Read every copy in the pool back."""
        for copy in study.copies:
            if copy.pool != pool:
                continue
            study.ask(Action.VERIFY, pool)
            if copy.volume is None:
                self._verified(study, copy)
                continue
            read = Read(study, copy, copy.volume, SCRUB, self._timeline.now)
            read.then.append(lambda copy=copy: self._verified(study, copy))  # type: ignore[misc]
            self._robots[copy.volume.library].read(read)

    def _verified(self, study: Study, copy: Copy) -> None:
        copy.verified = self._timeline.now
        study.answered(Action.VERIFY, copy.pool)
        self._tally.verified += 1
        self._changed(study, ())

    def _export(self, study: Study, pool: str) -> None:
        for copy in study.copies:
            if copy.pool == pool and copy.volume is not None and copy.volume.in_library:
                self._walker.shelve(self._robots[copy.volume.library], copy.volume)


_SOURCES = {
    Same.MODALITY: "modalities",
    Same.BODY_PART: "body_parts",
    Same.DESCRIPTION: "description",
    Same.INSTITUTION: "institution",
}


def _shares(study: Study, other: Study, same: Same) -> bool:
    """Whether both have it in common; of sets, at least one. What is not known is not shared."""
    if same is Same.PATIENT:
        return bool(study.patient) and study.patient == other.patient
    mine, theirs = study.values.get(_SOURCES[same]), other.values.get(_SOURCES[same])
    if same is Same.MODALITY:
        return bool(_codes(mine) & _codes(theirs))
    if same is Same.BODY_PART:
        return bool(_texts(mine) & _texts(theirs))
    return bool(mine) and mine == theirs


def _codes(value: object) -> set[str]:
    return set(filter(None, str(value or "").split("\\")))


def _texts(value: object) -> set[str]:
    return set(filter(None, value)) if isinstance(value, tuple) else set()
