"""The paths of cartridges on their way, and of where each has been."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from hsm.api.identity import actor
from hsm.api.services import Services
from hsm.api.shares import run_in_threadpool
from hsm.api.wire import body, flag, known, number, page, reply
from hsm.catalog import views
from hsm.catalog.views import Page
from hsm.errors import BadInput


class MovementPaths:
    """Export and return in two phases."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def gets(self) -> dict[str, Any]:
        return {
            "/v1/movements": self.listing,
            "/v1/volumes/{barcode}/where": self.where,
            "/v1/volumes/{barcode}/history": self.history,
        }

    def posts(self) -> dict[str, Any]:
        one = "/v1/movements/{barcode}"
        return {
            "/v1/movements/export": self.export,
            "/v1/movements/return": self.bring_back,
            f"{one}/left": self.left,
            f"{one}/arrived": self.arrived,
            f"{one}/undo": self.undo,
        }

    async def listing(self, request: Request) -> Response:
        given = known(request, "list", "all")
        wanted = number(given["list"], "list") if given["list"] else 0
        every, ask = flag(given["all"], "all"), self._services.movements.listing
        return reply(await run_in_threadpool(lambda: ask(number=wanted, every=every)))

    async def where(self, request: Request) -> Response:
        known(request)
        return reply(await run_in_threadpool(self._view, views.where, request.path_params["barcode"]))

    async def history(self, request: Request) -> Response:
        rows: Page = page(known(request, "limit", "offset"))
        name = request.path_params["barcode"]
        return reply(await run_in_threadpool(self._view, views.volume_history, name, rows))

    def _view(self, ask: Callable[..., Any], *arguments: object) -> Any:
        with self._services.catalog.read() as session:
            return ask(session, *arguments)

    async def export(self, request: Request) -> Response:
        """``{barcodes, shelf, site, plan, force}``: plan only plans, the robot moves nothing yet; force lets
        go what recalls wait for."""
        flags = {"plan": bool, "force": bool}
        given = await body(request, {"barcodes": list, "shelf": str}, {"site": str, "by": str, **flags})
        who, barcodes = actor(request, given.get("by", "")), _barcodes(given)
        shelf, site = given["shelf"], given.get("site", "")
        plan, force = given.get("plan", False), given.get("force", False)
        act = self._services.movements.export
        return reply(
            await run_in_threadpool(lambda: act(barcodes, shelf, who, site, plan_only=plan, force=force))
        )

    async def bring_back(self, request: Request) -> Response:
        given = await body(request, {"barcodes": list}, {"by": str})
        who = actor(request, given.get("by", ""))
        return reply(await run_in_threadpool(self._services.movements.bring_back, _barcodes(given), who))

    async def left(self, request: Request) -> Response:
        return await self._step(request, self._services.movements.left)

    async def undo(self, request: Request) -> Response:
        return await self._step(request, self._services.movements.undo)

    async def arrived(self, request: Request) -> Response:
        """``{comment, shelf}``: shelf where it stands elsewhere than was planned."""
        given = await body(request, {}, {"comment": str, "shelf": str, "by": str})
        who, barcode = actor(request, given.get("by", "")), request.path_params["barcode"]
        act, shelf = self._services.movements.arrived, given.get("shelf", "")
        return reply(await run_in_threadpool(act, barcode, who, given.get("comment", ""), shelf))

    async def _step(self, request: Request, act: Callable[[str, str, str], Any]) -> Response:
        given = await body(request, {}, {"comment": str, "by": str})
        who, barcode = actor(request, given.get("by", "")), request.path_params["barcode"]
        return reply(await run_in_threadpool(act, barcode, who, given.get("comment", "")))


def _barcodes(given: dict[str, Any]) -> list[str]:
    found = given["barcodes"]
    if not all(isinstance(each, str) for each in found):
        raise BadInput("barcodes: expected a list of barcodes")
    return list(found)
