"""LTFS in one drive: formats, looks, mounts with as much checking as is needed, and lets go.

The st device must not be touched while an ltfs has the drive: opening or closing it rewinds the tape under
it, and cartridges have been lost so. :meth:`LtfsDrive.guard` is asked before each such use.
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import replace
from pathlib import Path

from drivers.base import Capacity, VolumeLabel
from drivers.errors import Corrupt, DriverError, Retryable, WrongVolume
from drivers.labels import require_volume
from drivers.oserrors import translated
from drivers.ring import Ring
from drivers.tape import memory
from drivers.tape.io import Io
from drivers.tape.label import Content, Found
from drivers.tape.ltfs import coherency, messages, mounting, partlabels, xattrs
from drivers.tape.ltfs.child import run
from drivers.tape.ltfs.commands import Commands, fill
from drivers.tape.ltfs.messages import Step
from drivers.tape.ltfs.mounting import Mount, MountFailed
from drivers.tape.ltfs.store import LtfsStore
from drivers.tape.ltfs.volume import LABEL_BYTES_MAX, LABEL_NAME, LtfsLabel, decode, encode, serial_of
from drivers.tape.tapedrive import TapeDrive
from drivers.transfer import write_all

RESERVE_PART = 20
"""One part in so many stays free: a nearly full tape fails its last index."""
_MIB = 1 << 20


class LtfsDrive:
    """A drive whose cartridges are written with LTFS. Used by whoever holds the lock of its bay."""

    def __init__(self, drive: TapeDrive, commands: Commands, folder: str) -> None:
        self._drive = drive
        self._commands = commands
        self._mountpoint = Path(commands.mountpoints) / folder
        self._mount: Mount | None = None
        drive.guard = self.guard

    @property
    def _io(self) -> Io:
        return self._drive.io

    def guard(self) -> None:
        """:raises Retryable: an ltfs has the drive; nobody else may touch it."""
        if self._mount is not None:
            raise Retryable(
                f"drive {self._drive.name}: an LTFS volume is mounted at {self._mountpoint}; unmount it first"
            )
        mounting.clear(self._commands, self._mountpoint, self._io, f"drive {self._drive.name}")

    def look(self, found: Found) -> Found:
        """What the loaded LTFS cartridge is, of which ``found`` has been read: mounts it, reads our label and
        unmounts it. One that is not clean is not checked for that: ltfsck writes, and it may be somebody's.
        """
        try:
            mount = self._start(found.words)
        except MountFailed as failed:
            if messages.is_unclean(failed.text):
                return Found(
                    Content.FOREIGN,
                    f"{found.words} that was not unmounted cleanly, or whose index is damaged: who it is can "
                    "be read after ltfsck only",
                    ltfs_serial=found.ltfs_serial,
                )
            if messages.labels_damaged(failed.text) and (damage := self._label_damage(failed.text, "")):
                words = f"{found.words}, and {damage}. {partlabels.ADVICE}"
                return Found(Content.BROKEN, words, ltfs_serial=found.ltfs_serial)
            raise messages.mount_error(failed.text, f"look at {found.words}") from failed
        try:
            return replace(self._found(mount, found), ltfs_serial=found.ltfs_serial)
        finally:
            self.leave()

    def format(self, label: VolumeLabel, *, force: bool = False) -> None:
        """Make the cartridge an LTFS volume of ours; with ``force`` also one that is LTFS already. Whether
        somebody's data is on it must be known before: mkltfs does not look.

        The label counts when the index that has it is proved, by its generation and at the unmount; it is
        read from the medium whenever the volume is mounted.

        :raises DriverError: it is not labelled, and if it was formatted it is a foreign LTFS volume now.
        """
        self.guard()
        serial, barcode = serial_of(label.barcode), label.barcode
        argv = fill(self._commands.mkltfs, device=self._device(), serial=serial, name=barcode)
        argv += self._commands.force if force else ()
        what = f"format {barcode} in drive {self._drive.name}"
        status, said = run(argv, self._commands.format_seconds, what)
        messages.formatted(status, said, what)
        mount = self._mounted(barcode, serial, checks=False)
        try:
            ours = LtfsLabel(label, mount.identity.uuid)
            with translated(f"label {barcode}"):
                _write_label(mount.root, ours)
                self._write_index(mount, f"label of {barcode}")
                found = self._found(mount, Found(Content.FOREIGN, f"an LTFS volume ({serial})"))
            if found.label != ours:
                raise Corrupt(f"the label of {barcode} was written and reads back as {found.words}")
        except BaseException:
            self.abandon()
            raise
        self.leave()

    def wipe(self, barcode: str) -> None:
        """Make the cartridge one of a single partition, as plain tapes are."""
        self.guard()
        what = f"wipe {barcode} in drive {self._drive.name}"
        status, said = run(
            fill(self._commands.wipe, device=self._device()), self._commands.format_seconds, what
        )
        messages.wiped(status, said, what)

    def open(self, label: VolumeLabel, capacity_bytes: int | None, ring: Ring, *, checks: bool) -> LtfsStore:
        """The loaded LTFS volume as a Store. With ``checks`` one that was not unmounted cleanly is checked as
        thoroughly as it needs.

        :raises WrongVolume: it is not ``label``'s; nothing was written.
        :raises Corrupt: its index cannot be restored.
        """
        mount = self._mounted(label.barcode, serial_of(label.barcode), checks=checks)
        try:
            found = self._found(mount, Found(Content.FOREIGN, f"an LTFS volume ({mount.identity.serial})"))
            if not isinstance(found.label, LtfsLabel):
                raise WrongVolume(
                    f"{label.barcode} in drive {self._drive.name} is {found.words}; expected volume "
                    f"{label.uuid} of pool {label.pool!r}: nothing was written"
                )
            require_volume(label, found.label.volume, self._drive.name)
            with translated(f"ask {label.barcode} for its capacity"):
                capacity = _capacity(mount.root, capacity_bytes)
            return LtfsStore(mount, self._drive.name, found.label, capacity, self._sync, ring)
        except BaseException:
            self.leave(quietly=True)
            raise

    def leave(self, *, quietly: bool = False) -> None:
        """Unmount, wait for the ltfs to end, and see that the index was written.

        :raises Retryable: it is in use or still writes (it is mounted still), or its index was not written.
        """
        mount = self._mount
        if mount is None:
            return
        try:
            mount.unmount(self._io)
        except DriverError:
            if not quietly:
                raise
            mount.kill(self._io)
        finally:
            if not mount.alive:
                self._mount = None

    def abandon(self) -> None:
        """Let go whatever it costs: unmount as one should, and kill what does not end."""
        mount = self._mount
        if mount is None:
            return
        try:
            with contextlib.suppress(DriverError):
                mount.unmount(self._io)
        finally:
            mount.kill(self._io)
            self._mount = None

    def _device(self) -> str:
        return self._commands.device_of(self._drive.tape, self._drive.generic, self._drive.serial)

    def _start(self, what: str) -> Mount:
        self.guard()
        what = f"{what} in drive {self._drive.name}"
        self._mount = mounting.start(self._commands, self._device(), self._mountpoint, self._io, what)
        return self._mount

    def _mounted(self, barcode: str, serial: str, *, checks: bool) -> Mount:
        """Mounted and proved to be the cartridge with this serial number."""
        what = f"mount {barcode} in drive {self._drive.name}"
        done = Step.MOUNT
        while True:
            try:
                mount = self._start(barcode)
                break
            except MountFailed as failed:
                done = self._check(done, failed.text, what, barcode, checks=checks)
        try:
            mounting.require_serial(mount.identity, serial, what)
        except BaseException:
            self.leave(quietly=True)
            raise
        return mount

    def _check(self, done: Step, said: str, what: str, barcode: str, *, checks: bool) -> Step:
        """The next check that may help, done; what it was.

        :raises DriverError: none helps.
        """
        while True:
            step = messages.next_step(done, said)
            if messages.labels_damaged(said) and (damage := self._label_damage(said, serial_of(barcode))):
                raise Corrupt(f"{what}: {damage}. {partlabels.ADVICE}")
            if step is Step.GIVE_UP or not checks:
                raise messages.mount_error(said, what)
            words = {
                Step.CHECK: self._commands.check,
                Step.FULL: self._commands.full_check,
                Step.DEEP: self._commands.deep_check,
            }[step]
            done = step
            if not words:
                continue
            while True:
                status, said_now = run(
                    fill(words, device=self._device()), self._commands.check_seconds, f"{what}: ltfsck"
                )
                if messages.checked(status, said_now):
                    return done
                if not (messages.memory_unknown(said_now) and self._mend_memory()):
                    break
            said = f"{said}\n{said_now}"

    def _label_damage(self, said: str, serial: str) -> str:
        """Which of the loaded volume's two labels is damaged, where ltfs has ``said`` that one is: they are
        read, for it stops at the first. Empty: they are whole, and it was the drive that misread.

        :param serial: what the volume's serial number should be; empty: what the cartridge's memory says.
        """
        chip = memory.text({memory.BARCODE: self._drive.attribute(memory.BARCODE, 0) or b""}, memory.BARCODE)
        uuids = {
            coherency.volume_uuid(self._drive.attribute(coherency.ATTRIBUTE, partition) or b"")
            for partition in coherency.PARTITIONS
        } - {""}
        read = [
            self._drive.records(partition, partlabels.RECORDS, partlabels.LABEL_BYTES_MAX)
            for partition in coherency.PARTITIONS
        ]
        if not any(record for records in read for record in records):
            return partlabels.by_ltfs(messages.partition_with_bad_label(said))
        uuid = uuids.pop() if len(uuids) == 1 else ""
        return partlabels.damage(
            [partlabels.label_of(*records) for records in read], serial or chip[:6], uuid
        )

    def _mend_memory(self) -> bool:
        """Whether the cartridge's memory had coherency information with a flaw that is known, and it is gone;
        what is written is looked at again, so that this is done once."""
        mended = False
        for partition in coherency.PARTITIONS:
            value = self._drive.attribute(coherency.ATTRIBUTE, partition)
            better = coherency.mended(value) if value is not None else None
            if better is None or not self._drive.set_attribute(coherency.ATTRIBUTE, partition, better):
                continue
            mended = self._drive.attribute(coherency.ATTRIBUTE, partition) == better or mended
        return mended

    def _found(self, mount: Mount, found: Found) -> Found:
        """What the mounted volume says it is."""
        try:
            data = _read_file(mount.root, LABEL_NAME)
        except FileNotFoundError:
            return Found(Content.FOREIGN, f"{found.words} that is not of this archive")
        except OSError as error:
            if error.errno == errno.ELOOP:
                return Found(Content.FOREIGN, f"{found.words} with a link for a label")
            raise Retryable(f"read the label of {found.words}: {error.strerror}") from error
        try:
            label = decode(data)
        except ValueError as error:
            return Found(Content.BROKEN, f"{found.words} of this archive whose label is damaged: {error}")
        volume = label.volume
        if label.ltfs_uuid != mount.identity.uuid or volume.barcode[:6] != mount.identity.serial:
            return Found(
                Content.FOREIGN,
                f"{found.words} with a copy of the label of {volume.barcode} ({volume.uuid})",
            )
        return Found(
            Content.OURS, f"LTFS volume {volume.uuid} ({volume.barcode}) of pool {volume.pool!r}", label
        )

    def _write_index(self, mount: Mount, what: str) -> None:
        before = xattrs.number(mount.root, "indexGeneration") or 0
        self._sync(mount.root)
        if (xattrs.number(mount.root, "indexGeneration") or 0) <= before:
            raise Retryable(f"{what}: the index was not written; its generation is still {before}")

    def _sync(self, root: int) -> None:
        if self._commands.sync:
            argv = fill(self._commands.sync, device=self._device(), mountpoint=str(self._mountpoint))
            what = f"sync {self._mountpoint}"
            status, said = run(argv, self._commands.unmount_seconds, what)
            if status != 0:
                raise Retryable(f"{what}: {argv[0]} ended with status {status}: {said.strip()[:200]}")
        else:
            xattrs.put(root, "sync", "1")


def _capacity(root: int, capacity_bytes: int | None) -> Capacity:
    """Of the data partition, which LTFS gives in MiB."""
    told = (xattrs.number(root, "mediaDataPartitionTotalCapacity") or 0) * _MIB
    left = (xattrs.number(root, "mediaDataPartitionAvailableSpace") or 0) * _MIB
    total = min(told, capacity_bytes) if capacity_bytes is not None else told
    left -= told - total  # a smaller cartridge than the medium is: so much is used already
    return Capacity(total, max(0, min(total, left) - total // RESERVE_PART))


def _write_label(root: int, label: LtfsLabel) -> None:
    fd = os.open(
        LABEL_NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640, dir_fd=root
    )
    try:
        write_all(fd, encode(label))
        os.fsync(fd)
    finally:
        os.close(fd)


def _read_file(root: int, name: str) -> bytes:
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # from the medium, not from memory
        return os.read(fd, LABEL_BYTES_MAX)
    finally:
        os.close(fd)
