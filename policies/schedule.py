"""When a policy runs: every so often or at the times of a cron expression, within windows, in the local
time of a time zone, and not on some days. Values only, no timers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import pairwise
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

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
class Window:
    """From ``start`` to before ``end``, local times of the day; over midnight where end is not later."""

    start: time
    end: time

    def __post_init__(self) -> None:
        if self.start.tzinfo or self.end.tzinfo:
            raise ValueError(f"{self}: times of a window are local")

    def __contains__(self, moment: time) -> bool:
        if self.start < self.end:
            return self.start <= moment < self.end
        return moment >= self.start or moment < self.end

    @property
    def length(self) -> timedelta:
        day = timedelta(days=1)
        minutes = (self.end.hour - self.start.hour) * 60 + self.end.minute - self.start.minute
        return timedelta(minutes=minutes) % day or day

    def __str__(self) -> str:
        return f"{self.start:%H:%M} and {self.end:%H:%M}"


@dataclass(frozen=True, slots=True)
class Schedule:
    """Exactly one of interval and cron is set; the rest says when a run may ask for work at all."""

    every_seconds: float | None = None
    cron: str | None = None
    """Five fields, normalised: days of the week by name (``mon,tue``), which every scheduler reads
    alike (as numbers some begin on Sunday, some on Monday), steps and ranges of them written out.
    In the local time of :attr:`time_zone`."""
    windows: tuple[Window, ...] = ()
    """None is the whole day."""
    blackout_dates: frozenset[date] = frozenset()
    blackout_weekdays: frozenset[int] = frozenset()
    """0 is Monday, as in :meth:`datetime.date.weekday`."""
    time_zone: str = "UTC"
    """IANA name."""

    def __post_init__(self) -> None:
        if (self.every_seconds is None) == (self.cron is None):
            raise ValueError("a schedule is an interval or a cron expression")
        if not self.blackout_weekdays <= frozenset(range(7)) or len(self.blackout_weekdays) == 7:
            raise ValueError(f"not on weekdays {sorted(self.blackout_weekdays)}: expected some of 0 to 6")
        try:
            ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"there is no time zone {self.time_zone!r}") from error

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

    @property
    def always_open(self) -> bool:
        return not (self.windows or self.blackout_dates or self.blackout_weekdays)

    def is_open(self, now: datetime) -> bool:
        """Whether work may be asked for and begun at ``now`` (aware): on no blackout day, which is a day
        of the local calendar from midnight to midnight, and in a window if there are any."""
        local = now.astimezone(self.zone)
        if local.weekday() in self.blackout_weekdays or local.date() in self.blackout_dates:
            return False
        return self._in_window(local.time())

    def next_change(self, now: datetime) -> datetime | None:
        """When :meth:`is_open` is next another, in the zone of ``now``; None if not within 400 days."""
        open_now = self.is_open(now)
        if self.always_open:
            return None
        edges = {time(0), *(edge for window in self.windows for edge in (window.start, window.end))}
        today = now.astimezone(self.zone).date()
        for days in range(401):
            day = today + timedelta(days=days)
            moments = (
                datetime.combine(day, edge, self.zone).astimezone(now.tzinfo) for edge in sorted(edges)
            )
            for moment in sorted(moments):
                if moment > now and self.is_open(moment) is not open_now:
                    return moment
        return None

    @property
    def open_per_day(self) -> timedelta:
        """How long it is open on a day that is not blacked out; overlapping windows count once."""
        if not self.windows:
            return timedelta(days=1)
        minutes = sum(self._in_window(time(minute // 60, minute % 60)) for minute in range(24 * 60))
        return timedelta(minutes=minutes)

    @property
    def starts_a_day(self) -> float:
        """How often a run begins on a day on which it may."""
        if self.every_seconds is not None:
            return self.open_per_day.total_seconds() / self.every_seconds
        return len(self._starts())

    @property
    def longest_wait(self) -> timedelta:
        """The longest time without a run, to the minute: from one start to the next, over days of the
        week or month that are left out too. Blackout dates do not count."""
        day = 24 * 60
        if self.cron is not None:
            minutes = sorted({start.hour * 60 + start.minute for start in self._starts()})
        else:
            minutes = [minute for minute in range(day) if self._in_window(time(minute // 60, minute % 60))]
        if not minutes:
            return LONGEST
        gaps = [later - earlier for earlier, later in pairwise([*minutes, minutes[0] + day])]
        longest = max(timedelta(minutes=max(gaps)), timedelta(seconds=self.every_seconds or 0))
        return min(LONGEST, longest + self._closed_days())

    def _in_window(self, moment: time) -> bool:
        return not self.windows or any(moment in window for window in self.windows)

    def _starts(self) -> list[time]:
        """When the cron expression begins on a day that it names, within the windows."""
        minute, hour, *_ = (self.cron or "* * * * *").split()
        hours, minutes = _read_field(hour, "hour", 0, 23), _read_field(minute, "minute", 0, 59)
        return [time(h, m) for h in hours for m in minutes if self._in_window(time(h, m))]

    def _closed_days(self) -> timedelta:
        """The longest row of days on which nothing runs."""
        _, _, of_month, months, of_week = (self.cron or "* * * * *").split()
        open_days = set(range(7)) - self.blackout_weekdays
        if of_week != "*":
            open_days &= {WEEKDAYS.index(name) for name in of_week.split(",")}
        if not open_days:
            return LONGEST
        if months != "*":
            return timedelta(days=31)
        week = sorted(open_days)
        gaps = [later - earlier - 1 for earlier, later in pairwise([*week, week[0] + 7])]
        month = _read_field(of_month, "day of month", 1, 31)
        gaps += [later - earlier - 1 for earlier, later in pairwise([*month, month[0] + 31])]
        return timedelta(days=max(gaps))

    def __str__(self) -> str:
        if self.every_seconds is not None:
            text = f"every {units.say_duration(timedelta(seconds=self.every_seconds))}"
        else:
            text = f"cron {self.cron}"
        if self.windows:
            text += f" between {', '.join(map(str, self.windows))}"
        days = [WEEKDAYS[number] for number in sorted(self.blackout_weekdays)]
        days += [day.isoformat() for day in sorted(self.blackout_dates)]
        if days:
            text += f" not on {', '.join(days)}"
        return text if self.time_zone == "UTC" else f"{text} ({self.time_zone})"


WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
"""By :meth:`datetime.date.weekday`."""
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
