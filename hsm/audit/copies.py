"""``hsm audit copies``: does every study have the copies that its policy promises?

Of now it counts by placements (:mod:`hsm.catalog.placements`): dozens of groups, whatever the archive's size,
and reads single studies only where copies lack. Of a time that is over: :mod:`hsm.audit.past`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, false, func, not_, true
from sqlalchemy.orm import Session

from hsm.audit import why
from hsm.audit.goals import BAD, Standing, everywhere, promises, since, standing
from hsm.audit.past import past, then
from hsm.audit.tally import Record, Sum, Tally, hopeless, lack
from hsm.catalog import facts, protection
from hsm.catalog.engine import Catalog
from hsm.catalog.protection import Lacking
from hsm.errors import NotFound
from hsm.policyrun.fills import pool_fills
from hsm.policyrun.frozen import frozen
from hsm.pools import Pools
from policies import Policy, PolicySet, fills_of
from policies.compile import compile_ownership

NAMED = 100
"""Studies that are named of each policy, unless more are asked for."""
GRACE = timedelta(hours=24)
"""The time a goal has for which its policy names none."""
NOBODYS = "(no policy)"
"""Stands for the studies that no policy owns."""


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
                known = past(session, at, asked.limit)
                tallies = [then(session, tally, owned, known) for tally, owned in owners]
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
        short: list[tuple[int, datetime]] = []
        lost: list[tuple[int, datetime]] = []
        for group in protection.tally(session, owned, [now - each for each in tally.times], now):
            whole = tally.count(group.packages, group.passed, Sum(group.studies, group.bytes, group.oldest))
            if hopeless(group.packages):
                lost.append((group.placement_pk, now + timedelta(days=1)))
            if whole in BAD:
                due = min(each.allowed for each in tally.wanted if each.unmet(group.packages))
                short.append((group.placement_pk, now - due))
        short = sorted(set(short))
        for each in protection.past(session, owned, short):
            how = Standing.LATE if each.busy else Standing.UNDER_PROTECTED
            tally.whole[how].add(each.studies, each.bytes, each.oldest)
        page = list(protection.lacking(session, owned, short, asked.limit))
        tally.named = _named(session, tally, page, now)
        found = protection.lacking(session, owned, sorted(set(lost)), asked.limit)
        tally.hopeless_named = [each.uid for each in found]
        return tally


def _known(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    return func.coalesce(condition, false())


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
                    "lacks": [lack(promise, each.packages) for promise in unmet],
                    "bytes": each.size,
                    "received_at": each.received_at,
                    "since": since(each.received_at, unmet, taken.get(each.uid)),
                    "why": why.why(copies[each.pk], work[each.pk]),
                    "under_way": why.under_way(work[each.pk]),
                }
            )
    return found
