"""C-STORE requests as bytes for a socket, and the responses to them. Pure.

PS3.8 section 9.3.5 (P-DATA-TF), PS3.7 section 9.3.1 and annex E (command sets, always Implicit VR
Little Endian).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from hsm.ranges import Piece

PDU_BYTES_MAX: Final = 2**20
"""The longest PDU that we send, whatever the peer would take (its PDU length, head left out)."""
PDU_BYTES_MIN: Final = 16
PDU_HEAD_BYTES: Final = 6
P_DATA: Final = 4
BUFFERS_MAX: Final = 1000
"""Of one write; Linux takes 1024."""

_PDU_AND_PDV = struct.Struct(">BBLLBB")
_ELEMENT = struct.Struct("<HHL")
_OF_DATASET, _OF_COMMAND = 0, 1
_LAST = 2
_STORE_RESPONSE = 0x8001
_NO_DATASET = 0x0101


def _element(number: int, value: bytes) -> bytes:
    return _ELEMENT.pack(0, number, len(value)) + value


def _text(number: int, value: str, padding: str) -> bytes:
    return _element(number, (value + padding * (len(value) % 2)).encode("ascii"))


def store_command(
    sop_class_uid: str, sop_instance_uid: str, message_id: int, originator: tuple[str, int] | None
) -> bytes:
    """The command set of a C-STORE-RQ, PS3.7 table 9.3-1.

    :param originator: Move Originator's AE title and message ID.
    """
    body = b"".join(
        (
            _text(0x0002, sop_class_uid, "\0"),
            _element(0x0100, b"\1\0"),
            _element(0x0110, message_id.to_bytes(2, "little")),
            _element(0x0700, b"\0\0"),
            _element(0x0800, b"\1\0"),
            _text(0x1000, sop_instance_uid, "\0"),
        )
    )
    if originator is not None:
        title, number = originator
        body += _text(0x1030, title, " ") + _element(0x1031, number.to_bytes(2, "little"))
    return _element(0x0000, len(body).to_bytes(4, "little")) + body


def pdu_data_bytes(peer_max: int) -> int:
    """Bytes of a message that go into one PDU (PS3.8 section D.1.1: 0 is no limit).

    Fragments have an even length (PS3.8 section E.2).
    """
    limit = min(peer_max, PDU_BYTES_MAX) if peer_max else PDU_BYTES_MAX
    return (max(limit, PDU_BYTES_MIN) - 6) & ~1


def _head(context_id: int, length: int, flags: int) -> bytes:
    return _PDU_AND_PDV.pack(P_DATA, 0, length + 6, length + 2, context_id, flags)


def command_pdus(command: bytes, context_id: int, data_bytes: int) -> list[bytes]:
    """The PDUs of a command set, as buffers to be written one after the other."""
    buffers = []
    for start in range(0, len(command), data_bytes):
        part = command[start : start + data_bytes]
        last = _LAST if start + len(part) == len(command) else 0
        buffers.append(_head(context_id, len(part), _OF_COMMAND | last) + part)
    return buffers


def dataset_pdus(
    pieces: Iterable[Piece], total: int, context_id: int, data_bytes: int, before: Iterable[Piece]
) -> Iterator[list[Piece]]:
    """The PDUs of a dataset of ``total`` bytes, around pieces of any length, as lists of buffers.

    Each list is for one write and is to be written before the next one is asked for: the pieces
    may be overwritten.

    :param before: buffers that go out first, with the first list.
    """
    full = _head(context_id, data_bytes, _OF_DATASET)
    # The last PDU is told from the others by its flag, also where it is full.
    last_at = (total - 1) // data_bytes * data_bytes
    last = _head(context_id, total - last_at, _OF_DATASET | _LAST)
    buffers, position = list(before), 0
    for piece in pieces:
        view, at = memoryview(piece), 0
        while at < len(view):
            if len(buffers) >= BUFFERS_MAX:
                yield buffers
                buffers = []
            begun = position % data_bytes
            whole = min((len(view) - at) // data_bytes, (BUFFERS_MAX - len(buffers) + 1) // 2)
            whole = min(whole, max(0, last_at - position) // data_bytes)
            if whole and not begun:
                stop = at + whole * data_bytes
                buffers += [
                    each for n in range(at, stop, data_bytes) for each in (full, view[n : n + data_bytes])
                ]
            else:
                if not begun:
                    buffers.append(last if position == last_at else full)
                stop = min(len(view), at + data_bytes - begun)
                buffers.append(view[at:stop])
            position += stop - at
            at = stop
        if buffers:
            yield buffers
            buffers = []


@dataclass(frozen=True, slots=True)
class StoreResponse:
    """What a C-STORE-RSP says."""

    message_id: int
    status: int
    comment: str


def store_response(pdu: bytes, context_id: int) -> StoreResponse | None:
    """A whole PDU as the C-STORE response that it is; None for anything else or out of the ordinary.

    Ordinary is one PDV in this context with a whole command set and no dataset after it.
    """
    if len(pdu) < _PDU_AND_PDV.size or pdu[0] != P_DATA:
        return None
    _, _, pdu_bytes, pdv_bytes, context, flags = _PDU_AND_PDV.unpack_from(pdu)
    if (pdu_bytes, context, flags) != (pdv_bytes + 4, context_id, _OF_COMMAND | _LAST):
        return None
    values: dict[int, bytes] = {}
    at, end = _PDU_AND_PDV.size, len(pdu)
    while at < end:
        if end - at < _ELEMENT.size:
            return None
        group, number, length = _ELEMENT.unpack_from(pdu, at)
        at += _ELEMENT.size
        if group or length > end - at:
            return None
        values[number] = pdu[at : at + length]
        at += length
    numbers = [values.get(each, b"") for each in (0x0100, 0x0800, 0x0120, 0x0900)]
    if any(len(each) != 2 for each in numbers):
        return None
    field, dataset, message_id, status = (int.from_bytes(each, "little") for each in numbers)
    if (field, dataset) != (_STORE_RESPONSE, _NO_DATASET):
        return None
    comment = values.get(0x0902, b"").decode("ascii", "replace").strip(" \0")
    return StoreResponse(message_id, status, comment)
