"""A drive's mode pages (SSC-4, 8.3) and REPORT DENSITY SUPPORT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tapelib.cartridge import PARTITIONS_MAX, Memory
from tapelib.device import PageKey
from tapelib.sense import ILLEGAL_REQUEST, CheckCondition, field, number

if TYPE_CHECKING:
    from tapelib.drive import Drive

Pages = Mapping[PageKey, bytes]

LOGICAL_BLOCK_PROTECTION: PageKey = (0x0A, 0xF0)
CONFIGURATION_EXTENSION: PageKey = (0x10, 0x01)
CONFIGURATION, COMPRESSION, MEDIUM_PARTITION = 0x10, 0x0F, 0x11

NATIVE_MB = {5: 1_500_000, 6: 2_500_000, 7: 6_000_000, 8: 12_000_000, 9: 18_000_000}


def _generation(memory: Memory) -> int:
    """Of LTO, from the density code."""
    return 5 + (memory.density - 0x58) // 2


def header(drive: Drive) -> tuple[int, int, bytes]:
    """Medium type (LTO: it tells generation and WORM), write protection, and density with block size."""
    if drive.cartridge is None:
        return 0, 0x10, bytes(5) + field(drive.block_size, 3)
    memory = drive.cartridge.memory
    plain = _generation(memory) << 4
    medium = {"worm": plain | 0xC, "clean": 0x01}.get(memory.kind, plain | 8)
    specific = 0x10 | (0x80 if memory.write_protect else 0)
    return medium, specific, bytes((memory.density, 0, 0, 0, 0)) + field(drive.block_size, 3)


def pages(drive: Drive) -> Pages:
    cartridge, compression = drive.cartridge, int(drive.compression)
    layout = cartridge.memory.partitions if cartridge else [None]
    opened = cartridge.partitions if cartridge else []
    sizes = b"".join(field(min(0xFFFF, part.capacity // 10**6), 2) for part in opened).ljust(4, b"\0")
    worm = cartridge is not None and cartridge.memory.kind == "worm"
    partitions = bytes((MEDIUM_PARTITION, 6 + len(sizes), PARTITIONS_MAX - 1, len(layout) - 1, 0x34, 3, 6, 0))
    return {
        LOGICAL_BLOCK_PROTECTION: bytes((0x4A, 0xF0, 0, 28)) + bytes(28),
        CONFIGURATION_EXTENSION: (
            bytes((0x50, 0x01, 0, 28, 0, drive.append_only << 4))
            + field(drive.early_warning_mb, 2)
            + bytes(24)
        ),
        0x01: bytes((1, 10, 0, 8)) + bytes(8),
        0x02: bytes((2, 14)) + bytes(14),
        0x0A: bytes((0x0A, 10, 2)) + bytes(9),
        COMPRESSION: bytes((0x0F, 14, 0x40 | compression << 7, 0x80)) + field(1, 4) * 2 + bytes(4),
        CONFIGURATION: bytes(
            (0x10, 14, 0, drive.partition_number, 0, 0, 0, 0, 0x40, 0, 0x18, 0, 0, 0, compression, 0)
        ),
        MEDIUM_PARTITION: partitions + sizes,
        0x1C: bytes((0x1C, 10, 8, 3)) + bytes(8),
        0x1D: bytes((0x1D, 30, int(worm))) + bytes(29),
    }


def select(drive: Drive, head: int, descriptor_length: int, data: bytes) -> None:
    """MODE SELECT: ``head`` bytes of header, the block descriptor, pages."""
    descriptor = data[head : head + descriptor_length]
    if len(descriptor) >= 8:
        drive.block_size = number(descriptor[5:8])
    at = head + descriptor_length
    while at + 2 <= len(data):
        has_subpage = data[at] & 0x40
        length = 4 + number(data[at + 2 : at + 4]) if has_subpage else 2 + data[at + 1]
        page = data[at : at + length]
        if len(page) < length:
            break
        code = page[0] & 0x3F
        _select_page(drive, (code, page[1]) if has_subpage else code, page)
        at += length


def _select_page(drive: Drive, key: PageKey, page: bytes) -> None:
    if key == COMPRESSION:
        drive.compression = bool(page[2] >> 7)
    elif key == CONFIGURATION:
        drive.compression = bool(page[14])
    elif key == LOGICAL_BLOCK_PROTECTION:
        if page[4]:
            raise CheckCondition(ILLEGAL_REQUEST, 0x26)
    elif key == CONFIGURATION_EXTENSION:
        drive.append_only, drive.early_warning_mb = page[5] >> 4 == 1, number(page[6:8])
    elif key == MEDIUM_PARTITION:
        _plan_partitions(drive, page)


def _plan_partitions(drive: Drive, page: bytes) -> None:
    """MEDIUM PARTITION: sizes for the next FORMAT MEDIUM, or at once when POFM is clear.

    Sizes are rounded up to a step; what cannot fit (LTFS asks for 1 GB) gets one step.
    """
    total, count = drive.medium().memory.total, page[3] + 1
    if count > PARTITIONS_MAX:
        raise CheckCondition(ILLEGAL_REQUEST, 0x26)
    unit = {0: 1, 1: 1 << 10, 2: 1 << 20, 3: 10 ** (page[6] & 15)}[page[4] >> 3 & 3]
    step = min(32 << 20, total // 4)
    asked = [number(page[8 + 2 * at : 10 + 2 * at]) if len(page) >= 10 + 2 * at else 0 for at in range(count)]
    sizes: list[int | None] = [
        None if size in (0, 0xFFFF) else -(-size * unit // step) * step for size in asked
    ]
    if None not in sizes:
        sizes[0 if page[4] & 0x80 else -1] = None
    if sum(size or step for size in sizes) > total:
        sizes = [size and step for size in sizes]
    drive.planned_partitions = sizes
    if not page[4] & 0x04:
        drive.overwrite = drive.place()
        drive.require_writable()
        drive.medium().format(sizes)
        drive.planned_partitions = None
        drive.partition_number = drive.position = 0


def densities(drive: Drive) -> bytes:
    """REPORT DENSITY SUPPORT: the one that the cartridge has."""
    memory = drive.cartridge.memory if drive.cartridge else Memory()
    generation = _generation(memory)
    report = bytes((memory.density, memory.density, 0xA0, 0, 0, 0x3A, 0x98))
    report += field(127, 2) + field(2176, 2) + field(NATIVE_MB.get(generation, 0), 4)
    report += b"LTO-CVE " + f"U-{generation}16".ljust(8).encode()
    report += f"Ultrium {generation}/16T".ljust(20).encode()
    return field(len(report) + 2, 2) + b"\0\0" + report
