"""Prefetches from scheduled work, over the API."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from hsm.api.identity import actor
from hsm.api.services import Services
from hsm.api.shares import run_in_threadpool
from hsm.api.wire import body, known, reply
from hsm.errors import BadInput
from hsm.prefetch import AT_MOST, MARGIN, Wanted

TEXTS = ("issuer", "modality", "body_part", "accession")


class PrefetchPaths:
    """``/v1/prefetch`` and what is below it."""

    def __init__(self, services: Services) -> None:
        self._prefetches = services.prefetches

    def gets(self) -> dict[str, Any]:
        return {"/v1/prefetch/{key}": self.show}

    def posts(self) -> dict[str, Any]:
        return {"/v1/prefetch": self.ask, "/v1/prefetch/{key}/withdraw": self.withdraw}

    async def ask(self, request: Request) -> Response:
        """``{key, patient_id, scheduled}``; with ``issuer``, ``modality``, ``body_part``, ``accession``,
        ``margin_seconds``, ``at_most``."""
        given = await body(
            request,
            {"key": str, "patient_id": str, "scheduled": str},
            {**dict.fromkeys(TEXTS, str), "margin_seconds": int, "at_most": int, "by": str},
        )
        texts = {name: given.get(name, "") for name in TEXTS}
        wanted = Wanted(given["patient_id"], **texts, at_most=given.get("at_most", AT_MOST))
        margin = given.get("margin_seconds", int(MARGIN.total_seconds()))
        if not 0 <= margin <= 7 * 86400:
            raise BadInput(f"margin_seconds {margin}: expected 0 to {7 * 86400}")
        scheduled, who = _time(given["scheduled"]), actor(request, given.get("by", ""))
        ask = self._prefetches.ask
        return reply(
            await run_in_threadpool(ask, given["key"], wanted, scheduled, who, timedelta(seconds=margin)),
            202,
        )

    async def show(self, request: Request) -> Response:
        known(request)
        return reply(await run_in_threadpool(self._prefetches.show, request.path_params["key"]))

    async def withdraw(self, request: Request) -> Response:
        given = await body(request, {}, {"by": str})
        who = actor(request, given.get("by", ""))
        return reply(await run_in_threadpool(self._prefetches.withdraw, request.path_params["key"], who))


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise BadInput(
            f"scheduled {text[:40]!r}: expected a time such as 2026-03-01T08:30:00+01:00"
        ) from error
