"""The whole archive on one screen, and the same numbers for a monitoring system."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hsm.barcodes import belongs
from hsm.catalog import deletions, media
from hsm.catalog.tables import MountRequest, Request, Run, Volume
from hsm.catalog.views.common import PoolFact, Record
from hsm.catalog.views.sums import CopySum, Sums, sums
from hsm.states import LIVE_REQUESTS, MountState, RequestState

SHOWN_REQUEST_STATES = (*LIVE_REQUESTS, RequestState.FAILED)
"""Done and cancelled requests are history; counting them would read the whole table."""


def overview(session: Session, pools: Sequence[PoolFact], kept: Sums | None = None) -> Record:
    """What the archive holds and what it is doing.

    :param kept: sums over whole tables, where some that are a little older do.

    Keys: ``totals`` (studies, instances, bytes, packages, unsealed), ``pools`` (see
    :func:`_pool_rows`), ``trash`` (studies in it, due, rejected instances), ``queue`` (kind, state,
    requests), ``mounts_open``, ``runs`` (the last of each policy).
    """
    found = kept or sums(session)
    return {
        "totals": found.totals,
        "pools": _pool_rows(session, pools, found.copies),
        "trash": deletions.counts(session),
        "queue": _queue_counts(session),
        "mounts_open": _mounts_open(session),
        "runs": last_runs(session),
    }


@dataclass
class _Tally:
    volumes: dict[str, int] = field(default_factory=dict)
    used: int = 0
    capacity: int = 0
    copies: dict[str, int] = field(default_factory=dict)
    copy_bytes: int = 0


def _pool_rows(session: Session, pools: Sequence[PoolFact], copies: Sequence[CopySum]) -> list[Record]:
    """One record a pool: name, tier, layout, library, volumes (by state), used, capacity, copies
    (by state), package_bytes (in copies that are not released). Pools that only the catalog
    knows come last with an empty tier."""
    tallies = {pool.name: _Tally() for pool in pools}
    by_volume = select(
        Volume.pool, Volume.state, func.count(), func.sum(Volume.used), func.sum(Volume.capacity)
    ).group_by(Volume.pool, Volume.state)
    for pool, state, count, used, capacity in session.execute(by_volume.where(Volume.pool.is_not(None))):
        tally = tallies.setdefault(str(pool), _Tally())
        tally.volumes[state] = count
        tally.used += int(used)
        tally.capacity += int(capacity)
    for each in copies:
        tally = tallies.setdefault(each.pool, _Tally())
        tally.copies[each.state] = each.count
        tally.copy_bytes += each.size
    known = {pool.name: pool for pool in pools}
    blank = media.blank_barcodes(session)
    return [
        _pool_row(name, tally, known.get(name)) | _scratch(known.get(name), blank)
        for name, tally in tallies.items()
    ]


def _scratch(pool: PoolFact | None, blank: Mapping[str, Sequence[str]]) -> Record:
    """Of a pool of cartridges: how many blank ones may become its volumes, and below how many it warns."""
    if pool is None or pool.library is None:
        return {}
    fitting = sum(belongs(barcode, pool.scratch) for barcode in blank.get(pool.library, ()))
    return {"scratch": fitting, "scratch_low": pool.scratch_low}


def _pool_row(name: str, tally: _Tally, pool: PoolFact | None) -> Record:
    return {
        "name": name,
        "tier": pool.tier.value if pool else "",
        "layout": pool.layout if pool else "",
        "library": pool.library if pool else None,
        "volumes": dict(sorted(tally.volumes.items())),
        "used": tally.used,
        "capacity": tally.capacity,
        "copies": dict(sorted(tally.copies.items())),
        "package_bytes": tally.copy_bytes,
    }


def _queue_counts(session: Session) -> list[Record]:
    rows = session.execute(
        select(Request.kind, Request.state, func.count())
        .where(Request.state.in_(SHOWN_REQUEST_STATES))
        .group_by(Request.kind, Request.state)
        .order_by(Request.kind, Request.state)
    )
    return [{"kind": kind, "state": state, "requests": count} for kind, state, count in rows]


def _mounts_open(session: Session) -> int:
    where = MountRequest.state == MountState.OPEN
    return session.scalar(select(func.count()).select_from(MountRequest).where(where)) or 0


def last_runs(session: Session) -> list[Record]:
    """The last run of each policy, policies in alphabetical order."""
    newest = select(func.max(Run.pk)).group_by(Run.policy)
    rows = session.scalars(select(Run).where(Run.pk.in_(newest)).order_by(Run.policy))
    return [run_record(run) for run in rows]


def run_record(run: Run) -> Record:
    """Keys: id, policy, digest, started_at, finished_at, matched, requested, refused."""
    return {
        "id": run.pk,
        "policy": run.policy,
        "digest": run.policy_digest.hex(),
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "matched": run.matched,
        "requested": run.requested,
        "refused": run.refused,
    }


@dataclass(frozen=True, slots=True)
class Sample:
    """One number for a monitoring system."""

    name: str
    labels: tuple[tuple[str, str], ...]
    value: float


_TRASH = {
    "in_trash": "hsm_studies_in_trash",
    "due": "hsm_studies_being_deleted",
    "grown": "hsm_studies_in_trash_grown",
    "rejected_instances": "hsm_rejected_instances",
    "awaited_rejections": "hsm_awaited_rejections",
}


def samples(shown: Record) -> Iterator[Sample]:
    """The numbers of an :func:`overview`, as gauges of the Prometheus data model."""
    for noun, value in shown["totals"].items():
        yield Sample(f"hsm_{noun}", (), value)
    for noun, value in shown["trash"].items():
        yield Sample(_TRASH[noun], (), value)
    for pool in shown["pools"]:
        label = (("pool", pool["name"]), ("tier", pool["tier"]))
        yield Sample("hsm_pool_used_bytes", label, pool["used"])
        yield Sample("hsm_pool_capacity_bytes", label, pool["capacity"])
        yield Sample("hsm_pool_package_bytes", label, pool["package_bytes"])
        if "scratch" in pool:
            yield Sample("hsm_pool_scratch_volumes", label, pool["scratch"])
        for state, count in pool["volumes"].items():
            yield Sample("hsm_pool_volumes", (*label, ("state", state)), count)
        for state, count in pool["copies"].items():
            yield Sample("hsm_pool_copies", (*label, ("state", state)), count)
    for row in shown["queue"]:
        label = (("kind", row["kind"]), ("state", row["state"]))
        yield Sample("hsm_queue_requests", label, row["requests"])
    yield Sample("hsm_mount_requests_open", (), shown["mounts_open"])
