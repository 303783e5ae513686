"""Cartridges in a folder: ``BARCODE/meta.json`` and for each partition ``p0.dat`` and ``p0.idx``."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import struct
from pathlib import Path
from typing import Any

RECORD, FILEMARK = 0, 1
_INDEX = struct.Struct("<QII")  # offset, length, kind
PARTITIONS_MAX = 4


@dataclasses.dataclass
class Block:
    """One record or one filemark, and where its bytes are in the data file."""

    offset: int
    length: int
    kind: int

    @property
    def end(self) -> int:
        return self.offset + self.length


class Partition:
    """The blocks of one partition, in order.

    It is like a drive with a buffer: what was written is safe only after :meth:`flush`. A power cut
    before that may lose the last blocks, and always the end-of-data mark: the file ``p0.open`` tells.
    """

    drives_stay_on = False
    """A crash is the machine's only: the drives keep their power, write what they hold and the mark."""

    def __init__(self, base: Path, capacity: int) -> None:
        self._base, self.capacity = base, capacity
        self._data = os.open(f"{base}.dat", os.O_RDWR | os.O_CREAT, 0o644)
        self._index = os.open(f"{base}.idx", os.O_RDWR | os.O_CREAT, 0o644)
        raw = os.pread(self._index, os.fstat(self._index).st_size, 0)
        whole = len(raw) // _INDEX.size * _INDEX.size
        self.blocks = [Block(*_INDEX.unpack_from(raw, at)) for at in range(0, whole, _INDEX.size)]
        self._forget_a_torn_tail()
        self._open_mark = Path(f"{base}.open")
        if self.drives_stay_on:
            self._open_mark.unlink(missing_ok=True)
        self._dirty = False
        self.end_lost = self._open_mark.exists()

    def _forget_a_torn_tail(self) -> None:
        """After a power cut the index may name a place, or bytes, that never came to be."""
        held, good = os.fstat(self._data).st_size, 0
        for block in self.blocks:
            if block.offset != self.used(good) or block.end > held:
                break
            good += 1
        if good < len(self.blocks):
            del self.blocks[good:]
            os.ftruncate(self._index, good * _INDEX.size)

    def used(self, position: int) -> int:
        """Bytes before block ``position``."""
        return self.blocks[position - 1].end if position else 0

    def left(self) -> int:
        return self.capacity - self.used(len(self.blocks))

    def cut(self, position: int) -> None:
        """Erase from ``position`` on: a write does, whatever followed."""
        if not self._dirty:
            self._open_mark.touch()
            self._dirty, self.end_lost = True, False
        if position < len(self.blocks):
            end = self.used(position)
            del self.blocks[position:]
            os.ftruncate(self._index, position * _INDEX.size)
            os.ftruncate(self._data, end)

    def append(self, data: bytes, kind: int) -> None:
        block = Block(self.used(len(self.blocks)), len(data), kind)
        if data:
            os.pwrite(self._data, data, block.offset)
        os.pwrite(self._index, _INDEX.pack(*dataclasses.astuple(block)), len(self.blocks) * _INDEX.size)
        self.blocks.append(block)

    def read(self, position: int) -> bytes:
        block = self.blocks[position]
        return os.pread(self._data, block.length, block.offset)

    def flush(self) -> None:
        if self._dirty:
            os.fsync(self._data)
            os.fsync(self._index)
            self._open_mark.unlink()
            self._dirty = False

    def close(self) -> None:
        self.flush()
        os.close(self._data)
        os.close(self._index)


@dataclasses.dataclass
class Counters:
    """Over the cartridge's life."""

    written_blocks: int = 0
    read_blocks: int = 0
    written_bytes: int = 0
    read_bytes: int = 0
    write_errors: int = 0
    read_errors: int = 0


@dataclasses.dataclass
class Memory:
    """What a cartridge is and what happened to it (``meta.json``)."""

    capacity_mb: float = 256
    early_warning_kb: int = 1024
    kind: str = "data"
    """``data``, ``worm`` or ``clean``."""
    write_protect: bool = False
    density: int = 0x5A
    """0x58 is LTO-5; one more generation, two more."""
    loads: int = 0
    partitions: list[int | None] = dataclasses.field(default_factory=lambda: [None])
    """Bytes of each; None is the rest."""
    attributes: dict[str, tuple[int, str]] = dataclasses.field(default_factory=dict)
    """Medium auxiliary memory written by hosts: ``id`` or ``id:partition`` -> (format, hexadecimal)."""
    proportion: int = 0xFFFF
    change_reference: int = 1
    formats: int = 0
    readable_barcode: bool = True
    bad_spots: list[list[int]] = dataclasses.field(default_factory=list)
    """[partition, block] that no drive can read (sense 3/11/00)."""
    counters: Counters = dataclasses.field(default_factory=Counters)

    @classmethod
    def of(cls, values: dict[str, Any]) -> Memory:
        """:raises TypeError: an option that cartridges do not have."""
        values = dict(values)
        counters = Counters(**values.pop("counters", {}))
        return cls(**values, counters=counters)

    @property
    def total(self) -> int:
        """Bytes of all partitions together."""
        return int(self.capacity_mb * 2**20) * self.proportion // 0xFFFF


class Cartridge:
    """A cartridge on the shelf, in a slot or in a drive; its partitions are open only in a drive."""

    def __init__(self, home: Path, barcode: str, **options: Any) -> None:
        if not barcode or not barcode.replace("_", "").isalnum():
            raise ValueError(f"{barcode!r} cannot be a barcode: letters and digits only")
        self.home, self.barcode = home, barcode
        self.folder.mkdir(parents=True, exist_ok=True)
        self.partitions: list[Partition] = []
        try:
            self.memory = Memory.of(json.loads((self.folder / "meta.json").read_text()))
        except FileNotFoundError:
            self.memory = Memory.of(options)
            self.save()
        self.before = dataclasses.replace(self.memory.counters)

    @property
    def folder(self) -> Path:
        return self.home / self.barcode

    def save(self) -> None:
        new = self.folder / "meta.json.new"
        new.write_text(json.dumps(dataclasses.asdict(self.memory)))
        new.rename(self.folder / "meta.json")

    def open(self) -> None:
        memory = self.memory
        rest = memory.total - sum(size or 0 for size in memory.partitions)
        self.before = dataclasses.replace(memory.counters)
        self.partitions = [
            Partition(self.folder / f"p{at}", size or rest) for at, size in enumerate(memory.partitions)
        ]

    def flush(self) -> None:
        for partition in self.partitions:
            partition.flush()

    def close(self) -> None:
        for partition in self.partitions:
            partition.close()
        self.partitions = []
        self.save()

    def format(self, sizes: list[int | None]) -> None:
        """Erase all and lay out partitions of ``sizes`` bytes (None: the rest)."""
        self.close()
        for at in range(PARTITIONS_MAX):
            for suffix in ("dat", "idx", "open"):
                (self.folder / f"p{at}.{suffix}").unlink(missing_ok=True)
        self.memory.partitions = sizes
        self.memory.formats += 1
        self.save()
        self.open()

    def rename(self, barcode: str) -> None:
        """Stick another barcode on it; the tape inside stays."""
        old = self.folder
        if (self.home / barcode).exists():
            raise ValueError(f"there is a cartridge {barcode} already")
        self.barcode = barcode
        old.rename(self.folder)

    def destroy(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.folder)
