"""The head of a Part 10 file (PS3.10 section 7.1), made so that equal datasets give equal files."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hsm.errors import Corrupt

# Made once from a UUID (PS3.5 section B.2); names this software's way of writing files.
IMPLEMENTATION_CLASS_UID = "2.25.134185439514785218828120043257712535084"
IMPLEMENTATION_VERSION_NAME = "HSM"

PREAMBLE = b"\0" * 128 + b"DICM"
_GROUP_LENGTH_HEAD = struct.Struct("<HH2sHI")


def _element(group: int, element: int, vr: bytes, value: bytes) -> bytes:
    if vr == b"OB":
        return struct.pack("<HH2sHI", group, element, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", group, element, vr, len(value)) + value


def _uid(value: str) -> bytes:
    raw = value.encode("ascii")
    return raw + b"\0" if len(raw) % 2 else raw


def file_head(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Preamble, prefix and File Meta Information for a dataset.

    Nothing in it depends on the sender, the time or the software's version: the digest of a file
    then answers whether two receptions brought the same bytes.
    """
    version = IMPLEMENTATION_VERSION_NAME.encode("ascii")
    version += b" " * (len(version) % 2)
    body = b"".join(
        (
            _element(2, 0x0001, b"OB", b"\0\1"),
            _element(2, 0x0002, b"UI", _uid(sop_class_uid)),
            _element(2, 0x0003, b"UI", _uid(sop_instance_uid)),
            _element(2, 0x0010, b"UI", _uid(transfer_syntax_uid)),
            _element(2, 0x0012, b"UI", _uid(IMPLEMENTATION_CLASS_UID)),
            _element(2, 0x0013, b"SH", version),
        )
    )
    return PREAMBLE + _element(2, 0, b"UL", struct.pack("<I", len(body))) + body


@dataclass(frozen=True, slots=True)
class Head:
    """What the head of a file says."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    size: int
    """Bytes of the head: where the dataset begins."""


def read_head(part10: bytes | bytearray | memoryview) -> Head:
    """What :func:`file_head` wrote.

    :raises Corrupt: the head is not one of ours, or not all of it is there.
    """
    size = dataset_offset(part10)
    at, values = len(PREAMBLE), {}
    while at < size:
        group, element, vr, length = struct.unpack_from("<HH2sH", part10, at)
        at += 8
        if vr == b"OB":
            (length,) = struct.unpack_from("<I", part10, at)
            at += 4
        values[(group, element)] = bytes(part10[at : at + length])
        at += length
    try:
        sop_class, sop_instance, syntax = (
            values[(2, number)].rstrip(b"\0").decode("ascii") for number in (0x02, 0x03, 0x10)
        )
    except (KeyError, UnicodeDecodeError) as error:
        raise Corrupt(f"Part 10 file with incomplete File Meta Information: {error!r}") from error
    return Head(sop_class, sop_instance, syntax, size)


def dataset_offset(part10: bytes | bytearray | memoryview) -> int:
    """Where the dataset begins in a file made by :func:`file_head`.

    :raises Corrupt: the head is not one of ours.
    """
    start = len(PREAMBLE)
    if len(part10) < start + 12 or bytes(part10[start - 4 : start]) != b"DICM":
        raise Corrupt("not a Part 10 file: no DICM prefix")
    group, element, vr, size, length = _GROUP_LENGTH_HEAD.unpack_from(part10, start)
    if (group, element, vr, size) != (2, 0, b"UL", 4):
        raise Corrupt("Part 10 file without File Meta Information Group Length (0002,0000)")
    end = start + 12 + int(length)
    if end > len(part10):
        raise Corrupt(f"Part 10 file whose head of {end} bytes ends after {len(part10)}")
    return end
