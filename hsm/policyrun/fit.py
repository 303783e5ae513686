"""Whether the pools can do what policies ask of them. Pure."""

from __future__ import annotations

from hsm.pools import Pools
from policies import STAGING, Action, PolicySet, Rule
from policies.pools import By


def misfits(loaded: PolicySet, pools: Pools) -> list[str]:
    """Everything that no pool can do, each with its file and line."""
    problems = []
    for policy in loaded.policies:
        where = f"{policy.file}:{policy.line}: policy {policy.name}"
        for goal in policy.copies:
            names = goal.group.names
            on_disks = goal.by is not By.SITES and all(name in pools.disks for name in names)
            if on_disks and goal.count > len(names):
                problems.append(
                    f"{where}: pool {goal.target} is one volume and can hold 1 copy, not {goal.count}"
                    if len(names) == 1
                    else f"{where}: {goal.target} is {len(names)} volumes, too few for {goal.count} copies"
                )
        for rule in policy.rules:
            why = _misfit(rule, pools)
            if why:
                problems.append(f"{policy.file}:{rule.line}: rule {rule.name}: {why}")
    return problems


def _misfit(rule: Rule, pools: Pools) -> str:
    if rule.pool == STAGING and rule.action is Action.RECALL:
        return ""
    disk = pools.disks.get(rule.pool)
    if rule.action is Action.RECALL and rule.pool in pools.tapes:
        return f"{rule.pool} is on removable media: recall to staging, or to a disk pool"
    if rule.action is Action.EXPORT and disk is not None:
        return f"{rule.pool} is a file system: only volumes of a library go to the shelf"
    return ""
