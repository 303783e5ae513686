"""One SFTP session: requests, their replies, and the two pipelines, each wait with a deadline.

A session belongs to one thread at a time. After :class:`Lost` it is of no further use.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol, TypeVar

from drivers.errors import Corrupt, Retryable
from drivers.sftp import wire
from drivers.sftp.wire import Attributes, Code, Fields, FileSystem, Flag, Malformed, Op, Reply, text

T = TypeVar("T")

PIPELINE_BYTES = 4 << 20
"""What is under way in one direction at most: 40 ms of a 100 MB/s line."""
DEFAULT_PIECE_BYTES = 32 << 10
"""The longest read or write of a server that names no limits (section 3 of the draft)."""
LARGEST_PIECE_BYTES = 255 << 10
NAMES_MAX = 1_000_000
"""Of one folder; more is refused rather than held in memory."""


class Lost(Retryable):
    """The connection is gone, or the server did not answer in time."""


class Refused(Exception):
    """The server answered with a status that is not OK."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message

    def __str__(self) -> str:
        return f"{self.message or 'refused'} (status {self.code})"


class Channel(Protocol):
    """What of a paramiko channel is used."""

    def sendall(self, s: bytes, /) -> None: ...

    def recv(self, nbytes: int, /) -> bytes: ...

    def recv_ready(self) -> bool: ...

    def close(self) -> None: ...


class Session:
    """Speaks SFTP 3 over ``channel``, whose own time-out bounds every single wait.

    :raises Lost: no answer to the greeting.
    """

    def __init__(self, channel: Any, server: str) -> None:
        self._channel: Channel = channel
        self._transport = channel.get_transport()
        self._server = server
        self._incoming = wire.Incoming()
        self._number = 0
        self._arrived: dict[int, Reply] = {}
        self._unwanted: set[int] = set()
        self._send(wire.hello())
        version = self._next()
        if version.op != Op.VERSION:
            raise Lost(f"{server}: greets with packet type {version.op}; is the subsystem sftp enabled?")
        self.extensions = self._understood(lambda: wire.extensions(version.body))
        self.read_bytes, self.write_bytes = self._limits()

    @property
    def usable(self) -> bool:
        """Whether the connection stood a moment ago, with nothing under way."""
        return bool(self._transport.is_active()) and not self._unwanted

    def close(self) -> None:
        """Drop the connection."""
        self._transport.close()

    # Requests

    def ask(self, op: Op, body: bytes, *expected: Op) -> Reply:
        """Send one request and wait for its reply.

        :raises Refused: the server says no, and a status is not among ``expected``.
        """
        number = self._fresh()
        self._send(wire.packet(op, number, body))
        reply = self._reply(number)
        if reply.op == Op.STATUS:
            self._require_ok(reply)
        elif reply.op not in expected:
            raise self._lost(f"answers {op.name} with packet type {reply.op}")
        return reply

    def open(self, path: str, flags: Flag, mode: int | None = None) -> bytes:
        body = text(path) + struct.pack(">I", flags) + wire.attributes(mode)
        return self._handle(self.ask(Op.OPEN, body, Op.HANDLE))

    def close_handle(self, handle: bytes) -> None:
        self.ask(Op.CLOSE, text(handle))

    def lstat(self, path: str) -> Attributes:
        reply = self.ask(Op.LSTAT, text(path), Op.ATTRS)
        return self._understood(lambda: Fields(reply.body).attributes())

    def fstat(self, handle: bytes) -> Attributes:
        reply = self.ask(Op.FSTAT, text(handle), Op.ATTRS)
        return self._understood(lambda: Fields(reply.body).attributes())

    def remove(self, path: str) -> None:
        self.ask(Op.REMOVE, text(path))

    def mkdir(self, path: str, mode: int = 0o750) -> None:
        self.ask(Op.MKDIR, text(path) + wire.attributes(mode))

    def rmdir(self, path: str) -> None:
        self.ask(Op.RMDIR, text(path))

    def rename(self, old: str, new: str) -> None:
        """Fails where ``new`` exists, by section 6.5 of the draft."""
        self.ask(Op.RENAME, text(old) + text(new))

    def extended(self, name: str, body: bytes) -> Reply:
        return self.ask(Op.EXTENDED, text(name) + body, Op.EXTENDED_REPLY)

    def hardlink(self, old: str, new: str) -> None:
        self.extended(wire.HARDLINK, text(old) + text(new))

    def posix_rename(self, old: str, new: str) -> None:
        """As rename(2): what has the name ``new`` is replaced."""
        self.extended(wire.POSIX_RENAME, text(old) + text(new))

    def fsync(self, handle: bytes) -> None:
        self.extended(wire.FSYNC, text(handle))

    def statvfs(self, path: str) -> FileSystem:
        reply = self.extended(wire.STATVFS, text(path))
        return self._understood(lambda: wire.file_system(reply.body))

    def listdir(self, path: str) -> list[tuple[str, Attributes]]:
        """The names in a folder, with their own attributes (links are not followed), without . and .."""
        handle = self._handle(self.ask(Op.OPENDIR, text(path), Op.HANDLE))
        found: list[tuple[str, Attributes]] = []
        try:
            while len(found) <= NAMES_MAX:
                try:
                    reply = self.ask(Op.READDIR, text(handle), Op.NAME)
                except Refused as refused:
                    if refused.code == Code.EOF:
                        return [each for each in found if each[0] not in (".", "..")]
                    raise
                found += self._understood(partial(wire.names, reply.body))
        finally:
            if self.usable:
                self.close_handle(handle)
        raise Refused(Code.FAILURE, f"{path} holds more than {NAMES_MAX} names")

    # Pipelines

    def read(self, handle: bytes, offset: int, wanted: int, key: str) -> Iterator[memoryview]:
        """Yield ``wanted`` bytes in order, asking for up to ``PIPELINE_BYTES`` ahead.

        Left before its end, the session is of no further use.
        """
        asked, end = offset, offset + wanted
        under_way: deque[tuple[int, int, int]] = deque()
        ahead = max(1, PIPELINE_BYTES // self.read_bytes)
        while under_way or asked < end:
            if asked < end and len(under_way) <= ahead // 2:
                requests: list[bytes] = []
                while asked < end and len(under_way) < ahead:
                    size = min(self.read_bytes, end - asked)
                    under_way.append(self._read_request(requests, handle, asked, size))
                    asked += size
                self._send(b"".join(requests))
            number, at, size = under_way.popleft()
            data = self._data(self._reply(number), key, at)
            if len(data) < size:  # a server may give less than it was asked for
                requests = []
                under_way.appendleft(self._read_request(requests, handle, at + len(data), size - len(data)))
                self._send(b"".join(requests))
            yield data

    def _read_request(
        self, requests: list[bytes], handle: bytes, offset: int, size: int
    ) -> tuple[int, int, int]:
        number = self._fresh()
        self._unwanted.add(number)  # until its reply is taken
        requests.append(wire.packet(Op.READ, number, text(handle) + struct.pack(">QI", offset, size)))
        return number, offset, size

    def _data(self, reply: Reply, key: str, at: int) -> memoryview:
        if reply.op == Op.STATUS:
            try:
                self._require_ok(reply)
            except Refused as refused:
                if refused.code == Code.EOF:
                    raise Corrupt(f"get {key}: it ended at byte {at} on {self._server}") from refused
                raise
        data = self._understood(lambda: Fields(reply.body).data())
        if reply.op != Op.DATA or not data:
            raise self._lost(f"answers READ with packet type {reply.op} and {len(data)} bytes")
        return data

    # The channel

    def send_write(self, handle: bytes, offset: int, data: bytes) -> int:
        """Send one write without waiting for its reply; the request's number."""
        number = self._fresh()
        self._unwanted.add(number)
        self._send(wire.write_header(number, handle, offset, len(data)) + data)
        return number

    def send_fsync(self, handle: bytes) -> int:
        """Ask for a flush of what was sent before, without waiting for its reply; the request's number."""
        number = self._fresh()
        self._unwanted.add(number)
        self._send(wire.packet(Op.EXTENDED, number, text(wire.FSYNC) + text(handle)))
        return number

    def written(self, *, wait: bool) -> Iterator[int]:
        """The numbers of writes and flushes that the server has done; one at least where ``wait`` is set.

        :raises Refused: it could not do one.
        """
        while wait or self._arrived or self._channel.recv_ready():
            if not self._arrived:
                reply = self._next()
                self._arrived[reply.number] = reply
            number, reply = self._arrived.popitem()
            self._unwanted.discard(number)
            if reply.op != Op.STATUS:
                raise self._lost(f"answers WRITE with packet type {reply.op}")
            self._require_ok(reply)
            wait = False
            yield number

    def _limits(self) -> tuple[int, int]:
        if wire.LIMITS not in self.extensions:
            return DEFAULT_PIECE_BYTES, DEFAULT_PIECE_BYTES
        reply = self.extended(wire.LIMITS, b"")
        read, write = self._understood(lambda: wire.limits(reply.body))
        return _piece(read), _piece(write)

    def _fresh(self) -> int:
        self._number = (self._number + 1) & 0xFFFFFFFF
        return self._number

    def _handle(self, reply: Reply) -> bytes:
        if reply.op != Op.HANDLE:
            raise self._lost(f"answers OPEN with packet type {reply.op}")
        return bytes(self._understood(lambda: Fields(reply.body).data()))

    def _require_ok(self, reply: Reply) -> None:
        fields = Fields(reply.body)
        code, message = self._understood(lambda: (fields.number(), fields.text() if fields.left else ""))
        if code in (Code.NO_CONNECTION, Code.CONNECTION_LOST):
            raise self._lost(message or "says that its own connection is lost")
        if code != Code.OK:
            raise Refused(code, message)

    def _reply(self, number: int) -> Reply:
        while number not in self._arrived:
            reply = self._next()
            self._arrived[reply.number] = reply
        self._unwanted.discard(number)
        return self._arrived.pop(number)

    def _next(self) -> Reply:
        while True:
            reply = self._understood(self._incoming.take)
            if reply is not None:
                return reply
            try:
                data = self._channel.recv(1 << 20)
            except TimeoutError as error:
                raise self._lost("did not answer in time") from error
            except (OSError, EOFError) as error:
                raise self._lost(str(error) or "closed the connection") from error
            if not data:
                raise self._lost("closed the connection")
            self._incoming.feed(data)

    def _send(self, data: bytes) -> None:
        from paramiko import SSHException

        try:
            self._channel.sendall(data)
        except TimeoutError as error:
            raise self._lost("takes nothing more") from error
        except (OSError, EOFError, SSHException) as error:
            raise self._lost(str(error) or "closed the connection") from error

    def _understood(self, parse: Callable[[], T]) -> T:
        try:
            return parse()
        except Malformed as error:
            raise self._lost(f"sent what is not SFTP: {error}") from error

    def _lost(self, why: str) -> Lost:
        self.close()
        return Lost(f"{self._server}: {why}")


def _piece(limit: int) -> int:
    return min(limit, LARGEST_PIECE_BYTES) if limit else LARGEST_PIECE_BYTES


class Upload:
    """Writes one file from its beginning (or from ``offset``), many writes under way at once."""

    def __init__(self, session: Session, handle: bytes, offset: int = 0) -> None:
        self._session, self._handle = session, handle
        self._sent = offset
        self._under_way: dict[int, int] = {}
        self._flushes: dict[int, Callable[[], None]] = {}
        self._bytes = 0

    def write(self, data: bytes) -> None:
        """Send; waits while more than ``PIPELINE_BYTES`` are under way."""
        pieces = -(-len(data) // self._session.write_bytes)
        size = -(-len(data) // pieces) if pieces else 0
        for at in range(0, len(data), size or 1):
            piece = data[at : at + size]
            number = self._session.send_write(self._handle, self._sent, piece)
            self._under_way[number] = len(piece)
            self._sent += len(piece)
            self._bytes += len(piece)
            self._collect(wait=False)
            while self._bytes > PIPELINE_BYTES:
                self._collect(wait=True)

    def flush(self, flushed: Callable[[], None]) -> None:
        """Ask for a flush; ``flushed`` is called once the server says that it is done."""
        self._flushes[self._session.send_fsync(self._handle)] = flushed

    def finish(self) -> None:
        """Wait until the server has said yes to every write and flush."""
        while self._under_way or self._flushes:
            self._collect(wait=True)

    def _collect(self, *, wait: bool) -> None:
        for number in self._session.written(wait=wait):
            if (flushed := self._flushes.pop(number, None)) is not None:
                flushed()
            else:
                self._bytes -= self._under_way.pop(number)
