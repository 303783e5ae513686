"""Rows of volumes that need no drive (file systems, shares, buckets): who they are, and whether they answer.

One that does not answer is nowhere to be found: its copies are UNAVAILABLE, and stay what they are.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from hsm.catalog import journal, media
from hsm.catalog.media import VolumeRef
from hsm.catalog.tables import Request, Volume
from hsm.errors import ConfigError, Refused
from hsm.model import Place
from hsm.states import RequestKind, RequestState, VolumeState

UNIDENTIFIED = "not opened yet: "
"""How the identity of a volume begins whose storage nobody has seen yet."""
OUT = "out of service: "
"""How the error of a volume begins that does not answer."""
WAITS = "waits: "
"""How the error of a request begins that waits for storage to be there again, or to have room."""


def known(session: Session, name: str, pool: str, now: datetime, actor: str) -> VolumeRef:
    """The volume of this name; its row is made when it is configured for the first time.

    :raises ConfigError: the name is a cartridge's, or it belongs to another pool.
    """
    found = media.find_volume(session, name)
    if found is None:
        state, place = VolumeState.SCRATCH, Place.UNKNOWN
        new = VolumeRef(0, name, UNIDENTIFIED + name, pool, state, False, 0, 0, None, place, None, "")
        media.add_volume(session, new, now, actor)
        found = media.volume(session, name)
    if found.removable or found.pool != pool:
        whose = f"volume {name} of pool {found.pool}" if found.pool else f"volume {name}"
        raise ConfigError(f"the catalog has a {whose} already; give this one another name")
    return found


def identity(ref: VolumeRef) -> str | None:
    """The UUID that its storage carries; None while nobody has seen it."""
    return None if ref.uuid.startswith(UNIDENTIFIED) else ref.uuid


def identify(session: Session, pk: int, uuid: str, capacity: int, now: datetime, actor: str) -> None:
    """Its storage was seen: it carries this UUID and is so large.

    :raises ConfigError: another volume is known by this UUID: both are the same storage.
    """
    other = session.scalar(select(Volume.name).where(Volume.uuid == uuid, Volume.pk != pk))
    if other is not None:
        raise ConfigError(f"this is the storage of volume {other} already; each volume needs its own")
    media.set_room(session, pk, capacity)
    row = session.scalars(select(Volume).where(Volume.pk == pk).with_for_update()).one()
    row.uuid = uuid
    if row.state == VolumeState.SCRATCH:
        media.move_volume(session, pk, VolumeState.ACTIVE, now, actor)


def draining(session: Session) -> set[int]:
    """Volumes that are emptied and take no writes."""
    return set(session.scalars(select(Volume.pk).where(Volume.drain_to != "")))


def note_service(session: Session, pk: int, away: str | None, now: datetime, actor: str) -> None:
    """It is out of service, for the reason given, or answers (None). Again the same: nothing changes.

    What is queued for its pool says so; it is nobody's failure.
    """
    row = session.scalars(select(Volume).where(Volume.pk == pk).with_for_update()).one()
    was_away = row.place != Place.MOUNTED
    if away is None:
        row.place = Place.MOUNTED.value
        if row.error.startswith(OUT):
            row.error = ""
    else:
        row.place = Place.UNKNOWN.value
        if row.state not in (VolumeState.SUSPECT, VolumeState.LOST):
            row.error = OUT + away
    session.flush()
    _tell_requests(session, row, away, now)
    if was_away is not (away is not None):
        verb, detail = ("in service", {}) if away is None else ("out of service", {"why": away})
        journal.append(session, now, actor, verb, "volume", row.name, detail)


def _tell_requests(session: Session, row: Volume, away: str | None, now: datetime) -> None:
    mine = [
        Request.state == RequestState.QUEUED,
        Request.kind.in_((RequestKind.COPY, RequestKind.VERIFY, RequestKind.RELEASE)),
        (Request.volume_pk == row.pk) | ((Request.volume_pk.is_(None)) & (Request.pool == row.pool)),
    ]
    if away is not None:
        change = update(Request).where(*mine).values(error=f"{WAITS}{row.name} is {OUT}{away}")
    else:  # also what goes elsewhere and is read from here
        waits = (Request.state == RequestState.QUEUED, Request.error.startswith(WAITS, autoescape=True))
        change = update(Request).where(*waits).values(error="", not_before=now)
    session.execute(change.execution_options(synchronize_session=False))


def closed(session: Session) -> set[int]:
    """Volumes that take no new copies whether they answer or not: drained, in doubt, out of use."""
    bad = (VolumeState.SUSPECT, VolumeState.LOST, VolumeState.RETIRED)
    return set(session.scalars(select(Volume.pk).where((Volume.drain_to != "") | Volume.state.in_(bad))))


def begin_drain(session: Session, pk: int, now: datetime, actor: str) -> None:
    """From now on it takes no writes, until it is empty. Begun already: nothing changes.

    :raises Refused: it is retired.
    """
    volume = media.volume_by_key(session, pk)
    if volume.state is VolumeState.RETIRED:
        raise Refused(f"{volume.name} is retired: nothing counts on it")
    media.drain(session, pk, VolumeState.RETIRED, now, actor, "")
