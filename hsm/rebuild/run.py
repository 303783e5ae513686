"""A catalog made from labels and manifests, volume by volume.

Volumes that need no drive come first: what they hold needs only the indexes of the tapes afterwards; then
cartridges, on all drives at the same time. A volume that was read to its end is not read again; one that
cannot be read keeps no other one out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, replace
from datetime import datetime

from sqlalchemy.orm import Session

from drivers.base import Capacity, Recallable, Store, VolumeLabel
from drivers.errors import NotReadableNow
from drivers.wrappers import recallable
from hsm.catalog import marksfound, media, rebuilding
from hsm.catalog.engine import Catalog
from hsm.catalog.media import VolumeRef
from hsm.custody import Custody
from hsm.errors import Corrupt, DriverError, HsmError, NotFound, Refused, WrongVolume
from hsm.log import get_logger
from hsm.marksfile import Stand
from hsm.model import Layout, Place
from hsm.pools import DiskPool, LibraryPool, Pools
from hsm.rebuild.abreast import Abreast
from hsm.rebuild.board import Board
from hsm.rebuild.deleted import in_trash
from hsm.rebuild.lanes import Turn, drive_lanes
from hsm.rebuild.loose import Loose, ReadHeader
from hsm.rebuild.sidebyside import side_by_side
from hsm.rebuild.sources import Files, Source, Tars, anchors_on, marks_at
from hsm.rebuild.take import Pace, Taking
from hsm.rebuild.values import NAMED_MAX, Report, Tell, VolumeReport
from hsm.states import BLANK_VOLUMES, VolumeState

log = get_logger(__name__)

ACTOR = "rebuild"
BLANK = "blank"
ANCHORS_MAX = 100
"""Of one volume, the last ones."""


class Rebuild:
    """Reads volumes into a catalog."""

    _verb = rebuilding.REBUILT

    def __init__(
        self,
        catalog: Catalog,
        pools: Pools,
        custody: Custody,
        read_header: ReadHeader,
        *,
        verify: bool = False,
        with_deleted: bool = False,
        drives_max: int | None = None,
        tell: Tell = lambda _: None,
        monotonic: Callable[[], float] = time.monotonic,
        actor: str = ACTOR,
    ) -> None:
        """
        :param pools: opened with ``catalog``.
        :param drives_max: as many cartridges are read at the same time; None: as there are drives.
        :param verify: read every byte back.
        :param with_deleted: what volumes say of deletions does not count.
        """
        self._catalog = catalog
        self._pools = pools
        self._custody = custody
        self._read_header = read_header
        self._verify = verify
        self._with_deleted = with_deleted
        self._drives_max = drives_max
        self._board = Board(tell, monotonic)
        self._monotonic = monotonic
        self._actor = actor
        self._names: frozenset[str] = frozenset()
        self._since: datetime | None = None
        """What was read back since then need not be again."""
        self._heed_since = 0
        """What was said of a study behind this record is newer than any volume."""

    def run(self, wanted: Sequence[str]) -> Report:
        """Read the volumes and pools named, all when none is; what was read to its end before is not.

        :raises NotFound: there is no such pool, and no such volume is here.
        """
        self._names = frozenset(wanted)
        for name in self._pools.libraries:
            self._custody.inventory(name)
        disks, cartridges = self._chosen(wanted)
        done = self._done_before()
        report = Report()
        volumes = len(disks) + len(cartridges)
        for number, pool in enumerate(disks, 1):
            report.volumes.append(self._disk(pool, number, volumes, pool.label in done))
        turns = [Turn(number, each, volumes) for number, each in enumerate(cartridges, len(disks) + 1)]
        report.volumes += self._cartridges(turns, done)
        for pool in disks:
            if pool.layout is Layout.FILES:
                mine = next(each for each in report.volumes if each.volume == pool.label)
                if not mine.failed:
                    self._guarded(mine, lambda pool=pool, mine=mine: self._loose(pool, mine))  # type: ignore[misc]
        self._end(report)
        return report

    def _done_before(self) -> set[str]:
        """The volumes that need not be read again."""
        if self._verify:
            return set()
        with self._catalog.read() as session:
            return rebuilding.volumes_done(session, rebuilding.REBUILT)

    def _chosen(self, wanted: Sequence[str]) -> tuple[list[DiskPool], list[VolumeRef]]:
        """The volumes named, or all there are: those that need no drive (packages on them are read for
        their digests, so the quick ones first), then cartridges by barcode."""
        with self._catalog.read() as session:
            inside = [
                each
                for each in media.volumes(session)
                if each.removable and each.place in (Place.SLOT, Place.MAIL, Place.DRIVE)
            ]
        names = set(wanted)
        tapes = {pool.library for pool in self._pools.tapes.values() if pool.name in names}
        known = {*self._pools.names, *self._pools.disks, *(each.name for each in inside)}
        if strange := sorted(names - known):
            raise NotFound(
                f"{', '.join(strange)}: no pool, no volume of one, and in no library; bring it in first. "
                f"There are: {', '.join(sorted(known)[:NAMED_MAX])}"
            )
        disks = [pool for pool in self._pools.disks.values() if not names or names & {pool.name, pool.label}]
        disks.sort(key=lambda pool: (pool.cold, not pool.local))
        cartridges = [each for each in inside if not names or each.name in names or each.library in tapes]
        return disks, cartridges

    def _disk(self, pool: DiskPool, number: int, volumes: int, done: bool) -> VolumeReport:
        found = VolumeReport(pool.label, f"volume {pool.label} of pool {pool.name}")
        if done:
            found.skipped = True
            return found
        source: Source = Files(pool) if pool.layout is Layout.FILES else Tars(pool.store)
        pace = Pace(pool.label, number, volumes, None, self._monotonic(), _held(pool))
        self._board.begin(pool.label, number, volumes)
        self._guarded(found, lambda: self._packages(pool.volume_pk, found, source, pool.store, pace))
        self._board.end(number)
        if not found.failed and pool.layout is not Layout.FILES:
            self._done(found)
        return found

    def _loose(self, pool: DiskPool, found: VolumeReport) -> None:
        began = self._monotonic()
        Loose(self._catalog, self._actor, self._read_header, verify=self._verify).instances(pool, found)
        found.seconds += self._monotonic() - began
        if not found.skipped:
            self._done(found)

    def _packages(
        self,
        volume_pk: int,
        found: VolumeReport,
        source: Source,
        store: Store,
        pace: Pace,
        abreast: Abreast | None = None,
    ) -> None:
        cold = recallable(store) if store.traits.cold else None
        taking = Taking(
            self._catalog,
            self._actor,
            verify=self._verify,
            tell=self._board.progress,
            monotonic=self._monotonic,
            ask=(lambda key: _ask(cold, key, found)) if cold is not None else None,
            keeps_deleted=store.traits.append_only,
            since=self._since,
            abreast=abreast,
        )
        try:
            taking.packages(volume_pk, found, source, pace)
            self._marks(found, store, cold)
            self._read(volume_pk, found, store)
            found.anchors = anchors_on(store, found.anchors[-ANCHORS_MAX:])
        finally:
            found.seconds = self._monotonic() - pace.began

    def _marks(self, found: VolumeReport, store: Store, cold: Recallable | None) -> None:
        """What people said of studies, as the volume carries it."""
        for key in found.marks:
            try:
                stand, said = marks_at(store, key)
                if not self._heeds(stand):
                    continue
                if self._with_deleted:
                    said = [replace(each, deleted=None) for each in said]
                with self._catalog.write() as session:
                    now = self._catalog.clock.now()
                    news = marksfound.learn(
                        session, stand, said, found.volume, now, self._actor, self._heed_since
                    )
                found.marked += len(news)
            except NotReadableNow:
                if cold is not None:
                    _ask(cold, key, found)
                found.waiting.append(key)
            except (Corrupt, NotFound) as error:
                log.error("%s of %s is not heeded: %s", key, found.volume, error)
                found.quarantined.append((key, f"what it says of studies is not heeded: {error}"))

    def _heeds(self, stand: Stand) -> bool:
        """Whether what is said of that time may be news."""
        return True

    def _read(self, volume_pk: int, found: VolumeReport, store: Store) -> None:
        """A volume was read to its end."""

    def _guarded(self, found: VolumeReport, act: Callable[[], None]) -> None:
        """What a volume fails at is its own trouble."""
        try:
            act()
        except (DriverError, HsmError) as error:
            log.error("%s: %s", found.volume, error)
            found.failed = str(error)

    def _cartridges(self, turns: Sequence[Turn], done: Collection[str]) -> list[VolumeReport]:
        """What the cartridges hold that are not blank: as many at the same time as there are drives."""
        found = {
            turn.number: VolumeReport(turn.volume.name, skipped=True)
            for turn in turns
            if turn.volume.name in done
        }
        lanes = drive_lanes(
            self._catalog,
            self._custody,
            [turn for turn in turns if turn.number not in found],
            self._drives_max,
        )
        wide = sum(lane.width for lane in lanes)
        at_most = wide if self._drives_max is None else min(wide, self._drives_max)
        self._board.expect(sum(len(lane.items) for lane in lanes), at_most)
        abreast = Abreast()

        def announce(turn: Turn) -> None:
            abreast.announce(turn.number)
            self._board.begin(turn.volume.name, turn.number, turn.volumes)

        def act(turn: Turn) -> None:
            mine = None
            try:
                mine = self._cartridge(turn, abreast if at_most > 1 else None)
            finally:
                abreast.over(turn.number)
                self._board.end(turn.number, counts=mine is not None and not mine.failed)
            if mine is not None:
                found[turn.number] = mine

        side_by_side(lanes, at_most, announce, act, abreast.stop)
        return [found[number] for number in sorted(found)]

    def _cartridge(self, turn: Turn, abreast: Abreast | None) -> VolumeReport | None:
        """What a cartridge holds; None for one that is blank."""
        volume = turn.volume
        found = VolumeReport(volume.name)
        library = volume.library or ""
        try:
            with self._custody.free_drive(library, volume.name) as drive:
                with self._catalog.read() as session:
                    volume = media.volume(session, volume.name)
                self._custody.vacate(volume, drive)
                if not self._in_drive(volume, library, drive, found, turn, abreast):
                    return None
        except (DriverError, HsmError) as error:
            log.error("%s: %s", found.volume, error)
            found.failed = str(error)
        finally:
            self._guarded(found, lambda: void(self._custody.inventory(library)))
        if not found.failed:
            self._done(found)
        return found

    def _in_drive(
        self,
        volume: VolumeRef,
        library: str,
        drive: int,
        found: VolumeReport,
        turn: Turn,
        abreast: Abreast | None,
    ) -> bool:
        """Whether it is one of this archive's."""
        changer = self._custody.library(library)
        try:
            label = changer.read_label(volume.name, drive)
        except WrongVolume as error:
            return self._not_ours(volume, found, str(error))
        if label is None:
            return self._not_ours(volume, found, BLANK)
        if self._names and not self._names & {volume.name, label.pool}:
            return False
        found.says = f"volume {label.uuid} ({label.barcode}) of pool {label.pool!r}"
        self._identify(volume, label, library)
        if volume.state is VolumeState.RECYCLED and volume.uuid == label.uuid:
            return False  # what is on it was given up before
        store = changer.mount(label, drive)
        objects = sum(1 for _ in store.list())
        pace = Pace(volume.name, turn.number, turn.volumes, objects, self._monotonic())
        self._packages(volume.pk, found, Tars(store), store, pace, abreast)
        self._note_room(volume.pk, store.capacity(), holds_something=objects > 0)
        return True

    def _not_ours(self, volume: VolumeRef, found: VolumeReport, words: str) -> bool:
        """Blank, or somebody else's; whether the report names it."""
        found.says = words
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            media.look(session, volume.pk, words, now)
            if words != BLANK and volume.state in BLANK_VOLUMES:
                media.move_volume(session, volume.pk, VolumeState.FOREIGN, now, self._actor, words)
        return words != BLANK

    def _identify(self, volume: VolumeRef, label: VolumeLabel, library: str) -> None:
        """The volume is what its label says.

        :raises Refused: its sticker says something else, its pool is not configured, or another volume has
            this identity.
        """
        pool: LibraryPool | None = self._pools.tapes.get(label.pool)
        if label.barcode != volume.name:
            raise Refused(f"what carries the barcode {volume.name} says that it is {label.barcode}")
        if pool is None or pool.library != library:
            raise Refused(f"it is of pool {label.pool!r}, which is no pool of {library}: configure it")
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            same = next((each for each in media.volumes(session) if each.uuid == label.uuid), None)
            if same is not None and same.pk != volume.pk:
                raise Refused(f"it says that it is {label.uuid}, and so does {same.name}")
            if volume.uuid != label.uuid:
                self._own(session, volume, label, now)

    def _own(self, session: Session, volume: VolumeRef, label: VolumeLabel, now: datetime) -> None:
        """The catalog does not know yet that the volume is this one."""
        media.give_to_pool(session, volume.pk, label.pool, label.uuid, now, self._actor)

    def _note_room(self, pk: int, room: Capacity, *, holds_something: bool) -> None:
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            media.set_room(session, pk, room.total, room.free)
            if holds_something and media.volume_by_key(session, pk).state is VolumeState.LABELLED:
                media.move_volume(session, pk, VolumeState.ACTIVE, now, self._actor, "it holds packages")
            if room.free == 0 and media.volume_by_key(session, pk).state is VolumeState.ACTIVE:
                media.move_volume(session, pk, VolumeState.FULL, now, self._actor, "no room is left")

    def _done(self, found: VolumeReport) -> None:
        if found.waiting:
            return
        now = self._catalog.clock.now()
        record = found.record()
        detail = {name: record[name] for name in ("says", "packages", "copies", "verified", "quarantined")}
        detail["anchors"] = found.anchors[:NAMED_MAX]
        with self._catalog.write() as session:
            rebuilding.volume_done(session, found.volume, self._verb, now, self._actor, detail)

    def _end(self, report: Report) -> None:
        report.differs = list(report.contradictions())
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            report.totals = asdict(rebuilding.totals(session))
            report.deleted = list(in_trash(session, NAMED_MAX))
            if report.complete:
                self._finish(session, report, now)

    def _finish(self, session: Session, report: Report, now: datetime) -> None:
        anchors = sorted({each for volume in report.volumes for each in volume.anchors})
        detail = {
            "volumes": [each.volume for each in report.volumes][:NAMED_MAX],
            "totals": report.totals,
            "quarantined": report.quarantined,
            "anchors": anchors[:NAMED_MAX],
        }
        rebuilding.finished(session, now, self._actor, detail)


def _held(pool: DiskPool) -> int:
    """Bytes that a volume seems to hold; 0 where it does not say."""
    try:
        room = pool.room()
    except DriverError:
        return 0
    return max(0, room.total - room.free) if room is not None else 0


def _ask(cold: Recallable, key: str, found: VolumeReport) -> None:
    found.ask_again_seconds = max(found.ask_again_seconds, cold.request_recall(key).ask_again_seconds)


def void(_: object) -> None:
    """For a callback whose answer nobody wants."""
