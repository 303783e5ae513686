"""How requests stand: what a forecast needs to know of each beside its turn at a drive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from hsm.catalog.portions import chunks
from hsm.catalog.tables import Copy, MountRequest, Package, Request, Volume
from hsm.states import MountState, RequestState


@dataclass(frozen=True, slots=True)
class Standing:
    """One request."""

    pk: int
    state: RequestState
    error: str
    not_before: datetime
    volume: str
    """Barcode of the volume that it waits for; empty while none is chosen."""
    library: str
    shelf: str
    size: int
    """Of its package, in bytes."""
    position: int | None
    """Of the package on that volume."""
    asked_at: datetime | None
    """Since when an operator is asked for the volume."""
    walker: str
    """Who is on the way."""


def of(session: Session, pks: Sequence[int], now: datetime) -> dict[int, Standing]:
    """Those of these requests that there are."""
    found = {}
    for some in chunks(pks):
        rows = session.execute(
            select(Request, Volume, Package.size, Copy.position, MountRequest)
            .outerjoin(Volume, Volume.pk == Request.volume_pk)
            .outerjoin(Package, Package.pk == Request.package_pk)
            .outerjoin(Copy, (Copy.package_pk == Request.package_pk) & (Copy.volume_pk == Request.volume_pk))
            .outerjoin(
                MountRequest,
                (MountRequest.volume_pk == Request.volume_pk) & (MountRequest.state == MountState.OPEN),
            )
            .where(Request.pk.in_(some))
        )
        for request, volume, size, position, mount in rows:
            on_the_way = mount is not None and mount.acked_until is not None and now < mount.acked_until
            found[request.pk] = Standing(
                request.pk,
                RequestState(request.state),
                request.error,
                request.not_before,
                volume.name if volume is not None else "",
                (volume.library or "") if volume is not None else "",
                volume.shelf if volume is not None else "",
                size or 0,
                position,
                mount.created_at if mount is not None else None,
                mount.acked_by if on_the_way and mount is not None else "",
            )
    return found
