"""Cartridge memory: what the chip in a cartridge says. Pure, but for the command line.

READ ATTRIBUTE and WRITE ATTRIBUTE (SPC-4, 6.18 and 6.41); identifiers of SPC-4, 7.4.
"""

from __future__ import annotations

from drivers.errors import Retryable

LENGTH = 0x4000
LOADS, WRITTEN, READ = 0x0003, 0x0220, 0x0221
MANUFACTURER, SERIAL, MANUFACTURED, KIND, BARCODE = 0x0400, 0x0401, 0x0406, 0x0408, 0x0806
_KINDS = {0x00: "data", 0x01: "cleaning", 0x80: "worm"}


def command(generic: str, first: int = 0, partition: int = 0) -> list[str]:
    """The command that asks the drive with this SCSI generic device for the values from attribute ``first``
    on."""
    at = f"{partition:02x} {first >> 8:02x} {first & 255:02x}"
    cdb = f"8c 00 00 00 00 00 00 {at} 00 00 {LENGTH >> 8:02x} {LENGTH & 255:02x} 00 00"
    return ["sg_raw", "--binary", f"--request={LENGTH}", "--timeout=60", generic, *cdb.split()]


def write_command(generic: str, file: str, length: int, partition: int) -> list[str]:
    """Gives the drive the parameter list (``length`` bytes) in a file."""
    cdb = f"8d 00 00 00 00 00 00 {partition:02x} 00 00 00 00 {length >> 8:02x} {length & 255:02x} 00 00"
    return ["sg_raw", f"--send={length}", f"--infile={file}", "--timeout=60", generic, *cdb.split()]


def parameters(identifier: int, value: bytes) -> bytes:
    """The parameter list that writes one attribute, a binary one."""
    body = identifier.to_bytes(2, "big") + b"\0" + len(value).to_bytes(2, "big") + value
    return len(body).to_bytes(4, "big") + body


def attributes(answer: bytes) -> dict[int, bytes]:
    """Values under their identifiers.

    :raises Retryable: the answer is cut short.
    """
    if len(answer) < 4:
        raise Retryable(f"READ ATTRIBUTE gave {len(answer)} bytes; expected 4 or more")
    end = 4 + int.from_bytes(answer[:4], "big")
    if end > len(answer) and end <= LENGTH:
        raise Retryable(f"READ ATTRIBUTE: cut short, {len(answer)} of {end} bytes")
    found: dict[int, bytes] = {}
    at = 4
    while at + 5 <= min(end, len(answer)):
        length = int.from_bytes(answer[at + 3 : at + 5], "big")
        found[int.from_bytes(answer[at : at + 2], "big")] = answer[at + 5 : at + 5 + length]
        at += 5 + length
    return found


def text(values: dict[int, bytes], identifier: int) -> str:
    """An attribute of characters; empty where there is none."""
    return values.get(identifier, b"").decode("utf-8", "replace").strip("\0 ")


def number(values: dict[int, bytes], identifier: int) -> int | None:
    """A binary attribute; None where there is none, or the drive says that it does not know (all ones)."""
    value = values.get(identifier, b"")
    return None if not value or value == b"\xff" * len(value) else int.from_bytes(value, "big")


def kind(values: dict[int, bytes]) -> str:
    """``data``, ``worm`` or ``cleaning``; empty when it is not said."""
    said = number(values, KIND)
    return "" if said is None else _KINDS.get(said, "")
