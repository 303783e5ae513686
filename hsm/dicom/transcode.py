"""Another transfer syntax for a peer that accepts no stored one. The stored bytes are never touched.

Among the uncompressed syntaxes of PS3.5 annex A, values are carried over byte for byte (text is
not decoded, so nothing in it can be lost) and only lengths, VRs and byte order change. From the
compressed families the pixels are decoded by pydicom first; the decoders are the extra ``codecs``.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from io import BytesIO
from typing import Final

from pydicom.datadict import dictionary_VR, private_dictionary_VR
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from hsm.dicom.contexts import UNCOMPRESSED
from hsm.errors import HsmError

NESTING_MAX: Final = 64
_LONG_VRS: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
_WORD_BYTES: Final = {
    **dict.fromkeys(("US", "SS", "OW", "AT"), 2),
    **dict.fromkeys(("UL", "SL", "FL", "OF", "OL"), 4),
    **dict.fromkeys(("FD", "OD", "OV", "SV", "UV"), 8),
}
_UNDEFINED: Final = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_BITS_ALLOCATED: Final = 0x00280100
_PIXEL_REPRESENTATION: Final = 0x00280103
_PIXEL_DATA: Final = 0x7FE00010


class CannotTranscode(HsmError):
    """This dataset cannot be brought into that transfer syntax; the message says why."""


def targets(stored: str) -> tuple[str, ...]:
    """Transfer syntaxes that ``stored`` can be converted to on this machine, best first."""
    if stored in UNCOMPRESSED:
        return tuple(syntax for syntax in UNCOMPRESSED if syntax != stored)
    return UNCOMPRESSED if _decodable(stored) else ()


def _decodable(stored: str) -> bool:
    try:
        return bool(get_decoder(UID(stored)).is_available)
    except NotImplementedError:
        return False


def transcode(dataset: bytes | memoryview, stored: str, target: str) -> bytes:
    """An encoded dataset (without File Meta Information) in another transfer syntax.

    :raises CannotTranscode: no decoder, damaged pixel data, or a dataset that cannot be parsed.
    """
    if target not in targets(stored):
        raise CannotTranscode(f"transfer syntax {UID(stored).name} is not converted to {UID(target).name}")
    data = bytes(dataset)
    try:
        if stored not in UNCOMPRESSED:
            data, stored = _decompressed(data, stored), str(ExplicitVRLittleEndian)
        elif stored == DeflatedExplicitVRLittleEndian:
            data = zlib.decompress(data, wbits=-zlib.MAX_WBITS)
        converter = _Converter(memoryview(data), _Encoding.of(stored), _Encoding.of(target))
        body = converter.whole()
    except CannotTranscode:
        raise
    except Exception as error:
        # Decoders raise whatever they like for damaged pixels.
        raise CannotTranscode(f"{UID(stored).name} to {UID(target).name}: {error}") from error
    return _deflated(body) if target == DeflatedExplicitVRLittleEndian else body


def _decompressed(data: bytes, stored: str) -> bytes:
    """The same instance with native pixel data, in Explicit VR Little Endian."""
    dataset = read_dataset(BytesIO(data), False, True)
    if "PixelData" not in dataset:
        return data
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(stored)
    # The decoders give full-size chroma, which is what YBR_FULL_422 does not mean; other colour
    # spaces stay. A decompressed image remains the same instance (PS3.3 section C.12.1.1.6).
    halved = dataset.get("PhotometricInterpretation", "") == "YBR_FULL_422"
    dataset.decompress(as_rgb=halved, generate_instance_uid=False)
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    write_dataset(buffer, dataset)
    return buffer.getvalue()


def _deflated(body: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = deflate.compress(body) + deflate.flush()
    return packed + b"\0" * (len(packed) % 2)  # PS3.5 section A.5


@dataclass(frozen=True, slots=True)
class _Encoding:
    implicit: bool
    order: str

    @classmethod
    def of(cls, syntax: str) -> _Encoding:
        return cls(syntax == ImplicitVRLittleEndian, ">" if syntax == ExplicitVRBigEndian else "<")


@dataclass(slots=True)
class _Scope:
    """What the elements of one dataset or item need to know of each other."""

    signed: bool = False
    """Pixel Representation of this dataset or the nearest one around it, PS3.5 section A.1."""
    bits: int = 0
    """Bits Allocated."""
    creators: dict[int, str] = field(default_factory=dict)
    """Private Creator by group and block, ``gggg00bb`` (PS3.5 section 7.8.1)."""


class _Converter:
    """Rewrites a dataset element by element."""

    def __init__(self, data: memoryview, source: _Encoding, target: _Encoding) -> None:
        self._data = data
        self._source = source
        self._target = target

    def whole(self) -> bytes:
        body, _ = self._dataset(0, len(self._data), _Scope(), self._source.implicit, 0)
        return body

    def _dataset(self, pos: int, end: int, scope: _Scope, implicit: bool, depth: int) -> tuple[bytes, int]:
        """Convert up to ``end`` or an item delimiter; the converted bytes and where it stopped."""
        if depth > NESTING_MAX:
            raise CannotTranscode(f"sequences are nested more than {NESTING_MAX} deep")
        parts: list[bytes] = []
        while end - pos >= 8:
            tag, vr, length, start = self._head(pos, implicit)
            if tag == _ITEM_END:
                return b"".join(parts), start
            unknown = vr == "UN"
            if unknown and self._source.order < self._target.order:
                vr = ""  # the bytes are as in implicit VR: to swap them their VR must be found
            vr = _certain(vr or _vr_of(tag, scope), scope.signed)
            if vr == "SQ" or length == _UNDEFINED:
                # PS3.5 section 6.2.2 note 2: under UN of undefined length lies implicit VR.
                inner, pos = self._items(start, length, end, scope, implicit or unknown, depth)
                parts.append(self._new_head(tag, "SQ", len(inner)) + inner)
                continue
            pos = start + length
            if pos > end:
                raise CannotTranscode(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) goes beyond the dataset's end")
            if tag == _PIXEL_DATA and scope.bits > 16 and self._source.order != self._target.order:
                # By PS3.5 section 8.2 the words of a 32-bit pixel swap, by many writers the pixel does.
                raise CannotTranscode(f"pixels of {scope.bits} bits have no agreed byte order in big endian")
            self._note(tag, bytes(self._data[start:pos]), scope)
            value = self._value(vr, bytes(self._data[start:pos]))
            if tag & 0xFFFF:  # group lengths are retired and would be wrong now (PS3.5 section 7.2)
                parts.append(self._new_head(tag, vr, len(value)) + value)
        if any(self._data[pos:end]):
            raise CannotTranscode(f"the dataset ends inside the head of an element at byte {pos}")
        return b"".join(parts), end

    def _items(
        self, pos: int, length: int, end: int, around: _Scope, implicit: bool, depth: int
    ) -> tuple[bytes, int]:
        """Convert a sequence's items; the converted bytes and where the sequence stopped."""
        stop = end if length == _UNDEFINED else pos + length
        parts: list[bytes] = []
        while pos < stop:
            tag, _, size, start = self._head(pos, True)
            if tag == _SEQUENCE_END:
                return b"".join(parts), start
            if tag != _ITEM:
                raise CannotTranscode(f"item expected at byte {pos}; encapsulated data has no other encoding")
            last = stop if size == _UNDEFINED else start + size
            body, pos = self._dataset(start, last, _Scope(around.signed), implicit, depth + 1)
            parts.append(struct.pack(f"{self._target.order}HHL", 0xFFFE, 0xE000, len(body)) + body)
        return b"".join(parts), stop

    def _head(self, pos: int, implicit: bool) -> tuple[int, str, int, int]:
        """Tag, VR (empty if none is there), length and start of the value."""
        order, data = self._source.order, self._data
        group, element = struct.unpack_from(f"{order}HH", data, pos)
        tag = group << 16 | element
        if implicit or group == 0xFFFE:
            return tag, "", struct.unpack_from(f"{order}L", data, pos + 4)[0], pos + 8
        vr = bytes(data[pos + 4 : pos + 6]).decode("ascii")
        if vr in _LONG_VRS:
            return tag, vr, struct.unpack_from(f"{order}L", data, pos + 8)[0], pos + 12
        return tag, vr, struct.unpack_from(f"{order}H", data, pos + 6)[0], pos + 8

    def _new_head(self, tag: int, vr: str, length: int) -> bytes:
        order, group, element = self._target.order, tag >> 16, tag & 0xFFFF
        if self._target.implicit:
            return struct.pack(f"{order}HHL", group, element, length)
        if length > 0xFFFF and vr not in _LONG_VRS:
            vr = "UN"  # PS3.5 section 6.2.2 note 4: too long for the 16-bit length of its own VR
        if vr in _LONG_VRS:
            return struct.pack(f"{order}HH2sHL", group, element, vr.encode(), 0, length)
        return struct.pack(f"{order}HH2sH", group, element, vr.encode(), length)

    def _value(self, vr: str, value: bytes) -> bytes:
        value += (b"\0" if vr == "UI" or vr in _LONG_VRS else b" ") * (len(value) % 2)
        size = _WORD_BYTES.get(vr, 1)
        if self._source.order == self._target.order or size == 1 or len(value) % size:
            return value
        swapped = bytearray(len(value))
        for offset in range(size):
            swapped[offset::size] = value[size - 1 - offset :: size]
        return bytes(swapped)

    def _note(self, tag: int, value: bytes, scope: _Scope) -> None:
        if tag == _PIXEL_REPRESENTATION:
            scope.signed = 1 in value[:2]  # 0 or 1 in either byte order
        elif tag == _BITS_ALLOCATED:
            scope.bits = int.from_bytes(value[:2], "big" if self._source.order == ">" else "little")
        elif tag >> 16 & 1 and 0x10 <= tag & 0xFFFF <= 0xFF:
            scope.creators[tag] = value.decode("latin-1").strip(" \0")


def _vr_of(tag: int, scope: _Scope) -> str:
    """The VR of an element that came without one: from the dictionaries, else UN."""
    group, element = tag >> 16, tag & 0xFFFF
    try:
        if not group & 1:
            return "UL" if element == 0 else str(dictionary_VR(tag))
        if 0x10 <= element <= 0xFF:
            return "LO"
        return str(private_dictionary_VR(tag, scope.creators[group << 16 | element >> 8]))
    except KeyError:
        return "UN"


def _certain(vr: str, signed: bool) -> str:
    """One VR where the dictionary names several; PS3.5 section A.1 says when to take which."""
    if "OW" in vr:
        return "OW"
    if vr == "US or SS":
        return "SS" if signed else "US"
    return vr
