"""``hsm audit copies``: does every study have the copies that its policy promises?

Of now it counts by placements (:mod:`hsm.catalog.placements`): dozens of groups, whatever the archive's size,
and reads single studies only where copies lack. Of a time that is over it goes by the journal, in one pass.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, false, func, not_, true
from sqlalchemy.orm import Session

from hsm.audit import why
from hsm.audit.goals import BAD, Promise, Standing, everywhere, promises, since, standing
from hsm.catalog import facts, pastcopies, placements, protection
from hsm.catalog.engine import Catalog
from hsm.catalog.pastcopies import Lying
from hsm.catalog.protection import Group, Lacking
from hsm.errors import NotFound
from hsm.policyrun.fills import pool_fills
from hsm.policyrun.frozen import frozen
from hsm.pools import Pools
from hsm.states import CopyState
from policies import Policy, PolicySet, fills_of
from policies.compile import compile_ownership

Record = dict[str, Any]

NAMED = 100
"""Studies that are named of each policy, unless more are asked for."""
GRACE = timedelta(hours=24)
"""The time a goal has for which its policy names none."""
NOBODYS = "(no policy)"
"""Stands for the studies that no policy owns."""
PAST = "past_due"
OF_GOALS = (Standing.PROTECTED.value, Standing.DUE.value, PAST)
"""How studies stand with one goal: of those past its time the whole policy says whether they are busy."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the report shall cover."""

    policy: str | None = None
    as_of: datetime | None = None
    grace: timedelta = GRACE
    limit: int = NAMED
    """Studies that are named, of each policy."""

    def __post_init__(self) -> None:
        if self.as_of is not None and self.as_of.tzinfo is None:
            raise ValueError(f"as of {self.as_of}: no time zone")
        if self.grace < timedelta(0) or self.limit < 0:
            raise ValueError("the grace and the limit cannot be below 0")


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


PolicySetAt = Callable[[datetime | None], PolicySet]
"""The policies in force at a time; None: now."""


class CopiesAudit:
    """Compares what is promised with what the catalog, or the journal, has."""

    def __init__(self, catalog: Catalog, pools: Pools, in_force: PolicySetAt) -> None:
        """
        :param in_force: :raises ConfigError: what was in force does not fit the configuration any more.
        """
        self._catalog = catalog
        self._pools = pools
        self._in_force = in_force

    def report(self, asked: Asked) -> Record:
        """By policy the studies that are protected, have time left, are late, or under-protected.

        :raises NotFound: there is no such policy.
        :raises ConfigError: the policies of that time do not fit the configuration.
        """
        now = self._catalog.clock.now()
        at = asked.as_of or now
        loaded = self._in_force(asked.as_of)
        with frozen(self._catalog) as session:
            owners = list(self._owners(session, loaded, at, asked))
            if asked.as_of is None:
                tallies = [self._now(session, tally, owned, now, asked) for tally, owned in owners]
            else:
                past = _Past(
                    at, protection.pools_of_volumes(session), protection.untrusted_volumes(session, at)
                )
                lying = pastcopies.lying(session, at)
                tallies = [_then(session, tally, owned, past, lying, asked.limit) for tally, owned in owners]
            loose = protection.unsealed(session) if asked.as_of is None else None
            trash = protection.in_trash(session) if asked.as_of is None else None
        bad = sum(tally.bad() for tally in tallies)
        hopeless = sum(tally.hopeless.studies for tally in tallies)
        return {
            "at": at,
            "made_at": now,
            "source": "catalog" if asked.as_of is None else "journal",
            "grace_seconds": asked.grace.total_seconds(),
            "policies": [tally.record() for tally in tallies],
            "unsealed": None
            if loose is None
            else {"studies": loose.studies, "instances": loose.instances, "oldest": loose.oldest},
            "in_trash": None
            if trash is None
            else {
                "studies": trash.studies,
                "bytes": trash.bytes,
                "next_due": trash.next_due,
                "grown": trash.grown,
            },
            "under_protected": bad,
            "no_good_copy": hopeless,
            "good": not bad and not hopeless,
        }

    def _owners(
        self, session: Session, loaded: PolicySet, at: datetime, asked: Asked
    ) -> Iterator[tuple[Tally, ColumnElement[bool]]]:
        columns, fills = facts.columns(loaded.pools), fills_of(pool_fills(session, self._pools))
        every = everywhere(self._pools.infos)

        def owned(policy: Policy) -> ColumnElement[bool]:
            return compile_ownership(loaded, policy, columns, at, fills)

        known = [policy.name for policy in loaded.policies]
        if asked.policy is not None and asked.policy not in known:
            raise NotFound(f"there is no policy {asked.policy!r}; in force: {', '.join(known) or 'none'}")
        for policy in loaded.policies:
            if asked.policy in (None, policy.name):
                yield Tally(policy.name, promises(policy, asked.grace, every)), owned(policy)
        if asked.policy is None:
            nobodys = and_(true(), *(not_(_known(owned(policy))) for policy in loaded.policies))
            yield Tally(NOBODYS, promises(None, asked.grace, every)), nobodys

    def _now(
        self, session: Session, tally: Tally, owned: ColumnElement[bool], now: datetime, asked: Asked
    ) -> Tally:
        times = sorted({promise.allowed for promise in tally.wanted})
        short: list[tuple[int, datetime]] = []
        lost: list[tuple[int, datetime]] = []
        for group in protection.tally(session, owned, [now - each for each in times], now):
            # Of the deadlines the shortest are over first.
            over = times[group.passed - 1] if group.passed else None
            _count(tally, group, over)
            if not all(any(package.values()) for package in group.packages):
                tally.hopeless.add(group.studies, group.bytes, group.oldest)
                lost.append((group.placement_pk, now + timedelta(days=1)))
            unmet = [each.allowed for each in tally.wanted if each.unmet(group.packages)]
            if over is not None and unmet and min(unmet) <= over:
                short.append((group.placement_pk, now - min(unmet)))
        short = sorted(set(short))
        for past in protection.past(session, owned, short):
            how = Standing.LATE if past.busy else Standing.UNDER_PROTECTED
            tally.whole[how].add(past.studies, past.bytes, past.oldest)
        page = list(protection.lacking(session, owned, short, asked.limit))
        tally.named = _named(session, tally, page, now)
        found = protection.lacking(session, owned, sorted(set(lost)), asked.limit)
        tally.hopeless_named = [each.uid for each in found]
        return tally


def _known(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    return func.coalesce(condition, false())


def _count(tally: Tally, group: Group, over: timedelta | None) -> None:
    """:param over: the longest of the times that are over for the group."""
    age = over + timedelta(microseconds=1) if over is not None else timedelta(0)
    whole = standing(group.packages, tally.wanted, age, busy=True)
    if whole not in BAD:
        tally.whole[whole].add(group.studies, group.bytes, group.oldest)
    for promise, sums in zip(tally.wanted, tally.goals, strict=True):
        each = standing(group.packages, [promise], age, busy=True)
        sums[_of_goal(each)].add(group.studies, group.bytes, group.oldest)


def _of_goal(found: Standing) -> str:
    return PAST if found in BAD else found.value


def _named(session: Session, tally: Tally, page: Sequence[Lacking], now: datetime) -> list[Record]:
    found = []
    for start in range(0, len(page), protection.CHUNK):
        some = page[start : start + protection.CHUNK]
        copies = protection.copies_of(session, [each.pk for each in some])
        work = protection.work_of(session, [each.pk for each in some])
        taken = protection.last_taken(session, [each.uid for each in some])
        for each in some:
            unmet = [promise for promise in tally.wanted if promise.unmet(each.packages)]
            how = standing(each.packages, tally.wanted, now - each.received_at, each.busy)
            found.append(
                {
                    "study": each.uid,
                    "standing": how.value,
                    "lacks": [_lack(promise, each.packages) for promise in unmet],
                    "bytes": each.size,
                    "received_at": each.received_at,
                    "since": since(each.received_at, unmet, taken.get(each.uid)),
                    "why": why.why(copies[each.pk], work[each.pk]),
                    "under_way": why.under_way(work[each.pk]),
                }
            )
    return found


def _lack(promise: Promise, packages: Sequence[Mapping[str, int]]) -> Record:
    goal = promise.goal
    return {"goal": str(goal), "target": goal.target, "have": goal.have_in(packages), "want": goal.count}


@dataclass(frozen=True, slots=True)
class _Past:
    """What is known of volumes at a time that is over."""

    at: datetime
    pools: Mapping[str, str]
    untrusted: Set[str]

    def good(self, copies: Mapping[str, str]) -> Mapping[str, int]:
        """Verified copies that counted, by pool.

        :param copies: the state of each, by volume.
        """
        found: dict[str, int] = {}
        for volume, state in copies.items():
            pool = self.pools.get(volume)
            if pool is not None and state not in placements.GONE:
                counts = state == CopyState.VERIFIED and volume not in self.untrusted
                found[pool] = found.get(pool, 0) + counts
        return found


@dataclass(frozen=True, slots=True)
class _Way:
    """How studies stood that lay alike and were past the same deadlines."""

    whole: Standing
    goals: tuple[str, ...]
    sum: Sum


def _then(
    session: Session, tally: Tally, owned: ColumnElement[bool], past: _Past, lying: Lying, limit: int
) -> Tally:
    """As the journal has it. Whether work was queued then is not known: what was past its time counts as
    under-protected."""
    times = sorted({promise.allowed for promise in tally.wanted})
    ways: dict[tuple[int, int], _Way] = {}
    bad: list[protection.Received] = []
    for pk, uid, size, last in pastcopies.received(session, owned, past.at):
        way = lying.of(pk)
        if not way:
            continue  # not sealed by then
        received = min(last, past.at)
        passed = bisect_left(times, past.at - received)
        found = ways.get((way, passed))
        if found is None:
            age = times[passed - 1] + timedelta(microseconds=1) if passed else timedelta(0)
            found = ways[way, passed] = _way(tally, past, lying.ways[way], age)
        found.sum.add(1, size, received)
        if found.whole in BAD and len(bad) < limit:
            bad.append(protection.Received(pk, uid, size, received))
    for each in ways.values():
        tally.whole[each.whole].add(each.sum.studies, each.sum.bytes, each.sum.oldest)
        for name, sums in zip(each.goals, tally.goals, strict=True):
            sums[name].add(each.sum.studies, each.sum.bytes, each.sum.oldest)
    known = protection.past_copies(session, [each.uid for each in bad], past.at)
    for study in bad:
        packages = tuple(past.good(each) for each in known[study.uid].values())
        tally.named.append(_named_then(tally, study, known[study.uid], packages, study.received_at))
    return tally


def _way(tally: Tally, past: _Past, copies: Sequence[Mapping[str, str]], age: timedelta) -> _Way:
    packages = tuple(past.good(each) for each in copies)
    alone = (_of_goal(standing(packages, [promise], age, busy=False)) for promise in tally.wanted)
    return _Way(standing(packages, tally.wanted, age, busy=False), tuple(alone), Sum())


def _named_then(
    tally: Tally,
    study: protection.Received,
    copies: Mapping[str, Mapping[str, str]],
    packages: Sequence[Mapping[str, int]],
    received: datetime,
) -> Record:
    unmet = [promise for promise in tally.wanted if promise.unmet(packages)]
    bad = [
        f"the copy on {volume} was {state}"
        for each in copies.values()
        for volume, state in each.items()
        if state != CopyState.VERIFIED
    ]
    return {
        "study": study.uid,
        "standing": Standing.UNDER_PROTECTED.value,
        "lacks": [_lack(promise, packages) for promise in unmet],
        "bytes": study.size,
        "received_at": received,
        "since": since(received, unmet, None),
        "why": "; ".join(bad[: why.SHOWN]) or "no further copy had been made",
        "under_way": "",
    }
