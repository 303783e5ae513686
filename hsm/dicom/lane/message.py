"""C-STORE messages on the wire, PS3.7 sections 9.3.1 and E.1: implicit VR little endian, group 0000."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Final

from hsm.dicom.call import error_comment

_HEAD = struct.Struct("<HHL")
_US = struct.Struct("<H")
_PDV_HEAD = struct.Struct(">BBLLBB")
_STORE_RQ: Final = 0x0001
_STORE_RSP: Final = 0x8001
_NO_DATASET: Final = 0x0101
_UID = re.compile(rb"[0-9]+(?:\.[0-9]+)*")
_UID_BYTES_MAX = 64
# Numbers of two bytes, and which of them a C-STORE request may have besides the two UIDs.
_NUMBERS = frozenset({0x0100, 0x0110, 0x0700, 0x0800, 0x1031})
_TEXTS = frozenset({0x0002, 0x1000, 0x1030})
_AE_BYTES_MAX = 16


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """A C-STORE request whose dataset follows."""

    context_id: int
    message_id: int
    sop_class: bytes
    """Affected SOP Class UID as sent, padding included: the response has it again."""
    sop_instance: bytes

    @property
    def sop_class_uid(self) -> str:
        return _text(self.sop_class)

    @property
    def sop_instance_uid(self) -> str:
        return _text(self.sop_instance)


def _text(raw: bytes) -> str:
    return raw.rstrip(b" \0").decode("ascii")


def parse_store(context_id: int, command: bytes) -> StoreRequest | None:
    """The request that a command set is, or None if it is another or anything in it is unusual.

    What is refused here goes to pynetdicom, which knows what to make of it.
    """
    values: dict[int, bytes] = {}
    pos, end = 0, len(command)
    while pos < end:
        if end - pos < 8:
            return None
        group, number, length = _HEAD.unpack_from(command, pos)
        pos += 8 + length
        if group or pos > end or number in values:
            return None
        values[number] = command[pos - length : pos]
    if len(values.pop(0x0000, b"")) != 4:
        return None
    numbers: dict[int, int] = {}
    for number, value in values.items():
        if number in _NUMBERS and len(value) == 2:
            numbers[number] = _US.unpack(value)[0]
        elif number not in _TEXTS:
            return None
    if numbers.get(0x0100) != _STORE_RQ or numbers.get(0x0800, _NO_DATASET) == _NO_DATASET:
        return None
    if 0x0110 not in numbers or numbers.get(0x0700, 2) > 2:
        return None
    if not (_is_uid(values.get(0x0002)) and _is_uid(values.get(0x1000)) and _is_ae(values.get(0x1030))):
        return None
    return StoreRequest(context_id, numbers[0x0110], values[0x0002], values[0x1000])


def _is_uid(value: bytes | None) -> bool:
    if value is None:
        return False
    bare = value.rstrip(b"\0")
    padded = len(value) % 2 == 0 and len(value) - len(bare) <= 1
    return padded and len(bare) <= _UID_BYTES_MAX and bool(_UID.fullmatch(bare))


def _is_ae(value: bytes | None) -> bool:
    """Move Originator Application Entity Title, where there is one."""
    if value is None:
        return True
    bare = value.strip(b" ")
    return bool(bare) and len(value) <= _AE_BYTES_MAX and all(0x20 < byte < 0x7F for byte in bare)


def encode_response(request: StoreRequest, status: int, comment: str) -> bytes:
    """The response as one P-DATA-TF PDU (PS3.8 section 9.3.5)."""
    elements = [
        _element(0x0002, request.sop_class),
        _element(0x0100, _US.pack(_STORE_RSP)),
        _element(0x0120, _US.pack(request.message_id)),
        _element(0x0800, _US.pack(_NO_DATASET)),
        _element(0x0900, _US.pack(status)),
    ]
    if comment:
        said = error_comment(comment).encode("ascii")
        elements.append(_element(0x0902, said + b" " * (len(said) % 2)))
    elements.append(_element(0x1000, request.sop_instance))
    body = b"".join(elements)
    body = _element(0x0000, struct.pack("<L", len(body))) + body
    return _PDV_HEAD.pack(4, 0, len(body) + 6, len(body) + 2, request.context_id, 3) + body


def _element(number: int, value: bytes) -> bytes:
    return _HEAD.pack(0, number, len(value)) + value
