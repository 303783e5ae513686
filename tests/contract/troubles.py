"""The same trouble on every library, and what it must say: scripts of operations and faults.

A script is a list of steps, each with what must come of it: ``ok``, or the class of the error. The
simulated library stands in for a real one in most tests, so it must tell each trouble as the devices do.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from drivers.base import Library, Store, VolumeLabel
from drivers.errors import DriverError
from drivers.simulated.faults import bad_spot, dead_drive, door_open, robot_jam, write_error
from drivers.simulated.library import SimulatedLibrary

CHUNKS = 600_000
"""Bytes of an object: several records."""


class Bench(Protocol):
    """A library with two blank cartridges in slots, and hands that make trouble. Drives are 0 and 1."""

    library: Library
    barcodes: tuple[str, str]

    def door(self, *, opened: bool) -> None: ...

    def jam(self, moves: int) -> None:
        """The robot fails at so many moves."""
        ...

    def dead(self, drive: int) -> None:
        """The drive does nothing any more."""
        ...

    def spoil(self, barcode: str, store: Store, key: str) -> None:
        """No drive can read the beginning of this object."""
        ...

    def write_error(self, drive: int) -> None:
        """The next write fails."""
        ...

    def tear_out(self, barcode: str) -> None:
        """Out of its slot, unseen."""
        ...

    def mended(self) -> None:
        """Jams and dead drives are seen to, and cartridges that were taken out are back in other slots."""
        ...

    def crash(self) -> None:
        """The process is killed; ``library`` is a new one."""
        ...


class SimulatedBench:
    barcodes = ("HSM001L6", "HSM002L6")

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "library"
        self._out: list[str] = []
        self.crash()

    def crash(self) -> None:
        self.library = SimulatedLibrary(
            self._folder, slots=5, mail_slots=2, drives=2, cartridges=self.barcodes, capacity_bytes=64 << 20
        )

    def door(self, *, opened: bool) -> None:
        if opened:
            self.library.faults.add(door_open())
        else:
            self.library.faults.clear()

    def jam(self, moves: int) -> None:
        self.library.faults.add(robot_jam(moves))

    def dead(self, drive: int) -> None:
        self.library.faults.add(dead_drive(self.library.inventory().drives()[drive].address))

    def spoil(self, barcode: str, store: Store, key: str) -> None:
        self.library.faults.add(bad_spot(barcode, key))

    def write_error(self, drive: int) -> None:
        self.library.faults.add(write_error(self.library.inventory().drives()[drive].address))

    def tear_out(self, barcode: str) -> None:
        self.library.hand_remove(barcode)
        self._out.append(barcode)

    def mended(self) -> None:
        self.library.faults.clear()
        while self._out:
            self.library.hand_insert(self._out.pop())


Script = list[tuple[str, str]]

SCRIPTS: dict[str, Script] = {
    "nothing is wrong": [
        ("label A 0", "ok"),
        ("label A 0", "WrongVolume"),
        ("mount A 0", "ok"),
        ("put k1 A", "ok"),
        ("put k1 A", "Permanent"),
        ("flush A", "ok"),
        ("get k1 A", "ok"),
        ("get k2 A", "NotFound"),
        ("mount B 1", "WrongVolume"),
        ("mount C 1", "OperatorNeeded"),
        ("eject C", "NotFound"),
        ("mount A 1", "Retryable"),
        ("unmount 0", "ok"),
        ("get k1 A", "Retryable"),
        ("mount A 1", "ok"),
        ("get k1 A", "ok"),
        ("eject A", "ok"),
    ],
    "the door is open": [
        ("label A 0", "ok"),
        ("mount A 0", "ok"),
        ("put k1 A", "ok"),
        ("door open", "ok"),
        ("inventory", "StaleMap"),
        ("label B 1", "StaleMap"),
        ("unmount 0", "StaleMap"),
        ("eject B", "StaleMap"),
        ("get k1 A", "ok"),
        ("door closed", "ok"),
        ("inventory", "ok"),
        ("label B 1", "ok"),
        ("get k1 A", "ok"),
        ("unmount 0", "ok"),
    ],
    "the robot is jammed": [
        ("label A 0", "ok"),
        ("mount A 0", "ok"),
        ("put k1 A", "ok"),
        ("jam 2", "ok"),
        ("label B 1", "OperatorNeeded"),
        ("eject B", "OperatorNeeded"),
        ("inventory", "ok"),
        ("label B 1", "ok"),
        ("get k1 A", "ok"),
        ("mount B 1", "ok"),
    ],
    "a cartridge is torn out of its slot": [
        ("label A 0", "ok"),
        ("mount A 0", "ok"),
        ("put k1 A", "ok"),
        ("unmount 0", "ok"),
        ("tear A", "ok"),
        ("mount A 0", "OperatorNeeded"),
        ("eject A", "NotFound"),
        ("mended", "ok"),
        ("mount A 0", "ok"),
        ("get k1 A", "ok"),
    ],
    "a spot cannot be read": [
        ("label A 0", "ok"),
        ("mount A 0", "ok"),
        ("put k1 A", "ok"),
        ("put k2 A", "ok"),
        ("flush A", "ok"),
        ("spoil k1 A", "ok"),
        ("get k1 A", "Retryable"),
        ("get k2 A", "ok"),
        ("put k3 A", "ok"),
        ("flush A", "ok"),
        ("unmount 0", "ok"),
        ("mount A 1", "ok"),
        ("get k1 A", "Retryable"),
        ("get k3 A", "ok"),
        ("list A", "k1 k2 k3"),
    ],
    "a write fails": [
        ("label A 0", "ok"),
        ("mount A 0", "ok"),
        ("put k1 A", "ok"),
        ("flush A", "ok"),
        ("put k2 A", "ok"),
        ("write error 0", "ok"),
        ("put k3 A", "Retryable"),
        ("get k3 A", "NotFound"),
        ("put k4 A", "Retryable"),
        ("flush A", "Retryable"),
        ("get k1 A", "ok"),
        ("mount A 0", "ok"),
        ("list A", "k1"),
        ("put k2 A", "ok"),
        ("flush A", "ok"),
        ("list A", "k1 k2"),
        ("get k2 A", "ok"),
    ],
    "the index cannot be written": [
        ("label A 0", "ok"),
        ("mount A 0", "ok"),
        ("put k1 A", "ok"),
        ("flush A", "ok"),
        ("put k2 A", "ok"),
        ("write error 0", "ok"),
        ("flush A", "Retryable"),
        ("put k3 A", "Retryable"),
        ("unmount 0", "Retryable"),
        ("unmount 0", "ok"),
        ("mount A 1", "ok"),
        ("list A", "k1"),
        ("put k2 A", "ok"),
        ("flush A", "ok"),
        ("list A", "k1 k2"),
    ],
    "a drive dies with a cartridge inside": [
        ("label B 1", "ok"),
        ("mount B 1", "ok"),
        ("put k9 B", "ok"),
        ("label A 0", "ok"),
        ("mount A 0", "ok"),
        ("put k1 A", "ok"),
        ("flush A", "ok"),
        ("dead 0", "ok"),
        ("get k1 A", "Retryable"),
        ("put k2 A", "Retryable"),
        ("unmount 0", "Retryable"),
        ("get k9 B", "ok"),
        ("inventory", "ok"),
        ("mount A 1", "Retryable"),
        ("mount B 1", "ok"),
        ("get k9 B", "ok"),
    ],
    "a dead drive is asked to load": [
        ("label A 0", "ok"),
        ("dead 1", "ok"),
        ("label B 1", "Retryable"),
        ("mount A 0", "ok"),
        ("put k1 A", "ok"),
        ("flush A", "ok"),
        ("get k1 A", "ok"),
    ],
    "the process dies": [
        ("label A 0", "ok"),
        ("mount A 0", "ok"),
        ("put k1 A", "ok"),
        ("flush A", "ok"),
        ("crash", "ok"),
        ("mount A 1", "ok"),
        ("list A", "k1"),
        ("get k1 A", "ok"),
    ],
}


def data_of(key: str) -> bytes:
    return random.Random(key).randbytes(CHUNKS)


class Player:
    """Plays scripts on a bench."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._stores: dict[str, Store] = {}
        self._drives = [element.address for element in bench.library.inventory().drives()]

    def outcome(self, step: str) -> str:
        """``ok``, the name of the error's class, or what ``list`` gives."""
        try:
            return self._act(*step.split()) or "ok"
        except DriverError as error:
            assert str(error), f"{step}: an error without a word"
            return type(error).__name__

    def _act(self, verb: str, *words: str) -> str | None:
        return {
            "label": lambda volume, drive: self._library.label(self._label(volume), self._drive(drive)),
            "mount": self._mount,
            "unmount": lambda drive: self._library.unmount(self._drive(drive)),
            "eject": lambda volume: self._no_answer(self._library.eject(self._barcode(volume))),
            "inventory": lambda: self._no_answer(self._library.inventory()),
            "put": lambda key, volume: self._put(self._stores[volume], key),
            "get": lambda key, volume: self._get(self._stores[volume], key),
            "flush": lambda volume: self._stores[volume].flush(),
            "list": lambda volume: " ".join(stat.key for stat in self._stores[volume].list()),
            "door": lambda how: self._bench.door(opened=how == "open"),
            "jam": lambda moves: self._bench.jam(int(moves)),
            "dead": lambda drive: self._bench.dead(int(drive)),
            "spoil": lambda key, volume: self._bench.spoil(self._barcode(volume), self._stores[volume], key),
            "write": lambda _, drive: self._bench.write_error(int(drive)),
            "tear": lambda volume: self._bench.tear_out(self._barcode(volume)),
            "mended": self._bench.mended,
            "crash": self._bench.crash,
        }[verb](*words)

    @property
    def _library(self) -> Library:
        return self._bench.library

    def _drive(self, word: str) -> int:
        return self._drives[int(word)]

    def _barcode(self, volume: str) -> str:
        return {"A": self._bench.barcodes[0], "B": self._bench.barcodes[1], "C": "NOSUCHL6"}[volume]

    def _label(self, volume: str) -> VolumeLabel:
        return VolumeLabel(self._barcode(volume), f"uuid-{volume}", "tape-a")

    def _mount(self, volume: str, drive: str) -> None:
        self._stores[volume] = self._library.mount(self._label(volume), self._drive(drive))

    def _put(self, store: Store, key: str) -> None:
        store.put(key, io.BytesIO(data_of(key)), CHUNKS, None)

    def _get(self, store: Store, key: str) -> str:
        return "ok" if b"".join(store.get(key)) == data_of(key) else "other bytes"

    @staticmethod
    def _no_answer(_: object) -> None:
        """What it gives back is not compared: libraries number their elements as they like."""


OpenBench = Callable[[Path], Bench]
