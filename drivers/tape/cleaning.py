"""Cleaning drives with the cleaning cartridges that lie in a library.

A drive asks with a TapeAlert flag: 14h, clean now, or 15h, clean periodically (SSC-3, annex A). It says
with 16h that a cleaning cartridge is used up and with 17h that it is none for this drive.
"""

from __future__ import annotations

from collections.abc import Callable

from drivers.errors import DriverError, OperatorNeeded, StaleMap
from drivers.tape import logpages
from drivers.tape.changer import Changer
from drivers.tape.io import Io
from drivers.tape.logpages import Alerts
from drivers.tape.mtxstatus import ChangerStatus, Place, is_cleaning
from drivers.tape.tapedrive import TapeDrive

CLEANING_SECONDS = 900.0
POLL_SECONDS = 10.0


class Cleaner:
    """The cleaning cartridges of a library. The caller has the drive, which is empty, and the robot.

    ``look`` is how the library is looked at, ``ours`` whether a slot may be used.
    """

    def __init__(
        self,
        library: str,
        io: Io,
        changer: Changer,
        look: Callable[[], ChangerStatus],
        ours: Callable[[Place], bool],
    ) -> None:
        self._library = library
        self._io = io
        self._changer = changer
        self._look = look
        self._ours = ours
        self._spent: dict[str, str] = {}
        """Cartridges that a drive did not want, and what it said."""

    def slot(self) -> Place | None:
        """Where a cleaning cartridge lies that is not known to be used up. A new one may have the
        barcode of an old one that was taken out."""
        held = [p for p in self._look().slots if p.barcode is not None and is_cleaning(p.barcode)]
        there = {place.barcode for place in held}
        self._spent = {barcode: words for barcode, words in self._spent.items() if barcode in there}
        return next((p for p in held if p.barcode not in self._spent and self._ours(p)), None)

    def missing(self, drive: TapeDrive) -> str:
        """What to do where :meth:`slot` gives none."""
        spent = "; ".join(f"{barcode}: {words}" for barcode, words in sorted(self._spent.items()))
        has = f"only used ones ({spent})" if spent else "no cleaning cartridge"
        return (
            f"drive {drive.name} asks to be cleaned and library {self._library} has {has}; put a new one "
            "(CLN...) into it"
        )

    def clean(self, number: int, drive: TapeDrive) -> None:
        """Clean a drive; cartridges that are used up are put aside for the next one.

        :raises OperatorNeeded: there is none that can be used, or it does not come out again.
        """
        before = drive.seen
        while True:
            place = self.slot()
            if place is None or place.barcode is None:
                drive.seen = before
                raise OperatorNeeded(self.missing(drive))
            self._changer.load(place.barcode, place.number, number)
            self._take_out(place.barcode, place.number, number, drive)
            drive.cleaned()
            said = drive.alerts()
            if not said.cleaning_failed:
                return
            drive.seen = Alerts(said.flags - logpages.CLEANING_FAILED)
            self._spent[place.barcode] = str(Alerts(said.flags & logpages.CLEANING_FAILED))

    def _take_out(self, barcode: str, slot: int, number: int, drive: TapeDrive) -> None:
        deadline = self._io.monotonic() + CLEANING_SECONDS
        while True:
            self._io.sleep(POLL_SECONDS)
            try:
                self._changer.unload(barcode, number, slot)
            except StaleMap:
                raise
            except DriverError as error:  # the drive holds it as long as it cleans
                if self._io.monotonic() >= deadline:
                    raise OperatorNeeded(
                        f"the cleaning cartridge {barcode} does not come out of drive {drive.name}: {error}"
                    ) from error
            else:
                return
