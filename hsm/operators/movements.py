"""Export to a shelf or vault, and return, in two phases: what has left is not there until somebody says so.

Each step may be repeated, and undone; the changer's word counts more than a person's where it can see.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from hsm.catalog import media, movements
from hsm.catalog.engine import Catalog
from hsm.catalog.media import VolumeRef
from hsm.catalog.movements import MovementRef
from hsm.catalog.queuelooks import recalls_only_from
from hsm.custody import Custody
from hsm.errors import BadInput, OperatorNeeded, Refused
from hsm.model import Place
from hsm.pools import Pools
from hsm.states import MovementKind, MovementState
from hsm.wake import Bell

Record = dict[str, Any]

VOLUMES_MAX = 500
TEXT_MAX = 100
INSIDE = (Place.SLOT, Place.MAIL, Place.DRIVE)


class Movements:
    """Pick lists of cartridges that leave or come back."""

    def __init__(self, catalog: Catalog, pools: Pools, custody: Custody, bell: Bell) -> None:
        self._catalog = catalog
        self._pools = pools
        self._custody = custody
        self._bell = bell

    def export(
        self,
        barcodes: Sequence[str],
        shelf: str,
        by: str,
        site: str = "",
        *,
        plan_only: bool = False,
        force: bool = False,
    ) -> list[Record]:
        """Plan that these leave for a shelf, all or none of them; then have the robot bring them to the mail
        slots, as many as there is room for. Said again, it goes on with the rest.

        :param force: also those that recalls wait for; without it they stay planned until nobody does.
        :raises Refused: one is in no library, or on its way somewhere else.
        """
        planned = self._plan(MovementKind.EXPORT, barcodes, by, shelf, site)
        if plan_only:
            return [record(each) for each in planned]
        found = []
        for each in planned:
            note = ""
            if each.state is MovementState.PLANNED:
                note = self._bring_out(each, by, force=force)
            found.append(record(self._look(each)) | {"note": note})
        return found

    def _bring_out(self, movement: MovementRef, by: str, *, force: bool) -> str:
        with self._catalog.read() as session:
            volume = media.volume(session, movement.barcode)
            waiting = 0 if force else len(recalls_only_from(session, volume.pk))
        if volume.place not in INSIDE:
            return ""
        if waiting:
            what = "a recall" if waiting == 1 else f"{waiting} recalls"
            return f"stays planned: {what} under way will read from it; say it again later, or --force"
        try:
            self._custody.export(movement.barcode, movement.shelf, by, site=movement.site)
        except (OperatorNeeded, Refused) as error:
            return f"stays planned: {error}"
        return ""

    def bring_back(self, barcodes: Sequence[str], by: str) -> list[Record]:
        """Plan that these come back into their library.

        :raises Refused: one is in a library already, or on its way out.
        """
        return [record(each) for each in self._plan(MovementKind.RETURN, barcodes, by, "", "")]

    def _plan(
        self, kind: MovementKind, barcodes: Sequence[str], by: str, shelf: str, site: str
    ) -> list[MovementRef]:
        wanted = list(dict.fromkeys(barcodes))
        if not 1 <= len(wanted) <= VOLUMES_MAX:
            raise BadInput(f"{len(wanted)} barcodes; expected 1 to {VOLUMES_MAX}")
        if max(len(shelf), len(site)) > TEXT_MAX:
            raise BadInput(f"shelf and site: expected {TEXT_MAX} characters at most")
        now, found, number = self._catalog.clock.now(), list[MovementRef](), 0
        with self._catalog.write() as session:
            for barcode in wanted:
                volume = media.volume(session, barcode)
                current = movements.open_of(session, volume.pk)
                if current is None:
                    _check(kind, volume)
                origin = f"{volume.library} {volume.place.value} {volume.element}"
                made = movements.plan(
                    session,
                    volume,
                    kind,
                    volume.library or next(iter(self._pools.libraries), ""),
                    site if kind is MovementKind.EXPORT else volume.site,
                    shelf if kind is MovementKind.EXPORT else volume.shelf or volume.home,
                    now,
                    by,
                    origin=origin if kind is MovementKind.EXPORT else volume.stands or "nobody knows",
                    number=number,
                )
                number = number or made.number
                found.append(made)
        return found

    def left(self, barcode: str, by: str, comment: str = "") -> Record:
        """Somebody has taken it away.

        :raises Refused: it is not planned, or its library still sees it.
        """
        movement = self._current(barcode)
        if movement.kind is MovementKind.EXPORT and movement.state is MovementState.PLANNED:
            self._not_seen(movement)
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            done = movements.step(session, movement.pk, MovementState.LEFT, now, by, comment)
            if done.kind is MovementKind.EXPORT:
                self._place(session, done, by)
        return record(done)

    def arrived(self, barcode: str, by: str, comment: str = "", shelf: str = "") -> Record:
        """Somebody has seen it there; for a return, its library has.

        :raises Refused: it is not under way, or its library says otherwise.
        """
        if len(shelf) > TEXT_MAX:
            raise BadInput(f"shelf: expected {TEXT_MAX} characters at most")
        movement = self._current(barcode, also=MovementState.ARRIVED)
        if movement.state is MovementState.ARRIVED and shelf in ("", movement.shelf):
            return record(movement)
        if movement.kind is MovementKind.RETURN:
            self._custody.operator_done(barcode, by, comment)
            return record(self._look(movement))
        self._not_seen(movement)
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            if movement.state is MovementState.ARRIVED:  # it stands elsewhere than was said
                movements.step(session, movement.pk, MovementState.LEFT, now, by, comment)
            done = movements.step(session, movement.pk, MovementState.ARRIVED, now, by, comment, shelf)
            self._place(session, done, by)
        return record(done)

    def undo(self, barcode: str, by: str, comment: str = "") -> Record:
        """Take the last step back: what is planned is not to move, what was confirmed is not there yet, and
        what was taken stands where it stood.

        :raises Refused: there is nothing to undo, or what has left is not back in its library.
        """
        movement = self._current(barcode, also=MovementState.ARRIVED)
        if movement.state is MovementState.LEFT and movement.kind is MovementKind.EXPORT:
            raise Refused(
                f"{barcode} has left {movement.library}: put it into a mail slot and say hsm library import"
                f" {barcode}, or say where it is: hsm library arrived {barcode} --shelf SHELF"
            )
        if movement.state is MovementState.ARRIVED and movement.kind is MovementKind.RETURN:
            raise Refused(f"{barcode} is in {movement.library}; export it to have it out again")
        back = {
            MovementState.PLANNED: MovementState.UNDONE,
            MovementState.LEFT: MovementState.PLANNED,
            MovementState.ARRIVED: MovementState.LEFT,
        }[movement.state]
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            return record(movements.step(session, movement.pk, back, now, by, comment))

    def listing(self, *, number: int = 0, every: bool = False) -> list[Record]:
        """Those of a pick list, or all that are under way, or with ``every`` the last ones."""
        with self._catalog.read() as session:
            return [record(each) for each in movements.listing(session, number=number, every=every)]

    def _current(self, barcode: str, also: MovementState | None = None) -> MovementRef:
        with self._catalog.read() as session:
            volume = media.volume(session, barcode)
            found = movements.open_of(session, volume.pk) or movements.latest(session, volume.pk)
        if found is None or not (found.is_open or found.state is also):
            end = "" if found is None else f"; its last way was {found.state.value} ({found.ended_by})"
            raise Refused(f"{barcode} is not on its way anywhere{end}")
        return found

    def _look(self, movement: MovementRef) -> MovementRef:
        with self._catalog.read() as session:
            return movements.latest(session, movement.volume_pk) or movement

    def _not_seen(self, movement: MovementRef) -> None:
        """:raises Refused: the library sees it."""
        library = self._pools.libraries.get(movement.library)
        element = None if library is None else library.inventory().find(movement.barcode)
        if element is not None:
            raise Refused(
                f"{movement.library} still sees {movement.barcode} in {element.kind.value} {element.address}:"
                " take it out first"
            )

    def _place(self, session: Session, movement: MovementRef, by: str) -> None:
        media.place_volume(
            session,
            movement.volume_pk,
            Place.SHELF,
            self._catalog.clock.now(),
            by,
            library=movement.library,
            shelf=movement.shelf,
            site=movement.site,
        )


def _check(kind: MovementKind, volume: VolumeRef) -> None:
    inside = volume.library is not None and volume.place in INSIDE
    if kind is MovementKind.EXPORT and not inside:
        where = volume.stands or volume.place.value
        raise Refused(f"{volume.name} is in no library (it is: {where})")
    if kind is MovementKind.RETURN and volume.place not in (Place.SHELF, Place.UNKNOWN):
        raise Refused(
            f"{volume.name} is {'in ' + (volume.library or 'use') if inside else 'no cartridge'} already"
        )


def record(movement: MovementRef) -> Record:
    """As the API shows it."""
    return {
        "id": movement.pk,
        "list": movement.number,
        "barcode": movement.barcode,
        "kind": movement.kind.value,
        "state": movement.state.value,
        "open": movement.is_open,
        "from": movement.origin,
        "to": movement.target,
        "library": movement.library,
        "site": movement.site,
        "shelf": movement.shelf,
        "pool": movement.pool,
        "volume_state": movement.volume_state,
        "planned_at": movement.planned_at,
        "planned_by": movement.planned_by,
        "left_at": movement.left_at,
        "left_by": movement.left_by,
        "ended_at": movement.ended_at,
        "ended_by": movement.ended_by,
        "comment": movement.comment,
    }
