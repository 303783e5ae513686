"""A connection to a syslog server: TLS (RFC 5425), plain TCP (RFC 6587 section 3.4.1) or UDP (RFC 5426).

Nothing in it waits without a limit. Syslog has no acknowledgement: that the other side's kernel has every
byte is asked of ours (``SIOCOUTQ``), and a connection that has ended is looked for before more is sent.
"""

from __future__ import annotations

import contextlib
import fcntl
import select
import socket
import ssl
import struct
import termios
import time
from collections.abc import Callable, Sequence

from hsm.errors import HsmError
from hsm.trail.sink import NotTaken
from hsm.trail.syslog import framed

_LOOK_SECONDS = 0.01
_ENDS_MAX = 64


class Line:
    """One connection. One thread uses it; :meth:`abort` may come from another."""

    def __init__(
        self,
        host: str,
        port: int,
        seconds_max: float,
        context: Callable[[], ssl.SSLContext] | None,
        *,
        udp: bool,
    ) -> None:
        """
        :param context: makes the context of each connection, so that exchanged certificates count; None: no
        TLS.
        """
        self._where = (host, port)
        self._limit = seconds_max
        self._context = context
        self._udp = udp
        self._socket: socket.socket | None = None

    @property
    def open(self) -> bool:
        return self._socket is not None

    def connect(self) -> None:
        """:raises NotTaken: nobody answers, or is not who he should be."""
        self.close()
        host, port = self._where
        try:
            if self._udp:
                family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
                plain = socket.socket(family, kind, number)
                plain.connect(address)
            else:
                plain = socket.create_connection(self._where, timeout=self._limit)
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except OSError as error:
            raise NotTaken(f"cannot connect: {error.strerror or error}") from error
        plain.settimeout(self._limit)
        self._socket = plain
        if self._context is not None:
            try:
                self._socket = self._context().wrap_socket(plain, server_hostname=host)
            except ssl.SSLCertVerificationError as error:
                self.close()
                raise NotTaken(f"its certificate is not good: {error.verify_message}") from error
            except OSError as error:
                self.close()
                raise NotTaken(f"no TLS with it: {_words(error)}") from error
            except (HsmError, ValueError) as error:  # a file of ours among them
                self.close()
                raise NotTaken(str(error)) from error

    def send(self, messages: Sequence[bytes]) -> None:
        """Returns when the other side's kernel has them (UDP: when they are on their way).

        :raises NotTaken: they may be lost.
        """
        sock = self._require()
        try:
            if self._udp:
                for each in messages:
                    sock.send(each)
                return
            for each in messages:
                sock.sendall(framed(each))
        except OSError as error:
            self.close()
            raise NotTaken(f"it takes nothing: {_words(error)}") from error
        self._drain(sock)

    def look(self) -> None:
        """:raises NotTaken: the other side has ended the connection, or refuses us."""
        if self._socket is None or self._udp:
            return
        sock = self._socket
        for _ in range(_ENDS_MAX):
            pending = isinstance(sock, ssl.SSLSocket) and sock.pending()
            if not pending and not _readable(sock):
                return
            sock.settimeout(_LOOK_SECONDS)
            try:
                if not sock.recv(4096):
                    self.close()
                    raise NotTaken("it has ended the connection")
            except (TimeoutError, ssl.SSLWantReadError):
                return
            except OSError as error:
                self.close()
                raise NotTaken(f"it has ended the connection: {_words(error)}") from error
            finally:
                if self._socket is not None:
                    sock.settimeout(self._limit)

    def abort(self) -> None:
        """Whoever waits on it does not wait any more."""
        sock = self._socket
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        sock, self._socket = self._socket, None
        if sock is not None:
            if isinstance(sock, ssl.SSLSocket):
                sock.settimeout(_LOOK_SECONDS)
                with contextlib.suppress(OSError, ValueError):
                    sock.unwrap()
            with contextlib.suppress(OSError):
                sock.close()

    def _require(self) -> socket.socket:
        if self._socket is None:
            raise NotTaken("it is not connected")
        return self._socket

    def _drain(self, sock: socket.socket) -> None:
        until = time.monotonic() + self._limit
        while _unacknowledged(sock):
            if time.monotonic() >= until:
                self.close()
                raise NotTaken(f"it has taken nothing for {self._limit:g} s")
            time.sleep(_LOOK_SECONDS)


def _readable(sock: socket.socket) -> bool:
    poll = select.poll()  # select(2) knows no descriptor beyond 1023
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _unacknowledged(sock: socket.socket) -> int:
    """Bytes that the other side's kernel has not acknowledged (tcp(7), SIOCOUTQ)."""
    packed = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, struct.pack("i", 0))
    return int(struct.unpack("i", packed)[0])


def _words(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    return error.strerror or str(error)
