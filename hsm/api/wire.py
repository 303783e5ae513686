"""Between HTTP and values: query parameters, JSON bodies, JSON answers."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import PurePath
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from hsm.catalog.views import Page
from hsm.errors import BadInput

DEPTH_MAX = 20
INTEGER_MAX = 2**62
"""Room is left for what is added to it."""


def jsonable(value: Any) -> Any:
    """``value`` as JSON can say it: times in ISO 8601 with ``Z``, digests in hexadecimal.

    :raises TypeError: a value that has no agreed form.
    """
    if isinstance(value, enum.Enum):  # before str and int: a StrEnum is both
        return value.name.lower() if isinstance(value, enum.IntEnum) else value.value
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    if isinstance(value, date | PurePath):
        return str(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: jsonable(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value) if isinstance(value, set | frozenset) else value
        return [jsonable(item) for item in items]
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def reply(value: Any, status: int = 200) -> JSONResponse:
    """A success. Nothing to say is an empty object."""
    return JSONResponse({} if value is None else jsonable(value), status_code=status)


def known(request: Request, *names: str) -> dict[str, str]:
    """The query parameters, only those in ``names``; absent ones are empty.

    :raises BadInput: a parameter that is not in ``names``, or one given twice.
    """
    found = dict.fromkeys(names, "")
    for name, value in request.query_params.multi_items():
        if name not in found:
            raise BadInput(f"unknown parameter {name!r}: expected {', '.join(names) or 'none'}")
        if found[name]:
            raise BadInput(f"parameter {name!r} is given twice")
        found[name] = value
    return found


def number(text: str, what: str) -> int:
    """:raises BadInput: not a whole number that a database key can hold."""
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise BadInput(f"{what} {text[:40]!r}: expected a whole number")
    return int(text)


def flag(text: str, what: str) -> bool:
    """:raises BadInput: neither empty, true nor false."""
    if text not in ("", "true", "false"):
        raise BadInput(f"{what} {text[:40]!r}: expected true or false")
    return text == "true"


def page(parameters: Mapping[str, str]) -> Page:
    """The page that ``limit`` and ``offset`` name."""
    limit, offset = parameters.get("limit", ""), parameters.get("offset", "")
    default = Page()
    return Page(
        number(limit, "limit") if limit else default.limit,
        number(offset, "offset") if offset else default.offset,
    )


def parsed(raw: bytes) -> Any:
    """A body as JSON that everything behind can take: no number beyond a database's, no text that is none.

    :raises BadInput: it is none, or not such.
    """
    try:
        found = json.loads(raw, parse_constant=_no_number) if raw else {}
        _require_usable(found, 0)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"the body is not JSON that can be used: {str(error)[:200]}") from error
    return found


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _require_usable(value: Any, depth: int) -> None:
    if depth > DEPTH_MAX:
        raise ValueError(f"nested deeper than {DEPTH_MAX}")
    if isinstance(value, str):
        require_text(value)
    elif isinstance(value, int | float) and not -INTEGER_MAX <= value <= INTEGER_MAX:
        raise ValueError("a number is too large")
    elif isinstance(value, dict):
        for key, item in value.items():
            require_text(key)
            _require_usable(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _require_usable(item, depth + 1)


def require_text(text: str) -> None:
    """:raises ValueError: no catalog and no log can hold it."""
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("a text holds NUL or half a character")


async def body(
    request: Request, required: Mapping[str, type], optional: Mapping[str, type]
) -> dict[str, Any]:
    """The JSON object in the body, its members checked; absent optional ones are absent.

    :raises BadInput: not a JSON object, an unknown, missing or mistyped member.
    """
    found = parsed(await request.body())
    if not isinstance(found, dict):
        raise BadInput("the body is not a JSON object")
    allowed = {**required, **optional}
    for name, value in found.items():
        if name not in allowed:
            raise BadInput(f"unknown member {name!r}: expected {', '.join(allowed) or 'none'}")
        wanted = allowed[name]
        if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
            raise BadInput(f"{name}: expected {wanted.__name__}, not {type(value).__name__}")
    missing = [name for name in required if found.get(name) in (None, "")]
    if missing:
        raise BadInput(f"missing: {', '.join(missing)}")
    return found
