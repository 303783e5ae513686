"""What changes if another set of policies comes into force: in the texts, and for the studies there are.

Both sets decide every study as of now, limits and watermarks aside, side by side in the order of the
studies' keys: the memory used does not grow with the archive.
"""

from __future__ import annotations

import difflib
import heapq
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from hsm.catalog import facts, outlook
from hsm.catalog.engine import Catalog
from hsm.policyrun import select
from hsm.policyrun.allow import as_pools_allow
from hsm.policyrun.fills import pool_fills
from hsm.policyrun.frozen import frozen
from hsm.policyrun.goals import shown
from hsm.policyrun.select import Question
from hsm.pools import Pools
from policies import Circumstances, Outcome, Policy, PolicySet, fills_of, judge
from policies.compile import compile_ownership

EXAMPLES = 5


@dataclass(frozen=True, slots=True, order=True)
class Deed:
    """One thing that a set would ask for one study."""

    study_pk: int
    action: str
    pool: str
    study: str = field(compare=False)
    size: int = field(compare=False)
    by: str = field(compare=False)
    """Policy and rule."""


@dataclass(slots=True)
class Change:
    """Studies for which only one of the sets asks for something."""

    studies: int = 0
    bytes: int = 0
    examples: list[dict[str, str]] = field(default_factory=list)

    def add(self, deed: Deed) -> None:
        self.studies += 1
        self.bytes += deed.size
        if len(self.examples) < EXAMPLES:
            self.examples.append({"study": deed.study, "by": deed.by})

    def record(self) -> dict[str, Any]:
        return {"studies": self.studies, "bytes": self.bytes, "examples": self.examples}


def diff(catalog: Catalog, pools: Pools, old: PolicySet, new: PolicySet) -> dict[str, Any]:
    """The two sets compared."""
    now = catalog.clock.now()
    with frozen(catalog) as session:
        fills = fills_of(pool_fills(session, pools))
        deeds = _deeds(session, pools, old, new, now, fills)
        owners = _owners(session, old, new, now, fills)
    return {"policies": _texts(old, new), "studies": deeds, "owners": owners}


def _texts(old: PolicySet, new: PolicySet) -> list[dict[str, Any]]:
    """Policy by policy: whether it comes, goes or changes, and how."""
    before = {policy.name: policy for policy in old.policies}
    after = {policy.name: policy for policy in new.policies}
    found = []
    for name in sorted({*before, *after}):
        was, is_now = before.get(name), after.get(name)
        if was is not None and is_now is not None and was.digest == is_now.digest:
            change = "same"
        else:
            change = "added" if was is None else "removed" if is_now is None else "changed"
        lines = difflib.unified_diff(_said(was), _said(is_now), "old", "new", lineterm="", n=0)
        found.append(
            {
                "policy": name,
                "change": change,
                "copies_old": shown(was) if was else {},
                "copies_new": shown(is_now) if is_now else {},
                "lines": list(lines)[2:] if change == "changed" else [],
            }
        )
    return found


def _said(policy: Policy | None) -> list[str]:
    """A policy in lines that can be compared: what it means, not how it was laid out."""
    if policy is None:
        return []
    said = [f"priority {policy.priority}", f"scope {policy.scope.text or 'every study'}"]
    said += [f"copies: {goal}" + (f" within {goal.within}" if goal.within else "") for goal in policy.copies]
    for rule in policy.rules:
        marks = ""
        if rule.start_above is not None and rule.stop_below is not None:
            marks = f", starts above {rule.start_above:.0%}, stops below {rule.stop_below:.0%}"
        order = ", ".join(
            f"{term.fact.name} {'desc' if term.descending else 'asc'}" for term in rule.order_by
        )
        said.append(
            f"rule {rule.name}: {rule}, when {rule.when.text or 'always'}{marks}"
            + (f", order by {order}" if order else "")
            + (f", stay at least {rule.minimum_residency}" if rule.minimum_residency else "")
        )
    said += [f"schedule {policy.schedule}"]
    limits = {name: getattr(policy.limits, name) for name in policy.limits.__slots__}
    said += [f"limit {name.replace('_', ' ')} {value}" for name, value in limits.items() if value is not None]
    if policy.colocate:
        said.append(f"colocate by {', '.join(policy.colocate)}")
    return said


def _deeds(
    session: Session,
    pools: Pools,
    old: PolicySet,
    new: PolicySet,
    now: datetime,
    fills: Mapping[str, float],
) -> list[dict[str, Any]]:
    """By action and pool: studies for which only the old set, only the new one, or both ask for it."""
    counts: dict[tuple[str, str], dict[str, Change]] = {}
    tagged = heapq.merge(
        ((deed, "only_old") for deed in _decided(session, pools, old, now, fills)),
        ((deed, "only_new") for deed in _decided(session, pools, new, now, fills)),
        key=lambda pair: pair[0],
    )
    for (_, action, pool), same in itertools.groupby(
        tagged, key=lambda pair: (pair[0].study_pk, pair[0].action, pair[0].pool)
    ):
        by_side = {side: deed for deed, side in same}
        side = "both" if len(by_side) == 2 else next(iter(by_side))
        empty = {name: Change() for name in ("only_old", "only_new", "both")}
        counts.setdefault((action, pool), empty)[side].add(next(iter(by_side.values())))
    return [
        {"action": action, "pool": pool} | {side: change.record() for side, change in sides.items()}
        for (action, pool), sides in sorted(counts.items())
    ]


def _decided(
    session: Session, pools: Pools, policies: PolicySet, now: datetime, fills: Mapping[str, float]
) -> Iterator[Deed]:
    """What a set would ask for, in the order of the studies' keys."""
    return heapq.merge(
        *(
            _of_rule(
                session,
                pools,
                Question(policies, policy, replace(rule, order_by=()), now, fills, policies.pools),
            )
            for policy in policies.policies
            for rule in policy.rules
        )
    )


def _of_rule(session: Session, pools: Pools, question: Question) -> Iterator[Deed]:
    at = Circumstances(question.now, question.fills)
    policy, rule = question.policy, question.rule
    for page, _ in select.pages(session, question):
        for candidate in page:
            judged = judge(policy, rule, candidate.facts(), at)
            decision = judged and as_pools_allow(judged, pools)
            if decision is not None and decision.outcome is Outcome.REQUEST:
                yield Deed(
                    candidate.study_pk,
                    decision.action.value,
                    decision.pool,
                    decision.study,
                    decision.size,
                    f"{policy.name} / {rule.name}",
                )


def _owners(
    session: Session, old: PolicySet, new: PolicySet, now: datetime, fills: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Studies that another policy will own, by which and which; an empty name is none."""
    columns = facts.columns(new.pools or old.pools)
    before = [(each.name, compile_ownership(old, each, columns, now, fills)) for each in old.policies]
    after = [(each.name, compile_ownership(new, each, columns, now, fills)) for each in new.policies]
    found = []
    for name, owned in before:
        for other, taken in after:
            if other != name:
                studies, size = outlook.count(session, [owned, taken])
                found.append({"from": name, "to": other, "studies": studies, "bytes": size})
    for name, owned in before:
        none = [~select.holds(taken) for _, taken in after]
        studies, size = outlook.count(session, [owned, *none])
        found.append({"from": name, "to": "", "studies": studies, "bytes": size})
    for name, taken in after:
        none = [~select.holds(owned) for _, owned in before]
        studies, size = outlook.count(session, [taken, *none])
        found.append({"from": "", "to": name, "studies": studies, "bytes": size})
    return [each for each in found if each["studies"]]
