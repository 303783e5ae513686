"""What is there: the catalog's views, and what the services report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from hsm.api import metrics
from hsm.api.services import Record, Services
from hsm.api.shares import run_in_threadpool
from hsm.api.wire import flag, known, number, page, reply
from hsm.catalog import approvals, views
from hsm.catalog.views.overview import Sample
from hsm.catalog.views.sums import KeptSums

STUDY_KEYS = ("text", "patient_id", "name", "accession", "date", "uid", "modality", "tag", "hold")
PAGE_KEYS = ("limit", "offset")


class Reads:
    """The read-only half: catalog views and what the services report."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._sums = KeptSums(services.catalog.clock.monotonic)

    def gets(self) -> dict[str, Any]:
        return {
            "/metrics": self.metrics,
            "/v1/health": self.health,
            "/v1/status": self.status,
            "/v1/studies": self.studies,
            "/v1/studies/{uid}": self.study,
            "/v1/studies/{uid}/copies": self.locate,
            "/v1/studies/{uid}/history": self.history,
            "/v1/queue": self.queue,
            "/v1/queue/{pk}": self.request,
            "/v1/recalls": self.progress,
            "/v1/volumes": self.volumes,
            "/v1/volumes/{barcode}": self.volume,
            "/v1/mounts": self.mounts,
            "/v1/runs": self.runs,
            "/v1/decisions": self.decisions,
        }

    def posts(self) -> dict[str, Any]:
        return {}

    def _view(self, ask: Callable[[Session], Any]) -> Any:
        with self._services.catalog.read() as session:
            return ask(session)

    def _overview(self) -> Record:
        pools = self._services.pools()
        found: Record = self._view(lambda session: views.overview(session, pools, self._sums.of(session)))
        now = self._services.catalog.clock.now()
        waiting = self._view(lambda session: approvals.waiting_total(session, now))
        return {"daemon": self._services.daemon.status(), "approvals_waiting": waiting, **found}

    async def status(self, request: Request) -> Response:
        known(request)
        return reply(await run_in_threadpool(self._overview))

    async def metrics(self, request: Request) -> Response:
        shown = await run_in_threadpool(self._overview)
        pools = await run_in_threadpool(self._services.storage.listing)
        waiting = Sample("hsm_approvals_waiting", (), shown["approvals_waiting"])
        lines = [waiting, *_daemon_samples(shown["daemon"]), *_volume_samples(pools), *views.samples(shown)]
        return PlainTextResponse(metrics.render(lines), media_type=metrics.CONTENT_TYPE)

    async def health(self, request: Request) -> Response:
        """Alive, without a look at the catalog."""
        return reply({"ok": True})

    async def studies(self, request: Request) -> Response:
        given = known(request, *STUDY_KEYS, *PAGE_KEYS)
        wanted = views.StudyFilter(**{key: given[key] for key in STUDY_KEYS})
        reach, rows = self._services.reach, page(given)
        return reply(await self._read(lambda session: views.find_studies(session, wanted, rows, reach())))

    async def study(self, request: Request) -> Response:
        known(request)
        uid, reach = request.path_params["uid"], self._services.reach
        return reply(await self._read(lambda session: views.study(session, uid, reach())))

    async def locate(self, request: Request) -> Response:
        known(request)
        uid, reach = request.path_params["uid"], self._services.reach
        return reply(await self._read(lambda session: views.locate(session, uid, reach())))

    async def history(self, request: Request) -> Response:
        rows = page(known(request, *PAGE_KEYS))
        uid = request.path_params["uid"]
        return reply(await self._read(lambda session: views.history(session, uid, rows)))

    async def queue(self, request: Request) -> Response:
        given = known(request, "kind", "state", "study", *PAGE_KEYS)
        rows = page(given)
        found = await self._read(
            lambda session: views.queue(
                session, rows, kind=given["kind"], state=given["state"], uid=given["study"]
            )
        )
        return reply(await run_in_threadpool(self._with_turns, found))

    async def request(self, request: Request) -> Response:
        known(request)
        pk = number(request.path_params["pk"], "request")
        found = await self._read(lambda session: views.request(session, pk))
        return reply((await run_in_threadpool(self._with_turns, [found]))[0])

    def _with_turns(self, found: Sequence[Record]) -> list[Record]:
        """Each live request with its turn at a drive; None where it needs none now."""
        live = [row["id"] for row in found if row["state"] in ("queued", "active")]
        turns = dict(self._services.turns(live)) if live else {}
        turns |= {row["id"]: _waiting(row) for row in found if row["state"] == "waiting"}
        return [row | {"turn": turns.get(row["id"])} for row in found]

    async def volumes(self, request: Request) -> Response:
        given = known(request, "pool", "state", "place", *PAGE_KEYS)
        rows = page(given)
        return reply(
            await self._read(
                lambda session: views.volumes(
                    session, rows, pool=given["pool"], state=given["state"], place=given["place"]
                )
            )
        )

    async def volume(self, request: Request) -> Response:
        rows = page(known(request, *PAGE_KEYS))
        name = request.path_params["barcode"]
        return reply(await self._read(lambda session: views.volume(session, name, rows)))

    async def mounts(self, request: Request) -> Response:
        given = known(request, "all", *PAGE_KEYS)
        every, rows, now = flag(given["all"], "all"), page(given), self._services.catalog.clock.now()
        shown = await self._read(lambda session: views.mounts(session, now, every=every, page=rows))
        return reply([{key: value for key, value in each.items() if key != "volume_pk"} for each in shown])

    async def runs(self, request: Request) -> Response:
        given = known(request, "policy", *PAGE_KEYS)
        rows = page(given)
        return reply(await self._read(lambda session: views.runs(session, rows, policy=given["policy"])))

    async def decisions(self, request: Request) -> Response:
        given = known(request, "run", "study", *PAGE_KEYS)
        rows, run = page(given), number(given["run"], "run") if given["run"] else None
        return reply(
            await self._read(lambda session: views.decisions(session, rows, run=run, uid=given["study"]))
        )

    async def progress(self, request: Request) -> Response:
        given = known(request, "requests")["requests"]
        pks = [number(text, "request") for text in given.split(",") if text]
        return reply(await run_in_threadpool(self._services.recall.progress, pks))

    async def _read(self, ask: Callable[[Session], Any]) -> Any:
        return await run_in_threadpool(self._view, ask)


def _waiting(row: Record) -> Record:
    """The turn of a request whose volume a person must bring first."""
    nothing = dict.fromkeys(("position", "library", "drive", "starts_at", "finishes_at"))
    why = f"waits for an operator: {row['error'] or row['place']}"
    return nothing | {"volume": row["volume"], "why": why, "ahead": [], "ahead_total": 0}


def _daemon_samples(status: Record) -> list[Sample]:
    found = [Sample("hsm_up", (), 1), Sample("hsm_problems", (), len(status.get("problems", ())))]
    started = status.get("started_at")
    if isinstance(started, datetime):
        found.append(Sample("hsm_start_time_seconds", (), started.timestamp()))
    if "drives" in status:
        off = sum(not drive.get("in_service", True) for drive in status["drives"])
        found.append(Sample("hsm_drives_out_of_service", (), off))
    if "associations" in status:
        found.append(Sample("hsm_associations", (), status["associations"]))
    return found


def _volume_samples(pools: list[Record]) -> Iterator[Sample]:
    """Volumes that need no drive: whether they can be used, and how much room they have."""
    every = [(pool["name"], each) for pool in pools for each in pool["volumes"]]
    worth = {"in service": 1.0, "takes no writes": 0.5}
    for pool, each in every:
        label = (("pool", pool), ("volume", each["name"]))
        yield Sample("hsm_volume_in_service", label, worth.get(each["state"], 0.0))
    readings = [(pool, each["name"], figure) for pool, each in every for figure in each.get("figures", ())]
    for name in sorted({figure["name"] for _, _, figure in readings}):
        for pool, volume, figure in readings:
            if figure["name"] == name:
                label = (("pool", pool), ("volume", volume), *figure["labels"].items())
                yield Sample(f"hsm_volume_device_{name}", label, figure["value"])
    for pool, each in every:
        if each["free"] is not None:
            yield Sample("hsm_volume_free_bytes", (("pool", pool), ("volume", each["name"])), each["free"])
