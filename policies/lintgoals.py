"""Warnings about a policy's copy goals and its schedule: what no rule makes, or makes too late."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from policies import units
from policies.expr import Compare, Op, Ref
from policies.facts import FACTS
from policies.logic import Must, impossible
from policies.policy import Action, By, Goal, Policy, Rule


def findings(policy: Policy) -> Iterator[str]:
    """In words that follow ``policy 'NAME':``."""
    leaving = {rule.leaves for rule in policy.rules} - {""}
    for goal in policy.copies:
        if leaving:
            yield from _unmade(policy, goal, leaving)
        yield from _late(policy, goal)
    yield from _schedule(policy)


def _feeds(rule: Rule) -> bool:
    return rule.action in (Action.COPY, Action.MOVE)


def _unmade(policy: Policy, goal: Goal, leaving: set[str]) -> Iterator[str]:
    """Goals that the rules do not make: nothing is ever released then."""
    fed = {rule.fills for rule in policy.rules if _feeds(rule)}
    names = goal.group.names
    if goal.by is By.SITES:
        kept = {
            pool.site
            for pool in goal.group.pools
            if pool.name in fed or (pool.tier in ("", "online") and pool.name not in leaving)
        }
        if len(kept) < goal.count:
            yield (
                f"its rules copy to {len(kept)} of the {goal.count} different sites that copies demand: "
                "nothing is ever released; add a rule that copies to a pool at another site"
            )
        return
    if not set(names) & (fed | leaving):
        alternatives = " or ".join(f"copy to: {name}" for name in names)
        yield (
            f"no rule copies to {goal.target}, which copies demand: unless studies arrive there nothing is "
            f"ever released; add a rule with {alternatives}"
        )
        return
    made = sum(
        policy.wanted(pool.name) if pool.name in fed else pool.tier in ("", "online")
        for pool in goal.group.pools
        if pool.name in fed or pool.name not in leaving
    )
    if set(names) & fed and made < goal.count:
        yield (
            f"its rules make {made} of the {goal}, which copies demand: nothing is ever released; add rules "
            f"that copy to more pools of it, or demand it of one pool, as in {names[0]}: {goal.count}"
        )


def _late(policy: Policy, goal: Goal) -> Iterator[str]:
    """Deadlines that the rules or the schedule cannot keep."""
    if goal.within is None:
        return
    within = units.say_duration(goal.within)
    rules = [rule for rule in policy.rules if _feeds(rule) and rule.pool in goal.group.names]
    young = [Compare(0, 0, Ref(FACTS[name]), Op.LE, goal.within) for name in ("received", "idle")]
    too_late = [
        rule
        for rule in rules
        if impossible((rule.when.root, Must.TRUE), *((test, Must.TRUE) for test in young))
    ]
    if rules and len(too_late) == len(rules):
        yield (
            f"{goal.target} demands its copies within {within} and rule '{rules[0].name}' waits longer than "
            "that: shorten its when or lengthen the deadline"
        )
    waiting = policy.schedule.longest_wait
    if waiting > goal.within:
        yield (
            f"{goal.target} demands its copies within {within} and the schedule runs nothing for up to "
            f"{units.say_duration(waiting)}: widen the schedule or lengthen the deadline"
        )


def _schedule(policy: Policy) -> Iterator[str]:
    schedule = policy.schedule
    if schedule.cron is not None and schedule.windows and not schedule.starts_a_day:
        windows = ", ".join(map(str, schedule.windows))
        yield (
            f"its cron {schedule.cron} begins at no time between {windows}: it never runs; change the hour "
            "or the window"
        )
    shortest = min((window.length for window in schedule.windows), default=None)
    if shortest is not None and (schedule.every_seconds or 0) > shortest.total_seconds():
        every = units.say_duration(timedelta(seconds=schedule.every_seconds or 0))
        yield (
            f"it runs every {every} and only in windows of {units.say_duration(shortest)}, which it may "
            "miss: write a cron expression, or every with less than the length of a window"
        )
