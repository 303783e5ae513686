"""The paths of consoles, scripts and scanners: what a person is asked for, and the answers."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from hsm.api.identity import actor
from hsm.api.services import Services
from hsm.api.shares import run_in_threadpool
from hsm.api.wire import body, flag, known, page, reply
from hsm.errors import BadInput
from hsm.states import Outcome

SECONDS_MAX = 7 * 86400
OUTCOMES = {
    "done": Outcome.DONE,
    "refuse": Outcome.REFUSED,
    "cannot-find": Outcome.CANNOT_FIND,
    "damaged": Outcome.DAMAGED,
    "wrong-site": Outcome.WRONG_SITE,
    "substitute": Outcome.SUBSTITUTED,
}
"""The last part of the path of each answer."""


class OperatorPaths:
    """Prompts, walks, answers and scanned barcodes."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def gets(self) -> dict[str, Any]:
        return {"/v1/operator/prompts": self.prompts, "/v1/operator/picklist": self.picklist}

    def posts(self) -> dict[str, Any]:
        prompt = "/v1/operator/prompts/{barcode}"
        return {
            "/v1/operator/scan": self.scan,
            f"{prompt}/ack": self.acknowledge,
            f"{prompt}/release": self.release,
            f"{prompt}/{{answer}}": self.answer,
        }

    async def prompts(self, request: Request) -> Response:
        given = known(request, "all", "limit", "offset")
        every, rows = flag(given["all"], "all"), page(given)
        ask = self._services.operators.prompts
        return reply(await run_in_threadpool(lambda: ask(every=every, page=rows)))

    async def picklist(self, request: Request) -> Response:
        known(request)
        return reply(await run_in_threadpool(self._services.operators.picklist))

    async def acknowledge(self, request: Request) -> Response:
        """``{seconds, take}``: seconds until it counts no longer, take although somebody else has gone."""
        given = await body(request, {}, {"seconds": int, "take": bool, "by": str})
        seconds = given.get("seconds")
        if seconds is not None and not 1 <= seconds <= SECONDS_MAX:
            raise BadInput(f"seconds {seconds}: expected 1 to {SECONDS_MAX}")
        who, barcode = actor(request, given.get("by", "")), request.path_params["barcode"]
        act, take = self._services.operators.acknowledge, given.get("take", False)
        return reply(await run_in_threadpool(lambda: act(barcode, who, seconds, take=take)))

    async def release(self, request: Request) -> Response:
        given = await body(request, {}, {"by": str})
        who = actor(request, given.get("by", ""))
        act = self._services.operators.release
        return reply(await run_in_threadpool(act, request.path_params["barcode"], who))

    async def answer(self, request: Request) -> Response:
        """``{comment, id, site, volume}``: id is the prompt's, site of wrong-site, volume of substitute."""
        word = request.path_params["answer"]
        if word not in OUTCOMES:
            raise BadInput(f"answer {word[:40]!r}: expected one of {', '.join(OUTCOMES)}")
        required = {"volume": str} if word == "substitute" else {"comment": str} if word == "refuse" else {}
        texts = dict.fromkeys(("comment", "site", "volume", "by"), str)
        given = await body(request, required, {**texts, "id": int})
        who, barcode = actor(request, given.get("by", "")), request.path_params["barcode"]
        act = self._services.operators.answer
        return reply(
            await run_in_threadpool(
                lambda: act(
                    barcode,
                    OUTCOMES[word],
                    who,
                    given.get("comment", ""),
                    number=given.get("id"),
                    site=given.get("site", ""),
                    instead=given.get("volume", ""),
                )
            )
        )

    async def scan(self, request: Request) -> Response:
        given = await body(request, {"barcode": str}, {"by": str})
        who = actor(request, given.get("by", ""))
        return reply(await run_in_threadpool(self._services.operators.scan, given["barcode"], who))
