"""Log pages of drives: TapeAlert, error counters, capacity. Pure, but for the command line.

``sg_logs --raw`` gives a page as the device sent it (SPC-4, 7.3): header of four bytes, then parameters
of code, control byte, length and value.
"""

from __future__ import annotations

from dataclasses import dataclass

from drivers.errors import Retryable
from drivers.reports import Alert, DriveLife, ErrorCounters

TAPE_ALERT, WRITE_ERRORS, READ_ERRORS, CAPACITY, VOLUME = 0x2E, 0x02, 0x03, 0x31, 0x17
LIFE = 0x14
MB = 1_000_000

CLEAN_NOW, CLEAN_PERIODIC = 0x14, 0x15
CLEANING_FAILED = frozenset({0x16, 0x17})
"""The cleaning cartridge is used up, or is none for this drive."""
_CLEANING = frozenset({CLEAN_NOW, CLEAN_PERIODIC})
_CARTRIDGE = frozenset({0x04, 0x07, 0x08, 0x0F, 0x12, 0x13, 0x33, 0x34, 0x3B, 0x3C})
_DRIVE = frozenset({0x1E, 0x1F, 0x20, 0x21, 0x22, 0x23, 0x24, 0x26, 0x27})

ALERTS: dict[int, str] = {
    0x01: "read warning", 0x02: "write warning", 0x03: "hard error", 0x04: "media", 0x05: "read failure",
    0x06: "write failure", 0x07: "media life", 0x08: "not data grade", 0x09: "write protect",
    0x0A: "no removal", 0x0B: "cleaning media", 0x0C: "unsupported format", 0x0D: "recoverable snapped tape",
    0x0E: "unrecoverable snapped tape", 0x0F: "memory chip in cartridge failure", 0x10: "forced eject",
    0x11: "read only format", 0x12: "tape directory corrupted on load", 0x13: "nearing media life",
    0x14: "clean now", 0x15: "clean periodic", 0x16: "expired cleaning media",
    0x17: "invalid cleaning tape", 0x1E: "hardware A", 0x1F: "hardware B", 0x20: "interface",
    0x21: "eject media", 0x22: "download fail", 0x23: "drive humidity", 0x24: "drive temperature",
    0x25: "drive voltage", 0x26: "predictive failure", 0x27: "diagnostics required",
    0x32: "lost statistics", 0x33: "tape directory invalid at unload",
    0x34: "tape system area write failure", 0x35: "tape system area read failure",
    0x37: "loading failure", 0x38: "unrecoverable unload failure",
    0x3B: "WORM integrity check failed", 0x3C: "WORM overwrite attempted",
}  # fmt: skip
"""TapeAlert flags (SSC-3, annex A), those that drives of today raise."""


@dataclass(frozen=True, slots=True)
class Alerts:
    """TapeAlert flags that are raised. Many drives lower them when they are read."""

    flags: frozenset[int] = frozenset()

    @property
    def cleaning_asked(self) -> bool:
        return bool(self.flags & _CLEANING)

    @property
    def blames_cartridge(self) -> bool:
        return bool(self.flags & _CARTRIDGE)

    @property
    def blames_drive(self) -> bool:
        return bool(self.flags & _DRIVE)

    @property
    def cleaning_failed(self) -> bool:
        """The cleaning cartridge is used up, or is none for this drive."""
        return bool(self.flags & CLEANING_FAILED)

    def named(self) -> tuple[Alert, ...]:
        return tuple(Alert(flag, ALERTS.get(flag, "flag")) for flag in sorted(self.flags))

    def __str__(self) -> str:
        return (
            ", ".join(f"{ALERTS.get(flag, 'flag')} (0x{flag:02x})" for flag in sorted(self.flags)) or "none"
        )

    def __or__(self, other: Alerts) -> Alerts:
        return Alerts(self.flags | other.flags)


def command(page: int, generic: str) -> list[str]:
    """The command that reads a page of the drive with this SCSI generic device."""
    return ["sg_logs", f"--page=0x{page:02x}", "--raw", generic]


def parameters(page: bytes, expected: int) -> dict[int, bytes]:
    """Parameter values under their codes.

    :raises Retryable: it is another page, or is cut short.
    """
    if len(page) < 4 or page[0] & 0x3F != expected:
        raise Retryable(f"log page 0x{expected:02x}: the drive gave {page[:8].hex(' ') or 'nothing'}")
    end = 4 + int.from_bytes(page[2:4], "big")
    if end > len(page):
        raise Retryable(f"log page 0x{expected:02x}: cut short, {len(page)} of {end} bytes")
    found: dict[int, bytes] = {}
    at = 4
    while at + 4 <= end:
        length = page[at + 3]
        found[int.from_bytes(page[at : at + 2], "big")] = page[at + 4 : at + 4 + length]
        at += 4 + length
    return found


def alerts(page: bytes) -> Alerts:
    """The flags of a TapeAlert page."""
    values = parameters(page, TAPE_ALERT)
    return Alerts(frozenset(code for code, value in values.items() if value and value[0] & 1))


def error_counters(page: bytes, expected: int) -> ErrorCounters:
    """Of the write (02h) or read (03h) error counter page."""
    values = parameters(page, expected)
    return ErrorCounters(*(int.from_bytes(values.get(code, b""), "big") for code in (3, 6, 5)))


def capacity(page: bytes) -> tuple[int, int]:
    """Bytes in all and bytes left of the main partition, uncompressed (tape capacity page, 31h)."""
    values = parameters(page, CAPACITY)
    left, total = (int.from_bytes(values.get(code, b""), "big") << 20 for code in (1, 3))
    return total, left


def is_worm(page: bytes) -> bool:
    """Whether the volume statistics page (17h) says that the cartridge can be written only once."""
    return any(parameters(page, VOLUME).get(0x81, b""))


@dataclass(frozen=True, slots=True)
class VolumeCounts:
    """Of the volume statistics page (17h); None where the drive does not say."""

    loads: int | None = None
    write_errors: int | None = None
    read_errors: int | None = None
    written_bytes: int | None = None
    read_bytes: int | None = None


def volume_counts(page: bytes) -> VolumeCounts:
    """The life of the loaded cartridge."""
    values = parameters(page, VOLUME)
    loads, writes, reads, written, read = (_number(values.get(code)) for code in (1, 4, 9, 0x10, 0x11))
    return VolumeCounts(
        loads, writes, reads, None if written is None else written * MB, None if read is None else read * MB
    )


def life(page: bytes) -> DriveLife:
    """The life of the drive, of the device statistics page (14h)."""
    values = parameters(page, LIFE)
    return DriveLife(*(_number(values.get(code)) for code in (0, 1, 2, 3, 8, 0x0E, 0x0F)))


def _number(value: bytes | None) -> int | None:
    """None where it is missing, or all ones: the drive does not know."""
    return None if not value or value == b"\xff" * len(value) else int.from_bytes(value, "big")
