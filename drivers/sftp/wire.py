"""Packets of the SSH file transfer protocol, version 3 (draft-ietf-secsh-filexfer-02), and the
extensions of OpenSSH (its file PROTOCOL, section 4). Bytes in, bytes out; no connection here.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

PACKET_BYTES_MAX = 1 << 20
"""A longer packet is none; OpenSSH's are at most 256 KiB."""


class Op(enum.IntEnum):
    """Packet types, section 3 of the draft."""

    INIT = 1
    VERSION = 2
    OPEN = 3
    CLOSE = 4
    READ = 5
    WRITE = 6
    LSTAT = 7
    FSTAT = 8
    OPENDIR = 11
    READDIR = 12
    REMOVE = 13
    MKDIR = 14
    RMDIR = 15
    RENAME = 18
    STATUS = 101
    HANDLE = 102
    DATA = 103
    NAME = 104
    ATTRS = 105
    EXTENDED = 200
    EXTENDED_REPLY = 201


class Code(enum.IntEnum):
    """Status codes, section 7 of the draft."""

    OK = 0
    EOF = 1
    NO_SUCH_FILE = 2
    PERMISSION_DENIED = 3
    FAILURE = 4
    BAD_MESSAGE = 5
    NO_CONNECTION = 6
    CONNECTION_LOST = 7
    UNSUPPORTED = 8


class Flag(enum.IntFlag):
    """Of an open, section 6.3 of the draft."""

    READ = 0x01
    WRITE = 0x02
    CREATE = 0x08
    TRUNCATE = 0x10
    EXCLUSIVE = 0x20


HARDLINK = "hardlink@openssh.com"
POSIX_RENAME = "posix-rename@openssh.com"
FSYNC = "fsync@openssh.com"
STATVFS = "statvfs@openssh.com"
LIMITS = "limits@openssh.com"

_HAS_SIZE, _HAS_OWNER, _HAS_MODE, _HAS_TIMES = 0x1, 0x2, 0x4, 0x8
_HAS_EXTENDED = 0x80000000
_KIND, _REGULAR, _FOLDER = 0o170000, 0o100000, 0o040000
READ_ONLY = 0x1
"""Of the flags in a statvfs reply: the file system is mounted read-only."""


class Malformed(ValueError):
    """The server sent what is no packet of the protocol."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """What the server says of a file; None where it does not say."""

    size: int | None = None
    mode: int | None = None
    modified: int | None = None

    @property
    def is_file(self) -> bool:
        return self.mode is not None and self.mode & _KIND == _REGULAR

    @property
    def is_folder(self) -> bool:
        return self.mode is not None and self.mode & _KIND == _FOLDER


@dataclass(frozen=True, slots=True)
class FileSystem:
    """Of statvfs@openssh.com, in bytes."""

    total: int
    free: int
    read_only: bool


@dataclass(frozen=True, slots=True)
class Reply:
    """A packet of the server: its type, the request it answers, and the rest."""

    op: int
    number: int
    body: memoryview


def text(value: str | bytes) -> bytes:
    """A string: its length, then its bytes."""
    data = value.encode() if isinstance(value, str) else value
    return struct.pack(">I", len(data)) + data


def packet(op: Op, number: int, body: bytes) -> bytes:
    """A request."""
    return struct.pack(">IBI", len(body) + 5, op, number) + body


def hello() -> bytes:
    """What opens a session: SSH_FXP_INIT, version 3."""
    return struct.pack(">IBI", 5, Op.INIT, 3)


def attributes(mode: int | None) -> bytes:
    """Attributes to make a file or a folder with."""
    return struct.pack(">I", 0) if mode is None else struct.pack(">II", _HAS_MODE, mode)


def write_header(number: int, handle: bytes, offset: int, size: int) -> bytes:
    """What comes before ``size`` bytes of data in an SSH_FXP_WRITE; the data is not copied for it."""
    body = text(handle) + struct.pack(">QI", offset, size)
    return struct.pack(">IBI", 5 + len(body) + size, Op.WRITE, number) + body


class Incoming:
    """Cuts the stream of the server into replies."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0

    def feed(self, data: bytes) -> None:
        if self._at:
            del self._buffer[: self._at]
            self._at = 0
        self._buffer += data

    def take(self) -> Reply | None:
        """The next whole packet, if it is here. :raises Malformed: it is none."""
        held = len(self._buffer) - self._at
        if held < 4:
            return None
        (size,) = struct.unpack_from(">I", self._buffer, self._at)
        if not 5 <= size <= PACKET_BYTES_MAX:
            raise Malformed(f"a packet of {size} bytes; is there text before it, from a login script?")
        start = self._at + 4
        if held < 4 + size:
            return None
        op, number = struct.unpack_from(">BI", self._buffer, start)
        self._at = start + size
        with memoryview(self._buffer) as whole:
            return Reply(op, number, memoryview(bytes(whole[start + 5 : start + size])))


class Fields:
    """Reads the fields of a reply one after the other."""

    def __init__(self, body: memoryview) -> None:
        self._body = body
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._body) - self._at

    def take(self, size: int) -> memoryview:
        if size > self.left:
            raise Malformed(f"a field of {size} bytes where {self.left} are left")
        self._at += size
        return self._body[self._at - size : self._at]

    def number(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def long(self) -> int:
        return int.from_bytes(self.take(8), "big")

    def data(self) -> memoryview:
        return self.take(self.number())

    def text(self) -> str:
        return bytes(self.data()).decode("utf-8", "replace")

    def attributes(self) -> Attributes:
        """Section 5 of the draft."""
        flags = self.number()
        size = self.long() if flags & _HAS_SIZE else None
        if flags & _HAS_OWNER:
            self.take(8)
        mode = self.number() if flags & _HAS_MODE else None
        modified = None
        if flags & _HAS_TIMES:
            self.take(4)
            modified = self.number()
        if flags & _HAS_EXTENDED:
            for _ in range(self.number()):
                self.data(), self.data()
        return Attributes(size, mode, modified)


def extensions(body: memoryview) -> dict[str, str]:
    """The pairs of an SSH_FXP_VERSION, after the version."""
    fields, found = Fields(body), {}
    while fields.left:
        name = fields.text()
        found[name] = fields.text()
    return found


def names(body: memoryview) -> list[tuple[str, Attributes]]:
    """The entries of an SSH_FXP_NAME."""
    fields = Fields(body)
    found = []
    for _ in range(fields.number()):
        name = fields.text()
        fields.data()
        found.append((name, fields.attributes()))
    return found


def file_system(body: memoryview) -> FileSystem:
    """The reply to statvfs@openssh.com."""
    fields = Fields(body)
    _, fragment, blocks, _, available, _, _, _, _, flags, _ = (fields.long() for _ in range(11))
    return FileSystem(blocks * fragment, available * fragment, bool(flags & READ_ONLY))


def limits(body: memoryview) -> tuple[int, int]:
    """The longest read and write of the reply to limits@openssh.com; 0 where there is no limit."""
    fields = Fields(body)
    _, read, write, _ = (fields.long() for _ in range(4))
    return read, write
