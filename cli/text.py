"""Values as people read them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_STEPS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def clean(value: object) -> str:
    """``value`` as text that cannot steer a terminal: a peer chose what stands in a dataset."""
    text = "" if value is None else str(value)
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def size(count: int | None) -> str:
    """Bytes with a binary unit: ``0 B``, ``1.5 KiB``, ``20 GiB``; empty for None."""
    if count is None:
        return ""
    number, unit = float(count), 0
    while abs(number) >= 1024 and unit < len(_UNITS) - 1:
        number, unit = number / 1024, unit + 1
    shown = f"{number:.0f}" if unit == 0 or abs(number) >= 100 else f"{number:.3g}"
    return f"{shown} {_UNITS[unit]}"


def span(seconds: float) -> str:
    """A length of time in its largest unit: ``3 d``, ``2 h``, ``5 min``, ``0 s``."""
    for step, unit in _STEPS:
        if abs(seconds) >= step:
            return f"{int(seconds // step)} {unit}"
    return "0 s"


def parse_time(text: str) -> datetime:
    """A time as the API says it."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def age(text: str | None, now: datetime) -> str:
    """How long ago an API time was; empty for None."""
    return "" if not text else span(max(0.0, (now - parse_time(text)).total_seconds()))


def local(text: str | None) -> str:
    """An API time in the local zone, to the second; empty for None."""
    return "" if not text else f"{parse_time(text).astimezone():%Y-%m-%d %H:%M:%S}"


def day(dicom: str) -> str:
    """``20240110`` as ``2024-01-10``; anything else as it is."""
    if len(dicom) == 8 and dicom.isascii() and dicom.isdigit():
        return f"{dicom[:4]}-{dicom[4:6]}-{dicom[6:]}"
    return clean(dicom)


def short(text: str | None, width: int) -> str:
    """``text`` with its middle left out, so that both telling ends of a UID stay."""
    text = clean(text)
    if len(text) <= width:
        return text
    tail = (width - 1) * 2 // 3
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


def head(text: str, width: int) -> str:
    """The beginning of ``text``."""
    text = clean(text)
    return text if len(text) <= width else f"{text[: width - 1]}…"


def counts(numbers: Mapping[str, int]) -> str:
    """``{"verified": 3, "suspect": 1}`` as ``3 verified, 1 suspect``."""
    return ", ".join(f"{count} {clean(name)}" for name, count in numbers.items() if count)


def plural(count: int, noun: str, many: str = "") -> str:
    """``1 study``, ``2 studies``."""
    return f"{count} {noun if count == 1 else many or noun + 's'}"


def words(value: Any) -> str:
    """Any answer's value on one line."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{clean(key)} {words(item)}" for key, item in value.items()) or "-"
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ", ".join(words(item) for item in value) or "-"
    return clean(value)


def now() -> datetime:
    return datetime.now(UTC)
