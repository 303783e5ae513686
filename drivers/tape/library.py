"""A tape library with a robot: a changer, its drives, and the order in which they are locked.

A drive's lock comes before the robot's; a second drive's lock is only tried, so that two threads that
want each other's cartridge get `Retryable` and not a deadlock.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from drivers.base import Element, ElementKind, Inventory, Store, VolumeLabel
from drivers.errors import DriverError, NotFound, OperatorNeeded, Permanent, Retryable, StaleMap
from drivers.labels import require_typed
from drivers.reports import DriveReport
from drivers.tape.bay import Bay
from drivers.tape.changer import Changer
from drivers.tape.cleaning import Cleaner
from drivers.tape.io import Io
from drivers.tape.mtxstatus import ChangerStatus, Place, is_cleaning

DRIVE_ADDRESS = 60_000
"""Drive n of mtx is element 60000 + n here: mtx numbers its drives and its slots each from the beginning.
Slots and mail slots have mtx's numbers."""


class TapeLibrary:
    """A :class:`drivers.base.Library` of a robot and its drives.

    ``find_bays`` gives the drives that are ours under mtx's numbers; it is asked when they are first
    needed, so that a library that is switched off does not keep the archive from starting. With ``slots``
    only these storage elements are used (a robot that is shared with another system).
    """

    def __init__(
        self,
        name: str,
        io: Io,
        changer: Changer,
        find_bays: Callable[[Changer], Mapping[int, Bay]],
        *,
        slots: frozenset[int] | None = None,
        auto_clean: bool = True,
    ) -> None:
        self._name = name
        self.changer = changer
        self._find_bays = find_bays
        self._found: dict[int, Bay] = {}
        self._slots = slots
        self._auto_clean = auto_clean
        self._carried: dict[int, str] = {}
        """What was put into a drive, for changers that do not show the label of what is in one."""
        self._finding = threading.Lock()
        self._moving = threading.RLock()
        self._cleaner = Cleaner(name, io, changer, self._status, self._ours)

    @property
    def name(self) -> str:
        return self._name

    def inventory(self) -> Inventory:
        """See :meth:`drivers.base.Library.inventory`: drives, slots, mail slots. Cleaning cartridges, and
        those whose label cannot be read, are in the notes only: they are nobody's volumes.

        :raises StaleMap: the door is open or a magazine is out.
        """
        bays = self._bays()
        now = self._status()
        drives = [
            _element(ElementKind.DRIVE, DRIVE_ADDRESS + place.number, place)
            for place in now.drives
            if place.number in bays
        ]
        slots = [_element(ElementKind.SLOT, p.number, p) for p in now.slots if not p.mail and self._ours(p)]
        mails = [_element(ElementKind.MAIL, p.number, p) for p in now.slots if p.mail and self._ours(p)]
        return Inventory((*drives, *slots, *mails))

    def read_label(self, barcode: str, drive: int) -> VolumeLabel | None:
        """See :meth:`drivers.base.Library.read_label`.

        :raises WrongVolume: it carries something else than a label of ours; the message says what.
        """
        with self._drive(drive) as (number, bay):
            self._load(barcode, number, bay)
            return bay.read_label(barcode)

    def label(self, label: VolumeLabel, drive: int) -> None:
        """See :meth:`drivers.base.Library.label`; a label of the same volume is refused too."""
        with self._drive(drive) as (number, bay):
            self._load(label.barcode, number, bay)
            bay.label(label)

    def overwrite(self, label: VolumeLabel, drive: int, typed: str) -> str:
        """See :meth:`drivers.base.Overwriting.overwrite`."""
        require_typed(label, typed)
        with self._drive(drive) as (number, bay):
            self._load(label.barcode, number, bay)
            return bay.overwrite(label, typed)

    def mount(self, label: VolumeLabel, drive: int) -> Store:
        """See :meth:`drivers.base.Library.mount`. What is mounted there already is returned as it is.

        :raises Retryable: the drive, or the one that holds the cartridge, is busy.
        """
        with self._drive(drive) as (number, bay):
            self._load(label.barcode, number, bay)
            dirty = bay.store is not None and bay.store.unclean and self._cleaner.slot() is not None
            if bay.mounted is not None and not dirty:
                return bay.mount(label)
            unclean = self._clean_for_writing(label.barcode, number, bay)
            store = bay.mount(label)
            store.unclean = unclean
            return store

    def unmount(self, drive: int) -> None:
        """See :meth:`drivers.base.Library.unmount`.

        :raises OperatorNeeded: there is no free slot.
        :raises Retryable: a put or get is under way.
        """
        with self._drive(drive) as (number, bay):
            self._empty(number, bay)

    def eject(self, barcode: str) -> int:
        """See :meth:`drivers.base.Library.eject`. In a mail slot already: that one's number.

        :raises NotFound: the cartridge is not in the library.
        """
        now = self._status()
        slot = now.slot_with(barcode)
        if slot is not None:
            return slot.number if slot.mail else self._to_mail(barcode, slot.number)
        place = now.drive_with(barcode)
        if place is None:
            raise NotFound(f"{barcode} is not in library {self._name}")
        self._mail_for(now, barcode)  # before anything is unloaded
        with self._drive(DRIVE_ADDRESS + place.number) as (number, bay):
            self._require_in(barcode, number)
            bay.release()
            with self._moving:
                mail = self._mail_for(self._status(), barcode)
                self._unload(number, mail)
            return mail

    def transfer(self, barcode: str, slot: int) -> None:
        """Move a cartridge that lies in a slot or mail slot to another one (maintenance)."""
        with self._moving:
            place = self._status().slot_with(barcode)
            if place is None:
                raise NotFound(f"{barcode} lies in no slot of library {self._name}")
            self.changer.transfer(barcode, place.number, slot)

    def clean(self, drive: int) -> None:
        """Clean a drive with a cleaning cartridge of the library; minutes.

        :raises OperatorNeeded: there is none, or it does not come out again.
        """
        with self._drive(drive) as (number, bay):
            self._empty(number, bay)
            self._clean(number, bay)

    def report(self, drive: int) -> DriveReport:
        """See :meth:`drivers.base.Reporting.report`."""
        with self._drive(drive) as (number, bay):
            place = None
            with contextlib.suppress(DriverError):  # an open door hides what is in the drive, not the drive
                place = self._status().drive(number)
            return bay.report(None if place is None else place.barcode)

    def recommended_order(self, drive: int, extents: Sequence[tuple[int, int]]) -> tuple[int, ...] | None:
        """See :meth:`drivers.base.Ordering.recommended_order`."""
        with self._drive(drive) as (_, bay):
            return bay.recommended_order(extents)

    def _bays(self) -> dict[int, Bay]:
        with self._finding:
            if not self._found:
                self._found = dict(self._find_bays(self.changer))
            return self._found

    @contextmanager
    def _drive(self, address: int) -> Iterator[tuple[int, Bay]]:
        """The drive, locked."""
        bays = self._bays()
        number = address - DRIVE_ADDRESS
        bay = bays.get(number)
        if bay is None:
            known = ", ".join(str(DRIVE_ADDRESS + known) for known in sorted(bays))
            raise Permanent(f"library {self._name} has no drive {address}; its drives are {known or 'none'}")
        with bay.lock:
            yield number, bay

    def _status(self) -> ChangerStatus:
        """The changer's view, with what it does not show of drives filled in from what was put there."""
        now = self.changer.status()
        drives = tuple(self._known(place) for place in now.drives)
        return ChangerStatus(drives, now.slots)

    def _known(self, place: Place) -> Place:
        if place.full and place.barcode is None and place.number in self._carried:
            return replace(place, barcode=self._carried[place.number])
        return place

    def _load(self, barcode: str, number: int, bay: Bay) -> None:
        """Have ``barcode`` loaded in drive ``number``, wherever it was.

        :raises OperatorNeeded: it is not in the library.
        """
        now = self._status()
        there = now.drive_with(barcode)
        slot = now.slot_with(barcode)
        if (there is None and slot is None) or (slot is not None and not self._ours(slot)):
            raise OperatorNeeded(f"{barcode} is not in library {self._name}; put it into a mail slot")
        _require_one_side(slot or there)
        if there is None or there.number != number:
            self._empty(number, bay)
            if bay.drive.seen.cleaning_asked and self._auto_clean and self._cleaner.slot() is not None:
                self._clean(number, bay)
            if there is not None:
                self._take_from(there.number, barcode)
            with self._moving:
                slot = self._status().slot_with(barcode)
                if slot is None:
                    raise StaleMap(f"{barcode} is no longer in a slot of {self._name}; take an inventory")
                self.changer.load(barcode, slot.number, number)
                self._carried[number] = barcode
        elif bay.mounted is not None and bay.mounted.barcode != barcode:
            bay.forget()
        if bay.mounted is None:
            bay.drive.wait_loaded(barcode)

    def _take_from(self, number: int, barcode: str) -> None:
        """Out of another drive, into a slot."""
        other = self._bays().get(number)
        if other is None:
            raise Retryable(
                f"{barcode} is in drive {number} of {self._name}, which is not ours; unload it there"
            )
        if not other.lock.acquire(blocking=False):
            raise Retryable(f"{barcode} is in drive {DRIVE_ADDRESS + number}, which is busy")
        try:
            if other.store is not None:
                raise Retryable(f"{barcode} is mounted in drive {DRIVE_ADDRESS + number}; unmount it there")
            self._empty(number, other)
        finally:
            other.lock.release()

    def _empty(self, number: int, bay: Bay) -> None:
        """Unload what is in the drive and put it into a slot."""
        place = self._status().drive(number)
        if place is None or not place.full:
            bay.forget()
            return
        self._slot_for(self._status(), place)  # before anything is unloaded
        bay.release()
        with self._moving:
            now = self._status()
            place = now.drive(number)
            if place is None or not place.full:
                return
            self._unload(number, self._slot_for(now, place))

    def _unload(self, number: int, slot: int) -> None:
        shown = self.changer.status().drive(number)
        self.changer.unload(None if shown is None else shown.barcode, number, slot)
        self._carried.pop(number, None)

    def _require_in(self, barcode: str, number: int) -> None:
        place = self._status().drive(number)
        if place is None or place.barcode != barcode:
            raise Retryable(f"{barcode} was taken out of drive {DRIVE_ADDRESS + number} meanwhile")

    def _ours(self, place: Place) -> bool:
        return self._slots is None or place.number in self._slots

    def _slot_for(self, now: ChangerStatus, place: Place) -> int:
        """Where a cartridge goes when it leaves a drive: home, if that is free.

        :raises OperatorNeeded: every slot is occupied.
        """
        free = [slot.number for slot in now.slots if not slot.full and not slot.mail and self._ours(slot)]
        if place.home in free:
            return place.home
        away = {drive.home for drive in now.drives if drive.full}
        number = next((number for number in free if number not in away), free[0] if free else None)
        if number is None:
            raise OperatorNeeded(
                f"library {self._name} has no free slot for {place.barcode}; take a cartridge out of it"
            )
        return number

    def _mail_for(self, now: ChangerStatus, barcode: str) -> int:
        """:raises OperatorNeeded: every mail slot is occupied, or there are none."""
        for place in now.slots:
            if place.mail and not place.full and self._ours(place):
                return place.number
        raise OperatorNeeded(
            f"library {self._name} has no free mail slot for {barcode}; empty the mail slots"
        )

    def _to_mail(self, barcode: str, slot: int) -> int:
        with self._moving:
            mail = self._mail_for(self._status(), barcode)
            self.changer.transfer(barcode, slot, mail)
            return mail

    def _clean(self, number: int, bay: Bay) -> None:
        with self._moving:
            self._cleaner.clean(number, bay.drive)

    def _clean_for_writing(self, barcode: str, number: int, bay: Bay) -> str:
        """Before a volume is mounted: a dirty drive would spoil it, or lock it, with the first write. Why
        nothing may be written; empty when all is well."""
        if not self._auto_clean or not bay.drive.must_be_cleaned():
            return ""
        if self._cleaner.slot() is None:
            return self._cleaner.missing(bay.drive)
        self._empty(number, bay)
        self._clean(number, bay)
        self._load(barcode, number, bay)
        return ""


def _require_one_side(place: Place | None) -> None:
    """:raises Permanent: the medium can be turned over, so that it is no tape."""
    if place is not None and place.other_side is not None:
        raise Permanent(
            f"{place.barcode} is one side of a medium with two (the other one is {place.other_side}); tape "
            "drives take none, and this driver turns none over. Nothing was moved"
        )


def _element(kind: ElementKind, address: int, place: Place) -> Element:
    if not place.full:
        return Element(kind, address)
    if place.barcode is None:
        return Element(kind, address, None, "a cartridge whose label cannot be read")
    if place.other_side is not None:
        return Element(kind, address, place.barcode, f"has two sides; the other one is {place.other_side}")
    if is_cleaning(place.barcode):
        return Element(kind, address, None, f"cleaning cartridge {place.barcode}")
    return Element(kind, address, place.barcode)
