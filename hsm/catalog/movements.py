"""Cartridges on their way out of a library or back: planned, left, arrived, in any order of repeats.

Every step is a record in the journal with the person's name; the same step again changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from hsm import states
from hsm.catalog import journal
from hsm.catalog.media import VolumeRef
from hsm.catalog.tables import Movement, Volume
from hsm.errors import Refused
from hsm.states import MovementKind, MovementState

OPEN = (MovementState.PLANNED, MovementState.LEFT)


@dataclass(frozen=True, slots=True)
class MovementRef:
    """One cartridge's way."""

    pk: int
    number: int
    """Of its pick list."""
    volume_pk: int
    barcode: str
    kind: MovementKind
    state: MovementState
    origin: str
    library: str
    site: str
    shelf: str
    planned_at: datetime
    planned_by: str
    left_at: datetime | None
    left_by: str
    ended_at: datetime | None
    ended_by: str
    comment: str
    pool: str | None
    volume_state: str

    @property
    def is_open(self) -> bool:
        return self.state in OPEN

    @property
    def words(self) -> str:
        """For an operator: ``export to shelf B3: left by alice``."""
        return f"{self.kind.value} to {self.target}: {self.state.value} by {self.left_by or self.planned_by}"

    @property
    def target(self) -> str:
        """Where it goes, in an operator's words."""
        if self.kind is MovementKind.RETURN:
            return self.library
        return " ".join(
            part for part in (f"shelf {self.shelf}", f"at {self.site}" if self.site else "") if part
        )


def plan(
    session: Session,
    volume: VolumeRef,
    kind: MovementKind,
    library: str,
    site: str,
    shelf: str,
    now: datetime,
    by: str,
    *,
    origin: str,
    number: int = 0,
) -> MovementRef:
    """That this volume is to go there. Planned so already, it stays as it is.

    :param number: the pick list that it joins; 0 begins a new one.
    :raises Refused: it is on its way somewhere else.
    """
    current = open_of(session, volume.pk)
    if current is not None:
        same = (current.kind, current.site, current.shelf) == (kind, site, shelf)
        if not same and kind is not current.kind:
            raise Refused(
                f"{volume.name} is on its way to {current.target} since"
                f" {current.planned_at:%Y-%m-%d %H:%M} UTC ({current.planned_by});"
                f" undo that first: hsm library undo {volume.name}"
            )
        row = session.scalars(_rows(volume.pk).with_for_update()).one()
        if not same:
            row.site, row.shelf = site, shelf
            _record(session, volume.name, now, by, f"{kind.value} planned", _detail(row))
        return _one(session, row.pk)
    row = Movement(
        list_number=number,
        volume_pk=volume.pk,
        kind=kind.value,
        state=MovementState.PLANNED.value,
        origin=origin,
        library=library,
        site=site,
        shelf=shelf,
        planned_at=now,
        planned_by=by,
        left_at=None,
        left_by="",
        ended_at=None,
        ended_by="",
        comment="",
    )
    session.add(row)
    session.flush()
    if not number:
        row.list_number = row.pk
        session.flush()
    _record(session, volume.name, now, by, f"{kind.value} planned", _detail(row))
    return _one(session, row.pk)


def step(
    session: Session, pk: int, new: MovementState, now: datetime, by: str, comment: str = "", shelf: str = ""
) -> MovementRef:
    """Move it on, or back. The same state again changes nothing.

    :raises Refused: no such step follows.
    """
    row = session.scalars(select(Movement).where(Movement.pk == pk).with_for_update()).one()
    old = MovementState(row.state)
    if old is new:
        return _one(session, pk)
    try:
        states.MOVEMENT.check(old, new)
    except ValueError as error:
        raise Refused(f"{_one(session, pk).barcode}: {error}") from error
    row.state = new.value
    ended = new not in OPEN
    row.ended_at, row.ended_by = (now, by) if ended else (None, "")
    if new is MovementState.PLANNED:
        row.left_at, row.left_by = None, ""
    elif new is not MovementState.UNDONE and row.left_at is None:
        row.left_at, row.left_by = now, by
    row.comment = comment or row.comment
    row.shelf = shelf or row.shelf
    session.flush()
    found = _one(session, pk)
    _record(session, found.barcode, now, by, f"{row.kind} {new.value}", _detail(row))
    return found


def open_of(session: Session, volume_pk: int) -> MovementRef | None:
    """The way that this volume is on."""
    query = _refs().where(Movement.volume_pk == volume_pk, Movement.state.in_(OPEN))
    row = session.execute(query).one_or_none()
    return None if row is None else _ref(*row)


def latest(session: Session, volume_pk: int) -> MovementRef | None:
    query = _refs().where(Movement.volume_pk == volume_pk).order_by(Movement.pk.desc()).limit(1)
    row = session.execute(query).one_or_none()
    return None if row is None else _ref(*row)


def open_ones(session: Session) -> dict[int, MovementRef]:
    """By volume."""
    rows = session.execute(_refs().where(Movement.state.in_(OPEN)))
    return {ref.volume_pk: ref for ref in (_ref(*row) for row in rows)}


def listing(
    session: Session, *, number: int = 0, every: bool = False, limit: int = 1000
) -> list[MovementRef]:
    """Of one pick list, or all that are under way, or with ``every`` the last ones; the newest list first."""
    query = _refs().order_by(Movement.list_number.desc(), Movement.pk).limit(limit)
    if number:
        query = query.where(Movement.list_number == number)
    elif not every:
        query = query.where(Movement.state.in_(OPEN))
    return [_ref(*row) for row in session.execute(query)]


def _rows(volume_pk: int) -> Select[Movement]:
    return select(Movement).where(Movement.volume_pk == volume_pk, Movement.state.in_(OPEN))


def _refs() -> Select[*tuple[Any, ...]]:
    columns = select(Movement, Volume.name, Volume.pool, Volume.state)
    return columns.join(Volume, Volume.pk == Movement.volume_pk)


def _one(session: Session, pk: int) -> MovementRef:
    return _ref(*session.execute(_refs().where(Movement.pk == pk)).one())


def _ref(row: Movement, barcode: str, pool: str | None, volume_state: str) -> MovementRef:
    return MovementRef(
        row.pk,
        row.list_number,
        row.volume_pk,
        barcode,
        MovementKind(row.kind),
        MovementState(row.state),
        row.origin,
        row.library,
        row.site,
        row.shelf,
        row.planned_at,
        row.planned_by,
        row.left_at,
        row.left_by,
        row.ended_at,
        row.ended_by,
        row.comment,
        pool,
        volume_state,
    )


def _detail(row: Movement) -> dict[str, str]:
    detail = {"list": str(row.list_number), "shelf": row.shelf, "site": row.site, "comment": row.comment}
    return {key: value for key, value in detail.items() if value}


def _record(
    session: Session, barcode: str, now: datetime, actor: str, verb: str, detail: dict[str, str]
) -> None:
    journal.append(session, now, actor, verb, "volume", barcode, detail)
