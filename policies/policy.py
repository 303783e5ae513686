"""A policy as values: what :func:`policies.load.load_folder` gives and everything else takes."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from policies.errors import PolicyError, PolicyErrors
from policies.expr import ALWAYS, Expression
from policies.facts import Fact
from policies.schedule import Schedule

__all__ = [
    "ALWAYS",
    "Action",
    "Expression",
    "Limits",
    "Order",
    "Policy",
    "PolicyError",
    "PolicyErrors",
    "PolicySet",
    "Rule",
    "Schedule",
]


class Action(enum.StrEnum):
    COPY = "copy"
    RELEASE = "release"


@dataclass(frozen=True, slots=True)
class Order:
    """One term of ``order by``. Unknown values come last whatever the direction."""

    fact: Fact
    descending: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that a policy does."""

    name: str
    action: Action
    pool: str
    """Where to copy to, or where to release from."""
    when: Expression = ALWAYS
    start_above: float | None = None
    """Fraction of the pool; with ``stop_below`` both or neither, and only on releases."""
    stop_below: float | None = None
    order_by: tuple[Order, ...] = ()
    line: int = 0
    """Where the rule begins in its file, from 1."""

    def __post_init__(self) -> None:
        if (self.start_above is None) != (self.stop_below is None):
            raise ValueError(f"rule {self.name}: start above and stop below go together")
        if self.start_above is not None and self.stop_below is not None:
            if self.action is not Action.RELEASE:
                raise ValueError(f"rule {self.name}: only a release has watermarks")
            if not 0 <= self.stop_below < self.start_above <= 1:
                raise ValueError(f"rule {self.name}: stop below must be less than start above")

    @property
    def has_watermarks(self) -> bool:
        return self.start_above is not None


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that one run of the policy asks for; None is without limit."""

    studies_per_run: int | None = None
    bytes_per_run: int | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """What the storage admin wrote as one YAML document."""

    name: str
    priority: int
    """Lower goes first; the first policy whose scope holds for a study owns it."""
    scope: Expression
    goals: Mapping[str, int]
    """Verified copies on distinct volumes that each pool must hold before anything is released."""
    rules: tuple[Rule, ...]
    schedule: Schedule
    limits: Limits = Limits()
    digest: bytes = b""
    """SHA-256 of the document's text."""
    file: str = ""
    line: int = 0

    def wanted(self, pool: str) -> int:
        """Verified copies that a copy rule makes in ``pool``: its goal, and one if it has none."""
        return max(1, self.goals.get(pool, 1))

    def rule(self, name: str) -> Rule:
        """:raises LookupError: no rule has that name."""
        for rule in self.rules:
            if rule.name == name:
                return rule
        raise LookupError(f"policy {self.name} has no rule {name!r}")


@dataclass(frozen=True, slots=True)
class PolicySet:
    """All policies in force, lowest priority number first."""

    policies: tuple[Policy, ...] = ()
    digest: bytes = b""
    """SHA-256 over the texts, whatever their files are called."""
    warnings: tuple[PolicyError, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    """File name -> text, as read."""

    def __post_init__(self) -> None:
        numbers = [policy.priority for policy in self.policies]
        if numbers != sorted(set(numbers)):
            raise ValueError("policies must come in order of priority, each with its own")

    def policy(self, name: str) -> Policy:
        """:raises LookupError: no policy has that name."""
        for policy in self.policies:
            if policy.name == name:
                return policy
        raise LookupError(f"there is no policy {name!r}")
