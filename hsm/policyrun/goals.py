"""A policy's copy goals as the guard takes them, and as a request carries them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hsm.model import Goal
from policies import Policy
from policies.pools import By


def guard_goals(policy: Policy) -> list[Goal]:
    """Every goal, those of a kind, a tier, a site and of different sites too."""
    found = []
    for goal in policy.copies:
        sites = tuple(pool.site for pool in goal.group.pools) if goal.by is By.SITES else ()
        pools = () if goal.by is By.POOL else goal.group.names
        found.append(Goal(goal.target, goal.count, pools, sites))
    return found


def recorded(goals: Iterable[Goal]) -> list[dict[str, Any]]:
    """For a request's detail; :func:`hsm.model.Goal.of` reads each."""
    return [goal.record() for goal in goals]


def shown(policy: Policy) -> dict[str, int]:
    """Target -> count, for people."""
    return {goal.target: goal.count for goal in policy.copies}


def deadlines(policy: Policy) -> Mapping[str, float]:
    """Target -> seconds, of the goals that have a deadline."""
    return {goal.target: goal.within.total_seconds() for goal in policy.copies if goal.within is not None}
