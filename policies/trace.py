"""Which part of a condition decided, in words with the actual values, and when it will change."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from datetime import time as time_of_day

from policies.evaluate import DAY_KINDS, Circumstances, say_value, source_value, truth
from policies.expr import And, Between, Compare, Expression, Leaf, Named, Node, Not, Or, leaves
from policies.facts import Argument, Kind, StudyFacts

_INSTANT = timedelta(microseconds=1)


def deciding(expression: Expression, facts: StudyFacts, at: Circumstances) -> tuple[str, ...]:
    """The tests that made the condition what it is, each as ``idle > 90 d: idle is 61 d``.

    Of an ``and`` that holds, all its parts; of one that does not, those that fail. Of an ``or`` the
    reverse.
    """
    found = _deciders(expression.root, expression, facts, at)
    return tuple(dict.fromkeys(_say(leaf, body, facts, at) for leaf, body in found))


def reason(expression: Expression, facts: StudyFacts, at: Circumstances) -> str:
    """:func:`deciding` in one line."""
    return "; ".join(deciding(expression, facts, at))


def _deciders(
    node: Node, body: Expression, facts: StudyFacts, at: Circumstances
) -> Iterator[tuple[Node, Expression]]:
    """Each with the expression in whose text it stands, which is its class's if it is in one."""
    if isinstance(node, Not):
        yield from _deciders(node.part, body, facts, at)
    elif isinstance(node, Named):
        yield from _deciders(node.body.root, node.body, facts, at)
    elif isinstance(node, (And, Or)):
        value = truth(node, facts, at)
        for part in node.parts:
            if truth(part, facts, at) is value:
                yield from _deciders(part, body, facts, at)
    else:
        yield node, body


def _say(node: Node, expression: Expression, facts: StudyFacts, at: Circumstances) -> str:
    if not isinstance(node, Leaf):
        return expression.quote(node)
    return f"{expression.quote(node)}: {node.ref} is {say_value(node.ref, facts, at)}"


def next_change(
    expression: Expression, facts: StudyFacts, at: Circumstances, *, among: tuple[Expression, ...] = ()
) -> datetime | None:
    """The first instant after now at which the condition is another, if nothing but time passes.

    ``among`` are further conditions that must hold with it, as the scope with the ``when`` of a rule.
    None where no passing of time changes it, or not within what a calendar holds.
    """
    expressions = (expression, *among)

    def value(moment: datetime) -> bool:
        then = Circumstances(moment, at.fills)
        return all(truth(each.root, facts, then) is True for each in expressions)

    now = value(at.now)
    return next((moment for moment in turns(expressions, facts, at) if value(moment) is not now), None)


def turns(expressions: tuple[Expression, ...], facts: StudyFacts, at: Circumstances) -> tuple[datetime, ...]:
    """Every instant after now at which a test in ``expressions`` may turn, in order."""
    found = {
        moment for each in expressions for leaf in leaves(each.root) for moment in _turns(leaf, facts, at)
    }
    return tuple(sorted(moment for moment in found if moment > at.now))


def _turns(leaf: Leaf, facts: StudyFacts, at: Circumstances) -> Iterator[datetime]:
    """When the truth of one test may turn."""
    ref = leaf.ref
    try:
        if ref.fact.argument is Argument.WINDOW and ref.window is not None:
            for moment in facts.accesses:  # it counts up to the instant at which it leaves the window
                yield (moment + ref.window + _INSTANT).astimezone(at.now.tzinfo)
        elif ref.fact.kind is Kind.ELAPSED:
            since = source_value(ref, facts)
            if isinstance(since, datetime):
                for length in _lengths(leaf):
                    yield (since + length).astimezone(at.now.tzinfo)
                    yield (since + length + _INSTANT).astimezone(at.now.tzinfo)
        elif ref.fact.kind in DAY_KINDS:
            raw = source_value(ref, facts)
            if isinstance(raw, str) and raw:
                yield from _midnights(datetime.strptime(raw, "%Y%m%d").date(), leaf, at)
    except (ValueError, OverflowError):
        return  # a date that is in no calendar, or past the end of it: time does not turn the test


def _midnights(day: date, leaf: Leaf, at: Circumstances) -> Iterator[datetime]:
    """Days turn at midnight of now's own time zone."""
    sign = -1 if leaf.ref.fact.kind is Kind.LEFT else 1
    for length in _lengths(leaf):
        whole = timedelta(days=length // timedelta(days=1))
        for turn in (-1, 0, 1):
            yield datetime.combine(day + sign * whole + timedelta(days=turn), time_of_day(), at.now.tzinfo)


def _lengths(leaf: Leaf) -> list[timedelta]:
    values = (
        [leaf.value]
        if isinstance(leaf, Compare)
        else [leaf.low, leaf.high]
        if isinstance(leaf, Between)
        else []
    )
    return [value for value in values if isinstance(value, timedelta)]
