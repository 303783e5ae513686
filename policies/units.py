"""Quantities: durations, sizes and percentages, read from text and said in words.

Durations are calendar-free: a week is 7 days, a month 30 days, a year 365 days.
"""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal

from policies.errors import did_you_mean

_SECOND = 1_000_000
_DAY = 86_400 * _SECOND
LONGEST = timedelta(days=365 * 1000)
LARGEST = 2**63 - 1
"""The largest size and count: what a database's BIGINT holds."""

_DURATIONS: dict[str, int] = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), _SECOND),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 60 * _SECOND),
    **dict.fromkeys(("h", "hour", "hours"), 3600 * _SECOND),
    **dict.fromkeys(("d", "day", "days"), _DAY),
    **dict.fromkeys(("w", "week", "weeks"), 7 * _DAY),
    **dict.fromkeys(("month", "months"), 30 * _DAY),
    **dict.fromkeys(("y", "year", "years"), 365 * _DAY),
}
_SIZES: dict[str, int] = {
    "B": 1,
    "byte": 1,
    "bytes": 1,
    **{f"{prefix}B": 1000**power for power, prefix in enumerate("kMGTP", start=1)},
    **{f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGTP", start=1)},
}
_SIZES_FOLDED = {unit.lower(): factor for unit, factor in _SIZES.items()}


class UnitError(ValueError):
    """A quantity that cannot be read; the message says what to write."""


def is_duration_unit(unit: str) -> bool:
    return unit.lower() in _DURATIONS


def is_size_unit(unit: str) -> bool:
    return unit.lower() in _SIZES_FOLDED


def duration(number: Decimal, unit: str) -> timedelta:
    """``number`` of ``unit``, to the microsecond.

    :raises UnitError: no such unit of time, or longer than 1000 years.
    """
    if unit.lower() == "m":
        raise UnitError("'m' may be minutes or months: write min or months.")
    factor = _DURATIONS.get(unit.lower())
    if factor is None:
        if is_size_unit(unit):
            raise UnitError(f"{unit} is a size; expected a length of time such as 90d or 10 minutes.")
        known = ("seconds", "minutes", "hours", "days", "weeks", "months", "years", "min", "h", "d")
        raise UnitError(f"{unit!r} is not a unit of time.{did_you_mean(unit, known)}")
    micros = int(number * factor)
    if micros > LONGEST // timedelta(microseconds=1):
        raise UnitError(f"{number} {unit} is longer than 1000 years: write a shorter time.")
    return timedelta(microseconds=micros)


def size(number: Decimal, unit: str) -> int:
    """``number`` of ``unit`` in bytes, rounded down.

    :raises UnitError: no such unit of size, or more than 2^63 - 1 bytes.
    """
    factor = _SIZES_FOLDED.get(unit.lower())
    if factor is None:
        if is_duration_unit(unit):
            raise UnitError(f"{unit} is a length of time; expected a size such as 500 MB or 1.5 TiB.")
        long = re.fullmatch(r"(kilo|mega|giga|tera|peta|kibi|mebi|gibi|tebi|pebi)bytes?", unit.lower())
        if long is not None:
            prefix = long.group(1)
            short = prefix[0].upper() + "iB" if prefix.endswith("bi") else prefix[0].upper() + "B"
            raise UnitError(f"{unit!r} is not a unit of size. Did you mean '{short.replace('KB', 'kB')}'?")
        known = [name for name in _SIZES if name not in ("byte", "bytes")]
        raise UnitError(f"{unit!r} is not a unit of size.{did_you_mean(unit, known)}")
    value = int(number * factor)
    if value > LARGEST:
        raise UnitError(f"{number} {unit} is more than any archive holds: write at most 9000 PB.")
    return value


def read_duration(text: str) -> timedelta:
    """``24h``, ``1.5 days``. :raises UnitError: not a number and a unit of time above 0."""
    match = re.fullmatch(r"\s*([0-9]{1,15}(?:\.[0-9]+)?)\s*([A-Za-z]+)\s*", text)
    if match is None:
        raise UnitError(f"{text.strip()!r} is not a length of time: write a number and a unit, as in 24h")
    found = duration(Decimal(match.group(1)), match.group(2))
    if not found:
        raise UnitError(f"{text.strip()!r} is no time at all: write a time above 0, as in 24h")
    return found


_PER = {"s": 1, "sec": 1, "second": 1, "min": 60, "minute": 60, "h": 3600, "hour": 3600}


def rate(number: Decimal, unit: str) -> int:
    """``number`` of ``unit`` (``MB/s``) in bytes a second, rounded down.

    :raises UnitError: not a size and a time with / between them.
    """
    bits = re.fullmatch(r"([kKMG]?)(?:b/s|bps|bits?/s)", unit)
    if bits is not None:
        each = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}[bits.group(1).replace("K", "k")]
        megabytes = (number * each / 8 / 10**6).normalize()
        raise UnitError(f"{number} {unit} counts bits: write bytes, here {megabytes:f} MB/s.")
    amount, _, per = unit.partition("/")
    if per.lower() not in _PER:
        raise UnitError(f"'{unit}' is not a rate: write a size and a time, as in 200 MB/s.")
    return size(number, amount) // _PER[per.lower()]


def say_rate(value: float) -> str:
    """``200 MB/s``: bytes a second as tapes and networks are spoken of, in powers of 1000."""
    number, unit = float(value), "B"
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            break
        number /= 1000
    return f"{number:.3g} {unit}/s" if number < 1000 else f"{number:.0f} {unit}/s"


def say_duration(value: timedelta) -> str:
    """``61 d``, ``3 h``, ``10 min``, ``40 s``: the two largest units that are not zero."""
    seconds = int(value.total_seconds())
    if seconds < 0:
        return f"-{say_duration(-value)}"
    parts: list[str] = []
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, seconds = divmod(seconds, length)
        if count:
            parts.append(f"{count} {unit}")
        if len(parts) == 2:
            break
        if parts and (unit == "d" and count >= 10):
            break
    return " ".join(parts) or "0 s"


def say_size(value: float) -> str:
    """``1.5 TiB``, ``312 MiB``, ``17 B``."""
    number, unit = float(value), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if abs(number) < 1024 or unit == "PiB":
            break
        number /= 1024
    return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.3g} {unit}"


def say_fraction(value: float) -> str:
    """``85%``, ``85.4%``."""
    return f"{value * 100:.1f}".removesuffix(".0") + "%"
