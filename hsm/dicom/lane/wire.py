"""Bytes from a socket into one reused buffer."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import time
from typing import Final

from hsm.dicom.sockets import acknowledge_at_once

BUFFER_BYTES: Final = 640 * 1024
"""Of an association. At least 64 KiB, what a command set may have."""
WAIT_SECONDS: Final = 0.02
"""How long one call waits for the peer: so long it takes to notice what others want of the thread."""
_EXACT_FROM: Final = 64 * 1024
"""From here on it pays to be woken once for all of it."""


class ClosedError(Exception):
    """The connection is gone, or the peer let too much time pass."""


class Wire:
    """A receive buffer: bytes from ``pos`` to ``fill`` have come and are not consumed."""

    def __init__(self, sock: socket.socket, patience_seconds: float) -> None:
        self._sock = sock
        self._tls = isinstance(sock, ssl.SSLSocket)
        self._patience = patience_seconds
        self._buffer = bytearray(BUFFER_BYTES)
        self.view = memoryview(self._buffer)
        self.pos = 0
        self.fill = 0
        if not self._tls:
            seconds, rest = divmod(WAIT_SECONDS, 1)
            value = struct.pack("ll", int(seconds), int(rest * 1e6))
            seconds, rest = divmod(patience_seconds, 1)
            patience = struct.pack("ll", int(seconds), int(rest * 1e6))
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)

    def prepare(self) -> None:
        """Call it when the socket may have been used by others.

        A plain socket blocks, its timeouts being the kernel's: one system call for each read instead
        of two.
        """
        with contextlib.suppress(OSError):
            self._sock.settimeout(WAIT_SECONDS if self._tls else None)

    @property
    def held(self) -> int:
        """Bytes that wait to be consumed."""
        return self.fill - self.pos

    @property
    def room(self) -> int:
        return BUFFER_BYTES - self.fill

    def compact(self) -> None:
        """Make room. No view of the buffer may be in use."""
        rest = self.fill - self.pos
        if rest:
            self._buffer[:rest] = self.view[self.pos : self.fill]
        self.pos, self.fill = 0, rest

    def put_back(self, data: bytes) -> None:
        """Take over what somebody else has read and not used, before anything else is read."""
        self.compact()
        self._buffer[: len(data) + self.fill] = data + bytes(self.view[: self.fill])
        self.fill += len(data)

    def take_all(self) -> bytes:
        """Everything that is held, consumed."""
        rest = bytes(self.view[self.pos : self.fill])
        self.pos = self.fill = 0
        return rest

    def more(self, needed: int) -> bool:
        """Read what is there, at least one byte; False if nothing came within :data:`WAIT_SECONDS`.

        :param needed: bytes that will come whatever the peer means to do; 0 where that is not known.
        :raises ClosedError: the peer closed, or the connection broke.
        """
        view, exact = self.view[self.fill :], 0
        if needed >= _EXACT_FROM:
            if not self._tls:  # which decrypts a record of 16 KiB at a time
                view, exact = view[:needed], socket.MSG_WAITALL
        elif needed:
            # DCMTK sends a PDU in two writes, with Nagle's algorithm on.
            acknowledge_at_once(self._sock)
        try:
            count = self._sock.recv_into(view, 0, exact) if exact else self._sock.recv_into(view)
        except (TimeoutError, BlockingIOError, InterruptedError, ssl.SSLWantReadError):
            return False
        except (OSError, ValueError) as error:
            raise ClosedError(str(error)) from error
        if not count:
            raise ClosedError("the peer closed the connection")
        self.fill += count
        return True

    def require(self, count: int, needed: int, deadline: float) -> None:
        """Read until ``count`` bytes are held.

        :param needed: as for :meth:`more`.
        :raises ClosedError: they do not come before ``deadline``, of :func:`time.monotonic`.
        """
        while self.fill - self.pos < count:
            if time.monotonic() > deadline:
                raise ClosedError("a PDU did not come to its end in time")
            self.more(max(needed - (self.fill - self.pos), 1))

    def send(self, data: bytes) -> None:
        """:raises ClosedError: it cannot be sent."""
        try:
            if self._tls:
                self._sock.settimeout(self._patience)
            self._sock.sendall(data)
            if self._tls:
                self._sock.settimeout(WAIT_SECONDS)
        except OSError as error:
            raise ClosedError(str(error)) from error
