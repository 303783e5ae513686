"""A drive's log pages (SSC-4, 8.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tapelib.cartridge import Counters, Memory, Partition
from tapelib.device import TAPE_ALERT_PAGE, PageKey
from tapelib.sense import field

if TYPE_CHECKING:
    from tapelib.drive import Drive

WRITE_ERRORS, READ_ERRORS, SEQUENTIAL, VOLUME_STATISTICS = 0x02, 0x03, 0x0C, 0x17
TAPE_CAPACITY, PERFORMANCE = 0x31, 0x37
PAGES: tuple[PageKey, ...] = (
    WRITE_ERRORS,
    READ_ERRORS,
    SEQUENTIAL,
    VOLUME_STATISTICS,
    TAPE_ALERT_PAGE,
    TAPE_CAPACITY,
    PERFORMANCE,
    (PERFORMANCE, 0x64),
)
TOTAL_UNCORRECTED = 6
UNKNOWN = 0xFFFF_FFFF


def page(drive: Drive, key: PageKey) -> dict[int, bytes]:
    """Parameter code -> value."""
    cartridge = drive.cartridge
    memory = cartridge.memory if cartridge else Memory()
    partitions = cartridge.partitions if cartridge else []
    counters = memory.counters
    if key == VOLUME_STATISTICS:
        before = cartridge.before if cartridge else counters
        return _volume_statistics(cartridge.barcode if cartridge else "", memory, before, partitions)
    if key == TAPE_CAPACITY:  # MiB
        left = [part.left() >> 20 for part in partitions] + [0, 0]
        full = [part.capacity >> 20 for part in partitions] + [0, 0]
        return {1: field(left[0], 4), 2: field(left[1], 4), 3: field(full[0], 4), 4: field(full[1], 4)}
    if key == PERFORMANCE:
        return {1: b"\x64"}
    if key == (PERFORMANCE, 0x64):
        return {0x7113: field(0, 4)}
    if key == SEQUENTIAL:
        volumes = (counters.written_bytes, counters.written_bytes, counters.read_bytes, counters.read_bytes)
        return {code: field(value, 8) for code, value in enumerate(volumes)}
    errors = counters.write_errors if key == WRITE_ERRORS else counters.read_errors
    return {code: field(errors if code == TOTAL_UNCORRECTED else 0, 8) for code in range(7)}


def _megabytes(size: int) -> int:
    return size // 10**6


def _volume_statistics(
    barcode: str, memory: Memory, before: Counters, partitions: list[Partition]
) -> dict[int, bytes]:
    now = memory.counters

    def each(value: Callable[[Partition], int]) -> bytes:
        return b"".join(
            bytes((7, 0)) + field(at, 2) + field(value(part), 4) for at, part in enumerate(partitions)
        )

    return {
        0x00: b"\1",
        0x01: field(memory.loads, 4),
        0x02: field(now.written_blocks, 8),
        0x03: field(0, 4),
        0x04: field(now.write_errors, 2),
        0x07: field(now.read_blocks, 8),
        0x08: field(0, 4),
        0x09: field(now.read_errors, 2),
        0x0C: field(now.write_errors - before.write_errors, 2),
        0x0D: field(now.read_errors - before.read_errors, 2),
        0x0E: field(_megabytes(now.written_bytes - before.written_bytes), 4),
        0x0F: field(_megabytes(now.read_bytes - before.read_bytes), 4),
        0x10: field(_megabytes(now.written_bytes), 8),
        0x11: field(_megabytes(now.read_bytes), 8),
        0x42: barcode.ljust(32).encode(),
        0x80: bytes((memory.write_protect,)),
        0x81: bytes((memory.kind == "worm",)),
        0x101: field(memory.loads, 4),
        0x102: field(memory.loads, 4),
        0x202: each(lambda part: _megabytes(part.capacity)),
        0x203: each(lambda part: UNKNOWN if part.end_lost else _megabytes(part.capacity - part.left())),
        0x204: each(lambda part: _megabytes(part.left())),
    }
