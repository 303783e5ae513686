"""The life of single volumes: labelled, moved on the shelf, read back, recycled, retired, lost."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from drivers.base import Library, Overwriting, VolumeLabel
from hsm.barcodes import belongs
from hsm.catalog import (
    details,
    media,
    movements,
    placement,
    prompts,
    queue,
    requesting,
    restored,
    usage,
    volumelife,
)
from hsm.catalog.engine import Catalog
from hsm.catalog.media import VolumeRef
from hsm.catalog.requesting import NewRequest
from hsm.catalog.volumelife import Gone
from hsm.custody import Custody
from hsm.errors import BadInput, Refused, WrongVolume
from hsm.guard import GOOD_VOLUMES
from hsm.log import get_logger
from hsm.model import Goal, Place, Priority
from hsm.pools import LibraryPool, Pools
from hsm.states import (
    BLANK_VOLUMES,
    CopyState,
    MovementKind,
    MovementState,
    Outcome,
    RequestKind,
    VolumeState,
)
from hsm.wake import Bell

log = get_logger(__name__)

LOST_BATCH = 500
"""Copies that are marked as lost in one transaction."""
NAMED_MAX = 20
"""Packages that an answer names one by one."""
REUSED = (*BLANK_VOLUMES, VolumeState.FOREIGN)
"""States of volumes that may get a label."""

GoalsNow = Callable[[str], Sequence[Goal]]
"""The copy goals in force for a study (by its UID)."""


class NotBlank(Refused):
    """A volume that was taken for blank carries something: it was left alone, another one may do."""


class Volumes:
    """Acts on single volumes."""

    def __init__(
        self, catalog: Catalog, pools: Pools, custody: Custody, bell: Bell, goals_now: GoalsNow
    ) -> None:
        self._catalog = catalog
        self._pools = pools
        self._custody = custody
        self._bell = bell
        self._goals_now = goals_now

    def label(self, barcode: str, pool: str, by: str, overwrite: str = "") -> dict[str, object]:
        """Give a volume to a pool: label it in a free drive.

        :param overwrite: the barcode once more, typed out: whatever is on the cartridge is written over.
        :raises Refused: it is not blank, holds copies, no such pool, or no drive is free.
        """
        with self._catalog.read() as session:
            restored.require(session, f"{barcode} is not labelled")
            volume = media.volume(session, barcode)
            held = volumelife.live_copies(session, volume.pk)
        tape = self._pool_for(volume, pool)
        if held:
            raise Refused(f"{barcode} is {volume.state.value} and holds copies that count; nothing was done")
        if volume.state not in REUSED:
            raise Refused(f"{barcode} is {volume.state.value}, not scratch; recycle it first")
        if overwrite and overwrite != barcode:
            raise BadInput(f"overwrite {overwrite!r}: type the volume's barcode out, {barcode}")
        if volume.state is VolumeState.FOREIGN and not overwrite:
            raise Refused(
                f"{barcode} is foreign: {volume.content or 'not blank'}; left alone. To use it all the same, "
                f"type its barcode: hsm volume label {barcode} --pool {tape.name} --overwrite {barcode}"
            )
        with self._custody.free_drive(tape.library, barcode) as drive:
            if overwrite:
                was = self._overwrite(volume, tape, drive, by)
            else:
                self.label_in(volume, tape.name, tape.library, drive, by)
                was = ""
        self._custody.inventory(tape.library)
        done: dict[str, object] = {"barcode": barcode, "pool": tape.name}
        return done | ({"was": was} if was else {})

    def _pool_for(self, volume: VolumeRef, name: str) -> LibraryPool:
        """:raises Refused: there is no such pool, none is named where there are several, or the barcode is
        kept for others."""
        tapes = self._pools.tapes
        if not name:
            fitting = [pool for pool in tapes.values() if belongs(volume.name, pool.scratch)]
            if len(fitting) != 1:
                found = ", ".join(pool.name for pool in fitting) or "none"
                raise Refused(f"name the pool with --pool; {volume.name} may go to: {found}")
            return fitting[0]
        pool = tapes.get(name)
        if pool is None:
            raise Refused(f"{name!r} is not a pool of a library; those are: {', '.join(tapes)}")
        if not belongs(volume.name, pool.scratch):
            raise Refused(f"{volume.name} is not for pool {name}, which takes {', '.join(pool.scratch)}")
        return pool

    def label_in(self, volume: VolumeRef, pool: str, library: str, drive: int, by: str) -> VolumeLabel:
        """Write a label on a scratch or recycled volume in a drive that the caller has claimed.

        :raises NotBlank: it carries something else than it should; it is foreign (or suspect, where its
            label is another one of ours) and left alone.
        """
        with self._catalog.read() as session:
            restored.require(session, f"{volume.name} is not labelled")
        changer = self._custody.library(library)
        try:
            found = changer.read_label(volume.name, drive)
        except WrongVolume as error:
            raise self._left_alone(volume, VolumeState.FOREIGN, str(error), by) from error
        now = self._catalog.clock.now()
        label = VolumeLabel(volume.name, str(uuid.uuid4()), pool)
        if found is None:
            changer.label(label, drive)
        elif volume.state is VolumeState.RECYCLED and found.uuid == volume.uuid:
            changer.unmount(drive)  # what is mounted is not written over
            self._overwriting(changer).overwrite(label, drive, volume.name)
        elif (found.barcode, found.pool) == (volume.name, pool) and self._is_empty(changer, found, drive):
            label = found  # we labelled it and died before the catalog knew: nothing else is on it
        else:
            words = f"it carries the label of pool {found.pool!r} ({found.barcode}, {found.uuid})"
            raise self._left_alone(volume, self._whose(found), words, by)
        with self._catalog.write() as session:
            media.give_to_pool(session, volume.pk, pool, label.uuid, now, by)
            usage.forgive_volume(session, volume.pk)
        return label

    def _whose(self, found: VolumeLabel) -> VolumeState:
        """A label of ours under another barcode is a muddle; an unknown one is another archive's."""
        with self._catalog.read() as session:
            known = any(each.uuid == found.uuid for each in media.volumes(session))
        return VolumeState.SUSPECT if known else VolumeState.FOREIGN

    def _left_alone(self, volume: VolumeRef, state: VolumeState, words: str, by: str) -> NotBlank:
        """A volume that is not blank is nobody's scratch any more; the error that says so."""
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            media.look(session, volume.pk, words, now)
            media.move_volume(session, volume.pk, state, now, by, words)
        log.warning("operator: %s is not blank and was left alone: %s", volume.name, words)
        return NotBlank(f"{volume.name} is not blank and was left alone: {words}")

    def _overwrite(self, volume: VolumeRef, pool: LibraryPool, drive: int, by: str) -> str:
        """:raises Refused: the library cannot, or what is on it is a volume of ours that holds copies."""
        changer = self._custody.library(pool.library)
        over = self._overwriting(changer)
        with contextlib.suppress(WrongVolume):  # somebody else's: that is what overwriting is for
            found = changer.read_label(volume.name, drive)
            if found is not None:
                self._refuse_known(volume, found)
        changer.unmount(drive)
        label = VolumeLabel(volume.name, str(uuid.uuid4()), pool.name)
        was = over.overwrite(label, drive, volume.name)
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            media.give_to_pool(session, volume.pk, pool.name, label.uuid, now, f"{by}, who overwrote: {was}")
            usage.forgive_volume(session, volume.pk)
        return was

    def _refuse_known(self, volume: VolumeRef, found: VolumeLabel) -> None:
        """Stickers were exchanged: behind this barcode lies a volume that holds copies."""
        with self._catalog.read() as session:
            known = next((each for each in media.volumes(session) if each.uuid == found.uuid), None)
            held = volumelife.live_copies(session, known.pk) if known is not None else {}
        if known is not None and held:
            raise Refused(
                f"what carries the barcode {volume.name} says it is {found.barcode}, which holds "
                f"{sum(held.values())} copies that count: nothing was written"
            )

    @staticmethod
    def _overwriting(changer: Library) -> Overwriting:
        if not isinstance(changer, Overwriting):
            raise Refused(f"library {changer.name} cannot write over a label")
        return changer

    @staticmethod
    def _is_empty(changer: Library, label: VolumeLabel, drive: int) -> bool:
        return next(iter(changer.mount(label, drive).list()), None) is None

    def move(self, barcode: str, shelf: str, by: str) -> dict[str, object]:
        """Note another place on the shelf for a volume that is not in a library.

        :raises Refused: it is in a library.
        """
        with self._catalog.write() as session:
            volume = media.volume(session, barcode)
            if volume.place not in (Place.SHELF, Place.UNKNOWN):
                raise Refused(f"{barcode} is in {volume.library or 'use'}; export it first")
            now = self._catalog.clock.now()
            media.place_volume(session, volume.pk, Place.SHELF, now, by, library=volume.library, shelf=shelf)
            way = movements.open_of(session, volume.pk)
            if way is not None and way.kind is MovementKind.EXPORT:  # somebody has seen where it stands
                movements.step(session, way.pk, MovementState.ARRIVED, now, by, "", shelf)
        return {"barcode": barcode, "shelf": shelf}

    def verify(self, barcode: str, by: str) -> dict[str, object]:
        """Queue a read-back of every copy on a volume; how many requests that made.

        :raises NotFound: no such volume.
        :raises Refused: what lies on it is cold.
        """
        pool = self._pools.disks.get(barcode)
        if pool is not None and pool.cold:
            raise Refused(
                f"what lies on {barcode} is cold: reading it back costs money and hours; a policy's rule "
                "`verify` does it where that is wanted"
            )
        made = 0
        with self._catalog.write() as session:
            volume = media.volume(session, barcode)
            for package_pk, study_pk, key in placement.packages_on(session, volume.pk):
                _, new = requesting.enqueue(
                    session,
                    self._catalog.clock.now(),
                    by,
                    RequestKind.VERIFY,
                    f"verify:{key}:{volume.name}",
                    priority=Priority.SCRUB,
                    reason=f"asked for by {by}",
                    study_pk=study_pk,
                    package_pk=package_pk,
                    volume_pk=volume.pk,
                    pool=volume.pool,
                )
                made += new
        self._bell.ring()
        return {"barcode": barcode, "requests": made}

    def retire(self, barcode: str, by: str, reason: str = "") -> dict[str, object]:
        """Take a volume that holds nothing that counts out of use for good.

        :raises Refused: copies on it still count.
        """
        return self._end(barcode, VolumeState.RETIRED, by, reason)

    def recycle(self, barcode: str, by: str, reason: str = "") -> dict[str, object]:
        """Let a volume that holds nothing that counts be labelled anew, for any pool that may have it.

        :raises Refused: copies on it still count, or it is write-once.
        """
        return self._end(barcode, VolumeState.RECYCLED, by, reason)

    def _end(self, barcode: str, to: VolumeState, by: str, reason: str) -> dict[str, object]:
        with self._catalog.write() as session:
            volumelife.end(session, barcode, to, self._catalog.clock.now(), by, reason)
        self._bell.ring()
        return {"barcode": barcode, "state": to.value}

    def lost(self, barcode: str, by: str, reason: str) -> dict[str, object]:
        """Give a volume up: its copies are lost, and what the goals in force then lack is copied anew.

        Said again after a crash it goes on where it was.

        :raises Refused: it is a file system, or retired.
        """
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            volume = media.volume(session, barcode)
            if not volume.removable or volume.state is VolumeState.RETIRED:
                raise Refused(f"{barcode} is {'retired' if volume.removable else 'not removable'}")
            media.move_volume(session, volume.pk, VolumeState.LOST, now, by, reason)
            if volume.place in (Place.SHELF, Place.UNKNOWN):
                media.place_volume(session, volume.pk, Place.UNKNOWN, now, by, library=volume.library)
            prompts.answer(session, volume.pk, Outcome.REFUSED, now, by, f"lost: {reason}")
            if (way := movements.open_of(session, volume.pk)) is not None:
                movements.step(session, way.pk, MovementState.UNDONE, now, by, f"lost: {reason}")
        gone: list[Gone] = []
        requests = 0
        for some in self._lose(volume.pk, by, f"{barcode} is lost: {reason}"):
            gone += some
            requests += self._copy_again([each for each in some if each.readable], barcode, by)
        with self._catalog.write() as session:
            queue.wake_waiting(session, volume.pk, now, by)
        self._bell.ring()
        without = [each.package.key for each in gone if not each.readable]
        for key in without:
            log.error("%s: its last copy was lost with %s", key, barcode)
        return {
            "barcode": barcode,
            "state": VolumeState.LOST.value,
            "copies": len(gone),
            "requests": requests,
            "without_copy": len(without),
            "named": without[:NAMED_MAX],
        }

    def _lose(self, volume_pk: int, by: str, why: str) -> Iterator[list[Gone]]:
        while True:
            with self._catalog.write() as session:
                now = self._catalog.clock.now()
                gone = volumelife.lose_copies(session, volume_pk, now, by, why, LOST_BATCH)
                left = volumelife.live_copies(session, volume_pk)
            if not gone:
                return
            yield gone
            if not left:
                return

    def _copy_again(self, gone: Sequence[Gone], barcode: str, by: str) -> int:
        """Queue what the goals in force demand and have no longer; how many requests that made."""
        goals = {each.package.pk: list(self._goals_now(each.package.study_uid)) for each in gone}
        with self._catalog.write() as session:
            facts = placement.copy_facts_of(session, goals)
            wanted: list[NewRequest] = []
            for each in gone:
                good = [
                    fact.pool
                    for fact in facts.get(each.package.pk, ())
                    if fact.state is CopyState.VERIFIED and fact.volume_state in GOOD_VOLUMES
                ]
                wanted += self._lacking(each, goals[each.package.pk], good, barcode)
            made = requesting.enqueue_many(session, self._catalog.clock.now(), by, wanted)
        return len(made)

    def _lacking(
        self, each: Gone, goals: Sequence[Goal], good: Sequence[str], barcode: str
    ) -> Iterator[NewRequest]:
        detail: dict[str, Any] = {details.GOALS: [goal.record() for goal in goals]}
        for goal in goals:
            if goal.pools or goal.pool not in self._pools.names:
                continue  # of a group of pools: which one, the policy's rules say at its next run
            for number in range(good.count(goal.pool), goal.copies):
                yield NewRequest(
                    kind=RequestKind.COPY,
                    key=f"copy:{each.package.key}:{goal.pool}:{number}",
                    priority=Priority.MIGRATION,
                    reason=f"its copy on {barcode} is lost",
                    study_pk=each.package.study_pk,
                    package_pk=each.package.pk,
                    pool=goal.pool,
                    detail=detail | {details.COPIES: goal.copies},
                )
