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
from policies.dates import day_ranges, known_date
from policies.expr import (
    Among,
    And,
    Between,
    Compare,
    Constant,
    Expression,
    Holds,
    IsNull,
    Leaf,
    Like,
    Named,
    Node,
    Not,
    Op,
    Or,
    Ref,
)
from policies.facts import Argument, Kind, SourceValue, StudyFacts

_OPS: dict[Op, Callable[[Any, Any], bool]] = {
    Op.EQ: operator.eq,
    Op.NE: operator.ne,
    Op.LT: operator.lt,
    Op.LE: operator.le,
    Op.GT: operator.gt,
    Op.GE: operator.ge,
}

FactValue = str | int | float | bool | timedelta | frozenset[str] | None

DAY_KINDS = (Kind.DAYS, Kind.LEFT)


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
    if isinstance(node, Named):
        return truth(node.body.root, facts, at)
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
    """The fact's value; None where it is not known. Ages and terms are their date's ``YYYYMMDD``.

    :raises LookupError: ``facts`` lacks the source.
    """
    kind, argument = ref.fact.kind, ref.fact.argument
    if kind is Kind.FRACTION:
        return at.fills.get(ref.pool)
    if argument is Argument.SITES:
        return facts.sites_of(ref.site_by_pool)
    if argument is Argument.WINDOW and ref.window is not None:
        since = at.now - ref.window
        return sum(moment >= since for moment in facts.accesses)
    if argument is Argument.POOL:
        return facts.is_held_in(*ref.names) if kind is Kind.FLAG else facts.copies_in(*ref.names)
    raw = source_value(ref, facts)
    if kind is Kind.ELAPSED:
        return at.now - raw if isinstance(raw, datetime) else None
    if kind in (*DAY_KINDS, Kind.DATE):
        return known_date(raw)
    if kind is Kind.CODES:
        return frozenset(filter(None, str(raw or "").split("\\"))) or None
    if kind is Kind.TEXTS:
        texts = frozenset(filter(None, raw if isinstance(raw, (tuple, frozenset)) else ()))
        return texts if texts or ref.fact.empty_is_known else None
    if isinstance(raw, (datetime, tuple, frozenset)):
        raise TypeError(f"{ref.fact.source} of study {facts.study} is {raw!r}; expected {kind.value}")
    return None if raw == "" else raw


def source_value(ref: Ref, facts: StudyFacts) -> SourceValue:
    """What the source of a fact holds. :raises LookupError: ``facts`` lacks it."""
    if ref.fact.argument is Argument.ONE_POOL:
        return (facts.resident if ref.fact.name == "resident" else facts.verified).get(ref.pool)
    if ref.fact.source not in facts.values:
        raise LookupError(
            f"no value for {ref.fact.source!r} of study {facts.study}, which the fact {ref.fact.name} needs"
        )
    return facts.values[ref.fact.source]


def _test(leaf: Leaf, value: FactValue, at: Circumstances) -> bool | None:
    if isinstance(leaf, IsNull):
        return value is None
    if value is None:
        return None
    if isinstance(leaf, Holds):
        return bool(value)
    if leaf.ref.fact.kind in DAY_KINDS and isinstance(leaf, (Compare, Between)):
        return any(str(value) in dates for dates in day_ranges(leaf, negate=False, now=at.now))
    if isinstance(value, frozenset):
        return _test_set(leaf, value)
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


def _test_set(leaf: Leaf, values: frozenset[str]) -> bool:
    if isinstance(leaf, Compare):
        return (leaf.value in values) is (leaf.op is Op.EQ)
    if isinstance(leaf, Among):
        return not values.isdisjoint(map(str, leaf.values))
    if isinstance(leaf, Like):
        return any(leaf.pattern.regex().fullmatch(text) for text in values)
    raise TypeError(f"{leaf.ref} is a set and cannot be tested with {type(leaf).__name__}")


def say_value(ref: Ref, facts: StudyFacts, at: Circumstances) -> str:
    """The fact's actual value in words: ``61 d``, ``1.5 GiB``, ``CT, SR``, ``not known``."""
    value = value_of(ref, facts, at)
    kind = ref.fact.kind
    if value is None:
        return "not known"
    if isinstance(value, timedelta):
        return units.say_duration(value)
    if isinstance(value, frozenset):
        return _say_set(value, quoted=kind is Kind.TEXTS)
    if kind is Kind.FLAG:
        return "yes" if value else "no"
    if kind is Kind.DAYS:
        return say_age(str(value), at.now)
    if kind is Kind.LEFT:
        return _say_left(str(value), at.now)
    if kind is Kind.DATE:
        return _say_date(str(value))
    if kind is Kind.SIZE and not isinstance(value, str):
        return units.say_size(value)
    if kind is Kind.FRACTION and not isinstance(value, str):
        return units.say_fraction(value)
    if ref.fact.choices:
        return str(value)
    return f"'{value}'" if isinstance(value, str) else str(value)


SHOWN_MAX = 5
"""Of a set's values, those that a message names."""


def _say_set(values: frozenset[str], *, quoted: bool) -> str:
    words = [f"'{value}'" if quoted else value for value in sorted(values)]
    more = f" and {len(words) - SHOWN_MAX} more" if len(words) > SHOWN_MAX else ""
    return ", ".join(words[:SHOWN_MAX]) + more if words else "none"


def _say_date(text: str) -> str:
    return f"{text[:4]}-{text[4:6]}-{text[6:]}"


def say_age(text: str, now: datetime) -> str:
    """Whole days: ``61 d``; of years too if it is many: ``7320 d (20.1 years)``."""
    days = _days_from(text, now)
    if days is None:
        return f"counted from {text}, which is not in the calendar"
    return f"{days} d" if days < 3 * 365 else f"{days} d ({days / 365:.1f} years)"


def _say_left(text: str, now: datetime) -> str:
    days = _days_from(text, now)
    if days is None:
        return f"counted to {text}, which is not in the calendar"
    return f"{-days} d, until {_say_date(text)}" if days <= 0 else f"over since {_say_date(text)}"


def _days_from(text: str, now: datetime) -> int | None:
    try:
        return (now.date() - datetime.strptime(text, "%Y%m%d").date()).days
    except ValueError:
        return None
