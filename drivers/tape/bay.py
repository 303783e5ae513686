"""A drive of a library with the volume that is mounted in it: what a robot and a person have in common."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from drivers.base import Capacity, VolumeLabel
from drivers.errors import DriverError, OperatorNeeded, Permanent, Retryable, WrongVolume
from drivers.labels import require_typed, require_volume
from drivers.reports import DriveReport
from drivers.ring import RING_BYTES, Ring
from drivers.tape.encryption import PoolKey, read_key, unsuitable
from drivers.tape.label import Content, Found, PlainLabel, require_blank, volume_of
from drivers.tape.ltfs.bay import LtfsDrive
from drivers.tape.ltfs.commands import Commands
from drivers.tape.ltfs.store import LtfsStore
from drivers.tape.plain import identify, recover, write_label
from drivers.tape.rao import Segment
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
LTFS_DATA_PARTITION = 1
"""Behind the index partition, as mkltfs makes it."""
PLAIN, LTFS = FORMATS = ("plain", "ltfs")


@dataclass(frozen=True, slots=True)
class Format:
    """How volumes are written. A cartridge that has been labelled keeps the format that it has."""

    form: str = PLAIN
    """Of new volumes."""
    pool_forms: Mapping[str, str] = field(default_factory=dict)
    """Of new volumes of pools that want another one."""
    ltfs: Commands | None = None
    """How LTFS volumes are mounted; None: not at all."""
    block_bytes: int = 256 << 10
    pool_block_bytes: dict[str, int] = field(default_factory=dict)
    """Block sizes of pools that want another one."""
    capacity_bytes: int | None = None
    """Of every cartridge; None: as the drive says, else as the barcode says."""
    ring_bytes: int = RING_BYTES
    """Memory that a drive reads ahead into; taken while volumes are written."""

    keys: Mapping[str, str] = field(default_factory=dict)
    """Key files of pools whose volumes are encrypted by the drive, as stenc makes them."""

    def key_of(self, pool: str) -> PoolKey | None:
        """The key of a pool's volumes, as its file is now.

        :raises OperatorNeeded: the file cannot be read or holds no key.
        """
        return read_key(self.keys[pool]) if pool in self.keys else None

    def form_of(self, pool: str) -> str:
        """The format of a pool's new volumes."""
        return self.pool_forms.get(pool, self.form)

    def label(self, volume: VolumeLabel) -> PlainLabel:
        key = self.key_of(volume.pool)
        size = self.pool_block_bytes.get(volume.pool, self.block_bytes)
        return PlainLabel(volume, size, "" if key is None else key.fingerprint)


class Bay:
    """A drive. ``lock`` is held by whoever loads, mounts or empties it."""

    def __init__(self, address: int, drive: TapeDrive, form: Format) -> None:
        self.address = address
        self.drive = drive
        self.lock = threading.RLock()
        self.store: PlainStore | LtfsStore | None = None
        self.ring = Ring(form.ring_bytes)
        self._form = form
        self._flush_failed = False
        self._ltfs = LtfsDrive(drive, form.ltfs, f"drive-{address}") if form.ltfs is not None else None

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
                found = identify(handle)
        finally:
            handle.close()
        return self._ltfs.look(found) if found.ltfs_serial and self._ltfs is not None else found

    def forget(self) -> None:
        """The cartridge was taken out by hand while it was mounted: its Store is of no use any more."""
        if self.store is not None:
            self.store.close()
            self.store = None
        if self._ltfs is not None:
            self._ltfs.abandon()

    def read_label(self, barcode: str) -> VolumeLabel | None:
        """The label of the loaded cartridge; None when it is blank.

        :raises WrongVolume: it is somebody else's; the message says whose.
        """
        return volume_of(self.identify(), barcode, self.drive.name)

    def label(self, label: VolumeLabel) -> None:
        """Label a blank cartridge.

        :raises WrongVolume: it is not blank; the message says what it is.
        """
        found = self.identify()
        require_blank(found, label.barcode, self.drive.name)
        self._write_label(label, found)

    def overwrite(self, label: VolumeLabel, typed: str) -> str:
        """Label a cartridge whatever is on it; what that was.

        :raises Permanent: ``typed`` is not its barcode, it can be written only once, or it must be made
            unpartitioned first.
        """
        require_typed(label, typed)
        if self.store is not None:
            raise Permanent(f"overwrite {label.barcode}: it is mounted; unmount it first")
        try:
            found = self.identify()
        except Retryable as error:
            # As the writing of a label that was cut off leaves it. The barcode was typed out: it may go.
            found = Found(Content.BROKEN, f"a tape whose beginning cannot be read ({error})")
        if found.ltfs_serial and self._ltfs is None:
            raise Permanent(
                f"{label.barcode} is {found.words}, a tape of two partitions; make it one again first "
                "(mkltfs --wipe, or unltfs)"
            )
        if found.content is not Content.BLANK and self.drive.is_worm():
            raise Permanent(
                f"{label.barcode} is {found.words} on a write-once cartridge, which cannot be overwritten"
            )
        self._write_label(label, found)
        return found.words

    def mount(self, label: VolumeLabel) -> PlainStore | LtfsStore:
        """The loaded cartridge as a Store, in the format that it has.

        :raises WrongVolume: it is blank, somebody else's, or another volume than ``label``.
        """
        if self.store is not None:
            require_volume(label, self.store.label.volume, self.drive.name)
            if not self.store.failed:
                return self.store
            if self.store.busy:
                raise Retryable(f"drive {self.drive.name} is busy with {label.barcode}; try again")
            self.forget()  # its end is looked for anew
        self.store = self._mount_plain(label) or self._mount_ltfs(label)
        self._flush_failed = False
        return self.store

    def _mount_plain(self, label: VolumeLabel) -> PlainStore | None:
        """None: it is an LTFS volume, and those are mounted here."""
        handle, writable = self.drive.open()
        try:
            with translated_tape(f"mount {label.barcode} in drive {self.drive.name}"):
                found = identify(handle)
                if found.ltfs_serial and self._ltfs is not None:
                    handle.close()
                    return None
                if not isinstance(found.label, PlainLabel):
                    raise WrongVolume(
                        f"{label.barcode} in drive {self.drive.name} is {found.words}; expected volume "
                        f"{label.uuid} of pool {label.pool!r}: nothing was written"
                    )
                require_volume(label, found.label.volume, self.drive.name)
                unkeyed = self._set_key(found.label)
                recovered = recover(handle, found.label)
            protected = unkeyed if writable else "its write-protect tab is set"
            capacity = self._capacity(label.barcode, recovered.end * found.label.block_bytes)
            return PlainStore(
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

    def _set_key(self, label: PlainLabel) -> str:
        """Give the drive the key that the volume's label names. Why nothing may be written; empty when all is
        well.

        :raises OperatorNeeded: its pool has another key, or none.
        """
        barcode, pool = label.volume.barcode, label.volume.pool
        key = self._form.key_of(pool)
        wrong = unsuitable(self.drive.name, barcode, pool, label.key, key)
        if wrong:
            raise OperatorNeeded(wrong)
        if self._form.keys:
            self.drive.set_key(key if label.key else None)
        if key is not None and not label.key:
            return f"it was labelled without a key, and pool {pool!r} has the key {key.fingerprint} now"
        return ""

    def _mount_ltfs(self, label: VolumeLabel) -> LtfsStore:
        if self._ltfs is None:
            raise Permanent(f"{label.barcode} is an LTFS volume; name the format ltfs to mount it")
        # ltfsck writes: only onto what should be ours by its barcode and by the format of its pool.
        checks = self._form.form_of(label.pool) == LTFS
        return self._ltfs.open(label, self._form.capacity_bytes, self.ring, checks=checks)

    def report(self, barcode: str | None) -> DriveReport:
        """What an admin wants to know of the drive and of what is in it (``barcode``, if that is known)."""
        mounted = self.mounted
        return self.drive.report(
            self.address, barcode if mounted is None else mounted.barcode, mounted=mounted is not None
        )

    def recommended_order(self, extents: Sequence[tuple[int, int]]) -> tuple[int, ...] | None:
        """In which order the drive would read these extents of the mounted volume; None: it does not say."""
        if self.store is None:
            return None
        partition = LTFS_DATA_PARTITION if isinstance(self.store, LtfsStore) else 0
        # A segment of one object is a binding point, and an object has a filemark or a block behind it.
        segments = [Segment(partition, first, max(last, first + 1)) for first, last in extents]
        return self.drive.recommended_order(segments)

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
                    if self._ltfs is not None:
                        self._ltfs.leave()
                except DriverError:
                    self._flush_failed = True
                    raise
            self.forget()
            self.ring.shrink()
            if self._form.keys:
                # It forgets the key with the cartridge in any case, and each mount sets what it needs.
                with contextlib.suppress(DriverError):
                    self.drive.set_key(None)
        elif self._ltfs is not None:
            self._ltfs.leave()
        self.drive.eject()

    def _write_label(self, label: VolumeLabel, found: Found) -> None:
        """``found`` is what is on the cartridge and will be gone."""
        if self._form.form_of(label.pool) == LTFS and self._ltfs is not None:
            self._ltfs.format(label, force=found.content is not Content.BLANK)
            return
        if found.ltfs_serial and self._ltfs is not None:
            self._ltfs.wipe(label.barcode)
        made = self._form.label(label)  # its pool's key must be readable before anything is written
        if self._form.keys:
            self.drive.set_key(None)  # the label itself is read without a key
        handle, writable = self.drive.open()
        try:
            if not writable:
                raise Permanent(f"{label.barcode}: its write-protect tab is set")
            with translated_tape(f"label {label.barcode} in drive {self.drive.name}"):
                write_label(handle, made)
        finally:
            handle.close()

    def _capacity(self, barcode: str, used: int) -> Capacity:
        told = None if self._form.capacity_bytes is not None else self.drive.capacity()
        if told is not None:
            total, left = told
        else:
            native = _NATIVE.get(barcode[-2:], _UNKNOWN_CAPACITY)
            total = self._form.capacity_bytes or int(native)
            left = total - used
        return Capacity(total, max(0, min(total, left) - total // RESERVE_PART))
