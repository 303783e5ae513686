"""Deleting studies over the API, and what is in the trash."""

from __future__ import annotations

from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from hsm.api.caller import caller_of
from hsm.api.identity import actor
from hsm.api.services import Services
from hsm.api.shares import run_in_threadpool
from hsm.api.wire import body, flag, known, page, reply


class DeletionPaths:
    """What is asked of the trash."""

    def __init__(self, services: Services) -> None:
        self._trash = services.trash

    def gets(self) -> dict[str, Any]:
        return {"/v1/trash": self.trash, "/v1/rejections": self.rejections}

    def posts(self) -> dict[str, Any]:
        study = "/v1/studies/{uid}"
        return {
            f"{study}/delete": self.delete,
            f"{study}/undelete": self.undelete,
            f"{study}/unreject": self.unreject,
        }

    async def delete(self, request: Request) -> Response:
        """``{reason, refuse_late}``: into the trash."""
        given = await body(request, {"reason": str}, {"refuse_late": bool, "by": str})
        who, uid = actor(request, given.get("by", "")), request.path_params["uid"]
        act = partial(
            self._trash.delete,
            refuse_late=bool(given.get("refuse_late")),
            approved_by=caller_of(request).approved_by,
        )
        return reply(await run_in_threadpool(act, uid, given["reason"], who))

    async def undelete(self, request: Request) -> Response:
        given = await body(request, {"reason": str}, {"by": str})
        who, uid = actor(request, given.get("by", "")), request.path_params["uid"]
        return reply(await run_in_threadpool(self._trash.undelete, uid, given["reason"], who))

    async def unreject(self, request: Request) -> Response:
        """``{reason}``; with ``note`` only the rejection of that document."""
        given = await body(request, {"reason": str}, {"note": str, "by": str})
        who, uid = actor(request, given.get("by", "")), request.path_params["uid"]
        act = partial(self._trash.revoke, note=given.get("note", ""))
        return reply(await run_in_threadpool(act, uid, given["reason"], who))

    async def rejections(self, request: Request) -> Response:
        rows = page(known(request, "limit", "offset"))
        return reply(await run_in_threadpool(self._trash.rejections, rows.limit, rows.offset))

    async def trash(self, request: Request) -> Response:
        """With ``all=true`` also what has ended."""
        given = known(request, "all", "limit", "offset")
        rows, every = page(given), flag(given["all"], "all")
        listing = partial(self._trash.listing, every=every)
        return reply(await run_in_threadpool(listing, rows.limit, rows.offset))
