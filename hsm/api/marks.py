"""What people say of a study, over the API: holds, tags, retention; and who read it."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from hsm.api.identity import actor
from hsm.api.services import Record, Services
from hsm.api.shares import run_in_threadpool
from hsm.api.wire import body, known, page, reply
from hsm.catalog import history, marks
from hsm.catalog.views import Page
from hsm.errors import BadInput


class Marks:
    """Reads and acts about what people say of studies."""

    def __init__(self, services: Services) -> None:
        self._catalog = services.catalog

    def gets(self) -> dict[str, Any]:
        return {"/v1/studies/{uid}/accesses": self.accesses, "/v1/holds": self.holds}

    def posts(self) -> dict[str, Any]:
        study = "/v1/studies/{uid}"
        return {
            f"{study}/hold": self.hold,
            f"{study}/unhold": self.unhold,
            f"{study}/tags": self.tags,
            f"{study}/retention": self.retention,
        }

    async def holds(self, request: Request) -> Response:
        """The studies under legal hold, the last placed first."""
        rows = page(known(request, "limit", "offset"))
        return reply(await run_in_threadpool(self._holds, rows))

    def _holds(self, rows: Page) -> list[Record]:
        with self._catalog.read() as session:
            found = marks.held(session, rows.limit, rows.offset)
        return [
            {"study": uid, "placed_at": hold.placed_at, "placed_by": hold.placed_by, "reason": hold.reason}
            for uid, hold in found
        ]

    async def accesses(self, request: Request) -> Response:
        """Who retrieved or found one study, the last first."""
        rows = page(known(request, "limit"))
        uid = request.path_params["uid"]
        return reply(await run_in_threadpool(self._accesses, uid, rows.limit))

    def _accesses(self, uid: str, limit: int) -> list[Record]:
        with self._catalog.read() as session:
            found = history.recent(session, uid, limit)
        return [
            {
                "at": each.at,
                "kind": each.kind,
                "times": each.times,
                "ae": each.ae,
                "tier": each.tier,
                "bytes": each.bytes,
                "waited_seconds": round(each.waited_seconds, 3),
                "daily": each.daily,
            }
            for each in found
        ]

    async def hold(self, request: Request) -> Response:
        given = await body(request, {"reason": str}, {"by": str})
        who = actor(request, given.get("by", ""))
        return reply(await run_in_threadpool(self._hold, request.path_params["uid"], given["reason"], who))

    def _hold(self, uid: str, reason: str, by: str) -> None:
        with self._catalog.write() as session:
            marks.place_hold(session, uid, reason, self._catalog.clock.now(), by)

    async def unhold(self, request: Request) -> Response:
        given = await body(request, {"reason": str}, {"by": str})
        who = actor(request, given.get("by", ""))
        return reply(await run_in_threadpool(self._unhold, request.path_params["uid"], given["reason"], who))

    def _unhold(self, uid: str, reason: str, by: str) -> None:
        with self._catalog.write() as session:
            marks.lift_hold(session, uid, reason, self._catalog.clock.now(), by)

    async def tags(self, request: Request) -> Response:
        """``{add: [...], remove: [...]}`` -> ``{tags: [...]}``, those that the study has then."""
        given = await body(request, {}, {"add": list, "remove": list, "by": str})
        add, remove = _texts(given, "add"), _texts(given, "remove")
        if not add and not remove:
            raise BadInput("missing: add or remove")
        who = actor(request, given.get("by", ""))
        found = await run_in_threadpool(self._tag, request.path_params["uid"], add, remove, who)
        return reply({"tags": list(found)})

    def _tag(self, uid: str, add: list[str], remove: list[str], by: str) -> tuple[str, ...]:
        with self._catalog.write() as session:
            return marks.tag(session, uid, self._catalog.clock.now(), by, add=add, remove=remove)

    async def retention(self, request: Request) -> Response:
        """``{until: YYYYMMDD, reason}``; without ``until`` the retention ends."""
        given = await body(request, {"reason": str}, {"until": str, "by": str})
        who = actor(request, given.get("by", ""))
        uid, until = request.path_params["uid"], given.get("until") or ""
        return reply(await run_in_threadpool(self._retain, uid, until, given["reason"], who))

    def _retain(self, uid: str, until: str, reason: str, by: str) -> None:
        with self._catalog.write() as session:
            marks.retain(session, uid, until, reason, self._catalog.clock.now(), by)


def _texts(given: dict[str, Any], name: str) -> list[str]:
    found = given.get(name) or []
    if not all(isinstance(each, str) for each in found):
        raise BadInput(f"{name}: expected a list of tags")
    return list(found)
