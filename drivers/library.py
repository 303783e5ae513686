"""A Library, something that turns a volume into a Store: a changer (a robot, or a person with a shelf) with
drives; what some can do besides, and the values that are exchanged. What holds for all is in
:mod:`drivers.base`.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from drivers.reports import DriveReport
from drivers.store import Store


class ElementKind(enum.StrEnum):
    """Element types of SCSI SMC (data transfer, storage, import/export), and the shelf."""

    DRIVE = "drive"
    SLOT = "slot"
    MAIL = "mail"


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a changer and what lies in it."""

    kind: ElementKind
    address: int
    barcode: str | None = None
    note: str = ""
    """What else an admin should know of it: a cleaning cartridge, a label that cannot be read."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a changer sees. What it does not list is not in the library."""

    elements: tuple[Element, ...]

    def find(self, barcode: str) -> Element | None:
        """The element that holds ``barcode``, or None when it is not in the library."""
        return next((e for e in self.elements if e.barcode == barcode), None)

    def drives(self) -> tuple[Element, ...]:
        return tuple(e for e in self.elements if e.kind is ElementKind.DRIVE)


@dataclass(frozen=True, slots=True)
class VolumeLabel:
    """Who a volume says it is: written first on the medium, compared before any other I/O."""

    barcode: str
    uuid: str
    pool: str


class Library(Protocol):
    """Drives and something that puts volumes into them: a robot, or a person with a shelf.

    ``drive`` is always a drive's element address, as :meth:`inventory` gives it.
    """

    @property
    def name(self) -> str: ...

    def inventory(self) -> Inventory:
        """What is where, looked at now and not remembered."""
        ...

    def read_label(self, barcode: str, drive: int) -> VolumeLabel | None:
        """Load ``barcode`` into ``drive`` if it is not there and return its label; None when blank."""
        ...

    def label(self, label: VolumeLabel, drive: int) -> None:
        """Load a blank volume and write its label.

        :raises WrongVolume: the volume is not blank.
        """
        ...

    def mount(self, label: VolumeLabel, drive: int) -> Store:
        """Load the volume into ``drive`` (unloading another one first) and return it as a Store.

        :raises OperatorNeeded: the volume is not in the library.
        :raises WrongVolume: what is in the drive says it is another volume than ``label``.
        """
        ...

    def unmount(self, drive: int) -> None:
        """Flush, unload, and put the volume back into a slot. Empty drive: nothing to do."""
        ...

    def eject(self, barcode: str) -> int:
        """Move the volume to a mail slot and return that element's address.

        :raises OperatorNeeded: every mail slot is occupied.
        """
        ...


@runtime_checkable
class Overwriting(Protocol):
    """A Library that can make a volume that is not blank its own, when an admin insists."""

    def overwrite(self, label: VolumeLabel, drive: int, typed: str) -> str:
        """Write ``label`` over whatever is on the cartridge; what that was.

        ``typed`` is the barcode as the admin typed it out.

        :raises Permanent: ``typed`` is not the barcode of ``label``; nothing was read or written.
        """
        ...


@runtime_checkable
class Reporting(Protocol):
    """A Library whose drives say how they and their cartridges are."""

    def report(self, drive: int) -> DriveReport:
        """Ask a drive now; what it does not tell is None. A mounted volume is not disturbed.

        Alerts that were seen since the drive was cleaned are among those of the report: drives lower them
        when they are read.

        :raises Retryable: the drive cannot be asked while this volume is mounted, or is not there.
        """
        ...


@runtime_checkable
class Ordering(Protocol):
    """A Library whose drives may know a good order to read in (recommended access order)."""

    def recommended_order(self, drive: int, extents: Sequence[tuple[int, int]]) -> tuple[int, ...] | None:
        """In which order the drive itself would read from the volume that is mounted in it.

        ``extents`` are the first and the last position of each object, as :attr:`ObjectStat.position` counts
        them. Answers with their indices; None where the drive does not say.

        :raises Retryable: the drive cannot be asked now.
        """
        ...


@runtime_checkable
class Cleaning(Protocol):
    """A Library that can clean a drive with a cleaning cartridge it holds."""

    def clean(self, drive: int) -> None:
        """Unload the drive, clean it and put the cleaning cartridge back; minutes.

        :raises OperatorNeeded: there is no cleaning cartridge, the one there is has expired, or it does
            not come out again; the message says what to do.
        :raises Retryable: a put or get is under way.
        """
        ...


@runtime_checkable
class SimulatedHands(Protocol):
    """What an operator's hands do to a library that must be told of it: a simulated one, or drives
    without a changer. A robot does not have it."""

    def hand_insert(self, barcode: str) -> None:
        """Take the volume from the shelf and put it into a free mail slot or slot."""
        ...

    def hand_remove(self, barcode: str) -> None:
        """Take the volume out of the mail slot (or slot) and put it on the shelf."""
        ...
