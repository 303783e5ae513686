"""Ages and terms counted in whole days, as ranges of ``YYYYMMDD`` text.

The study date has no time of day, so an age is the whole days from it to today. Compile and
evaluate both turn a test of an age into the same ranges of dates: the database then compares one
column with constants, by index.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from policies.expr import Between, Compare, Op
from policies.facts import EARLIEST_DATE, Kind

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class DateRange:
    """Dates from ``first`` to ``last``, both included; None is open. Unknown dates are in no range."""

    first: str | None
    last: str | None

    def __contains__(self, text: str) -> bool:
        return (self.first is None or text >= self.first) and (self.last is None or text <= self.last)


def known_date(text: object) -> str | None:
    """``text`` if it can be a study date, else None."""
    if isinstance(text, str) and len(text) == 8 and text.isdigit() and text >= EARLIEST_DATE:
        return text
    return None


def day_ranges(leaf: Compare | Between, negate: bool, now: datetime) -> tuple[DateRange, ...]:
    """The dates for which ``leaf`` (or its negation) is true; today is ``now``'s own date."""
    count = _left if leaf.ref.fact.kind is Kind.LEFT else _days
    if isinstance(leaf, Between):
        assert isinstance(leaf.low, timedelta)
        assert isinstance(leaf.high, timedelta)
        if negate:
            return (count(Op.LT, leaf.low, now), count(Op.GT, leaf.high, now))
        low, high = count(Op.GE, leaf.low, now), count(Op.LE, leaf.high, now)
        return (DateRange(low.first or high.first, low.last or high.last),)
    assert isinstance(leaf.value, timedelta)
    return (count(leaf.op.negated if negate else leaf.op, leaf.value, now),)


def _days(op: Op, length: timedelta, now: datetime) -> DateRange:
    """Dates so long ago."""
    fewest, most = _whole(op, length)
    return DateRange(
        None if most is None else _day(now.date(), -most),
        None if fewest is None else _day(now.date(), -fewest),
    )


def _left(op: Op, length: timedelta, now: datetime) -> DateRange:
    """Dates so long from now."""
    fewest, most = _whole(op, length)
    return DateRange(
        None if fewest is None else _day(now.date(), fewest), None if most is None else _day(now.date(), most)
    )


def _whole(op: Op, length: timedelta) -> tuple[int | None, int | None]:
    """The fewest and the most whole days that compare with ``length`` so; None is without bound."""
    whole, rest = divmod(length, _DAY)
    up = whole + bool(rest)
    bounds: dict[Op, tuple[int | None, int | None]] = {
        Op.GT: (whole + 1, None),
        Op.GE: (up, None),
        Op.LE: (None, whole),
        Op.LT: (None, up - 1),
    }
    if op not in bounds:
        raise ValueError(f"lengths of time are not compared with {op.value}")  # check refuses it
    return bounds[op]


def _day(today: date, days: int) -> str:
    try:
        return (today + timedelta(days=days)).strftime("%Y%m%d").rjust(8, "0")
    except OverflowError:
        return "00000000" if days < 0 else "99999999"
