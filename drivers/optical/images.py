"""A jukebox whose discs are image files in a folder: for tests, for trials, and for machines without one.

Answers ``mtx`` as a changer does, so that everything above it is what a real jukebox has; the drives are
xorriso on the image that the robot has "loaded". Where each disc is, is kept in ``jukebox.json``.
"""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from drivers.errors import NotFound, Permanent
from drivers.tape.io import Completed, ScsiDevice

CHANGER = "/images"
STATE = "jukebox.json"
_OK = Completed(0, b"", "")


class ImageIo:
    """See :class:`drivers.tape.io.Io`. A disc that was never written is an image that is not there yet."""

    def __init__(
        self, folder: Path, barcodes: Sequence[str], *, drives: int, slots: int, mail_slots: int
    ) -> None:
        """
        :param barcodes: the discs that are in the slots when the folder is new.
        """
        self._folder = folder
        self._drives, self._slots, self._mail = drives, slots, mail_slots
        self._lock = threading.RLock()
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / STATE).exists():
            self._save({"slots": {str(n): code for n, code in enumerate(barcodes, 1)}, "drives": {}})

    def image(self, drive: int) -> str | None:
        """The device of what is in a drive, for xorriso; None when it is empty."""
        loaded = self._read()["drives"].get(str(drive))
        if loaded is None:
            return None
        path = self._folder / f"{loaded[0]}.iso"
        path.touch()
        return f"stdio:{path}"

    def run(self, argv: Sequence[str], timeout: float) -> Completed:
        """``mtx`` only."""
        if argv[0] != "mtx":
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", argv[0])
        command, numbers = argv[3], list(argv[4:])
        with self._lock:
            state = self._read()
            if command == "status":
                return Completed(0, self._status(state).encode(), "")
            if command == "inventory":
                return _OK
            act = {"load": self._into_drive, "unload": self._out_of_drive, "transfer": self._across}[command]
            done = act(state, *numbers)
            if done.status == 0:
                self._save(state)
            return done

    def open(self, path: str, *, write: bool) -> Any:
        """There are no tape devices.

        :raises OSError: always.
        """
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)

    def devices(self) -> tuple[ScsiDevice, ...]:
        return ()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def monotonic(self) -> float:
        return time.monotonic()

    def hand_insert(self, barcode: str) -> None:
        """Put a disc into a mail slot, or a slot when those are full; an unknown one is a new blank disc.

        :raises NotFound: it is not a name that a disc can have.
        :raises Permanent: it is in the jukebox already, or there is no free slot.
        """
        if not barcode.isalnum() or barcode.startswith("NOSUCH"):
            raise NotFound(f"there is no disc {barcode}")
        with self._lock:
            state = self._read()
            if barcode in self._held(state):
                raise Permanent(f"{barcode} is in the jukebox already")
            numbers = range(1, self._slots + self._mail + 1)
            order = sorted(numbers, key=lambda number: (number <= self._slots, number))
            free = next((number for number in order if str(number) not in state["slots"]), None)
            if free is None:
                raise Permanent(f"{barcode}: the jukebox has no free slot")
            state["slots"][str(free)] = barcode
            self._save(state)

    def hand_remove(self, barcode: str) -> None:
        """Take a disc out of its slot.

        :raises NotFound: it is not in the jukebox.
        :raises Permanent: it is in a drive.
        """
        with self._lock:
            state = self._read()
            if any(loaded[0] == barcode for loaded in state["drives"].values()):
                raise Permanent(f"{barcode} is in a drive")
            slot = next((number for number, held in state["slots"].items() if held == barcode), None)
            if slot is None:
                raise NotFound(f"{barcode} is not in the jukebox")
            del state["slots"][slot]
            self._save(state)

    def _into_drive(self, state: dict[str, Any], slot: str, drive: str) -> Completed:
        if slot not in state["slots"]:
            return Completed(1, b"", f"source Element Address {slot} is Empty\n")
        if drive in state["drives"]:
            return Completed(1, b"", f"Drive {drive} Full\n")
        state["drives"][drive] = [state["slots"].pop(slot), int(slot)]
        return _OK

    def _out_of_drive(self, state: dict[str, Any], slot: str, drive: str) -> Completed:
        if drive not in state["drives"]:
            return Completed(1, b"", f"Data Transfer Element {drive} is Empty\n")
        if slot in state["slots"]:
            return Completed(1, b"", f"Storage Element {slot} is Already Full\n")
        state["slots"][slot] = state["drives"].pop(drive)[0]
        return _OK

    def _across(self, state: dict[str, Any], slot: str, to: str) -> Completed:
        if slot not in state["slots"]:
            return Completed(1, b"", f"source Element Address {slot} is Empty\n")
        if to in state["slots"]:
            return Completed(1, b"", f"destination Element Address {to} is Already Full\n")
        state["slots"][to] = state["slots"].pop(slot)
        return _OK

    def _held(self, state: dict[str, Any]) -> set[str]:
        return {*state["slots"].values(), *(loaded[0] for loaded in state["drives"].values())}

    def _status(self, state: dict[str, Any]) -> str:
        total = self._slots + self._mail
        lines = [
            f"  Storage Changer {CHANGER}:{self._drives} Drives, {total} Slots ( {self._mail} Import/Export )"
        ]
        for number in range(self._drives):
            loaded = state["drives"].get(str(number))
            lines.append(
                f"Data Transfer Element {number}:Empty"
                if loaded is None
                else f"Data Transfer Element {number}:Full (Storage Element {loaded[1]} Loaded)"
                f":VolumeTag = {loaded[0]}"
            )
        for number in range(1, total + 1):
            mail = " IMPORT/EXPORT" if number > self._slots else ""
            held = state["slots"].get(str(number))
            tag = "Empty" if held is None else f"Full :VolumeTag={held}"
            lines.append(f"      Storage Element {number}{mail}:{tag}")
        return "\n".join(lines) + "\n"

    def _read(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self._folder / STATE).read_text("ascii"))
        return found

    def _save(self, state: dict[str, Any]) -> None:
        fresh = self._folder / f"{STATE}.new"
        fresh.write_text(json.dumps(state), "ascii")
        os.replace(fresh, self._folder / STATE)
