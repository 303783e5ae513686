"""Warnings about single rules, and about rules of one policy that work against each other."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from policies.expr import And, Compare, Constant, Expression, Holds, Named, Node, Op, Or, Ref, without
from policies.facts import FACTS
from policies.logic import Must, implies, impossible
from policies.policy import Action, By, Policy, Rule

Finding = tuple[Rule, str]
JUST_ARRIVED = timedelta(days=7)
_HELD = Expression("legal_hold", Holds(0, 10, Ref(FACTS["legal_hold"])))
_RETAINED = Expression("retention >= 0d", Compare(0, 15, Ref(FACTS["retention"]), Op.GE, timedelta(0)))
_ARRIVED_LONG_AGO = Compare(0, 0, Ref(FACTS["received"]), Op.GT, JUST_ARRIVED)


def findings(policy: Policy) -> Iterator[Finding]:
    """Each with the rule it is about, in words that follow ``rule 'NAME'``."""
    for rule in policy.rules:
        never = _never(policy, rule)
        if never:
            yield rule, never
            continue
        yield from ((rule, message) for message in _parts(policy, rule))
        yield from ((rule, message) for message in _endless(rule))
        if rule.leaves:
            yield from ((rule, message) for message in _refused(policy, rule))
    yield from _unprotected(policy)
    yield from _shadowed(policy)
    yield from _back_and_forth(policy)


def _never(policy: Policy, rule: Rule) -> str:
    why = impossible((policy.scope.root, Must.TRUE), (rule.when.root, Must.TRUE))
    if why:
        return f"can never match: {why}"
    if rule.priors is not None:
        why = impossible((rule.priors.when.root, Must.TRUE))
        return f"can never find a prior: {why}" if why else ""
    return ""


def _parts(policy: Policy, rule: Rule) -> Iterator[str]:
    """Alternatives that never hold, and conditions that always do."""
    if not isinstance(rule.when.root, Constant) and impossible((rule.when.root, Must.NOT_TRUE)):
        yield "has a condition that always holds: write when: always, or mend it"
    for body, part in _alternatives(rule.when, rule.when.root):
        why = impossible((policy.scope.root, Must.TRUE), (part, Must.TRUE))
        if why:
            yield f"has a part that can never match ({body.quote(part)}): {why}"


def _alternatives(body: Expression, node: Node) -> Iterator[tuple[Expression, Node]]:
    if isinstance(node, Named):
        yield from _alternatives(node.body, node.body.root)
    elif isinstance(node, (And, Or)):
        for part in node.parts:
            if isinstance(node, Or):
                yield body, part
            yield from _alternatives(body, part)


def _endless(rule: Rule) -> Iterator[str]:
    """Rules that would ask for the same again in every run."""
    if rule.action is Action.VERIFY and not any(
        leaf.ref.fact.name == "verified" for leaf in rule.when.leaves()
    ):
        yield (
            f"reads back the same copies in every run: add to its when verified({rule.pool}) > 1 year, or "
            "however often it shall be"
        )
    if rule.priors is not None and not impossible(
        (rule.when.root, Must.TRUE), (_ARRIVED_LONG_AGO, Must.TRUE)
    ):
        yield (
            "fetches priors of every study again in every run: its when is about the study that has just "
            "arrived; add received < 1h"
        )


def _refused(policy: Policy, rule: Rule) -> Iterator[str]:
    """Releases that will always be refused."""
    pool, verb = rule.leaves, "releases" if rule.action is Action.RELEASE else "moves"
    for goal in policy.copies:
        others = [other for other in goal.group.pools if other.name != pool]
        if len(others) == len(goal.group.pools):
            continue
        mend = f"remove the rule or {goal.target} from copies"
        if not others:
            yield (
                f"{verb} from {pool}, where the policy's own copies demand {goal.count}: it will always be "
                f"refused; {mend}"
            )
        elif goal.by is By.SITES and len({other.site for other in others}) < goal.count:
            yield (
                f"{verb} from {pool}, the only pool of its site, and copies demand {goal}: it will always be "
                f"refused; {mend}"
            )
    if implies(rule.when, _HELD):
        yield f"{verb} studies under legal hold: it will always be refused; write not legal_hold"
    if implies(rule.when, _RETAINED):
        yield f"{verb} studies that are retained: it will always be refused; write retention is null"


def _unprotected(policy: Policy) -> Iterator[Finding]:
    if policy.copies:
        return
    fed = {rule.fills for rule in policy.rules if rule.fills and rule.action is not Action.RECALL}
    for rule in policy.rules:
        if rule.action is not Action.RELEASE:
            continue
        none = "" if fed - {rule.pool} else " No rule of the policy copies anywhere."
        yield (
            rule,
            f"releases from {rule.pool} what no copy goal protects; only the archive's own rule "
            f"of one other verified copy stands: add copies: {{POOL: 1}}.{none}",
        )


def _shadowed(policy: Policy) -> Iterator[Finding]:
    for index, rule in enumerate(policy.rules):
        for before in policy.rules[:index]:
            same = (before.action, before.pool, before.source) == (rule.action, rule.pool, rule.source)
            bare = not before.has_watermarks and before.minimum_residency is None
            if same and bare and before.priors == rule.priors and implies(rule.when, before.when):
                yield (
                    rule,
                    f"does nothing that rule '{before.name}' before it would not do: remove it, or narrow "
                    f"the when of '{before.name}'",
                )
                break


def _back_and_forth(policy: Policy) -> Iterator[Finding]:
    """Copies to a pool what another rule takes out of it."""
    demanded = {pool for goal in policy.copies if len(goal.group.names) == 1 for pool in goal.group.names}
    for filling in policy.rules:
        pool = filling.fills
        if not pool or filling.priors is not None or pool in demanded:
            continue
        for leaving in policy.rules:
            if leaving.leaves != pool or leaving is filling:
                continue
            if not impossible(
                (policy.scope.root, Must.TRUE),
                (_apart_from(pool, filling.when.root), Must.TRUE),
                (_apart_from(pool, leaving.when.root), Must.TRUE),
            ):
                yield (
                    filling,
                    f"brings to {pool} what rule '{leaving.name}' takes out of it: a study that meets both "
                    f"goes back and forth; add to its when: and not ({leaving.when.text})",
                )


def _apart_from(pool: str, node: Node) -> Node:
    """The condition without what changes because a copy comes into the pool or leaves it."""

    def changes(ref: Ref) -> bool:
        return pool in ref.names if ref.fact.of_pool else ref.fact.name in ("sites", "availability")

    return without(node, changes) or Constant(node.start, node.end, value=True)
