"""The paths and what each calls. Reading is GET; what changes something is POST."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from hsm.api import acts, metrics
from hsm.api.audit import AuditPaths
from hsm.api.exports import ExportPaths
from hsm.api.marks import Marks
from hsm.api.media import MediaPaths
from hsm.api.movements import MovementPaths
from hsm.api.operators import OperatorPaths
from hsm.api.policies import PolicyPaths
from hsm.api.prefetches import PrefetchPaths
from hsm.api.services import Record, Services
from hsm.api.storage import StoragePaths
from hsm.api.wire import flag, known, number, page, reply
from hsm.catalog import views
from hsm.catalog.views.overview import Sample
from hsm.errors import NotFound

STUDY_KEYS = ("text", "patient_id", "name", "accession", "date", "uid", "modality", "tag", "hold")
PAGE_KEYS = ("limit", "offset")


class Reads:
    """The read-only half: catalog views and what the services report."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def _view(self, ask: Callable[[Session], Any]) -> Any:
        with self._services.catalog.read() as session:
            return ask(session)

    def _overview(self) -> Record:
        pools = self._services.pools()
        found: Record = self._view(lambda session: views.overview(session, pools))
        return {"daemon": self._services.daemon.status(), **found}

    async def status(self, request: Request) -> Response:
        known(request)
        return reply(await run_in_threadpool(self._overview))

    async def metrics(self, request: Request) -> Response:
        shown = await run_in_threadpool(self._overview)
        pools = await run_in_threadpool(self._services.storage.listing)
        lines = [*_daemon_samples(shown["daemon"]), *_volume_samples(pools), *views.samples(shown)]
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


async def _nowhere(request: Request) -> Response:
    raise NotFound(f"{request.url.path}: the API has no such path")


def routes(services: Services) -> list[BaseRoute]:
    """Every path of the API."""
    reads, does, marks = Reads(services), acts.Acts(services), Marks(services)
    storage = StoragePaths(services)
    gets: dict[str, Any] = {
        "/metrics": reads.metrics,
        "/v1/health": reads.health,
        "/v1/status": reads.status,
        "/v1/studies": reads.studies,
        "/v1/studies/{uid}": reads.study,
        "/v1/studies/{uid}/copies": reads.locate,
        "/v1/studies/{uid}/history": reads.history,
        "/v1/studies/{uid}/accesses": marks.accesses,
        "/v1/holds": marks.holds,
        "/v1/queue": reads.queue,
        "/v1/queue/{pk}": reads.request,
        "/v1/recalls": reads.progress,
        "/v1/pools": storage.listing,
        "/v1/pools/{name}": storage.show,
        "/v1/volumes": reads.volumes,
        "/v1/volumes/{barcode}": reads.volume,
        "/v1/mounts": reads.mounts,
        "/v1/runs": reads.runs,
        "/v1/decisions": reads.decisions,
    }
    posts: dict[str, Any] = {
        "/v1/studies/{uid}/hold": marks.hold,
        "/v1/studies/{uid}/unhold": marks.unhold,
        "/v1/studies/{uid}/tags": marks.tags,
        "/v1/studies/{uid}/retention": marks.retention,
        "/v1/recalls": does.recall,
        "/v1/queue/{pk}/cancel": does.cancel,
        "/v1/queue/{pk}/retry": does.retry,
        "/v1/pools/{name}/test": storage.test,
        "/v1/volumes/{barcode}/drain": storage.drain,
        "/v1/volumes/{barcode}/drain/stop": storage.stop_drain,
        "/v1/library/inventory": does.inventory,
        "/v1/mounts/{barcode}/done": does.done,
        "/v1/mounts/{barcode}/refuse": does.refuse,
        "/v1/library/load": does.load,
        "/v1/library/unload": does.unload,
        "/v1/library/export": does.export,
        "/v1/library/import": does.import_,
        "/v1/reload": does.reload,
    }
    prefetches = PrefetchPaths(services)
    gets |= prefetches.gets()
    posts |= prefetches.posts()
    exports = ExportPaths(services)
    gets["/v1/exports/{pk}"] = exports.show
    posts |= {"/v1/exports": exports.begin, "/v1/exports/{pk}/cancel": exports.cancel}
    policies, media = PolicyPaths(services), MediaPaths(services)
    operators, moves = OperatorPaths(services), MovementPaths(services)
    audit = AuditPaths(services)
    gets = gets | audit.gets() | policies.gets() | media.gets() | operators.gets() | moves.gets()
    posts = posts | audit.posts() | policies.posts() | media.posts() | operators.posts() | moves.posts()
    by_path: dict[str, list[BaseRoute]] = {}
    for method, table in (("GET", gets), ("POST", posts)):
        for path, endpoint in table.items():
            by_path.setdefault(path, []).append(Route(path, endpoint, methods=[method]))
    found = [route for group in by_path.values() for route in group]
    return [*found, Route("/{path:path}", _nowhere, methods=["GET", "POST"])]
