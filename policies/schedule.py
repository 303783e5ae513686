"""When a policy runs: every so often, or at the times of a cron expression. Values only, no timers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from policies import units

SHORTEST = timedelta(seconds=1)
LONGEST = timedelta(days=366)
_EXPECTED = "expected 'every 60 seconds' or 'cron 0 2 * * *' (minute, hour, day of month, month, day of week)"
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class ScheduleError(ValueError):
    """A schedule that cannot be read; the message says what to write."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Exactly one of the two is set."""

    every_seconds: float | None = None
    cron: str | None = None
    """Five fields, normalised: days of the week by name (``mon,tue``), which every scheduler reads
    alike (as numbers some begin on Sunday, some on Monday), steps and ranges of them written out."""

    def __post_init__(self) -> None:
        if (self.every_seconds is None) == (self.cron is None):
            raise ValueError("a schedule is an interval or a cron expression")

    def __str__(self) -> str:
        if self.every_seconds is not None:
            return f"every {units.say_duration(timedelta(seconds=self.every_seconds))}"
        return f"cron {self.cron}"


DEFAULT = Schedule(every_seconds=60)


def read_schedule(text: str) -> Schedule:
    """``every 60 seconds``, ``cron 0 2 * * *`` or ``cron: 0 2 * * *``.

    :raises ScheduleError: it is neither, or could never fire.
    """
    text = text.strip()
    keyword = re.match(r"(every|cron)\b[:\s]*(.*)", text, re.IGNORECASE | re.DOTALL)
    if keyword is None:
        raise ScheduleError(f"{text!r} is not a schedule: {_EXPECTED}")
    rest = keyword.group(2).strip()
    return read_interval(rest) if keyword.group(1).lower() == "every" else read_cron(rest)


def read_interval(text: str) -> Schedule:
    """``60 seconds``, ``minute``. :raises ScheduleError: not a time from a second to a year."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)?\s*([A-Za-z]+)", text.strip())
    if match is None:
        raise ScheduleError(f"{text!r} is not an interval: write a number and a unit, as in every 60 seconds")
    try:
        length = units.duration(Decimal(match.group(1) or 1), match.group(2))
    except units.UnitError as error:
        raise ScheduleError(str(error)) from None
    if not SHORTEST <= length <= LONGEST:
        raise ScheduleError(f"{text!r} is out of range: write an interval from 1 second to 1 year")
    return Schedule(every_seconds=length.total_seconds())


def read_cron(text: str) -> Schedule:
    """Five fields of ``*``, numbers, names, ranges, lists and steps. :raises ScheduleError:"""
    fields = text.split()
    if len(fields) != 5:
        raise ScheduleError(f"a cron expression has 5 fields and this has {len(fields)}: {_EXPECTED}")
    minute, hour, day, month, weekday = fields
    _read_field(minute, "minute", 0, 59)
    _read_field(hour, "hour", 0, 23)
    days = _read_field(day, "day of month", 1, 31)
    months = _read_field(month, "month", 1, 12, _MONTHS, first_name=1)
    weekdays = _read_field(weekday, "day of week", 0, 7, _DAYS)
    if min(days) > max(_MONTH_DAYS[number - 1] for number in months):
        raise ScheduleError(
            f"day {min(days)} is in none of the months {month}: it would never run; write another day"
        )
    names = "*" if weekday == "*" else ",".join(dict.fromkeys(_DAYS[number % 7] for number in weekdays))
    return Schedule(cron=" ".join((minute, hour, day, month.lower(), names)))


def _read_field(
    text: str, what: str, low: int, high: int, names: Sequence[str] = (), first_name: int = 0
) -> list[int]:
    values: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(?:(\*)|(\w+)(?:-(\w+))?)(?:/(\d+))?", part)
        if match is None:
            raise ScheduleError(
                f"{part!r} is no {what}: write *, {low}-{high}, or a list such as {low},{high}"
            )
        star, first, last, step = match.groups()
        if step is not None and not 1 <= int(step) <= high:
            raise ScheduleError(f"the step /{step} of {what} is out of range: write 1 to {high}")
        begin = low if star else _read_number(first, what, low, high, names, first_name)
        if star or (step and not last):
            end = high
        else:
            end = _read_number(last, what, low, high, names, first_name) if last else begin
        if end < begin and names is _DAYS:
            end += 7  # fri-mon goes over the end of the week
        if end < begin:
            raise ScheduleError(f"{part!r} is the wrong way round in {what}: write the smaller one first")
        values.update(range(begin, end + 1, int(step or 1)))
    return sorted(values)


def _read_number(text: str, what: str, low: int, high: int, names: Sequence[str], first_name: int) -> int:
    if text.lower() in names:
        return names.index(text.lower()) + first_name
    if text.isdecimal() and len(text) < 4 and low <= int(text) <= high:
        return int(text)
    also = f" or {names[0]} to {names[-1]}" if names else ""
    raise ScheduleError(f"{text!r} is no {what}: write {low} to {high}{also}")
