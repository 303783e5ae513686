"""Encryption by the drive: what it says of it, and the keys that pools have.

The drive's state is asked with SECURITY PROTOCOL IN, protocol 20h, page 20h (SSC-4, 8.5.2.7: data
encryption status). Keys are set with stenc, from a key file as stenc makes them: the key in hexadecimal in
the first line, a description in the second. The key itself is never in an argument, a message or a log; what
names it is its fingerprint.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from drivers.errors import OperatorNeeded, Retryable

LENGTH = 0x1000
_STATUS_PAGE = 0x20
_ENCRYPT, _DECRYPT, _MIXED = 2, 2, 3
_KEY_BYTES = (16, 24, 32)
_FILE_BYTES_MAX = 4096


@dataclass(frozen=True, slots=True)
class PoolKey:
    """The key of a pool's volumes: where it is, and what names it."""

    path: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class EncryptionState:
    """What a drive does with what is written and read."""

    encrypts: bool = False
    decrypts: bool = False
    mixed: bool = False
    """It reads what is not encrypted as well."""
    description: str = ""
    """What the key's file calls the key."""

    def __str__(self) -> str:
        if not (self.encrypts or self.decrypts):
            return "off"
        reading = "reads both kinds" if self.mixed else "reads" if self.decrypts else "does not read"
        name = f" with the key {self.description!r}" if self.description else ""
        return f"{'encrypts' if self.encrypts else 'does not encrypt'}, {reading}{name}"


def status_command(generic: str) -> list[str]:
    """The command that asks the drive with this SCSI generic device."""
    cdb = f"a2 20 00 {_STATUS_PAGE:02x} 00 00 00 00 {LENGTH >> 8:02x} {LENGTH & 255:02x} 00 00"
    return ["sg_raw", "--binary", f"--request={LENGTH}", "--timeout=60", generic, *cdb.split()]


def parse_status(page: bytes) -> EncryptionState:
    """The data encryption status page.

    :raises Retryable: it is another page, or is cut short.
    """
    if len(page) < 8 or int.from_bytes(page[:2], "big") != _STATUS_PAGE:
        raise Retryable(f"encryption status: the drive gave {page[:8].hex(' ') or 'nothing'}")
    end = 4 + int.from_bytes(page[2:4], "big")
    if end > len(page):
        raise Retryable(f"encryption status: cut short, {len(page)} of {end} bytes")
    description, at = "", 24
    while at + 4 <= end:
        length = int.from_bytes(page[at + 2 : at + 4], "big")
        if page[at] == 0:  # the key's descriptor that is not authenticated
            description = page[at + 4 : at + 4 + length].decode("ascii", "replace").strip("\0 ")
        at += 4 + length
    return EncryptionState(page[5] == _ENCRYPT, page[6] in (_DECRYPT, _MIXED), page[6] == _MIXED, description)


def set_command(generic: str, key: PoolKey | None) -> list[str]:
    """The command that gives the drive a key until its cartridge comes out, or none."""
    if key is None:
        return ["stenc", "-f", generic, "-e", "off"]
    return ["stenc", "-f", generic, "-e", "mixed", "-k", key.path, "--ckod"]


def read_key(path: str) -> PoolKey:
    """Look at a key file; the key does not stay in memory.

    :raises OperatorNeeded: it cannot be read, others than its owner may read it, or it holds no key of 128,
        192 or 256 bits.
    """
    try:
        with Path(path).open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_FILE_BYTES_MAX)
    except OSError as error:
        raise OperatorNeeded(f"key file {path}: {error.strerror}") from error
    if stat.S_IMODE(mode) & 0o077:
        raise OperatorNeeded(f"key file {path}: others than its owner may read or write it; chmod 600 it")
    try:
        key = bytes.fromhex(content.split(b"\n")[0].decode("ascii").strip())
    except ValueError:
        key = b""
    if len(key) not in _KEY_BYTES:
        raise OperatorNeeded(
            f"key file {path}: its first line is no key of 128, 192 or 256 bits in hexadecimal; make one "
            "with stenc -g 256 -k FILE"
        )
    return PoolKey(path, hashlib.sha256(b"hsm tape key\0" + key).hexdigest()[:16])


def unsuitable(name: str, volume: str, pool: str, written: str, key: PoolKey | None) -> str:
    """Why a volume must be left alone with the key that its pool has; empty when it need not.

    :param written: fingerprint of the key in the volume's label; empty when it was labelled without one.
    """
    if not written or (key is not None and key.fingerprint == written):
        return ""
    has = "no key" if key is None else f"the key {key.fingerprint} ({key.path})"
    return (
        f"{volume} in drive {name} is encrypted with the key {written}, and pool {pool!r} has {has}; "
        "name the file of its key in pool_keys. Nothing was read behind its label, and nothing was written"
    )
