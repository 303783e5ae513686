"""Reads a cartridge's label and index into the catalog: what is known, unknown, and not there.

Nothing unknown is believed before every byte of it was read and compared with its manifest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from drivers.base import CHUNK_BYTES, ObjectStat, Store, VolumeLabel
from hsm.catalog import adoption, media, restored, volumelife
from hsm.catalog.adoption import Listed
from hsm.catalog.engine import Catalog
from hsm.catalog.media import VolumeRef
from hsm.content import ChunkReader
from hsm.custody import Custody
from hsm.errors import Corrupt, DriverError, NotFound, Refused, WrongVolume
from hsm.log import get_logger
from hsm.migrate import Migrate
from hsm.model import Place
from hsm.package import PackagePlan, Unpacker
from hsm.pools import Pools
from hsm.states import CopyState, VolumeState
from hsm.wake import Bell

log = get_logger(__name__)

NAMED_MAX = 200
"""Packages of each sort that an answer names."""
NO_PACKAGES = ("catalog/", "anchors/", "marks/")
"""Below these keys lie backups of the catalog, digests of its journal, and what was said of studies."""
EXPECTED = (CopyState.WRITTEN, CopyState.VERIFIED, CopyState.SUSPECT)


@dataclass
class Found:
    """What a scan has found."""

    barcode: str
    says: str
    known: int = 0
    left_over: int = 0
    """Packages whose copy here was released, or never finished: nobody counts on them."""
    unknown: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    adopted: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)

    def record(self) -> dict[str, object]:
        return {
            "barcode": self.barcode,
            "says": self.says,
            "known": self.known,
            "left_over": self.left_over,
            "unknown": len(self.unknown),
            "missing": len(self.missing),
            "adopted": len(self.adopted),
            "refused": len(self.refused),
            "named": {
                "unknown": self.unknown[:NAMED_MAX],
                "missing": self.missing[:NAMED_MAX],
                "adopted": self.adopted[:NAMED_MAX],
                "refused": [{"package": key, "why": why} for key, why in self.refused[:NAMED_MAX]],
            },
        }


class Scan:
    """Looks at cartridges."""

    def __init__(
        self, catalog: Catalog, pools: Pools, custody: Custody, migrate: Migrate, bell: Bell
    ) -> None:
        self._catalog = catalog
        self._pools = pools
        self._custody = custody
        self._migrate = migrate
        self._bell = bell

    def scan(self, barcode: str, by: str, *, adopt: bool = False, pool: str = "") -> dict[str, object]:
        """Read a cartridge's label and index in a free drive and compare them with the catalog.

        What the catalog expects on it and is not there is suspect.

        :param adopt: register packages that the catalog does not have, once every byte was compared.
        :param pool: for a cartridge of another archive: the pool that it becomes part of; its label's own
            without.
        :raises Refused: it is in no library, no drive is free, or it is another volume of ours.
        """
        with self._catalog.read() as session:
            volume = media.volume(session, barcode)
        library = volume.library
        if library is None or volume.place not in (Place.SLOT, Place.MAIL, Place.DRIVE):
            raise Refused(f"{barcode} is in no library; bring it in: hsm library import {barcode}")
        self._custody.inventory(library)
        with self._catalog.read() as session:
            volume = media.volume(session, barcode)
        with self._custody.free_drive(library, barcode) as drive:
            self._custody.vacate(volume, drive)
            found = self._look(volume, library, drive, by, adopt=adopt, pool=pool)
        self._custody.inventory(library)
        self._bell.ring()
        return found.record()

    def _look(self, volume: VolumeRef, library: str, drive: int, by: str, *, adopt: bool, pool: str) -> Found:
        changer = self._custody.library(library)
        try:
            label = changer.read_label(volume.name, drive)
        except WrongVolume as error:
            return self._not_ours(volume, str(error), by)
        if label is None:
            return self._not_ours(volume, "blank", by)
        words = f"volume {label.uuid} ({label.barcode}) of pool {label.pool!r}"
        self._note(volume, words)
        ours = label.uuid == volume.uuid
        if not ours:
            self._refuse_muddle(volume, label)
        store = changer.mount(label, drive)
        objects = list(store.list())
        with self._catalog.read() as session:
            expected = adoption.listed(session, volume.pk) if ours else {}
        found = Found(volume.name, words)
        unknown = _compare(found, objects, expected)
        if ours:
            self._mark_missing(found, objects, expected)
        if adopt and ours:
            self._compared(volume, by)
        if adopt and unknown:
            if not ours:
                self._import(volume, label, pool, library, by)
            self._adopt(found, volume, store, unknown, by)
        return found

    def _compared(self, volume: VolumeRef, by: str) -> None:
        """One that was left out when catalog and media were compared counts again."""
        if volume.state is VolumeState.SUSPECT and volume.error.startswith(restored.NOT_COMPARED):
            now = self._catalog.clock.now()
            with self._catalog.write() as session:
                media.move_volume(session, volume.pk, VolumeState.ACTIVE, now, by, "it was compared")

    def _not_ours(self, volume: VolumeRef, words: str, by: str) -> Found:
        """Blank, or somebody else's. Where the catalog has copies on it, they are not there."""
        self._note(volume, words)
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            held = volumelife.live_copies(session, volume.pk)
            fresh = media.volume_by_key(session, volume.pk).state
            if held:
                media.move_volume(session, volume.pk, VolumeState.SUSPECT, now, by, f"scanned: {words}")
            elif words != "blank" and fresh in (VolumeState.SCRATCH, VolumeState.RECYCLED):
                media.move_volume(session, volume.pk, VolumeState.FOREIGN, now, by, words)
            elif words == "blank" and fresh is VolumeState.FOREIGN:
                media.move_volume(session, volume.pk, VolumeState.SCRATCH, now, by, "it is blank now")
            expected = adoption.listed(session, volume.pk)
        found = Found(volume.name, words)
        if held:
            self._mark_missing(found, [], expected)
        return found

    def _note(self, volume: VolumeRef, words: str) -> None:
        with self._catalog.write() as session:
            media.look(session, volume.pk, words, self._catalog.clock.now())

    def _refuse_muddle(self, volume: VolumeRef, label: VolumeLabel) -> None:
        """:raises Refused: the label is of another volume of ours, or ours holds copies that are not here."""
        with self._catalog.read() as session:
            other = next((each for each in media.volumes(session) if each.uuid == label.uuid), None)
            held = volumelife.live_copies(session, volume.pk)
        if other is not None:
            raise Refused(
                f"what carries the barcode {volume.name} says it is {label.barcode} ({label.uuid}), which "
                f"the catalog has as {other.name}: find out which sticker is right; nothing was changed"
            )
        if held:
            raise Refused(
                f"{volume.name} says it is {label.barcode} ({label.uuid}); expected {volume.uuid}, with "
                f"{sum(held.values())} copies: nothing was changed"
            )

    def _mark_missing(self, found: Found, objects: Iterable[ObjectStat], expected: dict[str, Listed]) -> None:
        there = {each.key for each in objects}
        for locator, copy in expected.items():
            if locator not in there and copy.state in EXPECTED:
                found.missing.append(copy.package)
                self._migrate.proofs.judge(
                    copy.copy_pk, CopyState.SUSPECT, f"not on {found.barcode}: scanned"
                )

    def _import(self, volume: VolumeRef, label: VolumeLabel, pool: str, library: str, by: str) -> None:
        """:raises Refused: it is clear to no one which pool the cartridge belongs to."""
        name = pool or label.pool
        known = self._pools.tapes.get(name)
        if known is None or known.library != library:
            fitting = ", ".join(each.name for each in self._pools.tapes.values() if each.library == library)
            raise Refused(
                f"{volume.name} is of pool {label.pool!r}, which is none of {library} here; name one with "
                f"--pool: {fitting or 'there is none'}"
            )
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            why = f"adopted: {label.uuid} of pool {label.pool!r}"
            adoption.import_volume(session, volume.pk, name, label.uuid, now, by, why)

    def _adopt(
        self, found: Found, volume: VolumeRef, store: Store, unknown: Iterable[ObjectStat], by: str
    ) -> None:
        """Each package by itself: what is spoilt or contradicts the catalog does not keep the others out."""
        for each in unknown:
            key = each.key.rsplit("/", 1)[-1]
            try:
                plan, digest = _read(store, each)
                now = self._catalog.clock.now()
                with self._catalog.write() as session:
                    adoption.adopt(session, plan, digest, volume.pk, each.key, each.position, now, by)
            except (Corrupt, NotFound, Refused) as error:
                log.error("%s on %s is not adopted: %s", key, volume.name, error)
                found.refused.append((key, str(error)))
            else:
                found.adopted.append(key)
        try:
            room = store.capacity()
        except DriverError as error:
            log.warning("%s: its room is not known: %s", volume.name, error)
            return
        with self._catalog.write() as session:
            media.set_room(session, volume.pk, room.total, room.free)


def _compare(found: Found, objects: Iterable[ObjectStat], expected: dict[str, Listed]) -> list[ObjectStat]:
    """Sort what is on the cartridge; those that the catalog does not expect there."""
    unknown = []
    for each in objects:
        if each.key.startswith(NO_PACKAGES):
            continue
        copy = expected.get(each.key)
        if copy is None:
            found.unknown.append(each.key.rsplit("/", 1)[-1])
            unknown.append(each)
        elif copy.state in EXPECTED:
            found.known += 1
        else:
            found.left_over += 1
    return unknown


def _read(store: Store, each: ObjectStat) -> tuple[PackagePlan, bytes]:
    """A package's plan and digest, every byte read and compared.

    :raises Corrupt: it is no package, or not what its manifest says, or another one than its name says.
    """
    unpacker = Unpacker(ChunkReader(store.get(each.key)))
    for member, body in unpacker.members():
        digest = hashlib.sha256()
        while piece := body.read(CHUNK_BYTES):
            digest.update(piece)
        if digest.digest() != member.digest:
            raise Corrupt(f"{member.name}: SHA-256 is {digest.hexdigest()}, not what the manifest says")
    key = each.key.rsplit("/", 1)[-1]
    if unpacker.plan.identity.key != key:
        raise Corrupt(f"{key} says that it is {unpacker.plan.identity.key}")
    return unpacker.plan, unpacker.digest
