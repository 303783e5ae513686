"""The tree over one study's values, in the three-valued logic of SQL: True, False, or None.

``None`` says that a fact is not known; a rule applies only where its condition is True.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from policies import units
from policies.dates import age_ranges, known_date
from policies.expr import (
    Among,
    And,
    Between,
    Compare,
    Constant,
    Expression,
    IsNull,
    Leaf,
    Like,
    Node,
    Not,
    Op,
    Or,
    Ref,
)
from policies.facts import Kind, StudyFacts

_OPS: dict[Op, Callable[[Any, Any], bool]] = {
    Op.EQ: operator.eq,
    Op.NE: operator.ne,
    Op.LT: operator.lt,
    Op.LE: operator.le,
    Op.GT: operator.gt,
    Op.GE: operator.ge,
}

FactValue = str | int | float | timedelta | frozenset[str] | None


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is not about the study: the time, and how full the pools are (fractions, by pool)."""

    now: datetime
    fills: Mapping[str, float]

    def __post_init__(self) -> None:
        if self.now.tzinfo is None:
            raise ValueError(f"{self.now!r} has no time zone")


def evaluate(
    expression: Expression, facts: StudyFacts, now: datetime, fills: Mapping[str, float]
) -> bool | None:
    """Whether ``expression`` holds for the study: True, False, or None where it cannot be known."""
    return truth(expression.root, facts, Circumstances(now, fills))


def truth(node: Node, facts: StudyFacts, at: Circumstances) -> bool | None:
    if isinstance(node, Constant):
        return node.value
    if isinstance(node, Not):
        inner = truth(node.part, facts, at)
        return None if inner is None else not inner
    if isinstance(node, (And, Or)):
        decisive = isinstance(node, Or)
        values = [truth(part, facts, at) for part in node.parts]
        if decisive in values:
            return decisive
        return None if None in values else not decisive
    if isinstance(node, Leaf):
        return _test(node, value_of(node.ref, facts, at), at)
    raise TypeError(f"not a node: {node!r}")


def value_of(ref: Ref, facts: StudyFacts, at: Circumstances) -> FactValue:
    """The fact's value; None where it is not known. Ages are their study date's ``YYYYMMDD``."""
    kind = ref.fact.kind
    if kind is Kind.FRACTION:
        return at.fills.get(ref.pool)
    if ref.fact.of_pool:
        return facts.copies_in(ref.pool)
    raw = facts.values.get(ref.fact.source)
    if kind is Kind.ELAPSED:
        assert isinstance(raw, datetime)
        return at.now - raw
    if kind in (Kind.DAYS, Kind.DATE):
        return known_date(raw)
    if kind is Kind.CODES:
        return frozenset(filter(None, str(raw or "").split("\\"))) or None
    if isinstance(raw, (datetime, tuple)):
        raise TypeError(f"{ref.fact.source} of study {facts.study} is {raw!r}; expected {kind.value}")
    return None if raw == "" else raw


def _test(leaf: Leaf, value: FactValue, at: Circumstances) -> bool | None:
    if isinstance(leaf, IsNull):
        return value is None
    if value is None:
        return None
    if leaf.ref.fact.kind is Kind.DAYS and isinstance(leaf, (Compare, Between)):
        return any(str(value) in dates for dates in age_ranges(leaf, negate=False, now=at.now))
    if isinstance(value, frozenset):
        return _test_codes(leaf, value)
    comparable: Any = value
    if isinstance(leaf, Compare):
        return _OPS[leaf.op](comparable, leaf.value)
    if isinstance(leaf, Between):
        return bool(leaf.low <= comparable <= leaf.high)
    if isinstance(leaf, Among):
        return value in leaf.values
    if isinstance(leaf, Like):
        return leaf.pattern.regex().fullmatch(str(value)) is not None
    raise TypeError(f"not a test: {leaf!r}")


def _test_codes(leaf: Leaf, codes: frozenset[str]) -> bool:
    if isinstance(leaf, Compare):
        return (leaf.value in codes) is (leaf.op is Op.EQ)
    if isinstance(leaf, Among):
        return not codes.isdisjoint(map(str, leaf.values))
    raise TypeError(f"{leaf.ref} is a set of codes and cannot be tested with {type(leaf).__name__}")


def say_value(ref: Ref, facts: StudyFacts, at: Circumstances) -> str:
    """The fact's actual value in words: ``61 d``, ``1.5 GiB``, ``CT, SR``, ``not known``."""
    value = value_of(ref, facts, at)
    kind = ref.fact.kind
    if value is None:
        return "not known"
    if isinstance(value, timedelta):
        return units.say_duration(value)
    if isinstance(value, frozenset):
        return ", ".join(sorted(value))
    if kind is Kind.DAYS:
        return say_age(str(value), at.now)
    if kind is Kind.DATE:
        text = str(value)
        return f"{text[:4]}-{text[4:6]}-{text[6:]}"
    if kind is Kind.SIZE and not isinstance(value, str):
        return units.say_size(value)
    if kind is Kind.FRACTION and not isinstance(value, str):
        return units.say_fraction(value)
    return f"'{value}'" if isinstance(value, str) else str(value)


def say_age(text: str, now: datetime) -> str:
    try:
        day = datetime.strptime(text, "%Y%m%d").date()
    except ValueError:
        return f"counted from {text}, which is not in the calendar"
    return f"{(now.date() - day).days} d"
