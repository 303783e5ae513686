"""Volumes that are emptied: what is left on them, and how far it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hsm.catalog import portions, queue
from hsm.catalog.orders import Order
from hsm.catalog.tables import Copy, Package, Request
from hsm.states import LIVE_REQUESTS, READABLE_COPIES, CopyState, RequestKind, RequestState


def prefix(barcode: str) -> str:
    """How the keys of the requests begin that move packages off a volume."""
    return f"repack:{barcode}:"


def repack_requests(session: Session, volume_pk: int, barcode: str) -> dict[str, int]:
    """The requests that move packages off a volume, counted by state."""
    held = select(Copy.package_pk).where(Copy.volume_pk == volume_pk)
    rows = session.execute(
        select(Request.state, func.count())
        .where(Request.package_pk.in_(held), Request.key.startswith(prefix(barcode), autoescape=True))
        .group_by(Request.state)
        .order_by(Request.state)
    )
    return {str(state): int(count) for state, count in rows}


def live_requests(session: Session, volume_pk: int, barcode: str) -> list[Order]:
    """Those of them that still stand for work."""
    held = select(Copy.package_pk).where(Copy.volume_pk == volume_pk)
    pks = session.scalars(
        select(Request.pk).where(
            Request.package_pk.in_(held),
            Request.state.in_(LIVE_REQUESTS),
            Request.key.startswith(prefix(barcode), autoescape=True),
        )
    ).all()
    return [queue.get(session, pk) for pk in pks]


def drain_requests(session: Session, volume_pk: int, reason: str) -> list[Order]:
    """Live requests of a drain, which say why they are made. A release that has begun is not among them: a
    copy whose bytes may be half gone is not kept."""
    begun = (
        select(Copy.pk)
        .where(Copy.package_pk == Request.package_pk, Copy.volume_pk == volume_pk)
        .where(Copy.state == CopyState.RELEASING)
        .exists()
    )
    mine = (Request.state.in_(LIVE_REQUESTS), Request.reason == reason)
    pks = session.scalars(
        select(Request.pk).where(*mine, (Request.kind != RequestKind.RELEASE) | ~begun)
    ).all()
    return [queue.get(session, pk) for pk in pks]


def withdraw(session: Session, orders: Iterable[Order], now: datetime, actor: str) -> int:
    """Cancel those that nobody works on; how many."""
    idle = [order for order in orders if order.state is not RequestState.ACTIVE]
    for order in idle:
        queue.cancel(session, order.pk, now, actor)
    return len(idle)


def live_bytes(session: Session, volume_pk: int | None = None) -> dict[int, int]:
    """Bytes of the packages with a copy that counts, by volume (or of one)."""
    query = (
        select(Copy.volume_pk, func.sum(Package.size))
        .join(Package, Package.pk == Copy.package_pk)
        .where(Copy.state.in_((*READABLE_COPIES, CopyState.SUSPECT)))
        .group_by(Copy.volume_pk)
    )
    if volume_pk is not None:
        query = query.where(Copy.volume_pk == volume_pk)
    return {pk: int(size) for pk, size in session.execute(query)}


def pending(session: Session, package_pks: Iterable[int]) -> Counter[tuple[int, str]]:
    """How many repacks are making a copy of each of these packages in each pool."""
    found: Counter[tuple[int, str]] = Counter()
    for some in portions.chunks(package_pks):
        rows = session.execute(
            select(Request.package_pk, Request.pool).where(
                Request.package_pk.in_(some),
                Request.kind == RequestKind.COPY,
                Request.state.in_(LIVE_REQUESTS),
                Request.key.startswith("repack:"),
            )
        )
        found.update((pk or 0, pool or "") for pk, pool in rows)
    return found
