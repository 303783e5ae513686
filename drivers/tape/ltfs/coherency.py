"""The coherency information that LTFS keeps in a cartridge's memory, one attribute a partition (LTFS Format
Specification 2.4, "Volume Coherency Information"). Pure.

The reference implementation (seen with 2.4.8) leaves the byte behind the word LTFS as it happens to be. Where
that is not zero it does not know its own information again. Nothing comes of it until the end of data is
lost, as in a power cut: then ``ltfsck --deep-recovery`` gives up a volume on which everything is well.
"""

from __future__ import annotations

import re

ATTRIBUTE = 0x080C
PARTITIONS = (0, 1)
_COUNTS = 16
"""Bytes of the coherency count and the set identifier, behind the volume change reference and its length."""
_LENGTHS = (42, 43)
_WORD = b"LTFS"
_UUID = re.compile(rb"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def volume_uuid(value: bytes) -> str:
    """The LTFS volume that the information is of; empty where it is not known."""
    found = _UUID.search(value)
    return "" if found is None else found[0].decode("ascii")


def mended(value: bytes) -> bytes | None:
    """The attribute's value as it should be; None where it is so, or is something else altogether."""
    at = 1 + value[0] + _COUNTS if value else 0
    length, end = int.from_bytes(value[at : at + 2], "big"), at + 2 + len(_WORD)
    if length not in _LENGTHS or value[at + 2 : end] != _WORD or len(value) != at + 2 + length:
        return None
    if value[end] == 0 or _UUID.fullmatch(value[end + 1 : end + 37]) is None:
        return None
    return value[:end] + b"\0" + value[end + 1 :]
