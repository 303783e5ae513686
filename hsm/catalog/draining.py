"""Volumes that are emptied by a repack: what is left on them, and how far it is."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hsm.catalog.tables import Copy, Request


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
