"""Options of a driver family as plain values of the configuration, checked where they are used."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from drivers.errors import Permanent

_UNITS = {"": 1, "b": 1}
_UNITS |= {f"{prefix}b": 1000**power for power, prefix in enumerate("kmgtp", start=1)}
_UNITS |= {f"{prefix}ib": 1024**power for power, prefix in enumerate("kmgtp", start=1)}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.IGNORECASE)


def text(options: Mapping[str, Any], name: str, default: str | None = None) -> str | None:
    """A non-empty string."""
    value = options.get(name, default)
    if value is None or (isinstance(value, str) and value):
        return value
    raise Permanent(f"option {name}: {value!r}; expected text")


def count(options: Mapping[str, Any], name: str, least: int = 0) -> int | None:
    """A whole number of at least ``least``."""
    value = options.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise Permanent(f"option {name}: {value!r}; expected a whole number of at least {least}")
    return value


def factor(options: Mapping[str, Any], name: str, default: float) -> float:
    """A number that is not negative."""
    value = options.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise Permanent(f"option {name}: {value!r}; expected a number of at least 0")
    return float(value)


def flag(options: Mapping[str, Any], name: str, default: bool) -> bool:
    """True or false."""
    value = options.get(name, default)
    if not isinstance(value, bool):
        raise Permanent(f"option {name}: {value!r}; expected true or false")
    return value


def size(options: Mapping[str, Any], name: str) -> int | None:
    """Bytes: a whole number, or text such as ``"10 GiB"`` or ``"12 TB"``."""
    value = options.get(name)
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None or match[2].lower() not in _UNITS:
        raise Permanent(f'option {name}: {value!r}; expected bytes, or text such as "10 GiB"')
    return int(float(match[1]) * _UNITS[match[2].lower()])


def names(options: Mapping[str, Any], name: str) -> int | tuple[str, ...] | None:
    """A count, or a list of distinct strings."""
    value = options.get(name)
    if not isinstance(value, list | tuple):
        return count(options, name)
    if not all(isinstance(item, str) for item in value) or len(set(value)) != len(value):
        raise Permanent(f"option {name}: {value!r}; expected a number or a list of distinct names")
    return tuple(value)
