"""The first PDU of a connection, read before pynetdicom has it: what does its peer come for?

Where several processes share the port, only one of them can answer more than C-STORE and C-ECHO; which one
serves a connection is decided by what its A-ASSOCIATE-RQ proposes (PS3.8 section 9.3.2).
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from typing import Final

from hsm.dicom.contexts import COMMITMENT, QUERY_RETRIEVE

REQUEST_BYTES_MAX: Final = 1 << 20
"""128 presentation contexts with dozens of transfer syntaxes each stay far below."""
_PDU_HEAD = struct.Struct(">BxL")
_ITEM_HEAD = struct.Struct(">BxH")
_A_ASSOCIATE_RQ: Final = 0x01
_FIXED_BYTES: Final = 68
"""Of an A-ASSOCIATE-RQ between its length and its first variable item."""
_CONTEXT: Final = 0x20
_CONTEXT_FIXED_BYTES: Final = 4
_ABSTRACT_SYNTAX: Final = 0x30


def read_request(client: socket.socket, seconds: float) -> bytes:
    """The first PDU of a connection, whole if it is an A-ASSOCIATE-RQ of a reasonable size.

    Anything else is for pynetdicom to refuse: as much of it is returned as was read.

    :raises OSError: the peer closed before, or it took longer than ``seconds``.
    """
    deadline = time.monotonic() + seconds
    head = _read(client, _PDU_HEAD.size, deadline)
    kind, length = _PDU_HEAD.unpack(head)
    if kind == _A_ASSOCIATE_RQ and length <= REQUEST_BYTES_MAX:
        head += _read(client, length, deadline)
    client.settimeout(None)
    return head


def _read(client: socket.socket, size: int, deadline: float) -> bytes:
    received = bytearray()
    while len(received) < size:
        client.settimeout(max(0.001, deadline - time.monotonic()))
        piece = client.recv(size - len(received))
        if not piece:
            raise ConnectionResetError("closed before its association request was complete")
        received += piece
    return bytes(received)


def wants_the_daemon(request: bytes) -> bool:
    """Whether an A-ASSOCIATE-RQ proposes a service that only the daemon has: query, retrieve, commitment."""
    return any(uid in QUERY_RETRIEVE or uid == COMMITMENT for uid in abstract_syntaxes(request))


def abstract_syntaxes(request: bytes) -> list[str]:
    """The abstract syntaxes that an A-ASSOCIATE-RQ proposes; as far as it can be understood."""
    found = []
    for kind, start, end in _items(request, _PDU_HEAD.size + _FIXED_BYTES, len(request)):
        if kind == _CONTEXT:
            for part, first, last in _items(request, start + _CONTEXT_FIXED_BYTES, end):
                if part == _ABSTRACT_SYNTAX:
                    found.append(request[first:last].decode("ascii", "replace").strip(" \0"))
    return found


def _items(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Kind, start and end of the value of each item; stops at one that does not fit."""
    while start + _ITEM_HEAD.size <= end:
        kind, length = _ITEM_HEAD.unpack_from(data, start)
        start += _ITEM_HEAD.size
        if start + length > end:
            return
        yield kind, start, start + length
        start += length
