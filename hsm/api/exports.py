"""The paths of exports: patient discs and sticks."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from hsm.api.caller import caller_of
from hsm.api.identity import actor
from hsm.api.services import Services
from hsm.api.shares import run_in_threadpool
from hsm.api.wire import body, known, number, reply
from hsm.errors import BadInput, Refused
from hsm.model import check_uid


class ExportPaths:
    """Begin, show and cancel exports."""

    def __init__(self, services: Services) -> None:
        self._exports = services.exports

    def gets(self) -> dict[str, Any]:
        return {"/v1/exports/{pk}": self.show}

    def posts(self) -> dict[str, Any]:
        return {"/v1/exports": self.begin, "/v1/exports/{pk}/cancel": self.cancel}

    async def begin(self, request: Request) -> Response:
        """``{target, studies, anonymise, udf, by}`` -> the export's record.

        What the user at the other end of the socket may write counts, not what ``by`` says.
        """
        given = await body(
            request, {"target": str, "studies": list}, {"anonymise": bool, "udf": bool, "by": str}
        )
        studies = given["studies"]
        if not all(isinstance(uid, str) for uid in studies):
            raise BadInput("studies: expected Study Instance UIDs")
        uids = [check_uid(uid, "Study Instance UID") for uid in studies]
        user = caller_of(request).user
        if not user:
            raise Refused(
                "an export writes where its caller may write: ask for it on the archive's own machine"
            )
        who = actor(request, given.get("by", ""))

        def begin() -> Any:
            return self._exports.begin(
                given["target"],
                uids,
                user,
                who,
                anonymise=given.get("anonymise", False),
                udf=given.get("udf", False),
            )

        return reply(await run_in_threadpool(begin), 202)

    async def show(self, request: Request) -> Response:
        known(request)
        pk = number(request.path_params["pk"], "export")
        return reply(await run_in_threadpool(self._exports.show, pk))

    async def cancel(self, request: Request) -> Response:
        given = await body(request, {}, {"by": str})
        pk = number(request.path_params["pk"], "export")
        who = actor(request, given.get("by", ""))
        return reply(await run_in_threadpool(self._exports.cancel, pk, who))
