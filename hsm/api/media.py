"""The paths about volumes and drives: what changes their lives, and what is known of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from hsm.api.identity import actor
from hsm.api.services import Services
from hsm.api.shares import run_in_threadpool
from hsm.api.wire import body, known, reply
from hsm.errors import BadInput
from hsm.repack import Wanted


class MediaPaths:
    """Volumes, drives and their errors."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def gets(self) -> dict[str, Any]:
        return {"/v1/library/{library}/report": self.report}

    def posts(self) -> dict[str, Any]:
        volume = "/v1/volumes/{barcode}"
        return {
            f"{volume}/label": self.label,
            f"{volume}/move": self.move,
            f"{volume}/verify": self.verify,
            f"{volume}/retire": self.retire,
            f"{volume}/recycle": self.recycle,
            f"{volume}/lost": self.lost,
            f"{volume}/scan": self.scan,
            "/v1/library/clean": self.clean,
            f"{volume}/repack/stop": self.stop_repack,
            "/v1/repacks": self.repack,
            "/v1/library/drive": self.drive,
        }

    async def label(self, request: Request) -> Response:
        """``{pool, overwrite}``: overwrite is the barcode once more, typed out."""
        given = await body(request, {}, {"pool": str, "overwrite": str, "by": str})
        return await self._on_volume(
            request,
            given,
            lambda barcode, by: self._services.volumes.label(
                barcode, given.get("pool", ""), by, given.get("overwrite", "")
            ),
        )

    async def move(self, request: Request) -> Response:
        given = await body(request, {"shelf": str}, {"by": str})
        return await self._on_volume(
            request, given, lambda barcode, by: self._services.volumes.move(barcode, given["shelf"], by)
        )

    async def verify(self, request: Request) -> Response:
        given = await body(request, {}, {"by": str})
        return await self._on_volume(request, given, self._services.volumes.verify)

    async def retire(self, request: Request) -> Response:
        return await self._end(request, self._services.volumes.retire)

    async def recycle(self, request: Request) -> Response:
        return await self._end(request, self._services.volumes.recycle)

    async def lost(self, request: Request) -> Response:
        given = await body(request, {"reason": str}, {"by": str})
        return await self._on_volume(
            request, given, lambda barcode, by: self._services.volumes.lost(barcode, by, given["reason"])
        )

    async def repack(self, request: Request) -> Response:
        """``{barcode}`` or ``{sparse}`` or ``{suspect}`` or ``{generation}``, with pool, then, dry_run."""
        given = await body(
            request,
            {},
            {
                **dict.fromkeys(("barcode", "generation", "pool", "then", "by"), str),
                "sparse": int,
                "suspect": bool,
                "dry_run": bool,
            },
        )
        wanted = Wanted(
            given.get("barcode", ""),
            given.get("sparse"),
            given.get("suspect", False),
            given.get("generation", ""),
            given.get("pool", ""),
            given.get("then", ""),
        )
        who, dry_run = actor(request, given.get("by", "")), given.get("dry_run", False)
        start = self._services.repack.start
        return reply(await run_in_threadpool(lambda: start(wanted, who, dry_run=dry_run)))

    async def scan(self, request: Request) -> Response:
        """``{adopt, pool}``: pool is where the cartridge of another archive belongs."""
        given = await body(request, {}, {"adopt": bool, "pool": str, "by": str})
        scan, adopt, pool = self._services.scan.scan, given.get("adopt", False), given.get("pool", "")
        return await self._on_volume(
            request, given, lambda barcode, by: scan(barcode, by, adopt=adopt, pool=pool)
        )

    async def clean(self, request: Request) -> Response:
        """``{library, drive}``: minutes."""
        given = await body(request, {"library": str, "drive": int}, {"by": str})
        who = actor(request, given.get("by", ""))
        clean = self._services.custody.clean
        return reply(await run_in_threadpool(clean, given["library"], given["drive"], who))

    async def stop_repack(self, request: Request) -> Response:
        given = await body(request, {}, {"by": str})
        return await self._on_volume(request, given, self._services.repack.stop)

    async def _end(self, request: Request, act: Callable[[str, str, str], Any]) -> Response:
        given = await body(request, {}, {"reason": str, "by": str})
        return await self._on_volume(
            request, given, lambda barcode, by: act(barcode, by, given.get("reason", ""))
        )

    async def _on_volume(
        self, request: Request, given: dict[str, Any], act: Callable[[str, str], Any]
    ) -> Response:
        who = actor(request, given.get("by", ""))
        return reply(await run_in_threadpool(act, request.path_params["barcode"], who))

    async def drive(self, request: Request) -> Response:
        """``{library, drive, state, reason}``: state is on or off."""
        given = await body(request, {"library": str, "drive": int, "state": str}, {"reason": str, "by": str})
        if given["state"] not in ("on", "off"):
            raise BadInput(f"state {given['state'][:40]!r}: expected on or off")
        who = actor(request, given.get("by", ""))
        reason = given.get("reason", "") or f"said {who}"
        return reply(
            await run_in_threadpool(
                self._services.drives.set_service,
                given["library"],
                given["drive"],
                given["state"] == "on",
                who,
                reason,
            )
        )

    async def report(self, request: Request) -> Response:
        known(request)
        return reply(await run_in_threadpool(self._services.drives.report, request.path_params["library"]))
