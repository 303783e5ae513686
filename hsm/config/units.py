"""Sizes and durations as people write them: ``20 GiB``, ``1.5 TB``, ``10 min``."""

from __future__ import annotations

import re
from decimal import Decimal

SIZE_MAX_BYTES = 2**63 - 1
DURATION_MAX_SECONDS = 100 * 366 * 86400.0

_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]+)")

_SIZES = {
    "B": 1,
    "kB": 1000,
    "KB": 1000,
    **{f"{prefix}B": 1000**power for power, prefix in enumerate("MGTP", start=2)},
    **{f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGTP", start=1)},
}

_DURATIONS = {
    name: factor
    for factor, names in (
        (Decimal("0.001"), ("ms",)),
        (Decimal(1), ("s", "sec", "second", "seconds")),
        (Decimal(60), ("m", "min", "minute", "minutes")),
        (Decimal(3600), ("h", "hour", "hours")),
        (Decimal(86400), ("d", "day", "days")),
        (Decimal(7 * 86400), ("week", "weeks")),
        (Decimal(365 * 86400), ("y", "year", "years")),
    )
    for name in names
}


def parse_size(value: object) -> int:
    """Bytes from a whole number or from text such as ``20 GiB`` (1024s) or ``1.5 TB`` (1000s).

    A fraction of a byte is dropped.

    :raises ValueError: another type, an unknown unit, negative, or beyond 8 EiB.
    """
    expected = "expected a size: whole bytes, or a number with B, kB, MB, GB, TB, KiB, MiB, GiB or TiB"
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"{expected}; found {value!r}")  # noqa: TRY004 - pydantic wants a ValueError
    if isinstance(value, int):
        size = value
    else:
        match = _QUANTITY.fullmatch(value.strip())
        if match is None or match[2] not in _SIZES:
            raise ValueError(f"{expected}; found {value!r}")
        size = int(Decimal(match[1]) * _SIZES[match[2]])
    if not 0 <= size <= SIZE_MAX_BYTES:
        raise ValueError(f"{expected}, from 0 to 8 EiB; found {value!r}")
    return size


def parse_duration(value: object) -> float:
    """Seconds from a number or from text such as ``10 min``, ``1.5 h`` or ``2 days``.

    :raises ValueError: another type, an unknown unit, negative, infinite, or beyond 100 years.
    """
    expected = "expected a duration: seconds, or a number with ms, s, min, h, days or years"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{expected}; found {value!r}")  # noqa: TRY004 - pydantic wants a ValueError
    if isinstance(value, str):
        match = _QUANTITY.fullmatch(value.strip())
        if match is None or match[2] not in _DURATIONS:
            raise ValueError(f"{expected}; found {value!r}")
        seconds = float(Decimal(match[1]) * _DURATIONS[match[2]])
    else:
        seconds = float(value)
    if not 0 <= seconds <= DURATION_MAX_SECONDS:
        raise ValueError(f"{expected}, from 0 to 100 years; found {value!r}")
    return seconds
