"""One volume's packages into the catalog: read no more than is needed, believe no more than was read.

What the catalog has already gets a further copy when the medium's own list of digests, or else its manifest,
says that it is the same; a package that is new is believed by its manifest where the medium has noted the
digest of the whole, and is read to the last byte where it has not. Only what was read back is verified.

Every package is a transaction of its own: whoever is killed goes on where he was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import TypeVar

from drivers.errors import NotReadableNow
from hsm import marksfile
from hsm.anchor import is_key
from hsm.catalog import adoption, permits, rebuilding
from hsm.catalog.adoption import FoundCopy
from hsm.catalog.engine import Catalog
from hsm.catalog.rebuilding import Holding
from hsm.errors import BadInput, Corrupt, NotFound, Refused
from hsm.log import get_logger
from hsm.rebuild.abreast import Abreast, Noted
from hsm.rebuild.sources import BACKUPS, Lying, Seen, Source
from hsm.rebuild.values import NAMED_MAX, Progress, TellVolume, VolumeReport
from hsm.states import CopyState

log = get_logger(__name__)

T = TypeVar("T")

BATCH = 200
"""Objects of a volume that are compared with the catalog at a time."""
COUNTED = (CopyState.WRITTEN, CopyState.VERIFIED)
TELL_EVERY = 20


def batches(items: Iterator[T], size: int = BATCH) -> Iterator[list[T]]:
    """Items in portions."""
    while some := list(islice(items, size)):
        yield some


@dataclass(frozen=True, slots=True)
class Pace:
    """When a volume was begun, and how much is on it."""

    volume: str
    number: int
    volumes: int
    expected: int | None
    """Packages; None where the volume does not say before it was listed."""
    began: float
    holds_bytes: int = 0
    """By its file system or quota, which may be others' too; 0 where that is not known."""

    def progress(self, done: int, size: int, now: float) -> Progress:
        """Pure: at the pace so far, by packages where their number is known, else by bytes.

        :param size: bytes of what was looked at.
        """
        left = None
        if self.expected is not None and done > 0:
            left = (now - self.began) / done * max(0, self.expected - done)
        elif self.holds_bytes and size > 0:
            left = (now - self.began) / size * max(0, self.holds_bytes - size)
        return Progress(self.volume, self.number, self.volumes, done, self.expected, left)


@dataclass(slots=True)
class _Volume:
    """A volume that is being read."""

    pk: int
    found: VolumeReport
    source: Source
    pace: Pace
    looked: int = 0
    size: int = 0
    """Bytes of what was looked at."""
    doubted: frozenset[str] = frozenset()
    """Of this portion, what an earlier run has left alone: it is believed only when all of it was read."""

    def progress(self, now: float) -> Progress:
        return self.pace.progress(self.looked, max(self.size, self.found.bytes_read), now)


class Taking:
    """Takes volumes in. One at a time."""

    def __init__(
        self,
        catalog: Catalog,
        actor: str,
        *,
        verify: bool,
        tell: TellVolume,
        monotonic: Callable[[], float],
        ask: Callable[[str], None] | None = None,
        keeps_deleted: bool = False,
        since: datetime | None = None,
        abreast: Abreast | None = None,
    ) -> None:
        """
        :param verify: read everything back, also what the catalog would believe.
        :param ask: have a cold object of the volume brought back.
        :param keeps_deleted: what was released from the volume may still lie on it, and counts for nothing.
        :param since: what was read back after that is not read again; None: what was ever.
        :param abreast: other volumes are being read at the same time; this one is under way in it.
        """
        self._catalog = catalog
        self._actor = actor
        self._verify = verify
        self._tell = tell
        self._monotonic = monotonic
        self._ask = ask
        self._keeps_deleted = keeps_deleted
        self._since = since
        self._abreast = abreast
        self._ready: dict[int, FoundCopy] = {}

    def packages(self, volume_pk: int, found: VolumeReport, source: Source, pace: Pace) -> None:
        """All packages of one volume.

        :raises DriverError: the volume cannot be read any more; what was taken in stays.
        """
        volume = _Volume(volume_pk, found, source, pace)
        if self._abreast is not None:
            held = {each.package: _noted(source, each) for each in source.every() if each.package}
            self._abreast.listed(pace.number, held)
        put_off: list[Lying] = []
        for some in batches(source.every()):
            self._others(found, [each for each in some if not each.package])
            put_off += self._some(volume, [each for each in some if each.package], wait=False)
        for some in batches(iter(put_off)):
            self._some(volume, some, wait=True)
        self._tell(replace(volume.progress(self._monotonic()), left_seconds=0.0))

    def _others(self, found: VolumeReport, some: Sequence[Lying]) -> None:
        for each in some:
            if each.locator.startswith(BACKUPS):
                found.backups.append(each.locator)
            elif is_key(each.locator):
                found.anchors.append(each.locator)
            elif marksfile.is_key(each.locator):
                found.marks.append(each.locator)
            elif len(found.others) < NAMED_MAX:
                found.others.append(each.locator)

    def _some(self, volume: _Volume, packages: Sequence[Lying], *, wait: bool) -> list[Lying]:
        """A portion of a volume's packages; those that it is another volume's turn to give.

        :param wait: until it is this one's.
        """
        locators = [each.locator for each in packages]
        with self._catalog.read() as session:
            there = rebuilding.holdings(session, volume.pk, locators)
            doubted = rebuilding.quarantined_of(session, volume.found.volume, locators)
        volume.doubted = frozenset(doubted)
        put_off = []
        try:
            for lying in packages:
                if not self._one(volume, lying, there.get(lying.locator), wait=wait):
                    put_off.append(lying)
                    continue
                volume.looked, volume.size = volume.looked + 1, volume.size + lying.size
                if volume.looked % TELL_EVERY == 0:
                    self._tell(volume.progress(self._monotonic()))
        finally:
            self._add_ready(volume)
        return put_off

    def _one(self, volume: _Volume, lying: Lying, there: Holding | None, *, wait: bool) -> bool:
        """Whether a package was done with; else it is another volume's turn."""
        done, taken = True, False
        try:
            if there is not None and there.state in COUNTED:
                volume.source.compare(lying, there.size)
            if there is not None and self._settled(there):
                volume.found.known += 1
            else:
                done = taken = self._in_turn(volume, lying, there, wait=wait)
        except NotReadableNow:
            if self._ask is not None:
                self._ask(lying.locator)
            volume.found.waiting.append(lying.locator)
        except (Corrupt, NotFound, Refused, BadInput) as error:
            self._quarantine(volume.found, lying, there, str(error))
        finally:
            if done and self._abreast is not None:
                noted = _noted(volume.source, lying) if taken else None
                self._abreast.end(volume.pace.number, lying.package, noted)
        return done

    def _settled(self, there: Holding) -> bool:
        """Whether nothing is to be learnt from the volume about a copy that is on record."""
        if there.state is CopyState.RELEASED:
            return self._keeps_deleted
        if there.state is CopyState.VERIFIED and self._verify:
            return self._since is None or (there.verified_at is not None and there.verified_at >= self._since)
        return there.state in (CopyState.VERIFIED, CopyState.SUSPECT, CopyState.RELEASING) or (
            there.state is CopyState.WRITTEN and not self._verify
        )

    def _in_turn(self, volume: _Volume, lying: Lying, there: Holding | None, *, wait: bool) -> bool:
        """Take a package in when the order of the volumes lets it; whether it has."""
        read = None
        if (self._verify or lying.locator in volume.doubted) and not self._known(lying)[1]:
            # What is read to its end anyway is read at once, in the order of the tape; its rows wait.
            read, wait = volume.source.read(lying), True
        if self._abreast is not None:
            noted = _noted(volume.source, lying)
            if not self._abreast.begin(volume.pace.number, lying.package, noted, wait=wait):
                return False
        self._take(volume, lying, there, read)
        return True

    def _known(self, lying: Lying) -> tuple[tuple[int, int, bytes] | None, bool]:
        """What the catalog has of a package, and whether it was deleted for good: what is left of that
        comes back to nobody."""
        with self._catalog.read() as session:
            known = adoption.known_package(session, lying.package)
            return known, known is not None and bool(permits.ended(session, known[0]))

    def _take(self, volume: _Volume, lying: Lying, there: Holding | None, read: Seen | None) -> None:
        """
        :param read: what was read of it to its last byte already.
        """
        known, purged = self._known(lying)
        if purged:
            volume.found.known += 1
            return
        if read is not None:
            self._adopt(volume, lying, read, new=known is None, read_back=True)
            return
        source = volume.source
        noted = source.noted(lying)
        if known is not None and noted is not None and (lying.size, noted) == known[1:]:
            self._same(volume, lying, known[0], there)
        elif known is not None and noted is None:
            self._compare(volume, lying, known)
        elif noted is not None:
            self._adopt(volume, lying, source.look(lying), new=known is None, read_back=False)
        else:
            self._adopt(volume, lying, source.read(lying), new=known is None, read_back=True)

    def _compare(self, volume: _Volume, lying: Lying, known: tuple[int, int, bytes]) -> None:
        """The manifest decides: equal ones describe equal bytes."""
        seen = volume.source.look(lying)
        volume.found.bytes_read += seen.read
        with self._catalog.read() as session:
            same = adoption.agrees(session, known[0], seen.plan)
        if not same or seen.plan.size != known[1]:
            raise Refused(f"{lying.package}: the catalog has another package of this name")
        self._add_copy(volume, lying, known[0])

    def _same(self, volume: _Volume, lying: Lying, package_pk: int, there: Holding | None) -> None:
        """The volume's own list says that it is a known package: such copies are added many at a time."""
        if there is None:
            self._ready[package_pk] = FoundCopy(package_pk, lying.locator, lying.position)
        else:
            self._add_copy(volume, lying, package_pk)

    def _add_ready(self, volume: _Volume) -> None:
        ready, self._ready = list(self._ready.values()), {}
        if not ready:
            return
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            adoption.add_copies(session, ready, volume.pk, now, self._actor)
        volume.found.copies += len(ready)

    def _add_copy(self, volume: _Volume, lying: Lying, package_pk: int) -> None:
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            adoption.add_copy(
                session,
                package_pk,
                volume.pk,
                lying.locator,
                lying.position,
                now,
                self._actor,
                read_back=False,
            )
        volume.found.copies += 1

    def _adopt(self, volume: _Volume, lying: Lying, seen: Seen, *, new: bool, read_back: bool) -> None:
        assert seen.digest is not None  # whoever read it whole has it, and so has who noted it
        found = volume.found
        found.bytes_read += seen.read
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            adoption.adopt(
                session,
                seen.plan,
                seen.digest,
                volume.pk,
                lying.locator,
                lying.position,
                now,
                self._actor,
                read_back=read_back,
            )
        found.packages += new
        found.copies += not new
        found.verified += read_back

    def _quarantine(self, found: VolumeReport, lying: Lying, there: Holding | None, why: str) -> None:
        log.error("%s of %s is left alone: %s", lying.locator, found.volume, why)
        found.quarantined.append((lying.locator, why))
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            if there is not None:
                # The catalog counts on it: it is this copy that is bad.
                adoption.doubt(session, there.copy_pk, now, self._actor, why)
            else:
                rebuilding.quarantine(
                    session, found.volume, lying.locator, now, self._actor, why, lying.package
                )


def _noted(source: Source, lying: Lying) -> Noted:
    """What the medium says of a package without being read."""
    try:
        return Noted(lying.size, source.noted(lying))
    except (Corrupt, NotFound):  # said again, and heeded, when its turn has come
        return Noted(lying.size, None)
