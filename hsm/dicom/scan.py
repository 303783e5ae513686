"""Reading a dataset's catalog attributes while it arrives, without keeping it.

The quick counterpart of :func:`hsm.dicom.header.read_header`: it takes the encoded bytes piece by
piece, cut anywhere, skips over values and nested items, and notices a dataset that ends too early.
It understands only what is well formed and in the encoding that the transfer syntax says; of anything
else it says so, and the careful reader decides.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

from hsm.dicom.elements import (
    BIG_ENDIAN,
    DEFLATED,
    IMPLICIT,
    INFLATED_BYTES_MAX,
    LONG_VRS,
    NESTING_MAX,
    SHORT_VRS,
)
from hsm.dicom.header import WANTED, header_of
from hsm.model import Header

VALUE_BYTES_MAX: Final = 32 * 1024
"""A wanted value beyond this is left to the careful reader."""
_HEAD_BYTES = 12
_JOIN_BYTES = VALUE_BYTES_MAX + _HEAD_BYTES
_INFLATE_BYTES = 1 << 20
_UNDEFINED = 0xFFFFFFFF
_DELIMITERS = 0xFFFE
_ITEM, _ITEM_END, _SEQUENCE_END = 0xE000, 0xE00D, 0xE0DD

# What is open: the dataset or an item holds elements, a sequence holds items, pixel data fragments.
_ELEMENTS, _ITEMS, _FRAGMENTS = range(3)


class _OddError(Exception):
    """Not for the quick reader."""


class Scan:
    """Give it all pieces in order, then ask :meth:`header`."""

    def __init__(self, transfer_syntax_uid: str) -> None:
        order = ">" if transfer_syntax_uid in BIG_ENDIAN else "<"
        self._implicit = transfer_syntax_uid in IMPLICIT
        self._short_head = struct.Struct(order + "HH2sH").unpack_from
        self._long_head = struct.Struct(order + "HHL").unpack_from
        self._long = struct.Struct(order + "L").unpack_from
        self._inflater = (
            zlib.decompressobj(wbits=-zlib.MAX_WBITS) if transfer_syntax_uid in DEFLATED else None
        )
        self._inflated = 0
        self._raw: dict[int, bytes] = {}
        self._open = [_ELEMENTS]
        self._first = True
        """The next element is the first of the dataset or of an item."""
        self._skip = 0
        self._rest = b""
        self._odd = False

    def feed(self, piece: memoryview) -> None:
        """The next bytes of the encoded dataset."""
        if self._odd:
            return
        try:
            if self._inflater is None:
                self._take(piece)
            else:
                self._inflate(piece)
        except (_OddError, zlib.error):
            self._odd = True
            self._rest = b""

    def header(self) -> Header | None:
        """The attributes of the dataset, which is complete now; None if the careful reader must look.

        :raises BadInput: as :func:`hsm.dicom.header.read_header`.
        """
        whole = not self._skip and len(self._open) == 1
        if self._inflater is not None:
            whole = whole and self._inflater.eof
        if self._odd or not whole or len(self._rest) >= 8 or any(self._rest):
            return None
        return header_of(self._raw)

    def _inflate(self, piece: memoryview) -> None:
        assert self._inflater is not None
        pending: memoryview | bytes = piece
        while pending and not self._inflater.eof:
            chunk = self._inflater.decompress(pending, _INFLATE_BYTES)
            pending = self._inflater.unconsumed_tail
            self._inflated += len(chunk)
            if self._inflated > INFLATED_BYTES_MAX:
                raise _OddError
            self._take(memoryview(chunk))

    def _take(self, piece: memoryview) -> None:
        if self._rest:
            # A head or a wanted value was cut: join as little as is needed to get past it.
            joint = self._rest + bytes(piece[:_JOIN_BYTES])
            done = self._walk(memoryview(joint))
            if done < len(self._rest):
                if len(piece) > _JOIN_BYTES:
                    raise _OddError
                self._rest = joint[done:]
                return
            piece = piece[done - len(self._rest) :]
            self._rest = b""
        done = self._walk(piece)
        self._rest = bytes(piece[done:])

    def _walk(self, data: memoryview) -> int:
        """Go as far as the data reach; how far that is."""
        pos, end = 0, len(data)
        while True:
            if self._skip:
                step = min(self._skip, end - pos)
                self._skip -= step
                pos += step
                if self._skip:
                    return pos
            if end - pos < 8:
                return pos
            if self._open[-1] != _ELEMENTS:
                pos = self._item(data, pos)
                continue
            after = self._elements(data, pos, end)
            if after < 0:
                return ~after
            pos = after

    def _elements(self, data: memoryview, pos: int, end: int) -> int:
        """Walk over elements; where they stop being these, or the complement of where the data end."""
        if self._first:
            self._look_at_first(bytes(data[pos + 4 : pos + 6]))
            self._first = False
        implicit, short_head, long_head = self._implicit, self._short_head, self._long_head
        raw = self._raw if len(self._open) == 1 else None
        while end - pos >= 8:
            if implicit:
                group, number, length = long_head(data, pos)
                vr, start = b"", pos + 8
            else:
                group, number, vr, length = short_head(data, pos)
                start = pos + 8
                if vr not in SHORT_VRS:
                    if group == _DELIMITERS:
                        length = self._long(data, pos + 4)[0]
                    elif vr not in LONG_VRS:
                        raise _OddError
                    elif end - pos < _HEAD_BYTES:
                        return ~pos
                    else:
                        start = pos + _HEAD_BYTES
                        length = self._long(data, pos + 8)[0]
            if group == _DELIMITERS:
                if number != _ITEM_END or raw is not None:
                    raise _OddError
                self._open.pop()
                return start
            if length == _UNDEFINED:
                self._begin(group, vr)
                return start
            if raw is not None and (tag := group << 16 | number) in WANTED:
                if length > VALUE_BYTES_MAX:
                    raise _OddError
                if length > end - start:
                    return ~pos
                raw[tag] = bytes(data[start : start + length])
            elif length > end - start:
                self._skip = length
                return start
            pos = start + length
        return ~pos

    def _item(self, data: memoryview, pos: int) -> int:
        """One item, fragment, or end of what holds them; where what follows begins."""
        group, number, length = self._long_head(data, pos)
        if group != _DELIMITERS:
            raise _OddError
        if number == _SEQUENCE_END:
            self._open.pop()
        elif number != _ITEM:
            raise _OddError
        elif length != _UNDEFINED:
            self._skip = length
        elif self._open[-1] == _FRAGMENTS:
            raise _OddError
        else:
            self._open.append(_ELEMENTS)
            self._first = True
        return pos + 8

    def _begin(self, group: int, vr: bytes) -> None:
        """A value of undefined length begins."""
        if vr == b"UN" or len(self._open) >= NESTING_MAX:
            raise _OddError
        self._open.append(_FRAGMENTS if vr in (b"OB", b"OW") or group == 0x7FE0 else _ITEMS)

    def _look_at_first(self, vr: bytes) -> None:
        """Some senders say explicit VR and send implicit, or the reverse."""
        if self._implicit and (vr in SHORT_VRS or vr in LONG_VRS):
            raise _OddError
