"""Moments as people name them: a date, a time, or how long ago (or ahead) it is. Pure."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from policies.units import UnitError, read_duration

EXPECTED = (
    "write a length such as 12h, 1d or 2w, a date such as 2026-11-01, or a time such as 2026-11-01T06:30 "
    "(local, or with its zone: 2026-11-01T06:30Z)"
)
_DAY = re.compile(r"[0-9]{8}|[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(
    _DAY.pattern + r"[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:?[0-9]{2})?"
)


def moment(text: str, now: datetime, *, ahead: bool = False) -> datetime:
    """The moment that ``text`` names, with a time zone: the local one where it names none. A date is its
    first instant.

    :param now: what a length is counted from; with a time zone.
    :param ahead: a length lies ahead; else it is so long ago.
    :raises ValueError: it cannot be read, or no calendar has it; the message names it.
    """
    words, shown = text.strip(), f"{text[:40]!r}"
    try:
        if _DAY.fullmatch(words) or _TIME.fullmatch(words):
            found = datetime.fromisoformat(words)
            return found if found.tzinfo is not None else found.astimezone()
        if words[:1].isdigit() and not re.match(r"[0-9]+[-:T]", words):
            length: timedelta = read_duration(words)
            return now + length if ahead else now - length
    except UnitError as error:
        raise ValueError(f"{shown}: {error}; {EXPECTED}") from error
    except OverflowError as error:
        raise ValueError(f"{shown} is beyond any calendar; {EXPECTED}") from error
    except ValueError as error:
        raise ValueError(f"{shown} is no moment: {error}; {EXPECTED}") from error
    raise ValueError(f"{shown} is no moment; {EXPECTED}")
