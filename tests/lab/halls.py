"""The product's own tape drivers on the laboratory's devices, for the contract suites (tests/contract).

A harness starts from blank cartridges each time it is opened; ``crash`` does what the kernel does for a
killed process: its file descriptors are closed, and nothing else.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from instruments import DRIVES, MAIL, ask

from drivers.base import Inventory, Library, Store, VolumeLabel
from drivers.errors import NotFound, Permanent
from drivers.tape.configure import open_manual, open_mtx
from drivers.tape.io import Handle, LinuxIo
from drivers.tape.library import TapeLibrary
from drivers.tape.manual import ManualLibrary

CHANGER_SERIAL, DRIVE_SERIAL = "00X4U78L0001", "90WT000001"
BARCODES = ("HSM001L6", "HSM002L6", "HSM003L6")
ABSENT = "HSM004L6"
CAPACITY_MB = 64
MAIL_SLOTS = 2


class MortalIo(LinuxIo):
    """This machine as one process sees it; :meth:`die` closes what it had open."""

    def __init__(self) -> None:
        self._open: list[Handle] = []

    def open(self, path: str, *, write: bool) -> Handle:
        handle = super().open(path, write=write)
        self._open.append(handle)
        return handle

    def die(self) -> None:
        while self._open:
            with contextlib.suppress(OSError):
                self._open.pop().close()


_alive: list[MortalIo] = []


def new_process() -> MortalIo:
    """What a new process sees; the one before is dead."""
    while _alive:
        _alive.pop().die()
    _alive.append(MortalIo())
    return _alive[-1]


def open_library(**options: Any) -> TapeLibrary:
    """The ``mtx`` family's library, as the configuration would open it, in a new process."""
    return open_mtx({"name": "lab", "changer": CHANGER_SERIAL, **options}, new_process())


def stock(*barcodes: str, capacity_mb: float = CAPACITY_MB, **options: Any) -> None:
    """New blank cartridges in slots 1, 2, ...; nobody has a drive open."""
    new_process()
    ask(
        "reset",
        cartridges={
            str(slot): {"barcode": barcode, "capacity_mb": capacity_mb, **options}
            for slot, barcode in enumerate(barcodes, 1)
        },
    )


class HandledLibrary:
    """A library whose cartridges a hand can carry, by the panel."""

    def __init__(self, library: Library) -> None:
        self._library = library

    @property
    def name(self) -> str:
        return self._library.name

    def inventory(self) -> Inventory:
        return self._library.inventory()

    def read_label(self, barcode: str, drive: int) -> VolumeLabel | None:
        return self._library.read_label(barcode, drive)

    def label(self, label: VolumeLabel, drive: int) -> None:
        self._library.label(label, drive)

    def mount(self, label: VolumeLabel, drive: int) -> Store:
        return self._library.mount(label, drive)

    def unmount(self, drive: int) -> None:
        self._library.unmount(drive)

    def eject(self, barcode: str) -> int:
        return self._library.eject(barcode)

    def hand_insert(self, barcode: str) -> None:
        """From the shelf into a free mail slot."""
        _known(barcode)
        held = _held()
        if barcode in held.values():
            raise Permanent(f"{barcode} is in the library")
        free = next(at for at in range(MAIL_SLOTS) if MAIL + at not in held)
        ask("insert", ie=free, barcode=barcode)

    def hand_remove(self, barcode: str) -> None:
        """Out of a slot or mail slot."""
        _known(barcode)
        where = {held: address for address, held in _held().items()}
        if barcode not in where:
            raise NotFound(f"{barcode} is not in the library")
        if DRIVES <= where[barcode] < DRIVES + 2:
            raise Permanent(f"{barcode} is in a drive")
        ask("lift", barcode=barcode)


def _held() -> dict[int, str]:
    return {int(address): barcode for address, barcode in ask("status")["at"].items()}


def _known(barcode: str) -> None:
    if barcode not in (*BARCODES, ABSENT):
        raise NotFound(f"there is no cartridge {barcode}")


class LabHall:
    """For the Library contract: three blank cartridges in slots, one on the shelf, a cleaning one."""

    barcodes = BARCODES
    absent = ABSENT

    def __init__(self, folder: Path) -> None:
        stock(*BARCODES, ABSENT)
        ask("lift", barcode=ABSENT, quiet=True)
        ask("place", barcode="CLN001CU", element=0x1006, options={"kind": "clean"}, quiet=True)
        self.library: Library = self._open()

    def _open(self) -> Library:
        return HandledLibrary(open_library())

    def crash(self) -> Library:
        self.library = self._open()
        return self.library


class LabCartridge:
    """For the Store contract: a mounted, empty cartridge in a drive that stands alone (family ``manual``)."""

    label = VolumeLabel(BARCODES[0], "5f0c0a3e-0000-4000-8000-000000000001", "tape-a")

    def __init__(self, folder: Path) -> None:
        self.store = self._empty(CAPACITY_MB)

    def _empty(self, capacity_mb: float) -> Store:
        ask("reset", cartridges={})
        ask("place", barcode=self.label.barcode, element=DRIVES, options={"capacity_mb": capacity_mb})
        library, drive = self._open()
        library.hand_insert(self.label.barcode)
        library.label(self.label, drive)
        return library.mount(self.label, drive)

    def _open(self) -> tuple[ManualLibrary, int]:
        library = open_manual({"drives": [DRIVE_SERIAL]}, new_process())
        (drive,) = (element.address for element in library.inventory().drives())
        return library, drive

    def crash(self) -> Store:
        library, drive = self._open()
        self.store = library.mount(self.label, drive)
        return self.store

    def small(self, free: int) -> Store:
        """Smaller than asked for: a cartridge here lies in memory."""
        self.store = self._empty(min(free >> 20, 16))
        return self.store
