"""What is allowed but hardly meant: warnings about policies that are otherwise good."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from policies.expr import And, Between, Compare, Constant, Leaf, Named, Node, Op
from policies.facts import Kind
from policies.policy import Action, Policy, Rule
from policies.yamlsource import Source


def lint(policies: Sequence[Policy], sources: Mapping[str, Source]) -> None:
    """Note warnings in the sources of ``policies``."""
    for policy in policies:
        source = sources[policy.file]
        for rule, message in [*_unprotected(policy), *_contradictions(policy), *_never(policy)]:
            source.at_line(rule.line, f"rule '{rule.name}' {message}", warning=True)
        for message in _unreachable_goals(policy):
            source.at_line(policy.line, f"policy '{policy.name}': {message}", warning=True)
    for shadowed, by in _shadowed(policies):
        message = (
            f"policy '{shadowed.name}' never owns a study: '{by.name}' goes before it and owns every study "
            "that it could; change a scope or the priorities"
        )
        sources[shadowed.file].at_line(shadowed.line, message, warning=True)


def _unprotected(policy: Policy) -> Iterator[tuple[Rule, str]]:
    if policy.goals:
        return
    for rule in policy.rules:
        if rule.action is Action.RELEASE:
            yield (
                rule,
                f"releases from {rule.pool} what no copy goal protects; only the archive's own rule "
                "of one other verified copy stands: add copies: {POOL: 1}",
            )


def _contradictions(policy: Policy) -> Iterator[tuple[Rule, str]]:
    for rule in policy.rules:
        if rule.action is Action.RELEASE and rule.pool in policy.goals:
            goal = policy.goals[rule.pool]
            yield (
                rule,
                f"releases from {rule.pool}, where the policy's own copies demand {goal}: it will always be "
                f"refused; remove the rule or {rule.pool} from copies",
            )


def _unreachable_goals(policy: Policy) -> Iterator[str]:
    releases = {rule.pool for rule in policy.rules if rule.action is Action.RELEASE}
    fed = {rule.pool for rule in policy.rules if rule.action is Action.COPY}
    for pool in policy.goals:
        if releases and pool not in fed | releases:
            yield (
                f"no rule copies to {pool}, which copies demand: unless studies arrive there nothing is ever "
                f"released; add a rule with copy to: {pool}"
            )


def _shadowed(policies: Sequence[Policy]) -> Iterator[tuple[Policy, Policy]]:
    ordered = sorted(policies, key=lambda policy: policy.priority)
    for index, policy in enumerate(ordered):
        for other in ordered[:index]:
            everything = isinstance(other.scope.root, Constant) and other.scope.root.value
            if everything or other.scope.root == policy.scope.root:
                yield policy, other
                break


def _never(policy: Policy) -> Iterator[tuple[Rule, str]]:
    for rule in policy.rules:
        conflict = _conflict([*_conjuncts(policy.scope.root), *_conjuncts(rule.when.root)])
        if conflict:
            yield rule, f"can never match: {conflict}"


def _conjuncts(node: Node) -> Iterator[Node]:
    """The tests that must all hold, as far as they are plain to see."""
    if isinstance(node, Named):
        yield from _conjuncts(node.body.root)
    elif isinstance(node, And):
        for part in node.parts:
            yield from _conjuncts(part)
    else:
        yield node


def _conflict(nodes: Sequence[Node]) -> str:
    """Why ``nodes`` cannot all hold, or nothing. Sees ranges of one fact, and never."""
    lows: dict[str, tuple[Any, bool]] = {}
    highs: dict[str, tuple[Any, bool]] = {}
    for node in nodes:
        if isinstance(node, Constant) and not node.value:
            return "its condition is never true"
        if not isinstance(node, Leaf) or node.ref.fact.kind in (Kind.CODES, Kind.TEXTS):
            continue
        name = str(node.ref)
        for op, value in _bounds(node):
            # An open bound is tighter than a closed one at the same value.
            if op in (Op.GT, Op.GE, Op.EQ):
                lows[name] = max(lows.get(name, (value, False)), (value, op is Op.GT))
            if op in (Op.LT, Op.LE, Op.EQ):
                high, closed = highs.get(name, (value, True))
                highs[name] = min((high, closed), (value, op is not Op.LT))
    for name in lows.keys() & highs.keys():
        (low, open_low), (high, closed_high) = lows[name], highs[name]
        if low > high or (low == high and (open_low or not closed_high)):
            return f"no value of {name} meets all its conditions; mend the bounds of {name}"
    return ""


def _bounds(leaf: Leaf) -> list[tuple[Op, Any]]:
    if isinstance(leaf, Compare) and leaf.op is not Op.NE:
        return [(leaf.op, leaf.value)]
    if isinstance(leaf, Between):
        return [(Op.GE, leaf.low), (Op.LE, leaf.high)]
    return []
