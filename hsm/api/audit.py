"""What an auditor asks: the paths below ``/v1/audit``."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from hsm.api.services import Services
from hsm.api.wire import known, number, reply
from hsm.audit.copies import GRACE, NAMED, Asked
from hsm.errors import BadInput
from policies.units import UnitError, read_duration

NAMED_MAX = 100_000
"""Studies that one answer names at most, of each policy."""


class AuditPaths:
    """Reading only; nothing is repaired here."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def gets(self) -> dict[str, Any]:
        return {"/v1/audit/copies": self.copies}

    async def copies(self, request: Request) -> Response:
        """``policy``, ``as_of`` (ISO 8601 with a zone), ``grace`` (a duration), ``limit`` (studies named)."""
        given = known(request, "policy", "as_of", "grace", "limit")
        limit = number(given["limit"], "limit") if given["limit"] else NAMED
        if limit > NAMED_MAX:
            raise BadInput(f"limit {limit}: expected at most {NAMED_MAX}")
        try:
            asked = Asked(
                given["policy"] or None,
                _moment(given["as_of"]),
                read_duration(given["grace"]) if given["grace"] else GRACE,
                limit,
            )
        except UnitError as error:
            raise BadInput(f"grace {given['grace'][:40]!r}: {error}") from error
        return reply(await run_in_threadpool(self._services.audit.copies, asked))


def _moment(text: str) -> datetime | None:
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadInput(f"as_of {text[:40]!r}: {error}") from error
    if found.tzinfo is None:
        raise BadInput(f"as_of {text[:40]!r} has no time zone: write 2026-11-01T06:00:00Z")
    return found
