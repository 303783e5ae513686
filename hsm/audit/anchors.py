"""Anchors as they are found: on cartridges and discs, in pools, and in the journal's own later records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from drivers.base import Store, VolumeLabel
from drivers.notes import NOTES_KEPT, annotated
from hsm.anchor import BYTES_MAX, Anchor, is_key, parse
from hsm.anchoring import ANCHORED
from hsm.catalog import journal, media, restored
from hsm.catalog.chaincheck import Kept, Problem
from hsm.catalog.engine import Catalog
from hsm.catalog.journal import Entry, Wanted
from hsm.custody import Custody
from hsm.errors import NotFound, Refused
from hsm.model import Place
from hsm.pools import Pools
from hsm.states import BLANK_VOLUMES, VolumeState

ANCHORS_MAX = 10_000
"""Of one volume, the last ones."""
_NEW_LABELS = (VolumeState.LABELLED.value, "relabelled")
"""Verbs: what was written before is no longer on the volume."""


@dataclass(frozen=True, slots=True)
class Carried:
    """What a volume says of the journal."""

    kept: tuple[Kept, ...]
    problems: tuple[Problem, ...] = ()
    """What it should say and does not."""


def remembered(session: Session) -> list[Kept]:
    """What the journal itself says was written onto volumes: somebody who writes a record anew and forgets
    these is found out without a volume."""
    found = []
    for entry in journal.find(session, Wanted(verb=ANCHORED, kind="volume"), ANCHORS_MAX):
        seq, digest = entry.detail.get("seq"), _hex(entry.detail.get("sha256"))
        if type(seq) is int and digest is not None:
            found.append(Kept(seq, digest, f"on {entry.subject}, as record {entry.seq} says"))
    return found


class AnchorReader:
    """Reads anchors back from where :mod:`hsm.anchoring` has put them."""

    def __init__(self, catalog: Catalog, pools: Pools, custody: Custody, archive: str) -> None:
        self._catalog = catalog
        self._pools = pools
        self._custody = custody
        self._archive = archive

    def read(self, volume: str) -> Carried:
        """The anchors of this archive on a volume, by its name or barcode, mounted if need be; a problem
        where one is missing that the journal says was written: an older generation of its index is in force,
        or that of another volume.

        :raises NotFound: there is no such volume; or it is a pool of a library, of which one must be named.
        :raises Refused: it is in no library, no drive is free, or there is no anchor on it and none is known.
        """
        if volume in self._pools.tapes:
            raise NotFound(
                f"{volume} is a pool of a library: name one of its volumes; hsm volume ls --pool {volume}"
            )
        disk = self._pools.disks.get(volume)
        lines = objects(disk.store) if disk is not None else self._mounted(volume)
        anchors = [each for each in map(parse, lines) if each is not None]
        mine = [each for each in anchors if each.archive == self._archive][-ANCHORS_MAX:]
        if mine and not (mine := self._of_this_journal(mine)):
            raise Refused(
                f"every anchor on {volume} is of the journal that was lost with its database; what was kept "
                "of it then is in the records of the rebuild or restore: hsm audit log --subject catalog"
            )
        with self._catalog.read() as session:
            problems = _missing(volume, _written_on(session, volume), anchors)
        if not mine and not problems:
            others = ", ".join(sorted({each.archive for each in anchors}))
            raise Refused(
                f"no anchor of {self._archive} is on {volume}" + (f", but of {others}" * bool(others))
            )
        return Carried(tuple(_kept(each, volume) for each in mine), problems)

    def _of_this_journal(self, anchors: Sequence[Anchor]) -> list[Anchor]:
        """Without those of records that a restore or a rebuild did not bring back."""
        with self._catalog.read() as session:
            lost = restored.lost_ways(session)
        return [
            each
            for each in anchors
            if not any(each.seq > behind and each.at <= until for behind, until in lost)
        ]

    def _mounted(self, barcode: str) -> list[str]:
        with self._catalog.read() as session:
            volume = media.volume(session, barcode)
        library = volume.library
        if library is None or volume.place not in (Place.SLOT, Place.MAIL, Place.DRIVE):
            raise Refused(f"{barcode} is in no library; bring it in: hsm library import {barcode}")
        if volume.pool is None or volume.state in BLANK_VOLUMES:
            raise Refused(f"{barcode} is {volume.state.value}: this archive has written nothing on it")
        with self._custody.free_drive(library, barcode) as drive:
            self._custody.vacate(volume, drive)
            label = VolumeLabel(volume.name, volume.uuid, volume.pool)
            carrier = annotated(self._custody.library(library).mount(label, drive))
            lines = list(carrier.notes()) if carrier is not None else []
        self._custody.inventory(library)
        return lines


def objects(store: Store) -> list[str]:
    """What the anchors in a pool that needs no drive say, in order."""
    keys = sorted(each.key for each in store.list() if is_key(each.key) and each.size <= BYTES_MAX)
    found = (b"".join(store.get(key)) for key in keys[-ANCHORS_MAX:])
    return [data.decode("ascii", "replace").strip() for data in found]


def _written_on(session: Session, volume: str) -> list[Entry]:
    """The journal's records of anchors on this volume since it has its label, as many as it keeps at least;
    the last first."""
    labels = (journal.last(session, Wanted(subject=volume, verb=each, kind="volume")) for each in _NEW_LABELS)
    since = max((label.seq for label in labels if label is not None), default=0)
    wanted = Wanted(subject=volume, verb=ANCHORED, kind="volume")
    return [each for each in journal.find(session, wanted, NOTES_KEPT) if each.seq > since]


def _missing(volume: str, written: Sequence[Entry], found: Sequence[Anchor]) -> tuple[Problem, ...]:
    """One problem where anchors are missing on a volume, however many. Of a volume that carries very many,
    the first may be gone."""
    carried = {(each.seq, each.digest) for each in found}
    first = found[0].seq if len(found) >= NOTES_KEPT else 0
    missing = [
        each
        for each in written
        if (seq := each.detail.get("seq", 0)) >= first
        and (seq, _hex(each.detail.get("sha256"))) not in carried
    ]
    if not missing:
        return ()
    last = missing[0]
    has = f"the last that it carries is of record {found[-1].seq}" if found else "it carries none"
    said = (
        f"{volume} does not carry the anchor of record {last.detail.get('seq')} that was written onto it at "
        f"{last.at:%Y-%m-%d %H:%M} UTC, as record {last.seq} says ({len(missing)} missing; {has}): an older "
        "generation of it is in force, or what another volume carries"
    )
    return (Problem(last.seq, said),)


def _kept(anchor: Anchor, volume: str) -> Kept:
    return Kept(anchor.seq, anchor.digest, f"on {volume} at {anchor.at:%Y-%m-%d %H:%M} UTC")


def _hex(said: object) -> bytes | None:
    try:
        return bytes.fromhex(said) if isinstance(said, str) else None
    except ValueError:
        return None
