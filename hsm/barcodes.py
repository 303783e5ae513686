"""What the barcode of an LTO cartridge says of it: the two characters of the media identifier at its end
(LTO Ultrium barcode label specification). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

_REWRITABLE = {f"L{number}": f"LTO{number}" for number in range(1, 10)} | {"M8": "LTO7"}
"""M8: an LTO-7 cartridge formatted for LTO-8 drives."""
_WRITE_ONCE = {
    "LT": "LTO3", "LU": "LTO4", "LV": "LTO5", "LW": "LTO6", "LX": "LTO7", "LY": "LTO8", "LZ": "LTO9",
}  # fmt: skip


def generation(barcode: str) -> str:
    """``LTO6`` for ``ABC123L6``; empty where the barcode does not tell."""
    kind = barcode[-2:].upper() if len(barcode) > 6 else ""
    return _REWRITABLE.get(kind) or _WRITE_ONCE.get(kind, "")


def is_write_once(barcode: str) -> bool:
    """Whether it names a WORM cartridge."""
    return len(barcode) > 6 and barcode[-2:].upper() in _WRITE_ONCE


def belongs(barcode: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns (``HSM*``, ``?`` for any one character) matches the whole barcode."""
    return any(fnmatchcase(barcode, pattern) for pattern in patterns)


_DRIVE_PRODUCT = re.compile(r"(?:ULT\d+-(?:TD|HH)|ULTRIUM[- ]?(?:TD|HH)?|LTO-?)\s?(\d{1,2})\b", re.IGNORECASE)


def number(name: str) -> int:
    """8 for ``LTO8``; 0 where it is none."""
    digits = name.removeprefix("LTO")
    return int(digits) if digits.isascii() and digits.isdigit() else 0


def drive_generation(product: str) -> int:
    """8 for the product names ``ULT3580-TD8``, ``ULTRIUM-HH8`` or ``Ultrium 8-SCSI``; 0 where it does not
    tell."""
    found = _DRIVE_PRODUCT.search(product)
    return int(found[1]) if found else 0


def reads(drive: int) -> range:
    """The generations that a drive of this one reads: two before its own up to LTO-7, one from LTO-8 on, and
    none but its own from LTO-10 on."""
    before = 2 if drive <= 7 else 1 if drive <= 9 else 0
    return range(max(1, drive - before), drive + 1)
