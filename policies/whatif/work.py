"""What is asked of drives: packages to be read, packages to be written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from policies.policy import Policy
from policies.whatif.moments import Micros, seconds
from policies.whatif.stock import Copy, Study, Volume

RETRIEVE, PREFETCH, BULK, MIGRATION, SCRUB = 10, 20, 25, 30, 40
"""Priorities as the archive's; lower goes first."""
POINT: Micros = seconds(1800)
"""What a point of priority is worth in waiting time."""
Then = Callable[[], None]


@dataclass(slots=True, eq=False)
class Read:
    """A package to be read from a volume, for all who wait for it."""

    study: Study
    copy: Copy
    volume: Volume
    priority: int
    created: Micros
    then: list[Then] = field(default_factory=list)

    @property
    def due(self) -> Micros:
        return self.created + self.priority * POINT


@dataclass(slots=True, eq=False)
class Write:
    """A package to be written to any volume of the pool that does not hold it yet."""

    study: Study
    pool: str
    policy: Policy
    created: Micros
    done: Callable[[Copy], None]

    @property
    def due(self) -> Micros:
        return self.created + MIGRATION * POINT
