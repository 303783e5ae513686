"""Drives in and out of service, and the counters of each drive with each cartridge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from hsm.blame import Pair
from hsm.catalog import journal
from hsm.catalog.tables import Copy, Drive, DriveUse, Request, Volume
from hsm.model import Place
from hsm.states import BLANK_VOLUMES, LIVE_REQUESTS, CopyState, RequestKind, VolumeState

ERROR_CHARS_MAX = 500
_COUNTERS = ("writes", "reads", "bytes_written", "bytes_read", "soft_errors", "alerts")


@dataclass(slots=True)
class Tally:
    """What one session of a drive with a cartridge came to; sizes in bytes."""

    writes: int = 0
    reads: int = 0
    bytes_written: int = 0
    bytes_read: int = 0
    soft_errors: int = 0
    alerts: int = 0
    errors: list[str] = field(default_factory=list)
    """Hard errors that are not counted yet, in words."""
    failed: bool = False
    """An error of it was counted already: it proves nothing good."""

    def wrote(self, size: int) -> None:
        self.writes += 1
        self.bytes_written += size

    def read(self, size: int) -> None:
        self.reads += 1
        self.bytes_read += size


@dataclass(frozen=True, slots=True)
class DriveRef:
    """One drive and whether it is used."""

    library: str
    address: int
    in_service: bool
    reason: str
    changed_at: datetime
    changed_by: str


def drives(session: Session) -> list[DriveRef]:
    """Every drive that has been used or taken out of service."""
    rows = session.scalars(select(Drive).order_by(Drive.library, Drive.address))
    return [
        DriveRef(row.library, row.address, row.in_service, row.reason, row.changed_at, row.changed_by)
        for row in rows
    ]


def out_of_service(session: Session) -> dict[tuple[str, int], str]:
    """Library and address of each drive that is not to be used, and why."""
    rows = session.execute(select(Drive.library, Drive.address, Drive.reason).where(~Drive.in_service))
    return {(library, address): reason for library, address, reason in rows}


def set_service(
    session: Session, library: str, address: int, in_service: bool, reason: str, now: datetime, by: str
) -> bool:
    """Take a drive out of service or back into it; whether that is news. What happened before no longer
    speaks against it."""
    row = _drive(session, library, address, now)
    if row.in_service == in_service:
        return False
    row.in_service, row.reason, row.changed_at, row.changed_by = in_service, reason, now, by
    if in_service:
        session.execute(update(DriveUse).where(DriveUse.drive_pk == row.pk).values(failing=0))
    session.flush()
    verb = "in service" if in_service else "out of service"
    journal.append(session, now, by, verb, "drive", f"{library}/{address}", {"why": reason})
    return True


def note(session: Session, library: str, address: int, volume_pk: int, tally: Tally, now: datetime) -> None:
    """Add a session to the counters of its drive and cartridge."""
    use = _use(session, _drive(session, library, address, now).pk, volume_pk, now)
    use.sessions += 1
    for name in _COUNTERS:
        setattr(use, name, getattr(use, name) + getattr(tally, name))
    use.hard_errors += len(tally.errors)
    use.last_at = now
    if tally.errors:
        use.failing += len(tally.errors)
        use.last_error = tally.errors[-1][:ERROR_CHARS_MAX]
    elif (tally.writes or tally.reads) and not tally.failed:
        use.failing = 0
    session.flush()


def forgive_volume(session: Session, volume_pk: int) -> None:
    """What a cartridge failed at no longer speaks against it or its drives: it was labelled anew."""
    session.execute(update(DriveUse).where(DriveUse.volume_pk == volume_pk).values(failing=0))


def pairs(session: Session, since: datetime | None = None) -> list[Pair]:
    """Every drive with every cartridge it has had; what failed before ``since`` fails no longer."""
    rows = session.execute(
        select(
            *(Drive.library, Drive.address, Volume.name, DriveUse.sessions, DriveUse.hard_errors),
            *(DriveUse.failing, DriveUse.last_at),
        )
        .join(Drive, Drive.pk == DriveUse.drive_pk)
        .join(Volume, Volume.pk == DriveUse.volume_pk)
        .order_by(Drive.library, Drive.address, Volume.name)
    )
    return [
        Pair((library, address), name, sessions, errors, failing if since is None or at >= since else 0)
        for library, address, name, sessions, errors, failing, at in rows
    ]


def uses(session: Session, *, library: str = "", volume: str = "", limit: int) -> Sequence[dict[str, object]]:
    """The counters, of one library or one cartridge, the last used first."""
    query = (
        select(Drive, DriveUse, Volume.name)
        .join(DriveUse, DriveUse.drive_pk == Drive.pk)
        .join(Volume, Volume.pk == DriveUse.volume_pk)
        .order_by(DriveUse.last_at.desc(), Drive.address, Volume.name)
        .limit(limit)
    )
    if library:
        query = query.where(Drive.library == library)
    if volume:
        query = query.where(Volume.name == volume)
    return [
        {
            "library": drive.library,
            "drive": drive.address,
            "volume": name,
            "sessions": use.sessions,
            "writes": use.writes,
            "reads": use.reads,
            "bytes_written": use.bytes_written,
            "bytes_read": use.bytes_read,
            "soft_errors": use.soft_errors,
            "hard_errors": use.hard_errors,
            "alerts": use.alerts,
            "failing": use.failing,
            "last_at": use.last_at,
            "last_error": use.last_error,
        }
        for drive, use, name in session.execute(query)
    ]


def _drive(session: Session, library: str, address: int, now: datetime) -> Drive:
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    session.execute(
        insert(Drive)
        .values(
            library=library, address=address, in_service=True, reason="", changed_at=now, changed_by="hsm"
        )
        .on_conflict_do_nothing(index_elements=["library", "address"])
    )
    return session.scalars(
        select(Drive).where(Drive.library == library, Drive.address == address).with_for_update()
    ).one()


def _use(session: Session, drive_pk: int, volume_pk: int, now: datetime) -> DriveUse:
    """The row of a pair; its drive is locked, so nobody else makes it."""
    found = session.get(DriveUse, (drive_pk, volume_pk))
    if found is None:
        counters = dict.fromkeys((*_COUNTERS, "sessions", "hard_errors", "failing"), 0)
        found = DriveUse(drive_pk=drive_pk, volume_pk=volume_pk, last_at=now, last_error="", **counters)
        session.add(found)
        session.flush()
    return found


def idle_in_slots(session: Session, library: str, limit: int) -> list[str]:
    """Cartridges in slots of a library that no live request reads, those first that take no more writes."""
    wanted = (
        select(Copy.volume_pk)
        .join(Request, Request.package_pk == Copy.package_pk)
        .where(
            Request.state.in_(LIVE_REQUESTS),
            Request.kind.in_((RequestKind.RECALL, RequestKind.VERIFY)),
            Copy.state == CopyState.VERIFIED,
        )
    )
    rows = select(Volume.name).where(
        Volume.library == library,
        Volume.place == Place.SLOT,
        Volume.state.not_in(BLANK_VOLUMES),
        Volume.pk.not_in(wanted),
    )
    return list(session.scalars(rows.order_by(Volume.state != VolumeState.FULL, Volume.name).limit(limit)))
