"""Options that name a moment: one way to write them for every command."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import typer

LENGTHS = "2026-11-01, 2026-11-01T06:30 (local time), or so long ago: 12h, 1d, 2w."
AHEAD = "2026-11-01, 20261101, or so long from now: 90d, 10 years."


def _ago(value: str | datetime) -> datetime:
    return _read(value, ahead=False)


def _ahead(value: str | datetime) -> datetime:
    return _read(value, ahead=True)


def _read(value: str | datetime, *, ahead: bool) -> datetime:
    from hsm.moments import moment  # heavy: only where a moment is named

    if isinstance(value, datetime):
        return value
    try:
        return moment(value, datetime.now().astimezone(), ahead=ahead)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def option(*names: str, help: str = "") -> Any:
    """An option that names a moment, mostly one that has been; see :func:`hsm.moments.moment`."""
    return typer.Option(*names, parser=_ago, metavar="WHEN", help=f"{help} {LENGTHS}".strip())


def option_ahead(*names: str, help: str = "") -> Any:
    """An option that names a day to come."""
    return typer.Option(*names, parser=_ahead, metavar="DAY", help=f"{help} {AHEAD}".strip())
