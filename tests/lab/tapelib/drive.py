"""One tape drive (SSC-4): motion, reading, writing, loading."""

from __future__ import annotations

import time

from tapelib import attributes, drivelogs, drivemodes
from tapelib.cartridge import FILEMARK as MARK
from tapelib.cartridge import RECORD, Cartridge, Partition
from tapelib.device import Device, Identity, PageKey
from tapelib.sense import (
    BLANK_CHECK,
    DATA_PROTECT,
    END_OF_MEDIUM,
    FILEMARK,
    ILLEGAL_REQUEST,
    INCORRECT_LENGTH,
    MEDIUM_ERROR,
    NO_SENSE,
    NOT_READY,
    VOLUME_OVERFLOW,
    CheckCondition,
    field,
    invalid_field,
    number,
)

READ, WRITE = 0x08, 0x0A
LONGEST_BLOCK = 8 << 20
READ_WARNING, HARD_ERROR, MEDIA = 1, 3, 4
"""TapeAlert flags of an unreadable spot."""
BLOCKS, FILEMARKS, END_OF_DATA = 0, 1, 3
"""What SPACE counts."""


class Drive(Device):
    """A drive and the cartridge in it. ``position`` counts blocks and filemarks from the start."""

    device_type = 1
    log_pages = drivelogs.PAGES

    def __init__(self, identity: Identity) -> None:
        super().__init__(identity)
        self.cartridge: Cartridge | None = None
        self.loaded = False
        self.prevent = False
        self.load_seconds = 0.0
        self._ready_at = 0.0
        self.block_size, self.compression = 0, True
        self.partition_number, self.position = 0, 0
        self.planned_partitions: list[int | None] | None = None
        self.early_warning_mb, self.append_only = 0, False
        """Programmable early warning, and the mode that protects what is recorded."""
        self.overwrite: tuple[int, int] | None = None
        """Where ALLOW OVERWRITE lets the next write begin in append-only mode."""
        self.changed = False
        """Written to since the volume change reference was last looked at."""
        self.commands |= {
            0x01: lambda cdb, _: self._go_to(None, 0),
            0x04: self._format_medium,
            0x05: lambda cdb, _: bytes((0,)) + field(LONGEST_BLOCK, 3) + field(1, 2),
            READ: self._read,
            WRITE: self._write,
            0x0B: self._set_capacity,
            0x10: self._write_filemarks,
            0x11: lambda cdb, _: self._space(cdb[1] & 15, int.from_bytes(cdb[2:5], "big", signed=True)),
            0x91: lambda cdb, _: self._space(cdb[1] & 15, int.from_bytes(cdb[4:12], "big", signed=True)),
            0x15: lambda cdb, data: drivemodes.select(self, 4, data[3], data) if data else None,
            0x55: lambda cdb, data: drivemodes.select(self, 8, number(data[6:8]), data) if data else None,
            0x19: self._erase,
            0x1B: self._load_unload,
            0x1E: self._prevent_removal,
            0x2B: lambda cdb, _: self._go_to(cdb[8] if cdb[1] & 2 else None, number(cdb[3:7])),
            0x92: self._locate,
            0x34: self._read_position,
            0x3C: self._read_buffer,
            0x44: lambda cdb, _: drivemodes.densities(self)[: number(cdb[7:9])],
            0x82: self._allow_overwrite,
            0x8C: lambda cdb, _: attributes.read(self, cdb),
            0x8D: lambda cdb, data: attributes.write(self, cdb, data),
        }

    # The cartridge.
    def insert(self, cartridge: Cartridge) -> None:
        self.cartridge = cartridge
        cartridge.open()
        cartridge.memory.loads += 1
        cartridge.save()
        self.partition_number = self.position = 0
        self.loaded = cartridge.memory.kind != "clean"
        self.changed = False
        self.planned_partitions = self.overwrite = None
        self._ready_at = time.monotonic() + self.load_seconds
        self.attentions = [(0x28, 0)]

    def remove(self) -> Cartridge:
        cartridge = self._present()
        self.cartridge, self.loaded, self.append_only = None, False, False
        cartridge.close()
        return cartridge

    def _present(self) -> Cartridge:
        if self.cartridge is None:
            raise CheckCondition(NOT_READY, 0x3A)
        return self.cartridge

    def ready(self) -> None:
        self.medium()

    def medium(self) -> Cartridge:
        """The loaded cartridge. :raises CheckCondition: empty, a cleaning cartridge, unloaded or loading."""
        cartridge = self._present()
        if cartridge.memory.kind == "clean":
            raise CheckCondition(NOT_READY, 0x30, 0x03)
        if not self.loaded:
            raise CheckCondition(NOT_READY, 0x04, 0x02)
        if time.monotonic() < self._ready_at:
            raise CheckCondition(NOT_READY, 0x04, 0x01)
        return cartridge

    def partition(self) -> Partition:
        """The partition under the head. :raises CheckCondition: not ready."""
        return self.medium().partitions[self.partition_number]

    def place(self) -> tuple[int, int]:
        return self.partition_number, self.position

    def note_failure(self, operation: int) -> None:
        if self.cartridge is not None:
            counters = self.cartridge.memory.counters
            counters.write_errors += operation == WRITE
            counters.read_errors += operation == READ

    # The two ends.
    def zone(self) -> int:
        """0; 1 past the programmable early warning; 2 past the early warning."""
        cartridge, partition = self.medium(), self.partition()
        left = partition.capacity - partition.used(self.position)
        warning = min(cartridge.memory.early_warning_kb << 10, partition.capacity // 4)
        if left <= warning:
            return 2
        return 1 if self.early_warning_mb and left <= warning + self.early_warning_mb * 10**6 else 0

    def _warn(self, zone_before: int) -> None:
        """A write ends with the warning that its new zone asks for."""
        zone = self.zone()
        if zone == 2:
            raise CheckCondition(NO_SENSE, 0, 2, flags=END_OF_MEDIUM, information=0)
        if zone == 1 and not zone_before:
            raise CheckCondition(NO_SENSE, 0, 7, flags=END_OF_MEDIUM, information=0)

    def _no_more(self, information: int | None = None, data: bytes | None = None) -> CheckCondition:
        """The end of what is recorded."""
        code, qualifier = (0x14, 3) if self.partition().end_lost else (0, 5)
        return CheckCondition(BLANK_CHECK, code, qualifier, information=information, data=data)

    # Writing.
    def require_writable(self) -> None:
        """:raises CheckCondition: not ready, or this place may not be written."""
        memory, partition = self.medium().memory, self.partition()
        if memory.write_protect:
            raise CheckCondition(DATA_PROTECT, 0x27)
        protected = memory.kind == "worm" or (self.append_only and self.overwrite != self.place())
        if self.position < len(partition.blocks) and protected:
            raise CheckCondition(DATA_PROTECT, 0x30, 0x0C)
        if not self.changed:
            memory.change_reference += 1
            self.medium().save()
            self.changed = True
        self.overwrite = None

    def _put(self, data: bytes, kind: int, left: int) -> None:
        partition = self.partition()
        if partition.used(self.position) + len(data) > partition.capacity:
            raise CheckCondition(VOLUME_OVERFLOW, 0, 2, flags=END_OF_MEDIUM, information=left)
        partition.append(data, kind)
        self.position += 1
        counters = self.medium().memory.counters
        counters.written_blocks += 1
        counters.written_bytes += len(data)

    def _write(self, cdb: bytes, data: bytes) -> None:
        length, fixed = number(cdb[2:5]), cdb[1] & 1
        if not length:
            return self.ready()
        if fixed and not self.block_size:
            raise CheckCondition(ILLEGAL_REQUEST, 0x24)
        self.require_writable()
        zone = self.zone()
        self.partition().cut(self.position)
        if fixed:
            for at in range(length):
                self._put(data[at * self.block_size : (at + 1) * self.block_size], RECORD, length - at)
        else:
            self._put(data[:length], RECORD, length)
        return self._warn(zone)

    def _write_filemarks(self, cdb: bytes, data: bytes) -> None:
        count = number(cdb[2:5])
        zone = 0
        if count:
            self.require_writable()
            zone = self.zone()
            self.partition().cut(self.position)
            for at in range(count):
                self._put(b"", MARK, count - at)
        immediate = cdb[1] & 1
        if not immediate:
            self.medium().flush()
        if count:
            self._warn(zone)

    def _erase(self, cdb: bytes, data: bytes) -> None:
        self.require_writable()
        self.partition().cut(self.position)
        self.medium().flush()

    def _format_medium(self, cdb: bytes, data: bytes) -> None:
        self.ready()
        how = cdb[2] & 15
        if self.position or self.partition_number:
            raise CheckCondition(ILLEGAL_REQUEST, 0x3B)
        if how > 2:
            raise invalid_field()
        self.overwrite = (0, 0)
        self.require_writable()
        self.medium().format((self.planned_partitions if how else None) or [None])
        self.planned_partitions = None

    def _set_capacity(self, cdb: bytes, data: bytes) -> None:
        self.ready()
        if self.position or self.partition_number:
            raise CheckCondition(ILLEGAL_REQUEST, 0x3B)
        self.require_writable()
        self.medium().memory.proportion = number(cdb[3:5]) or 0xFFFF
        self.medium().format([None])

    def _allow_overwrite(self, cdb: bytes, data: bytes) -> None:
        self.ready()
        how, place = cdb[2] & 15, (cdb[3], number(cdb[4:12]))
        if how > 2 or (how == 1 and place != self.place()):
            raise invalid_field()
        self.overwrite = place if how == 1 else None

    # Reading.
    def _read(self, cdb: bytes, data: bytes) -> bytes:
        self.medium().flush()
        wanted, fixed, short_is_fine = number(cdb[2:5]), cdb[1] & 1, cdb[1] & 2
        if not wanted:
            return b""
        if not fixed:
            return self._read_one(wanted, bool(short_is_fine))
        if short_is_fine or not self.block_size:
            raise invalid_field()
        pieces: list[bytes] = []
        for left in range(wanted, 0, -1):
            length = self._record_here(left, b"".join(pieces))
            piece = self._take()
            if length != self.block_size:
                so_far = b"".join(pieces)
                raise CheckCondition(NO_SENSE, 0, flags=INCORRECT_LENGTH, information=left, data=so_far)
            pieces.append(piece)
        return b"".join(pieces)

    def _read_one(self, wanted: int, short_is_fine: bool) -> bytes:
        length = self._record_here(wanted, b"")
        piece = self._take()
        if length == wanted or (short_is_fine and (length < wanted or not self.block_size)):
            return piece[:wanted]
        raise CheckCondition(
            NO_SENSE, 0, flags=INCORRECT_LENGTH, information=wanted - length, data=piece[:wanted]
        )

    def _record_here(self, left: int, so_far: bytes) -> int:
        """The length of the record under the head; a filemark is passed and reported."""
        blocks = self.partition().blocks
        if self.position >= len(blocks):
            raise self._no_more(left, so_far)
        block = blocks[self.position]
        if block.kind == MARK:
            self.position += 1
            raise CheckCondition(NO_SENSE, 0, 1, flags=FILEMARK, information=left, data=so_far)
        return block.length

    def _take(self) -> bytes:
        if list(self.place()) in self.medium().memory.bad_spots:
            self.alerts |= {READ_WARNING, HARD_ERROR, MEDIA}
            self.note_failure(READ)
            raise CheckCondition(MEDIUM_ERROR, 0x11)
        piece = self.partition().read(self.position)
        self.position += 1
        counters = self.medium().memory.counters
        counters.read_blocks += 1
        counters.read_bytes += len(piece)
        return piece

    # Motion.
    def _space(self, code: int, count: int) -> None:
        self.medium().flush()
        blocks = self.partition().blocks
        self.overwrite = None
        if code == END_OF_DATA:
            self.position = len(blocks)
            if self.partition().end_lost:
                raise self._no_more()
            return
        if code not in (BLOCKS, FILEMARKS):
            raise invalid_field()
        left = abs(count)
        while left:
            if count > 0:
                if self.position >= len(blocks):
                    raise self._no_more(left)
                is_mark = blocks[self.position].kind == MARK
                self.position += 1
            else:
                if self.position == 0:
                    raise CheckCondition(NO_SENSE, 0, 4, flags=END_OF_MEDIUM, information=left)
                self.position -= 1
                is_mark = blocks[self.position].kind == MARK
            if code == BLOCKS and is_mark:
                raise CheckCondition(NO_SENSE, 0, 1, flags=FILEMARK, information=left)
            left -= is_mark if code == FILEMARKS else 1

    def _go_to(self, partition: int | None, position: int) -> None:
        cartridge = self.medium()
        cartridge.flush()
        self.overwrite = None
        if partition is not None:
            if partition >= len(cartridge.partitions):
                raise invalid_field()
            self.partition_number = partition
        end = len(self.partition().blocks)
        self.position = min(position, end)
        if position > end:
            raise self._no_more()

    def _locate(self, cdb: bytes, data: bytes) -> None:
        kind, target = cdb[1] >> 3 & 3, number(cdb[4:12])
        partition = cdb[3] if cdb[1] & 2 else None
        if kind == BLOCKS:
            return self._go_to(partition, target)
        self._go_to(partition, 0)
        if kind == END_OF_DATA:
            return self._space(END_OF_DATA, 0)
        if kind == FILEMARKS:
            return self._space(FILEMARKS, target)
        raise invalid_field()

    def _read_position(self, cdb: bytes, data: bytes) -> bytes:
        partition, form = self.partition(), cdb[1] & 0x1F
        flags = (0x80 if not self.position else 0) | (0, 0x01, 0x41)[self.zone()]
        if form in (0, 1):
            return bytes((flags, self.partition_number, 0, 0)) + field(self.position, 4) * 2 + bytes(8)
        if form == 6:
            marks = sum(block.kind for block in partition.blocks[: self.position])
            where = field(self.partition_number, 4) + field(self.position, 8) + field(marks, 8)
            return bytes((flags, 0, 0, 0)) + where + bytes(8)
        if form == 8:
            head = bytes((flags, self.partition_number)) + field(28, 2) + bytes(4)
            return head + field(self.position, 8) * 2 + bytes(8)
        raise invalid_field()

    def _load_unload(self, cdb: bytes, data: bytes) -> None:
        cartridge, load = self._present(), bool(cdb[4] & 1)
        if not load and self.prevent:
            raise CheckCondition(ILLEGAL_REQUEST, 0x53, 2)
        cartridge.flush()
        self.loaded = load and cartridge.memory.kind != "clean"
        self.partition_number = self.position = 0
        self.overwrite = None
        if not self.loaded:
            self.append_only = False
            cartridge.save()

    def _prevent_removal(self, cdb: bytes, data: bytes) -> None:
        self.prevent = bool(cdb[4] & 1)

    def _read_buffer(self, cdb: bytes, data: bytes) -> bytes:
        """READ BUFFER, for those who collect dumps: an empty one."""
        mode, length = cdb[1] & 31, number(cdb[6:9])
        if mode == 3:
            return (b"\0" + field(4096, 3))[:length]
        if mode == 2:
            return bytes(max(0, min(length, 4096 - number(cdb[3:6]))))
        raise invalid_field()

    # What the modules of pages ask.
    def mode_pages(self) -> drivemodes.Pages:
        return drivemodes.pages(self)

    def mode_header(self) -> tuple[int, int, bytes]:
        return drivemodes.header(self)

    def log_page(self, key: PageKey) -> dict[int, bytes]:
        return drivelogs.page(self, key)

    def vital_pages(self) -> dict[int, bytes]:
        """WORM is supported; the serial number for manufacturers."""
        return {0xB0: bytes((1, 0)), 0xB1: self.identity.serial.encode()}
