"""What a drive says of itself and of the cartridge in it: values that can be shown, kept and compared.

A number that the drive does not give is None, never 0. Numbers that grow (loads, bytes, errors) grow over
the life of the drive or the cartridge, but for :class:`ErrorCounters`, which drives start anew when a
cartridge is loaded or the drive is switched on.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Alert:
    """A TapeAlert flag that is raised, or was since the last cleaning (SSC-3, annex A)."""

    code: int
    words: str


@dataclass(frozen=True, slots=True)
class ErrorCounters:
    """Of the write or the read error counter log page (SPC-4: 02h, 03h)."""

    corrected: int = 0
    uncorrected: int = 0
    bytes_processed: int = 0


@dataclass(frozen=True, slots=True)
class CartridgeReport:
    """The cartridge in the drive: its memory (SPC-4, medium auxiliary memory) and volume statistics (17h)."""

    barcode: str | None = None
    """As the changer or the label says."""
    serial: str = ""
    """The medium's own serial number, which no sticker changes."""
    manufacturer: str = ""
    manufactured: str = ""
    """YYYYMMDD."""
    kind: str = ""
    """``data``, ``worm`` or ``cleaning``; empty when the drive does not say."""
    loads: int | None = None
    written_bytes: int | None = None
    read_bytes: int | None = None
    write_errors: int | None = None
    """Unrecovered ones, over its life."""
    read_errors: int | None = None


@dataclass(frozen=True, slots=True)
class DriveLife:
    """Of the device statistics log page (SSC-4: 14h)."""

    loads: int | None = None
    cleanings: int | None = None
    power_on_hours: int | None = None
    motion_hours: int | None = None
    motion_hours_since_cleaning: int | None = None
    hard_write_errors: int | None = None
    hard_read_errors: int | None = None


@dataclass(frozen=True, slots=True)
class DriveReport:
    """What an admin wants to know of a drive, asked now."""

    drive: int
    """Element address, as the inventory gives it."""
    serial: str = ""
    product: str = ""
    """Vendor and product."""
    loaded: bool = False
    """A cartridge is in it and ready."""
    write_protected: bool = False
    alerts: tuple[Alert, ...] = ()
    """In the order of their codes."""
    cleaning_asked: bool = False
    blames_drive: bool = False
    """One of the alerts speaks of the drive."""
    blames_cartridge: bool = False
    """One of the alerts speaks of the cartridge."""
    write_errors: ErrorCounters | None = None
    read_errors: ErrorCounters | None = None
    cartridge: CartridgeReport | None = None
    """None when none is loaded."""
    life: DriveLife | None = None
    encryption: str = ""
    """In words: off, or on with which key's fingerprint; empty when the drive does not say."""
