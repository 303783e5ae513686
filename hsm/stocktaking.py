"""What a changer sees, written down: where volumes lie, what is new, what has left, who waited for it."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy.orm import Session

from drivers.base import ElementKind, Inventory
from hsm.barcodes import is_write_once
from hsm.catalog import media, movements, prompts, queue, volumelife
from hsm.catalog.media import VolumeRef
from hsm.catalog.movements import MovementRef
from hsm.log import get_logger
from hsm.model import Place
from hsm.states import MovementKind, MovementState, Outcome, VolumeState

log = get_logger(__name__)

ACTOR = "custody"
PLACES = {ElementKind.DRIVE: Place.DRIVE, ElementKind.SLOT: Place.SLOT, ElementKind.MAIL: Place.MAIL}
IN_LIBRARY = (Place.SLOT, Place.MAIL, Place.DRIVE)


def reconcile(session: Session, library: str, seen: Inventory, now: datetime) -> None:
    """Make the catalog's places those of the inventory; wake what waited for a volume that is back."""
    known = {volume.name: volume for volume in media.volumes(session)}
    ways = movements.open_ones(session)
    for element in seen.elements:
        if element.barcode is None:
            continue
        volume = known.pop(element.barcode, None)
        if volume is None:
            pk = _newcomer(session, element.barcode, library, now)
        else:
            pk = volume.pk
            # One that was given up while it lay here is no news: it has to come back first.
            back = volume.place not in IN_LIBRARY
            if volume.state is VolumeState.SUSPECT or (volume.state is VolumeState.LOST and back):
                media.found_again(session, pk, now, ACTOR)
            if volume.state is VolumeState.LOST and back:
                volumelife.lost_again_found(session, pk, now, ACTOR)
        shelf = volume.shelf if volume is not None and element.kind is ElementKind.MAIL else ""
        media.place_volume(
            session,
            pk,
            PLACES[element.kind],
            now,
            ACTOR,
            library=library,
            element=element.address,
            shelf=shelf,
        )
        _end_of_way(session, ways.get(pk), now)
        prompts.answer(session, pk, Outcome.DONE, now, ACTOR, "seen by the inventory")
        queue.wake_waiting(session, pk, now, ACTOR)
    for volume in known.values():
        if volume.library == library and volume.place in IN_LIBRARY:
            _has_left(session, volume, ways.get(volume.pk), now)


def _has_left(session: Session, volume: VolumeRef, way: MovementRef | None, now: datetime) -> None:
    """Onto the shelf that it was exported to, or else to where it belongs."""
    log.info("%s has left %s", volume.name, volume.library)
    export = way if way is not None and way.kind is MovementKind.EXPORT else None
    if export is not None:
        movements.step(session, export.pk, MovementState.LEFT, now, ACTOR, "seen by the inventory")
    media.place_volume(
        session,
        volume.pk,
        Place.SHELF,
        now,
        ACTOR,
        library=volume.library,
        shelf=export.shelf if export is not None else volume.shelf,
        site=export.site if export is not None else None,
    )


def _newcomer(session: Session, barcode: str, library: str, now: datetime) -> int:
    """A barcode that the catalog has never seen: scratch until its label says otherwise."""
    log.info("%s is new in %s", barcode, library)
    new = VolumeRef(
        pk=0,
        name=barcode,
        uuid=str(uuid.uuid4()),
        pool=None,
        state=VolumeState.SCRATCH,
        removable=True,
        capacity=0,
        used=0,
        library=library,
        place=Place.SLOT,
        element=None,
        shelf="",
        worm=is_write_once(barcode),
    )
    return media.add_volume(session, new, now, ACTOR)


def _end_of_way(session: Session, way: MovementRef | None, now: datetime) -> None:
    """A volume on its way is in the library: it has come back, or has never gone far."""
    if way is not None and way.kind is MovementKind.RETURN:
        movements.step(session, way.pk, MovementState.ARRIVED, now, ACTOR, "seen by the inventory")
    elif way is not None and way.state is MovementState.LEFT:
        movements.step(session, way.pk, MovementState.UNDONE, now, ACTOR, "it is in the library again")
