"""A drive of a library with the volume that is mounted in it: what a robot and a person have in common."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from drivers.base import Capacity, VolumeLabel
from drivers.errors import DriverError, Permanent, Retryable, WrongVolume
from drivers.reports import DriveReport
from drivers.ring import RING_BYTES, Ring
from drivers.tape.label import Content, Found, PlainLabel
from drivers.tape.plain import identify, recover, write_label
from drivers.tape.store import PlainStore
from drivers.tape.tapedrive import TapeDrive
from drivers.tape.tapeerrors import translated_tape

# Native capacities in bytes by the media identifier that ends an LTO barcode.
_NATIVE = {
    "L1": 100e9, "L2": 200e9, "L3": 400e9, "L4": 800e9, "L5": 1.5e12, "L6": 2.5e12, "L7": 6e12, "M8": 9e12,
    "L8": 12e12, "L9": 18e12, "LX": 6e12, "LY": 12e12, "LZ": 18e12, "LW": 2.5e12, "LV": 1.5e12, "LU": 800e9,
}  # fmt: skip
_UNKNOWN_CAPACITY = 100e9
RESERVE_PART = 50
"""One part in so many stays free: for the last index, and because early warning is a warning."""


@dataclass(frozen=True, slots=True)
class Format:
    """How volumes are written."""

    block_bytes: int = 256 << 10
    pool_block_bytes: dict[str, int] = field(default_factory=dict)
    """Block sizes of pools that want another one."""
    capacity_bytes: int | None = None
    """Of every cartridge; None: as the drive says, else as the barcode says."""
    ring_bytes: int = RING_BYTES
    """Memory that a drive reads ahead into; taken while volumes are written."""

    def label(self, volume: VolumeLabel) -> PlainLabel:
        return PlainLabel(volume, self.pool_block_bytes.get(volume.pool, self.block_bytes))


class Bay:
    """A drive. ``lock`` is held by whoever loads, mounts or empties it."""

    def __init__(self, address: int, drive: TapeDrive, form: Format) -> None:
        self.address = address
        self.drive = drive
        self.lock = threading.RLock()
        self.store: PlainStore | None = None
        self.ring = Ring(form.ring_bytes)
        self._form = form
        self._flush_failed = False

    @property
    def mounted(self) -> VolumeLabel | None:
        """Who is mounted here."""
        return None if self.store is None else self.store.label.volume

    def identify(self) -> Found:
        """What the loaded cartridge is; rewinds it.

        :raises OperatorNeeded: nothing is loaded.
        """
        if self.store is not None:
            label = self.store.label
            return Found(Content.OURS, f"volume {label.volume.uuid} of pool {label.volume.pool!r}", label)
        handle, _ = self.drive.open()
        try:
            with translated_tape(f"read the label in drive {self.drive.name}"):
                return identify(handle)
        finally:
            handle.close()

    def forget(self) -> None:
        """The cartridge was taken out by hand while it was mounted: its Store is of no use any more."""
        if self.store is not None:
            self.store.close()
            self.store = None

    def read_label(self, barcode: str) -> VolumeLabel | None:
        """The label of the loaded cartridge; None when it is blank.

        :raises WrongVolume: it is somebody else's; the message says whose.
        """
        found = self.identify()
        if found.content is Content.BLANK:
            return None
        if found.label is None:
            raise WrongVolume(
                f"{barcode} in drive {self.drive.name} is not ours: it is {found.words}; left alone"
            )
        return found.label.volume

    def label(self, label: VolumeLabel) -> None:
        """Label a blank cartridge.

        :raises WrongVolume: it is not blank; the message says what it is.
        """
        found = self.identify()
        if found.content is not Content.BLANK:
            raise WrongVolume(
                f"{label.barcode} in drive {self.drive.name} is not blank: it is {found.words}; left alone"
            )
        self._write_label(label)

    def overwrite(self, label: VolumeLabel, typed: str) -> str:
        """Label a cartridge whatever is on it; what that was.

        :raises Permanent: ``typed`` is not its barcode, it can be written only once, or it must be made
            unpartitioned first.
        """
        if typed != label.barcode:
            raise Permanent(
                f"overwrite {label.barcode}: {typed!r} was typed; type its barcode to overwrite it"
            )
        if self.store is not None:
            raise Permanent(f"overwrite {label.barcode}: it is mounted; unmount it first")
        found = self.identify()
        if found.words.startswith("an LTFS volume"):
            raise Permanent(
                f"{label.barcode} is {found.words}, a tape of two partitions; make it one again first "
                "(mkltfs --wipe, or unltfs)"
            )
        if found.content is not Content.BLANK and self.drive.is_worm():
            raise Permanent(
                f"{label.barcode} is {found.words} on a write-once cartridge, which cannot be overwritten"
            )
        self._write_label(label)
        return found.words

    def mount(self, label: VolumeLabel) -> PlainStore:
        """The loaded cartridge as a Store.

        :raises WrongVolume: it is blank, somebody else's, or another volume than ``label``.
        """
        if self.store is not None:
            self._compare(label, self.store.label.volume)
            if not self.store.failed:
                return self.store
            if self.store.busy:
                raise Retryable(f"drive {self.drive.name} is busy with {label.barcode}; try again")
            self.forget()  # its end is looked for anew
        handle, writable = self.drive.open()
        try:
            with translated_tape(f"mount {label.barcode} in drive {self.drive.name}"):
                found = identify(handle)
                if found.label is None:
                    raise WrongVolume(
                        f"{label.barcode} in drive {self.drive.name} is {found.words}; expected volume "
                        f"{label.uuid} of pool {label.pool!r}: nothing was written"
                    )
                self._compare(label, found.label.volume)
                recovered = recover(handle, found.label)
            protected = "" if writable else "its write-protect tab is set"
            capacity = self._capacity(label.barcode, recovered.end * found.label.block_bytes)
            self.store = PlainStore(
                handle,
                self.drive.name,
                found.label,
                recovered,
                capacity,
                read_only=protected,
                ring=self.ring,
            )
        except BaseException:
            handle.close()
            raise
        self._flush_failed = False
        return self.store

    def report(self, barcode: str | None) -> DriveReport:
        """What an admin wants to know of the drive and of what is in it (``barcode``, if that is known)."""
        mounted = self.mounted
        return self.drive.report(
            self.address, barcode if mounted is None else mounted.barcode, mounted=mounted is not None
        )

    def release(self) -> None:
        """Flush and let go of the volume, and unload the drive.

        When the index cannot be written the first call says so; the next one gives the cartridge free
        without it, for what was not flushed was never counted.

        :raises Retryable: a put or get is under way.
        """
        store = self.store
        if store is not None:
            if store.busy:
                raise Retryable(
                    f"drive {self.drive.name} is busy with {store.label.volume.barcode}; try again"
                )
            if not self._flush_failed:
                try:
                    store.flush()
                except DriverError:
                    self._flush_failed = True
                    raise
            store.close()
            self.store = None
            self.ring.shrink()
        self.drive.eject()

    def _write_label(self, label: VolumeLabel) -> None:
        handle, writable = self.drive.open()
        try:
            if not writable:
                raise Permanent(f"{label.barcode}: its write-protect tab is set")
            with translated_tape(f"label {label.barcode} in drive {self.drive.name}"):
                write_label(handle, self._form.label(label))
        finally:
            handle.close()

    def _compare(self, wanted: VolumeLabel, found: VolumeLabel) -> None:
        if (found.barcode, found.uuid) != (wanted.barcode, wanted.uuid):
            raise WrongVolume(
                f"what carries the barcode {wanted.barcode} in drive {self.drive.name} says it is "
                f"{found.barcode} ({found.uuid}) of pool {found.pool!r}, expected {wanted.uuid}: "
                "nothing was written"
            )

    def _capacity(self, barcode: str, used: int) -> Capacity:
        told = None if self._form.capacity_bytes is not None else self.drive.capacity()
        if told is not None:
            total, left = told
        else:
            native = _NATIVE.get(barcode[-2:], _UNKNOWN_CAPACITY)
            total = self._form.capacity_bytes or int(native)
            left = total - used
        return Capacity(total, max(0, min(total, left) - total // RESERVE_PART))
