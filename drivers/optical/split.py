"""A tar into the files that are in it, and what lies between them.

What is not a tar in the POSIX form, or is damaged, is one piece: nothing is refused, and nothing is lost.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from drivers.base import CHUNK_BYTES

_BLOCK = 512
MEMBERS_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a tar: where its bytes are, and whether it is a Part 10 file."""

    offset: int
    size: int
    part10: bool
    name: str


def members(descriptor: int, size: int) -> list[Member]:
    """The files of a tar with at least one byte, in order; empty when it is not one we can take apart."""
    found: list[Member] = []
    at = 0
    while at + _BLOCK <= size:
        header = os.pread(descriptor, _BLOCK, at)
        if not header.strip(b"\0"):
            return found
        length = _length(header)
        if length is None or at + _BLOCK + length > size or len(found) >= MEMBERS_MAX:
            return []
        start = at + _BLOCK
        if length and header[156:157] in (b"0", b"\0"):
            prefix = os.pread(descriptor, 4, start + 128) if length >= 132 else b""
            name = header[:100].rstrip(b"\0").decode("ascii", "replace")
            found.append(Member(start, length, prefix == b"DICM", name))
        at = start + length + -length % _BLOCK
    return []


def _length(header: bytes) -> int | None:
    """The size field, if this is a header: its checksum must be right (POSIX.1, ustar)."""
    try:
        told = int(header[148:156].strip(b" \0") or b"x", 8)
    except ValueError:
        return None
    if told != sum(header[:148]) + 8 * 32 + sum(header[156:]):
        return None
    field = header[124:136]
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big")
    try:
        return int(field.strip(b" \0") or b"0", 8)
    except ValueError:
        return None


def extract(descriptor: int, offset: int, size: int, path: Path, note: Callable[[bytes], None]) -> None:
    """Copy a range of an open file into a new file."""
    with path.open("xb") as target:
        while size:
            piece = os.pread(descriptor, min(size, CHUNK_BYTES), offset)
            if not piece:
                raise OSError(5, "the spooled object is shorter than it was", str(path))
            target.write(piece)
            note(piece)
            offset += len(piece)
            size -= len(piece)
