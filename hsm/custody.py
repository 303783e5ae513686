"""Where every volume is: what the changers see, what operators say, and who moved what.

A mount request is answered by a volume that is in the library again, whether somebody said so or an
inventory found it. What a changer does not list is on the shelf.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from drivers.base import Cleaning, Element, ElementKind, Inventory, Library, SimulatedHands, VolumeLabel
from hsm.catalog import journal, media, movements, prompts, queue, usage
from hsm.catalog.engine import Catalog
from hsm.catalog.media import VolumeRef
from hsm.claims import Drives
from hsm.errors import DriverError, NotFound, OperatorNeeded, Refused, Retryable, StaleMap
from hsm.log import get_logger
from hsm.model import Place
from hsm.pools import Pools
from hsm.states import MovementKind, MovementState, Outcome
from hsm.stocktaking import IN_LIBRARY, reconcile
from hsm.wake import Bell

log = get_logger(__name__)

SHOWN_MAX = 5


class StuckInDrive(OperatorNeeded):
    """A drive does not give its cartridge back."""

    def __init__(self, drive: int, why: str) -> None:
        super().__init__(why)
        self.drive = drive


class Custody:
    """Keeps the catalog's places true and closes mount requests."""

    def __init__(self, catalog: Catalog, pools: Pools, drives: Drives, bell: Bell) -> None:
        self._catalog = catalog
        self._pools = pools
        self._drives = drives
        self._bell = bell
        # Looking and writing down what was seen are one act: a map that is older than somebody else's
        # move must never overwrite it.
        self._looking = {name: threading.RLock() for name in pools.libraries}

    def inventory(self, library: str | None = None) -> list[dict[str, object]]:
        """Ask the changers what is where and make the catalog say the same; their elements.

        :raises Refused: no such library.
        :raises DriverError: a changer does not answer.
        """
        names = [library] if library is not None else list(self._pools.libraries)
        elements: list[dict[str, object]] = []
        for name in names:
            changer = self.library(name)
            with self._looking[name]:
                seen = changer.inventory()
                with self._catalog.write() as session:
                    reconcile(session, name, seen, self._catalog.clock.now())
                    known = {volume.name: volume for volume in media.volumes(session)}
            elements += [_shown(name, each, known.get(each.barcode or "")) for each in seen.elements]
        self._bell.ring()
        return elements

    def operator_done(self, barcode: str, by: str, comment: str = "") -> dict[str, object]:
        """An operator says that a volume is loaded. Believed when the changer sees it.

        :raises Refused: no library has it; the message says what the mail slots hold.
        """
        with self._catalog.read() as session:
            volume = media.volume(session, barcode)
        library = volume.library or self._only_library()
        changer = self.library(library)
        if isinstance(changer, SimulatedHands) and changer.inventory().find(barcode) is None:
            try:
                changer.hand_insert(barcode)
            except OperatorNeeded as error:
                # Drives without a robot: another cartridge lies in one, or none.
                raise OperatorNeeded(f"{error}; {self._instead(changer.inventory())}") from error
        with self._looking[library]:
            seen = changer.inventory()
            if seen.find(barcode) is None:
                raise Refused(f"{library} does not see {barcode}; {self._instead(seen)}")
            now = self._catalog.clock.now()
            with self._catalog.write() as session:
                answered = prompts.answer(session, volume.pk, Outcome.DONE, now, by, comment)
                reconcile(session, library, seen, now)
        self._bell.ring()
        return {"barcode": barcode, "library": library, "answered": answered}

    def _instead(self, seen: Inventory) -> str:
        """What somebody has put in instead of what was wanted: what it is, and where it belongs."""
        mail = any(each.kind is ElementKind.MAIL for each in seen.elements)
        doors = "mail slots" if mail else "drives"
        kind = ElementKind.MAIL if mail else ElementKind.DRIVE
        found = [each.barcode for each in seen.elements if each.kind is kind and each.barcode is not None]
        if not found:
            return f"its {doors} are empty"
        with self._catalog.read() as session:
            known = {name: media.find_volume(session, name) for name in found[:SHOWN_MAX]}
            asked = {each.barcode for each in prompts.open_prompts(session)}
        words = ", ".join(_what(name, volume, name in asked) for name, volume in known.items())
        wanted = ", ".join(sorted(asked)[:SHOWN_MAX])
        return f"its {doors} hold {words}" + (f"; wanted: {wanted}" if wanted else "")

    def operator_refuse(self, barcode: str, by: str, comment: str) -> dict[str, object]:
        """An operator cannot load a volume: what waits for it goes on with another copy, or fails.

        :raises Refused: nobody asked for this volume.
        """
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            volume = media.volume(session, barcode)
            if not prompts.answer(session, volume.pk, Outcome.REFUSED, now, by, comment):
                raise Refused(f"there is no open mount request for {barcode}")
            media.missing(session, volume.pk, now, by, comment)
            queue.wake_waiting(session, volume.pk, now, by)
        self._bell.ring()
        return {"barcode": barcode, "refused": True}

    def export(self, barcode: str, shelf: str, by: str, *, site: str = "") -> dict[str, object]:
        """Send a volume to the shelf: out of its drive, into a mail slot, and from there by hand. It is on
        its way until somebody confirms that it is there.

        :raises Refused: it is in use or in no library.
        :raises OperatorNeeded: every mail slot is occupied.
        """
        with self._catalog.read() as session:
            volume = media.volume(session, barcode)
        library = volume.library
        if library is None or volume.place not in IN_LIBRARY:
            raise Refused(f"{barcode} is in no library (it is: {volume.place.value} {volume.shelf})".rstrip())
        with self._looking[library], self._drives.leaving(barcode):
            taken = self._take_out(self.library(library), library, barcode)
            seen = self.library(library).inventory()
            now = self._catalog.clock.now()
            with self._catalog.write() as session:
                place = Place.SHELF if taken else Place.MAIL
                way = movements.plan(
                    session,
                    volume,
                    MovementKind.EXPORT,
                    library,
                    site,
                    shelf,
                    now,
                    by,
                    origin=f"{library} {volume.place.value} {volume.element}",
                )
                if taken:
                    movements.step(session, way.pk, MovementState.LEFT, now, by)
                media.place_volume(
                    session, volume.pk, place, now, by, library=library, shelf=shelf, site=site
                )
                reconcile(session, library, seen, now)
        self._bell.ring()
        return {"barcode": barcode, "place": place.value, "shelf": shelf}

    def _take_out(self, changer: Library, library: str, barcode: str) -> bool:
        """From wherever it lies into a mail slot, and out of it where hands are simulated; whether it
        has left the library."""
        element = changer.inventory().find(barcode)
        if element is not None and element.kind is ElementKind.DRIVE:
            with self._drives.claimed(library, element.address):
                changer.unmount(element.address)
        if element is not None and element.kind is not ElementKind.MAIL:
            changer.eject(barcode)
        if isinstance(changer, SimulatedHands):
            changer.hand_remove(barcode)
        return changer.inventory().find(barcode) is None

    def vacate(self, volume: VolumeRef, drive: int) -> None:
        """Have a volume out of any drive of its library but this one. Where the catalog has it in another,
        the changer is asked: a session for something else may have put it back into its slot by now.

        :raises StuckInDrive: the drive that has it does not give it back.
        :raises InUse: that drive is.
        """
        library = volume.library
        if volume.place is not Place.DRIVE or library is None or volume.element in (None, drive):
            return
        lies = self.library(library).inventory().find(volume.name)
        if lies is None or lies.kind is not ElementKind.DRIVE or lies.address == drive:
            return
        other = lies.address
        with self._drives.claimed(library, other):
            try:
                self._unmount(library, other)
            except StaleMap:
                raise
            except OperatorNeeded as error:
                raise StuckInDrive(other, str(error)) from error

    def _unmount(self, library: str, drive: int) -> None:
        """A volume with something that was never flushed says so once, and is given free then: the session
        that put it there has ended, and counted nothing of it."""
        try:
            self.library(library).unmount(drive)
        except Retryable as error:
            log.warning("drive %d of %s: %s; it is unloaded all the same", drive, library, error)
            self.library(library).unmount(drive)

    def import_(self, barcode: str, by: str) -> dict[str, object]:
        """Take a volume (back) into the library; the same as answering its mount request.

        :raises Refused: the changer does not see it.
        """
        return self.operator_done(barcode, by, "import")

    def load(self, barcode: str, drive: int, by: str) -> dict[str, object]:
        """Mount a labelled volume by hand (maintenance).

        :raises Refused: the drive is in use, or the volume has no label of ours.
        """
        with self._catalog.read() as session:
            volume = media.volume(session, barcode)
        if volume.pool is None:
            raise Refused(f"{barcode} is scratch: it carries no label yet")
        library = volume.library or self._only_library()
        with self._drives.claimed(library, drive, barcode):
            self.library(library).mount(VolumeLabel(barcode, volume.uuid, volume.pool), drive)
        self.inventory(library)
        return {"barcode": barcode, "library": library, "drive": drive, "by": by}

    def unload(self, library: str, drive: int, by: str) -> dict[str, object]:
        """Unmount what is in a drive (maintenance).

        :raises Refused: the drive is in use.
        """
        with self._drives.claimed(library, drive):
            self.library(library).unmount(drive)
        self.inventory(library)
        return {"library": library, "drive": drive, "by": by}

    def clean(self, library: str, drive: int, by: str) -> dict[str, object]:
        """Clean a drive with a cleaning cartridge of its library; minutes.

        :raises Refused: the drive is in use, or the library cannot.
        :raises OperatorNeeded: there is no cleaning cartridge, or it has expired.
        """
        changer = self.library(library)
        if not isinstance(changer, Cleaning):
            raise Refused(f"library {library} cannot clean drives; put a cleaning cartridge in by hand")
        with self._drives.claimed(library, drive):
            changer.clean(drive)
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            journal.append(session, now, by, "cleaned", "drive", f"{library}/{drive}", {})
        self.inventory(library)
        return {"library": library, "drive": drive, "by": by}

    def unmount_all(self) -> None:
        """At stop: every volume out of its drive, so that its index is on it."""
        for name, changer in self._pools.libraries.items():
            try:
                for drive in changer.inventory().drives():
                    if drive.barcode is not None:
                        changer.unmount(drive.address)
                self.inventory(name)  # who looks into the catalog meanwhile finds them where they are
            except DriverError as error:
                log.error("%s: volumes stay in the drives: %s", name, error)

    @contextlib.contextmanager
    def free_drive(self, library: str, barcode: str) -> Iterator[int]:
        """A drive that nobody uses, claimed meanwhile for a volume: the one that it lies in, else an empty
        one if there is one.

        :raises InUse: the volume is, in some drive.
        :raises Refused: every drive is in use or out of service.
        """
        self._drives.require_unused(barcode)
        with self._catalog.read() as session:
            off = usage.out_of_service(session)
        drives = sorted(
            self.library(library).inventory().drives(),
            key=lambda each: (each.barcode != barcode, each.barcode is not None),
        )
        for drive in drives:
            if (library, drive.address) not in off and self._drives.claim(library, drive.address, barcode):
                try:
                    yield drive.address
                finally:
                    self._drives.free(library, drive.address)
                return
        raise Refused(f"every drive of {library} is in use or out of service; try again later")

    def library(self, name: str) -> Library:
        """:raises NotFound: no such library is configured."""
        try:
            return self._pools.libraries[name]
        except KeyError:
            have = ", ".join(self._pools.libraries) or "none"
            raise NotFound(f"there is no library {name!r}; configured: {have}") from None

    def _only_library(self) -> str:
        if len(self._pools.libraries) != 1:
            raise Refused("the volume was in no library yet; import it through the library that has it")
        return next(iter(self._pools.libraries))


def _shown(library: str, element: Element, volume: VolumeRef | None) -> dict[str, object]:
    """An element, what lies in it, and what that said it is when it was last looked at."""
    return {
        "library": library,
        "kind": element.kind.value,
        "address": element.address,
        "barcode": element.barcode,
        "state": volume.state.value if volume is not None else "",
        "pool": volume.pool if volume is not None else None,
        "note": element.note or (volume.content if volume is not None else ""),
    }


def _what(barcode: str, volume: VolumeRef | None, asked: bool) -> str:
    """A cartridge, what it is, where it belongs, and whether anybody wants it."""
    if volume is None:
        return f"{barcode} (not in the catalog)"
    parts = [f"{volume.pool or 'no pool'}, {volume.state.value}"]
    parts += ["wanted too"] if asked else ["not wanted"]
    parts += [f"belongs on {volume.stands}"] if volume.stands and not asked else []
    return f"{barcode} ({'; '.join(parts)})"
