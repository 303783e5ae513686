"""What changes something: each takes a JSON object and says in the journal who asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from hsm.api.identity import actor
from hsm.api.services import Services
from hsm.api.shares import run_in_threadpool
from hsm.api.wire import body, number, reply
from hsm.errors import BadInput
from hsm.model import Priority, check_uid

UIDS_MAX = 1000


class Acts:
    """The half that changes something."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def gets(self) -> dict[str, Any]:
        return {}

    def posts(self) -> dict[str, Any]:
        return {
            "/v1/recalls": self.recall,
            "/v1/queue/{pk}/cancel": self.cancel,
            "/v1/queue/{pk}/retry": self.retry,
            "/v1/library/inventory": self.inventory,
            "/v1/mounts/{barcode}/done": self.done,
            "/v1/mounts/{barcode}/refuse": self.refuse,
            "/v1/library/load": self.load,
            "/v1/library/unload": self.unload,
            "/v1/library/export": self.export,
            "/v1/library/import": self.import_,
            "/v1/reload": self.reload,
        }

    async def recall(self, request: Request) -> Response:
        """``{uids, priority, by}`` -> one record for each UID."""
        given = await body(request, {"uids": list}, {"priority": str, "by": str})
        uids = given["uids"]
        if not 1 <= len(uids) <= UIDS_MAX or not all(isinstance(uid, str) for uid in uids):
            raise BadInput(f"uids: expected 1 to {UIDS_MAX} UIDs")
        checked = [check_uid(uid, "UID") for uid in uids]
        priority = _priority(given.get("priority", "routine"))
        who = f"recall by {actor(request, given.get('by', ''))}"
        ask = self._services.recall.request_study
        found = await run_in_threadpool(lambda: [ask(uid, priority, who) for uid in checked])
        return reply(found, 202)

    async def cancel(self, request: Request) -> Response:
        return await self._on_request(request, self._services.queue.cancel)

    async def retry(self, request: Request) -> Response:
        return await self._on_request(request, self._services.queue.retry)

    async def _on_request(self, request: Request, act: Callable[[int, str], Any]) -> Response:
        given = await body(request, {}, {"by": str})
        pk = number(request.path_params["pk"], "request")
        return reply(await run_in_threadpool(act, pk, actor(request, given.get("by", ""))))

    async def inventory(self, request: Request) -> Response:
        """``{library}``, or all of them; what is seen changes the catalog's places."""
        given = await body(request, {}, {"library": str, "by": str})
        library = given.get("library") or None
        return reply(await run_in_threadpool(self._services.custody.inventory, library))

    async def done(self, request: Request) -> Response:
        given = await body(request, {}, {"by": str, "comment": str})
        return await self._answer(request, given, self._services.custody.operator_done)

    async def refuse(self, request: Request) -> Response:
        given = await body(request, {"comment": str}, {"by": str})
        return await self._answer(request, given, self._services.custody.operator_refuse)

    async def _answer(self, request: Request, given: dict[str, Any], act: Callable[..., Any]) -> Response:
        who = actor(request, given.get("by", ""))
        barcode, comment = request.path_params["barcode"], given.get("comment", "")
        return reply(await run_in_threadpool(act, barcode, who, comment))

    async def load(self, request: Request) -> Response:
        given = await body(request, {"barcode": str, "drive": int}, {"by": str})
        who = actor(request, given.get("by", ""))
        return reply(
            await run_in_threadpool(self._services.custody.load, given["barcode"], given["drive"], who)
        )

    async def unload(self, request: Request) -> Response:
        given = await body(request, {"library": str, "drive": int}, {"by": str})
        who = actor(request, given.get("by", ""))
        return reply(
            await run_in_threadpool(self._services.custody.unload, given["library"], given["drive"], who)
        )

    async def export(self, request: Request) -> Response:
        given = await body(request, {"barcode": str, "shelf": str}, {"by": str})
        who = actor(request, given.get("by", ""))
        return reply(
            await run_in_threadpool(self._services.custody.export, given["barcode"], given["shelf"], who)
        )

    async def import_(self, request: Request) -> Response:
        given = await body(request, {"barcode": str}, {"by": str})
        who = actor(request, given.get("by", ""))
        return reply(await run_in_threadpool(self._services.custody.import_, given["barcode"], who))

    async def reload(self, request: Request) -> Response:
        await body(request, {}, {"by": str})
        return reply(await run_in_threadpool(self._services.daemon.reload))


def _priority(name: str) -> Priority:
    allowed = {
        "stat": Priority.STAT,
        "routine": Priority.ROUTINE,
        "prefetch": Priority.PREFETCH,
        "bulk": Priority.BULK,
    }
    if name not in allowed:
        raise BadInput(f"priority {name!r}: expected one of {', '.join(allowed)}")
    return allowed[name]
