"""The schedule of a document: text such as ``every 60 seconds``, or a mapping with windows and days."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from policies.errors import did_you_mean
from policies.schedule import (
    WEEKDAYS,
    Schedule,
    ScheduleError,
    Window,
    read_cron,
    read_interval,
    read_schedule,
)
from policies.yamlsource import Entry, MappingNode, Node, ScalarNode, SequenceNode, Source

SCHEDULE_KEYS = ("every", "cron", "between", "not on", "time zone")
_WINDOW = "20:00 and 06:00"
_LONG_DAYS = {
    "monday": 0,
    "tuesday": 1,
    "wednesday": 2,
    "thursday": 3,
    "friday": 4,
    "saturday": 5,
    "sunday": 6,
    **{name: number for number, name in enumerate(WEEKDAYS)},
}
_DATES_MAX = 366


class ScheduleReader:
    def __init__(self, source: Source, default: Schedule) -> None:
        self.source = source
        self.default = default

    def schedule(self, node: Node) -> Schedule | None:
        """The schedule, or None if anything in it is wrong, which is noted."""
        before = len(self.source.findings)
        found = self.mapping(node) if isinstance(node, MappingNode) else self.text(node)
        return None if len(self.source.findings) > before else found

    def text(self, node: Node) -> Schedule | None:
        scalar = self.source.scalar(node, "'schedule'", "schedule: every 60 seconds")
        if scalar is None:
            return None
        text = str(scalar.value)
        when, between, windows = text.partition(" between ")
        try:
            found = read_schedule(when)
            return replace(found, windows=(read_window(windows),)) if between else found
        except ScheduleError as error:
            self.source.on(node, str(error))
            return None

    def mapping(self, node: MappingNode) -> Schedule | None:
        entries = self.source.entries(node, "schedule", SCHEDULE_KEYS)
        if "every" in entries and "cron" in entries:
            self.source.on(
                entries["cron"].key, "a schedule is one of every and cron: write schedule: every 60 seconds"
            )
            return None
        found = self.default
        readers: dict[str, Callable[[str], Schedule]] = {"every": read_interval, "cron": read_cron}
        for key, read in readers.items():
            if key in entries:
                found = self.read(entries[key], read, f"{key}: 60 seconds") or found
        windows = tuple(self.windows(entries["between"].value)) if "between" in entries else ()
        weekdays, dates = self.blackout(entries["not on"].value) if "not on" in entries else ((), ())
        zone = self.zone(entries["time zone"].value) if "time zone" in entries else "UTC"
        if len(set(weekdays)) == 7:
            self.source.on(entries["not on"].value, "these are all days of the week: leave one out")
            return None
        return replace(
            found,
            windows=windows,
            blackout_weekdays=frozenset(weekdays),
            blackout_dates=frozenset(dates),
            time_zone=zone,
        )

    def read(self, entry: Entry, read: Callable[[str], Schedule], example: str) -> Schedule | None:
        scalar = self.source.scalar(entry.value, f"'{entry.name}'", example)
        if scalar is None:
            return None
        try:
            return read(str(scalar.value))
        except ScheduleError as error:
            self.source.on(scalar, str(error))
            return None

    def windows(self, node: Node) -> Iterator[Window]:
        nodes = node.value if isinstance(node, SequenceNode) else [node]
        for each in nodes:
            scalar = self.source.scalar(each, "'between'", f"between: {_WINDOW}")
            if scalar is None:
                continue
            try:
                yield read_window(str(scalar.value))
            except ScheduleError as error:
                self.source.on(scalar, str(error))

    def blackout(self, node: Node) -> tuple[tuple[int, ...], tuple[date, ...]]:
        weekdays: list[int] = []
        dates: list[date] = []
        for scalar, start, end in self.parts(node):
            text = str(scalar.value)[start:end].strip().lower()
            if text in _LONG_DAYS:
                weekdays.append(_LONG_DAYS[text])
                continue
            try:
                dates += read_dates(text)
            except ScheduleError as error:
                self.source.inside(scalar, start, end, str(error))
        return tuple(weekdays), tuple(dates)

    def parts(self, node: Node) -> Iterator[tuple[ScalarNode, int, int]]:
        """The entries of a list, or of text with commas."""
        if isinstance(node, SequenceNode):
            for each in node.value:
                scalar = self.source.scalar(each, "an entry of 'not on'", "sun or 2026-12-24")
                if scalar is not None:
                    yield scalar, 0, len(str(scalar.value))
            return
        scalar = self.source.scalar(node, "'not on'", "not on: [sat, sun, 2026-12-24]")
        if scalar is not None:
            for match in re.finditer(r"[^,]+", str(scalar.value)):
                yield scalar, match.start() + (match.group()[:1] == " "), match.end()

    def zone(self, node: Node) -> str:
        scalar = self.source.scalar(node, "'time zone'", "time zone: Europe/Berlin")
        if scalar is None:
            return "UTC"
        name = str(scalar.value)
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            hint = did_you_mean(name, available_timezones())
            hint = hint if "Did" in hint else " Write an IANA name, as in Europe/Berlin."
            self.source.on(scalar, f"there is no time zone '{name}'.{hint}")
            return "UTC"
        return name


def read_window(text: str) -> Window:
    """``20:00 and 06:00``. :raises ScheduleError: it is not two times of the day, or no time is between."""
    match = re.fullmatch(r"\s*(\S+)\s+(?:and|to)\s+(\S+)\s*|\s*([\d:]+)\s*-\s*([\d:]+)\s*", text)
    if match is None:
        raise ScheduleError(f"{text.strip()!r} is not a window: write two times, as in between: {_WINDOW}")
    first, second = (each for each in match.groups() if each is not None)
    start, end = _time(first), _time(second)
    if start == end:
        raise ScheduleError(f"no time is between {first} and {second}: leave between out for the whole day")
    return Window(start, end)


def _time(text: str) -> time:
    match = re.fullmatch(r"(\d{1,2}):(\d{2})", text)
    if match is None:
        raise ScheduleError(f"{text!r} is not a time of the day: write hours and minutes, as in 20:00")
    hour, minute = int(match.group(1)), int(match.group(2))
    if (hour, minute) == (24, 0):
        return time(0)
    if hour > 23 or minute > 59:
        raise ScheduleError(f"{text} is no time of the day: write 00:00 to 24:00")
    return time(hour, minute)


def read_dates(text: str) -> list[date]:
    """``2026-12-24``, ``2026-12-24 to 2027-01-01``. :raises ScheduleError: neither."""
    ends = [_date(each.strip()) for each in re.split(r"\s+(?:to|and)\s+", text)]
    if len(ends) > 2:
        raise ScheduleError(f"{text!r}: write two dates, as in 2026-12-24 to 2027-01-01")
    days = (ends[-1] - ends[0]).days
    if days < 0:
        raise ScheduleError(f"{text!r} has its ends the wrong way round: write the earlier one first")
    if days > _DATES_MAX:
        raise ScheduleError(f"{text!r} is longer than a year: write shorter times")
    return [ends[0] + timedelta(days=day) for day in range(days + 1)]


def _date(text: str) -> date:
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
        hint = did_you_mean(text, _LONG_DAYS)
        hint = hint if "Did" in hint else " Write sat, 2026-12-24 or 2026-12-24 to 2027-01-01."
        raise ScheduleError(f"{text!r} is neither a day of the week nor a date.{hint}")
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ScheduleError(
            f"{text} is not in the calendar: write year-month-day, as in 2026-12-24"
        ) from None
