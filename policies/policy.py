"""A policy as values: what :func:`policies.load.load_folder` gives and everything else takes."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from policies.errors import PolicyError, PolicyErrors
from policies.expr import ALWAYS, Expression
from policies.facts import Fact, StudyFacts, least_copies, least_sites
from policies.pools import By, Group, PoolInfo
from policies.schedule import Schedule

__all__ = [
    "ALWAYS",
    "Action",
    "By",
    "Colocate",
    "Expression",
    "Goal",
    "Group",
    "Limits",
    "Order",
    "Policy",
    "PolicyError",
    "PolicyErrors",
    "PolicySet",
    "PoolInfo",
    "Priors",
    "Rule",
    "Same",
    "Schedule",
]


STAGING = "staging"
"""Where a recall may bring a study to that is no pool."""


class Action(enum.StrEnum):
    """What a rule does, and what a decision asks for."""

    COPY = "copy"
    """To the pool: make the copies that its goal lacks."""
    RELEASE = "release"
    """From the pool."""
    MOVE = "move"
    """To the pool from the rule's ``source``. Only rules move: their decisions are to COPY to the pool,
    and once that is verified to RELEASE from the source."""
    RECALL = "recall"
    """To the pool, or to :data:`STAGING`; with :class:`Priors`, those of the study and not itself."""
    VERIFY = "verify"
    """Read the copies in the pool back again."""
    EXPORT = "export"
    """Take the volumes that hold it in the pool out of their library, to the shelf."""


@dataclass(frozen=True, slots=True)
class Goal:
    """A number of verified copies that must be there before anything is released."""

    group: Group
    count: int
    within: timedelta | None = None
    """Within this time of its reception the study must be protected so; None is as soon as it comes."""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"copies in {self.target}: {self.count}; expected at least 1")
        if self.within is not None and self.within <= timedelta(0):
            raise ValueError(f"copies in {self.target}: within {self.within}; expected a time above 0")

    @property
    def target(self) -> str:
        """As written: a pool, a kind, a tier, a site, or ``sites``."""
        return self.group.name

    @property
    def by(self) -> By:
        return self.group.by

    def have(self, facts: StudyFacts, without: str = "") -> int:
        """Verified copies (or different sites) that count for it, those in the pool ``without`` aside."""
        return self.have_in(facts.each_package, without)

    def have_in(self, packages: Iterable[Mapping[str, int]], without: str = "") -> int:
        """The same of a study whose packages have these verified copies by pool."""
        pools = [pool for pool in self.group.pools if pool.name != without]
        if self.by is By.SITES:
            return least_sites(packages, {pool.name: pool.site for pool in pools})
        return least_copies(packages, [pool.name for pool in pools])

    def __str__(self) -> str:
        if self.by is By.SITES:
            return f"{self.count} different sites"
        copies = f"{self.count} verified {'copy' if self.count == 1 else 'copies'}"
        return f"{copies} in {'' if self.by is By.POOL else f'{self.by.value} '}{self.target}"


class Same(enum.StrEnum):
    """What a prior has in common with the study that has arrived."""

    PATIENT = "patient"
    MODALITY = "modality"
    BODY_PART = "body part"
    DESCRIPTION = "description"
    INSTITUTION = "institution"


@dataclass(frozen=True, slots=True)
class Priors:
    """Earlier studies to recall for a study that has just arrived: the newest that qualify."""

    same: tuple[Same, ...]
    at_most: int
    when: Expression = ALWAYS
    """What must hold for a prior; the rule's own ``when`` is about the study that has arrived."""

    def __post_init__(self) -> None:
        if Same.PATIENT not in self.same:
            raise ValueError("priors are of the same patient")
        if self.at_most < 1:
            raise ValueError(f"at most {self.at_most} priors; expected at least 1")


class Colocate(enum.StrEnum):
    """What studies that share a volume have in common."""

    PATIENT = "patient"
    MODALITY = "modality"
    MONTH = "month"
    """Of the study date."""
    YEAR = "year"
    """Of the study date."""


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
    """Where to copy, move or recall to, or where to release, verify or export from."""
    when: Expression = ALWAYS
    start_above: float | None = None
    """Fraction of :attr:`watermark_pool`; with ``stop_below`` both or neither."""
    stop_below: float | None = None
    order_by: tuple[Order, ...] = ()
    line: int = 0
    """Where the rule begins in its file, from 1."""
    source: str = ""
    """The pool to move from; of a copy, the pool whose fill its watermarks watch (premigration)."""
    minimum_residency: timedelta | None = None
    """How long the study has been in :attr:`leaves` before this rule takes it out ("stay at least")."""
    priors: Priors | None = None

    def __post_init__(self) -> None:
        if (self.start_above is None) != (self.stop_below is None):
            raise ValueError(f"rule {self.name}: start above and stop below go together")
        if self.start_above is not None and self.stop_below is not None:
            if not self.watermark_pool:
                raise ValueError(
                    f"rule {self.name}: only a release, a move and a copy with from have watermarks"
                )
            if not 0 <= self.stop_below < self.start_above <= 1:
                raise ValueError(f"rule {self.name}: stop below must be less than start above")
        if (self.action is Action.MOVE) > bool(self.source):
            raise ValueError(f"rule {self.name}: a move has a pool to move from")
        if self.source and (self.action not in (Action.MOVE, Action.COPY) or self.source == self.pool):
            raise ValueError(
                f"rule {self.name}: cannot {self.action.value} from {self.source} to {self.pool}"
            )
        if self.priors is not None and self.action is not Action.RECALL:
            raise ValueError(f"rule {self.name}: only a recall has priors")
        if self.minimum_residency is not None and not self.leaves:
            raise ValueError(f"rule {self.name}: only a release and a move have a minimum residency")

    @property
    def has_watermarks(self) -> bool:
        return self.start_above is not None

    @property
    def leaves(self) -> str:
        """The pool that studies leave by this rule; empty where they leave none."""
        return {Action.RELEASE: self.pool, Action.MOVE: self.source}.get(self.action, "")

    @property
    def fills(self) -> str:
        """The pool that studies come into by this rule; empty where they come into none."""
        return self.pool if self.action in (Action.COPY, Action.MOVE, Action.RECALL) else ""

    @property
    def watermark_pool(self) -> str:
        """The pool whose fill starts and stops the rule."""
        return self.source if self.action is Action.COPY else self.leaves

    def __str__(self) -> str:
        """``copy to tape``, ``move from online to nearline``."""
        if self.action is Action.MOVE:
            return f"move from {self.source} to {self.pool}"
        if self.priors is not None:
            return f"recall priors to {self.pool}"
        joint = {Action.COPY: "to ", Action.RECALL: "to ", Action.VERIFY: ""}.get(self.action, "from ")
        return f"{self.action.value} {joint}{self.pool}"


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that one run of the policy asks for; None is without limit."""

    studies_per_run: int | None = None
    bytes_per_run: int | None = None
    bandwidth: int | None = None
    """Bytes a second that the policy's transfers take together."""
    drives: int | None = None
    """Drives that the policy's requests occupy at the same time."""
    suspend_after_errors: int | None = None
    """Failed requests of one run after which the policy asks for nothing more until it is resumed."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"limits: {name} is {value}; expected at least 1")


@dataclass(frozen=True, slots=True)
class Policy:
    """What the storage admin wrote as one YAML document."""

    name: str
    priority: int
    """Lower goes first; the first policy whose scope holds for a study owns it."""
    scope: Expression
    copies: tuple[Goal, ...]
    """What must be there before anything is released."""
    rules: tuple[Rule, ...]
    schedule: Schedule
    limits: Limits = Limits()
    digest: bytes = b""
    """SHA-256 of the document's text."""
    file: str = ""
    line: int = 0
    colocate: tuple[Colocate, ...] = ()
    """What comes first in it counts most."""

    @property
    def goals(self) -> dict[str, int]:
        """Verified copies on distinct volumes by pool: of :attr:`copies` those that name a pool. Goals
        of a kind, a tier, a site or of sites are not among them."""
        return {goal.target: goal.count for goal in self.copies if goal.by is By.POOL}

    def wanted(self, pool: str) -> int:
        """Verified copies that a copy rule makes in ``pool``: its goal, and one if it has none.

        A goal of a kind, a tier or a site that this pool alone stands for is the pool's.
        """
        own = [goal.count for goal in self.copies if goal.by is not By.SITES and goal.group.names == (pool,)]
        return max([1, *own])

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
    pools: tuple[PoolInfo, ...] = ()
    """What it was checked against."""
    notes: tuple[PolicyError, ...] = ()
    """What is good to know and needs no mending: overlaps of scopes, with who owns what is in both."""

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
