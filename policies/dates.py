"""Ages counted in whole days, as ranges of ``YYYYMMDD`` text.

The study date has no time of day, so an age is the whole days from it to today. Compile and
evaluate both turn a test of an age into the same ranges of dates: the database then compares one
column with constants, by index.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from policies.expr import Between, Compare, Op
from policies.facts import EARLIEST_DATE

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


def age_ranges(leaf: Compare | Between, negate: bool, now: datetime) -> tuple[DateRange, ...]:
    """The study dates for which ``leaf`` (or its negation) is true; today is ``now``'s own date."""
    if isinstance(leaf, Between):
        assert isinstance(leaf.low, timedelta)
        assert isinstance(leaf.high, timedelta)
        if negate:
            return (_days(Op.LT, leaf.low, now), _days(Op.GT, leaf.high, now))
        low, high = _days(Op.GE, leaf.low, now), _days(Op.LE, leaf.high, now)
        return (DateRange(high.first, low.last),)
    assert isinstance(leaf.value, timedelta)
    return (_days(leaf.op.negated if negate else leaf.op, leaf.value, now),)


def _days(op: Op, length: timedelta, now: datetime) -> DateRange:
    whole, rest = divmod(length, _DAY)
    today = now.date()
    if op is Op.GT:
        return DateRange(None, _before(today, whole + 1))
    if op is Op.GE:
        return DateRange(None, _before(today, whole + bool(rest)))
    if op is Op.LE:
        return DateRange(_before(today, whole), None)
    if op is Op.LT:
        return DateRange(_before(today, whole + bool(rest) - 1), None)
    raise ValueError(f"ages are not compared with {op.value}")  # check refuses it


def _before(today: date, days: int) -> str:
    try:
        return (today - timedelta(days=days)).strftime("%Y%m%d").rjust(8, "0")
    except OverflowError:
        return "00000000"
