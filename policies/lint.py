"""What is allowed but hardly meant: warnings about policies that are otherwise good."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from policies import lintgoals, lintrules
from policies.expr import Constant, Expression
from policies.logic import Must, disjoint, implies, impossible
from policies.policy import Policy
from policies.yamlsource import Source

_OVERLAPS_MAX = 20


def lint(policies: Sequence[Policy], sources: Mapping[str, Source]) -> None:
    """Note warnings in the sources of ``policies``."""
    ordered = sorted(policies, key=lambda policy: policy.priority)
    for policy in ordered:
        source = sources[policy.file]
        for rule, message in lintrules.findings(policy):
            source.at_line(rule.line, f"rule '{rule.name}' {message}", warning=True)
        for message in lintgoals.findings(policy):
            source.at_line(policy.line, f"policy '{policy.name}': {message}", warning=True)
    for policy, message in [*_never_owns(ordered)]:
        source = sources[policy.file]
        source.at_line(policy.line, f"policy '{policy.name}' never owns a study: {message}", warning=True)


def overlaps(policies: Sequence[Policy]) -> Iterator[tuple[Policy, str]]:
    """Policies that one study may be in the scopes of, with who owns it: to be known, not to be mended.

    A policy without a scope is in everybody's way and not named, nor is one that lies wholly in another.
    """
    ordered = sorted(policies, key=lambda policy: policy.priority)
    count = 0
    for index, later in enumerate(ordered):
        for earlier in ordered[:index]:
            if _everything(later.scope) or _everything(earlier.scope) or count >= _OVERLAPS_MAX:
                continue
            if disjoint(earlier.scope, later.scope) or implies(later.scope, earlier.scope):
                continue
            count += 1
            yield (
                later,
                f"policies '{earlier.name}' and '{later.name}' may both mean a study: then '{earlier.name}' "
                f"owns it, by its priority {earlier.priority} before {later.priority}",
            )


def _everything(scope: Expression) -> bool:
    return isinstance(scope.root, Constant) and scope.root.value


def _never_owns(ordered: Sequence[Policy]) -> Iterator[tuple[Policy, str]]:
    for index, policy in enumerate(ordered):
        why = impossible((policy.scope.root, Must.TRUE))
        if why:
            yield policy, f"{why}; mend its scope"
            continue
        before = [other for other in ordered[:index] if not impossible((other.scope.root, Must.TRUE))]
        covering = [other for other in before if implies(policy.scope, other.scope)]
        if covering:
            yield (
                policy,
                f"'{covering[0].name}' goes before it and owns every study that it could; "
                "change a scope or the priorities",
            )
        elif len(before) > 1 and impossible(
            (policy.scope.root, Must.TRUE), *((other.scope.root, Must.NOT_TRUE) for other in before)
        ):
            names = ", ".join(f"'{other.name}'" for other in before)
            yield (
                policy,
                f"{names} go before it and together own every study that it could; "
                "change a scope or the priorities",
            )
