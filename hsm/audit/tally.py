"""What an audit of copies counts: the studies of one policy, by how they stand."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from hsm.audit.goals import BAD, Packages, Promise, Standing, standing

Record = dict[str, Any]

PAST = "past_due"
OF_GOALS = (Standing.PROTECTED.value, Standing.DUE.value, PAST)
"""How studies stand with one goal: of those past its time the whole policy says whether they are busy."""


@dataclass(slots=True)
class Sum:
    """Studies of one standing."""

    studies: int = 0
    bytes: int = 0
    oldest: datetime | None = None

    def add(self, studies: int, size: int, oldest: datetime | None) -> None:
        self.studies += studies
        self.bytes += size
        if oldest is not None:
            self.oldest = oldest if self.oldest is None else min(self.oldest, oldest)

    def join(self, other: Sum) -> None:
        self.add(other.studies, other.bytes, other.oldest)

    def record(self) -> Record:
        return {"studies": self.studies, "bytes": self.bytes, "oldest": self.oldest}


def _sums() -> dict[Standing, Sum]:
    return {each: Sum() for each in Standing}


@dataclass(slots=True)
class Tally:
    """The studies of one policy."""

    name: str
    wanted: tuple[Promise, ...]
    whole: dict[Standing, Sum] = field(default_factory=_sums)
    goals: list[dict[str, Sum]] = field(default_factory=list)
    """Of each promise alone."""
    named: list[Record] = field(default_factory=list)
    """Those that lack copies."""
    hopeless: Sum = field(default_factory=Sum)
    """Those with a package of which no good copy is left, whatever time the goals have."""
    hopeless_named: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.goals = [{name: Sum() for name in OF_GOALS} for _ in self.wanted]

    @property
    def times(self) -> list[timedelta]:
        """What the promises allow, the shortest first."""
        return sorted({promise.allowed for promise in self.wanted})

    def over(self, passed: int) -> timedelta | None:
        """The longest of the times that are over where so many of them are; None: none is."""
        return self.times[passed - 1] if passed else None

    def stands(self, packages: Packages, passed: int) -> tuple[Standing, list[Standing]]:
        """How studies that lie so stand while nothing is under way for them: with all promises together, and
        with each alone.

        :param passed: how many of the :attr:`times` are over for them.
        """
        over = self.over(passed)
        age = over + timedelta(microseconds=1) if over is not None else timedelta(0)
        alone = [standing(packages, [promise], age, busy=False) for promise in self.wanted]
        return standing(packages, self.wanted, age, busy=False), alone

    def count(self, packages: Packages, passed: int, found: Sum) -> Standing:
        """Count such studies by goal; as a whole only those that are not past their time: of those the caller
        asks whether something is under way."""
        whole, alone = self.stands(packages, passed)
        if whole not in BAD:
            self.whole[whole].join(found)
        for each, sums in zip(alone, self.goals, strict=True):
            sums[PAST if each in BAD else each.value].join(found)
        if hopeless(packages):
            self.hopeless.join(found)
        return whole

    def bad(self) -> int:
        return sum(self.whole[each].studies for each in BAD)

    def record(self) -> Record:
        return {
            "policy": self.name,
            **{each.value: self.whole[each].record() for each in Standing},
            "goals": [
                promise.record() | {name: each.record() for name, each in sums.items()}
                for promise, sums in zip(self.wanted, self.goals, strict=True)
            ],
            "no_good_copy": self.hopeless.record() | {"named": self.hopeless_named},
            "studies": self.named,
            "not_named": max(0, self.bad() - len(self.named)),
        }


def hopeless(packages: Packages) -> bool:
    """Whether no good copy is left of some package."""
    return not all(any(package.values()) for package in packages)


def lack(promise: Promise, packages: Packages) -> Record:
    """One goal that is not met: what it wants and what there is."""
    goal = promise.goal
    return {"goal": str(goal), "target": goal.target, "have": goal.have_in(packages), "want": goal.count}
