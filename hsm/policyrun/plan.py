"""What the policies would do until tomorrow, and what it takes: from the real catalog, changing nothing.

It decides as the runs of the coming hours would, as of their end: what becomes due in the night is in it.
What only follows from what is done (a release that waits for tonight's copy) is not: it is the next plan's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from hsm.catalog import outlook
from hsm.catalog.engine import Catalog
from hsm.catalog.facts import Candidate
from hsm.policyrun import late, select
from hsm.policyrun.allow import as_pools_allow
from hsm.policyrun.fills import pool_fills, premigrated
from hsm.policyrun.frozen import frozen
from hsm.policyrun.select import Question
from hsm.policyrun.tapes import Need, TapePlan, tape_plans
from hsm.pools import Pools
from policies import (
    Action,
    Circumstances,
    Decision,
    Limits,
    Outcome,
    Policy,
    PolicySet,
    PoolFill,
    Progress,
    Rule,
    Run,
    fills_of,
)
from policies.fires import fires_between, open_between

DISK_BYTES_PER_SECOND = 150e6
"""What a slow disk or a NAS writes while it is read back, cautiously."""
GROWTH_LOOKED_AT = timedelta(days=30)
REASONS_SHOWN = 3


@dataclass(slots=True)
class RulePlan:
    """What one rule would ask for."""

    rule: str
    does: str
    studies: int = 0
    bytes: int = 0
    """To write: a study of which two copies lack counts twice. Of other actions, of the studies."""
    refused: int = 0
    why: Counter[str] = field(default_factory=Counter)

    def record(self) -> dict[str, Any]:
        shown = {name: getattr(self, name) for name in ("rule", "does", "studies", "bytes", "refused")}
        return shown | {"why_refused": [text for text, _ in self.why.most_common(REASONS_SHOWN)]}


@dataclass(slots=True)
class Totals:
    """What all rules together would do to the pools."""

    comes: Counter[str] = field(default_factory=Counter)
    """Bytes written, by pool."""
    goes: Counter[str] = field(default_factory=Counter)
    """Bytes released, by pool."""
    need: dict[str, Need] = field(default_factory=dict)
    """By tape pool."""
    reads: set[str] = field(default_factory=set)
    """Removable volumes that must be read."""


def plan(catalog: Catalog, pools: Pools, policies: PolicySet, hours: float) -> dict[str, Any]:
    """What happens in the next ``hours`` if nothing else comes in between."""
    now = catalog.clock.now()
    until = now + timedelta(hours=hours)
    totals = Totals()
    with frozen(catalog) as session:
        fills = pool_fills(session, pools)
        planned = [
            _policy(session, pools, policies, each, now, until, fills, totals) for each in policies.policies
        ]
        tapes = tape_plans(outlook.rooms(session), pools, totals.need, totals.reads)
        outlooks = _pools(session, pools, fills, totals, tapes, now)
    spent = _seconds(pools, totals, tapes)
    return {
        "at": now,
        "until": until,
        "policies": planned,
        "pools": outlooks,
        "tapes": [each.record() for each in tapes],
        "hours": {where: round(seconds / 3600, 2) for where, seconds in spent.items()},
        "warnings": [*waiting(pools), *_warnings(planned, tapes, spent, hours)],
    }


def _policy(
    session: Session,
    pools: Pools,
    policies: PolicySet,
    policy: Policy,
    now: datetime,
    until: datetime,
    fills: Mapping[str, PoolFill],
    totals: Totals,
) -> dict[str, Any]:
    times = fires_between(policy.schedule, now, until)
    open_hours = open_between(policy.schedule, now, until) / timedelta(hours=1)
    scaled = replace(policy, limits=_scaled(policy.limits, times))
    before = premigrated(session, policies, policy, Circumstances(now, fills_of(fills)))
    run = Run(scaled, fills, until, progress=Progress(copied=before))
    rules = []
    for rule in policy.rules if times else ():
        found = RulePlan(rule.name, str(rule))
        if run.wants(rule):
            question = Question(policies, scaled, rule, until, run.at.fills, policies.pools)
            for page, _ in select.pages(session, question):
                _add(session, pools, scaled, rule, run, page, found, totals)
                if run.over(rule):
                    break
            run.end(rule)
        rules.append(found)
    return {
        "policy": policy.name,
        "runs": times,
        "open_hours": round(open_hours, 2),
        "rules": [rule.record() for rule in rules],
        "late": late.goals(session, policies, policy, now, fills),
        "bandwidth": policy.limits.bandwidth,
        "bytes": sum(rule.bytes for rule in rules if rule.does.startswith(("copy", "move", "recall"))),
    }


def _add(
    session: Session,
    pools: Pools,
    policy: Policy,
    rule: Rule,
    run: Run,
    page: list[Candidate],
    found: RulePlan,
    totals: Totals,
) -> None:
    reading: list[int] = []
    for candidate in page:
        if run.over(rule):
            break
        decision = run.take(rule, candidate.facts())
        if decision is None:
            continue
        decision = as_pools_allow(decision, pools)
        if decision.outcome is Outcome.REFUSED:
            found.refused += 1
            found.why[decision.reason] += 1
            continue
        found.studies += 1
        found.bytes += _account(policy, decision, candidate, pools, totals)
        if decision.action in (Action.COPY, Action.RECALL) and not candidate.held & pools.disk_names:
            reading.append(candidate.study_pk)
    totals.reads |= outlook.volumes_to_read(session, reading)
    if len(found.why) > 1000:  # reasons have figures in them: only the commonest matter
        found.why = Counter(dict(found.why.most_common(100)))


def _account(policy: Policy, decision: Decision, candidate: Candidate, pools: Pools, totals: Totals) -> int:
    if decision.action is Action.COPY:
        wanted = policy.wanted(decision.pool)
        lacking = max(1, wanted - candidate.facts().copies_in(decision.pool))
        totals.comes[decision.pool] += lacking * decision.size
        if decision.pool in pools.tapes:
            totals.need.setdefault(decision.pool, Need()).add(decision.size, lacking)
        return lacking * decision.size
    if decision.action is Action.RELEASE:
        size = candidate.size_in.get(decision.pool, decision.size)
        totals.goes[decision.pool] += size
        return size
    if decision.action is Action.VERIFY and decision.pool in pools.tapes:
        totals.need.setdefault(decision.pool, Need()).verify += decision.size
    return decision.size


def _scaled(limits: Limits, times: int) -> Limits:
    studies, size = limits.studies_per_run, limits.bytes_per_run
    return replace(
        limits,
        studies_per_run=studies * max(1, times) if studies else None,
        bytes_per_run=size * max(1, times) if size else None,
    )


def _pools(
    session: Session,
    pools: Pools,
    fills: Mapping[str, PoolFill],
    totals: Totals,
    tapes: list[TapePlan],
    now: datetime,
) -> list[dict[str, Any]]:
    """Every pool: how full, how full it will be, and in how many days it is."""
    since = now - GROWTH_LOOKED_AT
    days = GROWTH_LOOKED_AT / timedelta(days=1)
    grown = outlook.came_into_pools(session, since)
    grown[pools.ingest.name] = max(grown.get(pools.ingest.name, 0), outlook.arrived(session, since))
    blank = {each.pool: each.room for each in tapes}
    found = []
    for name in sorted(pools.names):
        fill = fills.get(name, PoolFill(0, 0))
        after = max(0, fill.used - fill.releasing - totals.goes[name]) + totals.comes[name]
        capacity = fill.capacity + blank.get(name, 0) if name in pools.tapes else fill.capacity
        a_day = grown.get(name, 0) / days
        found.append(
            {
                "pool": name,
                "used": fill.used,
                "capacity": capacity,
                "comes": totals.comes[name],
                "goes": totals.goes[name],
                "after": after,
                "a_day": round(a_day),
                "days_until_full": round(max(0, capacity - after) / a_day, 1) if a_day else None,
            }
        )
    return found


def _seconds(pools: Pools, totals: Totals, tapes: list[TapePlan]) -> dict[str, float]:
    """How long the transfers take, by where they happen."""
    disks = sum(size for pool, size in totals.comes.items() if pool in pools.disk_names)
    spent = {"disks": disks / DISK_BYTES_PER_SECOND} if disks else {}
    for each in tapes:
        if each.seconds:
            spent[each.library] = spent.get(each.library, 0.0) + each.seconds
    return spent


def waiting(pools: Pools) -> list[str]:
    """What is asked for and is not done just now: pools that are out of service, or take no writes."""
    return [f"{problem}; what is asked for there waits" for problem in pools.problems()]


def _warnings(
    planned: list[dict[str, Any]], tapes: list[TapePlan], spent: Mapping[str, float], hours: float
) -> list[str]:
    found = []
    for where, seconds in spent.items():
        needs = seconds / 3600
        if needs > hours:
            found.append(f"{where}: needs {needs:.1f} h, and {hours:g} h were planned")
    for policy in planned:
        wide = policy["bandwidth"]
        if wide and policy["open_hours"] and policy["bytes"] / wide / 3600 > policy["open_hours"]:
            needs = policy["bytes"] / wide / 3600
            found.append(
                f"policy {policy['policy']}: needs {needs:.1f} h of a {policy['open_hours']:.1f} h window"
            )
        found += [
            f"policy {policy['policy']}, rule {rule['rule']}: nothing of what it asks for may be done: "
            f"{rule['why_refused'][0]}"
            for rule in policy["rules"]
            if rule["refused"] and not rule["studies"]
        ]
        found += [
            f"policy {policy['policy']}: {goal['studies']} studies are late: they lack {goal['goal']} "
            f"after {goal['within']}"
            for goal in policy["late"]
            if goal["studies"]
        ]
    found += [each.warning for each in tapes if each.warning]
    return found
