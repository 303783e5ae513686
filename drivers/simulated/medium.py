"""One simulated cartridge: a folder with its label, its last index and its bytes.

``image`` grows only. ``index.json`` says what lies where in it up to the last flush; what lies
behind that is cut off when the cartridge is mounted again, as LTFS does after a crash.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from drivers.base import ObjectStat, VolumeLabel
from drivers.errors import Corrupt, NotFound, WrongVolume
from drivers.notes import joined, read_notes
from drivers.oserrors import translated
from drivers.simulated.disk import read_json, replace_json, sync_folder
from drivers.transfer import write_all

BLOCK_BYTES = 512 * 1024
"""LTFS's default; an object's position is the number of its first block."""

RESERVE_PART = 20
"""One part in so many of the capacity stays free for the index (5 %, as is advised for LTFS)."""


@dataclass(frozen=True, slots=True)
class Extent:
    """Where an object lies: first block, and byte offset in the image."""

    key: str
    size: int
    block: int
    offset: int

    def stat(self) -> ObjectStat:
        return ObjectStat(self.key, self.size, self.block)


def blocks(size: int) -> int:
    """Blocks that an object takes; an empty one takes one, so that positions always grow."""
    return max(1, -(-size // BLOCK_BYTES))


class Medium:
    """A cartridge's content. Not thread-safe: the drive that holds it serialises."""

    def __init__(self, folder: Path, barcode: str, capacity_bytes: int) -> None:
        self.barcode = barcode
        self.capacity = capacity_bytes
        self.objects: dict[str, Extent] = {}
        self.end = 0
        """End of data: bytes of the image that are used, dead ones included."""
        self.dirty = False
        self.notes: tuple[str, ...] = ()
        self.note = ""
        """Goes onto the medium with the next sync."""
        self._next_block = 0
        self._generation = 0
        self._label = folder / "label.json"
        self._index = folder / "index.json"
        self._image = folder / "image"

    @property
    def free(self) -> int:
        return max(0, self.capacity - self.capacity // RESERVE_PART - self.end)

    def label(self) -> VolumeLabel | None:
        """The label on the medium; None when it is blank.

        :raises WrongVolume: it holds data and no label of ours.
        :raises Corrupt: the label is unreadable.
        """
        with translated(f"read the label of {self.barcode}"):
            try:
                stored = read_json(self._label)
                if stored is not None:
                    return VolumeLabel(**stored)
            except (ValueError, TypeError) as error:
                raise Corrupt(f"the label of {self.barcode} is unreadable: {error}") from error
            if self._image.exists() and self._image.stat().st_size:
                raise WrongVolume(
                    f"{self.barcode} is not blank and carries no label of this archive: foreign"
                )
        return None

    def erase(self) -> None:
        """Forget everything that is on it, the label last: after a crash it is still known who it was."""
        with translated(f"erase {self.barcode}"):
            self._image.unlink(missing_ok=True)
            self._index.unlink(missing_ok=True)
            self._label.unlink(missing_ok=True)
        self.objects, self.end, self._next_block, self._generation = {}, 0, 0, 0
        self.notes, self.note = (), ""

    def format(self, label: VolumeLabel) -> None:
        """Write an empty index and, last, the label: a crash between the two leaves it blank."""
        with translated(f"label {self.barcode}"):
            self._image.parent.mkdir(parents=True, exist_ok=True)
            self._image.touch()
            self._write_index()
            replace_json(self._label, {"barcode": label.barcode, "uuid": label.uuid, "pool": label.pool})

    def recover(self) -> None:
        """Read the last index and cut off what it does not know.

        :raises Corrupt: the index is unreadable.
        """
        with translated(f"mount {self.barcode}"):
            try:
                stored = read_json(self._index)
                if stored is None:
                    raise Corrupt(f"{self.barcode} has no index: torn")
                self._generation = int(stored["generation"])
                self._next_block = int(stored["next_block"])
                self.end = int(stored["end"])
                extents = [Extent(*values) for values in stored["objects"]]
                self.notes = read_notes(stored.get("notes"))
            except (ValueError, TypeError, KeyError) as error:
                raise Corrupt(f"the index of {self.barcode} is unreadable: torn ({error!r})") from error
            self.objects = {extent.key: extent for extent in extents}
            if self._image.stat().st_size > self.end:
                os.truncate(self._image, self.end)
            self.dirty = False

    def go_on_behind(self, failed: Medium) -> None:
        """Append behind what a session that ended in a write error left: dead bytes take room."""
        self.end = max(self.end, failed.end)
        self._next_block = max(self._next_block, failed._next_block)

    def append(self, data: bytes) -> None:
        """Write at the end of data."""
        fd = os.open(self._image, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.lseek(fd, self.end, os.SEEK_SET)
            write_all(fd, data)
        finally:
            os.close(fd)
        self.end += len(data)
        self.dirty = True

    def finish(self, key: str, start: int, *, good: bool) -> Extent:
        """Close what was appended from byte ``start`` on: an object, or dead bytes."""
        extent = Extent(key, self.end - start, self._next_block, start)
        if good or extent.size:
            self._next_block += blocks(extent.size)
            self.dirty = True
        if good:
            self.objects[key] = extent
        return extent

    def extent(self, key: str) -> Extent:
        """:raises NotFound: no such key."""
        try:
            return self.objects[key]
        except KeyError:
            raise NotFound(f"{key} is not on {self.barcode}") from None

    def forget(self, key: str) -> None:
        """Leave ``key`` out of the next index; its bytes stay."""
        if self.objects.pop(key, None) is not None:
            self.dirty = True

    def read(self, offset: int, size: int) -> bytes:
        """At most ``size`` bytes of the image."""
        fd = os.open(self._image, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(fd, size, offset)
        finally:
            os.close(fd)

    def sync(self) -> None:
        """Put the bytes, then the index that speaks of them, on stable storage."""
        with translated(f"flush {self.barcode}"):
            fd = os.open(self._image, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
            self._write_index()
            self.dirty = False

    def drop_caches(self) -> None:
        """Let the host forget the image's pages."""
        with translated(f"drop the caches of {self.barcode}"):
            fd = os.open(self._image, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(fd)

    def _write_index(self) -> None:
        self._generation += 1
        objects = [[e.key, e.size, e.block, e.offset] for e in self.objects.values()]
        notes = joined(self.notes, self.note)
        replace_json(
            self._index,
            {
                "generation": self._generation,
                "end": self.end,
                "next_block": self._next_block,
                "objects": objects,
                "notes": list(notes),
            },
        )
        self.notes, self.note = notes, ""


def flip_byte(folder: Path, key: str, at: int = 0) -> None:
    """Invert byte ``at`` of a flushed object, as a failing tape does: nobody is told."""
    stored = read_json(folder / "index.json")
    extent = next(Extent(*values) for values in stored["objects"] if values[0] == key)
    if not 0 <= at < extent.size:
        raise ValueError(f"byte {at} of {key}, which has {extent.size}")
    with (folder / "image").open("r+b") as image:
        image.seek(extent.offset + at)
        byte = image.read(1)[0]
        image.seek(extent.offset + at)
        image.write(bytes([byte ^ 0xFF]))


def tear(folder: Path) -> None:
    """Cut the index in half, as a drive that loses power while it writes does."""
    os.truncate(folder / "index.json", (folder / "index.json").stat().st_size // 2)


def make_foreign(folder: Path) -> None:
    """Make it a cartridge that another system has written: data, and no label of ours."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "image").write_bytes(b"VOL1 somebody else's" * 64)
    sync_folder(folder)


def swap(one: Path, other: Path) -> None:
    """Exchange what two cartridges hold, as when somebody exchanges their stickers."""
    aside = one.with_name(f".{one.name}.aside")
    for folder in (one, other):
        folder.mkdir(parents=True, exist_ok=True)
    one.rename(aside)
    other.rename(one)
    aside.rename(other)
