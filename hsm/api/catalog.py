"""Backups of the catalog, and rebuilds that are tried: the paths below ``/v1/catalog``."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from hsm.api.identity import actor
from hsm.api.services import Services
from hsm.api.shares import run_in_threadpool
from hsm.api.wire import body, reply
from hsm.errors import BadInput

KEEP_MAX = 10_000
SAMPLE_MAX = 1000


class CatalogPaths:
    """Both take as long as the media do."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def gets(self) -> dict[str, Any]:
        return {}

    def posts(self) -> dict[str, Any]:
        return {"/v1/catalog/backup": self.backup, "/v1/catalog/drill": self.drill}

    async def backup(self, request: Request) -> Response:
        """``{pool, keep}``: without keep nothing is dropped."""
        given = await body(request, {"pool": str}, {"keep": int, "by": str})
        keep, who = given.get("keep", 0), actor(request, given.get("by", ""))
        if not 0 <= keep <= KEEP_MAX:
            raise BadInput(f"keep {keep}: expected 0 to {KEEP_MAX}")
        return reply(await run_in_threadpool(self._services.backups.write, given["pool"], who, keep))

    async def drill(self, request: Request) -> Response:
        """``{sample, pool}``: so many volumes, of this pool or of all."""
        given = await body(request, {"sample": int}, {"pool": str, "by": str})
        sample, who = given["sample"], actor(request, given.get("by", ""))
        if not 1 <= sample <= SAMPLE_MAX:
            raise BadInput(f"sample {sample}: expected 1 to {SAMPLE_MAX}")
        act = self._services.drills.drill
        return reply(await run_in_threadpool(act, sample, given.get("pool", ""), who))
