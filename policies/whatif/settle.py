"""Where the stock lies when the simulation of interest begins: as if the policy had long been in force.

What the policies copy is copied and what they release is released, at once and without limits, by the
same decisions as later on. Volumes are filled in the order in which studies came; the fullest and oldest
that no slot is left for stand on the shelf.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from policies.decide import Outcome, fills_of, judge
from policies.evaluate import Circumstances, truth
from policies.facts import StudyFacts
from policies.policy import STAGING, Action, Limits, Policy, PolicySet, Rule
from policies.run import Run
from policies.whatif.library import Robot
from policies.whatif.moments import DAY, Micros, moment
from policies.whatif.runner import in_order
from policies.whatif.stock import Stock, Study, Volume
from policies.whatif.turns import Turns

_ROUNDS_MAX = 4
"""A copy lets a release follow, and a release another copy; more is not looked for."""


class Settling:
    def __init__(self, policies: PolicySet, stock: Stock, robots: Mapping[str, Robot], now: Micros) -> None:
        self._policies = policies.policies
        self._stock = stock
        self._robots = robots
        self._now = now
        self._turns: dict[tuple[str, str], Turns] = {}
        self._open: dict[tuple[str, int], Volume] = {}

    def settle(self) -> None:
        """Move everything to its place."""
        at = Circumstances(moment(self._now), fills_of(self._stock.fills()))
        for study in self._stock.studies:
            facts = self._stock.facts(study)
            owner = next((p for p in self._policies if truth(p.scope.root, facts, at) is True), None)
            if owner is not None:
                self._settle(study, owner, at)
        for policy in self._policies:
            self._drain(policy)
        for robot in self._robots.values():
            self._shelve(robot)

    def _settle(self, study: Study, policy: Policy, at: Circumstances) -> None:
        facts = self._stock.facts(study)
        for turn in range(_ROUNDS_MAX):
            changed = study.changes
            for rule in policy.rules:
                if self._apply(study, policy, rule, facts, at, past=turn == 0):
                    facts = self._stock.facts(study)
            if changed == study.changes:
                return

    def _apply(
        self, study: Study, policy: Policy, rule: Rule, facts: StudyFacts, at: Circumstances, past: bool
    ) -> bool:
        """Do what the rule decides; whether it was anything. What hangs on fill waits for the drain.

        :param past: also what it would have decided earlier.
        """
        if rule.has_watermarks or rule.action not in (Action.COPY, Action.RELEASE, Action.MOVE):
            return False
        if not _is_open(study, policy, rule):
            return False
        if truth(rule.when.root, facts, at) is not True:
            if not past or rule.action is not Action.COPY:
                return False
            then = self._once(study, policy, rule)
            if then is None:
                return False
            facts, at = then
        decision = judge(policy, rule, facts, at)
        if decision is None or decision.outcome is Outcome.REFUSED or decision.pool == STAGING:
            return False
        return self._do(study, policy, decision.action, decision.pool)

    def _once(self, study: Study, policy: Policy, rule: Rule) -> tuple[StudyFacts, Circumstances] | None:
        """When a copy was made that would not be asked for today, as by ``idle < 30 d``."""
        turns = self._turns.setdefault((policy.name, rule.name), Turns([rule.when]))
        accessed = study.accessed
        try:
            for then in turns.since_arrival(study, self._now):
                study.accessed = accessed if accessed <= then else study.received
                facts = self._stock.facts(study)
                at = Circumstances(moment(then), {})
                if truth(rule.when.root, facts, at) is True:
                    return facts, at
            return None
        finally:
            study.accessed = accessed

    def _do(self, study: Study, policy: Policy, action: Action, pool: str) -> bool:
        room = self._stock.rooms[pool]
        if action is Action.RELEASE:
            if room.pool.kind.removable:
                return False
            self._stock.release(study, pool, self._now)
            return True
        # Long ago: what has stayed a while has stayed since the day after it came.
        since = min(self._now, study.received + DAY)
        missing = policy.wanted(pool) - study.count_in(pool)
        if not room.pool.kind.removable:
            if missing < 1 or study.is_in(pool) or study.size > room.free:
                return False
            self._stock.add(study, pool, None, 0, since)
            room.settle(self._now)
            return True
        for number in range(missing):
            volume = self._volume(pool, number, study)
            if volume is None:
                return number > 0
            position = self._stock.write(volume, study.size, self._now)
            self._stock.add(study, pool, volume, position, since)
            volume.used_at = study.received
        return missing > 0

    def _volume(self, pool: str, number: int, study: Study) -> Volume | None:
        """The volume that the n-th copy of the pool goes to now."""
        robot = self._robots[self._stock.rooms[pool].pool.library]
        for volume in (self._open.get((pool, number)),):
            if volume is not None and not study.on(volume):
                if volume.written + study.size <= robot.room_on_volume:
                    return volume
                volume.full = True
        limit = robot.library.cartridges
        if study.size > robot.room_on_volume or (limit is not None and len(robot.volumes) >= limit):
            return None
        self._open[(pool, number)] = volume = robot.add_volume(pool)
        return volume

    def _drain(self, policy: Policy) -> None:
        """Rules with watermarks, as one run without limits."""
        unlimited = replace(policy, limits=Limits())
        run = Run(unlimited, self._stock.fills(), moment(self._now))
        for rule in unlimited.rules:
            if not rule.has_watermarks or not run.wants(rule):
                continue
            for study in in_order(
                [s for s in self._stock.studies if s.is_in(rule.watermark_pool)], rule.order_by
            ):
                if run.over(rule):
                    break
                facts = self._stock.facts(study)
                if truth(rule.when.root, facts, run.at) is not True or not self._owns(policy, study, run):
                    continue
                decision = run.take(rule, facts)
                if decision is None or decision.outcome is Outcome.REFUSED:
                    continue
                self._do(study, policy, decision.action, decision.pool)
                if rule.action is Action.MOVE and decision.action is Action.COPY:
                    again = judge(policy, rule, self._stock.facts(study), run.at)
                    if again is not None and again.outcome is Outcome.REQUEST:
                        self._do(study, policy, again.action, again.pool)
            run.end(rule)

    def _owns(self, policy: Policy, study: Study, run: Run) -> bool:
        facts = self._stock.facts(study)
        return policy is next((p for p in self._policies if truth(p.scope.root, facts, run.at) is True), None)

    def _shelve(self, robot: Robot) -> None:
        """The slots take the volumes used last, and some blanks."""
        slots = robot.library.slots
        limit = robot.library.cartridges
        left = slots if limit is None else max(0, limit - len(robot.volumes))
        spare = min(left, max(1, slots // 6))
        newest = sorted(robot.volumes, key=lambda volume: (volume.full, -volume.used_at, volume.number))
        for place, volume in enumerate(newest):
            volume.in_library = place < slots - spare
        inside = sum(volume.in_library for volume in robot.volumes)
        robot.blanks = min(left, slots - inside)


def _is_open(study: Study, policy: Policy, rule: Rule) -> bool:
    """Whether the rule has anything left to do: most have not, and need not be judged."""
    if rule.action is Action.COPY:
        return study.count_in(rule.pool) < policy.wanted(rule.pool)
    return study.is_in(rule.leaves)
