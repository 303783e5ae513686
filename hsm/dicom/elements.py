"""Walking over an encoded dataset (PS3.5 section 7) without decoding it.

A walk touches every element head and no value, so it is quick, it never depends on values being
well formed, and it notices a dataset that ends too early, which a reader that stops before the
pixels cannot.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Container, Iterator
from dataclasses import dataclass

from hsm.errors import BadInput

Buffer = bytes | bytearray | memoryview

NESTING_MAX = 64
"""Sequences in sequences; a deeper dataset is refused rather than followed."""

INFLATED_HEAD_BYTES_MAX = 64 << 20
"""Of a deflated dataset this much is kept to be walked; the rest is inflated and only counted."""

INFLATED_BYTES_MAX = 16 << 30
_INFLATE_BYTES = 1 << 20

_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())
LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
IMPLICIT = frozenset({"1.2.840.10008.1.2", "1.2.840.113619.5.2"})  # the second is GE's private one
BIG_ENDIAN = frozenset({"1.2.840.10008.1.2.2"})
DEFLATED = frozenset(
    {
        "1.2.840.10008.1.2.1.99",
        "1.2.840.10008.1.2.4.95",  # JPIP Referenced Deflate
        "1.2.840.10008.1.2.4.205",  # JPIP HTJ2K Referenced Deflate
    }
)


@dataclass(frozen=True, slots=True)
class Element:
    """One top-level data element; ``value`` is a view of its encoded value field."""

    tag: int
    vr: str
    """Two letters, or empty where the encoding carries none."""
    value: memoryview
    undefined_length: bool


def tag_text(tag: int) -> str:
    """``(gggg,eeee)``."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def elements(
    dataset: Buffer, transfer_syntax_uid: str, only: Container[int] | None = None
) -> Iterator[Element]:
    """The top-level elements in the order of the dataset, or ``only`` those with these tags.

    Every transfer syntax that is not implicit VR, big endian or deflated, private and unknown ones
    included, is explicit VR little endian (PS3.5 section 10). Senders that say explicit and send
    implicit VR, or the reverse, are understood. Of a deflated dataset only what the first
    :data:`INFLATED_HEAD_BYTES_MAX` hold is given.

    :raises BadInput: the dataset ends inside an element, or is no dataset; the message has the tag.
    """
    if transfer_syntax_uid in DEFLATED:
        data, whole = _inflate(dataset)
    else:
        data, whole = memoryview(dataset).cast("B"), True
    big_endian = transfer_syntax_uid in BIG_ENDIAN
    implicit = _looks_implicit(data, 0, transfer_syntax_uid in IMPLICIT)
    walker = _Walker(data, ">" if big_endian else "<")
    try:
        yield from walker.top(implicit, only)
    except _CutShortError:
        if whole:
            raise


class _CutShortError(BadInput):
    """The data end inside an element."""


def _inflate(dataset: Buffer) -> tuple[memoryview, bool]:
    """The dataset, inflated (PS3.5 section A.5), and whether it is all of it."""
    inflater = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    source = memoryview(dataset).cast("B")
    kept = bytearray()
    total = taken = 0
    pending: Buffer = b""
    try:
        while not inflater.eof:
            if not pending:
                # In pieces: the inflater copies what it has not used yet.
                pending = source[taken : taken + _INFLATE_BYTES]
                taken += len(pending)
            chunk = inflater.decompress(pending, _INFLATE_BYTES)
            pending = inflater.unconsumed_tail
            total += len(chunk)
            if len(kept) < INFLATED_HEAD_BYTES_MAX:
                kept += chunk
            if total > INFLATED_BYTES_MAX:
                raise BadInput(f"deflated dataset inflates to more than {INFLATED_BYTES_MAX} bytes")
            if not chunk and not pending and taken == len(source) and not inflater.eof:
                raise BadInput(f"deflated dataset ends too early, after {total} inflated bytes")
    except zlib.error as error:
        raise BadInput(f"deflated dataset cannot be inflated: {error}") from error
    return memoryview(bytes(kept)), len(kept) == total


def _looks_implicit(data: memoryview, pos: int, declared: bool) -> bool:
    """Whether the element at ``pos`` has no VR; ``declared`` where that cannot be seen."""
    vr = bytes(data[pos + 4 : pos + 6])
    if len(vr) < 2:
        return declared
    if declared:
        return vr not in SHORT_VRS and vr not in LONG_VRS
    return not _letters(vr)


def _letters(vr: bytes) -> bool:
    return b"A" <= vr[:1] <= b"Z" and b"A" <= vr[1:] <= b"Z"


class _Walker:
    def __init__(self, data: memoryview, byte_order: str) -> None:
        self._data = data
        self._tag = struct.Struct(byte_order + "HH")
        self._explicit = struct.Struct(byte_order + "HH2sH")
        self._implicit = struct.Struct(byte_order + "HHL")
        self._short = struct.Struct(byte_order + "H")
        self._long = struct.Struct(byte_order + "L")

    def top(self, implicit: bool, only: Container[int] | None) -> Iterator[Element]:
        data, pos, end, last = self._data, 0, len(self._data), 0
        explicit_head, implicit_head = self._explicit.unpack_from, self._implicit.unpack_from
        while pos < end:
            # The way of nearly all elements, in one unpacking: this loop is in the path of every C-STORE.
            if end - pos >= 8:
                start = pos + 8
                if implicit:
                    (group, number, length), short_vr, plain = implicit_head(data, pos), b"", True
                else:
                    group, number, short_vr, length = explicit_head(data, pos)
                    plain = short_vr in SHORT_VRS
                if plain and group != 0xFFFE and length <= end - start:
                    last = group << 16 | number
                    pos = start + length
                    if only is None or last in only:
                        yield Element(last, short_vr.decode("ascii"), data[start:pos], False)
                    continue
            if end - pos < 8 and not any(data[pos:]):
                return  # a few zeros of padding, which some senders leave
            tag, vr, length, start = self._head(pos, end, implicit, last)
            if tag in (_ITEM, _ITEM_END, _SEQUENCE_END):
                raise BadInput(f"item tag {tag_text(tag)} outside a sequence at byte {pos}")
            if length == _UNDEFINED:
                stop, pos = self._undefined(tag, vr, start, end, implicit, 1)
            else:
                stop = pos = self._after(tag, start, length, end)
            if only is None or tag in only:
                yield Element(tag, vr, data[start:stop], length == _UNDEFINED)
            last = tag

    def _head(self, pos: int, end: int, implicit: bool, last: int) -> tuple[int, str, int, int]:
        """Tag, VR, length and where the value begins."""
        data = self._data
        if end - pos < 8:
            raise _CutShortError(f"dataset ends inside the head of the element after {tag_text(last)}")
        group, number = self._tag.unpack_from(data, pos)
        tag = group << 16 | number
        vr = bytes(data[pos + 4 : pos + 6])
        if group == 0xFFFE or implicit or not _letters(vr):
            # Some writers fall back to implicit VR for single elements: two letters are the only sign.
            return tag, "", self._long.unpack_from(data, pos + 4)[0], pos + 8
        if vr not in SHORT_VRS and (vr in LONG_VRS or not any(data[pos + 6 : pos + 8])):
            if end - pos < 12:
                raise _CutShortError(f"dataset ends inside the head of {tag_text(tag)}")
            return tag, vr.decode("ascii"), self._long.unpack_from(data, pos + 8)[0], pos + 12
        return tag, vr.decode("ascii"), self._short.unpack_from(data, pos + 6)[0], pos + 8

    def _after(self, tag: int, start: int, length: int, end: int) -> int:
        if length > end - start:
            raise _CutShortError(
                f"dataset ends inside {tag_text(tag)}: its {length} bytes begin at byte {start} "
                f"and {end - start} are there"
            )
        return start + length

    def _undefined(
        self, tag: int, vr: str, start: int, end: int, implicit: bool, depth: int
    ) -> tuple[int, int]:
        """Where a value of undefined length stops, and where the next element begins."""
        if depth > NESTING_MAX:
            raise BadInput(f"{tag_text(tag)} is nested more than {NESTING_MAX} deep")
        # PS3.5 section A.4: fragments of pixel data are opaque.
        opaque = vr in ("OB", "OW") or tag >> 16 == 0x7FE0
        pos = start
        while True:
            if end - pos < 8:
                raise _CutShortError(f"dataset ends inside {tag_text(tag)}, whose end is not marked")
            item, _, length, body = self._head(pos, end, True, tag)
            if item == _SEQUENCE_END:
                return pos, body
            if item != _ITEM:
                raise BadInput(
                    f"{tag_text(tag)} has {tag_text(item)} at byte {pos} where an item should begin"
                )
            if length != _UNDEFINED:
                pos = self._after(tag, body, length, end)
            elif opaque:
                raise BadInput(f"{tag_text(tag)} has a fragment of undefined length at byte {pos}")
            else:
                # PS3.5 section 6.2.2 note 2: a sequence under UN is implicit VR, and senders err.
                pos = self._item(
                    tag, body, end, _looks_implicit(self._data, body, implicit or vr == "UN"), depth
                )

    def _item(self, sequence: int, pos: int, end: int, implicit: bool, depth: int) -> int:
        """Where an item of undefined length ends, its delimiter included."""
        last = sequence
        while True:
            tag, vr, length, start = self._head(pos, end, implicit, last)
            if tag == _ITEM_END:
                return start
            if length == _UNDEFINED:
                pos = self._undefined(tag, vr, start, end, implicit, depth + 1)[1]
            else:
                pos = self._after(tag, start, length, end)
            last = tag
