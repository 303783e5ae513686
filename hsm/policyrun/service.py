"""Policies in force: their runs turn rules into decisions and decisions into requests.

A run is idempotent: what has a live request is not asked for again, and a request has one live row a
key, whoever else runs at the same time. A dry run reads and writes nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from hsm.catalog import facts, media, placement, queue, runs
from hsm.catalog.engine import Catalog
from hsm.catalog.facts import Candidate
from hsm.errors import NotFound
from hsm.guard import GOOD_VOLUMES
from hsm.log import get_logger
from hsm.model import Priority
from hsm.pools import Pools
from hsm.states import CopyState, RequestKind
from hsm.wake import Bell
from policies import (
    Action,
    Decision,
    Outcome,
    Policy,
    PolicyErrors,
    PolicySet,
    PoolFill,
    Rule,
    Run,
    StudyFacts,
    explain,
    fills_of,
    load_folder,
    load_texts,
    owner,
)
from policies.compile import compile_expression, compile_order, compile_ownership

log = get_logger(__name__)

SHOWN_MAX = 200
"""Decisions that a report lists; it counts all."""
FAILED_PAUSE = timedelta(hours=1)
"""How long a study whose request failed is left alone by the policy that asked for it."""
KINDS = {Action.COPY: RequestKind.COPY, Action.RELEASE: RequestKind.RELEASE}


class Policies:
    """The policies in force. :meth:`replace` swaps them whole; a run keeps the set it began with."""

    def __init__(self, catalog: Catalog, pools: Pools, bell: Bell, folder: Path, loaded: PolicySet) -> None:
        self._catalog = catalog
        self._pools = pools
        self._bell = bell
        self._folder = folder
        self.set = loaded
        self._unfinished: dict[str, frozenset[str]] = {}
        self._running = threading.Lock()

    def replace(self, folder: Path, loaded: PolicySet) -> None:
        """Put another set into force."""
        self._folder, self.set = folder, loaded

    def listing(self) -> list[dict[str, Any]]:
        """The policies in force, in order of priority."""
        policies = self.set.policies  # once: a reload puts another set in its place
        with self._catalog.read() as session:
            last = {policy.name: runs.last(session, policy.name) for policy in policies}
        return [
            {
                "policy": policy.name,
                "priority": policy.priority,
                "file": policy.file,
                "schedule": str(policy.schedule),
                "copies": dict(policy.goals),
                "rules": [
                    {
                        "name": rule.name,
                        "action": rule.action.value,
                        "pool": rule.pool,
                        "when": rule.when.text,
                    }
                    for rule in policy.rules
                ],
                "last_run": last[policy.name],
            }
            for policy in policies
        ]

    def check(self, texts: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Check texts, or the configured folder again, without putting anything into force."""
        try:
            if texts is None:
                found = load_folder(self._folder, self._pools.names)
            else:
                found = load_texts(texts, self._pools.names)
        except PolicyErrors as error:
            return {"ok": False, "errors": [each.render() for each in error.errors], "warnings": []}
        return {
            "ok": True,
            "errors": [],
            "warnings": [each.render() for each in found.warnings],
            "policies": [policy.name for policy in found.policies],
        }

    def explain(self, study_uid: str) -> dict[str, Any]:
        """Why each rule does or does not apply to a study now, and when that changes.

        :raises NotFound: the catalog has it not, or has not sealed it yet.
        """
        now = self._catalog.clock.now()
        with self._catalog.read() as session:
            candidate = facts.one(session, study_uid)
            if candidate is None:
                raise NotFound(f"no sealed study {study_uid} in the catalog")
            found = explain(self.set, _study_facts(candidate), now, self._fills(session))
        return asdict(found)

    def goals_of(self, study_uid: str) -> Mapping[str, int]:
        """The copy goals of the policy that owns a study now; empty where none does."""
        now = self._catalog.clock.now()
        with self._catalog.read() as session:
            candidate = facts.one(session, study_uid)
            if candidate is None:
                return {}
            found = owner(self.set, _study_facts(candidate), now, fills_of(self._fills(session)))
        return found.goals if found is not None else {}

    def run(self, name: str | None, dry_run: bool, by: str) -> dict[str, Any]:
        """Run one policy, or all in order of priority.

        :raises NotFound: no such policy.
        """
        loaded = self.set
        try:
            chosen = [loaded.policy(name)] if name is not None else list(loaded.policies)
        except LookupError as error:
            raise NotFound(str(error)) from error
        # One at a time: two runs of one policy would only fight for the same keys.
        with self._running:
            return {"dry_run": dry_run, "runs": [self._run(loaded, policy, dry_run, by) for policy in chosen]}

    def _run(self, loaded: PolicySet, policy: Policy, dry_run: bool, by: str) -> dict[str, Any]:
        now = self._catalog.clock.now()
        with self._catalog.read() as session:
            fills = self._fills(session)
        run = Run(policy, fills, now, self._unfinished.get(policy.name, frozenset()))
        decided: list[tuple[Decision, Candidate]] = []
        matched = 0
        with self._catalog.read() as session:
            for rule in policy.rules:
                if run.wants(rule):
                    for decision, candidate in self._decide(session, loaded, policy, rule, run):
                        matched += 1
                        decided.append((decision, candidate))
        requested = 0 if dry_run else self._request(policy, decided, matched, now, by)
        if not dry_run:
            self._unfinished[policy.name] = frozenset(run.unfinished)
        wanted = [d for d, _ in decided if d.outcome is Outcome.REQUEST]
        return {
            "policy": policy.name,
            "matched": matched,
            "to_do": len(wanted),
            "bytes": sum(decision.size for decision in wanted),
            "refused": matched - len(wanted),
            "requests": requested,
            "decisions": [_shown(decision) for decision, _ in decided[:SHOWN_MAX]],
        }

    def _decide(
        self, session: Session, loaded: PolicySet, policy: Policy, rule: Rule, run: Run
    ) -> Iterator[tuple[Decision, Candidate]]:
        """Select what the rule may apply to, then decide each one."""
        now, columns = run.at.now, facts.columns()
        fills = fills_of(run.pools)
        where = [
            compile_ownership(loaded, policy, columns, now, fills),
            compile_expression(rule.when, columns, now, fills),
            facts.idle(KINDS[rule.action], rule.pool, now - FAILED_PAUSE),
        ]
        if rule.action is Action.COPY:
            where.append(facts.copies_in(rule.pool) < policy.wanted(rule.pool))
        else:
            where.append(facts.held_in(rule.pool))
        latest: list[Candidate] = []

        def studies() -> Iterator[StudyFacts]:
            for candidate in facts.candidates(session, where, compile_order(rule.order_by, columns)):
                latest[:] = [candidate]
                yield _study_facts(candidate)

        for decision in run.decide(rule, studies()):
            if rule.action is Action.RELEASE and rule.pool in self._pools.tapes:
                why = f"{rule.pool} is on removable media: nothing is released there, a volume is repacked"
                decision = _refused(decision, why)
            yield decision, latest[0]

    def _request(
        self,
        policy: Policy,
        decided: list[tuple[Decision, Candidate]],
        matched: int,
        now: datetime,
        by: str,
    ) -> int:
        """Turn decisions into requests, a study a transaction; nothing to do leaves no record."""
        wanted = [(d, c) for d, c in decided if d.outcome is Outcome.REQUEST]
        if not wanted:
            return 0
        with self._catalog.write() as session:
            run_pk = runs.begin(session, policy.name, policy.digest, now)
        made = 0
        for decision, candidate in wanted:
            with self._catalog.write() as session:
                for request_pk in self._enqueue(session, policy, decision, candidate, now, by):
                    made += 1
                    runs.record(
                        session,
                        run_pk,
                        runs.NewDecision(
                            candidate.study_pk,
                            decision.rule,
                            decision.action.value,
                            decision.pool,
                            decision.reason,
                            request_pk,
                        ),
                    )
        with self._catalog.write() as session:
            runs.finish(session, run_pk, self._catalog.clock.now(), matched, made, matched - len(wanted))
        log.info("policy %s: %d studies, %d requests", policy.name, len(wanted), made)
        self._bell.ring()
        return made

    def _enqueue(
        self,
        session: Session,
        policy: Policy,
        decision: Decision,
        candidate: Candidate,
        now: datetime,
        by: str,
    ) -> Iterator[int]:
        """The new requests that a decision needs: one a package and missing copy."""
        packages = placement.packages_of_studies(session, [candidate.study_pk])
        detail: dict[str, Any] = {"goals": dict(policy.goals)}
        if decision.action is Action.COPY:
            detail[queue.COPIES] = policy.wanted(decision.pool)
        for package in packages:
            there = [
                copy
                for copy in placement.copy_facts(session, package.pk)
                if copy.pool == decision.pool and copy.state not in (CopyState.RELEASED, CopyState.LOST)
            ]
            if decision.action is Action.COPY:
                good = sum(
                    copy.state is CopyState.VERIFIED and copy.volume_state in GOOD_VOLUMES for copy in there
                )
                keys = [
                    f"copy:{package.key}:{decision.pool}:{n}"
                    for n in range(good, policy.wanted(decision.pool))
                ]
            else:
                keys = [f"release:{package.key}:{decision.pool}"] if there else []
            for key in keys:
                pk, made = queue.enqueue(
                    session,
                    now,
                    f"policy:{policy.name} ({by})",
                    KINDS[decision.action],
                    key,
                    priority=Priority.MIGRATION,
                    reason=f"{policy.name} / {decision.rule}: {decision.reason}",
                    study_pk=candidate.study_pk,
                    package_pk=package.pk,
                    pool=decision.pool,
                    detail=detail,
                )
                if made:
                    yield pk

    def _fills(self, session: Session) -> dict[str, PoolFill]:
        """How full each pool is: a file system says it itself, a tape pool is the sum of its volumes."""
        releasing = facts.bytes_releasing(session)
        fills = {}
        for name, (used, capacity) in media.pool_bytes(session).items():
            if name in self._pools.disks:
                room = self._pools.disks[name].store.capacity()
                used, capacity = room.total - room.free, room.total
            fills[name] = PoolFill(used, capacity, min(releasing.get(name, 0), used))
        return fills


def _study_facts(candidate: Candidate) -> StudyFacts:
    return StudyFacts(candidate.uid, candidate.values, candidate.copies, candidate.held)


def _refused(decision: Decision, why: str) -> Decision:
    return Decision(
        decision.study,
        decision.policy,
        decision.rule,
        decision.action,
        decision.pool,
        Outcome.REFUSED,
        why,
        decision.size,
    )


def _shown(decision: Decision) -> dict[str, Any]:
    return {
        "study": decision.study,
        "rule": decision.rule,
        "action": decision.action.value,
        "pool": decision.pool,
        "outcome": decision.outcome.value,
        "reason": decision.reason,
        "size": decision.size,
    }
