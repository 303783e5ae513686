"""The product's own tape drivers on the laboratory's devices, for the contract suites (tests/contract).

A harness starts from blank cartridges each time it is opened; ``crash`` does what the kernel does for a
killed process: its file descriptors are closed, and nothing else.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from instruments import DRIVES, MAIL, OPERATION_MOVE, OPERATION_WRITE, SLOTS, ask, fail

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
MOTION = (0x00, 0x01, 0x08, 0x0A, 0x10, 0x11, 0x1B, 0x2B, 0x91, 0x92)
"""Operation codes of all that a dead drive does not do any more; it still says who it is."""


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


class LabBench:
    """For the scripts of trouble (tests/contract/troubles.py)."""

    barcodes = BARCODES[:2]

    def __init__(self, folder: Path) -> None:
        stock(*self.barcodes)
        self.crash()

    def crash(self) -> None:
        self.library: Library = open_library(load_seconds=5)

    def door(self, *, opened: bool) -> None:
        ask("door", open=opened)

    def jam(self, moves: int) -> None:
        fail(OPERATION_MOVE, (4, 0x15, 1), device="changer", times=moves, alerts=[1])

    def dead(self, drive: int) -> None:
        for operation in MOTION:
            fail(operation, (4, 0x44, 0), device=drive, times=1_000_000)

    def spoil(self, barcode: str, store: Store, key: str) -> None:
        ask("mark", barcode=barcode, options={"bad_spots": [[0, store.stat(key).position]]})

    def write_error(self, drive: int) -> None:
        fail(OPERATION_WRITE, (3, 0x0C, 0), device=drive, alerts=[3, 6])

    def tear_out(self, barcode: str) -> None:
        ask("lift", barcode=barcode, quiet=True)

    def mended(self) -> None:
        for device in ({"drive": 0}, {"drive": 1}, {"device": "changer"}):
            ask("clear", **device)
        for at, barcode in enumerate(self.barcodes):
            if barcode not in _held().values():
                ask("place", barcode=barcode, element=SLOTS + 5 + at, quiet=True)


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
