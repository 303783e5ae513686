"""Pure: whether studies that lie so have the copies that they were promised, and until when they had time."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from policies import Goal, Policy
from policies.pools import By, Group
from policies.units import say_duration

Packages = Sequence[Mapping[str, int]]
"""Verified copies by pool, of each package."""


class Standing(enum.StrEnum):
    """How a study stands with its copies, from good to bad."""

    PROTECTED = "protected"  # every copy is there, verified, on a volume that is trusted
    DUE = "due"  # copies lack, and there is time left
    LATE = "late"  # the time is over, and work for it is queued, under way, or waiting for a person
    UNDER_PROTECTED = "under_protected"  # the time is over, and nothing is under way


BAD = (Standing.LATE, Standing.UNDER_PROTECTED)


@dataclass(frozen=True, slots=True)
class Promise:
    """One copy goal and the time it has."""

    goal: Goal
    allowed: timedelta
    """From the last instance's reception."""
    promised: bool
    """Whether the policy says so; else it is the audit's own grace."""

    def unmet(self, packages: Packages) -> int:
        """How many copies (or sites) lack."""
        return max(0, self.goal.count - self.goal.have_in(packages))

    def record(self) -> dict[str, Any]:
        return {
            "goal": str(self.goal),
            "time": say_duration(self.allowed),
            "time_from": "policy" if self.promised else "grace",
        }


def promises(policy: Policy | None, grace: timedelta, every: Group) -> tuple[Promise, ...]:
    """What a policy promises each of its studies, and for all studies at least one verified copy anywhere.

    :param policy: None: no policy owns the study.
    :param every: all pools.
    """
    found = [
        Promise(goal, goal.within if goal.within is not None else grace, goal.within is not None)
        for goal in (policy.copies if policy is not None else ())
    ]
    if not found:
        found.append(Promise(Goal(every, 1), grace, False))
    return tuple(found)


def everywhere(pools: Sequence[Any]) -> Group:
    """All pools as one name, for the promise that no study is without a verified copy."""
    return Group("any pool", By.POOL, tuple(pools))


def standing(packages: Packages, wanted: Sequence[Promise], age: timedelta, busy: bool) -> Standing:
    """Of one study, all its promises together.

    :param age: since its last instance was received.
    :param busy: whether something is under way for it.
    """
    unmet = [promise for promise in wanted if promise.unmet(packages)]
    if not unmet:
        return Standing.PROTECTED
    if all(age <= promise.allowed for promise in unmet):
        return Standing.DUE
    return Standing.LATE if busy else Standing.UNDER_PROTECTED


def since(received_at: datetime, unmet: Sequence[Promise], taken: datetime | None) -> datetime:
    """Since when a study has been without what it was promised: its time was over, or a copy went later."""
    over = received_at + min(promise.allowed for promise in unmet)
    return over if taken is None else max(over, taken)
