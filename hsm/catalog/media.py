"""Volumes and where they are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hsm import guard, states
from hsm.catalog import journal, placements
from hsm.catalog.tables import Copy, Volume
from hsm.errors import NotFound
from hsm.model import Place
from hsm.states import CopyState, VolumeState

WRITABLE = (*states.BLANK_VOLUMES, VolumeState.LABELLED, VolumeState.ACTIVE)
MISSING = "not brought by"
"""How the error of a volume begins that is suspect only because nobody could bring it."""


@dataclass(frozen=True, slots=True)
class VolumeRef:
    """One volume as the daemon's verbs see it."""

    pk: int
    name: str
    uuid: str
    pool: str | None
    state: VolumeState
    removable: bool
    capacity: int
    used: int
    library: str | None
    place: Place
    element: int | None
    shelf: str
    worm: bool = False
    drain_to: str = ""
    content: str = ""
    site: str = ""
    home: str = ""
    error: str = ""

    @property
    def stands(self) -> str:
        """Where it stands when no library has it, in an operator's words; empty when nobody has said."""
        shelf = self.shelf or self.home
        site = f" at {self.site}" if self.site else ""
        return f"shelf {shelf}{site}" if shelf else site.strip()

    @property
    def takes_writes(self) -> bool:
        """Whether its state lets packages be written to it, once it has a label."""
        return self.state in WRITABLE and not self.drain_to


def _ref(row: Volume) -> VolumeRef:
    return VolumeRef(
        row.pk,
        row.name,
        row.uuid,
        row.pool,
        VolumeState(row.state),
        row.removable,
        row.capacity,
        row.used,
        row.library,
        Place(row.place),
        row.element,
        row.shelf,
        row.worm,
        row.drain_to,
        row.content,
        row.site,
        row.home,
        row.error,
    )


def volumes(session: Session) -> list[VolumeRef]:
    return [_ref(row) for row in session.scalars(select(Volume).order_by(Volume.name))]


def find_volume(session: Session, name: str) -> VolumeRef | None:
    row = session.scalars(select(Volume).where(Volume.name == name)).one_or_none()
    return _ref(row) if row else None


def held_by(session: Session, library: str, drive: int) -> str | None:
    """The barcode of the volume in a drive, as the changer was seen last."""
    return session.scalar(
        select(Volume.name)
        .where(Volume.library == library, Volume.place == Place.DRIVE, Volume.element == drive)
        .limit(1)
    )


def volume(session: Session, name: str) -> VolumeRef:
    """:raises NotFound: no volume has this name or barcode."""
    found = find_volume(session, name)
    if found is None:
        raise NotFound(f"the catalog has no volume {name!r}; `hsm volume ls` lists what it has")
    return found


def volume_by_key(session: Session, pk: int) -> VolumeRef:
    """:raises NotFound: there is no such volume."""
    row = session.get(Volume, pk)
    if row is None:
        raise NotFound(f"there is no volume {pk}")
    return _ref(row)


def add_volume(session: Session, new: VolumeRef, now: datetime, actor: str) -> int:
    """Insert a volume (its ``pk`` is ignored) and record that it came."""
    row = Volume(
        name=new.name,
        uuid=new.uuid,
        pool=new.pool,
        state=new.state.value,
        removable=new.removable,
        capacity=new.capacity,
        used=new.used,
        library=new.library,
        place=new.place.value,
        element=new.element,
        shelf=new.shelf,
        error="",
        created_at=now,
        worm=new.worm,
        drain_to=new.drain_to,
        content=new.content,
        looked_at=None,
    )
    session.add(row)
    session.flush()
    _record(session, row, now, actor, "added", {"pool": new.pool or "", "state": new.state.value})
    return row.pk


def move_volume(
    session: Session, pk: int, new: VolumeState, now: datetime, actor: str, why: str = ""
) -> None:
    """Change a volume's state. The same state again changes nothing.

    :raises ValueError: the transition table has no such step.
    """
    row = _locked(session, pk)
    if row.state == new:
        return
    old = VolumeState(row.state)
    states.VOLUME.check(old, new)
    row.state = new.value
    row.error = why if new in (VolumeState.SUSPECT, VolumeState.LOST, VolumeState.FOREIGN) else ""
    if new in (VolumeState.RECYCLED, VolumeState.RETIRED):
        row.drain_to = ""
    if new is VolumeState.RECYCLED:
        row.pool, row.used = None, 0
    session.flush()
    if (old in guard.GOOD_VOLUMES) != (new in guard.GOOD_VOLUMES):
        placements.refresh_volume(session, pk)
    _record(session, row, now, actor, new.value, {"why": why} if why else {})


def give_to_pool(session: Session, pk: int, pool: str, uuid: str, now: datetime, actor: str) -> None:
    """A scratch volume has been labelled for a pool."""
    row = _locked(session, pk)
    row.pool, row.uuid, row.used = pool, uuid, 0
    row.content, row.looked_at = "", now
    move_volume(session, pk, VolumeState.LABELLED, now, actor, f"for pool {pool}")


def look(session: Session, pk: int, content: str, now: datetime) -> None:
    """Note what a volume says it is."""
    row = _locked(session, pk)
    row.content, row.looked_at = content, now


def drain(session: Session, pk: int, to: VolumeState | None, now: datetime, actor: str, why: str) -> None:
    """A volume takes no more writes and is emptied, to become ``to``; or, with None, no longer."""
    row = _locked(session, pk)
    wanted = to.value if to is not None else ""
    if row.drain_to != wanted:
        row.drain_to = wanted
        detail = {"why": why, "to": wanted} if wanted else {"why": why}
        _record(session, row, now, actor, "draining" if wanted else "draining ended", detail)


def place_volume(
    session: Session,
    pk: int,
    place: Place,
    now: datetime,
    actor: str,
    *,
    library: str | None,
    element: int | None = None,
    shelf: str = "",
    site: str | None = None,
) -> bool:
    """Note where a volume is; record it when that is news. A move between elements of one library is
    not custody and leaves no record.

    :param site: the building that its shelf is in; None for the one it was in. A library's is its own.
    """
    row = _locked(session, pk)
    inside = (Place.SLOT, Place.MAIL, Place.DRIVE)
    old = (row.place, row.library, row.shelf, row.site)
    row.place, row.library, row.element, row.shelf = place.value, library, element, shelf
    row.site = "" if place in inside else row.site if site is None else site
    if shelf and place is Place.SHELF:
        row.home = shelf
    session.flush()
    news = old != (place.value, library, shelf, row.site) and not (old[0] in inside and place in inside)
    if news:
        detail = {"from": " ".join(part for part in (old[0], old[2], old[3]) if part), "shelf": shelf}
        detail |= {"site": row.site} if row.site else {}
        _record(session, row, now, actor, f"to {place.value}", detail)
    return news


def missing(session: Session, pk: int, now: datetime, by: str, comment: str) -> None:
    """A person could not bring a volume: until it is seen again, nothing on it counts."""
    row = _locked(session, pk)
    if row.state != VolumeState.SUSPECT:
        # First, since it changes every study on the volume: nobody shall wait for the journal meanwhile.
        move_volume(session, pk, VolumeState.SUSPECT, now, by, f"{MISSING} {by}: {comment}".strip(" :"))
    place_volume(session, pk, Place.UNKNOWN, now, by, library=row.library)


def not_there(session: Session, pk: int, now: datetime, by: str, comment: str) -> None:
    """It is not where it should be, and somebody will find it: until it is seen again, nothing on it counts,
    and a person is asked for it only where nothing else has what is wanted."""
    if _locked(session, pk).state != VolumeState.SUSPECT:
        move_volume(session, pk, VolumeState.SUSPECT, now, by, f"{MISSING} {by}: {comment}".strip(" :"))


def damaged(session: Session, pk: int, now: datetime, by: str, comment: str) -> None:
    """A person says that it is damaged: nothing on it counts until it was read back."""
    why = f"damaged, says {by}: {comment}".strip(" :")
    row = _locked(session, pk)
    if row.state == VolumeState.SUSPECT:
        row.error = why
    else:
        move_volume(session, pk, VolumeState.SUSPECT, now, by, why)


def found_again(session: Session, pk: int, now: datetime, actor: str) -> None:
    """A volume that was missing is there: it counts again, unless it was suspect for something else. One
    that was given up as lost is suspect, and so are its copies, until they are read back."""
    row = _locked(session, pk)
    if row.state == VolumeState.LOST:
        move_volume(session, pk, VolumeState.SUSPECT, now, actor, "it was lost and is there again: verify it")
    if row.state == VolumeState.SUSPECT and row.error.startswith(MISSING):
        move_volume(session, pk, VolumeState.ACTIVE, now, actor, "it is there again")


def set_room(session: Session, pk: int, capacity: int, free: int | None = None) -> None:
    """What a volume says of itself when it is opened: its size and, where it tells, the room left (dead
    bytes of failed writes take some that no copy accounts for)."""
    row = _locked(session, pk)
    row.capacity = capacity
    if free is not None:
        row.used = capacity - free


def blank_barcodes(session: Session) -> dict[str, list[str]]:
    """The volumes in each library that may be given to a pool."""
    rows = session.execute(
        select(Volume.library, Volume.name)
        .where(
            Volume.state.in_(states.BLANK_VOLUMES),
            Volume.place.in_((Place.SLOT, Place.MAIL, Place.DRIVE)),
            Volume.library.is_not(None),
        )
        .order_by(Volume.name)
    )
    found: dict[str, list[str]] = {}
    for library, name in rows:
        found.setdefault(library or "", []).append(name)
    return found


def pool_bytes(session: Session) -> dict[str, tuple[int, int]]:
    """(used, capacity) of each pool: the sum over its volumes that are not retired or lost."""
    rows = session.execute(
        select(Volume.pool, func.sum(Volume.used), func.sum(Volume.capacity))
        .where(Volume.pool.is_not(None), Volume.state.not_in((VolumeState.RETIRED, VolumeState.LOST)))
        .group_by(Volume.pool)
    )
    return {pool: (int(used), int(capacity)) for pool, used, capacity in rows if pool is not None}


def _locked(session: Session, pk: int) -> Volume:
    return session.scalars(select(Volume).where(Volume.pk == pk).with_for_update()).one()


def _record(
    session: Session, row: Volume, now: datetime, actor: str, verb: str, detail: dict[str, str]
) -> None:
    journal.append(session, now, actor, verb, "volume", row.name, detail)


def copies_that_count(session: Session, volume_pk: int) -> int:
    """Copies on a volume that stand for bytes somebody may still need."""
    return (
        session.scalar(
            select(func.count())
            .select_from(Copy)
            .where(Copy.volume_pk == volume_pk, Copy.state.not_in((CopyState.RELEASED, CopyState.LOST)))
        )
        or 0
    )
