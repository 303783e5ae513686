"""Medium auxiliary memory, the chip in the cartridge (SPC-4, 7.4): READ and WRITE ATTRIBUTE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tapelib.sense import ILLEGAL_REQUEST, CheckCondition, field, invalid_field, number

if TYPE_CHECKING:
    from tapelib.drive import Drive

Attribute = tuple[int, bytes]
"""Format (0 binary, 1 ASCII, 2 text; 0x80 read only) and value."""

READ_ONLY = 0x80
PER_PARTITION = frozenset({0x080C})
"""Volume coherency information: one for each partition."""
VALUES, IDENTIFIERS, VOLUMES, PARTITIONS = range(4)
"""Service actions of READ ATTRIBUTE."""


def _text(value: str, width: int) -> Attribute:
    return READ_ONLY | 1, value.encode().ljust(width)[:width]


def _number(value: int, width: int) -> Attribute:
    return READ_ONLY, field(value, width)


def _held(drive: Drive, partition: int) -> dict[int, Attribute]:
    """All attributes of one partition, in order."""
    cartridge = drive.medium()
    memory, part = cartridge.memory, cartridge.partitions[partition]
    held = {
        0x0000: _number(part.left() >> 20, 8),
        0x0001: _number(part.capacity >> 20, 8),
        0x0003: _number(memory.loads, 8),
        0x0005: _text("LTO-CVE", 8),
        0x0006: _number(memory.density, 1),
        0x0007: _number(memory.formats, 2),
        0x0009: _number(memory.change_reference, 4),
        0x0220: _number(memory.counters.written_bytes >> 20, 8),
        0x0221: _number(memory.counters.read_bytes >> 20, 8),
        0x0400: _text("TAPELAB", 8),
        0x0401: _text(cartridge.barcode, 32),
        0x0404: _text("LTO-CVE", 8),
        0x0405: _number(memory.density, 1),
        0x0406: _text("20240101", 8),
        0x0408: _number({"clean": 1, "worm": 0x80}.get(memory.kind, 0), 1),
    }
    for name, (form, value) in memory.attributes.items():
        identifier, _, only = name.partition(":")
        if not only or int(only) == partition:
            held[int(identifier)] = (form, bytes.fromhex(value))
    return dict(sorted(held.items()))


def _partition(drive: Drive, cdb: bytes) -> int:
    if cdb[7] >= len(drive.medium().partitions):
        raise invalid_field()
    return cdb[7]


def read(drive: Drive, cdb: bytes) -> bytes:
    """READ ATTRIBUTE."""
    held = _held(drive, _partition(drive, cdb))
    action, first, length = cdb[1] & 0x1F, number(cdb[8:10]), number(cdb[10:14])
    if action in (VOLUMES, PARTITIONS):
        count = 1 if action == VOLUMES else len(drive.medium().partitions)
        return (field(2, 2) + bytes((0, count)))[:length]
    if action not in (VALUES, IDENTIFIERS) or first not in held:
        raise invalid_field()
    if action == IDENTIFIERS:
        body = b"".join(field(identifier, 2) for identifier in held if identifier >= first)
    else:
        body = b"".join(
            field(identifier, 2) + bytes((form,)) + field(len(value), 2) + value
            for identifier, (form, value) in held.items()
            if identifier >= first
        )
        if length >= 13 and first <= 9:
            drive.changed = False  # the volume change reference has been looked at
    return (field(len(body), 4) + body)[:length]


def write(drive: Drive, cdb: bytes, data: bytes) -> None:
    """WRITE ATTRIBUTE: a host's own attributes only; all of them or none."""
    partition, at = _partition(drive, cdb), 4
    new: dict[str, tuple[int, str]] = {}
    while at + 5 <= len(data):
        identifier, form, length = number(data[at : at + 2]), data[at + 2], number(data[at + 3 : at + 5])
        value = data[at + 5 : at + 5 + length]
        at += 5 + length
        is_hosts = 0x800 <= identifier < 0xC00 or 0x1400 <= identifier < 0x1800
        if not is_hosts or len(value) < length:
            raise CheckCondition(ILLEGAL_REQUEST, 0x26)
        name = f"{identifier}:{partition}" if identifier in PER_PARTITION else str(identifier)
        new[name] = (form & 3, value.hex())
    attributes = drive.medium().memory.attributes
    for name, (form, hexadecimal) in new.items():
        if hexadecimal:
            attributes[name] = (form, hexadecimal)
        else:
            attributes.pop(name, None)
    drive.medium().save()
