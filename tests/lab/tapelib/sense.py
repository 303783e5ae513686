"""How a SCSI command ends other than well (SPC-4, 4.5), and big-endian numbers."""

from __future__ import annotations

NO_SENSE, NOT_READY, MEDIUM_ERROR, HARDWARE_ERROR, ILLEGAL_REQUEST = 0, 2, 3, 4, 5
UNIT_ATTENTION, DATA_PROTECT, BLANK_CHECK, VOLUME_OVERFLOW = 6, 7, 8, 13

FILEMARK, END_OF_MEDIUM, INCORRECT_LENGTH = 0x80, 0x40, 0x20
"""Flags beside the sense key in byte 2."""

SENSE_BYTES = 18


def number(data: bytes) -> int:
    """The unsigned big-endian number in ``data``."""
    return int.from_bytes(data, "big")


def field(value: int, width: int) -> bytes:
    """``value`` in ``width`` bytes, big-endian; a negative one as two's complement."""
    return (value & ((1 << 8 * width) - 1)).to_bytes(width, "big")


class CheckCondition(Exception):
    """CHECK CONDITION with fixed format sense data. ``data`` are bytes that are transferred all the same."""

    def __init__(
        self,
        key: int,
        code: int,
        qualifier: int = 0,
        *,
        flags: int = 0,
        information: int | None = None,
        data: bytes | None = None,
    ) -> None:
        super().__init__(f"{key:x}/{code:02x}/{qualifier:02x}")
        sense = bytearray(SENSE_BYTES)
        sense[0] = 0x70
        sense[2] = key | flags
        sense[7] = SENSE_BYTES - 8
        sense[12], sense[13] = code, qualifier
        if information is not None:
            sense[0] |= 0x80
            sense[3:7] = field(information, 4)
        self.sense = bytes(sense)
        self.data = data


class ReservationConflict(Exception):
    """RESERVATION CONFLICT status: another host holds the device."""


def invalid_field() -> CheckCondition:
    """INVALID FIELD IN CDB."""
    return CheckCondition(ILLEGAL_REQUEST, 0x24)
