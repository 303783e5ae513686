"""The audit of copies as of a time that is over.

Walked back from now: a study none of whose copies has changed since lay then as it lies now, and those are
counted in the database by where they lie. Of the others the journal says how their copies were.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime
from heapq import merge, nsmallest
from itertools import islice

from sqlalchemy import ColumnElement
from sqlalchemy.orm import Session

from hsm.audit import why
from hsm.audit.goals import BAD, Packages, Standing, since
from hsm.audit.tally import Record, Sum, Tally, hopeless, lack
from hsm.catalog import pastcopies, placements, protection
from hsm.catalog.pastcopies import Lying, Moved
from hsm.catalog.protection import Received
from hsm.states import CopyState

Short = tuple[int, datetime]
"""A placement, and the time before which the last instance of a study in it came."""
_NEVER = datetime.max.replace(tzinfo=UTC)
_SLACK = 1000


@dataclass(frozen=True, slots=True)
class Past:
    """What is known of a time that is over, for all policies."""

    at: datetime
    limit: int
    """Studies that are named of each policy."""
    pools: Mapping[str, str]
    untrusted: Set[str]
    moved: Moved
    lying: Lying
    """Those that have moved since."""

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


def past(session: Session, at: datetime, limit: int) -> Past:
    """Read what all policies need to know of that time."""
    untrusted = protection.untrusted_volumes(session, at)
    moved = pastcopies.moved(session, at, untrusted)
    pools = protection.pools_of_volumes(session)
    return Past(at, limit, pools, untrusted, moved, pastcopies.lying(session, at, moved))


def then(session: Session, tally: Tally, owned: ColumnElement[bool], known: Past) -> Tally:
    """Count the studies of one policy. Whether work was queued then is not known: what was past its time
    counts as under-protected."""
    still = _still(session, tally, owned, known)
    moved = _moved(session, tally, owned, known)
    bad, lost = zip(still, moved, strict=True)
    worst = list(islice(merge(*bad, key=_order), known.limit))
    tally.hopeless_named = [each.uid for each in islice(merge(*lost, key=_order), known.limit)]
    tally.named = []
    for start in range(0, len(worst), protection.CHUNK):
        some = worst[start : start + protection.CHUNK]
        copies = pastcopies.copies_at(session, [each.pk for each in some], known.at)
        tally.named += [_named(tally, study, copies.get(study.pk, {}), known) for study in some]
    return tally


def _order(study: Received) -> tuple[datetime, int]:
    return study.received_at, study.pk


Found = tuple[list[Received], list[Received]]
"""Studies that lacked copies and were past their time; those with a package without a good one. The longest
archived first, as many as are named."""


def _still(session: Session, tally: Tally, owned: ColumnElement[bool], known: Past) -> Found:
    """The studies that lie as they lay."""
    owned = owned & pastcopies.among(session, known.moved, wanted=False)
    at, short, lost = known.at, set[Short](), set[Short]()
    for group in protection.tally(session, owned, [at - each for each in tally.times], at):
        found = Sum(group.studies, group.bytes, min(group.oldest, at))
        whole = tally.count(group.packages, group.passed, found)
        if whole in BAD:
            tally.whole[whole].join(found)
            due = min(each.allowed for each in tally.wanted if each.unmet(group.packages))
            short.add((group.placement_pk, at - due))
        if hopeless(group.packages):
            lost.add((group.placement_pk, _NEVER))

    def named(those: set[Short]) -> list[Received]:
        lacking = protection.lacking(session, owned, sorted(those), known.limit, received_until=at)
        return [Received(each.pk, each.uid, each.size, min(each.received_at, at)) for each in lacking]

    return named(short), named(lost)


@dataclass(slots=True)
class _Way:
    """Studies that lay alike and were past the same deadlines."""

    packages: Packages
    passed: int
    bad: bool
    lost: bool
    sum: Sum = field(default_factory=Sum)


def _moved(session: Session, tally: Tally, owned: ColumnElement[bool], known: Past) -> Found:
    """The others, by their records."""
    owned = owned & pastcopies.among(session, known.moved, wanted=True)
    ways: dict[tuple[int, int], _Way] = {}
    bad, lost = _Longest(known.limit), _Longest(known.limit)
    for pk, uid, size, last in pastcopies.received(session, owned, known.at):
        lay = known.lying.of(pk)
        if not lay:
            continue  # not sealed by then
        received = min(last, known.at)
        passed = bisect_left(tally.times, known.at - received)
        way = ways.get((lay, passed))
        if way is None:
            packages = tuple(known.good(each) for each in known.lying.ways[lay])
            whole, _ = tally.stands(packages, passed)
            way = ways[lay, passed] = _Way(packages, passed, whole in BAD, hopeless(packages))
        way.sum.add(1, size, received)
        if way.bad:
            bad.add(Received(pk, uid, size, received))
        if way.lost:
            lost.add(Received(pk, uid, size, received))
    for way in ways.values():
        whole = tally.count(way.packages, way.passed, way.sum)
        if whole in BAD:
            tally.whole[whole].join(way.sum)
    return bad.found(), lost.found()


class _Longest:
    """Of any number of studies those that were archived the longest ago, in bounded memory."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: list[Received] = []

    def add(self, study: Received) -> None:
        self._kept.append(study)
        if len(self._kept) > 2 * self._limit + _SLACK:
            self._kept = self.found()

    def found(self) -> list[Received]:
        return nsmallest(self._limit, self._kept, key=_order)


def _named(tally: Tally, study: Received, copies: Mapping[str, Mapping[str, str]], known: Past) -> Record:
    """:param copies: by package and volume, the states that the journal has."""
    packages = tuple(known.good(each) for each in copies.values())
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
        "lacks": [lack(promise, packages) for promise in unmet],
        "bytes": study.size,
        "received_at": study.received_at,
        "since": since(study.received_at, unmet or tally.wanted, None),
        "why": "; ".join(bad[: why.SHOWN]) or "no further copy had been made",
        "under_way": "",
    }
