"""Which drive sits in which data transfer element: asked of the changer. Pure, but for the command line.

READ ELEMENT STATUS (SMC-3, 6.11) with the DVCID bit gives the drives' own identification; mtx does not
show it. mtx counts data transfer elements in the order of their addresses, from 0.
"""

from __future__ import annotations

from drivers.errors import Permanent, Retryable

_LENGTH = 0xFFFF
_PRIMARY_TAG = 0x80
_ALTERNATE_TAG = 0x40
_TAG_BYTES = 36
_DATA_TRANSFER = 4


def command(changer: str) -> list[str]:
    """The command that asks ``changer`` (its SCSI generic device) for its drives."""
    cdb = f"b8 04 00 00 ff ff 01 {_LENGTH >> 16:02x} {_LENGTH >> 8 & 255:02x} {_LENGTH & 255:02x} 00 00"
    return ["sg_raw", "--binary", f"--request={_LENGTH}", "--timeout=120", changer, *cdb.split()]


def drive_identities(answer: bytes) -> tuple[str, ...]:
    """The identification of the drive in each data transfer element, in the order of mtx; often vendor,
    product and serial number in one. Empty text where the changer says nothing.

    :raises Retryable: the answer is cut short.
    """
    if len(answer) < 8:
        raise Retryable(f"READ ELEMENT STATUS gave {len(answer)} bytes; expected 8 or more")
    end = min(len(answer), 8 + int.from_bytes(answer[5:8], "big"))
    found: dict[int, str] = {}
    at = 8
    while at + 8 <= end:
        kind, flags = answer[at], answer[at + 1]
        each = int.from_bytes(answer[at + 2 : at + 4], "big")
        page_end = at + 8 + int.from_bytes(answer[at + 5 : at + 8], "big")
        if page_end > len(answer) or each < 12:
            raise Retryable(
                "READ ELEMENT STATUS: the answer is cut short; try again, or name the drives (option drives)"
            )
        tags = _TAG_BYTES * (bool(flags & _PRIMARY_TAG) + bool(flags & _ALTERNATE_TAG))
        for start in range(at + 8, page_end - each + 1, each):
            descriptor = answer[start : start + each]
            if kind == _DATA_TRANSFER:
                found[int.from_bytes(descriptor[:2], "big")] = _identity(descriptor[12 + tags :])
        at = page_end
    return tuple(found[address] for address in sorted(found))


def match(identities: tuple[str, ...], serials: tuple[str, ...]) -> dict[int, str]:
    """Which serial number is in which element (mtx's number); only those that are certain.

    :raises Permanent: one drive is claimed by two elements.
    """
    found: dict[int, str] = {}
    for number, identity in enumerate(identities):
        # The longest one that ends the text: a serial number may end another one.
        fitting = sorted((s for s in serials if s and identity.endswith(s)), key=len)
        if not fitting:
            continue
        if fitting[-1] in found.values():
            raise Permanent(f"the changer says that the drive {fitting[-1]} is in two of its elements")
        found[number] = fitting[-1]
    return found


def _identity(rest: bytes) -> str:
    """The device identifier: code set, type, reserved, length, then so many bytes."""
    if len(rest) < 4:
        return ""
    return rest[4 : 4 + rest[3]].decode("ascii", "replace").strip("\0 ")
