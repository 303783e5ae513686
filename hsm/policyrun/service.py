"""What others call: the policies in force, listed, checked, explained, run, suspended and resumed."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hsm.catalog import facts, rulework, runs
from hsm.catalog.engine import Catalog
from hsm.catalog.runs import RunRef
from hsm.errors import ConfigError, NotFound
from hsm.log import get_logger
from hsm.model import Goal
from hsm.policyrun import late, suspend, windows
from hsm.policyrun.active import Versions
from hsm.policyrun.differ import diff
from hsm.policyrun.execute import LOOKED_BACK, Execution, Joints, last_unfinished
from hsm.policyrun.fills import pool_fills
from hsm.policyrun.goals import deadlines, guard_goals, shown
from hsm.policyrun.plan import plan, waiting
from hsm.pools import Pools
from hsm.states import RunState
from hsm.wake import Bell
from policies import Policy, PolicySet, explain, fills_of, owner

log = get_logger(__name__)

PLANNED_HOURS = 24.0
LATE_SECONDS = 60.0
"""How long a count of late studies is believed."""
Side = int | Mapping[str, str]
"""The number of an activation, or texts by file name."""


class Policies:
    """The policies in force. :meth:`replace` swaps them whole; a run keeps the set it began with."""

    def __init__(
        self,
        catalog: Catalog,
        pools: Pools,
        bell: Bell,
        folder: Path,
        loaded: PolicySet,
        *,
        activation: int | None = None,
        worker: str = "",
    ) -> None:
        """
        :param worker: this node, by a name that it keeps when it is started again.
        """
        self._catalog = catalog
        self._pools = pools
        self._to = Joints(catalog, pools, bell, worker or socket.gethostname())
        self.set = loaded
        self.activation = activation
        self.versions = Versions(catalog, pools, folder)
        self.on_change: Callable[[], None] = lambda: None
        """Called when another set has come into force: schedules follow it."""
        self._unfinished: dict[str, frozenset[str]] = {}
        self._running = threading.Lock()
        self._behind: tuple[float, bytes | None, dict[str, list[dict[str, Any]]]] = (0.0, None, {})

    def replace(self, folder: Path, loaded: PolicySet, activation: int | None = None) -> None:
        """Put another set into force."""
        self.versions.folder, self.set, self.activation = folder, loaded, activation

    def listing(self) -> list[dict[str, Any]]:
        """The policies in force, in order of priority."""
        policies = self.set.policies  # once: a reload puts another set in its place
        with self._catalog.read() as session:
            last = {policy.name: runs.last(session, policy.name) for policy in policies}
            under_way = {run.policy: run for run in runs.unfinished(session)}
        behind = self._late()
        return [
            self._listed(policy, under_way.get(policy.name), last[policy.name])
            | {"late": behind.get(policy.name, [])}
            for policy in policies
        ]

    def _late(self) -> dict[str, list[dict[str, Any]]]:
        """Of each policy whose goals have deadlines, how many studies are past them. Asked for once in a
        while: monitoring looks every few seconds."""
        loaded, clock = self.set, self._catalog.clock
        asked_at, digest, known = self._behind
        if digest == loaded.digest and clock.monotonic() - asked_at < LATE_SECONDS:
            return known
        now, found = clock.now(), {}
        with self._catalog.read() as session:
            for policy in loaded.policies:
                if deadlines(policy):
                    fills = pool_fills(session, self._pools)
                    found[policy.name] = late.goals(session, loaded, policy, now, fills)
        self._behind = (clock.monotonic(), loaded.digest, found)
        return found

    def _listed(self, policy: Policy, run: RunRef | None, last: Any) -> dict[str, Any]:
        state, message = "in force", ""
        if run is not None and run.state is RunState.SUSPENDED:
            state, message = "suspended", run.message
        elif not policy.schedule.is_open(self._catalog.clock.now()):
            state, message = "outside its window", windows.opens(policy, self._catalog.clock.now())
        return {
            "policy": policy.name,
            "priority": policy.priority,
            "file": policy.file,
            "activation": self.activation,
            "schedule": str(policy.schedule),
            "copies": shown(policy),
            "deadlines": dict(deadlines(policy)),
            "limits": {name: value for name, value in asdict(policy.limits).items() if value is not None},
            "state": state,
            "message": message,
            "rules": [
                {
                    "name": rule.name,
                    "action": rule.action.value,
                    "pool": rule.pool,
                    "does": str(rule),
                    "when": rule.when.text,
                }
                for rule in policy.rules
            ],
            "last_run": last,
        }

    def check(self, texts: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Check texts, or the configured folder again, without putting anything into force."""
        return self.versions.check(texts)

    def explain(self, study_uid: str) -> dict[str, Any]:
        """Why each rule does or does not apply to a study now, when that changes, and what was refused or
        failed of what was asked for.

        :raises NotFound: the catalog has it not, or has not sealed it yet.
        """
        now, policies = self._catalog.clock.now(), self.set
        with self._catalog.read() as session:
            candidate = facts.one(session, study_uid, policies.pools)
            if candidate is None:
                raise NotFound(f"no sealed study {study_uid} in the catalog")
            found = explain(policies, candidate.facts(), now, pool_fills(session, self._pools))
            failed = rulework.failures_of_study(session, study_uid)
        return asdict(found) | {"failed": failed}

    def goals_of(self, study_uid: str) -> list[Goal]:
        """The copy goals of the policy that owns a study now; empty where none does."""
        now, policies = self._catalog.clock.now(), self.set
        with self._catalog.read() as session:
            candidate = facts.one(session, study_uid, policies.pools)
            if candidate is None:
                return []
            fills = fills_of(pool_fills(session, self._pools))
            found = owner(policies, candidate.facts(), now, fills)
        return guard_goals(found) if found is not None else []

    def run(self, name: str | None, dry_run: bool, by: str) -> dict[str, Any]:
        """Run one policy, or all in order of priority.

        :raises NotFound: no such policy.
        """
        loaded, activation = self.set, self.activation
        try:
            chosen = [loaded.policy(name)] if name is not None else list(loaded.policies)
        except LookupError as error:
            raise NotFound(str(error)) from error
        if dry_run:
            done = [self._execution(loaded, policy, by, activation).dry() for policy in chosen]
            runs = [report.record() for report in done]
            return {"dry_run": True, "runs": runs, "warnings": waiting(self._pools)}
        # One at a time: two runs of one policy would only fight for the same keys.
        with self._running:
            reports = []
            for policy in chosen:
                execution = self._execution(loaded, policy, by, activation)
                reports.append(execution.run().record())
                self._unfinished[policy.name] = execution.unfinished
            return {"dry_run": False, "runs": reports, "warnings": waiting(self._pools)}

    def _execution(self, loaded: PolicySet, policy: Policy, by: str, activation: int | None) -> Execution:
        draining = self._unfinished.get(policy.name)
        if draining is None:
            since = self._catalog.clock.now() - LOOKED_BACK
            with self._catalog.read() as session:
                draining = last_unfinished(session, policy.name, since)
        return Execution(self._to, loaded, policy, by, activation=activation, draining=draining)

    def resume(self, name: str, by: str) -> dict[str, Any]:
        """Let a suspended policy go on.

        :raises NotFound: no such policy, or no run of it is under way.
        :raises Refused: it is not suspended.
        """
        suspend.resume(self._catalog, name, by)
        return {"policy": name, "state": "in force"}

    def plan(self, hours: float = PLANNED_HOURS) -> dict[str, Any]:
        """What the policies would do in the next hours, and what it takes; changes nothing."""
        return plan(self._catalog, self._pools, self.set, hours)

    def diff(self, old: Side | None, new: Side | None) -> dict[str, Any]:
        """What changes from one set to another; changes nothing.

        :param old: texts by file name, or the number of an activation; None is what is in force.
        :param new: the same; None is the folder.
        :raises ConfigError, NotFound: there is no such set, or something in it is wrong.
        """
        before = self.set if old is None else self._side(old)
        after = self.versions.read_folder() if new is None else self._side(new)
        return diff(self._catalog, self._pools, before, after)

    def _side(self, side: Side) -> PolicySet:
        return self.versions.load(side) if isinstance(side, int) else self.versions.texts_loaded(side)

    def watch(self) -> None:
        """What must be looked at between runs: failures that suspend a policy, windows that have closed."""
        now, policies = self._catalog.clock.now(), self.set.policies
        for policy in policies:
            with self._catalog.read() as session:
                why = suspend.reason(session, policy, now)
            if why:
                suspend.suspend(self._catalog, policy, now, "watch", why, self.activation)
        windows.hold_back(self._catalog, policies, now)

    def folder_digest(self) -> str:
        """:raises ConfigError: something in the folder is wrong."""
        return self.versions.read_folder().digest.hex()

    def activate(
        self, by: str, comment: str = "", version: int | None = None, digest: str = ""
    ) -> dict[str, Any]:
        """Put the folder's policies, or those of an earlier version, into force.

        :param digest: they must have it, unless it is empty.
        :raises ConfigError: something in them is wrong; what was in force stays.
        :raises NotFound: there is no such version.
        :raises Refused: they have another digest.
        """
        number, loaded = self.versions.activate(by, comment, version, digest)
        changed = number != self.activation
        self.replace(self.versions.folder, loaded, number)
        self._give_up_runs(loaded, by)
        if changed:
            self.on_change()
        return {
            "activation": number,
            "policies": [policy.name for policy in loaded.policies],
            "changed": changed,
            "warnings": [warning.render() for warning in loaded.warnings],
        }

    def _give_up_runs(self, loaded: PolicySet, by: str) -> None:
        """Runs of policies that are in force no more, the suspended ones among them."""
        digests = {policy.name: policy.digest for policy in loaded.policies}
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            for run in runs.unfinished(session):
                if digests.get(run.policy) != run.digest:
                    runs.abandon(session, run.pk, now, by, "its policy is not in force any more")

    def history(self, limit: int = 50) -> list[dict[str, Any]]:
        """The activations, the last first."""
        return self.versions.history(limit)

    def problems(self) -> list[str]:
        """For `hsm status`: what a person should know of the policies."""
        found = self.versions.problems(self.set, self.activation)
        with self._catalog.read() as session:
            for run in runs.unfinished(session):
                if run.state is RunState.SUSPENDED:
                    found.append(f"policy {run.policy} is {run.message}")
        for name, behind in self._late().items():
            found += [
                f"policy {name}: {each['studies']} studies lack {each['goal']} after {each['within']}"
                for each in behind
                if each["studies"]
            ]
        return found

    def follow(self) -> None:
        """Take over what another node has activated."""
        with self._catalog.read() as session:
            number = self.versions.number(session)
        if number is None or number == self.activation:
            return
        try:
            loaded = self.versions.load(number)
        except ConfigError as error:
            log.error("policies: activation %d does not fit here, nothing is in force: %s", number, error)
            loaded = self.versions.none()
        self.replace(self.versions.folder, loaded, number)
        self.on_change()
