"""Decisions -> requests: on what the catalog has now, in the transaction that asks.

A request has one live row a key, and what is there already is not asked for: whoever else decides the
same at the same time, nothing is made twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy.orm import Session

from hsm.catalog import details, media, placement, requesting, runs
from hsm.catalog.facts import Candidate
from hsm.catalog.media import VolumeRef
from hsm.catalog.placement import PackageRef
from hsm.catalog.requesting import NewRequest
from hsm.guard import GOOD_VOLUMES, CopyFact
from hsm.model import Priority
from hsm.policyrun import export, priors
from hsm.policyrun.colocate import together
from hsm.policyrun.goals import guard_goals, recorded
from hsm.policyrun.select import KINDS, Question
from hsm.states import CopyState, RequestKind
from policies import Action, Decision
from policies.policy import STAGING

SCHEDULE = "schedule"
"""Who asks when nobody does."""


@dataclass(frozen=True, slots=True)
class Decided:
    """One decision and the study that it is about."""

    decision: Decision
    candidate: Candidate


@dataclass(frozen=True, slots=True)
class Asked:
    """What became of some decisions."""

    requests: int
    bytes: int
    """Of the studies for which a request was made."""


def ask(session: Session, question: Question, decided: Sequence[Decided], run_pk: int, by: str) -> Asked:
    """Make the requests that these decisions of one rule need, and record each that is new."""
    wanted = list(_Asking(session, question, by == SCHEDULE).requests(decided))
    actor = f"policy:{question.policy.name} ({by})"
    made = requesting.enqueue_many(session, question.now, actor, [request for request, _ in wanted])
    new = [(each, made[request.key]) for request, each in wanted if request.key in made]
    runs.record_many(
        session,
        run_pk,
        [
            runs.NewDecision(
                each.candidate.study_pk,
                each.decision.rule,
                each.decision.action.value,
                each.decision.pool,
                each.decision.reason,
                pk,
            )
            for each, pk in new
        ],
    )
    sizes = {each.candidate.study_pk: each.decision.size for each, _ in new}
    return Asked(len(made), sum(sizes.values()))


class _Asking:
    """The packages and copies of a page of studies, read afresh, and what is to be asked for them."""

    def __init__(self, session: Session, question: Question, in_window: bool) -> None:
        self._session = session
        self._question = question
        limits = question.policy.limits
        given = {"bandwidth": limits.bandwidth, "drives": limits.drives}
        self._detail: dict[str, Any] = {
            details.POLICY: question.policy.name,
            details.GOALS: recorded(guard_goals(question.policy)),
            details.LIMITS: {name: value for name, value in given.items() if value},
            details.IN_WINDOW: in_window,
        }

    def requests(self, decided: Sequence[Decided]) -> Iterator[tuple[NewRequest, Decided]]:
        if self._question.rule.priors is not None:
            for each in decided:
                for study in priors.of(self._session, self._question, each.candidate):
                    for package in placement.packages_of_studies(self._session, [study.study_pk]):
                        yield self._recall(each, package), each
            return
        packages = placement.packages_of_studies(self._session, [each.candidate.study_pk for each in decided])
        copies = placement.copy_facts_of(self._session, [package.pk for package in packages])
        by_study: dict[int, list[PackageRef]] = {}
        for package in packages:
            by_study.setdefault(package.study_pk, []).append(package)
        for each in decided:
            for package in by_study.get(each.candidate.study_pk, ()):
                there = [
                    copy
                    for copy in copies.get(package.pk, ())
                    if copy.pool == each.decision.pool
                    and copy.state not in (CopyState.RELEASED, CopyState.LOST)
                ]
                for request in self._of_package(each, package, there):
                    yield request, each

    def _of_package(
        self, each: Decided, package: PackageRef, there: Sequence[CopyFact]
    ) -> Iterator[NewRequest]:
        match each.decision.action:
            case Action.COPY:
                yield from self._copies(each, package, there)
            case Action.RELEASE if there:
                yield self._new(each, package, f"release:{package.key}:{each.decision.pool}")
            case Action.RECALL:
                yield self._recall(each, package)
            case Action.VERIFY:
                yield from self._verifications(each, package, there)
            case Action.EXPORT:
                yield from self._exports(each, package, there)

    def _copies(self, each: Decided, package: PackageRef, there: Sequence[CopyFact]) -> Iterator[NewRequest]:
        pool, policy, rule = each.decision.pool, self._question.policy, self._question.rule
        good = sum(copy.state is CopyState.VERIFIED and copy.volume_state in GOOD_VOLUMES for copy in there)
        more: dict[str, Any] = {details.COPIES: policy.wanted(pool)}
        if rule.action is Action.MOVE:
            more[details.LEAVES] = rule.source
        if words := together(policy.colocate, each.candidate.values):
            more[details.TOGETHER] = words
        for number in range(good, policy.wanted(pool)):
            yield self._new(each, package, f"copy:{package.key}:{pool}:{number}", more)

    def _recall(self, each: Decided, package: PackageRef) -> NewRequest:
        """To the staging area; into a pool it is a copy, which recalls by itself what it needs."""
        pool = each.decision.pool
        if pool == STAGING:
            return self._new(each, package, f"recall:{package.key}", pool=None)
        key = f"copy:{package.key}:{pool}:0"
        return self._new(each, package, key, {details.COPIES: 1}, kind=RequestKind.COPY)

    def _verifications(
        self, each: Decided, package: PackageRef, there: Sequence[CopyFact]
    ) -> Iterator[NewRequest]:
        for copy in there:
            if copy.state in (CopyState.VERIFIED, CopyState.SUSPECT):
                key = f"verify:{package.key}:{self._volumes[copy.volume_pk].name}"
                yield self._new(each, package, key, volume_pk=copy.volume_pk)

    def _exports(self, each: Decided, package: PackageRef, there: Sequence[CopyFact]) -> Iterator[NewRequest]:
        for copy in there:
            volume = self._volumes[copy.volume_pk]
            if copy.state is CopyState.VERIFIED and export.may_go(self._session, self._question, volume):
                yield self._new(each, package, f"export:{volume.name}", volume_pk=volume.pk)

    @cached_property
    def _volumes(self) -> Mapping[int, VolumeRef]:
        return {volume.pk: volume for volume in media.volumes(self._session)}

    def _new(
        self,
        each: Decided,
        package: PackageRef,
        key: str,
        more: Mapping[str, Any] | None = None,
        *,
        kind: RequestKind | None = None,
        pool: str | None = "",
        volume_pk: int | None = None,
    ) -> NewRequest:
        decision = each.decision
        return NewRequest(
            kind=kind or KINDS[decision.action],
            key=key,
            priority=_PRIORITY.get(decision.action, Priority.MIGRATION),
            reason=f"{decision.policy} / {decision.rule}: {decision.reason}",
            study_pk=package.study_pk,
            package_pk=package.pk,
            pool=decision.pool if pool == "" else pool,
            detail=self._detail | dict(more or {}),
            volume_pk=volume_pk,
        )


_PRIORITY = {Action.RECALL: Priority.PREFETCH, Action.VERIFY: Priority.SCRUB}
