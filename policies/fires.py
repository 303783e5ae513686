"""When a schedule fires, and how often within a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from itertools import takewhile

from policies.schedule import Schedule

_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS_AHEAD = 366 * 5
"""29 February comes at least that often, but for 1900 and 2100."""


def next_fire(schedule: Schedule, earliest: datetime, anchor: datetime) -> datetime | None:
    """The first time, not before ``earliest``, at which a run begins; None if not within five years.

    Intervals are counted from ``anchor``. A fire outside of the schedule's windows or on a blackout day
    does not happen.
    """
    at = earliest
    for _ in range(_DAYS_AHEAD):
        found = _interval(schedule, at, anchor) if schedule.every_seconds else next(_cron(schedule, at), None)
        if found is None or schedule.is_open(found):
            return found
        opens = schedule.next_change(found)
        if opens is None:
            return None
        at = opens
    return None


def open_between(schedule: Schedule, now: datetime, until: datetime) -> timedelta:
    """How long the schedule lets work be asked for from ``now`` to ``until``."""
    open_for, at, is_open = timedelta(0), now, schedule.is_open(now)
    while at < until:
        change = schedule.next_change(at)
        end = min(change, until) if change is not None else until
        if is_open:
            open_for += end - at
        at, is_open = end, not is_open
    return open_for


def fires_between(schedule: Schedule, now: datetime, until: datetime) -> int:
    """How many runs begin from ``now`` to before ``until``: of an interval as many as the time that is open
    has room for, the one that has begun reckoned in."""
    if schedule.every_seconds is not None:
        return math.ceil(open_between(schedule, now, until).total_seconds() / schedule.every_seconds)
    return sum(map(schedule.is_open, takewhile(lambda moment: moment < until, _cron(schedule, now))))


def _interval(schedule: Schedule, earliest: datetime, anchor: datetime) -> datetime:
    every = timedelta(seconds=schedule.every_seconds or 0)
    return anchor + -((anchor - earliest) // every) * every


def _cron(schedule: Schedule, earliest: datetime) -> Iterator[datetime]:
    """The times that the expression names, in their order, not before ``earliest``; for five years."""
    assert schedule.cron is not None
    fields = _fields(schedule.cron)
    zone = schedule.zone
    first = earliest.astimezone(zone).date()
    for number in range(_DAYS_AHEAD):
        day = first + timedelta(days=number)
        if not _is_day(fields, day):
            continue
        for hour in fields[1]:
            for minute in fields[0]:
                moment = datetime.combine(day, time(hour, minute), zone).astimezone(earliest.tzinfo)
                if moment >= earliest:
                    yield moment


def _is_day(fields: tuple[tuple[int, ...], ...], day: date) -> bool:
    _, _, days, months, weekdays = fields
    return day.day in days and day.month in months and day.weekday() in weekdays


@lru_cache(maxsize=256)
def _fields(cron: str) -> tuple[tuple[int, ...], ...]:
    """Minutes, hours, days of month, months, weekdays (0 is Monday), each in order."""
    minute, hour, day, month, weekday = cron.split()
    return (
        tuple(_numbers(minute, 0, 59)),
        tuple(_numbers(hour, 0, 23)),
        tuple(_numbers(day, 1, 31)),
        tuple(_numbers(month, 1, 12, _MONTHS, 1)),
        tuple(_numbers(weekday, 0, 6, _WEEKDAYS)),
    )


def _numbers(text: str, low: int, high: int, names: tuple[str, ...] = (), first: int = 0) -> list[int]:
    return sorted({value for part in text.split(",") for value in _part(part, low, high, names, first)})


def _part(text: str, low: int, high: int, names: tuple[str, ...], first: int) -> Iterator[int]:
    body, _, step = text.partition("/")
    begin, dash, end = body.partition("-")

    def number(word: str) -> int:
        return names.index(word) + first if word in names else int(word)

    if body == "*":
        start, stop = low, high
    else:
        start = number(begin)
        stop = number(end) if dash else high if step else start
    yield from range(start, stop + 1, int(step or 1))
