"""Recommended access order: asking a drive in which order it would read. Pure, but for the command lines.

GENERATE RECOMMENDED ACCESS ORDER (MAINTENANCE OUT, A4h, service action 1Dh) gives the drive user data
segments, RECEIVE RECOMMENDED ACCESS ORDER (MAINTENANCE IN, A3h, service action 1Dh) returns them in its order
(SSC-5; LTO-9 of full height and enterprise drives). Not tried on a real drive yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drivers.errors import Retryable

LIMITS_LENGTH = 4
_REORDER = 2
"""RAO PROCESS 010b: reorder the segments and estimate the times."""
_HEADER, _DESCRIPTOR = 8, 32
_ROOM = 64
"""Bytes fetched for a segment: drives may describe it at greater length."""


@dataclass(frozen=True, slots=True)
class Segment:
    """What is to be read: from its first logical object to its last one, of a partition.

    It has two objects at least: one of a single object is a binding point of the order, and nothing to read.
    """

    partition: int
    first: int
    last: int

    def __post_init__(self) -> None:
        if not 0 <= self.first < self.last < 1 << 64 or not 0 <= self.partition < 256:
            raise ValueError(f"a segment of objects {self.first} to {self.last} in {self.partition}")


def limits_command(generic: str) -> list[str]:
    """Asks how many segments the drive takes."""
    return _sg_raw(generic, LIMITS_LENGTH, f"a3 9d 00 00 00 00 {_four(LIMITS_LENGTH)} 00 00")


def parse_limits(answer: bytes) -> int:
    """The most segments of an order; 0 when the drive takes none.

    :raises Retryable: the answer is cut short.
    """
    if len(answer) < LIMITS_LENGTH:
        raise Retryable(f"recommended access order: limits of {len(answer)} bytes; expected {LIMITS_LENGTH}")
    return int.from_bytes(answer[:2], "big")


def generate_command(generic: str, file: str, length: int) -> list[str]:
    """Gives the drive the parameter list (``length`` bytes) in a file."""
    cdb = f"a4 1d {_REORDER:02x} 00 00 00 {_four(length)} 00 00"
    return ["sg_raw", f"--send={length}", f"--infile={file}", "--timeout=60", generic, *cdb.split()]


def parameters(segments: Sequence[Segment]) -> bytes:
    """The parameter list. A segment's name is its index in ``segments``, in ten digits."""
    body = b"".join(
        (_DESCRIPTOR - 2).to_bytes(2, "big")
        + bytes(3)
        + b"%010d" % index
        + bytes((segment.partition,))
        + segment.first.to_bytes(8, "big")
        + segment.last.to_bytes(8, "big")
        for index, segment in enumerate(segments)
    )
    return bytes(4) + len(body).to_bytes(4, "big") + body


def receive_command(generic: str, segments: int) -> list[str]:
    """Fetches the order of so many segments."""
    length = _HEADER + segments * _ROOM
    return _sg_raw(generic, length, f"a3 1d 00 00 00 00 {_four(length)} 00 00")


def parse_order(answer: bytes, segments: int) -> tuple[int, ...]:
    """Indices of the segments in the drive's order.

    :raises Retryable: it was not reordered, is cut short, or is not of just these segments.
    """
    if len(answer) < _HEADER or answer[0] & 7 != _REORDER:
        raise Retryable(f"recommended access order: the drive gave {answer[:8].hex(' ') or 'nothing'}")
    end = _HEADER + int.from_bytes(answer[4:8], "big")
    if end > len(answer):
        raise Retryable(f"recommended access order: cut short, {len(answer)} of {end} bytes")
    order, at = list[int](), _HEADER
    while at + _DESCRIPTOR <= end:
        length = 2 + int.from_bytes(answer[at : at + 2], "big")
        name = answer[at + 5 : at + 15]
        if length < _DESCRIPTOR or not name.isdigit():
            raise Retryable(f"recommended access order: segment {name!r} of {length} bytes")
        order.append(int(name))
        at += length
    if sorted(order) != list(range(segments)):
        raise Retryable(f"recommended access order: {segments} segments were asked for, {order} came back")
    return tuple(order)


def _four(value: int) -> str:
    return value.to_bytes(4, "big").hex(" ")


def _sg_raw(generic: str, length: int, cdb: str) -> list[str]:
    return ["sg_raw", "--binary", f"--request={length}", "--timeout=60", generic, *cdb.split()]
