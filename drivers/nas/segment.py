"""Memory that a store and one helper share: the helper reads files straight into it.

It has no name and belongs to that helper alone. One that is given up on keeps it, whatever the kernel still
writes there; the next helper has another one.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from contextlib import suppress

from drivers.base import CHUNK_BYTES

SLOTS = 4
"""Pieces that are on their way at once."""
_BYTES = SLOTS * CHUNK_BYTES
_FILLED = struct.Struct(">II")


class Segment:
    """Slots of a piece each, mapped from ``descriptor``, which may be closed afterwards."""

    def __init__(self, descriptor: int) -> None:
        self._map = mmap.mmap(descriptor, _BYTES)

    def slot(self, number: int) -> memoryview:
        """To write into."""
        return memoryview(self._map)[number * CHUNK_BYTES : (number + 1) * CHUNK_BYTES]

    def taken(self, filled: bytes) -> bytes:
        """A copy of what :func:`filled` tells of.

        :raises ValueError: it tells of no slot.
        """
        number, size = _FILLED.unpack(filled)
        if number >= SLOTS or size > CHUNK_BYTES:
            raise ValueError(f"slot {number} of {size} bytes")
        return self._map[number * CHUNK_BYTES : number * CHUNK_BYTES + size]

    def close(self) -> None:
        """Idempotent."""
        self._map.close()


def filled(number: int, size: int) -> bytes:
    """What a helper says of a slot that it has filled."""
    return _FILLED.pack(number, size)


def make() -> tuple[int, Segment] | None:
    """A new one and its descriptor, to be inherited; None where the system has no such memory."""
    if not hasattr(os, "memfd_create"):
        return None
    descriptor = os.memfd_create("hsm-nas", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.posix_fallocate(descriptor, 0, _BYTES)
        with suppress(OSError):  # nobody can take away what is mapped
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        return descriptor, Segment(descriptor)
    except OSError:
        os.close(descriptor)
        return None
