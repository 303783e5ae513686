"""A person with a shelf: drives that stand alone, and somebody who puts cartridges into them.

What is in a drive is known by its label. A blank cartridge says nothing, so the operator who puts one in
says its barcode (:meth:`ManualLibrary.hand_insert`, which ``hsm operator done`` and ``hsm library import``
call). Loading a volume that is not in a drive is `OperatorNeeded`, which becomes a mount request.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from drivers.base import Element, ElementKind, Inventory, Store, VolumeLabel
from drivers.errors import DriverError, NotFound, OperatorNeeded, Permanent, Retryable
from drivers.reports import DriveReport
from drivers.tape.bay import Bay
from drivers.tape.label import Content, Found
from drivers.tape.library import DRIVE_ADDRESS


class ManualLibrary:
    """A :class:`drivers.base.Library` without a robot; drive n is element 60000 + n."""

    def __init__(self, name: str, find_bays: Callable[[], Mapping[int, Bay]]) -> None:
        self._name = name
        self._find_bays = find_bays
        self._found: dict[int, Bay] = {}
        self._seen: dict[int, Found] = {}
        """What was found in a drive; forgotten when it is empty."""
        self._told: dict[int, str] = {}
        """Barcodes of blank cartridges, as an operator said."""
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return self._name

    def inventory(self) -> Inventory:
        """The drives. What is not in one is on the shelf. May rewind and read a cartridge's label once."""
        return Inventory(tuple(self._element(number, bay) for number, bay in sorted(self._bays().items())))

    def read_label(self, barcode: str, drive: int) -> VolumeLabel | None:
        """See :meth:`drivers.base.Library.read_label`.

        :raises OperatorNeeded: another cartridge, or none, is in the drive.
        """
        with self._drive(drive) as (number, bay):
            found = self._require(barcode, number, bay)
            if found.label is None:
                return bay.read_label(barcode)  # it may be promised one
            return found.label.volume

    def label(self, label: VolumeLabel, drive: int) -> None:
        """See :meth:`drivers.base.Library.label`."""
        with self._drive(drive) as (number, bay):
            self._require(label.barcode, number, bay)
            bay.label(label)
            self._forget(number)

    def overwrite(self, label: VolumeLabel, drive: int, typed: str) -> str:
        """See :meth:`drivers.base.Overwriting.overwrite`; whatever is in the drive."""
        with self._drive(drive) as (number, bay):
            if not bay.drive.status().online:
                raise OperatorNeeded(f"put {label.barcode} into drive {bay.drive.name}: it is empty")
            was = bay.overwrite(label, typed)
            self._forget(number)
            return was

    def mount(self, label: VolumeLabel, drive: int) -> Store:
        """See :meth:`drivers.base.Library.mount`. Another volume in the drive is flushed and unloaded, and
        the operator asked for this one."""
        with self._drive(drive) as (number, bay):
            self._require(label.barcode, number, bay)
            store = bay.mount(label)
            self._forget(number)
            return store

    def unmount(self, drive: int) -> None:
        """Flush and unload; the drive gives the cartridge into the operator's hand."""
        with self._drive(drive) as (number, bay):
            self._release(number, bay)

    def eject(self, barcode: str) -> int:
        """Unload the drive that holds the volume; that drive's address.

        :raises NotFound: it is in no drive.
        """
        element = self.inventory().find(barcode)
        if element is None:
            raise NotFound(f"{barcode} is in no drive of {self._name}")
        self.unmount(element.address)
        return element.address

    def hand_insert(self, barcode: str) -> None:
        """An operator says that ``barcode`` is in a drive now: believed when its label says so, or when
        exactly one drive holds a blank cartridge that nobody has named.

        :raises OperatorNeeded: no drive holds it.
        """
        blank: list[int] = []
        seen: list[str] = []
        for number, bay in sorted(self._bays().items()):
            with self._tried(bay, number):
                if bay.mounted is None:
                    self._forget(number)
                found = self._look(number, bay)
                if found is None:
                    continue
                if found.label is not None and found.label.volume.barcode == barcode:
                    return
                seen.append(f"drive {bay.drive.name}: {found.words}")
                if found.content is Content.BLANK:
                    blank.append(number)
        if len(blank) == 1:
            self._told[blank[0]] = barcode
            return
        have = "; ".join(seen) or "the drives are empty"
        raise OperatorNeeded(f"{barcode} is in no drive of {self._name} ({have}); put it into one")

    def hand_remove(self, barcode: str) -> None:
        """An operator takes ``barcode`` out; it is unloaded if it is still in a drive."""
        element = self.inventory().find(barcode)
        if element is not None:
            self.unmount(element.address)

    def report(self, drive: int) -> DriveReport:
        """See :meth:`drivers.base.Reporting.report`."""
        with self._drive(drive) as (number, bay):
            seen = self._seen.get(number)
            label = None if seen is None else seen.label
            return bay.report(self._told.get(number) if label is None else label.volume.barcode)

    def _bays(self) -> dict[int, Bay]:
        with self._lock:
            if not self._found:
                self._found = dict(self._find_bays())
            return self._found

    @contextmanager
    def _drive(self, address: int) -> Iterator[tuple[int, Bay]]:
        number = address - DRIVE_ADDRESS
        bay = self._bays().get(number)
        if bay is None:
            known = ", ".join(str(DRIVE_ADDRESS + known) for known in sorted(self._bays()))
            raise Permanent(f"library {self._name} has no drive {address}; its drives are {known or 'none'}")
        with bay.lock:
            yield number, bay

    @contextmanager
    def _tried(self, bay: Bay, number: int) -> Iterator[None]:
        if not bay.lock.acquire(timeout=5.0):
            raise Retryable(f"drive {DRIVE_ADDRESS + number} of {self._name} is busy")
        try:
            yield
        finally:
            bay.lock.release()

    def _element(self, number: int, bay: Bay) -> Element:
        address = DRIVE_ADDRESS + number
        mounted = bay.mounted
        if mounted is not None:
            return Element(ElementKind.DRIVE, address, mounted.barcode)
        try:
            with self._tried(bay, number):
                found = self._look(number, bay)
        except DriverError as error:
            return Element(ElementKind.DRIVE, address, None, str(error))
        if found is None:
            return Element(ElementKind.DRIVE, address)
        barcode = self._told.get(number) if found.label is None else found.label.volume.barcode
        return Element(ElementKind.DRIVE, address, barcode, "" if found.label is not None else found.words)

    def _look(self, number: int, bay: Bay) -> Found | None:
        """What is in the drive; None when it is empty."""
        if bay.mounted is None and not bay.drive.status().online:
            self._forget(number)
            self._told.pop(number, None)
            return None
        if number not in self._seen or bay.mounted is not None:
            self._seen[number] = bay.identify()
        return self._seen[number]

    def _forget(self, number: int) -> None:
        self._seen.pop(number, None)

    def _require(self, barcode: str, number: int, bay: Bay) -> Found:
        """:raises OperatorNeeded: ``barcode`` is not what is in the drive."""
        if bay.mounted is not None and bay.mounted.barcode != barcode:
            self._release(number, bay)
        if bay.mounted is None:
            self._forget(number)  # it may have been changed by hand: read its label now
        found = self._look(number, bay)
        if found is None:
            raise OperatorNeeded(f"put {barcode} into drive {bay.drive.name} of {self._name}")
        have = self._told.get(number) if found.label is None else found.label.volume.barcode
        if have != barcode or found.content not in (Content.OURS, Content.BLANK):
            raise OperatorNeeded(
                f"put {barcode} into drive {bay.drive.name} of {self._name}: what is in it now is "
                f"{found.words}"
            )
        return found

    def _release(self, number: int, bay: Bay) -> None:
        bay.release()
        self._forget(number)
        self._told.pop(number, None)
