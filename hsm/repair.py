"""Damaged copies are made anew from good ones, by themselves, and people are told.

What a scrub, a recall or a retrieve found not to be what was stored is a *suspect* copy: it is never served.
A round decides for each what is done next (:func:`hsm.fixity.next_step`): where its volume takes other bytes
it is replaced in its place; on tape and disc another copy is made and read back first, and then the suspect
one is given up. Each step is a request or a change of state, so that the journal has it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy.orm import Session

from hsm.catalog import details, placement, queue, queuelooks, requesting, scrubbing
from hsm.catalog.engine import Catalog
from hsm.catalog.orders import Order
from hsm.catalog.requesting import NewRequest
from hsm.catalog.scrubbing import Suspect
from hsm.fixity import Step, next_step
from hsm.guard import CopyFact
from hsm.log import get_logger
from hsm.model import Goal, Priority
from hsm.pools import Pools
from hsm.states import CopyState, RequestKind, RequestState
from hsm.wake import Bell

log = get_logger(__name__)

ACTOR = "repair"
AT_ONCE = 500
"""Damaged copies that one round looks at; the others' turn comes."""
AGAIN_AFTER = timedelta(days=1)
"""What could not be made anew is tried again by itself after so long."""
NAMED = 3


@dataclass(frozen=True, slots=True)
class News:
    """What has become known since the last round, each a sentence."""

    damaged: tuple[str, ...] = ()
    mended: tuple[str, ...] = ()
    hopeless: tuple[str, ...] = ()
    """Packages of which no good copy is left."""

    def __bool__(self) -> bool:
        return bool(self.damaged or self.mended or self.hopeless)


@dataclass(frozen=True, slots=True)
class _Case:
    suspect: Suspect
    step: Step
    failed: int = 0
    """The request that could not make it anew."""


class Repairs:
    """Of one archive. What it knows of the last round is forgotten at a restart: it is told once more."""

    def __init__(
        self,
        catalog: Catalog,
        pools: Pools,
        goals_now: Callable[[str], Sequence[Goal]],
        bell: Bell,
        tell: Callable[[News], None] = lambda _news: None,
    ) -> None:
        """
        :param tell: called with what is new, after it is in the catalog.
        """
        self._catalog = catalog
        self._pools = pools
        self._goals_now = goals_now
        self._bell = bell
        self.tell = tell
        self._known: dict[int, _Case] = {}
        self._begun: dict[int, _Case] = {}
        """Copies that are suspect no more and not good yet: they are being written anew."""
        self._total = 0
        self._round = threading.Lock()

    def round(self) -> int:
        """Look at the suspect copies and do what comes next; for how many something was begun."""
        if not self._round.acquire(blocking=False):
            return 0
        try:
            with self._catalog.read() as session:
                suspects = scrubbing.suspects(session, AT_ONCE)
                self._total = scrubbing.suspects_total(session)
                cases = self._cases(session, suspects)
                good = scrubbing.made_good(session, AT_ONCE)
            begun = sum(self._act(case) for case in cases)
            self._dismiss(good)
            news = self._news({case.suspect.copy_pk: case for case in cases})
        finally:
            self._round.release()
        if begun:
            self._bell.ring()
        if news:
            self.tell(news)
        return begun

    def problems(self) -> list[str]:
        """As of the last round, the worst first."""
        found = []
        every = [case for case in self._known.values() if case.step is Step.HOPELESS]
        hopeless = _by_package(every)
        if hopeless:
            found.append(
                f"NO GOOD COPY IS LEFT of {_many(len(hopeless), 'package')}: {_named(hopeless)}; bring back "
                "a volume that has one, or verify what is suspect again: hsm audit verify STUDY"
            )
        stuck = [case for case in self._known.values() if case.step is Step.STUCK]
        if stuck:
            found.append(
                f"{_many(len(stuck), 'damaged copy', 'damaged copies')} could not be made anew: "
                f"{_named(stuck)}; why: hsm queue show {stuck[0].failed}"
            )
        rest = self._total - len(every) - len(stuck)
        if rest > 0:
            under = [case for case in self._known.values() if case.step not in (Step.HOPELESS, Step.STUCK)]
            found.append(
                f"{_many(rest, 'damaged copy', 'damaged copies')} of packages that have a good one: "
                f"{_named(under)}; they are being made anew"
            )
        return found

    def _cases(self, session: Session, suspects: Sequence[Suspect]) -> list[_Case]:
        packages = sorted({each.package_pk for each in suspects})
        facts = placement.copy_facts_of(session, packages)
        goals = {uid: list(self._goals_now(uid)) for uid in {each.study_uid for each in suspects}}
        busy = scrubbing.under_way(session, packages) if packages else set()
        last = queuelooks.latest(session, [_key(each) for each in suspects])
        return [
            self._case(each, facts[each.package_pk], goals[each.study_uid], busy, last) for each in suspects
        ]

    def _case(
        self,
        suspect: Suspect,
        facts: Sequence[CopyFact],
        goals: Sequence[Goal],
        busy: set[tuple[int, str, int | None, str]],
        last: Mapping[str, Order],
    ) -> _Case:
        mine = next(fact for fact in facts if fact.copy_pk == suspect.copy_pk)
        order = last.get(_key(suspect))
        tried = self._catalog.clock.now() - AGAIN_AFTER
        failed = order is not None and order.state is RequestState.FAILED and order.created_at > tried
        step = next_step(
            mine,
            facts,
            goals,
            in_place=self._pools.disk_by_volume(suspect.volume_pk) is not None,
            under_way=any(
                package == suspect.package_pk
                and (volume == suspect.volume_pk if kind == RequestKind.VERIFY else pool == suspect.pool)
                for package, kind, volume, pool in busy
            ),
            failed=failed,
        )
        return _Case(suspect, step, order.pk if order is not None and failed else 0)

    def _act(self, case: _Case) -> bool:
        """Do what comes next, if that is anything."""
        suspect = case.suspect
        now = self._catalog.clock.now()
        if case.step is Step.LET_GO:
            return self._let_go(suspect)
        if case.step not in (Step.REPLACE, Step.COPY):
            return False
        goals = list(self._goals_now(suspect.study_uid))
        with self._catalog.write() as session:
            good = [
                fact
                for fact in placement.copy_facts(session, suspect.package_pk)
                if fact.good and fact.pool == suspect.pool
            ]
            detail: dict[str, Any] = {
                details.COPIES: len(good) + 1,
                details.GOALS: [goal.record() for goal in goals],
            }
            if case.step is Step.REPLACE:
                detail[details.MENDS] = suspect.volume_pk
            request = NewRequest(
                kind=RequestKind.COPY,
                key=_key(suspect),
                priority=Priority.MIGRATION,
                reason=f"the copy on {suspect.volume} is damaged",
                study_pk=suspect.study_pk,
                package_pk=suspect.package_pk,
                pool=suspect.pool,
                detail=detail,
            )
            return bool(requesting.enqueue_many(session, now, ACTOR, [request]))

    def _let_go(self, suspect: Suspect) -> bool:
        """The pool has what it needs without it: its bytes stay on the cartridge, and count for nothing."""
        goals = self._goals_now(suspect.study_uid)
        with self._catalog.write() as session:
            now = self._catalog.clock.now()
            if placement.state_of(session, suspect.copy_pk) is not CopyState.SUSPECT:
                return False
            verdict = placement.release(session, suspect.copy_pk, goals, now, ACTOR)
            if not verdict.allowed:
                log.debug("%s on %s stays: %s", suspect.package, suspect.volume, verdict.reason)
                return False
            why = "damaged; another copy takes its place"
            placement.move_copy(session, suspect.copy_pk, CopyState.RELEASED, now, ACTOR, why=why)
        return True

    def _dismiss(self, requests: Sequence[int]) -> None:
        """Verifications that failed are no problem any more once their copies are good."""
        if not requests:
            return
        with self._catalog.write() as session:
            now = self._catalog.clock.now()
            for pk, (state, _) in queuelooks.outcome(session, requests).items():
                if state is RequestState.FAILED:
                    queue.cancel(session, pk, now, ACTOR)

    def _news(self, cases: dict[int, _Case]) -> News:
        before, self._known = self._known, cases
        new = [case for pk, case in cases.items() if pk not in before]
        lost = {case.suspect.package_pk for case in before.values() if case.step is Step.HOPELESS}
        hopeless = _by_package(
            case
            for case in cases.values()
            if case.step is Step.HOPELESS and case.suspect.package_pk not in lost
        )
        self._begun |= {pk: case for pk, case in before.items() if pk not in cases}
        with self._catalog.read() as session:
            ends = {pk: self._end_of(session, case.suspect) for pk, case in self._begun.items()}
        mended = [case for pk, case in self._begun.items() if ends[pk]]
        self._begun = {pk: case for pk, case in self._begun.items() if ends[pk] is None and pk not in cases}
        for case in new:
            log.error("operator: damaged: %s", _said(case.suspect))
        for case in hopeless:
            log.error("operator: NO GOOD COPY IS LEFT of %s", _said(case.suspect))
        for case in mended:
            log.warning("operator: made good: %s", _said(case.suspect))
        return News(
            tuple(_said(case.suspect) for case in new),
            tuple(_said(case.suspect) for case in mended),
            tuple(_said(case.suspect) for case in hopeless),
        )

    def _end_of(self, session: Session, suspect: Suspect) -> bool | None:
        """Whether what is suspect no longer was made good; None while its place is being written."""
        facts = placement.copy_facts(session, suspect.package_pk)
        mine = next((fact for fact in facts if fact.copy_pk == suspect.copy_pk), None)
        if mine is None or mine.state is CopyState.LOST:
            return False
        if mine.state is CopyState.VERIFIED:
            return True
        released = mine.state is CopyState.RELEASED
        return True if released and self._pools.disk_by_volume(suspect.volume_pk) is None else None


def _by_package(cases: Iterable[_Case]) -> list[_Case]:
    """One of each package."""
    return list({case.suspect.package_pk: case for case in cases}.values())


def _key(suspect: Suspect) -> str:
    return f"mend:{suspect.package}:{suspect.volume}"


def _said(suspect: Suspect) -> str:
    return f"{suspect.package} on {suspect.volume} of pool {suspect.pool}, study {suspect.study_uid}"


def _named(cases: Sequence[_Case]) -> str:
    names = [f"{case.suspect.package} on {case.suspect.volume}" for case in cases[:NAMED]]
    return ", ".join(names) + (" ..." if cases[NAMED:] else "")


def _many(count: int, one: str, several: str = "") -> str:
    return f"{count} {one if count == 1 else several or one + 's'}"
