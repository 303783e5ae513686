"""Whether what was stored is still there: copies read back on demand, and the state of the media."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from hsm.api.identity import actor
from hsm.api.services import Services
from hsm.api.shares import run_in_threadpool
from hsm.api.wire import body, known, number, reply
from hsm.audit.verify import AskedFor
from hsm.errors import BadInput

STUDIES = 100
STUDIES_MAX = 100_000
"""Studies of one volume that an answer names at most."""


class FixityPaths:
    """The paths below ``/v1/audit`` that are about media."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def gets(self) -> dict[str, Any]:
        return {"/v1/audit/media": self.media, "/v1/audit/media/{barcode}": self.medium}

    def posts(self) -> dict[str, Any]:
        """The second is one because it carries numbers; it changes nothing."""
        return {"/v1/audit/verify": self.verify, "/v1/audit/verify/progress": self.progress}

    async def verify(self, request: Request) -> Response:
        """``{study}``, ``{volume}`` or ``{percent}``, with ``pool`` and ``urgent``."""
        given = await body(
            request,
            {},
            {"study": str, "volume": str, "percent": object, "pool": str, "urgent": bool, "by": str},
        )
        percent = given.get("percent", 0)
        if isinstance(percent, bool) or not isinstance(percent, int | float):
            raise BadInput("percent: expected a number")
        asked = AskedFor(
            given.get("study", ""),
            given.get("volume", ""),
            float(percent),
            given.get("pool", ""),
            given.get("urgent", False),
        )
        by = actor(request, given.get("by", ""))
        return reply(await run_in_threadpool(self._services.audit.verify, asked, by))

    async def progress(self, request: Request) -> Response:
        """``{requests: [number, ...]}``."""
        given = await body(request, {"requests": list}, {"by": str})
        numbers = [number(str(each), "requests") for each in given["requests"]]
        return reply(await run_in_threadpool(self._services.audit.verified, numbers))

    async def media(self, request: Request) -> Response:
        """Every volume."""
        known(request)
        return reply(await run_in_threadpool(self._services.audit.media))

    async def medium(self, request: Request) -> Response:
        """One volume, and the studies that depend on it; ``limit`` (studies named)."""
        given = known(request, "limit")
        limit = number(given["limit"], "limit") if given["limit"] else STUDIES
        if limit > STUDIES_MAX:
            raise BadInput(f"limit {limit}: expected at most {STUDIES_MAX}")
        barcode = request.path_params["barcode"]
        return reply(await run_in_threadpool(self._services.audit.medium, barcode, limit))
