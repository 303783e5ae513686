"""Ends of volumes: what must be true of every copy on one that is recycled, or given up as lost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hsm.catalog import media, placement, placements, portions, restored
from hsm.catalog.placement import PackageRef
from hsm.catalog.tables import Copy, Package, Volume
from hsm.errors import Refused
from hsm.guard import GOOD_VOLUMES
from hsm.states import READABLE_COPIES, CopyState, VolumeState

LIVE = (
    CopyState.WRITING,
    CopyState.WRITTEN,
    CopyState.VERIFIED,
    CopyState.SUSPECT,
    CopyState.RELEASING,
)
"""States of copies that stand for bytes on a volume."""


def live_copies(session: Session, volume_pk: int) -> dict[str, int]:
    """How many copies on a volume stand for bytes, by state."""
    rows = session.execute(
        select(Copy.state, func.count())
        .where(Copy.volume_pk == volume_pk, Copy.state.in_(LIVE))
        .group_by(Copy.state)
        .order_by(Copy.state)
    )
    return {str(state): int(count) for state, count in rows}


def end(session: Session, name: str, to: VolumeState, now: datetime, actor: str, why: str) -> None:
    """Recycle or retire a volume on which nothing counts any more.

    :raises Refused: copies on it count, it is a file system, or its state does not allow it.
    """
    found = media.volume(session, name)
    if not found.removable:
        raise Refused(f"{name} is not a removable volume; it goes with its pool's configuration")
    if to is VolumeState.RECYCLED and found.worm:
        raise Refused(f"{name} is write-once: it cannot be recycled, only retired")
    restored.require(session, f"{name} does not become {to.value}")
    held = live_copies(session, found.pk)
    if held:
        words = ", ".join(f"{count} {state}" for state, count in held.items())
        raise Refused(
            f"{name} holds {sum(held.values())} copies that count ({words}); release or repack them first: "
            f"hsm volume repack {name}"
        )
    try:
        media.move_volume(session, found.pk, to, now, actor, why)
    except ValueError as error:
        raise Refused(f"{name}: {error}") from error


@dataclass(frozen=True, slots=True)
class Gone:
    """One package whose copy went with a lost volume."""

    package: PackageRef
    readable: bool
    """Whether another copy of it can be read."""


def lose_copies(
    session: Session, volume_pk: int, now: datetime, actor: str, why: str, limit: int
) -> list[Gone]:
    """Mark at most ``limit`` of a lost volume's copies as lost; none are left when the list is empty."""
    rows = session.execute(
        select(Copy.pk, Copy.state, Copy.package_pk, Package.study_pk)
        .join(Package, Package.pk == Copy.package_pk)
        .where(
            Copy.volume_pk == volume_pk,
            Copy.state.in_((CopyState.WRITING, *READABLE_COPIES, CopyState.SUSPECT)),
        )
        .order_by(Copy.pk)
        .limit(limit)
    ).all()
    placements.lock(session, (study_pk for *_, study_pk in rows))
    for pk, state, _, _ in rows:
        new = CopyState.RELEASED if state == CopyState.WRITING else CopyState.LOST
        placement.move_copy(session, pk, new, now, actor, why=why)
    gone = [package_pk for _, state, package_pk, _ in rows if state != CopyState.WRITING]
    packages = placement.packages(session, gone)
    readable = _readable(session, gone)
    return [Gone(packages[pk], pk in readable) for pk in gone]


def _readable(session: Session, package_pks: Iterable[int]) -> set[int]:
    return {
        pk
        for some in portions.chunks(package_pks)
        for pk in session.scalars(
            select(Copy.package_pk)
            .join(Volume, Volume.pk == Copy.volume_pk)
            .where(
                Copy.package_pk.in_(some),
                Copy.state.in_(READABLE_COPIES),
                Volume.state.in_((*GOOD_VOLUMES, VolumeState.SUSPECT)),
            )
        )
    }


def lost_again_found(session: Session, volume_pk: int, now: datetime, actor: str) -> int:
    """A lost volume is there again: its lost copies are suspect until they are read back; how many."""
    rows = session.execute(
        select(Copy.pk, Package.study_pk)
        .join(Package, Package.pk == Copy.package_pk)
        .where(Copy.volume_pk == volume_pk, Copy.state == CopyState.LOST)
        .order_by(Copy.pk)
    ).all()
    placements.lock(session, (study_pk for _, study_pk in rows))
    for pk, _ in rows:
        placement.move_copy(session, pk, CopyState.SUSPECT, now, actor, why="its volume is there again")
    return len(rows)
