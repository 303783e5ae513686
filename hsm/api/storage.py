"""Pools: what they are, whether they can be used, trying one, and emptying a volume."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from hsm.api.identity import actor
from hsm.api.services import Record, Services
from hsm.api.shares import run_in_threadpool
from hsm.api.wire import body, known, reply


class StoragePaths:
    """The paths below ``/v1/pools``, and ``/v1/volumes/NAME/drain``."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def gets(self) -> dict[str, Any]:
        return {"/v1/pools": self.listing, "/v1/pools/{name}": self.show}

    def posts(self) -> dict[str, Any]:
        volume = "/v1/volumes/{barcode}"
        return {
            "/v1/pools/{name}/test": self.test,
            f"{volume}/drain": self.drain,
            f"{volume}/drain/stop": self.stop_drain,
        }

    async def listing(self, request: Request) -> Response:
        known(request)
        return reply(await run_in_threadpool(self._services.storage.listing))

    async def show(self, request: Request) -> Response:
        known(request)
        return reply(await run_in_threadpool(self._services.storage.show, request.path_params["name"]))

    async def test(self, request: Request) -> Response:
        """``{volume}``, or all volumes of the pool."""
        given = await body(request, {}, {"volume": str, "by": str})
        name, volume = request.path_params["name"], given.get("volume", "")
        return reply(await run_in_threadpool(self._services.storage.test, name, volume))

    async def drain(self, request: Request) -> Response:
        return await self._on_volume(request, self._services.storage.drain, 202)

    async def stop_drain(self, request: Request) -> Response:
        return await self._on_volume(request, self._services.storage.stop_drain, 200)

    async def _on_volume(self, request: Request, act: Callable[[str, str], Record], status: int) -> Response:
        given = await body(request, {}, {"by": str})
        who = actor(request, given.get("by", ""))
        return reply(await run_in_threadpool(act, request.path_params["barcode"], who), status)
