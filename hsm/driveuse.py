"""What sessions teach of drives and cartridges: counted, judged, and drives taken out of service."""

from __future__ import annotations

from collections.abc import Mapping

from drivers.base import Reporting
from hsm.blame import DRIVE_OFF_AFTER, TRIES_IN_ONE_DRIVE, Blame, Consequence, blame, consequence
from hsm.catalog import media, usage
from hsm.catalog.engine import Catalog
from hsm.catalog.usage import Tally
from hsm.errors import DriverError, NotFound
from hsm.log import get_logger
from hsm.pools import Pools

log = get_logger(__name__)

ACTOR = "drives"
SHOWN_MAX = 200


class DriveUse:
    """Counts what each drive does with each cartridge and decides what follows from errors."""

    def __init__(self, catalog: Catalog, pools: Pools, off_after: Mapping[str, int] | None = None) -> None:
        """
        :param off_after: by library, with how many cartridges a drive may fail.
        """
        self._catalog = catalog
        self._pools = pools
        self._off_after = off_after or {}
        self._last: dict[tuple[str, int, str], tuple[int, frozenset[int]]] = {}
        """Of a drive and the cartridge in it what the drive had told before: corrected errors, alerts."""

    def observe(self, library: str, drive: int, barcode: str, tally: Tally) -> None:
        """Add what a drive that can be asked says of a session: errors it corrected, alerts it raised."""
        changer: object = self._pools.libraries.get(library)
        if not isinstance(changer, Reporting):
            return
        try:
            told = changer.report(drive)
        except DriverError as error:
            log.debug("drive %d of %s cannot be asked now: %s", drive, library, error)
            return
        sums = (told.write_errors, told.read_errors)
        corrected = sum(each.corrected for each in sums if each is not None)
        alerts = frozenset(each.code for each in told.alerts)
        before, known = self._last.get((library, drive, barcode), (0, frozenset()))
        # Drives start anew when a cartridge is loaded.
        tally.soft_errors += corrected - before if corrected >= before else corrected
        tally.alerts += len(alerts - known)
        self._last[library, drive, barcode] = (corrected, alerts)
        for alert in told.alerts:
            if alert.code not in known:
                log.warning("drive %d of %s with %s: %s", drive, library, barcode, alert.words)

    def count(self, library: str, drive: int, barcode: str, tally: Tally) -> None:
        """Add what a session came to; a session that did nothing counts for nothing."""
        if not (tally.writes or tally.reads or tally.errors or tally.alerts or tally.soft_errors):
            return
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            volume = media.find_volume(session, barcode)
            if volume is not None:
                usage.note(session, library, drive, volume.pk, tally, now)

    def failed(self, library: str, drive: int, barcode: str, error: str, *, permanent: bool) -> Consequence:
        """An error of a drive with a cartridge: count it, and say what follows; a drive that fails with too
        many is out of service then.

        :param permanent: trying again in this drive will not help.
        """
        self.count(library, drive, barcode, Tally(errors=[error]))
        with self._catalog.read() as session:
            pairs = usage.pairs(session)
            off = usage.out_of_service(session)
        what = consequence(
            pairs,
            (library, drive),
            barcode,
            permanent=permanent,
            in_service=[each for each in self._drives(library) if each not in off],
            off_after=self._off_after.get(library, DRIVE_OFF_AFTER),
        )
        if what.drive_off:
            self.set_service(library, drive, False, ACTOR, what.drive_off)
        return what

    def stuck(self, library: str, drive: int, barcode: str, error: str) -> None:
        """A drive does not give its cartridge back: after some tries it is out of service."""
        self.count(library, drive, barcode, Tally(errors=[error]))
        with self._catalog.read() as session:
            tries = sum(
                pair.failing
                for pair in usage.pairs(session)
                if (pair.drive, pair.volume) == ((library, drive), barcode)
            )
        if tries >= TRIES_IN_ONE_DRIVE:
            why = f"it does not give {barcode} back: {error}"
            self.set_service(library, drive, False, ACTOR, why)

    def out_of_service(self) -> dict[tuple[str, int], str]:
        """Library and address of each drive that is not to be used, and why."""
        with self._catalog.read() as session:
            return usage.out_of_service(session)

    def others(self, library: str, drive: int) -> bool:
        """Whether the library has another drive in service."""
        with self._catalog.read() as session:
            off = usage.out_of_service(session)
        return any(each not in off and each[1] != drive for each in self._drives(library))

    def set_service(
        self, library: str, drive: int, in_service: bool, by: str, reason: str
    ) -> dict[str, object]:
        """Take a drive out of service, or back into it.

        :raises NotFound: the library, or the drive, is not there.
        """
        known = self._drives(library)
        if known and (library, drive) not in known:
            listed = ", ".join(str(address) for _, address in known)
            raise NotFound(f"library {library} has no drive {drive}; its drives are {listed}")
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            news = usage.set_service(session, library, drive, in_service, reason, now, by)
        if news and not in_service:
            log.error("operator: drive %d of %s is out of service: %s", drive, library, reason)
        return {"library": library, "drive": drive, "in_service": in_service, "changed": news}

    def report(self, library: str) -> dict[str, object]:
        """Each drive of a library, and each pair of a drive and a cartridge with who is to blame.

        :raises NotFound: there is no such library.
        """
        known = self._drives(library)
        with self._catalog.read() as session:
            drives = {(each.library, each.address): each for each in usage.drives(session)}
            used = usage.uses(session, library=library, limit=SHOWN_MAX)
            pairs = usage.pairs(session)
        shown = []
        for place in sorted({*known, *(key for key in drives if key[0] == library)}):
            drive = drives.get(place)
            bad = [pair.volume for pair in pairs if pair.drive == place and pair.failing]
            shown.append(
                {
                    "drive": place[1],
                    "in_service": drive.in_service if drive is not None else True,
                    "reason": drive.reason if drive is not None else "",
                    "since": drive.changed_at if drive is not None else None,
                    "fails_with": bad,
                    **self._told(*place),
                }
            )
        judged = []
        for each in used:
            verdict = blame(pairs, (library, int(str(each["drive"]))), str(each["volume"]))
            to_blame = verdict.blame.value if verdict.blame is not Blame.NOBODY else ""
            judged.append(each | {"blame": to_blame, "why": verdict.why if to_blame else ""})
        return {"library": library, "drives": shown, "uses": judged}

    def _told(self, library: str, drive: int) -> dict[str, object]:
        """What the drive says of itself now; nothing where it cannot be asked."""
        changer: object = self._pools.libraries.get(library)
        if not isinstance(changer, Reporting):
            return {}
        try:
            told = changer.report(drive)
        except DriverError as error:
            return {"says": str(error)}
        return {
            "product": told.product,
            "serial": told.serial,
            "cleaning_asked": told.cleaning_asked,
            "alerts": [each.words for each in told.alerts],
            "encryption": told.encryption,
        }

    def _drives(self, library: str) -> list[tuple[str, int]]:
        """The drives that the changer shows; none when it does not answer.

        :raises NotFound: no such library is configured.
        """
        changer = self._pools.libraries.get(library)
        if changer is None:
            have = ", ".join(self._pools.libraries) or "none"
            raise NotFound(f"there is no library {library!r}; configured: {have}")
        try:
            return [(library, drive.address) for drive in changer.inventory().drives()]
        except DriverError as error:
            log.warning("library %s: %s", library, error)
            return []
